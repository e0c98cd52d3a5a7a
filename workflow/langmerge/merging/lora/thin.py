"""Arithmetic on matrices given as products M = L R of thin factors, L (rows, k) and R (k, columns).

Nothing here makes a matrix of the size of M; results are float64. With the QR decompositions L = Q_L T_L and
R^T = Q_R T_R, M = Q_L (T_L T_R^T) Q_R^T: norms and singular values are those of the k x k core.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

Product = tuple[Tensor, Tensor]
"""The thin factors (L, R)."""

CHUNK = 1 << 17
"""Elements of a product computed at a time: float64 temporaries that stay in a core's cache."""


def elements(product: Product, start: int, count: int, base: Tensor | None = None) -> Tensor:
    """Elements start .. start + count - 1 of the flattened base + L R, float32 (count,).

    `base` (count,) holds just those elements. Computed in float64 and rounded once, so the result depends neither on
    the range that is asked for nor on how a product is split over threads.
    """
    left, right = (factor.to(torch.float64) for factor in product)
    columns = right.shape[1]
    result = torch.empty(count, dtype=torch.float32, device=right.device)
    step = max(1, CHUNK // columns)
    end = start + count
    for row in range(start // columns, -(-end // columns) if count else 0, step):
        values = left[row : row + step] @ right
        first, last = max(start, row * columns), min(end, (row + len(values)) * columns)
        part = values.view(-1)[first - row * columns : last - row * columns]
        if base is not None:
            part += base[first - start : last - start]
        result[first - start : last - start] = part
    return result


def total(products: Sequence[Product], weights: Sequence[float]) -> Product:
    """sum_i w_i L_i R_i as one product of added ranks; the weights go into R."""
    left = torch.cat([left.to(torch.float64) for left, _ in products], 1)
    right = torch.cat([right.to(torch.float64) * w for (_, right), w in zip(products, weights, strict=True)])
    return left, right


def gram(products: Sequence[Product]) -> Tensor:
    """Dot products <M_i, M_j> = trace(M_i^T M_j), float64 (n, n)."""
    factors = [(left.to(torch.float64), right.to(torch.float64)) for left, right in products]
    rows = [[((a.T @ c) * (b @ d.T)).sum() for c, d in factors] for a, b in factors]
    return torch.stack([torch.stack(row) for row in rows])


def svd(product: Product) -> tuple[Tensor, Tensor, Tensor]:
    """(U, S, V^T) of L R: U (rows, k), S (k,) in descending order, V^T (k, columns); k <= min(rank, rows, columns)."""
    left, right = (factor.to(torch.float64) for factor in product)
    q_left, t_left = torch.linalg.qr(left)
    q_right, t_right = torch.linalg.qr(right.T)
    u, s, vh = torch.linalg.svd(t_left @ t_right.T, full_matrices=False)
    return q_left @ u, s, vh @ q_right.T


def norm(product: Product) -> float:
    """Euclidean (Frobenius) norm of L R; free of the cancellation that a sum of dot products would suffer."""
    left, right = (factor.to(torch.float64) for factor in product)
    return float(torch.linalg.norm(torch.linalg.qr(left)[1] @ torch.linalg.qr(right.T)[1].T))


def truncated(product: Product, rank: int) -> tuple[Product, float]:
    """The nearest product of at most `rank`, and the share of the squared norm that it keeps.

    By the theorem of Eckart, Young and Mirsky that of the largest singular values. The factors are balanced: each
    gets the square roots of the singular values. The share is 1 for a zero matrix.
    """
    return balanced(*svd(product), rank)


def balanced(u: Tensor, s: Tensor, vh: Tensor, rank: int, energy: float | None = None) -> tuple[Product, float]:
    """(U sqrt(S), sqrt(S) V^T) of the first `rank` singular values, and their share of `energy` (default: sum S^2)."""
    root = s[:rank].sqrt()
    whole = float(s.square().sum()) if energy is None else energy
    share = min(1.0, float(s[:rank].square().sum()) / whole) if whole else 1.0
    return (u[:, :rank] * root, root[:, None] * vh[:rank]), share


def truncated_matrix(matrix: Tensor, rank: int, tolerance: float = 1e-7, sweeps: int = 50) -> tuple[Product, float]:
    """The nearest product of at most `rank` to a matrix (rows, columns), and the share of the squared norm kept.

    Subspace iteration with oversampling (Halko, Martinsson and Tropp 2011, arXiv 0909.4061, algorithm 4.4) and, in each
    sweep, the Rayleigh-Ritz values: it stops once the energy in the first `rank` grows by less than `tolerance` of
    itself. Exact where the smaller dimension is at most 128 or 2 rank + 16, since the subspace is then everything.
    The matrix stays float32 and is read in blocks of rows; the start is the same for equal shapes.
    """
    rows, columns = matrix.shape
    width = min(rows, columns, max(2 * rank + 16, 128))
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(columns, width, generator=generator, dtype=torch.float64).to(matrix.device)
    basis = torch.linalg.qr(start)[0]
    step = max(1, CHUNK // columns) * 16
    blocks = [matrix[row : row + step] for row in range(0, rows, step)]
    energy = sum(float(block.to(torch.float64).square().sum()) for block in blocks)
    before = -1.0
    for sweep in range(sweeps):
        small = basis.to(torch.float32)
        image = torch.cat([block @ small for block in blocks]).to(torch.float64)
        u, s, vh = torch.linalg.svd(image, full_matrices=False)
        kept = float(s[:rank].square().sum())
        if kept - before <= tolerance * kept or sweep == sweeps - 1:
            break
        before = kept
        left = u.to(torch.float32).split(step)
        back = sum((block.T @ part for block, part in zip(blocks, left, strict=True)), torch.zeros_like(small))
        basis = torch.linalg.qr(back.to(torch.float64))[0]
    return balanced(u, s, vh @ basis.T, rank, energy)
