"""Singular values and subspaces of N task matrices at once, from products that add up over blocks.

For matrices T_i with a longer and a shorter side, A_i is T_i or its transpose, [long, short]. All that the measures
need of the singular vectors follows from the products X_ij = A_i' A_j [short, short]: with X_ii = V S^2 V', the vectors
of the short side are V and those of the long side A V / S, whose inner products are S_i^-1 V_i' X_ij V_j S_j^-1. So no
matrix is ever held whole. The first S of the N are specialists; X_ij is kept where i is one or i = j.

Squaring loses what is small: singular values below about sqrt(eps * short) of the largest are taken for 0. Float64 up
to :data:`DOUBLE` on the short side, float32 above, where an eigendecomposition takes seconds on a CPU and much less on
a GPU. :class:`Sketch` keeps q directions instead: X_ij is only ever multiplied by q random vectors, sharpened by power
iterations (Halko, Martinsson and Tropp, arXiv 0909.4061).
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

DOUBLE = 1024  # longest short side that is computed in float64
RANK = 128  # directions of a sketch
ITERATIONS = 3  # of its subspace iteration
SHARE = 0.95  # of the Frobenius norm that a subspace holds

Side = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("left", "right")
Blocks = Callable[[], Iterable[Tensor]]
"""Gives fp32 blocks [N, rows, columns] of the task matrices, cut along the longer side, as often as it is called."""


def share_rank(values: Tensor, square: float, share: float = SHARE) -> int:
    """The least k with sqrt(sum_{r<=k} s_r^2 / ||T||_F^2) > ``share`` (Marczak et al., arXiv 2502.04959).

    ``values`` are descending singular values; all of them if they do not hold so much; 0 for a matrix of zeros.
    """
    if not len(values) or not square > 0:
        return 0
    reached = (values.double().square().cumsum(0) / square).sqrt() > share
    return int(reached.to(torch.int8).argmax()) + 1 if bool(reached.any()) else len(values)


class Frames(abc.ABC):
    """The singular subspaces of N matrices [rows, columns], by how they lie to each other.

    ``values``: singular values above rounding, descending, one tensor a matrix (a sketch: at most q). ``squares`` [N]:
    the squared Frobenius norms. ``complete``: whether all singular values are known.
    """

    def __init__(self, shape: tuple[int, ...], squares: Tensor, complete: bool) -> None:
        self.rows, self.columns = shape
        self.squares, self.complete = squares, complete
        self.values: list[Tensor] = []

    @property
    def short(self) -> int:
        """The smaller dimension: the largest possible rank."""
        return min(self.rows, self.columns)

    @functools.cached_property
    def ranks(self) -> list[int]:
        """:func:`share_rank` of each matrix."""
        return [share_rank(values, float(square)) for values, square in zip(self.values, self.squares, strict=True)]

    def dimension(self, side: Side) -> int:
        """Length of the singular vectors: rows for the left ones, columns for the right."""
        return self.rows if side == "left" else self.columns

    def is_short(self, side: Side) -> bool:
        """Whether a side is the one that the products do not sum over."""
        return (side == "right") == (self.rows >= self.columns)

    @abc.abstractmethod
    def inner(self, side: Side, i: int, j: int, ki: int, kj: int) -> Tensor:
        """U_i' U_j [ki, kj] of the leading singular vectors of a side, for specialists i (or i = j)."""

    @abc.abstractmethod
    def captured(self, side: Side, i: int, j: int, k: int) -> float:
        """||U_j' T_i||_F^2: how much of specialist i lies in the k leading directions of j on a side."""


