"""How the singular subspaces of task matrices lie to each other, matrix by matrix, with what chance would give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from langmerge.weighing import nulls
from langmerge.weighing.subspaces import SHARE, SIDES, Frames, Side

MOST = 64  # dimensions whose principal angles are compared


class Found(NamedTuple):
    """A measure of one matrix, what chance would give, and the standard deviation under chance (NaN: not defined)."""

    value: float
    null: float = math.nan
    deviation: float = math.nan


class Key(NamedTuple):
    """What a number is of: ``a`` and ``b`` are positions of task vectors, -1 for none (or all specialists)."""

    measure: str
    a: int
    b: int = -1
    side: str = ""


Row = dict[Key, Found]


def effective_rank(values: Tensor) -> float:
    """exp(H(s / sum s)) of singular values s, H the entropy in nats (Roy and Vetterli 2007); NaN if there are none."""
    if not len(values):
        return math.nan
    p = values.double() / values.double().sum()
    return float(torch.special.entr(p).sum().exp())


def spectrum_measures(frames: Frames) -> Row:
    """Of each matrix: ``effective_rank``, ``stable_rank`` ||T||_F^2 / s_1^2 and ``rank95`` (see :func:`share_rank`).

    NaN for a matrix of zeros; ``effective_rank``, and ``rank95`` where the known directions do not reach it, also for a
    sketch.
    """
    found: Row = {}
    for i, values in enumerate(frames.values):
        square = float(frames.squares[i])
        k = frames.ranks[i]
        reached = k and float(values[:k].double().square().sum()) > SHARE**2 * square
        found[Key("effective_rank", i)] = Found(effective_rank(values) if frames.complete else math.nan)
        found[Key("stable_rank", i)] = Found(square / float(values[0]) ** 2 if len(values) else math.nan)
        found[Key("rank95", i)] = Found(float(k) if reached else math.nan)
    return found


def alignment_ratio(frames: Frames, side: Side, i: int, j: int, dimension: int = 0) -> Found:
    """Subspace alignment ratio ||U U' T_i||_F / ||T_i||_F of specialist i, U the leading directions of j on a side.

    U spans :func:`share_rank` directions of T_j. Marczak et al. (arXiv 2502.04959, equations 5 and 6), who take the
    left side and T_j of a merged model. The null sqrt(k / d) is that of a U independent of T_i: a random k-dimensional
    subspace of d dimensions holds k / d of any squared norm. It is far from 0 where the spectrum is flat, so only what
    exceeds it says anything. Deviation: see :func:`nulls.captured_deviation`. NaN if one of the two is all zeros.
    ``dimension`` is d where the matrices are written in coordinates of their joint span.
    """
    d, square = dimension or frames.dimension(side), float(frames.squares[i])
    k = frames.ranks[j]
    if not k or not square > 0:
        return Found(math.nan)
    value = math.sqrt(min(max(frames.captured(side, i, j, k) / square, 0.0), 1.0))
    null = math.sqrt(k / d)
    deviation = math.nan
    if frames.complete:
        fourth = float(frames.values[i].double().pow(4).sum()) / square**2
        deviation = nulls.captured_deviation(k, d, fourth) / (2 * null)
    return Found(value, null, deviation)


def angle_measures(frames: Frames, side: Side, i: int, j: int) -> dict[str, Found]:
    """``overlap``, the mean squared cosine, and ``median_degrees`` of the principal angles of the leading subspaces.

    Both of k dimensions, the smaller of the two :func:`share_rank` and :data:`MOST`. Nulls: k / d, and the median of
    random subspaces. NaN if one is all zeros.
    """
    k = min(MOST, frames.ranks[i], frames.ranks[j])
    if not k:
        return {"overlap": Found(math.nan), "median_degrees": Found(math.nan)}
    d = frames.dimension(side)
    cosines = torch.linalg.svdvals(frames.inner(side, i, j, k, k).double()).clamp(max=1)
    # of T_i = a projection, whose k squared singular values of 1 / k each sum to 1
    overlap = Found(float(cosines.square().mean()), k / d, nulls.captured_deviation(k, d, 1 / k))
    return {
        "overlap": overlap,
        "median_degrees": Found(math.degrees(float(cosines.acos().quantile(0.5))), nulls.median_angle(k, d)),
    }


def singular_interference(frames: Frames, members: Sequence[int], short: int = 0) -> float:
    """Singular task interference ||(U'U - I) S (V'V - I)||_1, the sum over all entries.

    U and V hold the leading r = short side / K singular vectors of each of the K members side by side, S their singular
    values. Gargiulo et al., Task Singular Vectors (arXiv 2412.00081). 0 if no direction of one touches another's; it
    grows with the norms. NaN if a member is all zeros; fewer directions where the rank is lower. ``short`` is the short
    side where the matrices are written in coordinates of their joint span.
    """
    counts = [min((short or frames.short) // len(members), len(frames.values[m])) for m in members]
    if min(counts) == 0:
        return math.nan
    crossed = []
    for side in SIDES:
        rows = [
            # A matrix's own vectors are orthonormal: that block of U'U - I is 0, whatever the rounding
            torch.cat(
                [
                    _zeros(frames, ci, cj) if i == j else frames.inner(side, i, j, ci, cj)
                    for j, cj in zip(members, counts, strict=True)
                ],
                1,
            )
            for i, ci in zip(members, counts, strict=True)
        ]
        crossed.append(torch.cat(rows))
    values = torch.cat([frames.values[m][:count] for m, count in zip(members, counts, strict=True)])
    return float((crossed[0] * values @ crossed[1]).abs().double().sum())


def _zeros(frames: Frames, rows: int, columns: int) -> Tensor:
    return frames.values[0].new_zeros(rows, columns)


def pair_measures(frames: Frames, specialists: int) -> Row:
    """All measures of every specialist with every other and with every merge, on both sides.

    ``sar`` and ``sar_minus_null`` have an order: ``a`` is the specialist whose change is sought in the subspace of
    ``b``.
    """
    found: Row = {}
    n = len(frames.values)
    for i in range(specialists):
        for j in range(n):
            if i == j:
                continue
            for side in SIDES:
                ratio = alignment_ratio(frames, side, i, j)
                found[Key("sar", i, j, side)] = ratio
                found[Key("sar_minus_null", i, j, side)] = Found(ratio.value - ratio.null, 0.0, ratio.deviation)
                if j > i:
                    for measure, value in angle_measures(frames, side, i, j).items():
                        found[Key(measure, i, j, side)] = value
    return found | interference_measures(frames, specialists)


def interference_measures(frames: Frames, specialists: int, short: int = 0) -> Row:
    """``tsv_interference`` of every two specialists and, with a = b = -1, of all; ``short`` as above."""
    groups: dict[Key, tuple[int, ...]] = {
        Key("tsv_interference", i, j): (i, j) for i, j in combinations(range(specialists), 2)
    }
    if specialists > 1:
        groups[Key("tsv_interference", -1)] = tuple(range(specialists))
    return {key: Found(singular_interference(frames, members, short)) for key, members in groups.items()}
