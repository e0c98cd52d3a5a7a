"""Averages of weights: linear and spherical."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# Below this sine of the angle the great circle is not defined numerically; slerp and lerp then differ by less
# than its square, which float32 cannot hold.
SMALLEST_SINE = 1e-6


def weighted_sum(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum_i w_i x_i for n equally shaped tensors; a new tensor."""
    total = tensors[0] * weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total.add_(tensor, alpha=weight)
    return total


def normalized(weights: Sequence[float]) -> list[float]:
    """Weights divided by their sum; ValueError if that is zero (below 1e-8)."""
    total = math.fsum(weights)
    if abs(total) < 1e-8:
        raise ValueError(f"the weights {list(weights)} sum to zero and cannot be normalised")
    return [weight / total for weight in weights]


def linear(models: Sequence[Tensor], weights: Sequence[float], normalize: bool = True) -> Tensor:
    """Weighted average sum_i w_i m_i / sum_i w_i (Wortsman et al. 2022, arXiv 2203.05482).

    `normalize=False` leaves the division out. ValueError if the weights to be normalised sum to zero.
    """
    return weighted_sum(models, normalized(weights) if normalize else weights)


def slerp_weights(squared_first: float, squared_second: float, product: float, t: float) -> tuple[float, float]:
    """Factors (p, q) of slerp = p a + q b from |a|^2, |b|^2 and a.b, all in float64 (Shoemake 1985).

    p = sin((1-t) theta) / sin theta, q = sin(t theta) / sin theta, theta the angle between a and b. They act
    on the vectors as they are, so the length is interpolated too and unit vectors stay unit vectors.
    Where no great circle is defined (a zero vector, or sin theta < 1e-6: parallel or opposite vectors) the
    factors are those of the straight line, 1 - t and t.
    """
    norms = math.sqrt(squared_first) * math.sqrt(squared_second)
    if norms == 0.0:
        return 1.0 - t, t
    theta = math.acos(max(-1.0, min(1.0, product / norms)))
    sine = math.sin(theta)
    if sine < SMALLEST_SINE:
        return 1.0 - t, t
    return math.sin((1.0 - t) * theta) / sine, math.sin(t * theta) / sine


def slerp(first: Tensor, second: Tensor, t: float) -> Tensor:
    """Spherical interpolation of two equally shaped tensors, each taken as one vector; t=0 gives `first`."""
    a, b = first.flatten().to(torch.float64), second.flatten().to(torch.float64)
    p, q = slerp_weights(float(a @ a), float(b @ b), float(a @ b), t)
    return weighted_sum([first, second], [p, q])
