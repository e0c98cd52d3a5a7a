"""Uncertainty by the delete-one jackknife (Efron and Stein 1981), of whatever is independent.

That are sentences in blocks, not tokens, where text was read, and a model's matrices where weights alone were.
"""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

LEVEL = 0.95


def standard_error(left_out: np.ndarray) -> np.ndarray:
    """Standard error [...] from estimates [G, ...] that each leave one of G units out; NaN for fewer than two.

    sqrt((G - 1) / G sum_g (x_g - mean)^2), for a mean the usual standard error.
    """
    units = len(left_out)
    if units < 2:
        return np.full(left_out.shape[1:], np.nan)
    deviations = left_out - left_out.mean(0)
    return np.sqrt((units - 1) / units * (deviations**2).sum(0))


def half_width(error: np.ndarray | float, units: int, level: float = LEVEL) -> np.ndarray:
    """Half of a confidence interval: Student's t with G - 1 degrees of freedom times the standard ``error`` [...]."""
    return np.asarray(stdtrit(units - 1, 0.5 + level / 2) * error if units > 1 else np.full_like(error, np.nan))


def interval(estimate: np.ndarray, left_out: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Confidence interval of ``estimate`` [...] from estimates [G, ...] that each leave one of G units out.

    NaN for fewer than two units, and where an estimate without one of them is not defined.
    """
    half = half_width(standard_error(left_out), len(left_out), level)
    return estimate - half, estimate + half


def interval_of_mean(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """:func:`interval` of the mean of ``values`` [G]; NaN for fewer than two."""
    n = len(values)
    if n < 2:
        return float("nan"), float("nan")
    half = float(half_width(values.std(ddof=1) / np.sqrt(n), n, level))
    return float(values.mean()) - half, float(values.mean()) + half
