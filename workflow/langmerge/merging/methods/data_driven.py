"""Averages weighted by what was measured of each model on data: Fisher information, Gram matrices of inputs.

Both are written as the first model (or the average) plus a weighted sum of differences, so that equal models are
recovered to the last bit whatever was measured of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from langmerge.merging.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def fisher_average(
    models: Sequence[Tensor],
    informations: Sequence[Tensor],
    weights: Sequence[float],
    scales: Sequence[float],
    floor: float,
) -> Tensor:
    """sum_i a_i m_i / sum_i a_i with a_i = w_i (s_i F_i + floor), entry by entry; a new tensor.

    Matena and Raffel 2022, arXiv 2111.09832, equation 4. F_i >= 0 is the diagonal Fisher information of model i,
    s_i what makes the models' comparable (see `fisher_scales`), floor > 0. Where all F_i are far below the floor
    the result is the average with weights w_i (>= 0, not all zero). All tensors of one shape; any will do.
    """
    importance = [
        torch.add(torch.full_like(information, floor * weight), information, alpha=scale * weight)
        for information, weight, scale in zip(informations, weights, scales, strict=True)
    ]
    total = importance[0].clone()
    for each in importance[1:]:
        total += each
    merged = models[0].clone()
    for model, each in zip(models[1:], importance[1:], strict=True):
        merged += each.div_(total).mul_(model - models[0])
    return merged


def fisher_scales(norms: Sequence[float], means: Sequence[float], normalize: bool) -> list[float]:
    """Factors s_i of `fisher_average` from the Euclidean norm and the mean entry of each model's information.

    s_i is 1 / norm_i with `normalize`, else 1, and then divided by what makes the mean of s_i F_i over entries and
    models 1, so that the floor is relative: only ratios of informations matter. A model whose information is zero
    everywhere counts with the floor alone (s_i = 0).
    """
    scales = [(1.0 / norm if norm > 0 else 0.0) if normalize else 1.0 for norm in norms]
    unit = sum(scale * mean for scale, mean in zip(scales, means, strict=True)) / len(scales)
    return [scale / unit if unit > 0 else 0.0 for scale in scales]


def average(models: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum_i w_i m_i / sum_i w_i as m_1 + sum_i w_i (m_i - m_1) / sum_i w_i; a new tensor of the models' type."""
    total = sum(weights)
    mean = models[0].clone()
    for model, weight in zip(models[1:], weights[1:], strict=True):
        mean.add_(model - models[0], alpha=weight / total)
    return mean


def shrunk(gram: Tensor, off_diagonal: float) -> Tensor:
    """The Gram matrix (d, d) with its entries outside the diagonal times `off_diagonal`; a new tensor.

    Jin et al. 2023, arXiv 2212.09849, section 3.2. A convex combination of the matrix and its diagonal, so it stays
    positive semidefinite; below 1 it is definite wherever every input feature occurs. At 1, with fewer tokens than
    features, only the ridge keeps the sum regular, and it should stand above the rounding of the matrices (1e-4).
    """
    diagonal = gram.diagonal().clone()
    result = gram * off_diagonal
    result.diagonal().copy_(diagonal)
    return result


def ridge_factor(grams: Sequence[Tensor], weights: Sequence[float], ridge: float) -> Tensor | None:
    """Cholesky factor, float64 (d, d), of S = sum_i w_i G_i + ridge mean(diag) I; None where all G_i are zero.

    Rounding can leave a sum of float32 matrices with eigenvalues just below zero; the ridge is then multiplied by
    10 until the factor exists.
    """
    total = grams[0].to(torch.float64) * weights[0]
    for gram, weight in zip(grams[1:], weights[1:], strict=True):
        total += gram.to(torch.float64) * weight
    unit = float(total.diagonal().mean())
    if unit <= 0:
        return None
    added = ridge * unit
    total.diagonal().add_(added)
    while True:
        factor, failed = torch.linalg.cholesky_ex(total)
        if not failed:
            return factor
        total.diagonal().add_(9 * added)
        added *= 10


def regression_mean(
    models: Sequence[Tensor], grams: Sequence[Tensor], weights: Sequence[float], factor: Tensor | None
) -> Tensor:
    """RegMean of rows of n weights W_i (rows, d), float32; a new tensor.

    The M that minimises sum_i w_i |X_i M^T - X_i W_i^T|^2 + r |M - A|^2, A = sum_i w_i W_i / sum_i w_i, for inputs
    X_i with G_i = X_i^T X_i (d, d) and r the ridge inside `factor` (see `ridge_factor`):
    M = A + sum_i w_i (W_i - A) G_i S^-1. Without the ridge this is Jin et al. 2023, arXiv 2212.09849, equation 2, with
    rows for outputs; with it, directions in which no model has inputs keep the average. Rows do not depend on one
    another. Solved in float64. `factor` None gives the average.
    """
    mean = average([model.to(torch.float64) for model in models], weights)
    if factor is None:
        return mean.to(torch.float32)
    right = torch.zeros_like(mean)
    for model, gram, weight in zip(models, grams, weights, strict=True):
        right += (model.to(torch.float64) - mean) @ gram.to(torch.float64) * weight
    return (mean + torch.cholesky_solve(right.T, factor).T).to(torch.float32)
