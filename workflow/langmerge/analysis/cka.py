"""Similarity of two representations of the same sentences: debiased linear CKA, biased CKA and ANC.

X [n, d] and Y [n, e] have paired rows. Linear CKA (Kornblith et al. 2019) with the unbiased estimator HSIC_1 (Song et
al. 2012, eq. 5) stays near 0 for independent data, where the biased value is about d / (n + d). CKA cannot see
rotations; ANC, the mean absolute correlation of equal coordinates (Del and Fishel, arXiv 2212.01924), sees little
else, and merging works coordinate by coordinate. All sums are fp64 on centred data: uncentred, one massive channel can
eat all digits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from langmerge import jackknife

LEAST = 4
SINK = 100.0  # channels with more than this multiple of the median variance are taken for sinks
GRAM_ROWS = 2048  # more sentences than this would need too much memory for Gram matrices of all models


# ---- one pair ------------------------------------------------------------------------------------------------------


def centre(x: torch.Tensor) -> torch.Tensor:
    """``x`` [n, d] in fp64 with column means 0; ValueError for n < 4, where HSIC_1 is undefined."""
    if x.shape[-2] < LEAST:
        raise ValueError(f"{x.shape[-2]} rows; debiased CKA needs at least {LEAST}")
    x = x.double()
    return x - x.mean(-2, keepdim=True)


def hsic_features(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """HSIC_1 of linear kernels in O(n d e), without an n x n matrix.

    [ ||X'Y||^2 - n/(n-2) sum a_i b_i + sum a sum b / ((n-1)(n-2)) ] / (n (n-3)), X and Y centred, a_i and b_i the
    squared norms of their rows.
    """
    x, y = centre(x), centre(y)
    n = len(x)
    a, b = x.square().sum(1), y.square().sum(1)
    total = (x.T @ y).square().sum() - n / (n - 2) * (a @ b) + a.sum() * b.sum() / ((n - 1) * (n - 2))
    return total / (n * (n - 3))


def u_centre(grams: torch.Tensor) -> torch.Tensor:
    """U-centred Gram matrices [..., n, n]: row and column effects removed, diagonal 0 (Szekely, Rizzo 2014)."""
    n = grams.shape[-1]
    hollow = grams - torch.diag_embed(grams.diagonal(dim1=-2, dim2=-1))
    rows = hollow.sum(-1, keepdim=True) / (n - 2)
    total = hollow.sum((-2, -1), keepdim=True) / ((n - 1) * (n - 2))
    centred = hollow - rows - rows.transpose(-1, -2) + total
    return centred - torch.diag_embed(centred.diagonal(dim1=-2, dim2=-1))


def hsic_gram(k: torch.Tensor, l: torch.Tensor) -> torch.Tensor:  # noqa: E741  the literature's name
    """HSIC_1 of two Gram matrices [n, n], in O(n^2)."""
    n = len(k)
    return (u_centre(k) * u_centre(l)).sum() / (n * (n - 3))


def _ratio(cross: torch.Tensor, own_x: torch.Tensor, own_y: torch.Tensor) -> torch.Tensor:
    """cross / sqrt(own_x own_y), NaN where an own value is not positive."""
    valid = (own_x > 0) & (own_y > 0)
    return torch.where(valid, cross / (own_x * own_y).abs().sqrt(), torch.nan)


def debiased_cka(x: torch.Tensor, y: torch.Tensor) -> float:
    """Debiased linear CKA of [n, d] and [n, e]; may be slightly negative, never clamped. NaN for a constant matrix.

    Feature form where n exceeds both widths, else Gram form; ValueError for n < 4.
    """
    if len(x) > max(x.shape[1], y.shape[1]):
        values = hsic_features(x, y), hsic_features(x, x), hsic_features(y, y)
    else:
        x, y = centre(x), centre(y)
        k, l = x @ x.T, y @ y.T  # noqa: E741
        values = hsic_gram(k, l), hsic_gram(k, k), hsic_gram(l, l)
    return float(_ratio(*values))


def biased_cka(x: torch.Tensor, y: torch.Tensor) -> float:
    """||X'Y||^2 / (||X'X|| ||Y'Y||), centred: the usual estimator; about d / (n + d) for independent data."""
    x, y = centre(x), centre(y)
    return float(_ratio((x.T @ y).square().sum(), (x.T @ x).square().sum(), (y.T @ y).square().sum()))


def anc_table(stack: torch.Tensor) -> torch.Tensor:
    """Average neuron-wise correlation of every two of M representations of equal width, [M, M] from [M, n, d].

    Coordinates that are constant in either are left out; chance level sqrt(2 / (pi n)).
    """
    x = centre(stack)
    norms = x.norm(dim=1)  # [M, d]
    z = torch.where(norms[:, None] > 0, x / norms[:, None], 0).permute(2, 0, 1)  # [d, M, n]
    alive = (norms > 0).double()
    return torch.bmm(z, z.transpose(1, 2)).abs().sum(0) / (alive @ alive.T)


# ---- variants ------------------------------------------------------------------------------------------------------


def _sinks(stack: torch.Tensor) -> torch.Tensor:
    variance = stack.double().var(dim=-2)
    return variance > SINK * variance.median(dim=-1, keepdim=True).values


def drop_sinks(stack: torch.Tensor) -> torch.Tensor:
    """``stack`` [..., n, d] without channels of more than 100 median variances (set to 0): one can be all of CKA."""
    return stack.masked_fill(_sinks(stack).unsqueeze(-2), 0)


def zscore(stack: torch.Tensor) -> torch.Tensor:
    """``stack`` [..., n, d] with every channel scaled to unit variance; constant channels become 0."""
    x = centre(stack)
    deviation = x.std(dim=-2, keepdim=True)
    return torch.where(deviation > 0, x / deviation, 0)


VARIANTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "raw": lambda stack: stack,
    "drop_sink": drop_sinks,
    "zscore": zscore,
}


