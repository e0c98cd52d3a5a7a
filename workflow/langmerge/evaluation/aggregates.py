"""What a merge keeps of its experts: retention, ratio and interference."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def _arrays(*values: ArrayLike) -> list[np.ndarray]:
    return list(np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in values)))


def retention(merged: ArrayLike, expert: ArrayLike, base: ArrayLike, standard_error: ArrayLike) -> np.ndarray:
    """The share of the expert's gain over the base that the merge keeps: ``R = (m - b) / (e - b)``.

    1 is the expert, 0 the base, negative worse than the base. NaN, never 0, where the expert's gain is not
    distinguishable from nothing: ``|e - b| < 2 standard_error`` (of ``e - b``), or no gain at all. Inputs
    broadcast. Where lower is better all three differences change their sign, and R is the same.
    """
    m, b, gain, error = _arrays(merged, base, np.subtract(expert, base), standard_error)
    defined = (np.abs(gain) >= 2 * error) & (gain != 0)
    return np.divide(m - b, gain, out=np.full(m.shape, np.nan), where=defined)


def ratio(merged: ArrayLike, expert: ArrayLike, lower_is_better: bool = False) -> np.ndarray:
    """``m / e``, for scores without a meaningful base; NaN where the expert's score is 0.

    With ``lower_is_better`` (TER, bits per byte) ``e / m``, so that less than 1 is always worse than the expert; NaN
    where the merge's score is 0.
    """
    m, e = _arrays(merged, expert)
    above, below = (e, m) if lower_is_better else (m, e)
    return np.divide(above, below, out=np.full(m.shape, np.nan), where=below != 0)


def interference(merged: ArrayLike, expert: ArrayLike, lower_is_better: bool = False) -> np.ndarray:
    """``e - m``: what merging costs, in points of the score; ``m - e`` where lower is better."""
    m, e = _arrays(merged, expert)
    return m - e if lower_is_better else e - m
