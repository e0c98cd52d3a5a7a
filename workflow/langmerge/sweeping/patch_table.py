"""How much of what merging cost a patch restores: (patched - merge) / (specialist - merge), with intervals.

Sentences are resampled with replacement, the same draws for all systems of a direction (paired) and for directions with
the same sentence ids; languages and layer sets are fixed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from langmerge.csv_files import Row
from langmerge.evaluation import aggregates
from langmerge.evaluation.metrics import score
from langmerge.sweeping.layer_sets import LayerSet

LEVEL = (0.025, 0.975)  # of the 95 % interval
MEAN = "mean"  # in the place of a language: all of them together
CONTROL = {"last": "below"}  # kinds whose control is not `random`


@dataclass(frozen=True)
class Score:
    """A score and what it is in each bootstrap draw, (1 + samples,): the observed one first."""

    values: np.ndarray

    @classmethod
    def mean(cls, scores: Sequence[Score]) -> Score:
        """The mean of scores, draw by draw; not defined of none."""
        return cls(np.mean([s.values for s in scores], axis=0) if scores else np.full(1, np.nan))


def draw_counts(ids: Sequence[str], samples: int, seed: int) -> np.ndarray:
    """How often each of n sentences counts, (1 + samples, n): once, then as drawn; equal ids see equal draws."""
    rng = np.random.default_rng([seed, zlib.crc32("\n".join(ids).encode())])
    n = len(ids)
    return np.concatenate([np.ones((1, n)), rng.multinomial(n, np.full(n, 1 / n), size=samples)])


def resampled(metric: str, statistics: np.ndarray, counts: np.ndarray) -> Score:
    """The score of a system's ``statistics`` (n, k), whole and resampled by ``counts`` (1 + samples, n)."""
    return Score(np.asarray(score(metric, counts @ statistics)))


def restored(patched: Score, merge: Score, specialist: Score) -> np.ndarray:
    """The share that a patch restores, (1 + samples,): 0 is the merge, 1 the specialist.

    Not defined (NaN) where the cost of merging is below two standard errors (bootstrap), so where there is nothing to
    restore.
    """
    p, m, e = np.broadcast_arrays(patched.values, merge.values, specialist.values)
    error = float((e - m)[1:].std(ddof=1)) if len(e) > 2 else 0.0
    if np.isnan(aggregates.retention(p[0], e[0], m[0], error)):
        return np.full(p.shape, np.nan)
    return aggregates.retention(p, e, m, 0.0)


def _interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of the draws; NaN if the observed value is not defined."""
    if not np.isfinite(values[0]) or not np.isfinite(values[1:]).any():
        return float("nan"), float("nan")
    low, high = np.nanquantile(values[1:], LEVEL)
    return float(low), float(high)


def rows(
    scores: Mapping[str, Mapping[LayerSet, Score]], parameters: Mapping[LayerSet, float], n: Mapping[str, int]
) -> Iterator[Row]:
    """A row for each language and layer set, and for all languages together (:data:`MEAN`: shares of mean scores).

    ``scores`` maps languages to the scores of the same sets, ``none`` and ``all`` among them; ``parameters`` is the
    share of the model's parameters in each set, ``n`` the sentences of each language. ``null`` is what random sets of
    as many layers restore on average (for ``last``: the ``below`` ones) and ``excess`` what the set restores beyond,
    draw by draw; empty where there are no such sets.
    """
    every = dict(scores)
    if len(scores) > 1:
        every[MEAN] = {s: Score.mean([of[s] for of in scores.values()]) for s in next(iter(scores.values()))}
    counts = {**n, MEAN: sum(n.values())}
    for language, found in every.items():
        merge, specialist = found[LayerSet("none")], found[LayerSet("all")]
        for chosen, value in found.items():
            control = Score.mean([found[other] for other in found if _is_control(other, chosen)])
            share = restored(value, merge, specialist)
            by_chance = restored(control, merge, specialist)
            excess = share - by_chance
            low, high = _interval(share)
            excess_low, excess_high = _interval(excess)
            yield {
                "language": language,
                "kind": chosen.kind,
                "part": chosen.part,
                "layers": " ".join(map(str, chosen.layers)),
                "size": len(chosen.layers),
                "draw": chosen.draw or "",
                "parameters": parameters[chosen],
                "score": float(value.values[0]),
                "score_merge": float(merge.values[0]),
                "score_specialist": float(specialist.values[0]),
                "value": float(share[0]),
                "low": low,
                "high": high,
                "n": counts[language],
                "null": float(by_chance[0]),
                "excess": float(excess[0]),
                "excess_low": excess_low,
                "excess_high": excess_high,
            }


def _is_control(other: LayerSet, chosen: LayerSet) -> bool:
    """Whether ``other`` is a random set that ``chosen`` is compared with."""
    if chosen.is_drawn or not chosen.layers:
        return False
    alike = other.part == chosen.part and len(other.layers) == len(chosen.layers)
    return alike and other.kind == CONTROL.get(chosen.kind, "random")
