"""WUDI: a merged task matrix that disturbs no task's own input directions, found by gradient descent.

Cheng et al. 2025, arXiv 2503.08099. Input directions of a linear layer are seen through its task matrix: the
rows of d_i (rows, columns) span them, columns being the layer's inputs. The loss of a merged matrix d is

    L(d) = sum_i w_i |(d - d_i) d_i^T|^2 / |d_i|^2   (Frobenius norms),

and with C = sum_i w_i d_i^T d_i / |d_i|^2, B = sum_i w_i d_i d_i^T d_i / |d_i|^2 its gradient is 2 (d C - B):
one product a step whatever n is, and rows of d independent of one another. Tasks whose matrix is zero take
no part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from langmerge.merging.lazy import torch
from langmerge.merging.methods.spectra import Spectrum, directions, eigenpairs, gram_of_rows, left_product

if TYPE_CHECKING:
    from torch import Tensor

BETAS = (0.9, 0.999)
"""Adam's decay rates of the mean and of the mean square of the gradient."""

EPSILON = 1e-8
"""What Adam adds to the root of the mean square. It counts: these gradients are about as small."""

PIECE = 1 << 22
"""Elements of d that are optimised at a time: rows do not depend on one another."""


@dataclass(frozen=True)
class Quadratic:
    """L(d) = tr(d C d^T) - 2 tr(d B^T) + constant, with `target` = B (rows, columns).

    `factor` is C (columns, columns) or, where it is cheaper to apply, its root T (R, columns), C = T^T T:
    `is_root`, for tasks of low rank, 2 R < columns.
    """

    target: Tensor
    factor: Tensor
    is_root: bool

    def applied(self, d: Tensor) -> Tensor:
        """D C."""
        return (d @ self.factor.T) @ self.factor if self.is_root else d @ self.factor

    def full(self) -> Tensor:
        """C in float64."""
        return gram_of_rows(self.factor.T) if self.is_root else self.factor.to(torch.float64)


def quadratic(
    matrices: Sequence[Tensor],
    spectra: Sequence[Spectrum],
    weights: Sequence[float],
    dtype: torch.dtype | None = None,
) -> Quadratic:
    """B and C of n task matrices (rows, columns) with their spectra, in `dtype`, by default float32.

    Sums of products are in float64.
    """
    dtype = dtype or torch.float32
    columns, like = matrices[0].shape[1], matrices[0].to(dtype)
    known = [(m, s, w) for m, s, w in zip(matrices, spectra, weights, strict=True) if len(s.values) and w]
    target = torch.zeros_like(like)
    if 2 * sum(len(s.values) for _, s, _ in known) < columns:
        rows = [like.new_zeros(0, columns)]
        for matrix, own, weight in known:
            left, values, right = directions(matrix, own, len(own.values))
            squared = float(values.square().sum())
            rows.append((right * (values * math.sqrt(weight / squared))[:, None]).to(dtype))
            target += left_product(left * (values**3 * (weight / squared)), right, dtype)
        return Quadratic(target, torch.cat(rows), is_root=True)
    product = like.new_zeros(columns, columns)
    for matrix, own, weight in known:
        share = gram_of_rows(matrix.T).mul_(weight / float(own.values.square().sum())).to(dtype)
        product += share
        target.addmm_(matrix.to(dtype), share)
    return Quadratic(target, product, is_root=False)


def descend(start: Tensor, loss: Quadratic, steps: int, learning_rate: float) -> Tensor:
    """d after `steps` of Adam from `start` (the released code: the sum of the task matrices); a new tensor.

    Adam as Kingma and Ba 2015 (arXiv 1412.6980, algorithm 1) without weight decay, its gradient in closed
    form. Every entry moves by at most about `learning_rate` a step. Nothing is random.
    """
    result = torch.empty_like(start)
    height = max(256, PIECE // max(1, start.shape[1]))
    for first in range(0, len(start), height):
        rows = slice(first, first + height)
        part = replace(loss, target=loss.target[rows])
        result[rows] = _adam(start[rows].clone(), part, steps, learning_rate)
    return result


def _adam(d: Tensor, loss: Quadratic, steps: int, learning_rate: float) -> Tensor:
    mean, square = torch.zeros_like(d), torch.zeros_like(d)
    for step in range(1, steps + 1):
        gradient = loss.applied(d).sub_(loss.target).mul_(2)
        mean.lerp_(gradient, 1 - BETAS[0])
        square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        torch.sqrt(square, out=gradient).div_(math.sqrt(1 - BETAS[1] ** step)).add_(EPSILON)
        d.addcdiv_(mean, gradient, value=-learning_rate / (1 - BETAS[0] ** step))
    return d


def minimum(start: Tensor, loss: Quadratic, tolerance: float) -> Tensor:
    """The d of least loss that is nearest to `start`: start + (B - start C) C^+; where descent would end.

    C^+ is the pseudo-inverse over eigenvalues above tolerance^2 x the largest (tolerance is that of singular
    values of the d_i, and `loss` is best held in float64). Unlike a few steps of Adam it needs no learning
    rate and commutes with rotations.
    """
    full = loss.full()
    vectors, roots = eigenpairs(full, tolerance)
    rest = loss.target.to(torch.float64).addmm(start.to(torch.float64), full, alpha=-1)
    return (start + (rest @ (vectors / roots.square())) @ vectors.T).to(start.dtype)
