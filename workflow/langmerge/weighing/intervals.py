"""Uncertainty over tensors: a model's matrices are the population that its layers and modules are drawn from."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit


def jackknife(estimate: np.ndarray, left_out: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Interval of ``estimate`` [...] from estimates [T, ...] that each leave out one tensor.

    Student's t with T - 1 degrees of freedom times the delete-one jackknife's standard error
    sqrt((T - 1) / T * sum (x_t - mean)^2) (Efron and Stein 1981). NaN for fewer than two tensors.
    """
    n = len(left_out)
    if n < 2:
        return np.full(estimate.shape, np.nan), np.full(estimate.shape, np.nan)
    error = np.sqrt((n - 1) / n * ((left_out - left_out.mean(0)) ** 2).sum(0))
    half = stdtrit(n - 1, 0.5 + level / 2) * error
    return estimate - half, estimate + half


def of_mean(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean of ``values`` [T], which the jackknife of a mean is; NaN for fewer than two."""
    n = len(values)
    if n < 2:
        return float("nan"), float("nan")
    half = stdtrit(n - 1, 0.5 + level / 2) * values.std(ddof=1) / np.sqrt(n)
    return float(values.mean() - half), float(values.mean() + half)
