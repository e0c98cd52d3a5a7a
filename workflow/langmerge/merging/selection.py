"""Exact k-th largest magnitudes of streamed task vectors, without sorting.

The bits of a non-negative float32 are ordered like its value. A histogram of their upper 16 bits over all
blocks finds the bin of the k-th largest magnitude, one of the lower 15 bits inside that bin finds the
magnitude itself. One histogram serves every density that is asked for.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LOW_BITS = 15
HIGH_BINS = 1 << (31 - LOW_BITS)


@dataclass(frozen=True)
class Cut:
    """Keeps magnitudes > threshold, and those == threshold up to flat index last_index (None: all)."""

    threshold: float
    last_index: int | None = None


def kept_entries(numel: int, density: float, convention: str) -> int:
    """How many of `numel` entries a trim keeps; the paper's code one more, and all of equal magnitude."""
    count = int(density * numel)
    if convention == "paper":
        return min(numel, count + 1)
    return max(1, count) if convention == "mergekit" else count


def magnitude_keys(values: Tensor) -> Tensor:
    """int32 (count,), ordered like |values| (float32, finite)."""
    return values.abs().view(torch.int32)


class Histogram:
    """Histograms of magnitudes over any number of blocks, in two rounds; see the module's text."""

    def __init__(self) -> None:
        self.high = torch.zeros(HIGH_BINS, dtype=torch.int64)
        self.low: dict[int, Tensor] = {}

    def add_high(self, values: Tensor) -> None:
        """First round: count a block of values (float32, (count,))."""
        self.high += torch.bincount(magnitude_keys(values) >> LOW_BITS, minlength=HIGH_BINS)

    def locate(self, rank: int) -> tuple[int, int]:
        """(bin, rank inside the bin) of the `rank`-th largest magnitude, rank from 1."""
        return _find(self.high, rank)

    def add_low(self, values: Tensor, bins: set[int]) -> None:
        """Second round: count a block inside the bins that `locate` named."""
        keys = magnitude_keys(values)
        high = keys >> LOW_BITS
        for index in bins:
            inside = keys[high == index] & ((1 << LOW_BITS) - 1)
            counts = torch.bincount(inside, minlength=1 << LOW_BITS)
            self.low[index] = self.low[index] + counts if index in self.low else counts

    def select(self, rank: int) -> tuple[float, int]:
        """(magnitude, how many entries of just this magnitude are to be kept) of the `rank`-th largest."""
        index, rest = self.locate(rank)
        low, rest = _find(self.low[index], rest)
        key = torch.tensor([(index << LOW_BITS) | low], dtype=torch.int32)
        return float(key.view(torch.float32)), rest


def cut_of(values: Tensor, density: float, convention: str) -> Cut:
    """The cut of one vector held in memory (float32, (count,)); equal magnitudes: lowest index first."""
    rank = kept_entries(values.numel(), density, convention)
    if rank == 0:
        return Cut(math.inf)
    histogram = Histogram()
    histogram.add_high(values)
    histogram.add_low(values, {histogram.locate(rank)[0]})
    threshold, equal = histogram.select(rank)
    if convention == "paper":
        return Cut(threshold)
    return Cut(threshold, int((values.abs() == threshold).nonzero()[equal - 1]))


def _find(counts: Tensor, rank: int) -> tuple[int, int]:
    """Bin of the rank-th largest entry, and its rank among the entries of that bin."""
    above = counts.flip(0).cumsum(0)
    position = int(torch.searchsorted(above, rank))
    index = len(counts) - 1 - position
    return index, rank - (int(above[position - 1]) if position else 0)