# ---- all pairs of M models -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """Similarities of every two of M models on n sentences; arrays [M, M]. Null values are NaN without permutations."""

    cka: np.ndarray
    cka_biased: np.ndarray
    anc: np.ndarray
    null_mean: np.ndarray
    null_high: np.ndarray
    standard_error: np.ndarray


def hsic_table(grams: torch.Tensor, blocks: torch.Tensor) -> torch.Tensor:
    """HSIC_1 of every two of M Gram matrices [M, n, n]: [1 + G, M, M], first of all rows, then without each block.

    ``blocks`` [n] holds G different values; their order is ascending. One pass over the matrices: HSIC_1 needs, of the
    rows that stay, only sum K_ij L_ij, the row sums and the total, and each is the whole less the block's part. The
    Gram matrices need not be centred again for the rows that stay (HSIC_1 is invariant to translation). NaN where
    fewer than 4 rows stay.
    """
    names, member = blocks.unique(return_inverse=True)
    leaves = torch.nn.functional.one_hot(member + 1, len(names) + 1).to(grams.dtype)  # column 0 leaves nothing out
    leaves[:, 0] = 0
    n = (1 - leaves).sum(0)  # rows that stay, [1 + G]
    hollow = grams - torch.diag_embed(grams.diagonal(dim1=-2, dim2=-1))

    rows = (hollow.sum(-1, keepdim=True) - hollow @ leaves) * (1 - leaves)  # [M, n, 1 + G], row sums over what stays
    by_subset = rows.permute(2, 0, 1)
    products = torch.bmm(by_subset, by_subset.transpose(1, 2))  # sum_i r_i s_i
    totals = by_subset.sum(-1)
    outer = totals[:, :, None] * totals[:, None, :]

    def traces(left: torch.Tensor) -> torch.Tensor:  # sum_j K_ij L_ij of every row and pair, [n, M * M]
        return torch.bmm(left.transpose(0, 1), hollow.permute(1, 2, 0)).flatten(1)

    every = traces(hollow)
    inside = traces(hollow * (member[:, None] == member))
    trace = (every.sum(0) + leaves.T @ (inside - 2 * every)).view(len(n), *products.shape[1:])

    n = n[:, None, None]
    value = (trace + outer / ((n - 1) * (n - 2)) - 2 / (n - 2) * products) / (n * (n - 3))
    return torch.where(n >= LEAST, value, torch.nan)


