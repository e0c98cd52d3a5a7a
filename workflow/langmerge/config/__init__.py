"""The study file: what may stand in it, what it means, and what is said when something else stands in it.

A *study* says what is asked (languages, merges, measurements), a *scale* how large (corpus, base model, training). Both
are YAML files of the same form; the scale is the default under the study. ``load`` merges the two and checks them.
"""

from langmerge.config.base import Section
from langmerge.config.corpus import EmbeddedCorpus, FilesCorpus, Filters, HubDataset, Source
from langmerge.config.loading import load, load_workflow, merge_defaults, read_yaml
from langmerge.config.merging import Grid, candidates
from langmerge.config.messages import sections
from langmerge.config.recipes import ExtraModel, Import, MergeSpec, Training
from langmerge.config.study import Study, Workflow

__all__ = [
    "EmbeddedCorpus",
    "ExtraModel",
    "FilesCorpus",
    "Filters",
    "Grid",
    "HubDataset",
    "Import",
    "MergeSpec",
    "Section",
    "Source",
    "Study",
    "Training",
    "Workflow",
    "candidates",
    "load",
    "load_workflow",
    "merge_defaults",
    "read_yaml",
    "sections",
]
