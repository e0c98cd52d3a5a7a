"""Exact k-th largest magnitudes of streamed vectors, without sorting.

`RankSearch` does it in two looks. The first takes every `stride`-th magnitude. From this sample a bracket
[low, high] is set for each rank that is asked for, so wide that it misses its target only with a probability of
some 10^-3. The second look counts what lies above each bracket and keeps what lies inside; from these few the
target is selected exactly. Neither sample nor blocks can thus influence a result. Where a bracket did miss (the
count tells), `histograms.Histogram` finds the target in two more looks.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

from langmerge.merging.chunks import CHUNK, pieces
from langmerge.merging.elements import Array, on_cpu
from langmerge.merging.histograms import Found, magnitude_of

if TYPE_CHECKING:
    from torch import Tensor

WHOLE = 1 << 13
"""Vectors of up to this many entries are kept whole: sampling them would save nothing."""

SAMPLE = 1 << 21
"""Most magnitudes in a sample (8 MiB)."""

KEPT = 1 << 23
"""Most entries that the brackets of one vector hold (32 MiB); a search that needs more falls back to a histogram."""

SLAB = 1 << 16
"""Entries that are given memory at once."""

STRIDES = (31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071)
"""Primes, so that a sample visits all columns of a matrix."""

SIGMAS = 3.0
"""Half the width of a bracket in standard deviations of the sample's quantile."""

CountInside = Callable[[Sequence[tuple[float, float]], Sequence[Array]], Sequence[tuple[int, int]]]
"""Numbers (above, inside) for brackets [low, high]; the magnitudes inside come into the arrays."""


@dataclass
class _Bracket:
    """Magnitudes in [low, high], one of which has each of `ranks`.

    `above` counts the larger ones; `parts` are (flat index at which a piece begins, its magnitudes inside,
    how often each occurs; None: once), as long as `complete`. Where low is high, `numbers` says instead how many
    entries of a piece are of that magnitude.
    """

    low: float
    high: float
    ranks: list[int]
    above: int = 0
    size: int = 0
    parts: list[tuple[int, Array, Array | None]] = field(default_factory=list)
    numbers: list[tuple[int, int]] = field(default_factory=list)
    complete: bool = True
    _slab: Array | None = None
    _used: int = 0

    def add(self, start: int, inside: Array) -> None:
        """Keep what lies inside of a piece that begins at flat index `start`."""
        if self.complete and len(inside):
            self.parts.append((start, self._stored(inside), None))
            self.size += len(inside)

    def _stored(self, inside: Array) -> Array:
        """A copy in memory that is shared by many pieces: small arrays of their own would litter the heap."""
        if len(inside) > SLAB:
            return inside
        if self._slab is None or self._used + len(inside) > SLAB:
            self._slab, self._used = np.empty(SLAB, np.float32), 0
        place = self._slab[self._used : self._used + len(inside)]
        self._used += len(inside)
        place[:] = inside
        return place

    def compress(self, most: int) -> None:
        """Count equal magnitudes instead of keeping each, and give up where still more than `most` are held."""
        if self.size <= most:
            return
        for number, (start, inside, counts) in enumerate(self.parts):
            if counts is None:
                self.parts[number] = (start, *np.unique(inside, return_counts=True))
        self.size = sum(len(inside) for _, inside, _ in self.parts)
        self._slab = None
        if self.size > most // 2:
            self.complete, self.parts = False, []

    def select(self, rank: int) -> Found | None:
        """The `rank`-th largest of the vector, None where it is not inside."""
        rest = rank - self.above
        if self.low == self.high:
            equal = sum(number for _, number in self.numbers)
            return Found(self.low, self.above, equal) if 1 <= rest <= equal else None
        held = sum(len(inside) if counts is None else int(counts.sum()) for _, inside, counts in self.parts)
        if not self.complete or not 1 <= rest <= held:
            return None
        values = np.concatenate([inside for _, inside, _ in self.parts])
        counts = None
        if all(counts is None for _, _, counts in self.parts):
            magnitude = _of_ranks(values, [rest])[rest]
        else:
            counts = np.concatenate([np.ones(len(v), np.int64) if c is None else c for _, v, c in self.parts])
            order = np.argsort(-values)
            magnitude = values[order[np.searchsorted(counts[order].cumsum(), rest)]]
        larger, equal = (_total(chosen, counts) for chosen in (values > magnitude, values == magnitude))
        return Found(float(magnitude), self.above + larger, equal)

    def locate(self, magnitude: float, number: int) -> tuple[int, int]:
        """Where the `number`-th entry of this magnitude stands: (start of its piece, its number in the piece)."""
        for start, here in self.numbers:
            if number <= here:
                return start, number
            number -= here
        for start, inside, counts in self.parts:
            equal = inside == magnitude
            here = _total(equal, counts)
            if number <= here:
                return start, number
            number -= here
        raise AssertionError("select has found it")


