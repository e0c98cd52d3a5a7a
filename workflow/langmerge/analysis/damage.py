"""``python -m langmerge.analysis.damage``: which measures of two languages foretell what merging their models costs?

Every measure of a pair (:mod:`langmerge.analysis.predictors`) against the measured damage of the pair's merge, by rank
correlation (:mod:`langmerge.analysis.association`): no regression, since there are more measures than pairs. With few
languages even perfect agreement proves little: ``least_p`` is the smallest p-value that a row could have.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from langmerge import provenance
from langmerge.analysis import association, predictors
from langmerge.command import parse
from langmerge.provenance import InputError

OUTCOMES = ("retention", "worst_retention", "ratio", "loss")
MISSING = float("nan")
ALL = "all"


# ---- damage --------------------------------------------------------------------------------------------------------


def retention(merged: float, expert: float, base: float, error: float) -> float:
    """(m - b) / (e - b), NaN where the expert's gain is below two of its standard errors (``error``) or nothing."""
    gain = expert - base
    return (merged - base) / gain if gain and abs(gain) >= 2 * error else MISSING


def outcomes(
    merged: Sequence[float], experts: Sequence[float], bases: Sequence[float], errors: Sequence[float]
) -> dict[str, float]:
    """What is left of two specialists in their merge, each in its own direction (:data:`OUTCOMES`).

    ``retention`` is the mean of both, ``worst_retention`` the smaller one (NaN if one is not defined), ``ratio`` the
    mean of m / e, ``loss`` the mean of e - m in points of the score. All but ``loss`` are higher for less damage.
    """
    kept = [retention(*values) for values in zip(merged, experts, bases, errors, strict=True)]
    return {
        "retention": float(np.mean(kept)),
        "worst_retention": float(np.min(kept)),
        "ratio": float(np.mean([m / e if e else MISSING for m, e in zip(merged, experts, strict=True)])),
        "loss": float(np.mean([e - m for m, e in zip(merged, experts, strict=True)])),
    }


class Scores:
    """Scores of systems on one split in one metric, and the standard errors of the specialists' gains."""

    def __init__(self, spec: Mapping[str, Any], systems: Mapping[str, Path], comparisons: Path) -> None:
        self.spec, self.systems = spec, systems
        path = comparisons / "comparisons.csv"
        if not path.is_file():
            raise InputError(f"{path}: file not found; expected the comparisons of specialists with the base")
        table = pd.read_csv(path)
        table = table[table.metric == spec["metric"]]
        self._errors = table.set_index(["system", "baseline", "direction"]).standard_error.to_dict()
        self._tables: dict[str, Any] = {}

    def of(self, key: str, direction: str) -> float:
        """A system's score in one direction; :class:`InputError` if it was not scored there."""
        if key not in self.systems:
            raise InputError(f"--inputs: no systems/{key}; expected the scores of every system that the spec names")
        path = self.systems[key] / "scores.json"
        table = self._tables.setdefault(key, provenance.read_json(path))
        try:
            return float(table[self.spec["split"]][direction]["metrics"][self.spec["metric"]]["score"])
        except KeyError as error:
            raise InputError(
                f"{path}: no {error} (split {self.spec['split']}, direction {direction}, metric {self.spec['metric']})"
            ) from None

    def error(self, specialist: str, base: str, direction: str) -> float:
        """Standard error of a specialist's gain over the base."""
        found = self._errors.get((specialist, base, direction))
        if found is None:
            raise InputError(f"comparisons.csv: no row of {specialist} against {base} in {direction}")
        return float(found)


@dataclass(frozen=True)
class Stratum:
    """One seed and direction group of the spec: ``directions``, ``specialists`` and their ``labels`` by language."""

    seed: int
    group: str
    base: str
    directions: Mapping[str, str]
    specialists: Mapping[str, str]
    labels: Mapping[str, str]
    pairs: Sequence[Mapping[str, Any]]

    @property
    def name(self) -> str:
        """``seed1/from-en``: the place of its results."""
        return f"seed{self.seed}/{self.group}"

    def damage(self, scores: Scores) -> Iterator[dict[str, Any]]:
        """A row for each merge of two specialists."""
        for pair in self.pairs:
            both = sorted(pair["languages"], key=list(self.directions).index)
            ways = [self.directions[code] for code in both]
            experts = [self.specialists[code] for code in both]
            yield {
                "seed": self.seed,
                "group": self.group,
                "language_a": both[0],
                "language_b": both[1],
                "method": pair["method"],
                **outcomes(
                    [scores.of(pair["key"], way) for way in ways],
                    [scores.of(expert, way) for expert, way in zip(experts, ways, strict=True)],
                    [scores.of(self.base, way) for way in ways],
                    [scores.error(expert, self.base, way) for expert, way in zip(experts, ways, strict=True)],
                ),
            }


