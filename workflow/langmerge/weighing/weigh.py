"""All measures of all parts of the models: one reading for sums, one or more for subspaces."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from langmerge.provenance import InputError
from langmerge.weighing import alignment, nulls, precision, subspaces, sums
from langmerge.weighing.alignment import Found, Key, Row
from langmerge.weighing.reading import BLOCK, Part, Weights
from langmerge.weighing.subspaces import Exact, Frames, Sketch
from langmerge.weighing.trimming import kept_entries, kth_largest

NULL_ENTRIES = 1 << 19  # of the largest matrices that are drawn for nulls; larger ones are shrunk to this
EXACT = 1024  # longest short side with exact subspaces under `svd: auto`
CHOICES = ("auto", "exact", "lowrank")


@dataclass(frozen=True)
class Settings:
    """What decides the result: see :mod:`langmerge.weighing.__main__`."""

    density: float = 0.2
    svd: str = "auto"
    rank: int = subspaces.RANK
    draws: int = 1
    seed: int = 0
    block: int = BLOCK

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Settings:
        """The settings in a spec, with defaults; :class:`InputError` naming the key that is out of range."""
        settings = cls(**{name: spec[name] for name in ("density", "svd", "rank", "draws", "seed") if name in spec})
        if not 0 < settings.density <= 1:
            raise InputError(f"density: expected a share above 0 and up to 1, found {settings.density!r}")
        if settings.svd not in CHOICES:
            raise InputError(f"svd: expected one of {', '.join(CHOICES)}, found {settings.svd!r}")
        for name, least in (("rank", 1), ("draws", 0), ("seed", 0)):
            value = getattr(settings, name)
            if not isinstance(value, int) or value < least:
                raise InputError(f"{name}: expected a whole number from {least}, found {value!r}")
        return settings

    def is_exact(self, shape: Sequence[int]) -> bool:
        """Whether a matrix gets exact subspaces; by its size alone, so that results do not depend on the machine."""
        return self.svd == "exact" or (self.svd == "auto" and min(shape) <= EXACT)


@dataclass(frozen=True)
class Weighed:
    """The measures of one part: sums, subspaces (empty unless a matrix), coarsest float type of each task vector."""

    part: Part
    sums: sums.Sums
    row: Row
    types: list[int]


def weigh(weights: Weights, specialists: int, settings: Settings, device: torch.device) -> list[Weighed]:
    """Weigh every part; the models of ``weights`` are the base, then the specialists, then merges."""
    return [
        _weigh_part(weights, part, specialists, settings, device, position)
        for position, part in enumerate(weights.parts)
    ]


def _weigh_part(
    weights: Weights, part: Part, specialists: int, settings: Settings, device: torch.device, position: int
) -> Weighed:
    read = _read_once(weights, part, settings.block)

    def flat() -> Iterable[Tensor]:
        """Base and task vectors, fp32 [1 + N, n]."""
        for block in read():
            values = block.to(device).reshape(len(block), -1)
            values[1:] -= values[:1]
            yield values

    thresholds = kth_largest(lambda: (block[1:] for block in flat()), kept_entries(part.entries, settings.density))
    parts, types = [], torch.zeros(len(weights.labels) - 1, dtype=torch.int64)
    for block in read():
        types = types.maximum(precision.coarsest(block[1:].reshape(len(block) - 1, -1)))
    for block in flat():
        parts.append(sums.of_block(block[0], block[1:], thresholds, specialists))
    found = sums.total(parts)
    for label, own in zip(weights.labels[1:], np.diagonal(found.inner), strict=True):
        if not np.isfinite(own):
            raise InputError(f"{label}: tensor {part.name} holds NaN or infinite values, or {weights.labels[0]} does")
    row = _subspaces(read, part, specialists, settings, device, position) if part.is_matrix else {}
    return Weighed(part, found, row, types.tolist())


def _read_once(weights: Weights, part: Part, block: int) -> Callable[[], Iterable[Tensor]]:
    """Blocks of all models' values, as often as wanted; a part that is one block is read from disk only once."""
    if part.entries > block:
        return lambda: weights.blocks(part, block)
    held = list(weights.blocks(part, block))
    return lambda: (values.clone() for values in held)


def _subspaces(
    read: Callable[[], Iterable[Tensor]], part: Part, specialists: int, settings: Settings, device: torch.device,
    position: int,
) -> Row:  # fmt: skip
    def blocks() -> Iterable[Tensor]:
        for values in read():
            values = values.to(device)
            yield values[1:] - values[:1]

    seed = settings.seed * 1_000_003 + position
    frames: Frames
    if settings.is_exact(part.shape):
        frames = Exact(blocks, part.shape, specialists)
    else:
        frames = Sketch(blocks, part.shape, specialists, settings.rank, seed)
    row = alignment.spectrum_measures(frames) | alignment.pair_measures(frames, specialists)
    expected = _expected(frames, specialists, settings.draws, seed) if settings.draws else {}
    for key, value in row.items():
        if key.measure == "tsv_interference":
            row[key] = Found(value.value, expected.get(key, np.nan))
        elif key.measure == "sar_minus_null" and key.b >= specialists:
            # Of a merge, the null is what a mean of independent specialists gives
            row[key] = Found(value.value, expected.get(Key(key.measure, key.a, specialists, key.side), np.nan))
    return row


def _drawn(stack: Tensor, specialists: int, rank: int, seed: int) -> Frames:
    """The frames of matrices at hand [N, rows, columns]: exact, or a sketch of a ``rank``."""

    def blocks() -> Iterable[Tensor]:
        return [stack]

    shape = tuple(stack.shape[1:])
    return Sketch(blocks, shape, specialists, rank, seed) if rank else Exact(blocks, shape, specialists)


def _expected(frames: Frames, specialists: int, draws: int, seed: int) -> dict[Key, float]:
    """Interference of independent matrices with the specialists' spectra, and alignment with their mean; over draws.

    Matrices of more than :data:`NULL_ENTRIES` entries are drawn as a similar problem of that size
    (:func:`nulls.reduced`). Interference grows as the size^1.5 there: it sums rank^2 entries, each of which is a sum of
    rank terms s u v of random signs, with u and v of size 1 / sqrt(d). What was measured by a sketch is sketched here
    too, so that a sketch's errors are part of the null. Nothing if all specialists are zeros.
    """
    values, squares = frames.values[:specialists], frames.squares[:specialists].tolist()
    if not any(len(each) for each in values):
        return {}
    spectra = [nulls.whole_spectrum(each, square, frames.short) for each, square in zip(values, squares, strict=True)]
    problem = nulls.reduced(spectra, frames.rows, frames.columns, NULL_ENTRIES)
    sides = {"left": problem.rows, "right": problem.columns}
    rank = max(map(len, frames.values))
    generator = torch.Generator().manual_seed(seed)
    found: dict[Key, list[float]] = {}
    for _ in range(draws):
        stack = nulls.independent(problem.spectra, problem.rows, problem.columns, generator, frames.squares.device)
        drawn = _drawn(stack, specialists, 0 if frames.complete else max(1, round(problem.scale * rank)), seed)
        short = min(problem.rows, problem.columns)
        for key, value in alignment.interference_measures(drawn, specialists, short).items():
            found.setdefault(key, []).append(value.value / problem.scale**1.5)
        for i, side in itertools.product(range(specialists), subspaces.SIDES):
            ratio = alignment.alignment_ratio(drawn, side, i, specialists, sides[side])
            found.setdefault(Key("sar_minus_null", i, specialists, side), []).append(ratio.value - ratio.null)
    return {key: float(np.mean(values)) for key, values in found.items()}
