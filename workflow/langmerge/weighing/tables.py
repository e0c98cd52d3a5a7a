"""Rows of the result's CSV files: every measure for the whole model, each module type, each layer, and both.

All files are in long form, one number a row: ``measure``, ``value``, its spread over tensors ``low`` to ``high``, ``n``
tensors behind it, the value ``null`` that chance would give, of ``null_n`` of them, and its standard deviation
``null_sd``. ``scope`` is ``global``, ``module``, ``layer`` or ``layer_module``; ``layer`` is empty for embedding, last
norm and head.

The spread is the 95 % interval as it would be were the tensors a random sample of such tensors (delete-one jackknife of
sums, Student's t over matrices for subspaces). They are not: layers and modules differ, and a few large tensors can be
most of a sum. The values themselves are exact for these weights, so read it as how much tensors differ, not as error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from langmerge import jackknife
from langmerge.csv_files import Row
from langmerge.weighing import alignment, sums
from langmerge.weighing.alignment import Found
from langmerge.weighing.names import MODULES
from langmerge.weighing.reading import Part
from langmerge.weighing.sums import Measure, Sums
from langmerge.weighing.weigh import Weighed

ALL = "all"  # in the place of a model: all specialists together
LIMITS = {
    "cosine": (-1.0, 1.0),
    "sar_minus_null": (-1.0, 1.0),
    "median_degrees": (0.0, 90.0),
    **dict.fromkeys(
        (
            *("zero_share", "redundant_share", "sign_conflict", "weighted_conflict"),
            *("interference", "elect_loss", "sar", "overlap"),
        ),
        (0.0, 1.0),
    ),
}
"""Where a measure can lie; intervals are cut there. Others lie anywhere from 0."""


def scopes(parts: Sequence[Part]) -> Iterator[tuple[Row, list[int]]]:
    """The columns of each scope and the positions of its parts."""
    everything = list(range(len(parts)))
    yield {"scope": "global", "layer": "", "module": ""}, everything

    def grouped(key: Any) -> Iterator[tuple[Any, list[int]]]:
        for value, members in groupby(sorted(everything, key=lambda p: (key(parts[p]), p)), lambda p: key(parts[p])):
            yield value, list(members)

    for module, members in grouped(lambda part: MODULES.index(part.module)):
        yield {"scope": "module", "layer": "", "module": MODULES[module]}, members
    for layer, members in grouped(lambda part: -1 if part.layer is None else part.layer):
        if layer >= 0:
            yield {"scope": "layer", "layer": layer, "module": ""}, members
    for (layer, module), members in grouped(
        lambda part: (-1 if part.layer is None else part.layer, MODULES.index(part.module))
    ):
        yield {"scope": "layer_module", "layer": layer if layer >= 0 else "", "module": MODULES[module]}, members


def relation(a: int, b: int, specialists: int) -> str:
    """``specialists`` for two of them, ``in_merge`` for a specialist and a merge."""
    return "specialists" if max(a, b) < specialists else "in_merge"


def vector_rows(labels: Sequence[str], weighed: Sequence[Weighed]) -> Iterator[Row]:
    """``task_vectors.csv``: norms and shares of every task vector, with ranks averaged over its matrices."""
    stacked = sums.stack(part.sums for part in weighed)
    for scope, members in scopes([part.part for part in weighed]):
        measures = sums.vector_measures(_scope(stacked, members))
        for model, label in enumerate(labels):
            for name, measure in measures.items():
                yield {"model": label, **scope, "measure": name, **_summed(name, measure, (model,), len(members))}
        for key, found in _columns(weighed, members):
            if key.measure in ("effective_rank", "stable_rank", "rank95"):
                yield {"model": labels[key.a], **scope, "measure": key.measure, **_averaged(key.measure, found)}


def pair_rows(labels: Sequence[str], specialists: int, weighed: Sequence[Weighed]) -> Iterator[Row]:
    """``pairs.csv``: every two specialists, every specialist and merge, and all specialists together."""
    stacked = sums.stack(part.sums for part in weighed)
    for scope, members in scopes([part.part for part in weighed]):
        chosen = _scope(stacked, members)
        measures, joint = sums.pair_measures(chosen), sums.joint_measures(chosen, specialists)
        for a in range(specialists):
            for b in range(a + 1, len(labels)):
                who = {"model_a": labels[a], "model_b": labels[b], "relation": relation(a, b, specialists)}
                for name, measure in measures.items():
                    yield {**who, **scope, "measure": name, **_summed(name, measure, (a, b), len(members))}
        for name, measure in joint.items():
            who = {"model_a": ALL, "model_b": ALL, "relation": ALL}
            yield {**who, **scope, "measure": name, **_summed(name, measure, (), len(members))}


def subspace_rows(labels: Sequence[str], specialists: int, weighed: Sequence[Weighed]) -> Iterator[Row]:
    """``subspaces.csv``: means over matrices; ``side`` is ``left`` (rows: outputs of a linear layer) or ``right``.

    ``sar`` and ``sar_minus_null``: ``model_a``'s change in the subspace of ``model_b``.
    """
    for scope, members in scopes([part.part for part in weighed]):
        for key, found in _columns(weighed, members):
            if key.measure in ("effective_rank", "stable_rank", "rank95"):
                continue
            a, b = (ALL, ALL) if key.a < 0 else (labels[key.a], labels[key.b])
            kind = ALL if key.a < 0 else relation(key.a, key.b, specialists)
            who = {"model_a": a, "model_b": b, "relation": kind, "side": key.side}
            yield {**who, **scope, "measure": key.measure, **_averaged(key.measure, found)}


def _scope(stacked: Sums, members: Sequence[int]) -> Sums:
    return sums.leave_one_out(Sums(*(values[list(members)] for values in stacked)))


def _columns(weighed: Sequence[Weighed], members: Sequence[int]) -> Iterator[tuple[alignment.Key, list[Found]]]:
    """Each subspace measure with what was found in the scope's matrices; all matrices have the same measures."""
    rows = [weighed[p].row for p in members if weighed[p].row]
    for key in rows[0] if rows else ():
        yield key, [row[key] for row in rows]


