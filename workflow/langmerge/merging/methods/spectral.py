"""Methods on the singular values and vectors of task matrices d_i: TSV-M, Iso-C, Iso-CTS, KnOTS.

All take n float32 matrices (rows, columns) of one layer and give the merged task matrix, float32, before
`scale`. `spectra` are theirs, in order, at the same `tolerance` (see `langmerge.merging.methods.spectra`):
recipes of a grid share them.

k is min(rows, columns). Where no singular value that is cut off equals one that is kept, TSV-M, Iso-C and
Iso-CTS commute with rotations of the input and of the output space, and no method depends on the order of
the models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from langmerge.merging.lazy import torch
from langmerge.merging.methods.averages import normalized, weighted_sum
from langmerge.merging.methods.spectra import (
    Spectrum,
    directions,
    eigenpairs,
    gram_of_rows,
    inverse_root,
    left_product,
    polar_factor,
    projected_out,
    spectrum,
)
from langmerge.merging.methods.task_vectors import disjoint_merge, elected_sign, trim

if TYPE_CHECKING:
    from torch import Tensor

Triplets = tuple["Tensor", "Tensor", "Tensor"]


def tsv_m(
    matrices: Sequence[Tensor], spectra: Sequence[Spectrum], weights: Sequence[float], tolerance: float
) -> Tensor:
    """Task singular vectors, merged: U' diag(S) V'^T (Gargiulo et al. 2024, arXiv 2412.00081, algorithm 1).

    S, U, V hold the first k / n singular values and vectors of every d_i side by side; U' and V' are the
    matrices of orthonormal columns nearest to U and V. Tasks of rank <= k / n on orthogonal subspaces are
    added up unchanged; one task (n = 1) is returned as it is. A weight is a factor of d_i, here of its S;
    what has weight 0 is left out like a zero matrix (n stays).

    k / n is rounded down, as the released code does, but never to 0 (the released code then gives 0).
    Directions that depend on one another share their place (`inverse_root`): n equal tasks give one, cut to
    rank k / n. Directions that a task does not have (rank below k / n) are left out, where the released code
    takes part of an arbitrary basis into the orthogonalisation.
    """
    count = max(1, min(matrices[0].shape) // len(matrices))
    parts = [
        (left, values * weight, right)
        for matrix, known, weight in zip(matrices, spectra, weights, strict=True)
        if weight
        for left, values, right in [directions(matrix, known, count)]
    ]
    if not parts:
        return torch.zeros_like(matrices[0])
    return _recombined(parts, torch.cat([values for _, values, _ in parts]), tolerance)


def iso_c(total: Tensor, known: Spectrum) -> Tensor:
    """Isotropic merging in the common subspace: mean(sigma) U V^T (Marczak et al. 2025, arXiv 2502.04959).

    `total` is sum_i d_i = U diag(sigma) V^T, as in the released code; of their mean the result is n times
    smaller. The mean is over the singular values that are not zero: for a matrix of full rank all k of them.
    With zero ones the released code would add their arbitrary vectors with the full mean.
    """
    if not len(known.values):
        return torch.zeros_like(total)
    return polar_factor(total, known).mul_(float(known.values.mean()))


def common_directions(shortest: int, n_models: int, fraction: float) -> tuple[int, int]:
    """(directions of the common subspace, directions of each task) of Iso-CTS, for k = `shortest`.

    fraction x k rounded down, the rest divided by n and rounded; the common subspace takes what is left over,
    so that common + n x task = k. Where the released code would round to more than k (small fractions), the
    task's share is rounded down.
    """
    of_task = min(round((shortest - int(shortest * fraction)) / n_models), shortest // n_models)
    return shortest - n_models * of_task, of_task


def iso_cts(matrices: Sequence[Tensor], total: Tensor, known: Spectrum, fraction: float, tolerance: float) -> Tensor:
    """Isotropic merging in common and task-specific subspaces (arXiv 2502.04959, algorithm of section 4.2).

    The first directions of `total` = sum_i d_i (whose spectrum is `known`), U_c, then of each task the first
    directions of d_i - U_c U_c^T d_i (as many as `common_directions` says), made orthonormal on both sides as
    in TSV-M; every singular value becomes the mean of those that were taken. fraction = 1 is Iso-C.

    A remainder below tolerance x |d_i| (Frobenius) has no directions of its own; the mean is over the
    directions there are.
    """
    common, of_task = common_directions(min(total.shape), len(matrices), fraction)
    parts = [directions(total, known, common)]
    for matrix in matrices if of_task else ():
        rest = projected_out(matrix, parts[0][0])
        own = spectrum(rest, tolerance)
        rank = int((own.values > tolerance * matrix.norm()).sum())
        parts.append(directions(rest, own, min(rank, of_task)))
    values = torch.cat([values for _, values, _ in parts])
    if not len(values):
        return torch.zeros_like(total)
    return _recombined(parts, values.mean().expand(len(values)), tolerance)


def common_basis(matrices: Sequence[Tensor], spectra: Sequence[Spectrum] | None, tolerance: float) -> Tensor:
    """Left singular vectors U (rows, r), float64, of the matrices side by side, [d_1 | ... | d_n].

    They are the eigenvectors of sum_i d_i d_i^T. `spectra` are needed for tall matrices only, where low ranks
    R_i allow a smaller problem, [U_1 S_1 | ... | U_n S_n] having the same left singular vectors: sum_i R_i
    instead of `rows`.
    """
    if spectra is None or sum(len(known.values) for known in spectra) >= len(matrices[0]):
        return eigenpairs(sum_of_grams(matrices), tolerance).short
    triplets = [directions(m, known, len(known.values)) for m, known in zip(matrices, spectra, strict=True)]
    factor = torch.cat([left * values for left, values, _ in triplets], dim=1)
    small = eigenpairs(factor.T @ factor, tolerance)
    return factor @ (small.short / small.values)


def sum_of_grams(matrices: Sequence[Tensor]) -> Tensor:
    """sum_i d_i d_i^T, float64 (rows, rows)."""
    total = gram_of_rows(matrices[0])
    for matrix in matrices[1:]:
        total += gram_of_rows(matrix)
    return total


def aligned(basis: Tensor, matrices: Sequence[Tensor]) -> list[Tensor]:
    """KnOTS: U^T d_i = S V_i^T of each task in the common basis U of all, float32 (r, columns)."""
    return [left_product(basis.T, matrix) for matrix in matrices]


def knots(
    basis: Tensor, parts: Sequence[Tensor], inner: str, density: float, weights: Sequence[float], normalize: bool
) -> Tensor:
    """KnOTS: U x (merge of the aligned parts `parts`, (r, columns)); Stoica et al. 2024, arXiv 2410.19735.

    `inner` linear: their weighted mean, which is that of the task matrices; ties (and dare_ties, whose drop
    the parts have already seen): entries below the `density` largest magnitudes of this matrix are trimmed,
    then the unweighted election and the weighted mean of the entries that agree, as TIES does. A zero sum
    takes the majority sign of this matrix. The released code trims over the whole model; it does not at
    density 1, its default, which is the default here as well. Without `normalize`: sums instead of means.
    """
    if inner == "linear":
        return left_product(basis, weighted_sum(parts, normalized(weights) if normalize else weights))
    kept = [trim(part, _threshold(part, density)) for part in parts]
    sign = elected_sign(kept, None, 0)
    sign.masked_fill_(sign == 0, -1 if float(sign.sum(dtype=torch.float64)) < 0 else 1)
    merged = disjoint_merge(kept, sign, weights, weighted_vote=False, divide_by_count=False, normalize=normalize)
    return left_product(basis, merged)


def _threshold(values: Tensor, density: float) -> float:
    """Magnitude from which the int(density x count) + 1 largest entries are kept; 0 keeps all."""
    kept = min(values.numel(), int(density * values.numel()) + 1)
    if density >= 1 or not values.numel():
        return 0.0
    return float(values.abs().flatten().kthvalue(values.numel() - kept + 1).values)


def _recombined(parts: Sequence[Triplets], values: Tensor, tolerance: float) -> Tensor:
    """U' diag(values) V'^T, U' and V' the nearest matrices of orthonormal columns; float32 (rows, columns)."""
    left = torch.cat([part[0] for part in parts], dim=1)
    right = torch.cat([part[2] for part in parts])
    inner = inverse_root(left.T @ left, tolerance) * values @ inverse_root(right @ right.T, tolerance)
    return left_product(left @ inner, right)
