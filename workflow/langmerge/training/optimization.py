"""Learning-rate schedules and the optimizer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from langmerge.training.settings import Settings

if TYPE_CHECKING:
    import torch

WSD_DECAY = 0.2  # share of the steps in which `wsd` comes down


def learning_rate(settings: Settings, step: int) -> float:
    """The learning rate of a step (from 0).

    Linear warm-up over ``warmup * steps`` steps; then ``cosine`` or ``linear`` down to ``final_learning_rate`` (a
    fraction), ``constant``, ``inverse_sqrt`` (Vaswani et al. 2017: falls with the square root of the step), or ``wsd``
    (warm-up, stable, then linear decay over the last fifth of the steps).
    """
    peak, last = settings.learning_rate, settings.final_learning_rate
    warm = round(settings.warmup * settings.steps)
    if step < warm:
        return peak * (step + 1) / warm
    done = (step + 1 - warm) / max(1, settings.steps - warm)  # (0, 1]
    match settings.schedule:
        case "constant":
            factor = 1.0
        case "cosine":
            factor = last + (1 - last) * 0.5 * (1 + math.cos(math.pi * done))
        case "linear":
            factor = 1 - (1 - last) * done
        case "inverse_sqrt":
            factor = math.sqrt(max(1, warm) / (max(1, warm) + step + 1 - warm))
        case "wsd":
            decay = max(1, round(WSD_DECAY * settings.steps))
            left = settings.steps - (step + 1)
            factor = last + (1 - last) * min(1.0, left / decay)
    return peak * factor


def make_optimizer(model: torch.nn.Module, settings: Settings) -> torch.optim.AdamW:
    """Fused AdamW; only matrices decay: zero is no sensible value for embeddings, norms and biases."""
    import torch

    embeddings = {
        id(weight)
        for module in model.modules()
        if isinstance(module, torch.nn.Embedding)
        for weight in module.parameters()
    }
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    kept = [weight for weight in weights if weight.ndim < 2 or id(weight) in embeddings]
    decayed = [weight for weight in weights if weight.ndim >= 2 and id(weight) not in embeddings]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=settings.learning_rate, betas=settings.betas, fused=True
    )