def _numbers(
    name: str, value: float, low: float, high: float, n: int, null: float, nulls: int, deviation: float
) -> Row:
    least, most = LIMITS.get(name, (0.0, math.inf))
    return {
        "value": value,
        "low": low if math.isnan(low) else max(low, least),
        "high": high if math.isnan(high) else min(high, most),
        "n": n,
        "null": null,
        "null_n": nulls,
        "null_sd": deviation,
    }


def _summed(name: str, measure: Measure, place: tuple[int, ...], n: int) -> Row:
    """A measure of sums [1 + T, ...] at ``place``, with the delete-one-tensor jackknife."""
    index: tuple[Any, ...] = (slice(None), *place)
    values = measure.value[index]
    if n < 2:
        low, high = math.nan, math.nan
    else:
        low, high = map(float, jackknife.interval(values[0], values[1:]))
    null, deviation = (
        math.nan if each is None else float(np.broadcast_to(each, measure.value.shape)[(0, *place)])
        for each in (measure.null, measure.deviation)
    )
    return _numbers(name, float(values[0]), low, high, n, null, 0 if math.isnan(null) else n, deviation)


def _averaged(name: str, found: Sequence[Found]) -> Row:
    """The mean over matrices where the measure is defined, its spread, and the mean over those of them with a null."""
    defined = [each for each in found if not math.isnan(each.value)]
    if not defined:
        return _numbers(name, math.nan, math.nan, math.nan, 0, math.nan, 0, math.nan)
    values, null, deviation = np.array(defined, dtype=float).T
    low, high = jackknife.interval_of_mean(values)
    spread = float(np.sqrt((deviation**2).sum()) / len(values))
    null = null[~np.isnan(null)]
    chance = float(null.mean()) if len(null) else math.nan
    return _numbers(name, float(values.mean()), low, high, len(values), chance, len(null), spread)
