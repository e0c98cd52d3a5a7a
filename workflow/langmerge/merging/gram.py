"""Dot products of equally long float32 vectors, exact to float64: as one vector each, row by row, column by column.

Products of float32 numbers are exact in float64. Work is done in chunks that stay in a core's cache, so the
temporaries are small; sums stay on the device of the vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from langmerge.merging.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 1 << 16
"""Elements of each vector worked on at a time on a CPU."""

_DEVICE_CHUNK = 1 << 22
"""The same on other devices, where starting an operation costs more than memory."""


def gram(vectors: Sequence[Tensor]) -> Tensor:
    """G_ij = x_i . x_j of n vectors of shape (count,): float64 (n, n)."""
    first = vectors[0]
    n, chunk = len(vectors), min(first.numel(), _chunk(first))
    total = torch.zeros(n, n, dtype=torch.float64, device=first.device)
    part = torch.empty(n, chunk, dtype=torch.float64, device=first.device)
    for start in range(0, first.numel(), chunk or 1):
        part = part[:, : first.numel() - start]
        for row, vector in zip(part, vectors, strict=True):
            row.copy_(vector[start : start + chunk])
        total.addmm_(part, part.T)
    return total


def row_grams(vectors: Sequence[Tensor], columns: int) -> Tensor:
    """Dot products within each row of n matrices (rows, columns) given flat: float64 (rows, n, n)."""
    matrices = [vector.view(-1, columns) for vector in vectors]
    at_once = max(1, _chunk(vectors[0]) // columns)
    parts = [
        _pairwise([matrix[start : start + at_once] for matrix in matrices], 1)
        for start in range(0, len(matrices[0]), at_once)
    ]
    return torch.cat(parts)


def column_grams(vectors: Sequence[Tensor], columns: int) -> Tensor:
    """Dot products within each column of n matrices (rows, columns) given flat: float64 (columns, n, n)."""
    matrices = [vector.view(-1, columns) for vector in vectors]
    at_once = max(1, _chunk(vectors[0]) // columns)
    total = vectors[0].new_zeros(columns, len(vectors), len(vectors), dtype=torch.float64)
    for start in range(0, len(matrices[0]), at_once):
        total += _pairwise([matrix[start : start + at_once] for matrix in matrices], 0)
    return total


def _pairwise(matrices: Sequence[Tensor], dim: int) -> Tensor:
    """Dot products along `dim` of n equally shaped matrices: float64 (length of the other dimension, n, n)."""
    n = len(matrices)
    exact = [matrix.to(torch.float64) for matrix in matrices]
    result = exact[0].new_empty(exact[0].shape[1 - dim], n, n)
    for i in range(n):
        for j in range(i + 1):
            result[:, i, j] = result[:, j, i] = (exact[i] * exact[j]).sum(dim)
    return result


def _chunk(vector: Tensor) -> int:
    return CHUNK if vector.device.type == "cpu" else _DEVICE_CHUNK