def _eigen(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values, descending, and vectors of a matrix from its product with itself; only what is not rounding."""
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(-1), vectors.flip(-1)
    real = values > torch.finfo(gram.dtype).eps * len(values) * values[0].clamp(min=0)
    return values[real].sqrt(), vectors[:, real]


def _long_first(block: Tensor, flip: bool, dtype: torch.dtype) -> Tensor:
    return (block.mT if flip else block).to(dtype)


def _pairs(n: int, specialists: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(n) for j in range(i, n) if i < specialists or i == j]


def working_type(shape: Sequence[int]) -> torch.dtype:
    """The arithmetic of a matrix's products: see the module."""
    return torch.float64 if min(shape) <= DOUBLE else torch.float32


class Exact(Frames):
    """All directions, from the products of all pairs: S (2 N - S + 1) / 2 + N - S matrices [short, short]."""

    def __init__(self, blocks: Blocks, shape: tuple[int, ...], specialists: int) -> None:
        dtype, flip = working_type(shape), shape[0] < shape[1]
        self._cross: dict[tuple[int, int], Tensor] = {}
        for block in blocks():
            a = _long_first(block, flip, dtype)
            for i, j in _pairs(len(a), specialists):
                product = a[i].mT @ a[j]
                if (i, j) in self._cross:
                    self._cross[i, j] += product
                else:
                    self._cross[i, j] = product
        n = max(j for _, j in self._cross) + 1
        super().__init__(shape, torch.stack([self._cross[i, i].trace() for i in range(n)]), complete=True)
        self._vectors: list[Tensor] = []
        for i in range(n):
            values, vectors = _eigen(self._cross[i, i])
            self.values.append(values)
            self._vectors.append(vectors)

    def _product(self, i: int, j: int) -> Tensor:
        return self._cross[i, j] if (i, j) in self._cross else self._cross[j, i].mT

    def _scaled(self, i: int, k: int) -> Tensor:
        return self._vectors[i][:, :k] / self.values[i][:k]

    def inner(self, side: Side, i: int, j: int, ki: int, kj: int) -> Tensor:
        """See :class:`Frames`."""
        if self.is_short(side):
            return self._vectors[i][:, :ki].mT @ self._vectors[j][:, :kj]
        return self._scaled(i, ki).mT @ self._product(i, j) @ self._scaled(j, kj)

    def captured(self, side: Side, i: int, j: int, k: int) -> float:
        """See :class:`Frames`."""
        if self.is_short(side):
            v = self._vectors[j][:, :k]
            return float((v * (self._cross[i, i] @ v)).sum())
        return float((self._scaled(j, k).mT @ self._product(j, i)).square().sum())


class Sketch(Frames):
    """The q leading directions of each matrix.

    Memory: N^2 matrices [q, short]; passes over the blocks: ``iterations`` + 1.
    """

    def __init__(
        self, blocks: Blocks, shape: tuple[int, ...], specialists: int, q: int = RANK, seed: int = 0,
        iterations: int = ITERATIONS,
    ) -> None:  # fmt: skip
        dtype, flip, short = working_type(shape), shape[0] < shape[1], min(shape)
        q = min(q, short)
        start = torch.randn(short, q, generator=torch.Generator().manual_seed(seed), dtype=dtype)
        bases: Tensor | None = None  # [N, short, q]
        for _ in range(iterations):
            image: Tensor | None = None
            for block in blocks():
                a = _long_first(block, flip, dtype)
                if bases is None:
                    bases = start.to(a.device).expand(len(a), -1, -1)
                step = a.mT @ (a @ bases)
                image = step if image is None else image + step
            assert image is not None
            bases = torch.linalg.qr(image)[0]
        assert bases is not None
        n = len(bases)
        # With B_j = A_j W_j: B_j' A_i [q, short] and (A_i W_j)' (A_i W_j) [q, q]
        self._across: dict[tuple[int, int], Tensor] = {}
        self._within: dict[tuple[int, int], Tensor] = {}
        squares = bases.new_zeros(n, dtype=torch.float64)
        for block in blocks():
            a = _long_first(block, flip, dtype)
            squares += a.double().square().sum((1, 2))
            own = a @ bases
            for i in range(n):
                for j in range(n):
                    if i < specialists or i == j:
                        _add(self._across, (j, i), own[j].mT @ a[i])
                        image = a[i] @ bases[j]
                        _add(self._within, (i, j), image.mT @ image)
                    elif j < specialists:
                        _add(self._across, (j, i), own[j].mT @ a[i])
        super().__init__(shape, squares, complete=False)
        self._bases, self._rotations = bases, []
        for i in range(n):
            values, rotation = _eigen(self._within[i, i])
            self.values.append(values)
            self._rotations.append(rotation)

    def _vectors(self, i: int, k: int) -> Tensor:
        return self._bases[i] @ self._rotations[i][:, :k]

    def _scaled(self, i: int, k: int) -> Tensor:
        return self._rotations[i][:, :k] / self.values[i][:k]

    def inner(self, side: Side, i: int, j: int, ki: int, kj: int) -> Tensor:
        """See :class:`Frames`."""
        if self.is_short(side):
            return self._vectors(i, ki).mT @ self._vectors(j, kj)
        return self._scaled(i, ki).mT @ self._across[i, j] @ self._bases[j] @ self._scaled(j, kj)

    def captured(self, side: Side, i: int, j: int, k: int) -> float:
        """See :class:`Frames`."""
        if self.is_short(side):
            rotation = self._rotations[j][:, :k]
            return float((rotation * (self._within[i, j] @ rotation)).sum())
        return float((self._scaled(j, k).mT @ self._across[j, i]).square().sum())


def _add(sums: dict[tuple[int, int], Tensor], key: tuple[int, int], value: Tensor) -> None:
    sums[key] = sums[key] + value if key in sums else value
