"""Jobs that survey the loss between and around the models of a direction group."""

from __future__ import annotations

from typing import Any

from langmerge.host_memory import Sizes, landscape
from langmerge.plan.graph import Draft, Job, direction, directions_of, group_name
from langmerge.provenance import InputError


def add_landscape(draft: Draft, seed: int, group: str, specialists: list[str]) -> None:
    """One job per direction group and seed: the base and the group's specialists, in the order of the languages.

    None where `analysis` or `analysis.landscape` is empty. :class:`InputError` if the plane names what is not there.
    """
    analysis = draft.study.analysis
    if analysis is None or analysis.landscape is None:
        return
    labels = {"base": "base"} | dict(zip(draft.study.languages, specialists, strict=True))
    if wrong := [name for name in analysis.landscape.plane if name not in labels]:
        raise InputError(
            f"analysis.landscape.plane: no model {wrong[0]}; expected three of {', '.join(labels)}, or none for the "
            "base and the two most distant specialists"
        )
    spec = {
        **analysis.landscape.model_dump(mode="json"),
        "plane": [labels[name] for name in analysis.landscape.plane],
        "base": "base",
        "specialists": specialists,
        "directions": [direction(pair) for pair in directions_of(draft.study, group)],
        "pivot": draft.study.pivot,
        "prompt": draft.prompt(),
        "split": analysis.split,
        "seed": analysis.seed,
    }
    inputs = {f"models/{name}": draft.folder_of(seed, name, "analysis.landscape") for name in ["base", *specialists]}
    draft.add_job(
        Job(
            "survey_landscape",
            f"{draft.root}/landscape/seed{seed}/{group_name(draft.study, group)}",
            spec,
            inputs | draft.pairs(draft.study.languages),
            modules=("langmerge.landscape",),
            gpus=1,
            memory=_memory(draft.sizes, spec),
        )
    )


def _memory(sizes: Sizes | None, spec: dict[str, Any]) -> float:
    """Bytes that a survey holds on the host beside a GPU; 0 for unknown sizes."""
    if sizes is None:
        return 0.0
    languages = len(spec["directions"])
    return landscape(sizes.parameters, sizes.largest, 1 + languages, languages, spec["blocks"]).host
