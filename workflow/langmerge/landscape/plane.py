"""The plane through three models in weight space: coordinates, and the combination of weights at a point.

Garipov et al. 2018 (arXiv 1802.10026), appendix A.2: u = (theta_2 - theta_1) / ||.||, v = the part of
theta_3 - theta_1 that is orthogonal to u, normalised; a point is theta_1 + x u + y v. The unit is that of the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Point = tuple[float, float]
Corners = tuple[Point, Point, Point]

FLAT = 1e-5  # of the third model's distance from the line through the others, relative to its distance from the first


def corners(first_second: float, first_third: float, second_third: float) -> Corners:
    """Coordinates of three models from their distances: (0, 0), (d_12, 0), (p, q) with q > 0, by the law of cosines.

    ValueError if they lie on one line (or two of them are equal): there is no plane then.
    """
    if first_second == 0:
        raise ValueError("the first two models are equal, so that there is no plane through the three")
    p = (first_second**2 + first_third**2 - second_third**2) / (2 * first_second)
    square = first_third**2 - p**2
    if square <= (FLAT * first_third) ** 2:
        raise ValueError("the three models lie on one line, so that there is no plane through them")
    return (0.0, 0.0), (first_second, 0.0), (p, math.sqrt(square))


def coefficients(point: Point, models: Corners) -> tuple[float, float, float]:
    """c with theta(point) = c_1 theta_1 + c_2 theta_2 + c_3 theta_3 and sum c = 1: barycentric coordinates."""
    (x, y), (_, (d, _), (p, q)) = point, models
    third = y / q
    second = (x - third * p) / d
    return 1 - second - third, second, third


def grid(models: Corners, points: int, margin: float = 0.25) -> list[Point]:
    """``points`` x ``points`` places, row by row, over the models' bounding box and ``margin`` of its sides around."""
    axes = [_axis([model[i] for model in models], points, margin) for i in (0, 1)]
    return [(float(x), float(y)) for y in axes[1] for x in axes[0]]


def _axis(values: Sequence[float], points: int, margin: float) -> np.ndarray:
    around = margin * (max(values) - min(values))
    return np.linspace(min(values) - around, max(values) + around, points)


def most_distant(distance: np.ndarray) -> tuple[int, int]:
    """The two models (i < j) that are farthest apart, of ``distance`` [M, M]; the first such where there are ties."""
    upper = np.triu(distance, 1)
    i, j = np.unravel_index(int(upper.argmax()), upper.shape)
    return int(i), int(j) if i != j else 1
