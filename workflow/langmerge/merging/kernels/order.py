"""Exact order statistics of any score of the entries, streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from langmerge.merging.block import Block
from langmerge.merging.gathers import Gather, Scope
from langmerge.merging.histograms import Histogram

if TYPE_CHECKING:
    from torch import Tensor


class OrderStatistics(Gather):
    """Values of given ranks of one or more scores: `values` [score][rank], floats.

    Args:
        scope: over each tensor or over the model.
        needs: gathers that the scores rest on.
        scores: of a block, float32 (count,) each, finite, >= 0 unless `signed`; always the same number of them.
        ranks: of the number of entries N: ranks from the largest, 1 .. N.
        signed: whether scores may be negative.

    Two rounds; exact whatever the block size, since it counts the scores' bits (`langmerge.merging.selection`).
    """

    rounds = 2

    def __init__(
        self,
        scope: Scope,
        needs: Iterable[Gather],
        scores: Callable[[Block], Sequence[Tensor]],
        ranks: Callable[[int], Sequence[int]],
        signed: bool = False,
    ) -> None:
        super().__init__(scope, needs)
        self._scores = scores
        self._ranks = ranks
        self._signed = signed

    def begin(self) -> None:
        """See the base class."""
        self._entries = 0
        self._positive: list[int] = []
        self._up: list[Histogram] = []
        self._down: list[Histogram] = []
        self.values: list[list[float]] = []

    def update(self, index: int, block: Block) -> None:
        """See the base class."""
        if index == 0:
            self._entries += block.count
        for number, scores in enumerate(self._scores(block)):
            if number == len(self._up):
                self._up.append(Histogram())
                self._down.append(Histogram())
                self._positive.append(0)
            # Negative scores count as 0 in the histogram of the others, below all whose rank is looked up there.
            halves = [(self._up[number], scores)]
            if self._signed:
                halves = [(self._up[number], scores.clamp(min=0)), (self._down[number], (-scores).clamp_(min=0))]
            if index == 0:
                self._positive[number] += int((scores >= 0).sum()) if self._signed else block.count
                for histogram, values in halves:
                    histogram.add_high(values)
            else:
                for (histogram, values), bins in zip(halves, self._bins[number], strict=False):
                    if bins:
                        histogram.add_low(values, bins)

    def end(self, index: int) -> None:
        """See the base class."""
        ranks = self._ranks(self._entries)
        if index == 0:
            self._bins = []
            for number, positive in enumerate(self._positive):
                up = {self._up[number].locate(rank)[0] for rank in ranks if rank <= positive}
                down = {self._down[number].locate(self._entries + 1 - rank)[0] for rank in ranks if rank > positive}
                self._bins.append((up, down))
        else:
            self.values = [[self._value(number, rank) for rank in ranks] for number in range(len(self._positive))]

    def _value(self, number: int, rank: int) -> float:
        if rank <= self._positive[number]:
            return self._up[number].select(rank)[0]
        return -self._down[number].select(self._entries + 1 - rank)[0]
