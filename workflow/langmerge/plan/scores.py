"""Jobs that score: evaluations of models, sweeps over merges, comparisons between systems."""

from __future__ import annotations

import itertools
from typing import Any

from langmerge import catalogue
from langmerge.config import Grid, candidates
from langmerge.plan.calibration import SIMILARITY, add_calibrations, data_of
from langmerge.plan.graph import (
    SNAPSHOT,
    Draft,
    Job,
    Model,
    Pair,
    System,
    direction,
    direction_name,
    directions_of,
    group_name,
    merge_recipe,
)
from langmerge.provenance import InputError

Entry = dict[str, Any]  # one merge of a sweep: candidates, the directions that tune and report it, what it is


def scoring(draft: Draft) -> dict[str, Any]:
    """What every scoring job needs to know."""
    e = draft.study.evaluation
    return {
        "pivot": draft.study.pivot,
        "prompt": draft.prompt(),
        "decode": {"batch_size": e.batch_size, "max_new_tokens": e.max_new_tokens, "cut": e.cut},
        "metrics": ["bleu", "chrf", "ter"],
        "languages": [draft.study.pivot, *draft.languages()],
        "splits": dict.fromkeys(e.splits, e.test),
    }


def _all_directions(draft: Draft) -> list[Pair]:
    return [pair for group in draft.study.directions for pair in directions_of(draft.study, group)]


def add_evaluation(draft: Draft, seed: int, name: str, role: str, group: str) -> None:
    """One job that scores one model on every direction, so that start-up is paid once."""
    folder = f"{draft.root}/evaluations/seed{seed}/{name}"
    spec = {**scoring(draft), "directions": [direction(pair) for pair in _all_directions(draft)]}
    inputs = {"model": draft.folder_of(seed, name, name), **draft.pairs(draft.study.languages)}
    draft.add_job(Job("evaluate_model", folder, spec, inputs, modules=("langmerge.evaluation",), gpus=1))
    draft.systems.append(System(name, role, group, seed, folder))


def add_sweeps(draft: Draft, seed: int, group: str, specialists: list[str]) -> None:
    """All merges of a direction group: over its specialists (with the layer patch), over pairs, over snapshots."""
    title = group_name(draft.study, group)
    own = directions_of(draft.study, group)
    for name, entries in (
        ("all", [*_merges(draft, specialists, own), *_patches(draft, specialists, own)]),
        ("pairs", _pairs(draft, specialists, own)),
        ("drift", _drift(draft, specialists, own)),
    ):
        if entries:
            recipes = [candidate for entry in entries for candidate in entry["candidates"]]
            for recipe in recipes:
                if data := data_of(recipe["method"], recipe["models"], title):
                    recipe["data"] = data
            measured = dict.fromkeys(data for recipe in recipes for data in recipe.get("data", {}).values())
            _add_sweep(draft, seed, title, name, entries, add_calibrations(draft, seed, group, measured))


def _add_sweep(draft: Draft, seed: int, group: str, name: str, entries: list[Entry], measured: dict[str, str]) -> None:
    """A job that makes merges in memory, tunes each on dev and scores the chosen one on test."""
    study = draft.study
    folder = f"{draft.root}/sweeps/seed{seed}/{group}.{name}"
    recipes = [candidate for entry in entries for candidate in entry["candidates"]]
    named = [source for recipe in recipes for source in [*recipe["models"], recipe["base"]]]
    sources = dict.fromkeys(source for source in named if source and not source.startswith("merge:"))
    spec = {
        **scoring(draft),
        "merges": entries,
        "dev": study.evaluation.dev,
        "select_by": study.merging.select_by,
    }
    inputs = {f"models/{source}": draft.folder_of(seed, source, name) for source in sources}
    kept = sum(entry["keep"] for entry in entries)
    draft.add_job(
        Job(
            "sweep_merges",
            folder,
            spec,
            inputs | measured | draft.pairs(study.languages),
            modules=("langmerge.sweeping",),
            gpus=1,
            disk=4 * draft.parameters * kept,
        )
    )
    for entry in entries:
        system = System(
            entry["name"], entry["role"], group, seed, f"{folder}/systems/{entry['name']}", entry["details"]
        )
        draft.systems.append(system)
        if entry["keep"]:
            parents = tuple(entry["candidates"][0]["models"])
            model = f"{entry['name']}-{group}"
            place = f"{folder}/merged/{entry['name']}"
            draft.add_model(Model(model, "merge", place, parents, seed, merge_recipe(entry)))


def _entry(
    name: str,
    role: str,
    method: str,
    models: list[str],
    grid: dict[str, Any],
    tune: list[Pair],
    report: list[Pair],
    keep: bool = False,
    **details: Any,
) -> Entry:
    """One merge: a candidate for each point of the grid."""
    made = [
        {
            "name": name,
            "method": method,
            "models": models,
            # Methods that need no base name it all the same: task vectors are measured against it.
            "base": None if method == "layer_patch" else "base",
            "parameters": catalogue.check(method, parameters, len(models)),
        }
        for parameters in candidates(method, grid)
    ]
    return {
        "name": name,
        "role": role,
        "candidates": made,
        "tune": [direction(pair) for pair in tune],
        "report": [direction(pair) for pair in report],
        "keep": keep,
        "details": {"method": method, **details},
    }


