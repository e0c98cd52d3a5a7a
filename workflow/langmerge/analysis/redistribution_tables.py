"""The tables ``redistribution.csv`` and ``verdicts.csv``: what fine-tuning does to the baseline's language units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from langmerge import jackknife
from langmerge.analysis import families, neurons, redistribution
from langmerge.analysis.observations import Summary, read_counts
from langmerge.analysis.redistribution import Baseline, Changes, Estimate, Firing
from langmerge.csv_files import Row, write_csv
from langmerge.spans import SPANS

SITE = "mlp_gate"
DEFAULT = "mutual_information"
PRECISION = "average_precision"  # not kept by block, so it has no halves

HEAD = ("model", "span", "site", "ranking")
COLUMNS = (
    *(*HEAD, "set", "role", "language", "measure"),
    *("value", "low", "high", "n", "null", "null_low", "null_high"),
)
CHANGES = ("supervised", "elsewhere", "information", "matched")
VERDICTS = (
    *(*HEAD, "language", "units"),
    *(f"{name}_{part}" for name in CHANGES for part in ("change", "low", "high")),
    *("verdict", "reason"),
)


def supervised_languages(label: str, summary: Summary) -> set[str]:
    """Languages that a model was trained on: a specialist has its direction's name, all others know all languages."""
    own = {
        language
        for language, direction in zip(summary.languages, summary.directions, strict=True)
        if str(direction) == label
    }
    return own or set(summary.languages)


def _cells(found: Estimate, n: int) -> Row:
    null = {"null": 0.0, "null_low": -found.band, "null_high": found.band}
    return {"value": found.value, "low": found.low, "high": found.high, "n": n, **null}


def share_rows(
    head: Row, languages: Sequence[str], roles: Sequence[str], base: Baseline, found: Changes
) -> Iterator[Row]:
    """dE of each language, then each role's mean over languages where there are several; and the change of MI.

    Sets: ``supervised`` (units of the one language that a specialist was trained on), ``own`` (of each row's own
    language), ``union``, ``refit``. Measures end in ``change``, ``matched`` (if units changed as their matches did) and
    ``excess`` (the difference); sets that are refitted have only a change. ``n`` is the number of units. There is no
    role row where all languages have one role: over all languages, dE of the union is 0.
    """
    named = [(role, language, [k]) for k, (role, language) in enumerate(zip(roles, languages, strict=True))]
    for role in dict.fromkeys(roles) if len(set(roles)) > 1 else []:
        named.append((role, "", [k for k, other in enumerate(roles) if other == role]))
    own = [k for k, role in enumerate(roles) if role == families.SUPERVISED]
    single = {"supervised": own[0]} if len(own) == 1 else {}
    everything = round(float(found.units.sum()))
    for kind in redistribution.KINDS:
        for name, chosen in {**single, "union": redistribution.UNION}.items():
            n = everything if name == "union" else round(float(found.units[chosen]))
            for role, language, columns in named:
                where = {**head, "set": name, "role": role, "language": language, "measure": f"share_{kind}"}
                yield {**where, **_cells(redistribution.over(base, found, kind, chosen, columns), n)}
            where = {**head, "set": name, "role": "", "language": "", "measure": f"information_{kind}"}
            information = redistribution.over(base, found, kind, chosen, [redistribution.INFORMATION])
            yield {**where, **_cells(information, n)}
        for k, (role, language) in enumerate(zip(roles, languages, strict=True)):
            where = {**head, "set": "own", "role": role, "language": language}
            for measure, column in (("share", k), ("information", redistribution.INFORMATION)):
                cells = _cells(redistribution.over(base, found, kind, k, [column]), round(float(found.units[k])))
                yield {**where, "measure": f"{measure}_{kind}", **cells}
    for role, language, columns in named:
        refit = redistribution.of(base, found, partial(_refit, columns=columns))
        where = {**head, "set": "refit", "role": role, "language": language, "measure": "share_change"}
        yield {**where, **_cells(refit, everything)}


def _refit(found: Changes, columns: Sequence[int]) -> np.ndarray:
    return found.refit[:, list(columns)].mean(1)


