"""Reports of the studies of languages: what they share, and one module for each kind."""

from langmerge.reporting.document import Document
from langmerge.reporting.studies import distance, growth, maintenance, pretraining
from langmerge.reporting.studies.results import LanguageResults

KINDS = {
    "distance": distance.compose,
    "growth": growth.compose,
    "maintenance": maintenance.compose,
    "pretraining": pretraining.compose,
}


def compose(results: LanguageResults) -> Document:
    """The report of the study's kind."""
    return KINDS[results.study["kind"]](results)
