"""The study file: what may stand in it, what it means, and what is said when something else stands in it.

A *study* says what is asked (languages, merges, measurements), a *scale* how large (corpus, base model, training). Both
are YAML files of the same form; the scale is the default under the study. ``load`` merges the two and checks them.
"""

from langmerge.config.base import Section
from langmerge.config.corpus import EmbeddedCorpus, FilesCorpus, Filters, HubDataset, Source
from langmerge.config.distance import Distance
from langmerge.config.growth import Growth
from langmerge.config.growth_recipe import Growing, GrowSpec
from langmerge.config.kinds import KINDS
from langmerge.config.language_study import LanguageStudy, Origin
from langmerge.config.loading import load, load_workflow, merge_defaults, read_yaml
from langmerge.config.maintenance import Maintenance
from langmerge.config.merging import Calibration, Grid, candidates
from langmerge.config.messages import sections
from langmerge.config.pretraining import Pretraining
from langmerge.config.recipes import ExtraModel, Import, Initialisation, MergeSpec, Training
from langmerge.config.study import Study, Workflow
from langmerge.config.tasks import EmbeddedTasks, FileTasks

__all__ = [
    "KINDS",
    "Calibration",
    "Distance",
    "EmbeddedCorpus",
    "EmbeddedTasks",
    "ExtraModel",
    "FileTasks",
    "FilesCorpus",
    "Filters",
    "Grid",
    "GrowSpec",
    "Growing",
    "Growth",
    "HubDataset",
    "Import",
    "Initialisation",
    "LanguageStudy",
    "Maintenance",
    "MergeSpec",
    "Origin",
    "Pretraining",
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
