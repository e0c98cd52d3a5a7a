"""Which sequences a step trains on, and how they lie in a tensor.

The order of the data is a pure function of (seed, step): no iterator has a state that could be lost, so a run
that was killed goes on with exactly the batches that it would have seen. A *pool* of ``POOL`` steps is drawn at a
time, sorted by length and cut into steps of equal numbers of tokens, which come in random order: rows of a batch are
then about equally long, and little is padded. (Measured on one CPU thread, 1 M parameters, bf16: 18.7 thousand real
tokens a second, against 15.9 when packed into rows of 128 tokens.)
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from langmerge.provenance import InputError
from langmerge.training.data import Sequences

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Indices = NDArray[np.int64]

POOL = 32  # steps that are drawn and sorted together


def generator(*key: int) -> np.random.Generator:
    """A random stream of its own for each ``key`` (Philox, counter-based: equal on every machine)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def cut(lengths: NDArray[np.int64], parts: int) -> list[slice]:
    """Cut n >= ``parts`` sequences into ``parts`` runs, none empty, of about equal numbers of tokens."""
    n = len(lengths)
    ends = np.cumsum(lengths)
    step = np.arange(1, parts)
    bounds = np.searchsorted(ends, ends[-1] * step / parts) + 1
    bounds = np.maximum.accumulate(np.maximum(bounds, step) - step) + step  # strictly increasing
    bounds = np.minimum(bounds, n - parts + step)
    edges = [0, *bounds.tolist(), n]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