def _shuffles(n: int, permutations: int, seed: int) -> list[torch.Tensor]:
    generator = np.random.Generator(np.random.Philox(key=seed))
    return [torch.from_numpy(generator.permutation(n)) for _ in range(permutations)]


def _by_grams(x: torch.Tensor, blocks: torch.Tensor, shuffles: list[torch.Tensor]) -> list[torch.Tensor]:
    """Debiased [1 + G, M, M], biased [M, M] and shuffled [P, M, M] CKA from Gram matrices of all models."""
    grams = x @ x.transpose(1, 2)
    table = hsic_table(grams, blocks)
    own = table.diagonal(dim1=1, dim2=2)
    flat = grams.flatten(1)
    norms = flat.norm(dim=1)
    n = x.shape[1]
    # A shuffle permutes rows and columns of a U-centred matrix and leaves its norm; fp32 is plenty for a null
    centred = u_centre(grams).float().flatten(1)
    null = []
    for shuffle in shuffles:
        index = (shuffle[:, None] * n + shuffle).flatten().to(x.device)
        null.append((centred @ centred.index_select(1, index).T).double() / (n * (n - 3)))
    shuffled = torch.stack(null) if null else x.new_empty(0, len(x), len(x))
    return [
        _ratio(table, own[:, :, None], own[:, None, :]),
        flat @ flat.T / (norms[:, None] * norms),
        _ratio(shuffled, own[0, :, None], own[0, None, :]),
    ]


def _by_pairs(x: torch.Tensor, blocks: torch.Tensor, shuffles: list[torch.Tensor]) -> list[torch.Tensor]:
    """The same as :func:`_by_grams`, pair by pair and from the start for each subset: for many sentences."""
    subsets = [torch.ones_like(blocks, dtype=torch.bool), *(blocks != block for block in blocks.unique())]
    full, biased, null = [], [], []
    for a in x:
        for b in x:
            full.append([debiased_cka(a[keep], b[keep]) if keep.sum() >= LEAST else np.nan for keep in subsets])
            biased.append(biased_cka(a, b))
            null.append([debiased_cka(a, b[shuffle.to(b.device)]) for shuffle in shuffles])
    shape = (-1, len(x), len(x))
    return [
        torch.tensor(full, dtype=torch.float64).T.reshape(shape),
        torch.tensor(biased, dtype=torch.float64).reshape(shape[1:]),
        torch.tensor(null, dtype=torch.float64)
        .reshape(len(biased), len(shuffles))
        .T.reshape(len(shuffles), *shape[1:]),
    ]


def compare(stack: torch.Tensor, blocks: np.ndarray, permutations: int, seed: int) -> Comparison:
    """Compare every two of M representations of the same sentences, ``stack`` [M, n, d].

    ``blocks`` [n] are the jackknife's blocks. The null shuffles the sentences of the second model: its mean and 97.5 %
    quantile. Computes on the device of ``stack``; ValueError for n < 4.
    """
    x = centre(stack)
    shuffles = _shuffles(x.shape[1], permutations, seed)
    method = _by_grams if x.shape[1] <= GRAM_ROWS else _by_pairs
    full, biased, null = (values.cpu().numpy() for values in method(x, torch.from_numpy(blocks).to(x.device), shuffles))
    nothing = np.full(biased.shape, np.nan)
    return Comparison(
        cka=full[0],
        cka_biased=biased,
        anc=anc_table(x).cpu().numpy(),
        null_mean=null.mean(0) if permutations else nothing,
        null_high=np.quantile(null, 0.975, axis=0) if permutations else nothing,
        standard_error=jackknife.standard_error(full[1:]),
    )


def dropped_channels(stack: torch.Tensor) -> np.ndarray:
    """How many channels :func:`drop_sinks` takes from either of two models, int [M, M] from [M, n, d]."""
    sinks = _sinks(stack)
    return (sinks[:, None] | sinks[None]).sum(-1).cpu().numpy()