class RankSearch:
    """Magnitudes of given ranks of a vector of `numel` entries that is looked at in pieces, in order; see the module.

    Args:
        numel: entries in all.
        ranks: from the largest, 1 .. numel.
    """

    def __init__(self, numel: int, ranks: Iterable[int]) -> None:
        self.numel = numel
        self.ranks = sorted(set(ranks))
        self.stride = _stride(numel)
        self.sampled = bool(self.ranks) and numel > WHOLE
        self._skip = 0
        self._sample: Array | None = None
        self._taken = 0
        self._brackets = [] if self.sampled or not self.ranks else [_Bracket(0.0, math.inf, self.ranks)]

    def positions(self, count: int) -> slice:
        """Where the next `count` entries are to be looked at in the first look, if `sampled`."""
        chosen = slice(self._skip, count, self.stride)
        self._skip = (self._skip - count) % self.stride
        return chosen

    def sample(self, values: Tensor) -> None:
        """First look: the values at `positions`, float32."""
        self.sample_by(partial(_write, on_cpu(values.abs())))

    def sample_by(self, write: Callable[[Array], int]) -> None:
        """The same; `write` fills the beginning of an array with these magnitudes and says with how many."""
        if self._sample is None:
            self._sample = np.empty(-(-self.numel // self.stride), np.float32)
        self._taken += write(self._sample[self._taken :])

    def place(self) -> None:
        """Set the brackets, after the first look."""
        assert self._sample is not None
        sample, self._sample = self._sample[: self._taken], None
        bounds = {rank: _bounds(len(sample), rank / self.numel) for rank in self.ranks}
        magnitudes = _of_ranks(sample, {bound for pair in bounds.values() for bound in pair})
        for rank, (upper, lower) in bounds.items():
            low, high = magnitudes[lower], magnitudes[upper]
            last = self._brackets[-1] if self._brackets else None
            if last and high >= last.low:  # ranks that lie close together share a bracket
                last.low = min(last.low, low)
                last.ranks.append(rank)
            else:
                self._brackets.append(_Bracket(low, high, [rank]))

    def count(self, values: Tensor, start: int) -> None:
        """Second look: float32 (count,), of which the first has the flat index `start`."""
        for piece in pieces(len(values), values.device):
            if values.device.type == "cpu":
                self._count(values[piece].numpy(), start + piece.start)
            else:
                self._count_on_device(values[piece].abs(), start + piece.start)
        self._compress()

    def count_by(self, count: CountInside, start: int, entries: int) -> None:
        """The same of `entries` from index `start` on: `count` learns the brackets and where what is inside goes."""
        room = [_room(number, entries + 16) for number in range(len(self._brackets))]
        counted = count([(bracket.low, bracket.high) for bracket in self._brackets], room)
        for bracket, (above, inside), place in zip(self._brackets, counted, room, strict=True):
            bracket.above += above
            if bracket.low == bracket.high:
                bracket.numbers.append((start, inside))
            elif bracket.complete:
                bracket.add(start, place[:inside] if inside <= SLAB else place[:inside].copy())
        self._compress()

    def _compress(self) -> None:
        """Hold no more than `KEPT` entries."""
        if sum(bracket.size for bracket in self._brackets) > KEPT:
            for bracket in self._brackets:
                bracket.compress(KEPT // len(self._brackets))

    def _count(self, values: Array, start: int) -> None:
        """A piece on a CPU: numpy compares, counts and picks in a third of the time that torch takes."""
        magnitudes, above, inside = (scratch[: len(values)] for scratch in _scratch())
        np.abs(values, out=magnitudes)
        for bracket in self._brackets:
            np.greater(magnitudes, bracket.high, out=above)
            np.greater_equal(magnitudes, bracket.low, out=inside)
            np.not_equal(inside, above, out=inside)
            bracket.above += int(np.count_nonzero(above))
            if bracket.low == bracket.high:
                bracket.numbers.append((start, int(np.count_nonzero(inside))))
            else:
                bracket.add(start, magnitudes[inside])

    def _count_on_device(self, magnitudes: Tensor, start: int) -> None:
        """The same elsewhere."""
        for bracket in self._brackets:
            above = magnitudes > bracket.high
            inside = (magnitudes >= bracket.low) & ~above
            bracket.above += int(above.sum())
            if bracket.low == bracket.high:
                bracket.numbers.append((start, int(inside.sum())))
            else:
                bracket.add(start, on_cpu(magnitudes[inside]))

    def found(self) -> dict[int, Found]:
        """What has each rank, after the second look; without those that their brackets missed."""
        result = {}
        for bracket in self._brackets:
            for rank in bracket.ranks:
                if (found := bracket.select(rank)) is not None:
                    result[rank] = found
        return result

    def locate(self, rank: int, magnitude: float, number: int) -> tuple[int, int]:
        """(start of a piece, number in it) of the `number`-th entry of this magnitude, which has `rank`."""
        bracket = next(bracket for bracket in self._brackets if rank in bracket.ranks)
        return bracket.locate(magnitude, number)


def _stride(numel: int) -> int:
    """A stride that takes at most `SAMPLE` entries, and some 2 N^(2/3) of N: so the bracket, about 3 sqrt(N stride)
    entries wide, costs about as much as the sample.
    """
    least = next((s for s in STRIDES if s * SAMPLE >= numel), STRIDES[-1])
    return max(least, max((s for s in STRIDES if s <= numel ** (1 / 3) / 2), default=STRIDES[0]))


def _bounds(size: int, share: float) -> tuple[int, int]:
    """Ranks in a sample (upper, lower; 0 and size + 1: beyond it) between which a `share` of all entries ends."""
    margin = SIGMAS * math.sqrt(size * share * (1 - share)) + 2
    return max(math.floor(size * share - margin), 0), min(math.ceil(size * share + margin), size + 1)


def _of_ranks(magnitudes: Array, ranks: Iterable[int]) -> dict[int, float]:
    """Magnitudes of these ranks from the largest; infinity for rank 0, 0 for ranks beyond their number.

    By bisection on the bits: each step counts the larger ones, in 0.1 ns for each. numpy's partition and torch's
    kthvalue take ten times as long in all where many are equal, as in bfloat16 models.
    """
    size, keys = len(magnitudes), magnitudes.view(np.int32)
    found = {rank: math.inf if rank < 1 else 0.0 for rank in ranks}
    inside = [rank for rank in found if 1 <= rank <= size]
    return found | _between(keys, int(keys.min()), int(keys.max()), inside) if inside else found


def _between(keys: Array, low: int, high: int, ranks: Sequence[int]) -> dict[int, float]:
    """Magnitudes of ranks that are known to lie in low .. high, as bits."""
    if low == high:
        return dict.fromkeys(ranks, magnitude_of(low))
    middle = (low + high) // 2
    larger = int(np.count_nonzero(keys > middle))
    upper, lower = [rank for rank in ranks if rank <= larger], [rank for rank in ranks if rank > larger]
    found = _between(keys, middle + 1, high, upper) if upper else {}
    return found | _between(keys, low, middle, lower) if lower else found


_rooms: dict[tuple[int, int], Array] = {}


def _room(number: int, size: int) -> Array:
    """A float32 vector of at least `size`, the same memory again for all of a thread's work."""
    place = (threading.get_ident(), number)
    if place not in _rooms or len(_rooms[place]) < size:
        _rooms[place] = np.empty(size, np.float32)
    return _rooms[place]


@cache
def _scratch_of(thread: int) -> tuple[Array, Array, Array]:
    return np.empty(CHUNK, np.float32), np.empty(CHUNK, np.bool_), np.empty(CHUNK, np.bool_)


def _scratch() -> tuple[Array, Array, Array]:
    """A float32 and two boolean vectors of a piece's length, the same memory again for all of a thread's work."""
    return _scratch_of(threading.get_ident())


def _total(chosen: Array, counts: Array | None) -> int:
    """How many are chosen, by a boolean mask, where each counts once or `counts` times."""
    return int(np.count_nonzero(chosen) if counts is None else counts[chosen].sum())


def _write(values: Array, room: Array) -> int:
    room[: len(values)] = values
    return len(values)
