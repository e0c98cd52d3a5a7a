"""Which entries of a tensor differ most between models, and how large their changes are: SCE's first two steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from langmerge.merging.block import Block
from langmerge.merging.elements import Array, on_cpu
from langmerge.merging.fused import loops
from langmerge.merging.fused.library import Vector
from langmerge.merging.gathers import Gather
from langmerge.merging.histograms import LOW_BITS, Histogram, magnitude_of
from langmerge.merging.lazy import torch
from langmerge.merging.methods import choices
from langmerge.merging.shares import Cut

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 1 << 25
"""Entries of a tensor up to which its variances are kept for the merge: 128 MiB."""

AROUND = 2
"""Bins on both sides of the expected threshold whose entries are kept; a bin is 1/128 of its values wide."""


@dataclass(frozen=True)
class _Look:
    """What is known of one block: entries in bins low .. high, and the sum of each model's squares above them."""

    low: int
    high: int
    above: list[float]
    indices: Array  # (m,), in the flattened tensor, ascending
    variances: Array  # (m,)
    squares: Array  # (models, m), of their changes


class Variances(Gather):
    """Of one tensor: the cut of the largest variances over the models, and the mean squares of what it keeps.

    The share `select_topk` of the entries of unequal values is kept, rounded down; of equal variances those of
    lowest index. Variances below 5e-41 count as 0.

    The first round counts the variances in bins and keeps the few entries near the threshold that is expected
    from the blocks so far; the second looks again at those blocks for which that proved wrong, mostly none. So the
    result is exact, and each entry is mostly read once.
    """

    def __init__(self, needs: Iterable[Gather], models: Sequence[str], base: str, select_topk: float) -> None:
        super().__init__("tensor", needs)
        self._models = tuple(models)
        self._base = base
        self._select_topk = select_topk

    @property
    def rounds(self) -> int:  # type: ignore[override]
        """Two; one if everything is kept."""
        return 2 if self._select_topk < 1 else 1

    def begin(self) -> None:
        """See the base class."""
        self._histogram = Histogram()
        self._looks: dict[int, _Look] = {}
        self._kept: dict[int, Array | Tensor] = {}
        self._entries = 0
        self._squares = np.zeros(len(self._models))
        self._expected = 0
        self._rank = 0
        self._bin = 0
        self.cut = Cut(math.inf)

    def update(self, index: int, block: Block) -> None:
        """See the base class."""
        if index == 1:
            look = self._looks[block.start]
            if self._rank and not look.low <= self._bin <= look.high:
                self._looks[block.start] = self._look(block, self._bin, self._bin)
            return
        self._entries += block.count
        if self._select_topk >= 1:
            if loops.usable(block.device):
                self._squares += loops.describe(block, self._vectors(block))[0].diagonal()
            else:
                self._squares += self._sums(block, None)
            return
        self._variances(block, count=True)
        blocks = len(self._looks)
        if blocks & (blocks - 1) == 0:  # 0, 1, 2, 4, 8 ... blocks before this one: expectations settle
            self._expected = self._locate()[1]
        self._looks[block.start] = self._look(block, max(1, self._expected - AROUND), self._expected + AROUND)

    def end(self, index: int) -> None:
        """See the base class."""
        if self._select_topk >= 1:
            return
        if index == 0:
            self._rank, self._bin, self._inside = self._locate()
        elif self._rank:
            self._select()

    @property
    def mean_squares(self) -> list[float]:
        """Mean over the tensor of each model's squared changes, those not selected counted as 0."""
        return (self._squares / self._entries).tolist()

    def selected(self, block: Block) -> Tensor | None:
        """float32 mask of the selected entries; None: all are."""
        if self._select_topk >= 1:
            return None
        last = self.cut.last_index
        return choices.above(self._variances(block), self.cut.threshold, None if last is None else last - block.start)

    def fused(self, block: Block) -> tuple[Array | None, Cut]:
        """Scores of the entries and the cut that selects them, for the loops; None: all are selected."""
        return None if self._select_topk >= 1 else self._variances(block), self.cut

    def _locate(self) -> tuple[int, int, int]:
        """(how many are selected of what was counted so far, bin of the last of them, its rank in the bin)."""
        unequal = int(self._histogram.high.sum()) - int(self._histogram.high[0])
        rank = int(self._select_topk * unequal)
        return (rank, *self._histogram.locate(rank)) if rank else (0, 1, 0)

    def _look(self, block: Block, low: int, high: int) -> _Look:
        variances = self._variances(block)
        if loops.usable(block.device):
            sums, indices = loops.squares_above(block, self._vectors(block), variances, _edge(low), _edge(high + 1))
            base = block.stored(self._base).float32(indices)
            squares = np.stack([block.stored(model).float32(indices) - base for model in self._models]) ** 2
            return _Look(low, high, sums, indices + block.start, variances[indices], squares)
        above = choices.above(variances, _edge(high + 1))
        where = choices.above(variances, _edge(low)).sub_(above).nonzero().flatten()
        old = block.value(self._base)[where]
        changes = torch.stack([block.value(model)[where] - old for model in self._models])
        found = (on_cpu(part) for part in (where + block.start, variances[where], changes.square_()))
        return _Look(low, high, self._sums(block, above), *found)

    def _select(self) -> None:
        """The cut, and the squares of what it keeps, from what was seen of all blocks."""
        looks = self._looks.values()
        indices = np.concatenate([look.indices for look in looks])
        variances = np.concatenate([look.variances for look in looks])
        over = variances >= _edge(self._bin + 1)
        inside = variances[(variances >= _edge(self._bin)) & ~over]
        threshold = np.sort(inside)[-self._inside]
        missing = self._inside - int((inside > threshold).sum())
        equal = indices[variances == threshold]
        last = int(equal[missing - 1])
        self.cut = Cut(float(threshold), None if missing == len(equal) else last)
        selected = (variances > threshold) | ((variances == threshold) & (indices <= last))
        squares = np.concatenate([look.squares for look in looks], 1)[:, selected].sum(1, dtype=np.float64)
        self._squares = squares + np.sum([look.above for look in looks], 0)
        self._looks = {}

    def _sums(self, block: Block, mask: Tensor | None) -> list[float]:
        models = [block.value(model) for model in self._models]
        return choices.sums_of_squares(block.value(self._base), models, mask)

    def _vectors(self, block: Block) -> list[Vector]:
        return loops.plains(block, self._models, self._base)

    def _variances(self, block: Block, count: bool = False) -> Any:
        """n^2 times the variances of a block; those of the models are those of their task vectors.

        With `count` they are added to the histogram.
        """
        if block.start in self._kept:
            return self._kept[block.start]
        fused = loops.usable(block.device)

        def compute() -> Array | Tensor:
            if fused:
                return loops.deviations(block, self._vectors(block), self._histogram.high if count else None, LOW_BITS)
            return choices.squared_deviations([block.value(model) for model in self._models])

        variances = compute() if fused else block.shared(("squared deviations", self._models), compute)
        if count and not fused:
            self._histogram.add_high(variances)
        if math.prod(block.shape) <= KEPT:
            self._kept[block.start] = variances
        return variances


def _edge(index: int) -> float:
    """The least value of a histogram's bin."""
    return magnitude_of(index << LOW_BITS)
