"""What independent task matrices would give."""

from __future__ import annotations

import math
from collections.abc import Sequence

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


def independent(spectra: Sequence[Tensor], rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Matrices with the given singular values and independent uniform singular vectors, then their mean.

    Float64 [S + 1, rows, columns]. The last is what averaging specialists that share nothing gives: a merge holds its
    own members better than an independent subspace would, by this much.
    """
    matrices = []
    for values in spectra:
        left = uniform_frame(rows, len(values), generator)
        right = uniform_frame(columns, len(values), generator)
        matrices.append(left * values.double().cpu() @ right.T)
    return torch.stack([*matrices, torch.stack(matrices).mean(0)])
