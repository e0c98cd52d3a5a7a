"""Methods on task vectors d_i = m_i - base that choose, entry by entry, whose change counts.

All tensors of a call are float32 of one shape (count,). What is a statistic of a tensor or model (thresholds,
mean squares, counts) is an argument. Masks are float32 (0 or 1): they multiply without a conversion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from langmerge.merging.chunks import pieces
from langmerge.merging.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

# ---- SCE -----------------------------------------------------------------------------------------------------------


CHUNK = 1 << 15
"""Entries that SCE works on at a time: with those of a few models they stay in a core's second-level cache."""


def squared_deviations(models: Sequence[Tensor]) -> Tensor:
    """n sum_i (x_i - mean)^2 for each entry: n^2 times the population variance over n models.

    Computed as n sum_i e_i^2 - (sum_i e_i)^2 with e_i = x_i - x_1, so exactly 0 where all models agree, and
    without cancellation: the first term is at most about n times the result. One model: 0 everywhere.
    """
    result = torch.zeros_like(models[0])
    total, shifted = (torch.empty_like(result[:CHUNK]) for _ in range(2))
    for piece in pieces(len(result), result.device, CHUNK):
        square, first = result[piece], models[0][piece]
        if len(total) != len(square):
            total, shifted = torch.empty_like(square), torch.empty_like(square)
        total.zero_()
        for model in models[1:]:
            torch.sub(model[piece], first, out=shifted)
            total.add_(shifted)
            square.addcmul_(shifted, shifted)
        square.mul_(len(models)).addcmul_(total, total, value=-1.0).clamp_(min=0)
    return result


def above(scores: Tensor, threshold: float, last_equal: int | None = None) -> Tensor:
    """float32 mask of the scores > threshold and of those == threshold up to index `last_equal` (None: all).

    Scores are finite and >= 0; `last_equal` < 0 keeps none of the equal ones.
    """
    keep = torch.empty_like(scores)
    if last_equal is None or last_equal >= len(scores) - 1:
        return torch.ge(scores, threshold, out=keep)
    upto = max(0, last_equal + 1)
    torch.ge(scores[:upto], threshold, out=keep[:upto])
    torch.gt(scores[upto:], threshold, out=keep[upto:])
    return keep


def sums_of_squares(base: Tensor, models: Sequence[Tensor], selected: Tensor | None) -> list[float]:
    """sum (m_i - base)^2 of each model over the `selected` entries (None: all); float64 of float32 runs."""
    sums = torch.zeros(len(models), dtype=torch.float64, device=base.device)
    for piece, deltas in _task_vectors(base, models):
        if selected is not None:
            deltas.mul_(selected[piece])
        sums += torch.linalg.vecdot(deltas, deltas)
    return sums.tolist()


def _task_vectors(base: Tensor, models: Sequence[Tensor]) -> Iterator[tuple[slice, Tensor]]:
    """Pieces of the task vectors, (models, entries), in one buffer that the caller may change."""
    deltas = base.new_empty(0, 0)
    for piece in pieces(len(base), base.device, CHUNK):
        if deltas.shape[1] != piece.stop - piece.start:
            deltas = base.new_empty(len(models), piece.stop - piece.start)
        for model, delta in zip(models, deltas, strict=True):
            torch.sub(model[piece], base[piece], out=delta)
        yield piece, deltas


def sce_weights(mean_squares: Sequence[float], convention: str) -> list[float]:
    """SCE, step 2: weights in proportion to the mean squares of the selected entries; equal if all are 0.

    FuseChat (arXiv 2408.07990), "Calculate". mergekit: equal as soon as they sum to less than 1e-6.
    """
    total = sum(mean_squares)
    if total == 0 or (convention == "mergekit" and total < 1e-6):
        return [1.0 / len(mean_squares)] * len(mean_squares)
    return [square / total for square in mean_squares]


def sce(
    base: Tensor, models: Sequence[Tensor], weights: Sequence[float], selected: Tensor | None, convention: str
) -> Tensor:
    """SCE, step 3: base + sum w_i d_i / sum w_i over the models whose sign is that of sum_i d_i (0 counts as +).

    FuseChat (arXiv 2408.07990), "Erase". `selected` is the mask of step 1 (None: all); other entries are the
    base's, as are those where nobody has the elected sign. Zeros never agree. Divisor where the weights of the
    agreeing sum to 0: 1 (paper); mergekit raises all divisors to at least 1e-6.
    """
    result = torch.empty_like(base)
    factors = torch.tensor(weights, dtype=torch.float32, device=base.device)
    # Below the smallest normal number nothing but 0 occurs in practice, and 0 / that is 0.
    smallest = 1e-6 if convention == "mergekit" else torch.finfo(torch.float32).tiny
    for piece, deltas in _task_vectors(base, models):
        sign = deltas.sum(0)
        torch.ge(sign, 0, out=sign).mul_(2).sub_(1)
        deltas.mul_(sign).clamp_(min=0)
        merged = torch.mv(deltas.T, factors, out=result[piece])
        merged.div_(torch.mv(torch.gt(deltas, 0, out=deltas).T, factors).clamp_(min=smallest)).mul_(sign)
        if selected is not None:
            merged.mul_(selected[piece])
        merged.add_(base[piece])
    return result


