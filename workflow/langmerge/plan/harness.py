"""Jobs that score models on the tasks of lm-evaluation-harness."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langmerge.config import LanguageStudy
from langmerge.config.evaluation import Scoring
from langmerge.plan.graph import Graph, Job
from langmerge.provenance import InputError

KINDS = ("import", "train", "grow", "merge")  # what is scored: random weights are not
ROLES = ("merge", "branch_merge")  # of merges that are scored: those of all languages


def to_be_scored(study: LanguageStudy, entry: Mapping[str, Any]) -> bool:
    """Whether a merge of a sweep has to be written, for the harness to read: one of all languages, if tasks are named.

    Merges of pairs, of clusters, of some languages, of those before one was added and tuned once more are too many to
    be worth their disk space and time.
    """
    details, languages = entry["details"], len(study.languages)
    whole = details.get("size", languages) == languages and details.get("scenario") not in ("before", "retuned")
    return bool(study.evaluation.harness) and entry["role"] in ROLES and whole


def add_harness(draft: Graph, scoring: Scoring) -> dict[str, str]:
    """One job for each model of the graph; what the report reads them as, by name. Nothing if no task is named.

    Raises :class:`InputError` if the folder of the user's own tasks has none.
    """
    found: dict[str, str] = {}
    files = _own_files(scoring.harness_include) if scoring.harness else ()
    for model in draft.models.values() if scoring.harness else ():
        if model.kind not in KINDS:
            continue
        folder = f"{draft.root}/harness/seed{model.seed}/{model.name}"
        spec = {
            "tasks": list(scoring.harness),
            "limit": scoring.harness_limit,
            "include_path": scoring.harness_include,
        }
        modules = ("langmerge.evaluation.harness",)
        job = Job("run_harness", folder, spec, {"model": model.folder}, files=files, modules=modules, gpus=1)
        draft.add_job(job)
        found[f"harness/seed{model.seed}/{model.name}"] = folder
    return found


def _own_files(include: str | None) -> tuple[str, ...]:
    """Every file of the user's folder: which of them a task reads, only the harness knows."""
    if include is None:
        return ()
    files = tuple(sorted(str(path) for path in Path(include).rglob("*") if path.is_file()))
    if not any(path.endswith(".yaml") for path in files):
        raise InputError(
            f"evaluation.harness_include: {include} is no folder with task files (.yaml); leave the key out, or name "
            "the folder that has them"
        )
    return files