class Order:
    """The sequences of every step.

    Args:
        parts: token sequences of each part of the mixture.
        weights: share of the tokens that each part gets, in any unit.
        batch_tokens: real tokens of a step (on average; a step differs from it by a sequence or two).
        seed: of the permutations.
        least: sequences that a step must have at least (one for each micro-batch).
        sort: whether steps hold sequences of like length.
    """

    def __init__(
        self,
        parts: Sequence[Sequences],
        weights: Sequence[float],
        batch_tokens: int,
        seed: int,
        least: int = 1,
        sort: bool = True,
    ) -> None:
        self.lengths = np.concatenate([part.lengths for part in parts])
        self._sizes = [len(part) for part in parts]
        self._starts = np.concatenate([[0], np.cumsum(self._sizes)])
        shares = np.asarray(weights) / np.sum(weights)
        # Sequences of each part per pool, a fraction: pool p starts at p * rate in the part's endless stream.
        means = [part.lengths.mean() for part in parts]
        self._rates = [POOL * batch_tokens * share / mean for share, mean in zip(shares, means, strict=True)]
        self._seed, self._least, self._sort = seed, least, sort
        if sum(self._rates) < 2 * POOL * least:
            mean = POOL * batch_tokens / sum(self._rates)
            raise InputError(
                f"batch_tokens {batch_tokens} is too small: a sequence has {mean:.0f} tokens on average and a step "
                f"needs at least {2 * least}; raise it to {2 * least * mean:.0f} or more, or lower `accumulation`"
            )
        self.pool = functools.lru_cache(maxsize=2)(self._pool)
        self._epoch = functools.lru_cache(maxsize=2 * len(parts))(self._permutation)

    def _permutation(self, part: int, epoch: int) -> Indices:
        return generator(self._seed, 1, part, epoch).permutation(self._sizes[part])

    def _stream(self, part: int, begin: int, end: int) -> Indices:
        """Positions [begin, end) of a part's endless stream: its sequences in a new order every epoch."""
        size = self._sizes[part]
        pieces = []
        while begin < end:
            epoch, offset = divmod(begin, size)
            piece = self._epoch(part, epoch)[offset : offset + end - begin]
            pieces.append(piece + self._starts[part])
            begin += len(piece)
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)

    def _pool(self, pool: int) -> list[Indices]:
        drawn = np.concatenate(
            [self._stream(part, int(pool * rate), int((pool + 1) * rate)) for part, rate in enumerate(self._rates)]
        )
        random = generator(self._seed, 2, pool)
        drawn = drawn[random.permutation(len(drawn))]
        if self._sort:
            drawn = drawn[np.argsort(self.lengths[drawn], kind="stable")]
        steps = [drawn[piece] for piece in cut(self.lengths[drawn], POOL)]
        return [steps[i] for i in random.permutation(POOL)]

    def step(self, step: int) -> Indices:
        """Indices of the sequences of a step (from 0), into the concatenation of all parts."""
        return self.pool(step // POOL)[step % POOL]

    def micro_batches(self, step: int, parts: int) -> list[Indices]:
        """The sequences of a step in ``parts`` runs of about equal numbers of tokens."""
        indices = self.step(step)
        if len(indices) < parts:
            raise InputError(
                f"step {step} has {len(indices)} sequences for {parts} micro-batches; raise batch_tokens or lower "
                "`accumulation`"
            )
        return [indices[piece] for piece in cut(self.lengths[indices], parts)]


@dataclass(frozen=True)
class Batch:
    """One micro-batch.

    ``ids`` [rows, width]; ``positions`` [rows, width] restart at 0 with every document, or None where a row is one
    document; ``where`` [k] are the places in ``ids`` (flattened) whose next token is asked for and ``labels`` [k] those
    tokens; ``tokens`` counts the real ones.
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.int64] | None
    where: NDArray[np.int64]
    labels: NDArray[np.int64]
    tokens: int


def first_fit(lengths: NDArray[np.int64], capacity: int) -> tuple[list[int], list[int]]:
    """Row and start of every document, longest first, each in the first row that has room (first-fit decreasing)."""
    row, start = [0] * len(lengths), [0] * len(lengths)
    used: list[int] = []
    hint: dict[int, int] = {}  # where the search for a length ended last: rows before have no room for it
    for i in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[i])
        place = hint.get(length, 0)
        while place < len(used) and used[place] + length > capacity:
            place += 1
        hint[length] = place
        if place == len(used):
            used.append(0)
        row[i], start[i] = place, used[place]
        used[place] += length
    return row, start


def assemble(
    sequences: Sequences, indices: Indices, pad: int, context: int | None = None, least_rows: int = 0
) -> Batch:
    """Lay the chosen sequences into one tensor.

    Without ``context`` every sequence has its own row, padded on the right to the longest: attention is causal and
    padding has no label, so no mask is needed. With ``context`` several share a row of that many tokens and are told
    apart by ``positions`` alone; the model must then be called without attention mask and without cache, else they see
    each other. ``least_rows`` adds empty rows up to a fixed shape.
    """
    lengths = sequences.lengths[indices]
    total = int(lengths.sum())
    if context is None:
        width = int(lengths.max())
        begin = np.arange(len(indices)) * width
        rows = len(indices)
    else:
        width = context
        row, start = first_fit(lengths, context)
        begin = np.asarray(row) * width + np.asarray(start)
        rows = max(*row, least_rows - 1) + 1
    within = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)  # 0.. in each sequence
    place = np.repeat(begin, lengths) + within
    tokens = sequences.tokens[np.repeat(sequences.offsets[indices], lengths) + within]
    ids = np.full(rows * width, pad, np.int64)
    ids[place] = tokens
    asked = within >= np.repeat(sequences.first[indices], lengths)
    positions = None
    if context is not None:
        # Padding behind the last document of a row counts from 0 too: a document of its own, which nothing looks at.
        used = np.zeros(rows, np.int64)
        np.maximum.at(used, begin // width, begin % width + lengths)
        positions = np.arange(width) - used[:, None]
        positions.reshape(-1)[place] = within
        positions = positions.reshape(rows, width)
    return Batch(ids.reshape(rows, width), positions, place[asked] - 1, tokens[asked].astype(np.int64), total)
