"""Statistics of a merge, gathered in the pass that computes it."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from langmerge.merging.block import Block, TaskVector
from langmerge.merging.gathers import gram


class DeltaStatistics:
    """Norms, cosines and sign conflicts of K models' task vectors, per tensor and in all."""

    def __init__(self, models: Sequence[str], base: str) -> None:
        self.models = list(models)
        self.vectors = [TaskVector(model, base) for model in models]
        self._gram: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def add(self, block: Block) -> None:
        """Count one block."""
        deltas = [block.delta(vector) for vector in self.vectors]
        up = torch.zeros(block.count, dtype=torch.bool)
        down = torch.zeros(block.count, dtype=torch.bool)
        for delta in deltas:
            up |= delta > 0
            down |= delta < 0
        counts = torch.stack([(up & down).sum(), (up | down).sum()])
        name = block.tensor
        products = gram(deltas)
        self._gram[name] = self._gram[name] + products if name in self._gram else products
        self._counts[name] = self._counts[name] + counts if name in self._counts else counts

    def tensor(self, name: str) -> dict[str, Any]:
        """Statistics of one tensor; see `describe`."""
        return self.describe(self._gram[name], self._counts[name])

    def total(self) -> dict[str, Any]:
        """Statistics of the whole model; see `describe`."""
        size = len(self.models)
        products = sum(self._gram.values(), torch.zeros(size, size, dtype=torch.float64))
        return self.describe(products, sum(self._counts.values(), torch.zeros(2, dtype=torch.int64)))

    def describe(self, products: Tensor, counts: Tensor) -> dict[str, Any]:
        """Plain dict of a (K, K) Gram matrix and (conflicting, changed) entries.

        delta_norms: model -> Euclidean norm. cosines: K x K rows in the order of the models, None with a zero
        vector. sign_conflict_rate: share of the entries changed by any model that are pulled both up and
        down.
        """
        norms = products.diagonal().clamp(min=0).sqrt().tolist()
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


class OutputStatistics:
    """What a recipe changed from its reference, and what rounding to the output type took back."""

    def __init__(self) -> None:
        self._rows: dict[str, list[float]] = {}

    def add(self, tensor: str, exact: Tensor, rounded: Tensor, reference: Tensor) -> None:
        """Count one block: float32 result, rounded result and the reference's values, each (count,)."""
        change = exact - reference
        after = rounded.to(torch.float32)
        lost = (change != 0) & (after == reference)
        row = self._rows.setdefault(tensor, [0.0] * 5)
        for index, value in enumerate(
            (
                change.abs().sum(dtype=torch.float64),
                (after - exact).abs().sum(dtype=torch.float64),
                change.square().sum(dtype=torch.float64),
                lost.sum(),
                (change != 0).sum(),
            )
        ):
            row[index] += float(value)

    def tensor(self, name: str) -> dict[str, Any]:
        """Statistics of one tensor; see `describe`."""
        return self.describe(self._rows[name])

    def total(self) -> dict[str, Any]:
        """Statistics of the whole model, and the names of the tensors in which no change survived."""
        columns = list(zip(*self._rows.values(), strict=True))
        unchanged = [name for name, row in self._rows.items() if row[4] == row[3]]
        summed = [math.fsum(column) for column in columns] or [0.0] * 5
        return {**self.describe(summed), "unchanged_tensors": unchanged}

    @staticmethod
    def describe(row: Sequence[float]) -> dict[str, Any]:
        """Plain dict of the sums.

        change_norm: Euclidean norm of merged - reference. rounding_loss: sum |rounded - exact| over
        sum |merged - reference|. vanished: share of the changed entries that rounding set back to the
        reference.
        """
        change, rounding, square, vanished, changed = row
        return {
            "change_norm": math.sqrt(square),
            "rounding_loss": rounding / change if change else 0.0,
            "vanished": vanished / changed if changed else 0.0,
        }
