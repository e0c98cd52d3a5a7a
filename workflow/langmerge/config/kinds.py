"""Kinds of studies: which section a study file of a kind is checked against."""

from langmerge.config.distance import Distance
from langmerge.config.growth import Growth
from langmerge.config.language_study import LanguageStudy
from langmerge.config.maintenance import Maintenance
from langmerge.config.pretraining import Pretraining
from langmerge.config.study import Study

TRANSLATION = "translation"

KINDS: dict[str, type[Study] | type[LanguageStudy]] = {
    TRANSLATION: Study,
    "pretraining": Pretraining,
    "maintenance": Maintenance,
    "distance": Distance,
    "growth": Growth,
}
