"""Statistics of a merge, gathered in the pass that computes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from langmerge.merging.block import Block, TaskVector
from langmerge.merging.elements import Array, on_cpu
from langmerge.merging.fused import loops
from langmerge.merging.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


class DeltaStatistics:
    """Norms, cosines and sign conflicts of K models' task vectors, per tensor and in all."""

    def __init__(self, models: Sequence[str], base: str) -> None:
        self.models = list(models)
        self.base = base
        self.vectors = [TaskVector(model, base) for model in models]
        self._gram: dict[str, Array | Tensor] = {}
        self._counts: dict[str, Array | Tensor] = {}

    def add(self, block: Block) -> None:
        """Count one block."""
        name = block.tensor
        if loops.usable(block.device):
            found: tuple[Any, Any] = loops.describe(block, loops.plains(block, self.models, self.base))
        else:
            deltas = [block.delta(vector) for vector in self.vectors]
            found = _products(deltas), _signs(deltas)
        for store, part in zip((self._gram, self._counts), found, strict=True):
            store[name] = store[name] + part if name in store else part

    def state(self, name: str) -> list[Any]:
        """What was counted of one tensor, as plain numbers."""
        return [self._gram[name].tolist(), self._counts[name].tolist()] if name in self._gram else []

    def restore(self, name: str, state: list[Any]) -> None:
        """Take back what `state` gave."""
        if state:
            self._gram[name], self._counts[name] = (np.array(part, np.float64) for part in state)

    def tensor(self, name: str) -> dict[str, Any]:
        """Statistics of one tensor; see `describe`."""
        return self.describe(on_cpu(self._gram[name]), on_cpu(self._counts[name]))

    def total(self) -> dict[str, Any]:
        """Statistics of the whole model; see `describe`."""
        size = len(self.models)
        products = sum((on_cpu(gram) for gram in self._gram.values()), np.zeros((size, size)))
        counts = sum((on_cpu(pair) for pair in self._counts.values()), np.zeros(2))
        return self.describe(products, counts)

    def describe(self, products: Array, counts: Array) -> dict[str, Any]:
        """Plain dict of a (K, K) Gram matrix and (conflicting, changed) entries.

        delta_norms: model -> Euclidean norm. cosines: K x K rows in the order of the models, None with a zero
        vector. sign_conflict_rate: share of the entries changed by any model that are pulled both up and
        down.
        """
        norms = np.sqrt(products.diagonal().clip(min=0)).tolist()
        rows = products.tolist()
        size = len(norms)
        cosines = [
            [rows[i][j] / (norms[i] * norms[j]) if norms[i] and norms[j] else None for j in range(size)]
            for i in range(size)
        ]
        conflicting, changed = counts.tolist()
        return {
            "delta_norms": dict(zip(self.models, norms, strict=True)),
            "cosines": cosines,
            "sign_conflict_rate": conflicting / changed if changed else 0.0,
        }


def _products(deltas: Sequence[Tensor]) -> Tensor:
    """Dot products of K vectors (count,), float64 (K, K); each summed in float32, so about 1e-7 off.

    Where a square of finite values is too large for that, all are summed in float64.
    """
    size = len(deltas)
    upper = [[torch.dot(deltas[i], deltas[j]) for j in range(i, size)] for i in range(size)]
    rows = [torch.stack([upper[min(i, j)][abs(i - j)] for j in range(size)]) for i in range(size)]
    products = torch.stack(rows)
    if products.dtype == torch.float32 and not torch.isfinite(products).all():
        return _products([delta.to(torch.float64) for delta in deltas])
    return products.to(torch.float64)


def _signs(deltas: Sequence[Tensor]) -> Tensor:
    """Numbers of entries (pulled both up and down, changed at all) of K vectors (count,), float64 (2,).

    In float arithmetic throughout: on a CPU it is several times faster than comparisons and booleans.
    """
    highest, lowest = deltas[0], deltas[0]
    if len(deltas) > 1:
        highest, lowest = torch.maximum(deltas[0], deltas[1]), torch.minimum(deltas[0], deltas[1])
        for delta in deltas[2:]:
            torch.maximum(highest, delta, out=highest)
            torch.minimum(lowest, delta, out=lowest)
    up, down = highest.sign().clamp_(min=0), lowest.sign().clamp_(max=0)
    conflicting = -torch.dot(up, down)
    return torch.stack([conflicting, up.sum() - down.sum() - conflicting]).to(torch.float64)


class OutputStatistics:
    """What a recipe changed from its reference, and what rounding to the output type took back."""

    def __init__(self) -> None:
        self._rows: dict[str, Array | Tensor] = {}

    def add(self, tensor: str, exact: Tensor, rounded: Tensor, reference: Tensor) -> None:
        """Count one block: float32 result, rounded result and the reference's values, each (count,).

        Sums are in float32 within the block, so about 1e-7 off; in float64 where that overflows.
        """
        row = _sums(exact, rounded, reference)
        if not torch.isfinite(row).all():
            row = _sums(exact.to(torch.float64), rounded, reference.to(torch.float64))
        self.add_sums(tensor, row)

    def add_sums(self, tensor: str, row: Array | Tensor) -> None:
        """Count one block by its sums, float64 (5,)."""
        self._rows[tensor] = self._rows[tensor] + row if tensor in self._rows else row

    def state(self, name: str) -> list[float]:
        """What was counted of one tensor, as plain numbers."""
        return self._rows[name].tolist() if name in self._rows else []

    def restore(self, name: str, state: list[float]) -> None:
        """Take back what `state` gave."""
        if state:
            self._rows[name] = np.array(state, np.float64)

    def tensor(self, name: str) -> dict[str, Any]:
        """Statistics of one tensor; see `describe`."""
        return self.describe(self._rows[name].tolist())

    def total(self) -> dict[str, Any]:
        """Statistics of the whole model, and the names of the tensors in which no change survived."""
        rows = {name: row.tolist() for name, row in self._rows.items()}
        summed = [math.fsum(column) for column in zip(*rows.values(), strict=True)] or [0.0] * 5
        return {**self.describe(summed), "unchanged_tensors": [name for name, row in rows.items() if not row[3]]}

    @staticmethod
    def describe(row: Sequence[float]) -> dict[str, Any]:
        """Plain dict of the sums.

        change_norm: Euclidean norm of merged - reference. rounding_loss: sum |rounded - exact| over
        sum |merged - reference|. vanished: share of the changed entries that rounding set back to the
        reference.
        """
        change, rounding, square, survived, changed = row
        return {
            "change_norm": math.sqrt(square),
            "rounding_loss": rounding / change if change else 0.0,
            "vanished": 1.0 - survived / changed if changed else 0.0,
        }


def _sums(exact: Tensor, rounded: Tensor, reference: Tensor) -> Tensor:
    """Of a block, float64 (5,): |change|, |rounding|, change^2, changes that survive rounding, changes.

    The sums are computed in the type of `exact`.
    """
    change = exact - reference
    after = rounded.to(exact.dtype)
    square = torch.dot(change, change)
    # Comparisons that yield 0.0 and 1.0 take a quarter of the time of booleans on a CPU; sums of so few are exact.
    changed, kept = torch.empty_like(exact), torch.empty_like(exact)
    torch.ne(exact, reference, out=changed)
    torch.ne(after, reference, out=kept)
    survived = torch.dot(changed, kept)
    rounding = (after.sub_(exact) if after is not exact and after is not rounded else after - exact).abs_().sum()
    return torch.stack([change.abs_().sum(), rounding, square, survived, changed.sum()]).to(torch.float64)
