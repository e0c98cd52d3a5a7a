"""The magnitude above which TIES keeps an entry, exact whatever the block size."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

_LOW = 16  # bits counted in the second round; 15 remain for the first, the sign bit being 0


def kept_entries(entries: int, density: float) -> int:
    """How many of ``entries`` a trim to ``density`` keeps: int(density N), at least one."""
    return max(1, int(density * entries))


def kth_largest(blocks: Callable[[], Iterable[Tensor]], rank: int) -> Tensor:
    """The ``rank``-th largest magnitude (from 1) of each row, fp32 [models].

    ``blocks()`` gives fp32 blocks [models, n] of the same rows, twice. The bits of floats from 0 order like whole
    numbers, so two rounds of counting them, the high half and then the low half within the right bin, find the value
    itself. Magnitudes equal to it are all kept by ``>=``, which may be more than ``rank``.
    """
    bins, left = _locate(blocks, None, torch.full((), rank))
    low, _ = _locate(blocks, bins, left)
    return ((bins << _LOW) | low).to(torch.int32).view(torch.float32)


def _locate(blocks: Callable[[], Iterable[Tensor]], bins: Tensor | None, rank: Tensor) -> tuple[Tensor, Tensor]:
    """For each row the bin that holds the ``rank``-th largest, and its rank within; ``bins`` are those of round 1."""
    size = 1 << (15 if bins is None else _LOW)
    counts: Tensor | None = None
    for block in blocks():
        bits = block.abs().view(torch.int32)
        if counts is None:
            counts = torch.zeros(len(block), size, dtype=torch.int64, device=block.device)
        for row in range(len(block)):
            picked = bits[row] >> _LOW
            if bins is not None:
                picked = bits[row][picked == bins[row]] & ((1 << _LOW) - 1)
            counts[row] += torch.bincount(picked, minlength=size)
    assert counts is not None
    rank = rank.to(counts.device)
    above = counts.flip(-1).cumsum(-1)  # entries in this bin and all higher ones, from the highest down
    position = (above < rank[..., None]).sum(-1)
    before = above.gather(-1, position[:, None])[:, 0] - counts.flip(-1).gather(-1, position[:, None])[:, 0]
    return size - 1 - position, rank - before
