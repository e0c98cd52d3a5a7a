"""From a study to the graph of jobs: pure functions, no Snakemake.

``build(study, name)`` gives a :class:`Plan`: every model with its recipe and parents, and every job with its *spec*
(all that decides its result) and its inputs. Snakemake's rules only look jobs up by their folder. ``python -m
langmerge.plan`` prints the plan with predicted tokens, FLOPs, disk and time before anything runs.
"""

from langmerge.plan.build import build
from langmerge.plan.corpora import check_files
from langmerge.plan.graph import Job, Model, Plan, System, result_folder

__all__ = ["Job", "Model", "Plan", "System", "build", "check_files", "result_folder"]
