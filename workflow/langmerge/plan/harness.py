"""Jobs that score models on the tasks of lm-evaluation-harness."""

from __future__ import annotations

from collections.abc import Sequence

from langmerge.plan.graph import Graph, Job

KINDS = ("import", "train", "grow", "merge")  # what is scored: random weights are not


def add_harness(draft: Graph, tasks: Sequence[str], limit: int | None) -> dict[str, str]:
    """One job for each model of the graph; what the report reads them as, by name. Nothing if no task is named."""
    found: dict[str, str] = {}
    for model in draft.models.values() if tasks else ():
        if model.kind not in KINDS:
            continue
        folder = f"{draft.root}/harness/seed{model.seed}/{model.name}"
        spec = {"tasks": list(tasks), "limit": limit}
        modules = ("langmerge.evaluation.harness",)
        draft.add_job(Job("run_harness", folder, spec, {"model": model.folder}, modules=modules, gpus=1))
        found[f"harness/seed{model.seed}/{model.name}"] = folder
    return found