def _merges(draft: Draft, specialists: list[str], own: list[Pair]) -> list[Entry]:
    everything = _all_directions(draft)
    return [
        _entry(method, "merge", method, specialists, grid, own, everything, keep=True)
        for method, grid in _in_catalogue_order(draft.study.merging.all)
    ]


def _in_catalogue_order(grids: dict[str, Grid]) -> list[tuple[str, Grid]]:
    """Methods with their grids, in one order whatever the study file's: moving its lines reruns nothing."""
    return [(method, grids[method]) for method in catalogue.METHODS if method in grids]


def _patches(draft: Draft, specialists: list[str], own: list[Pair]) -> list[Entry]:
    """For each target language its specialist's last layers in a tuned merge, and as many random lower ones."""
    patch = draft.study.merging.layer_patch
    if patch is None:
        return []
    places: list[tuple[str, dict[str, Any]]] = [("last", {"last": patch.layers})]
    places += [
        (f"random{n + 1}", {"random": patch.layers, "exclude_last": patch.layers, "seed": patch.seed + n})
        for n in range(patch.controls)
    ]
    return [
        _entry(
            f"{onto}.{place}.{language}",
            "patch",
            "layer_patch",
            [f"merge:{onto}", specialist],
            layers,
            [],
            [pair],
            onto=onto,
            place=place,
            language=language,
        )
        for onto in patch.onto
        for specialist, language, pair in zip(specialists, draft.study.languages, own, strict=True)
        for place, layers in places
    ]


def _pairs(draft: Draft, specialists: list[str], own: list[Pair]) -> list[Entry]:
    members = list(zip(specialists, draft.study.languages, own, strict=True))
    return [
        _entry(f"{method}.{a}+{b}", "pair", method, [one, other], grid, [x, y], [x, y], languages=[a, b])
        for (one, a, x), (other, b, y) in itertools.combinations(members, 2)
        for method, grid in _in_catalogue_order(draft.study.merging.pairs)
    ]


def _drift(draft: Draft, specialists: list[str], own: list[Pair]) -> list[Entry]:
    """At each step: the merge of the specialists' snapshots, and each snapshot alone to measure retention against."""
    drift, last = draft.study.merging.drift, draft.study.specialist.steps
    if drift is None:
        return []
    try:
        catalogue.check(drift.method, drift.parameters, len(specialists))
    except ValueError as error:
        raise InputError(f"merging.drift: {error}") from None
    if catalogue.METHODS[drift.method].search or catalogue.METHODS[drift.method].data == SIMILARITY:
        raise InputError(
            f"merging.drift.method: {drift.method} is for the specialists as they ended, not for snapshots; use another"
        )
    entries = []
    for step in sorted(set(drift.steps)):
        at = [name if step == last else f"{name}{SNAPSHOT}{step}" for name in specialists]
        parameters = dict(drift.parameters)
        entries.append(_entry(f"{drift.method}@{step}", "drift", drift.method, at, parameters, [], own, step=step))
        if step < last:
            entries += [
                _entry(name, "snapshot", "linear", [name], {}, [], [pair], step=step)
                for name, pair in zip(at, own, strict=True)
            ]
    return entries


def add_comparisons(draft: Draft) -> str:
    """Merges and joint models against specialist, base and joint; one Holm family per kind of baseline."""
    study = draft.study
    comparisons: list[dict[str, Any]] = []
    retention: list[dict[str, Any]] = []
    for seed, group in itertools.product(study.seeds, study.directions):
        title, pairs = group_name(study, group), directions_of(study, group)
        here = {s.name: s.key for s in draft.systems if s.seed == seed and s.group == title}
        base = next(s.key for s in draft.systems if s.seed == seed and s.role == "base")
        roles = {s.key: s.role for s in draft.systems}
        merges = [key for key in here.values() if roles[key] == "merge"]
        joint = [key for key in here.values() if roles[key] == "joint"]
        specialists = {direction_name(pair): here[direction_name(pair)] for pair in pairs}
        directions = [direction(pair) for pair in pairs]
        against: list[tuple[str, Any, list[str]]] = [
            ("specialist", specialists, [*merges, *joint]),
            ("base", base, [*merges, *joint]),
            *(("joint", one, merges) for one in joint),
        ]
        comparisons += [
            {
                "system": system,
                "baseline": baseline,
                "label": kind,
                "directions": directions,
                "family": f"seed{seed}/{title}/{kind}",
            }
            for kind, baseline, systems in against
            for system in systems
        ]
        for pair in pairs:
            one, specialist = [direction(pair)], specialists[direction_name(pair)]
            family = f"seed{seed}/{title}/specialist over base"
            comparisons.append({"system": specialist, "baseline": base, "directions": one, "family": family})
            retention += [
                {"system": key, "expert": specialist, "base": base, "directions": one} for key in [*merges, *joint]
            ]
    e = study.evaluation
    spec = {
        "comparisons": comparisons,
        "retention": retention,
        "metrics": ["bleu", "chrf"],
        "samples": e.bootstrap_samples,
        "trials": e.randomization_trials,
        "seed": e.seed,
        "split": e.splits[0],
    }
    compared = ("base", "specialist", "joint", "merge")
    inputs = {f"evaluations/{s.key}": s.folder for s in draft.systems if s.role in compared}
    folder = f"{draft.root}/comparisons"
    draft.add_job(Job("compare_systems", folder, spec, inputs, modules=("langmerge.evaluation.comparison",)))
    return folder
