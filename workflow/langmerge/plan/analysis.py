"""Jobs that look inside the models: one observation of each model, one comparison of each direction group."""

from __future__ import annotations

from typing import Any

from langmerge import host_memory
from langmerge.plan.graph import Draft, Job, direction, directions_of, group_name

OBSERVED = {"sentences", "split", "align", "blocks", "sites", "pools"}  # what decides an observation
COMPARED = {"neurons", "rankings", "top", "permutations", "seed"}  # what decides only what is made of it
BASELINE = "base"


def add_measurements(draft: Draft, seed: int, group: str, specialists: list[str]) -> None:
    """Base, specialists, joint model and tuned merges of a direction group, on the same sentences.

    Each model is observed alone, so that a further model leaves the others' observations as they are; only thresholds
    come from the baseline's. The comparison reads no model.
    """
    analysis, study = draft.study.analysis, draft.study
    if analysis is None:
        return
    title = group_name(study, group)
    names = {name: name for name in [BASELINE, *specialists]}
    if study.joint:
        names["joint"] = f"joint-{title}"
    names |= {method: f"{method}-{title}" for method in analysis.merges}
    directions = [direction(pair) for pair in directions_of(study, group)]
    root = f"{draft.root}/observations/seed{seed}/{title}"
    spec = {
        **analysis.model_dump(mode="json", include=OBSERVED),
        "bins": analysis.histograms,
        "pivot": study.pivot,
        "prompt": draft.prompt(),
        "directions": directions,
    }
    memory = _memory(draft.sizes, spec)
    for label, name in names.items():
        inputs = {"model": draft.folder_of(seed, name, "analysis"), **draft.pairs(study.languages)}
        if label != BASELINE:
            inputs["thresholds"] = f"{root}/{BASELINE}"
        draft.add_job(
            Job(
                "observe_model",
                f"{root}/{label}",
                spec,
                inputs,
                modules=("langmerge.observation",),
                gpus=1,
                memory=memory,
            )
        )
    compared = {
        **analysis.model_dump(mode="json", include=COMPARED),
        "models": list(names),
        "baseline": BASELINE,
        "directions": directions,
    }
    observations = {f"observations/{label}": f"{root}/{label}" for label in names}
    folder = f"{draft.root}/measurements/seed{seed}/{title}"
    draft.add_job(Job("measure_models", folder, compared, observations, modules=("langmerge.analysis",), gpus=1))


def _memory(sizes: host_memory.Sizes | None, spec: dict[str, Any]) -> float:
    """Bytes of an observation's arrays, as if every token of the vocabulary occurred; 0 for unknown sizes."""
    if sizes is None:
        return 0.0
    sites, directions = sizes.sites(spec["sites"]), len(spec["directions"])
    return host_memory.observation(sites, directions, spec["blocks"], spec["bins"], sizes.vocabulary)["total"]