# ---- association ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """``permutations`` and bootstrap ``samples`` at most, and their ``seed``."""

    permutations: int = 10000
    samples: int = 1000
    seed: int = 1


def associate(
    languages: Sequence[str],
    measures: Mapping[str, np.ndarray],
    damage: Mapping[str, np.ndarray],
    scopes: Mapping[str, Sequence[int]],
    settings: Settings,
) -> list[dict[str, Any]]:
    """Every measure against the damage of every merge method, in every scope.

    ``measures`` and ``damage`` (by method) are [strata, pairs], pairs in the order of ``itertools.combinations``, NaN
    where unknown; ``scopes`` name sets of strata. The statistic of a scope is the mean of its strata's Spearman
    correlations: languages are permuted, drawn and left out in all strata at once, since these are the same languages.
    ``p_corrected`` is corrected for all rows of its scope.
    """
    k, n = len(languages), len(association.pairs_of(len(languages)))
    orders = association.language_orders(k, settings.permutations, settings.seed)
    pair_orders = association.pair_orders(n, settings.permutations, settings.seed)
    without, drawn = association.left_out(k), association.bootstrap_weights(k, settings.samples, settings.seed)
    rows = []
    for scope, strata in scopes.items():
        found, null = [], []
        for (method, y), (measure, x) in itertools.product(damage.items(), measures.items()):
            each = [(x[s], y[s]) for s in strata if _known(x[s], y[s]).any()]
            by_language = _mean([association.permuted(a, b, orders) for a, b in each], len(orders))
            by_pair = _mean([association.permuted(a, b, pair_orders) for a, b in each], len(pair_orders))
            left = _mean([association.spearman(a, b, without) for a, b in each], k)
            low, high = association.interval(
                _mean([association.spearman(a, b, drawn) for a, b in each], settings.samples)
            )
            null.append(by_language)
            row = {
                "scope": scope,
                "method": method,
                "measure": measure,
                "rho": by_language[0],
                "low": low,
                "high": high,
            }
            row |= {"p_pairs": float(association.p_values(by_pair[:, None])[0])}
            row |= {"pairs": int(sum(_known(a, b).sum() for a, b in each)), "strata": len(each)}
            found.append(row | _left_out(languages, left, by_language[0]) | {"status": _status(each, by_language[0])})
        together = np.array(null).T
        p, corrected = association.p_values(together), association.step_down(together)
        tests = int(np.isfinite(together[0]).sum()) if len(together) else 0
        least = 1 / len(orders)
        for i, row in enumerate(found):
            rows.append({**row, "p": p[i], "p_corrected": corrected[i], "tests": tests, "least_p": least})
    return rows


