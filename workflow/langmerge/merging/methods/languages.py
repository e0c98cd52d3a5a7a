"""Formulas of this project's methods for merging languages.

`layerwise` assumes that specialists whose hidden states are similar in a layer (CKA near 1) compute the same there, so
that their average does as well, and that where they are not an average would serve nobody. `embedding_rows` assumes
that a token's row was trained, and is worth keeping, in proportion to how often the token occurred. Both are
hypotheses to be tested, not theorems: CKA does not see rotations, and a frequent token may have changed little.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from langmerge.merging.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def agreements(similarity: Tensor) -> Tensor:
    """Mean similarity of each model to the others in each layer, float64 (layers, n) from (layers, n, n).

    a_i = sum_{j != i} S_ij / (n - 1), S clipped to [0, 1] (debiased CKA may be slightly negative). The diagonal is
    ignored; a single model agrees with itself (1). ValueError for NaN.
    """
    if torch.isnan(similarity).any():
        raise ValueError("the similarities contain NaN; some hidden states were the same for all sentences")
    n = similarity.shape[-1]
    if n == 1:
        return torch.ones(similarity.shape[:-1], dtype=torch.float64)
    clipped = similarity.to(torch.float64).clamp(0, 1)
    return (clipped.sum(-1) - clipped.diagonal(dim1=-2, dim2=-1)) / (n - 1)


def trust(agreement: Tensor, threshold: float, temperature: float) -> Tensor:
    """g = min(1, a / threshold)^(1 / temperature) in [0, 1]: 1 from the threshold on, 0 at no agreement.

    temperature 1 is linear, above 1 forgives disagreement (to infinity: plain mean), below 1 punishes it.
    """
    return (agreement / threshold).clamp(max=1) ** (1 / temperature)


def pulled_mean(models: Sequence[Tensor], factors: Sequence[float], floor: Tensor) -> Tensor:
    """f + sum_i c_i (m_i - f) with c_i = w_i g_i and sum_i w_i = 1; a new tensor.

    All g_i = 1: the mean with weights w_i. All 0: `floor` f. Entry by entry, so any shape will do.
    """
    merged = floor.clone()
    for model, factor in zip(models, factors, strict=True):
        if factor:
            merged.add_(model - floor, alpha=factor)
    return merged


def state_of(tensor_layer: int | None, is_embedding: bool, n_states: int) -> int:
    """Index of the hidden state that a tensor's layer writes, of `n_states` (embeddings first, then each layer).

    Layer l writes state l + 1, the embeddings 0; what comes after the layers (final norm, head) goes by the last.
    """
    if tensor_layer is not None:
        return tensor_layer + 1
    return 0 if is_embedding else n_states - 1


def row_weights(counts: Tensor, alpha: float, relative: bool) -> tuple[Tensor, Tensor]:
    """Weights (n, V) of the models in each row, and which rows (V,) no language uses.

    w_i(v) = (c_i(v) + alpha) / sum_j (c_j(v) + alpha), float64; 1 / n where that is 0 / 0. `relative` scales each
    model's counts to the mean total first (a model without any counts is left as it is). An unused row has equal
    weights. ValueError for counts that are negative or not finite.
    """
    counts = counts.to(torch.float64)
    if not torch.isfinite(counts).all() or (counts < 0).any():
        raise ValueError("token counts are negative or not finite; count again")
    unused = counts.sum(0) == 0
    if relative:
        totals = counts.sum(1, keepdim=True)
        counts = counts * torch.where(totals > 0, totals.mean() / totals, 1.0)
    counts = counts + alpha
    total = counts.sum(0)
    return torch.where(total > 0, counts / total, 1 / len(counts)), unused


def weighted_rows(models: Sequence[Tensor], weights: Tensor) -> Tensor:
    """sum_i w_i(r) m_i[r] for each row r, weights (n, rows) that sum to 1, models (rows, columns); a new tensor.

    Computed as m_1 + sum_i w_i (m_i - m_1), so that equal rows are returned to the last bit.
    """
    merged = models[0].clone()
    for model, weight in zip(models[1:], weights[1:], strict=True):
        merged += (model - models[0]).mul_(weight.unsqueeze(1))
    return merged
