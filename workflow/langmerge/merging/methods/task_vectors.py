"""Methods on task vectors d_i = m_i - base: TIES, DARE, DELLA, Model Breadcrumbs.

A merge is base + scale x (weighted sum of the sparse task vectors: task arithmetic, Ilharco et al. 2023, arXiv
2212.04089, where none is sparse) or base + scale x `disjoint_mean`.

All tensors of a call have one shape; any shape will do where nothing else is said, since most functions here work
entry by entry. What needs more than one entry (thresholds, masks, ranks, majority signs) is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from langmerge.merging.chunks import CHUNK, pieces
from langmerge.merging.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

# ---- sparse task vectors -------------------------------------------------------------------------------------------


def drop_and_rescale(delta: Tensor, keep: Tensor, density: float) -> Tensor:
    """DARE: entries where the boolean `keep` is false become 0, the others d / density.

    Unbiased if each entry is kept with probability `density` (Yu et al. 2024, arXiv 2311.03099, equations 1-2
    with p = 1 - density). The division is by the probability, not by the realised share, in every convention.
    """
    return (delta / density).mul_(keep)


def masked(delta: Tensor, mask: Tensor) -> Tensor:
    """d where the int32 `mask` is -1, +0 where it is 0 (other masks are not allowed); a new tensor."""
    return torch.bitwise_and(delta.view(torch.int32), mask).view(torch.float32)


def trim(delta: Tensor, threshold: float, last: int | None = None, first: int | None = None) -> Tensor:
    """TIES, step 1: entries with |d| < threshold become 0; a new tensor.

    `last` and `first` say which entries of exactly the threshold's magnitude (a float32 number) stay: those at
    positions up to `last` and those from `first` on; None, None keeps them all. They are for tensors of shape
    (count,) and may lie outside of it. threshold 0 changes nothing, infinity trims everything.
    """
    if threshold <= 0 or math.isinf(threshold):
        return delta.clone() if threshold <= 0 else torch.zeros_like(delta)
    below = float(torch.nextafter(torch.tensor(threshold), torch.tensor(0.0)))
    if last is None and first is None:
        return torch.hardshrink(delta, below)  # keeps what is larger than its bound
    count = len(delta)
    head = 0 if last is None else min(max(last + 1, 0), count)
    tail = count if first is None else min(max(first, head), count)
    result = torch.empty_like(delta)
    for start, stop, bound in ((0, head, below), (head, tail, threshold), (tail, count, below)):
        if start < stop:
            torch.hardshrink(delta[start:stop], bound, out=result[start:stop])
    return result


def keep_probability(rank: Tensor, columns: int, density: float, epsilon: float, convention: str) -> Tensor:
    """DELLA: the probability of keeping an entry whose magnitude has `rank` 0 (smallest) .. columns - 1 in its row.

    paper (Deep et al. 2024, arXiv 2406.11617, section 3): the drop probability rises from p - epsilon / 2 in
    steps of epsilon / columns from the largest entry to the smallest, p = 1 - density. mergekit and the authors'
    code: the keep probability runs linearly from density - epsilon (smallest) to density + epsilon (largest). In a
    row of one entry, which leaves mergekit with 0 / 0, it is the middle of the bounds, density.
    `rank` is a float32 tensor of any shape, halves allowed; the result is a new one.
    """
    if columns == 1:
        return torch.full_like(rank, density)
    if convention == "paper":
        step = epsilon / columns
        return (rank * step).add_(density + epsilon / 2 - step * (columns - 1))
    return (rank * (2 * epsilon / (columns - 1))).add_(density - epsilon)


# ---- consensus -----------------------------------------------------------------------------------------------------


def elected_sign(deltas: Sequence[Tensor], weights: Sequence[float] | None, zero: int) -> Tensor:
    """TIES, step 2: sign of sum_i w_i d_i for each entry (w_i = 1 without weights), `zero` where it is 0.

    `zero` 0 leaves these entries undecided, as the majority over a model is counted. Each product is rounded to
    float32 before it is added, as in mergekit: which of nearly equal votes win may hang on that.
    """
    factors = weights or [1.0] * len(deltas)
    total = deltas[0] * factors[0]
    for delta, factor in zip(deltas[1:], factors[1:], strict=True):
        total.add_(delta if factor == 1 else delta * factor)
    if zero == 0:
        return total.sign_()
    # Comparisons in place yield 0.0 and 1.0, much faster than booleans.
    return (total.ge_(0.0) if zero > 0 else total.gt_(0.0)).mul_(2.0).sub_(1.0)


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
    if normalize and not divide_by_count and len(set(weights)) == 1 and weights[0] > 0:
        weights = [1.0] * len(weights)  # equal weights cancel
    total = torch.zeros_like(sign)
    divisor = torch.zeros_like(sign) if normalize else None
    agreeing = torch.empty_like(sign)
    counted = []
    for delta, weight in zip(deltas, weights, strict=True):
        if weight == 0 and weighted_vote:
            continue
        # |d_i| where d_i has the elected sign, else 0
        torch.mul(delta, sign, out=agreeing)
        if weight < 0 and weighted_vote:
            agreeing.neg_()
        agreeing.relu_()
        total.add_(agreeing, alpha=abs(weight) if weighted_vote else weight)
        if divisor is not None:
            counted.append(1.0 if divide_by_count else weight)
            divisor.add_(agreeing.sign_(), alpha=counted[-1])
    if divisor is not None:
        smallest = min(counted, default=1.0)
        # Among positive weights the divisor is either 0 or at least the smallest of them.
        divisor = divisor.clamp_(min=smallest) if smallest > 0 else divisor.masked_fill_(divisor == 0, 1.0)
        total.div_(divisor)
    return total.mul_(sign)


def disjoint_mean(
    sparse: Sequence[Tensor], weights: Sequence[float], convention: str, normalize: bool = True, majority: int = 1
) -> Tensor:
    """Elect a sign for each entry and merge the entries that agree: Yadav et al. 2023, arXiv 2306.01708; (count,).

    convention, election, zero sum of the votes, divisor:
    paper: unweighted, the model's `majority` sign (+1 or -1), sum of the agreeing weights (equal weights:
    their number); mergekit: weighted, +, sum of the agreeing weights; peft: unweighted, +, number of the
    agreeing. Without `normalize` nothing is divided (fusion_bench's default). How `sparse` came about differs
    too (whole model or per tensor): see `langmerge.merging.selection`.
    """
    weighted_vote = convention == "mergekit"
    zero = majority if convention == "paper" else 1
    merged = []
    for piece in pieces(len(sparse[0]), sparse[0].device, 2 * CHUNK):
        parts = [vector[piece] for vector in sparse]
        sign = elected_sign(parts, weights if weighted_vote else None, zero)
        by_count = convention == "peft"
        merged.append(
            disjoint_merge(
                parts, sign, weights, weighted_vote=weighted_vote, divide_by_count=by_count, normalize=normalize
            )
        )
    return merged[0] if len(merged) == 1 else torch.cat(merged)