def _known(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.isfinite(x) & np.isfinite(y)


def _mean(statistics: Sequence[np.ndarray], size: int) -> np.ndarray:
    """The mean over strata [size] where it is defined; NaN where it is defined in none."""
    if not statistics:
        return np.full(size, np.nan)
    table = np.array(statistics)
    known = np.isfinite(table)
    count = known.sum(0)
    return np.divide(np.where(known, table, 0).sum(0), count, out=np.full(size, np.nan), where=count > 0)


def _left_out(languages: Sequence[str], left: np.ndarray, rho: float) -> dict[str, Any]:
    """Range of the correlations without one language, and without which it changes most."""
    if not np.isfinite(left).any() or not math.isfinite(rho):
        return {"left_out_low": MISSING, "left_out_high": MISSING, "left_out": ""}
    most = int(np.nanargmax(np.abs(left - rho)))
    return {
        "left_out_low": float(np.nanmin(left)),
        "left_out_high": float(np.nanmax(left)),
        "left_out": languages[most],
    }


def _status(each: Sequence[tuple[np.ndarray, np.ndarray]], rho: float) -> str:
    """Why a correlation is not defined; empty where it is."""
    if math.isfinite(rho):
        return ""
    known = [_known(x, y) for x, y in each]
    if not any(k.sum() >= association.LEAST for k in known):
        return f"fewer than {association.LEAST} pairs"
    return "constant"


# ---- the command ---------------------------------------------------------------------------------------------------

ORDER = [
    *("scope", "method", "outcome", "measure", "rho", "low", "high", "p", "p_corrected", "tests", "least_p", "p_pairs"),
    *("pairs", "strata", "left_out_low", "left_out_high", "left_out", "status"),
]


def scopes_of(strata: Sequence[Stratum]) -> dict[str, list[int]]:
    """All strata together, each direction group (over seeds), and each stratum where there are several seeds."""
    groups = dict.fromkeys(s.group for s in strata)
    scopes = {ALL: list(range(len(strata)))} if len(groups) > 1 else {}
    scopes |= {group: [i for i, s in enumerate(strata) if s.group == group] for group in groups}
    if len({s.seed for s in strata}) > 1:
        scopes |= {s.name: [i] for i, s in enumerate(strata)}
    return scopes


def _by_pair(
    frame: pd.DataFrame, key: str, value: str, strata: Sequence[Stratum], languages: Sequence[str]
) -> dict[str, np.ndarray]:
    """The values of each ``key``, [strata, pairs]; NaN where there is none."""
    places = {(s.seed, s.group): i for i, s in enumerate(strata)}
    # A pair is the same in either order: specifications sort names, studies do not.
    pairs = {frozenset(pair): p for p, pair in enumerate(itertools.combinations(languages, 2))}
    found: dict[str, np.ndarray] = {}
    for name, seed, group, a, b, number in zip(
        *(frame[column] for column in (key, "seed", "group", "language_a", "language_b", value)), strict=True
    ):
        table = found.setdefault(name, np.full((len(strata), len(pairs)), np.nan))
        table[places[seed, group], pairs[frozenset((a, b))]] = number
    return found


def main(arguments: list[str] | None = None) -> None:
    """Write ``damage.csv`` (pair merges with every measure), ``predictors.csv`` (the tests) and ``summary.json``.

    The spec has ``languages``, ``strata`` (fields of :class:`Stratum`), ``outcome`` (:data:`OUTCOMES`), ``metric``,
    ``split``, ``permutations``, ``samples`` and ``seed``; the inputs are ``comparisons``, ``systems/<key>``, and where
    there are any ``weighing/<stratum>``, ``measurements/<stratum>`` and ``landscape/<stratum>``.
    """
    command = parse("langmerge.analysis.damage", __doc__, arguments)
    spec = command.spec
    if spec["outcome"] not in OUTCOMES:
        raise InputError(f"outcome: expected one of {', '.join(OUTCOMES)}, found {spec['outcome']!r}")
    strata, languages = [Stratum(**value) for value in spec["strata"]], list(spec["languages"])
    with provenance.result(command.out, spec, command.code, command.environment) as job:
        folders = {name: job.read(name, folder) for name, folder in command.inputs.items()}
        systems = {n.removeprefix("systems/"): f for n, f in folders.items() if n.startswith("systems/")}
        scores = Scores(spec, systems, command.input("comparisons"))
        damage = pd.DataFrame([row for stratum in strata for row in stratum.damage(scores)])
        if damage.empty:
            raise InputError("--spec: no pairs in any of `strata`; expected merges of two specialists")
        frames, absent = [], {}
        for stratum in strata:
            places = {place.place for place in predictors.TABLES}
            here = {
                place: folders[f"{place}/{stratum.name}"] for place in places if f"{place}/{stratum.name}" in folders
            }
            frame, missing = predictors.read(here, stratum.labels, stratum.directions)
            frames.append(frame.assign(seed=stratum.seed, group=stratum.group))
            absent[stratum.name] = missing
        measures = pd.concat(frames, ignore_index=True)
        settings = Settings(spec["permutations"], spec["samples"], spec["seed"])
        x = _by_pair(measures, "measure", "value", strata, languages)
        y = _by_pair(damage, "method", spec["outcome"], strata, languages)
        rows = associate(languages, x, y, scopes_of(strata), settings) if x else []
        gone = {title: reason for missing in absent.values() for title, reason in missing.items()}
        everywhere = {title: gone[title] for title in gone if all(title in missing for missing in absent.values())}
        rows += [{"measure": title, "status": f"absent: {reason}"} for title, reason in everywhere.items()]
        tests = pd.DataFrame(rows).assign(outcome=spec["outcome"]).reindex(columns=ORDER)
        keys = ["seed", "group", "language_a", "language_b"]
        joined = damage.merge(measures, on=keys, how="left")
        for name, table in (("damage", joined), ("predictors", tests)):
            table.to_csv(job.folder / f"{name}.csv", index=False, float_format="%.9g", lineterminator="\n")
        exact = association.is_exact(len(languages), settings.permutations)
        provenance.write_json(
            job.folder / "summary.json",
            {
                "languages": languages,
                "outcome": spec["outcome"],
                "metric": spec["metric"],
                "measures": sorted(x),
                "absent": absent,
                "p": f"languages permuted, {'all' if exact else 'random'} permutations, two-sided",
                "p_corrected": "step-down maximum statistic over all tests of a scope",
                "p_pairs": "pairs permuted as if they did not share languages: too small, for comparison only",
                "interval": "95 % percentiles over languages drawn with replacement",
            },
        )


if __name__ == "__main__":
    provenance.run(main)
