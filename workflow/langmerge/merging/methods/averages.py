"""Averages of weights: linear, spherical, and the interpolation of Model Stock.

All spherical averages of n vectors x_i are sums f_1 x_1 + .. + f_n x_n whose factors follow from the vectors' dot
products alone: `*_factors` take Gram matrices G_ij = x_i . x_j, float64 of shape (..., n, n), and give the factors,
float64 (..., n). Leading dimensions are independent problems (the rows of a matrix, say).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from langmerge.merging.gram import gram

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


def norms_of(grams: Tensor) -> Tensor:
    """Lengths sqrt(G_ii) of the n vectors, (..., n)."""
    return grams.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()


def slerp_factors(grams: Tensor, t: float, convention: str = "exact") -> Tensor:
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
    lengths = norms_of(grams)
    if convention == "slerp@mergekit":
        lengths = torch.where(lengths > 1e-8, lengths, 1.0)
    elif convention == "nuslerp@mergekit":
        lengths = lengths.clamp(min=1e-7)
    product = lengths.prod(-1)
    cosine = torch.where(product > 0, grams[..., 0, 1] / product, 1.0).clamp(-1, 1)
    theta = cosine.acos()
    sine = theta.sin()
    straight = {
        "exact": sine < SMALLEST_SINE,
        "slerp@mergekit": cosine.abs() > 0.9995,
        "nuslerp@mergekit": 1 - cosine.square() <= 1e-16,
    }[convention]
    line = torch.tensor([1 - t, t], dtype=torch.float64, device=grams.device)
    arc = torch.stack([((1 - t) * theta).sin(), (t * theta).sin()], -1) / torch.where(straight, 1.0, sine)[..., None]
    return torch.where(straight[..., None], line, arc)


def slerp(first: Tensor, second: Tensor, t: float) -> Tensor:
    """Spherical interpolation of two equally shaped tensors, each taken as one vector; t=0 gives `first`."""
    factors = slerp_factors(gram([first.flatten(), second.flatten()]), t)
    return weighted_sum([first, second], factors.tolist())


def second_share(weights: Sequence[float]) -> float:
    """NuSLERP's t = w_2 / (w_1 + w_2) of two weights; 0.5 if |w_1 + w_2| < 1e-6."""
    first, second = weights
    return 0.5 if abs(first + second) < 1e-6 else second / (first + second)


def multislerp_factors(grams: Tensor, weights: Sequence[float], normalize: bool = True, eps: float = 1e-8) -> Tensor:
    """Barycentre on a sphere of n vectors: L m / |m| with m = sum_i w_i u_i and L = sum_i w_i |x_i|.

    u_i = x_i / (|x_i| + eps) are the directions (C. Goddard,
    goddard.blog/posts/multislerp-wow-what-a-cool-idea). The method is described as one step of averaging in the
    tangent space at m / |m|; that average, m - (m . m) m / |m|^2, is zero, so the step moves nothing and is left
    out. One model alone is returned as it is. Where the directions cancel, |m| < eps (all vectors zero, or
    opposite ones in balance), the straight line w_i is taken; mergekit does so for two models and fails for more.
    ValueError if the weights to be normalised sum to zero.
    """
    lengths = norms_of(grams)
    if lengths.shape[-1] == 1:
        return torch.ones_like(lengths)
    w = torch.tensor(normalized(weights) if normalize else weights, dtype=torch.float64, device=grams.device)
    inverse = torch.where(lengths + eps > 0, 1 / (lengths + eps), 0.0)
    mean = w * inverse
    length = _length(mean, grams)
    straight = (length < eps) | (length == 0)
    arc = mean * ((w * lengths).sum(-1) / torch.where(straight, 1.0, length))[..., None]
    return torch.where(straight[..., None], w, arc)


def karcher_factors(grams: Tensor, weights: Sequence[float], max_iter: int = 10, tol: float = 1e-5) -> Tensor:
    """Weighted Karcher mean of the directions of n vectors, times the weighted mean of their lengths; one (n, n).

    The point m of the unit sphere where sum_i w_i log_m(u_i) = 0 (Karcher 1977; for merging: arXiv 2603.04972),
    w_i >= 0 normalised. From the normalised mean of the u_i it moves along the mean of the logarithms
    log_m(u) = theta / sin theta (u - cos theta m) until that is shorter than `tol` (radians) or `max_iter` steps
    are done. Zero vectors have no direction and count for the length alone; a model opposite to m
    (sin theta < 1e-6) has no shortest way to it and is skipped in that step. If the directions cancel
    (mean shorter than `tol`) the first one is the start; if all vectors are zero so is the mean.
    ValueError if the weights sum to zero.
    """
    lengths = norms_of(grams)
    alphas = torch.tensor(normalized(weights), dtype=torch.float64, device=grams.device)
    inverse = torch.where(lengths > 0, 1 / lengths, 0.0)
    w = alphas * (lengths > 0)
    if not float(w.sum()) > 0:
        return torch.zeros_like(lengths)
    w = w / w.sum()
    mean = w * inverse
    if float(_length(mean, grams)) < tol:
        mean = torch.zeros_like(mean)
        start = int(w.gt(0).nonzero()[0])
        mean[start] = inverse[start]
    mean = mean / _length(mean, grams)
    for _ in range(max_iter):
        cosines = (inverse * (grams @ mean)).clamp(-1, 1)
        theta = cosines.acos()
        sine = theta.sin()
        stretch = torch.where(sine < SMALLEST_SINE, (cosines > 0).double(), theta / sine)
        steps = w * stretch
        tangent = steps * inverse - (steps * cosines).sum() * mean
        length = float(_length(tangent, grams))
        if length < tol:
            break
        mean = math.cos(length) * mean + math.sin(length) / length * tangent
        mean = mean / _length(mean, grams)
    return (alphas * lengths).sum() * mean


def model_stock_share(grams: Tensor, convention: str = "paper") -> Tensor:
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
    n = grams.shape[-1]
    lengths = norms_of(grams)
    above = torch.triu_indices(n, n, 1, device=grams.device)
    dots = grams[..., above[0], above[1]]
    product = lengths[..., above[0]] * lengths[..., above[1]]
    if convention == "mergekit":
        product = product.clamp(min=1e-6)
    elif convention == "fusion_bench":
        product = product + 1e-8
    cosines = torch.where(product > 0, dots / product, 0.0).clamp(-1, 1)
    if convention == "fusion_bench":
        mean = cosines.acos().mean(-1).cos()
        return n * mean / ((n - 1) * mean + 1 + 1e-8)
    mean = cosines.mean(-1)
    if convention == "paper":
        mean = mean.clamp(min=0)
    denominator = 1 + (n - 1) * mean
    singular = denominator.abs() < 1e-6
    return torch.where(singular, 0.0, n * mean / torch.where(singular, 1.0, denominator))


def _length(factors: Tensor, grams: Tensor) -> Tensor:
    """Length |sum_i f_i x_i| = sqrt(f G f) of a sum of vectors, (...,)."""
    return torch.einsum("...i,...ij,...j->...", factors, grams, factors).clamp(min=0).sqrt()
