"""What independent task matrices would give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor


def captured_deviation(k: int, d: int, fourth: float) -> float:
    """Standard deviation of the share of a squared norm that a random k-dimensional subspace of d dimensions holds.

    For a uniform projection P of rank k and a symmetric G [d, d] of trace 1 with sum of squared eigenvalues ``fourth``:
    tr(P G) has mean k / d and variance 2 k (d - k) / (d (d - 1) (d + 2)) (fourth - 1 / d), since rotations mix all
    traceless symmetric matrices alike. NaN for d < 2.
    """
    if d < 2:
        return math.nan
    variance = 2 * k * (d - k) / (d * (d - 1) * (d + 2)) * max(fourth - 1 / d, 0.0)
    return math.sqrt(variance)


def median_angle(k: int, d: int) -> float:
    """Median principal angle in degrees of two independent uniform k-dimensional subspaces of d dimensions.

    By the limit of large k and d with c = k / d fixed (Wachter 1980): the squared cosines are l sin^2 p with l = 4 c
    (1 - c), where p - |1 - 2 c| arctan(|1 - 2 c| tan p) = pi c q at the quantile q; above c = 1/2 the remaining 2 k - d
    angles are 0. Within half a degree or so of the mean over draws for any k, but near k = 2 d / 3, where the median
    leaves 0.
    """
    c = k / d
    bend = abs(1 - 2 * c)
    if c >= 2 / 3:
        return 0.0

    def below(p: float) -> float:
        return p - bend * math.atan(bend * math.tan(p)) - math.pi * c / 2

    p = brentq(below, 0, math.pi / 2 - 1e-12)
    return math.degrees(math.acos(min(1.0, math.sqrt(4 * c * (1 - c)) * math.sin(p))))


def uniform_frame(d: int, k: int, generator: torch.Generator) -> Tensor:
    """k orthonormal vectors of length d, uniformly distributed, float64 [d, k]."""
    q, r = torch.linalg.qr(torch.randn(d, k, generator=generator, dtype=torch.float64))
    return q * r.diagonal().sign()


# ---- what a mean of independent matrices gives, at any size --------------------------------------------------------


class Problem(NamedTuple):
    """Independent matrices to draw: ``spectra`` (descending singular values, one tensor each), ``rows``, ``columns``.

    ``scale`` f is the size over that of the matrices asked for, 1 for these themselves.
    """

    spectra: list[Tensor]
    rows: int
    columns: int
    scale: float


def whole_spectrum(values: Tensor, square: float, short: int) -> Tensor:
    """Singular values [short] from the leading ones [q] and the squared Frobenius norm, fp64.

    The squares fall on geometrically from the last known one, so fast that all sum to ``square``, or are flat where
    they must not fall at all. Only the known ones where they hold all but 1e-5 of it, or where there are none.
    """
    known, missing = values.double().cpu(), short - len(values)
    rest = square - float(known.square().sum())
    if not len(known) or missing <= 0 or rest <= 1e-5 * square:
        return known
    last = float(known[-1]) ** 2
    places = torch.arange(1, missing + 1, dtype=torch.float64)

    def excess(decay: float) -> float:
        return last * float(torch.exp(-decay * places).sum()) - rest

    decay = brentq(excess, 0, 700) if excess(0) > 0 else 0.0
    tail = torch.exp(-decay * places)
    return torch.cat([known, (tail * (rest / tail.sum())).sqrt()])


def shrunk(values: Tensor, scale: float) -> Tensor:
    """A spectrum of ``scale`` times as many singular values and the same shape: mean squares of equal shares, fp64.

    So the share of the squared norm that the first k' of n' hold is that of the first k of n where k'/n' = k/n.
    """
    n = len(values)
    if not n or scale >= 1:
        return values.double().cpu()
    fewer = max(1, round(scale * n))
    reached = np.concatenate([[0.0], values.double().cpu().square().cumsum(0).numpy()])
    edges = np.interp(np.linspace(0, n, fewer + 1), np.arange(n + 1), reached)
    return torch.from_numpy(np.diff(edges) * (fewer / n)).clamp(min=0).sqrt()


def reduced(spectra: Sequence[Tensor], rows: int, columns: int, entries: int) -> Problem:
    """The problem of matrices [rows, columns] with these spectra, or a similar one that is cheap to draw.

    Sides and spectra are shrunk alike until a matrix has at most ``entries`` entries. k/d, the shape of the spectra and
    the ratio of the sides stay, and in the limit of large d these alone decide what independent matrices give
    (freeness of uniformly rotated matrices, Voiculescu 1991). The joint span of the matrices counts in place of a side
    where it is the smaller of the two: what has low rank is drawn as it is.
    """
    total, longest = sum(map(len, spectra)), max(map(len, spectra), default=0)
    size = max(min(rows, total) * min(columns, total), max(rows, columns) * longest)
    scale = min(1.0, math.sqrt(entries / size)) if size else 1.0
    sides = (max(1, round(scale * rows)), max(1, round(scale * columns)))
    return Problem([shrunk(values, scale) for values in spectra], *sides, scale)


def independent(
    spectra: Sequence[Tensor], rows: int, columns: int, generator: torch.Generator, device: torch.device | None = None
) -> Tensor:
    """Matrices with the given singular values and independent uniform singular vectors, then their mean.

    Float64 [S + 1, rows, columns]. The last is what averaging specialists that share nothing gives: a merge holds its
    own members better than an independent subspace would, by this much. A side that is longer than the joint span of
    all its singular vectors is written in coordinates of that span, which changes no angle and no singular value.
    """

    def frames(d: int) -> list[Tensor]:
        drawn = [uniform_frame(d, len(values), generator).to(device) for values in spectra]
        every = torch.cat(drawn, 1)
        if 0 < every.shape[1] < d:
            every = torch.linalg.qr(every)[1]
        return list(every.split([len(values) for values in spectra], 1))

    left, right = frames(rows), frames(columns)
    matrices = [a * v.double().to(device) @ b.T for a, v, b in zip(left, spectra, right, strict=True)]
    return torch.stack([*matrices, torch.stack(matrices).mean(0)])
