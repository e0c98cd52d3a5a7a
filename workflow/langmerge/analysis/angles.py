"""Principal angles between the subspaces in which two models represent the same sentences, and maps of the models.

A model's subspace at a layer is spanned by the k leading right singular vectors of its centred representations, X
[n, d]. The angles between two of them, with orthonormal bases A and B [d, k], are the arc cosines of the singular
values of A'B (Bjorck and Golub 1973). Unlike CKA they see which directions of the shared hidden space are used, not
how sentences lie to each other, and nothing of the scale. Median angle, distance sqrt(mean sin^2) and its map by
multidimensional scaling are those of One Model to Translate Them All (arXiv 2604.02881).

Sampled subspaces differ also where the true ones are equal: by 20 degrees for n = 128 sentences where 4096 give 4
(planted, k = 32). So angles of unequal n cannot be compared, and each has a floor (:func:`floors`): what sampling alone
gives.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from langmerge.analysis import halves
from langmerge.analysis.cka import centre

MOST = 64  # dimensions of a subspace, the paper's number
SHARE = 4  # a subspace has at most this part of the width and of the sentences
RANK = 1e-12  # of the first eigenvalue: below are rounding errors of fp32 representations
DRAWS = 20  # of two random subspaces


def dimension(n: int, d: int) -> int:
    """How many dimensions the compared subspaces have: at most 64, a quarter of the width and of the sentences.

    Two subspaces of more than half the space must meet, and those of nearly n dimensions are mostly sampling noise. One
    number for all layers and models of a study, rather than the rank that holds 95 % of the variance: angles of
    subspaces of different dimension cannot be compared, and one massive channel can be 95 % alone.
    """
    return max(1, min(MOST, d // SHARE, n // SHARE))


def leading(x: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k leading right singular vectors [..., d, k] of centred ``x`` [..., n, d], and squared singular values."""
    wide = x.shape[-1] > x.shape[-2]
    values, vectors = torch.linalg.eigh(x @ x.mT if wide else x.mT @ x)
    values, vectors = values[..., -k:].flip(-1), vectors[..., -k:].flip(-1)
    # QR: X'u is orthogonal only up to the rounding of the Gram matrix
    return (torch.linalg.qr(x.mT @ vectors)[0] if wide else vectors), values


