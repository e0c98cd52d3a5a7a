"""Averages of weights: linear, spherical, and the interpolation of Model Stock.

All spherical averages of n vectors x_i are sums f_1 x_1 + .. + f_n x_n whose factors follow from the vectors' dot
products alone: `*_factors` take Gram matrices G_ij = x_i . x_j, float64 of shape (..., n, n), and give the factors,
float64 (..., n). Leading dimensions are independent problems (the rows of a matrix, say). They take and give numpy
arrays or tensors alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from langmerge.merging.elements import module_of
from langmerge.merging.gram import gram
from langmerge.merging.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Numbers = Any
"""A numpy array or a tensor."""

# Below this sine of the angle the great circle is not defined numerically; slerp and lerp then differ by less
# than its square, which float32 cannot hold.
SMALLEST_SINE = 1e-6


def weighted_sum(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum_i w_i x_i for n equally shaped tensors; a new tensor."""
    total = tensors[0] * weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total.add_(tensor, alpha=weight)
    return total


def scaled_sum(tensors: Sequence[Tensor], factors: Sequence[Tensor]) -> Tensor:
    """sum_i f_i x_i for n equally shaped tensors and factors that broadcast to them; a new tensor."""
    total = tensors[0] * factors[0]
    for tensor, factor in zip(tensors[1:], factors[1:], strict=True):
        total.addcmul_(tensor, factor)
    return total


def normalized(weights: Sequence[float]) -> list[float]:
    """Weights divided by their sum; ValueError if that is zero (below 1e-8)."""
    total = math.fsum(weights)
    if abs(total) < 1e-8:
        raise ValueError(f"the weights {list(weights)} sum to zero and cannot be normalised")
    return [weight / total for weight in weights]


def linear(models: Sequence[Tensor], weights: Sequence[float], normalize: bool = True) -> Tensor:
    """Weighted average sum_i w_i m_i / sum_i w_i (Wortsman et al. 2022, arXiv 2203.05482).

    `normalize=False` leaves the division out. The sum is divided, not the weights: so a mean of equal weights is
    as exact as float32 can be. ValueError if the weights to be normalised sum to zero (below 1e-8).
    """
    total = weighted_sum(models, weights)
    divisor = math.fsum(weights)
    if not normalize or divisor == 1:
        return total
    if abs(divisor) < 1e-8:
        raise ValueError(f"the weights {list(weights)} sum to zero and cannot be normalised")
    return total.div_(divisor)


def norms_of(grams: Numbers) -> Numbers:
    """Lengths sqrt(G_ii) of the n vectors, (..., n)."""
    xp = module_of(grams)
    return xp.sqrt(xp.clip(xp.diagonal(grams, 0, -2, -1), 0, None))


def slerp_factors(grams: Numbers, t: float, convention: str = "exact") -> Numbers:
    """Factors of slerp between two vectors (Shoemake 1985), theta being the angle between them.

    f_1 = sin((1-t) theta) / sin theta, f_2 = sin(t theta) / sin theta. They act on the vectors as they are, so
    the length is interpolated too and unit vectors stay unit vectors. Any t: outside [0, 1] it extrapolates.
    Where no great circle is defined (a zero vector, or sin theta < 1e-6: parallel or opposite vectors) the
    factors are those of the straight line, 1 - t and t.

    convention: exact is this. `slerp@mergekit` takes the straight line wherever |cos theta| > 0.9995, that is for
    angles below 1.81 degrees, which most fine-tuned models of one base lie within; `nuslerp@mergekit` only where
    1 - cos^2 theta <= 1e-16, and a length counts as at least 1e-7. In both a zero vector is at a right angle to
    any other.
    """
    xp = module_of(grams)
    lengths = norms_of(grams)
    if convention == "slerp@mergekit":
        lengths = xp.where(lengths > 1e-8, lengths, 1.0)
    elif convention == "nuslerp@mergekit":
        lengths = xp.clip(lengths, 1e-7, None)
    cosine = xp.clip(_ratio(grams[..., 0, 1], lengths.prod(-1), 1.0), -1, 1)
    theta = xp.arccos(cosine)
    sine = xp.sin(theta)
    straight = {
        "exact": sine < SMALLEST_SINE,
        "slerp@mergekit": abs(cosine) > 0.9995,
        "nuslerp@mergekit": 1 - cosine**2 <= 1e-16,
    }[convention]
    line = xp.stack([xp.full_like(theta, 1 - t), xp.full_like(theta, t)], -1)
    arc = xp.stack([xp.sin((1 - t) * theta), xp.sin(t * theta)], -1) / xp.where(straight, 1.0, sine)[..., None]
    return xp.where(straight[..., None], line, arc)


