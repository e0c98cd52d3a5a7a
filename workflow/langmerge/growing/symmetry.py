"""Whether the copies in a cloned model are still copies: what a noise-free clone cannot leave by training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from langmerge.growing.architecture import EMBEDDING, axes
from langmerge.growing.copies import blocks_of, copies


def copy_difference(
    weights: Mapping[str, Tensor], source: Mapping[str, Any], *, width: int, heads: str = "all"
) -> float:
    """Relative change of a clone's linear maps when its copies are renumbered in a circle; 0 for true copies.

    sqrt( sum ||B - B'||^2 / sum ||B||^2 ) over all matrices but the look-up, where B[a, b] is the block from copy b of
    the input to copy a of the output and B'[a, b] = B[a + 1, b + 1], indices modulo the number of copies. If it is 0,
    the gradients have the same symmetry and training keeps it at 0. Noise at snr_db makes it about
    sqrt(2 / (1 + 10^(snr_db / 10))) for symmetric clones. ``source`` is the configuration before growing.
    0 for matrices of zeros.
    """
    number = copies(source, width, heads)
    moved = total = 0.0
    for name, weight in weights.items():
        axis = axes(name)
        if len(axis) == 1 or name == EMBEDDING:
            continue
        blocks = blocks_of(weight.detach(), number[axis[0]], number[axis[1]]).double()
        moved += float((blocks - blocks.roll((-1, -1), (0, 1))).square().sum())
        total += float(blocks.square().sum())
    return (moved / total) ** 0.5 if total else 0.0
