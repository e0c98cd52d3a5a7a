"""Methods on task vectors d_i = m_i - base: task arithmetic, TIES, DARE.

All tensors of a call have one shape; any shape will do, since every function here works entry by entry.
What needs more than one entry (thresholds, masks, majority signs) is an argument.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from langmerge.merging.methods.averages import normalized, weighted_sum


def task_arithmetic(
    base: Tensor, deltas: Sequence[Tensor], weights: Sequence[float], scale: float, normalize: bool = False
) -> Tensor:
    """base + scale sum_i w_i d_i (Ilharco et al. 2023, arXiv 2212.04089, section 2).

    With `normalize` the weights are divided by their sum first (ValueError if that is zero).
    """
    return base + weighted_sum(deltas, normalized(weights) if normalize else weights).mul_(scale)


def drop_and_rescale(delta: Tensor, keep: Tensor, density: float) -> Tensor:
    """DARE: entries where the boolean `keep` is false become 0, the others d / density.

    Unbiased if each entry is kept with probability `density` (Yu et al. 2024, arXiv 2311.03099, equations 1-2
    with p = 1 - density). The division is by the probability, not by the realised share, in every convention.
    """
    return (delta / density).mul_(keep)


def trim(delta: Tensor, threshold: float, last_equal: Tensor | None = None) -> Tensor:
    """TIES, step 1: entries with |d| < threshold become 0.

    `last_equal` (boolean, same shape) says which entries of exactly the threshold's magnitude stay; None
    keeps them all. threshold 0 changes nothing, infinity trims everything.
    """
    magnitude = delta.abs()
    keep = magnitude >= threshold if last_equal is None else magnitude > threshold
    if last_equal is not None:
        keep |= (magnitude == threshold) & last_equal
    return delta * keep


def elected_sign(deltas: Sequence[Tensor], weights: Sequence[float] | None, zero: int) -> Tensor:
    """TIES, step 2: sign of sum_i w_i d_i for each entry (w_i = 1 without weights), `zero` where it is 0.

    `zero` 0 leaves these entries undecided, as the majority over a model is counted.
    """
    sign = weighted_sum(deltas, weights or [1.0] * len(deltas)).sign_()
    return sign.masked_fill_(sign == 0, zero) if zero else sign


def disjoint_merge(
    deltas: Sequence[Tensor],
    sign: Tensor,
    weights: Sequence[float],
    *,
    weighted_vote: bool,
    divide_by_count: bool,
    normalize: bool,
) -> Tensor:
    """TIES, step 3: sum or mean of the entries whose sign is the elected one.

    An entry agrees if sign(d_i) (with `weighted_vote`: sign(w_i d_i)) is the elected sign; zeros never do.
    The sum of w_i d_i over the agreeing models is divided, with `normalize`, by the sum of their weights or
    (`divide_by_count`) their number. Where that is zero (nobody agrees, or weights that cancel) it is
    divided by 1, so an entry that all models trimmed gives 0.
    """
    total = torch.zeros_like(sign)
    divisor = torch.zeros_like(sign)
    for delta, weight in zip(deltas, weights, strict=True):
        vote = delta.sign() * (-1.0 if weighted_vote and weight < 0 else 1.0)
        agrees = (vote == sign) & (delta != 0)
        if weighted_vote and weight == 0:
            agrees.fill_(False)
        total += delta * agrees * weight
        divisor += agrees * (1.0 if divide_by_count else weight)
    if not normalize:
        return total
    return total / divisor.masked_fill_(divisor == 0, 1.0)


def ties(
    base: Tensor,
    trimmed: Sequence[Tensor],
    weights: Sequence[float],
    scale: float,
    convention: str,
    normalize: bool = True,
    majority: int = 1,
) -> Tensor:
    """base + scale x (disjoint mean of trimmed task vectors), Yadav et al. 2023, arXiv 2306.01708.

    convention, election, zero sum of the votes, divisor:
    paper: unweighted, the model's `majority` sign (+1 or -1), sum of the agreeing weights (equal weights:
    their number); mergekit: weighted, +, sum of the agreeing weights; peft: unweighted, +, number of the
    agreeing. How `trimmed` came about differs too (whole model or per tensor): see
    `langmerge.merging.selection`.
    """
    weighted_vote = convention == "mergekit"
    zero = majority if convention == "paper" else 1
    sign = elected_sign(trimmed, weights if weighted_vote else None, zero)
    merged = disjoint_merge(
        trimmed,
        sign,
        weights,
        weighted_vote=weighted_vote,
        divide_by_count=convention == "peft",
        normalize=normalize,
    )
    return base + merged.mul_(scale)
