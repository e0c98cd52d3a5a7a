"""Principal angles between the subspaces in which two models represent the same sentences, and maps of the models.

A model's subspace at a layer is spanned by the k leading right singular vectors of its centred representations, X
[n, d]. The angles between two of them, with orthonormal bases A and B [d, k], are the arc cosines of the singular
values of A'B (Bjorck and Golub 1973). Unlike CKA they see which directions of the shared hidden space are used, not
how sentences lie to each other, and nothing of the scale. Median angle, distance sqrt(mean sin^2) and its map by
multidimensional scaling are those of One Model to Translate Them All (arXiv 2604.02881).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch

from langmerge import jackknife
from langmerge.analysis.cka import centre

MOST = 64  # dimensions of a subspace, the paper's number
SHARE = 4  # a subspace has at most this part of the width and of the sentences
BLOCKS = 10  # of the jackknife: each costs an eigendecomposition per model, and few large blocks suit a median better
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

    NaN where a model's representations have fewer than ``k`` dimensions; ``null`` is that of random subspaces.
    """

    k: int
    n: int
    null: float
    median: np.ndarray
    standard_error: np.ndarray
    distance: np.ndarray


def _without_blocks(z: torch.Tensor, blocks: torch.Tensor, k: int) -> torch.Tensor:
    """Leading k directions of ``z`` [M, n, m] without each of G blocks, [M, G, m, k]; NaN where too few rows stay."""
    found = []
    for block in blocks.unique():
        rest = z[:, blocks != block]
        if rest.shape[1] > k:
            rest = rest - rest.mean(1, keepdim=True)
            found.append(leading(rest, k)[0])
        else:
            found.append(z.new_full((len(z), z.shape[2], k), torch.nan))
    return torch.stack(found, 1)


def _degrees(angles: torch.Tensor) -> torch.Tensor:
    return angles.quantile(0.5, dim=-1).rad2deg()


def compare(stack: torch.Tensor, blocks: np.ndarray, seed: int) -> Angles:
    """Compare every two of M representations of the same sentences, ``stack`` [M, n, d].

    ``blocks`` [n] are the jackknife's blocks, joined to at most 10. The subspaces without a block are sought among the
    2k leading directions of all sentences: what lies beyond hardly enters the first k, and it saves most of the time.
    Computes on the device of ``stack``; ValueError for n < 4.
    """
    x = centre(stack)
    models, n, d = x.shape
    k = dimension(n, d)
    vectors, values = leading(x, min(2 * k, n - 1, d))  # [M, d, m]
    short = (values[:, k - 1] <= RANK * values[:, 0]).cpu().numpy()
    parts = _without_blocks(x @ vectors, torch.from_numpy(blocks % BLOCKS).to(x.device), k)  # [M, G, m, k]
    undefined = parts.isnan().any((0, 2, 3))
    parts = parts.nan_to_num()

    median, distance = np.zeros((models, models)), np.zeros((models, models))
    left_out = np.zeros((parts.shape[1], models, models))
    for a in range(models - 1):
        rest = slice(a + 1, None)
        angles = principal_angles(vectors[a, :, :k], vectors[rest, :, :k])
        median[a, rest] = _degrees(angles).cpu()
        distance[a, rest] = angles.sin().square().mean(-1).sqrt().cpu()
        cross = parts[a].mT @ (vectors[a].T @ vectors[rest])[:, None] @ parts[rest]  # [M - a - 1, G, k, k]
        cosines = torch.linalg.svdvals(cross).clamp(max=1)
        left_out[:, a, rest] = _degrees(cosines.acos()).masked_fill(undefined, torch.nan).T.cpu()

    error = jackknife.standard_error(left_out)
    missing = short[:, None] | short
    median, error, distance = (np.where(missing, np.nan, t + t.T) for t in (median, error, distance))
    return Angles(k, n, random_median(k, d, seed), median, error, distance)


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
