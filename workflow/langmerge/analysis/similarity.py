"""Further measures of representations, beside CKA: mutual neighbours, ANC, Procrustes distance, ranks.

All take M representations ``x`` [M, n, d] of the same n sentences, centre them, and return estimates [1 + G, ...]: of
all sentences first, then without each of the G blocks that ``blocks`` [n] names, for the jackknife (of mutual
neighbours [1 + H, ...]: then of each of H half-samples, :mod:`langmerge.analysis.halves`). They compute in fp64 on the
device of ``x``; ValueError for n < 4 (:func:`langmerge.analysis.cka.centre`).
"""

from __future__ import annotations

import numpy as np
import torch

from langmerge.analysis import halves
from langmerge.analysis.cka import centre

NEIGHBOURS = 10
SHARE = 4  # at most this part of the other sentences are neighbours: among few sentences all would be
ELEMENTS = 2**25  # of similarities held at once


def members(blocks: np.ndarray, device: torch.device) -> torch.Tensor:
    """One-hot blocks fp64 [n, G], in the order of their names."""
    _, member = np.unique(blocks, return_inverse=True)
    return torch.nn.functional.one_hot(torch.from_numpy(member)).double().to(device)


# ---- neighbours ----------------------------------------------------------------------------------------------------


def neighbours(n: int) -> int:
    """How many neighbours a sentence has: 10, or a quarter of the other sentences if that is less."""
    return max(1, min(NEIGHBOURS, (n - 1) // SHARE))


def chance(n: int) -> float:
    """Expected share of common neighbours of unrelated representations, k / (n - 1)."""
    return neighbours(n) / (n - 1)


def mutual_neighbours(x: torch.Tensor, blocks: np.ndarray) -> torch.Tensor:
    """Share of common nearest neighbours of every two representations, [1 + H, M, M] from ``x`` [M, n, d].

    mean_i |N_k(x_i) and N_k(y_i)| / k, N_k the k sentences of largest cosine after centring (Huh et al., arXiv
    2405.07987, section 2, centred since a common direction would else decide all cosines). Local where CKA is global;
    1 for rotated copies, :func:`chance` for unrelated data. In a half-sample the other sentences are neither asked nor
    neighbours, k stays unless too few are left.
    """
    x = centre(x)
    _, n, _ = x.shape
    kept = torch.from_numpy(halves.half_samples(blocks)).to(x.device)
    norms = x.norm(dim=-1, keepdim=True)
    unit = torch.where(norms > 0, x / norms, 0)
    step = max(1, ELEMENTS // (len(x) * n))
    parts = [_common(unit, kept, range(i, min(i + step, n))) for i in range(0, n, step)]
    asked = torch.cat([kept.new_ones(1, n), kept]).double().sum(1)  # sentences, [1 + H]
    nearest = torch.tensor([neighbours(int(m)) for m in asked], device=x.device)
    return torch.stack(parts).sum(0) / (nearest * asked)[:, None, None]


def _common(unit: torch.Tensor, kept: torch.Tensor, rows: range) -> torch.Tensor:
    """Number of common neighbours of the sentences ``rows``, summed, [1 + H, M, M]; ``kept`` bool [H, n]."""
    n = unit.shape[1]
    here = torch.arange(rows.start, rows.stop, device=unit.device)
    cosines = unit[:, here] @ unit.mT
    cosines[:, torch.arange(len(here), device=unit.device), here] = -torch.inf
    found = []
    for stays in [torch.ones(n, dtype=torch.bool, device=unit.device), *kept]:
        among = cosines[:, stays[here]][..., stays]  # [M, rows that stay, sentences that stay]
        nearest = among.topk(neighbours(among.shape[-1]), dim=-1).indices
        table = torch.zeros_like(among, dtype=torch.float32).scatter_(-1, nearest, 1.0).transpose(0, 1)
        found.append(torch.bmm(table, table.mT).sum(0).double())
    return torch.stack(found)


# ---- coordinates ---------------------------------------------------------------------------------------------------


def coordinate_correlations(x: torch.Tensor, pairs: torch.Tensor, blocks: np.ndarray) -> torch.Tensor:
    """ANC (:func:`langmerge.analysis.cka.anc_table`) [1 + G, P] of ``pairs`` int64 [P, 2] of representations [M, n, d].

    Coordinates that are constant in either are left out, NaN if that is all; chance level sqrt(2 / (pi n)).
    """
    x, leaves = centre(x), members(blocks, x.device)
    stays = (len(leaves) - leaves.sum(0))[:, None]
    sums = leaves.T @ x  # [M, G, d]

    def kept(inside: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Sums of products of what stays, centred anew, [..., 1 + G, d]."""
        total = inside.sum(-2, keepdim=True)
        return torch.cat([total, total - inside - u * v / stays], -2)

    first, second = pairs[:, 0], pairs[:, 1]
    own = kept(leaves.T @ x.square(), sums, sums)
    cross = kept(leaves.T @ (x[first] * x[second]), sums[first], sums[second])
    moves = ((x.abs().amax(1, keepdim=True) > 0) & (own > 0))[pairs].all(1)  # [P, 1 + G, d]
    norm = (own[first] * own[second]).clamp(min=0).sqrt()
    correlation = torch.where(moves, cross / torch.where(moves, norm, 1), 0)
    return (correlation.abs().sum(-1) / moves.sum(-1)).T


# ---- Procrustes ----------------------------------------------------------------------------------------------------


def compact(x: torch.Tensor) -> torch.Tensor:
    """``x`` [M, n, d] if n >= d, else a rotation of it with n columns: inner products of sentences are the same."""
    if x.shape[-2] >= x.shape[-1]:
        return x
    values, vectors = torch.linalg.eigh(x @ x.mT)
    return vectors * values.clamp(min=0).sqrt()[..., None, :]


def procrustes(x: torch.Tensor, pairs: torch.Tensor, blocks: np.ndarray) -> torch.Tensor:
    """Squared orthogonal Procrustes distances [1 + G, P] of the ``pairs`` int64 [P, 2] of representations [M, n, d].

    min_Q ||X Q - Y||^2 = 2 - 2 ||X'Y||_* over orthogonal Q, X and Y centred with Frobenius norm 1 (Ding et al., arXiv
    2108.01661, section 2): 0 for rotated copies, at most 2. Unrelated data with n of the size of d are far from 2,
    since a rotation that fits is found by chance: compare with :func:`procrustes_null`. Without a block Q stays as it
    is; ||.||_* is a maximum over Q, so that is exact to first order. NaN where a representation is constant.
    """
    x = compact(centre(x))
    a, b = x[pairs[:, 0]], x[pairs[:, 1]]
    matched = a @ _nearest_rotation(a.mT @ b)
    leaves = members(blocks, x.device)
    cross = _kept(matched, b, leaves)
    return _distance(cross, _kept(a, a, leaves), _kept(b, b, leaves))


def procrustes_null(x: torch.Tensor, pairs: torch.Tensor, shuffles: int, seed: int) -> torch.Tensor:
    """Mean of :func:`procrustes` [P] with the sentences of the second of each pair shuffled; NaN without shuffles."""
    x = compact(centre(x))
    generator = np.random.Generator(np.random.Philox(key=seed))
    own = x.square().sum((1, 2))[pairs]  # [P, 2]
    found = []
    for _ in range(shuffles):
        order = torch.from_numpy(generator.permutation(x.shape[1])).to(x.device)
        cross = x[pairs[:, 0]].mT @ x[pairs[:, 1]][:, order]
        values = torch.linalg.eigvalsh(cross.mT @ cross).clamp(min=0).sqrt()  # to eight digits, plenty for a null
        found.append(_distance(values.sum(-1), own[:, 0], own[:, 1]))
    return torch.stack(found).mean(0) if found else x.new_full((len(pairs),), torch.nan)


def _distance(cross: torch.Tensor, own_x: torch.Tensor, own_y: torch.Tensor) -> torch.Tensor:
    norm = (own_x * own_y).clamp(min=0).sqrt()
    return torch.where(norm > 0, 2 - 2 * cross / norm, torch.nan).clamp(min=0)


def _nearest_rotation(c: torch.Tensor) -> torch.Tensor:
    """The orthogonal matrix Q [P, r, r] nearest to ``c`` [P, r, r], which maximises <Q, c>.

    By an eigendecomposition, which is half the work of a singular value decomposition on a CPU and far less on a GPU.
    """
    _, vectors = torch.linalg.eigh(c.mT @ c)
    image = c @ vectors
    # As norms of images: roots of eigenvalues have half the digits
    values = image.norm(dim=-2)
    scale = torch.where(values > 1e-12 * values.amax(-1, keepdim=True), values, torch.inf)
    return (image / scale[:, None]) @ vectors.mT


def _kept(x: torch.Tensor, y: torch.Tensor, leaves: torch.Tensor) -> torch.Tensor:
    """<X, Y> [1 + G, ...] of centred [..., n, r], of all rows and of those that stay without a block, centred anew."""
    inside = (x * y).sum(-1) @ leaves  # [..., G]
    x_sum, y_sum = leaves.T @ x, leaves.T @ y  # of the rows that go; of those that stay it is the negative
    stays = len(leaves) - leaves.sum(0)
    total = inside.sum(-1, keepdim=True)
    left = total - inside - (x_sum * y_sum).sum(-1) / stays
    return torch.cat([total, left], -1).movedim(-1, 0)


# ---- ranks ---------------------------------------------------------------------------------------------------------


def ranks(x: torch.Tensor, blocks: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Effective and stable rank of each representation, both [1 + G, M] from ``x`` [M, n, d].

    With singular values s of the centred matrix: exp(H(s / sum s)) in nats (Roy and Vetterli 2007), and sum s^2 / max
    s^2. Between 1 and min(n - 1, d); both grow with n, so compare equal n only. Without a block the eigenvalues are
    those of first-order perturbation theory. NaN for constant representations.
    """
    x = compact(centre(x))
    _, vectors = torch.linalg.eigh(x.mT @ x)
    scores = x @ vectors  # [M, n, r]
    leaves = members(blocks, x.device)
    inside, sums = leaves.T @ scores.square(), leaves.T @ scores
    stays = len(leaves) - leaves.sum(0)
    every = scores.square().sum(1, keepdim=True)
    left = (every - inside - sums.square() / stays[:, None]).clamp(min=0)
    squares = torch.cat([every, left], 1).transpose(0, 1)  # [1 + G, M, r]
    roots = squares.sqrt()
    share = roots / roots.sum(-1, keepdim=True)
    effective = torch.special.entr(share).sum(-1).exp()
    return effective, squares.sum(-1) / squares.amax(-1)
