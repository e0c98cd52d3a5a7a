"""Jobs that measure something of specialists on data, for merge methods that ask for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langmerge import catalogue
from langmerge.config import Calibration
from langmerge.plan.graph import SNAPSHOT, Draft, Job, direction, directions_of
from langmerge.provenance import InputError

if TYPE_CHECKING:
    from langmerge.plan.language_draft import LanguageDraft, Test

SIMILARITY = "similarity"  # the one kind that is measured of all specialists of a group together


def data_of(method: str, models: Sequence[str], group: str) -> dict[str, str]:
    """For each model the name of what a method needs measured of it; empty for methods that need nothing."""
    kind = catalogue.METHODS[method].data
    if kind is None:
        return {}
    return {model: f"{group if kind == SIMILARITY else model}.{kind}" for model in models}


def add_calibrations(draft: Draft, seed: int, group: str, names: Iterable[str]) -> dict[str, str]:
    """Inputs of a sweep over a direction group: the folders of measured data by name (see :func:`data_of`).

    Adds the jobs that are not there yet. A specialist, or a snapshot of it, is measured on sentence pairs of its own
    direction; never on a test set.
    """
    specialists = {"-".join(pair): pair for pair in directions_of(draft.study, group)}
    inputs = {}
    for name in names:
        model, _, kind = name.rpartition(".")
        stem = model.partition(SNAPSHOT)[0]
        if kind != SIMILARITY and stem not in specialists:
            raise InputError(f"{kind}: only specialists are measured, and {model} is none; use another merge method")
        measured = [*specialists] if kind == SIMILARITY else [model]
        pairs = [*specialists.values()] if kind == SIMILARITY else [specialists[stem]]
        languages = [b if a == draft.study.pivot else a for a, b in pairs]
        folder = f"{draft.root}/calibrations/seed{seed}/{name}"
        inputs[f"data/{name}"] = folder
        if folder in draft.jobs:
            continue
        models = {f"models/{each}": draft.folder_of(seed, each, f"merging ({kind})") for each in measured}
        draft.add_job(
            Job(
                "calibrate_model",
                folder,
                _spec(draft, kind, languages[0], [direction(pair) for pair in pairs]),
                models | draft.pairs(languages),
                modules=("langmerge.calibration",),
                gpus=1,
                disk=4 * _elements(draft, kind),
            )
        )
    return inputs


def _spec(draft: Draft, kind: str, language: str, directions: list[dict[str, str]]) -> dict[str, Any]:
    settings = draft.study.merging.calibration.model_dump(mode="json")
    labels = settings.pop("labels")
    pivot = draft.study.pivot
    if kind == "token_counts":
        return {"kind": kind, "language": language, "pivot": pivot}
    spec = {"kind": kind, "directions": directions, "pivot": pivot, "prompt": draft.prompt(), **settings}
    return spec | ({"labels": labels} if kind == "fisher" else {})


def add_test_calibrations(
    draft: LanguageDraft,
    seed: int,
    title: str,
    models: Mapping[str, Sequence[Test]],
    kinds: Sequence[str],
    settings: Calibration,
    context: int,
    disk: float,
) -> dict[str, str]:
    """One job that measures models on texts or tasks in place of pairs; inputs of a sweep by what merges call the data.

    ``models`` maps each model to what it is measured on, ``context`` is the longest sequence in tokens, ``disk`` the
    bytes that are kept. None, and no job, without ``kinds``.
    """
    if not kinds:
        return {}
    folder = f"{draft.root}/calibrations/seed{seed}/{title}"
    measurements = {
        f"{model}.{kind}": {"kind": kind, "model": model, "tests": list(tests)}
        for model, tests in models.items()
        for kind in kinds
    }
    spec = {"measurements": measurements, "pivot": draft.study.pivot, "context": context}
    inputs = {f"models/{model}": draft.folder_of(seed, model, "merging.all") for model in models}
    inputs |= draft.inputs_of(test for tests in models.values() for test in tests)
    draft.add_job(
        Job(
            "calibrate_models",
            folder,
            spec | settings.model_dump(mode="json"),
            inputs,
            modules=("langmerge.calibration",),
            gpus=1,
            disk=disk,
        )
    )
    return {f"data/{name}": f"{folder}/measured/{name}" for name in measurements}


def _elements(draft: Draft, kind: str) -> float:
    """Numbers that a measurement keeps, for predictions; 0 where the architecture is not known yet."""
    init = draft.study.base.init
    if kind == "fisher":
        return draft.parameters
    if kind != "gram" or init is None:
        return 0.0
    d = init.architecture.get("hidden_size", 0)
    inner = init.architecture.get("intermediate_size", 0)
    # Inputs of q, k, v, gate and up; of o, where heads x head size is d; of down.
    return float(init.architecture.get("num_hidden_layers", 0) * (6 * d**2 + inner**2))
