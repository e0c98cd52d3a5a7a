"""Uncertainty by the delete-one-block jackknife: sentences, not tokens, are the independent units."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit


def standard_error(left_out: np.ndarray) -> np.ndarray:
    """Jackknife standard error [...] from estimates [G, ...] that each leave one block out; NaN for fewer than two."""
    blocks = len(left_out)
    if blocks < 2:
        return np.full(left_out.shape[1:], np.nan)
    deviations = left_out - left_out.mean(0)
    return np.sqrt((blocks - 1) / blocks * (deviations**2).sum(0))


def interval(estimate: np.ndarray, left_out: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Confidence interval of ``estimate`` [...]: Student's t with G - 1 degrees of freedom times the standard error."""
    blocks = len(left_out)
    half = stdtrit(blocks - 1, 0.5 + level / 2) * standard_error(left_out) if blocks > 1 else np.nan
    return estimate - half, estimate + half
