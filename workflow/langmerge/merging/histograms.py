"""Counts of magnitudes by their bits: exact ranks in two looks, however the values are distributed.

A histogram relies on the bits of a non-negative float32 being ordered like its value: counts of their upper 16
bits find the bin of the k-th largest magnitude, counts of the lower 15 bits inside that bin the magnitude itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from langmerge.merging.elements import Array, module_of, on_cpu

if TYPE_CHECKING:
    from torch import Tensor

LOW_BITS = 15
HIGH_BINS = 1 << (31 - LOW_BITS)


@dataclass(frozen=True)
class Found:
    """The `rank`-th largest magnitude of a vector; `larger` and `equal` entries are larger than it, equal to it."""

    magnitude: float
    larger: int
    equal: int


def magnitude_keys(values: Array | Tensor) -> Any:
    """int32 (count,), ordered like |values| (float32, finite)."""
    magnitudes: Any = abs(values)
    return magnitudes.view(module_of(magnitudes).int32)


class Histogram:
    """Histograms of magnitudes over any number of blocks, in two rounds; see the module's text."""

    def __init__(self) -> None:
        self.high = np.zeros(HIGH_BINS, np.int64)
        self.low: dict[int, Array] = {}

    def add_high(self, values: Array | Tensor) -> None:
        """First round: count a block of values (float32, (count,))."""
        self.high += _bincount(magnitude_keys(values) >> LOW_BITS, HIGH_BINS)

    def locate(self, rank: int) -> tuple[int, int]:
        """(bin, rank inside the bin) of the `rank`-th largest magnitude, rank from 1."""
        return _find(self.high, rank)

    def add_low(self, values: Array | Tensor, bins: set[int]) -> None:
        """Second round: count a block inside the bins that `locate` named."""
        keys = magnitude_keys(values)
        high = keys >> LOW_BITS
        for index in bins:
            counts = _bincount(keys[high == index] & ((1 << LOW_BITS) - 1), 1 << LOW_BITS)
            self.low[index] = self.low[index] + counts if index in self.low else counts

    def select(self, rank: int) -> tuple[float, int]:
        """(magnitude, how many entries of just this magnitude are to be kept) of the `rank`-th largest."""
        index, rest = self.locate(rank)
        low, rest = _find(self.low[index], rest)
        return magnitude_of((index << LOW_BITS) | low), rest

    def found(self, rank: int) -> Found:
        """The `rank`-th largest magnitude, with the numbers of larger and of equal entries."""
        index, rest = self.locate(rank)
        low, number = _find(self.low[index], rest)
        return Found(magnitude_of((index << LOW_BITS) | low), rank - number, int(self.low[index][low]))


def _bincount(keys: Array | Tensor, bins: int) -> Array:
    return on_cpu(module_of(keys).bincount(keys, minlength=bins))


def magnitude_of(key: int) -> float:
    """The float32 number with these bits; see `magnitude_keys`."""
    return float(np.array(key, np.int32).view(np.float32))


def _find(counts: Array, rank: int) -> tuple[int, int]:
    """Bin of the rank-th largest entry, and its rank among the entries of that bin."""
    used = np.flatnonzero(counts)[::-1]  # a small part of all bins
    above = counts[used].cumsum()
    position = int(np.searchsorted(above, rank))
    return int(used[position]), rank - (int(above[position - 1]) if position else 0)