# ---- RAM -----------------------------------------------------------------------------------------------------------


def active_counts(deltas: Sequence[Tensor], epsilon: float) -> Tensor:
    """How many models change each entry, |d_i| > epsilon; float32."""
    counts = torch.zeros_like(deltas[0])
    for delta in deltas:
        counts.add_(torch.nn.functional.hardshrink(delta, epsilon).abs_().sign_())
    return counts


def unique_and_shared(deltas: Sequence[Tensor], epsilon: float) -> list[tuple[int, int]]:
    """For each model, of the entries it changes: how many no other model changes, and how many some does."""
    alone = active_counts(deltas, epsilon) == 1
    result = []
    for delta in deltas:
        changed = delta.abs() > epsilon
        unique = int((changed & alone).sum())
        result.append((unique, int(changed.sum()) - unique))
    return result


def ram_factor(unique: int, shared: int, r: float, alpha: float) -> float:
    """RAM+: lambda_i = 1 + r min(shared / unique, alpha); 1 if nothing is unique (then it scales nothing).

    Yuan et al. 2026 (arXiv 2601.13572). The authors' script has alpha = 1, and r = 0.05 as its default.
    """
    return 1.0 + r * min(shared / unique, alpha) if unique else 1.0


def ram(deltas: Sequence[Tensor], epsilon: float, factors: Sequence[float]) -> Tensor:
    """Merged task vector of RAM (all factors 1) and RAM+, Yuan et al. 2026 (arXiv 2601.13572).

    An entry that only model i changes (|d_i| > epsilon) is factors[i] d_i; one that several change is the
    mean of their changes; others are 0.
    """
    total, scaled, counts = (torch.zeros_like(deltas[0]) for _ in range(3))
    plain = all(factor == 1 for factor in factors)
    for delta, factor in zip(deltas, factors, strict=True):
        active = torch.nn.functional.hardshrink(delta, epsilon)
        total.add_(active)
        if not plain:
            scaled.add_(active, alpha=factor)
        counts.add_(active.abs_().sign_())
    mean = total.div_(counts.clamp(min=1))
    return mean if plain else torch.where(counts == 1, scaled, mean)


# ---- MagMax, Consensus, NearSwap ------------------------------------------------------------------------------------


def magmax(deltas: Sequence[Tensor]) -> Tensor:
    """For each entry the change of largest magnitude (Marczak et al. 2024, arXiv 2407.06322, section 4).

    Of equal magnitudes the last model's counts, as in the authors' code: it matters where they differ in sign.
    """
    chosen = deltas[0].clone()
    for delta in deltas[1:]:
        chosen = torch.where(delta.abs() >= chosen.abs(), delta, chosen)
    return chosen


def tall_mask(delta: Tensor, vector: Tensor, mask_scale: float, convention: str) -> Tensor:
    """Boolean: |d_t| >= mask_scale |d - d_t|, with d the multi-task `vector`: the entries that model t uses.

    Wang et al. 2024 (arXiv 2405.07813), section 4: where d is nearer to d_t than 0 is. The released code has >
    instead of >=, which differs for entries where both sides are equal.
    """
    distance = (vector - delta).abs_().mul_(mask_scale)
    return delta.abs() > distance if convention == "released" else delta.abs() >= distance


def consensus(deltas: Sequence[Tensor], vector: Tensor, k: int, mask_scale: float, convention: str) -> Tensor:
    """The multi-task `vector` where at least `k` TALL masks hold, else 0.

    Wang et al. 2024 (arXiv 2405.07813), section 5: k = 2 removes the entries that no model uses
    (catastrophic) or only one does (selfish); k = 0 removes nothing.
    """
    votes = torch.zeros_like(vector)
    for delta in deltas:
        votes.add_(tall_mask(delta, vector, mask_scale, convention))
    return vector * (votes >= k)


def nearswap(base: Tensor, model: Tensor, t: float) -> Tensor:
    """The base moved towards the model by at most t: w m + (1 - w) base with w = min(1, t / |m - base|).

    Written as a clamp, so entries nearer than t are the model's exactly. mergekit divides by at least 1e-6, which
    only differs for t < 1e-6.
    """
    return torch.minimum(torch.maximum(model, base - t), base + t)


# ---- Arcee Fusion --------------------------------------------------------------------------------------------------


