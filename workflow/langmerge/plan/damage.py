"""The job that asks what foretells merge damage."""

from __future__ import annotations

import itertools
from typing import Any

from langmerge.plan.graph import Draft, Job, direction_name, directions_of, group_name

LEAST = 3  # languages: two have one pair
MEASURED = {"weigh_models": "weighing", "measure_models": "measurements", "survey_landscape": "landscape"}


def add_damage(draft: Draft, comparisons: str) -> None:
    """One job for the whole study, of its measures and the scores of its pair merges; it reads no model.

    None without `analysis.damage`, without `merging.pairs`, or for fewer than three languages.
    """
    study = draft.study
    damage = study.analysis.damage if study.analysis else None
    if damage is None or not study.merging.pairs or len(study.languages) < LEAST:
        return
    assert study.analysis is not None
    strata = [_stratum(draft, seed, group) for seed, group in itertools.product(study.seeds, study.directions)]
    spec = {
        **damage.model_dump(mode="json"),
        "languages": study.languages,
        "strata": strata,
        "metric": study.merging.select_by,
        "split": study.evaluation.splits[0],
        "seed": study.analysis.seed,
    }
    inputs = {"comparisons": comparisons}
    roles = ("base", "specialist", "pair")
    inputs |= {f"systems/{system.key}": system.folder for system in draft.systems if system.role in roles}
    for job in draft.jobs.values():
        if place := MEASURED.get(job.rule):
            inputs[f"{place}/{job.folder.partition(f'/{place}/')[2]}"] = job.folder
    folder = f"{draft.root}/damage"
    draft.add_job(Job("predict_damage", folder, spec, inputs, modules=("langmerge.analysis.damage",)))


def _stratum(draft: Draft, seed: int, group: str) -> dict[str, Any]:
    """The systems of one seed and direction group: by language, and the merges of two."""
    title, study = group_name(draft.study, group), draft.study
    names = {
        code: direction_name(pair) for code, pair in zip(study.languages, directions_of(study, group), strict=True)
    }
    here = [s for s in draft.systems if s.seed == seed]
    keys = {s.name: s.key for s in here if s.role == "specialist" and s.group == title}
    return {
        "seed": seed,
        "group": title,
        "base": next(s.key for s in here if s.role == "base"),
        "directions": names,
        "specialists": {code: keys[name] for code, name in names.items()},
        "labels": names,
        "pairs": [
            {"key": s.key, "method": s.details["method"], "languages": s.details["languages"]}
            for s in here
            if s.role == "pair" and s.group == title
        ],
    }