def mass_rows(head: Row, base: Baseline, firing: Firing, found: Changes | None) -> Iterator[Row]:
    """MI mass in bits of all units, its null that of permuted languages; and its relative change (not of the baseline).

    ``n`` is the number of units.
    """
    where = {**head, "set": "all", "role": "", "language": ""}
    values = firing.masses
    low, high = jackknife.interval(values[0], values[1:])
    units = firing.counts.shape[2]
    yield {
        **where, "measure": "mass", "value": float(values[0]), "low": float(low), "high": float(high),
        "n": units, "null": base.floor, "null_low": np.nan, "null_high": np.nan,
    }  # fmt: skip
    if found is not None:
        change = redistribution.of(base, found, lambda changes: changes.mass)
        yield {**where, "measure": "mass_change", **_cells(change, units)}


def verdict_row(head: Row, languages: Sequence[str], roles: Sequence[str], base: Baseline, found: Changes) -> Row:
    """The verdict on a specialist of one language, with the changes in that language's units that it rests on.

    ``supervised``, ``elsewhere`` and ``information`` are the excesses over matched units, ``matched`` is what the
    matches say of the supervised language's share: dE without the excess.
    """
    own = next(k for k, role in enumerate(roles) if role == families.SUPERVISED)
    unrelated = [k for k, role in enumerate(roles) if role == families.UNRELATED]
    elsewhere = unrelated or [k for k, role in enumerate(roles) if role != families.SUPERVISED]
    asked: tuple[tuple[str, list[int]], ...] = (
        (redistribution.EXCESS, [own]),
        (redistribution.EXCESS, elsewhere),
        (redistribution.EXCESS, [redistribution.INFORMATION]),
        (redistribution.MATCHED, [own]),
    )
    estimates = [redistribution.over(base, found, kind, own, columns) for kind, columns in asked]
    verdict, reason = redistribution.verdict(*estimates)
    row = {**head, "language": languages[own], "units": round(float(found.units[own]))}
    for name, estimate in zip(CHANGES, estimates, strict=True):
        row |= {f"{name}_change": estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return {**row, "verdict": verdict, "reason": reason}


def write_redistribution(spec: Mapping[str, Any], summary: Summary, folders: Mapping[str, Path], out: Path) -> None:
    """Write ``redistribution.csv`` and ``verdicts.csv`` from the observations in ``folders`` (by label).

    Of ``spec``: ``models``, ``baseline``, ``neurons`` (the ranking; mutual information instead of average precision),
    ``top`` and ``seed``. Verdicts are of the models that carry a direction's name. No rows for one language, or where a
    half of the blocks has no tokens of a language.
    """
    ranking = neurons.ranking_of(DEFAULT if spec["neurons"] == PRECISION else spec["neurons"], spec["top"])
    baseline, languages = spec["baseline"], list(summary.languages)
    rows: list[Row] = []
    verdicts: list[Row] = []
    for s, span in enumerate(SPANS):
        firing = read_firing(folders[baseline], s)
        if len(languages) < 2 or not firing.enough:
            continue
        base = Baseline(firing, ranking, neurons.fit_thresholds(*next(firing.whole()), ranking), spec["seed"])
        for label in spec["models"]:
            head: Row = {"model": label, "span": span, "site": SITE, "ranking": ranking.name}
            if label == baseline:
                rows += mass_rows(head, base, firing, None)
                continue
            other = read_firing(folders[label], s)
            found = redistribution.changes(base, other)
            supervised = supervised_languages(label, summary)
            roles = families.roles(languages, supervised)
            rows += share_rows(head, languages, roles, base, found)
            rows += mass_rows(head, base, other, found)
            if len(supervised) == 1:
                verdicts.append(verdict_row(head, languages, roles, base, found))
    write_csv(out / "redistribution.csv", rows, COLUMNS)
    write_csv(out / "verdicts.csv", verdicts, VERDICTS)


def read_firing(folder: Path, span: int) -> Firing:
    """The gate events of an observation in one span, layers and units as one axis."""
    counts = read_counts(folder, SITE)
    events = counts.events[:, span]
    return Firing(events.reshape(*events.shape[:2], -1), counts.tokens[:, span], layers=events.shape[2])
