"""One shared task vector from which each model's own is restored: by a mask, and with EMR a scale.

All tensors are float32 of one shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from langmerge.merging.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def elect(deltas: Sequence[Tensor], zero: int = 0) -> Tensor:
    """EMR, step 1: the unified task vector s max_i |d_i| over the models with sign(d_i) == s.

    s is the sign of sum_i d_i for each entry, `zero` where that is 0 (0: nothing elected; the authors' code has -1).
    Huang et al. 2024 (arXiv 2405.17461), section 3, "Electing". 0 where no model has the elected sign.
    """
    sign = deltas[0].clone()
    for delta in deltas[1:]:
        sign.add_(delta)
    sign.sign_()
    if zero:
        sign.masked_fill_(sign == 0, zero)
    largest = torch.zeros_like(sign)
    along = torch.empty_like(sign)
    for delta in deltas:
        torch.maximum(largest, torch.mul(delta, sign, out=along), out=largest)
    return largest.mul_(sign)


def agreeing(delta: Tensor, unified: Tensor) -> Tensor:
    """EMR, step 2: float32 mask of the entries where d_i unified > 0 (by signs, so that nothing underflows).

    Huang et al. 2024 (arXiv 2405.17461), section 3, "Masks".
    """
    product = unified.sign().mul_(delta)
    return torch.gt(product, 0, out=product)


def rescaler(own: float, masked: float) -> float:
    """EMR, step 3: lambda_i = sum |d_i| / sum |mask_i unified|; 0 if the mask is empty, which leaves the base.

    Huang et al. 2024 (arXiv 2405.17461), section 3, "Rescalers".
    """
    return own / masked if masked else 0.0


def served(base: Tensor, unified: Tensor, mask: Tensor, scale: float) -> Tensor:
    """base + scale mask unified: a model restored; `mask` is float32 0 or 1. Where it is 0, the base exactly."""
    return torch.add(base, unified * mask, alpha=scale)
