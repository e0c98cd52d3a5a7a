"""Jobs that put layer sets of specialists back into tuned merges."""

from __future__ import annotations

from collections.abc import Sequence

from langmerge.plan.graph import Draft, Job, direction, directions_of, group_name
from langmerge.plan.scores import scoring


def add_patches(draft: Draft, seed: int, group: str, specialists: Sequence[str]) -> None:
    """One job for a direction group and seed, after its sweep over merges; none without `merging.layer_patch.sets`.

    The layer sets are found by the job: the plan need not know how many layers a model of the Hub has.
    """
    patch = draft.study.merging.layer_patch
    if patch is None or not patch.sets:
        return
    title, study = group_name(draft.study, group), draft.study
    members = [
        {"model": name, "language": code, "direction": direction(pair)}
        for name, code, pair in zip(specialists, study.languages, directions_of(study, group), strict=True)
        if code in (patch.languages or study.languages)
    ]
    spec = {
        **scoring(draft),
        **patch.model_dump(mode="json", exclude={"languages", "sentences"}),
        "metrics": ["bleu", "chrf"],
        "members": members,
        "split": study.evaluation.splits[0],
        "sentences": patch.sentences or study.evaluation.test,
        "samples": study.evaluation.bootstrap_samples,
        "bootstrap_seed": study.evaluation.seed,
    }
    del spec["splits"]
    names = {method: f"{method}-{title}" for method in patch.onto} | {str(m["model"]): str(m["model"]) for m in members}
    inputs = {
        f"models/{label}": draft.folder_of(seed, name, "merging.layer_patch.onto") for label, name in names.items()
    }
    draft.add_job(
        Job(
            "sweep_patches",
            f"{draft.root}/patches/seed{seed}/{title}",
            spec,
            inputs | draft.pairs(study.languages),
            modules=("langmerge.sweeping.patches",),
            gpus=1,
        )
    )