def slerp(first: Tensor, second: Tensor, t: float) -> Tensor:
    """Spherical interpolation of two equally shaped tensors, each taken as one vector; t=0 gives `first`."""
    factors = slerp_factors(gram([first.flatten(), second.flatten()]), t)
    return weighted_sum([first, second], factors.tolist())


def second_share(weights: Sequence[float]) -> float:
    """NuSLERP's t = w_2 / (w_1 + w_2) of two weights; 0.5 if |w_1 + w_2| < 1e-6."""
    first, second = weights
    return 0.5 if abs(first + second) < 1e-6 else second / (first + second)


def multislerp_factors(grams: Numbers, weights: Sequence[float], normalize: bool = True, eps: float = 1e-8) -> Numbers:
    """Barycentre on a sphere of n vectors: L m / |m| with m = sum_i w_i u_i and L = sum_i w_i |x_i|.

    u_i = x_i / (|x_i| + eps) are the directions (C. Goddard,
    goddard.blog/posts/multislerp-wow-what-a-cool-idea). The method is described as one step of averaging in the
    tangent space at m / |m|; that average, m - (m . m) m / |m|^2, is zero, so the step moves nothing and is left
    out. One model alone is returned as it is. Where the directions cancel, |m| < eps (all vectors zero, or
    opposite ones in balance), the straight line w_i is taken; mergekit does so for two models and fails for more.
    ValueError if the weights to be normalised sum to zero.
    """
    xp = module_of(grams)
    lengths = norms_of(grams)
    if lengths.shape[-1] == 1:
        return xp.ones_like(lengths)
    w = _like(grams, normalized(weights) if normalize else weights)
    mean = w * _ratio(1.0, lengths + eps, 0.0)
    length = _length(mean, grams)
    straight = (length < eps) | (length == 0)
    arc = mean * ((w * lengths).sum(-1) / xp.where(straight, 1.0, length))[..., None]
    return xp.where(straight[..., None], w, arc)


def karcher_factors(grams: Numbers, weights: Sequence[float], max_iter: int = 10, tol: float = 1e-5) -> Numbers:
    """Weighted Karcher mean of the directions of n vectors, times the weighted mean of their lengths; one (n, n).

    The point m of the unit sphere where sum_i w_i log_m(u_i) = 0 (Karcher 1977; for merging: arXiv 2603.04972),
    w_i >= 0 normalised. From the normalised mean of the u_i it moves along the mean of the logarithms
    log_m(u) = theta / sin theta (u - cos theta m) until that is shorter than `tol` (radians) or `max_iter` steps
    are done. Zero vectors have no direction and count for the length alone; a model opposite to m
    (sin theta < 1e-6) has no shortest way to it and is skipped in that step. If the directions cancel
    (mean shorter than `tol`) the first one is the start; if all vectors are zero so is the mean.
    ValueError if the weights sum to zero.
    """
    xp = module_of(grams)
    lengths = norms_of(grams)
    alphas = _like(grams, normalized(weights))
    inverse = _ratio(1.0, lengths, 0.0)
    w = alphas * (lengths > 0)
    if not float(w.sum()) > 0:
        return xp.zeros_like(lengths)
    w = w / w.sum()
    mean = w * inverse
    if float(_length(mean, grams)) < tol:
        mean = xp.zeros_like(mean)
        start = next(index for index, share in enumerate(w.tolist()) if share > 0)
        mean[start] = inverse[start]
    mean = mean / _length(mean, grams)
    for _ in range(max_iter):
        cosines = xp.clip(inverse * (grams @ mean), -1, 1)
        theta = xp.arccos(cosines)
        sine = xp.sin(theta)
        near = sine < SMALLEST_SINE
        stretch = xp.where(near, cosines > 0, theta / xp.where(near, 1.0, sine))
        steps = w * stretch
        tangent = steps * inverse - (steps * cosines).sum() * mean
        length = float(_length(tangent, grams))
        if length < tol:
            break
        mean = math.cos(length) * mean + math.sin(length) / length * tangent
        mean = mean / _length(mean, grams)
    return (alphas * lengths).sum() * mean


