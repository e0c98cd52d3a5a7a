"""Singular values and vectors of task matrices, through the Gram matrix of their shorter side in float64.

A task matrix is float32, (rows, columns). Its singular vectors on the shorter side are the eigenvectors of
X X^T (X the matrix, transposed if it is tall), those on the longer side follow from X^T u / sigma. The Gram
matrix is summed in float64, where squaring costs nothing that the float32 entries hold: a singular value is
off by about 1e-8 of the largest one (float32 SVD: 1e-7), a vector by 1e-16 sigma_1^2 / (sigma_i gap). So only
singular values above `tolerance` times the largest count, with tolerance >= SMALLEST_TOLERANCE.

What is below is no direction of the matrix but rounding: a LoRA update of rank 8 has 8 singular vectors, and
nothing here depends on the arbitrary ones that an SVD adds to fill up min(rows, columns). A zero matrix has
none. All functions work on the device of their arguments and turn small pieces at a time into float64.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from langmerge.merging.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST_TOLERANCE = 1e-7
"""Below this share of the largest singular value the Gram matrix in float64 tells nothing any more."""

PIECE = 1 << 20
"""Elements of a matrix that are turned into float64 at a time (in pieces at least 256 wide)."""


class Spectrum(NamedTuple):
    """The singular values (r,) of a matrix, descending, and its singular vectors (shorter side, r); float64.

    The vectors are those on the left if the matrix has no more rows than columns, else those on the right.
    """

    short: Tensor
    values: Tensor


def short_side(matrix: Tensor) -> Tensor:
    """The matrix, or its transpose (a view) if it has more rows than columns."""
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T


def gram_of_rows(matrix: Tensor) -> Tensor:
    """X X^T in float64, (rows, rows)."""
    total = torch.zeros(len(matrix), len(matrix), dtype=torch.float64, device=matrix.device)
    for piece in _column_pieces(matrix):
        wide = matrix[:, piece].to(torch.float64)
        total.addmm_(wide, wide.T)
    return total


def eigenpairs(gram: Tensor, tolerance: float) -> Spectrum:
    """Eigenvectors of a Gram matrix and the roots of its eigenvalues, those above tolerance x the largest."""
    values, vectors = torch.linalg.eigh(gram)
    roots = values.clamp_(min=0).sqrt_().flip(0)
    rank = int((roots > tolerance * roots[:1]).sum())
    return Spectrum(vectors.flip(1)[:, :rank], roots[:rank])


def spectrum(matrix: Tensor, tolerance: float) -> Spectrum:
    """The numerically non-zero part of the spectrum of a matrix (rows, columns)."""
    return eigenpairs(gram_of_rows(short_side(matrix)), tolerance)


def directions(matrix: Tensor, known: Spectrum, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first `count` singular triplets, or as many as there are: U (rows, c), sigma (c,), V^T (c, columns).

    In float64, U diag(sigma) V^T being the best approximation of rank c to `matrix`, whose spectrum is `known`.
    """
    short, values = known.short[:, :count], known.values[:count]
    long = torch.empty(len(values), max(matrix.shape), dtype=torch.float64, device=matrix.device)
    wide = short_side(matrix)
    for piece in _column_pieces(wide):
        long[:, piece] = short.T @ wide[:, piece].to(torch.float64)
    long /= values[:, None]
    return (short, values, long) if matrix.shape[0] <= matrix.shape[1] else (long.T, values, short.T)


def polar_factor(matrix: Tensor, known: Spectrum) -> Tensor:
    """U V^T of the matrix whose spectrum is `known`: all its non-zero singular values become 1. float32."""
    isometry = left_product((known.short / known.values) @ known.short.T, short_side(matrix))
    return isometry if matrix.shape[0] <= matrix.shape[1] else isometry.T


def left_product(factor: Tensor, matrix: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """F X, (p, columns), for a float64 factor F (p, rows) and a matrix X (rows, columns); by default in float32."""
    result = torch.empty(len(factor), matrix.shape[1], dtype=dtype or torch.float32, device=matrix.device)
    for piece in _column_pieces(matrix):
        result[:, piece] = factor @ matrix[:, piece].to(torch.float64)
    return result


def projected_out(matrix: Tensor, basis: Tensor) -> Tensor:
    """X - B B^T X for orthonormal columns B (rows, c) in float64: what X does outside of their span. float32."""
    result = torch.empty_like(matrix)
    for piece in _column_pieces(matrix):
        wide = matrix[:, piece].to(torch.float64)
        result[:, piece] = wide.addmm_(basis, basis.T @ wide, alpha=-1)
    return result


def inverse_root(gram: Tensor, tolerance: float) -> Tensor:
    """G^(-1/2) of a Gram matrix, on the span of its eigenvectors above tolerance (as singular values).

    X G^(-1/2) with G = X^T X is then the matrix nearest to X among those of orthonormal columns (Procrustes),
    and where columns of X depend on one another the partial isometry on their span, the one solution that
    adds no arbitrary direction: two equal columns x, x become x / sqrt 2 twice.
    """
    vectors, roots = eigenpairs(gram, tolerance)
    return (vectors / roots) @ vectors.T


def _column_pieces(matrix: Tensor) -> Iterable[slice]:
    width = max(256, PIECE // max(1, len(matrix)))
    return (slice(start, start + width) for start in range(0, matrix.shape[1], width))