def row_divergence(model: Tensor, base: Tensor, chunk: int = 1 << 16) -> Tensor:
    """KL(softmax(m) + 1e-8 || softmax(b) + 1e-8) of each row, float32 (rows,), from (rows, columns).

    In float64, some rows at a time: the terms of the sum cancel to a small part of their size. Never
    negative. Rows of length 1 give 0.
    """
    result = torch.empty(len(model), dtype=torch.float32, device=model.device)
    step = max(1, chunk // model.shape[1])
    for start in range(0, len(model), step):
        p = model[start : start + step].to(torch.float64).softmax(1).add_(1e-8)
        q = base[start : start + step].to(torch.float64).softmax(1).add_(1e-8)
        result[start : start + step] = torch.linalg.vecdot(p, torch.log(p).sub_(q.log_())).clamp_(min=0)
    return result


def importance(delta: Tensor, divergence: Tensor) -> Tensor:
    """|d| times the divergence of the entry's row; from (rows, columns) and (rows,) to (rows columns,)."""
    return delta.abs().mul_(divergence[:, None]).flatten()


# ---- PCB -----------------------------------------------------------------------------------------------------------


def normalized(values: Tensor, low: float, high: float) -> Tensor:
    """(values - low) / (high - low), between 0 and 1; 0 everywhere if high == low. A new tensor."""
    return (values - low).div_(high - low) if high > low else torch.zeros_like(values)


def pcb_scores(
    deltas: Sequence[Tensor],
    extremes: Sequence[Sequence[tuple[float, float]]],
    means: Sequence[Sequence[float]],
    intra_means: Sequence[float],
) -> list[Tensor]:
    """beta_i = Softmax(n Norm(d_i d_i)) sum_j Softmax(Norm(d_i d_j)), Du et al. 2024 (arXiv 2410.02396), section 3.

    Norm maps the products of a pair of models, over the whole model, from their `extremes` [i][j] to 0 .. 1 (to
    0 if all are equal), as the authors' code does. The softmax is over all D entries of the model; it comes here
    times D (divided by the mean of the exponentials, `means` [i][j] and `intra_means` [i], not by their sum):
    D^2 would vanish in float32, and cancels in the merge. Scores are positive.
    """
    n = len(deltas)
    inter = [torch.zeros_like(delta) for delta in deltas]
    intra = []
    for i in range(n):
        for j in range(i, n):
            product = normalized(deltas[i] * deltas[j], *extremes[i][j])
            if i == j:
                intra.append((product * n).exp_().div_(intra_means[i]))
            product.exp_().div_(means[i][j])
            inter[i].add_(product)
            if i != j:
                inter[j].add_(product)
    return [one.mul_(other) for one, other in zip(intra, inter, strict=True)]


def pcb(deltas: Sequence[Tensor], scores: Sequence[Tensor], thresholds: Sequence[float]) -> Tensor:
    """sum_i b_i d_i / sum_i b_i with b_i = beta_i where beta_i >= its threshold, else 0; 0 where all b_i are 0.

    Du et al. 2024 (arXiv 2410.02396), section 3: drop and rescale.
    """
    kept = [score * (score >= threshold) for score, threshold in zip(scores, thresholds, strict=True)]
    return _weighted(deltas, kept, torch.finfo(torch.float32).tiny)


def released_pcb_scores(
    deltas: Sequence[Tensor], ranges: Sequence[tuple[float, float]], convention: str
) -> tuple[list[Tensor], list[Tensor]]:
    """Clamped task vectors, and scores exp(n |u_i|^2) tanh-competition, as in the authors' three scripts.

    |d_i| is clamped to its `ranges` [i] (quantiles over the model) and mapped to 0 .. 1; u_i is that with the sign
    of d_i. The second factor is tanh(d_i sum_j d_j) (released), tanh(d_i sum_j u_j) (released_vision) or
    sum_j tanh(u_i u_j) (released_es). Scores may be negative.
    """
    n = len(deltas)
    clamped = [delta.abs().clamp_(*limits) for delta, limits in zip(deltas, ranges, strict=True)]
    units = [normalized(value, *limits) for value, limits in zip(clamped, ranges, strict=True)]
    intra = [unit.square().mul_(n).exp_() for unit in units]
    signs = [delta.sign() for delta in deltas]
    for value, unit, sign in zip(clamped, units, signs, strict=True):
        value.mul_(sign)
        unit.mul_(sign)
    if convention == "released_es":
        inter = [torch.stack([(unit * other).tanh_() for other in units]).sum(0) for unit in units]
    else:
        rivals = torch.stack(list(deltas if convention == "released" else units)).sum(0)
        inter = [(delta * rivals).tanh_() for delta in deltas]
    return clamped, [one.mul_(other) for one, other in zip(intra, inter, strict=True)]


def released_pcb(
    clamped: Sequence[Tensor], scores: Sequence[Tensor], thresholds: Sequence[float], largest: Sequence[float]
) -> Tensor:
    """sum_i b_i c_i / max(sum_i b_i, 1e-12), b_i the score mapped from threshold .. largest to 0 .. 1 (0 below)."""
    coefficients = [
        normalized(score.clamp(low, high), low, high)
        for score, low, high in zip(scores, thresholds, largest, strict=True)
    ]
    return _weighted(clamped, coefficients, 1e-12)


def _weighted(values: Sequence[Tensor], coefficients: Sequence[Tensor], smallest: float) -> Tensor:
    """sum_i b_i x_i / max(sum_i b_i, smallest)."""
    total, divisor = torch.zeros_like(values[0]), torch.zeros_like(values[0])
    for value, coefficient in zip(values, coefficients, strict=True):
        total.addcmul_(value, coefficient)
        divisor.add_(coefficient)
    return total.div_(divisor.clamp_(min=smallest))