def model_stock_share(grams: Numbers, convention: str = "paper") -> Numbers:
    """Model Stock's share t of the experts' mean; (...,) from Gram matrices of n >= 2 task vectors.

    t = n c / (1 + (n - 1) c), with c the mean cosine over all pairs (Jang et al. 2024, arXiv 2403.19522, section 4):
    the point of the plane through base and experts that is nearest to the centre of the experts' distribution.
    A zero vector has cosine 0 with any other.

    convention: paper clamps t to [0, 1]: task vectors that on the whole disagree (c <= 0) estimate no common
    centre, and the base is kept. mergekit counts the product of two lengths as at least 1e-6, so that small task
    vectors seem orthogonal, and leaves t negative (0 where |1 + (n - 1) c| < 1e-6): it then moves away from the
    experts. fusion_bench takes the mean of the angles instead of the cosines, adds 1e-8 to the product of lengths
    and to the denominator, and leaves t negative.
    """
    xp = module_of(grams)
    n = grams.shape[-1]
    lengths = norms_of(grams)
    rows, columns = (list(side) for side in zip(*combinations(range(n), 2), strict=True))
    product = lengths[..., rows] * lengths[..., columns]
    if convention == "mergekit":
        product = xp.clip(product, 1e-6, None)
    elif convention == "fusion_bench":
        product = product + 1e-8
    cosines = xp.clip(_ratio(grams[..., rows, columns], product, 0.0), -1, 1)
    if convention == "fusion_bench":
        mean = xp.cos(xp.arccos(cosines).mean(-1))
        return n * mean / ((n - 1) * mean + 1 + 1e-8)
    mean = cosines.mean(-1)
    if convention == "paper":
        mean = xp.clip(mean, 0, None)
    denominator = 1 + (n - 1) * mean
    singular = abs(denominator) < 1e-6
    return xp.where(singular, 0.0, n * mean / xp.where(singular, 1.0, denominator))


def _ratio(numerator: Numbers, denominator: Numbers, otherwise: float) -> Numbers:
    """The quotient, and `otherwise` where the denominator is not positive."""
    xp = module_of(denominator)
    positive = denominator > 0
    return xp.where(positive, numerator / xp.where(positive, denominator, 1.0), otherwise)


def _like(values: Numbers, numbers: Sequence[float]) -> Numbers:
    """Numbers in float64, as the array or tensor `values` is."""
    if module_of(values) is np:
        return np.array(numbers, np.float64)
    return torch.tensor(numbers, dtype=torch.float64, device=values.device)


def _length(factors: Numbers, grams: Numbers) -> Numbers:
    """Length |sum_i f_i x_i| = sqrt(f G f) of a sum of vectors, (...,)."""
    xp = module_of(grams)
    return xp.sqrt(xp.clip(xp.einsum("...i,...ij,...j->...", factors, grams, factors), 0, None))
