"""Jobs that weigh task vectors, on weights alone."""

from __future__ import annotations

from collections.abc import Sequence

from langmerge.plan.graph import Draft, Job, group_name


def add_weighing(draft: Draft, seed: int, group: str, specialists: Sequence[str]) -> None:
    """One job for a direction group and seed: base, specialists and the tuned merges that the study analyses.

    None for a study without `analysis`. It reads no sentences, so no change of what is measured on data concerns it.
    """
    analysis = draft.study.analysis
    if analysis is None:
        return
    title = group_name(draft.study, group)
    names = {name: name for name in ["base", *specialists]}
    names |= {method: f"{method}-{title}" for method in analysis.merges}
    spec = {
        "baseline": "base",
        "specialists": list(specialists),
        "merges": list(analysis.merges),
        "density": 0.2,  # what TIES keeps in its paper
        "svd": "auto",
        "seed": analysis.seed,
    }
    inputs = {f"models/{label}": draft.folder_of(seed, name, "analysis") for label, name in names.items()}
    folder = f"{draft.root}/weighing/seed{seed}/{title}"
    draft.add_job(Job("weigh_models", folder, spec, inputs, modules=("langmerge.weighing",), gpus=1))
