"""The job that compares the measurements of several seeds."""

from __future__ import annotations

from langmerge.plan.graph import Draft, Job, group_name


def add_replication(draft: Draft) -> None:
    """One job for the whole study; none without `analysis`, or with one seed."""
    study = draft.study
    if study.analysis is None or len(study.seeds) < 2:
        return
    groups = [group_name(study, group) for group in study.directions]
    inputs = {
        f"{group}/seed{seed}": f"{draft.root}/measurements/seed{seed}/{group}"
        for group in groups
        for seed in study.seeds
    }
    modules = ("langmerge.analysis.replication",)
    draft.add_job(
        Job("replicate_measurements", f"{draft.root}/replication", {"groups": groups}, inputs, modules=modules)
    )
