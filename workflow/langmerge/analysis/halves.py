"""Standard errors by the delete-half jackknife, for what is not smooth: medians, neighbours, leading directions.

Leaving out one block moves such a statistic by jumps, and the delete-one jackknife takes these for spread: principal
angles and mutual neighbours came out with up to twice their true error. With half of the data left out the jumps
average out (Shao and Wu 1989: delete-d jackknife, consistent for such statistics where d is a fixed share of n).
"""

from __future__ import annotations

import math

import numpy as np

COUNT = 8  # half-samples: Student's t has one degree of freedom less


def half_samples(blocks: np.ndarray, seed: int = 0) -> np.ndarray:
    """Which sentences each half-sample keeps, bool [H, n]: those of half the blocks (one less than the rest if odd).

    H is at most :data:`COUNT` and the number of different halves; none for fewer than two blocks. ``blocks`` [n].
    """
    names = np.unique(blocks)
    kept = len(names) // 2
    if not kept:
        return np.zeros((0, len(blocks)), dtype=bool)
    generator = np.random.Generator(np.random.Philox(key=seed))
    found: dict[tuple[int, ...], None] = {}
    while len(found) < min(COUNT, math.comb(len(names), kept)):
        found[tuple(sorted(generator.choice(names, kept, replace=False).tolist()))] = None
    return np.stack([np.isin(blocks, half) for half in found])


def standard_error(values: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Standard error [...] of a statistic from its values [H, ...] in :func:`half_samples` of ``blocks``.

    sqrt(m / (G - m) var_h x_h) with m of G blocks kept; NaN for fewer than two half-samples, and where a value is NaN.
    """
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)
    total = len(np.unique(blocks))
    kept = total // 2
    return np.asarray(np.sqrt(kept / (total - kept) * values.var(0, ddof=1)))
