"""Going over the blocks of one tensor as often as its gathers ask, then once more for the merge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from langmerge.merging.block import Block
from langmerge.merging.gathers import Gather
from langmerge.merging.pipeline import Walk
from langmerge.merging.reader import blocks
from langmerge.merging.sources import TensorEntry


class Sweeps:
    """The blocks of one tensor, any number of times; those of a small tensor are kept with all that they know.

    Set `last` before the last time: what is read ahead is then the next tensor, and blocks are let go.
    """

    def __init__(self, entry: TensorEntry, block: int, keep: bool, walk: Walk, value: Any, device: str) -> None:
        self.last = False
        self._entry = entry
        self._block = block
        self._keep = keep or block >= entry.numel
        self._walk = walk
        self._value = value
        self._device = device
        self._kept: list[Block] = []

    def __iter__(self) -> Iterator[Block]:
        if not self._kept:
            yield from self._new()
        elif not self.last:
            yield from self._kept
        while self.last and self._kept:
            yield self._kept.pop(0)

    def _new(self) -> Iterator[Block]:
        compute = partial(self._value, walk=self._walk, last=self.last or self._keep)
        for start, count in blocks(self._entry.shape, self._block):
            block = Block(self._entry.name, self._entry.shape, start, count, compute, self._device)
            if self._keep and not self.last:
                self._kept.append(block)
            yield block


def complete(gathers: Iterable[Gather], tensor: str, sweeps: Sweeps) -> None:
    """Complete those of the gathers that look at single tensors and at this one, level by level."""
    waiting = [gather for gather in gathers if gather.scope == "tensor" and tensor in gather.tensors]
    for level in sorted({gather.level for gather in waiting}):
        now = [gather for gather in waiting if gather.level == level]
        for gather in now:
            gather.begin()
        for index in range(max(gather.rounds for gather in now)):
            active = [gather for gather in now if index < gather.rounds]
            for block in sweeps:
                for gather in active:
                    gather.update(index, block)
            for gather in active:
                gather.end(index)