def principal_angles(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Ascending angles [..., k] in radians of the subspaces with orthonormal bases ``a`` and ``b`` [..., d, k].

    From cosines and sines together: the arc cosine alone has only half of the digits near 0, and none above 1.
    """
    cross = a.mT @ b
    cosines = torch.linalg.svdvals(cross)
    sines = torch.linalg.svdvals(b - a @ cross).flip(-1)
    return torch.atan2(sines, cosines)


@functools.lru_cache(maxsize=64)
def random_median(k: int, d: int, seed: int) -> float:
    """Median angle in degrees of two independent uniform k-dimensional subspaces of d dimensions, mean of 20 draws."""
    normal = np.random.Generator(np.random.Philox(key=seed)).standard_normal((DRAWS, d, k))
    bases = torch.linalg.qr(torch.from_numpy(normal))[0]
    # One of the two can be the first k coordinates
    return float(np.median(np.degrees(np.arccos(torch.linalg.svdvals(bases[:, :k]).clamp(max=1))), axis=1).mean())


# ---- all pairs of M models -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Angles:
    """Angles of every two of M models on ``n`` sentences: arrays [M, M], in degrees but for ``distance``.

    NaN where a model's representations have fewer than ``k`` dimensions. ``null`` is that of random subspaces,
    ``floor`` what sampling alone gives (NaN for pairs that were not asked for); ``standard_error`` is from ``halves``
    half-samples.
    """

    k: int
    n: int
    null: float
    median: np.ndarray
    floor: np.ndarray
    standard_error: np.ndarray
    halves: int
    distance: np.ndarray


def floors(x: torch.Tensor, pairs: Sequence[tuple[int, int]], k: int, seed: int) -> torch.Tensor:
    """Median angle in degrees [P] of noise-matched twins of ``pairs`` of centred representations ``x`` [M, n, d].

    The two are scaled to one Frobenius norm, and of half the sentences, drawn at random, they exchange their rows. The
    twins have the same distribution, hence the same true subspace, and as many sentences, the spectrum and the
    differences between the two that the models have. So a pair whose true subspaces are equal lies at its floor. For
    others it is an upper estimate of what sampling does: the twins hold the directions of both.
    """
    if not pairs:
        return x.new_empty(0)
    generator = np.random.Generator(np.random.Philox(key=seed))
    swap = torch.from_numpy(generator.permutation(x.shape[1]) % 2 == 1).to(x.device)[:, None]
    scaled = x / x.flatten(1).norm(dim=1).clamp(min=torch.finfo(x.dtype).tiny)[:, None, None]
    a, b = (scaled[list(side)] for side in zip(*pairs, strict=True))
    first, second = (
        leading(twin - twin.mean(1, keepdim=True), k)[0] for twin in (torch.where(swap, b, a), torch.where(swap, a, b))
    )
    return _degrees(torch.linalg.svdvals(first.mT @ second).clamp(max=1).acos())


def _of_halves(z: torch.Tensor, kept: np.ndarray, k: int) -> torch.Tensor:
    """Leading k directions of ``z`` [M, n, m] in each of H half-samples, [M, H, m, k]; NaN where too few rows stay."""
    found = []
    for rows in kept:
        rest = z[:, torch.from_numpy(rows).to(z.device)]
        if rest.shape[1] > k:
            found.append(leading(rest - rest.mean(1, keepdim=True), k)[0])
        else:
            found.append(z.new_full((len(z), z.shape[2], k), torch.nan))
    return torch.stack(found, 1) if found else z.new_empty(len(z), 0, z.shape[2], k)


def _degrees(angles: torch.Tensor) -> torch.Tensor:
    return angles.quantile(0.5, dim=-1).rad2deg()


def compare(
    stack: torch.Tensor, blocks: np.ndarray, seed: int, floored: Sequence[tuple[int, int]] | None = None
) -> Angles:
    """Compare every two of M representations of the same sentences, ``stack`` [M, n, d].

    ``blocks`` [n] are those of :mod:`langmerge.analysis.halves`. The subspaces of a half-sample are sought among the 2k
    leading directions of all sentences: what lies beyond hardly enters the first k, and it saves most of the time.
    ``floored``: pairs of places that get a floor, two eigendecompositions each (all). Computes on the device of
    ``stack``; ValueError for n < 4.
    """
    x = centre(stack)
    models, n, d = x.shape
    k = dimension(n, d)
    vectors, values = leading(x, min(2 * k, n - 1, d))  # [M, d, m]
    short = (values[:, k - 1] <= RANK * values[:, 0]).cpu().numpy()
    kept = halves.half_samples(blocks, seed)
    parts = _of_halves(x @ vectors, kept, k)  # [M, H, m, k]
    undefined = parts.isnan().any(-1).any(-1).any(0)
    parts = parts.nan_to_num()

    median, distance = np.zeros((models, models)), np.zeros((models, models))
    sampled = np.zeros((len(kept), models, models))
    for a in range(models - 1):
        rest = slice(a + 1, None)
        angles = principal_angles(vectors[a, :, :k], vectors[rest, :, :k])
        median[a, rest] = _degrees(angles).cpu()
        distance[a, rest] = angles.sin().square().mean(-1).sqrt().cpu()
        cross = parts[a].mT @ (vectors[a].T @ vectors[rest])[:, None] @ parts[rest]  # [M - a - 1, H, k, k]
        cosines = torch.linalg.svdvals(cross).clamp(max=1)
        sampled[:, a, rest] = _degrees(cosines.acos()).masked_fill(undefined, torch.nan).T.cpu()

    pairs = [(a, b) for a in range(models) for b in range(a + 1, models)] if floored is None else list(floored)
    floor = np.full((models, models), np.nan)
    for (a, b), value in zip(pairs, floors(x, pairs, k, seed).tolist(), strict=True):
        floor[a, b] = floor[b, a] = value
    error = halves.standard_error(sampled, blocks)
    missing = short[:, None] | short
    median, error, distance = (np.where(missing, np.nan, t + t.T) for t in (median, error, distance))
    floor = np.where(missing, np.nan, floor)
    return Angles(k, n, random_median(k, d, seed), median, floor, error, len(kept), distance)


# ---- maps ----------------------------------------------------------------------------------------------------------


def map_layers(layers: int) -> list[int]:
    """Layers whose distances are mapped: the embedding, one and two thirds of the way up, the last."""
    return sorted({0, round(layers / 3), round(2 * layers / 3), layers})


def scaling(distances: np.ndarray) -> np.ndarray:
    """Classical multidimensional scaling (Torgerson 1952): points [M, 2] that lie about as far apart as ``distances``.

    ``distances`` [M, M]. Centred, along the principal axes. An axis points such that its first large coordinate (at
    least half of the largest) is positive. NaN if a distance is.
    """
    points = np.full((len(distances), 2), np.nan)
    if not np.isfinite(distances).all():
        return points
    squares = distances**2
    gram = -0.5 * (squares - squares.mean(0) - squares.mean(1, keepdims=True) + squares.mean())
    values, vectors = np.linalg.eigh(gram)
    points[:] = 0
    for axis in range(min(2, len(values))):
        coordinates = vectors[:, -1 - axis] * np.sqrt(max(values[-1 - axis], 0))
        large = np.abs(coordinates) >= 0.5 * np.abs(coordinates).max()
        points[:, axis] = coordinates * (-1 if coordinates[large][0] < 0 else 1)
    return points
