"""How far a grown model is from its source, measured on random tokens."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from langmerge import models

ROWS, LENGTH = 2, 48


def random_logits(folder: Path, seed: int = 0) -> Tensor:
    """Logits (fp64, on the CPU) of a model folder in fp32 on seeded random tokens, (rows, length, vocabulary)."""
    model = models.load_model(folder)
    torch.nn.Module.to(model, models.device())
    limit = getattr(model.config, "max_position_embeddings", None) or LENGTH
    stream = torch.Generator().manual_seed(seed)
    tokens = torch.randint(model.config.vocab_size, (ROWS, min(LENGTH, limit)), generator=stream)
    with torch.no_grad():
        logits: Tensor = model(tokens.to(models.device())).logits
    return logits.double().cpu()


def differences(source: Tensor, grown: Tensor) -> dict[str, float]:
    """How logits (..., vocabulary) differ from a source's.

    ``max_logit_difference`` = max |g - s|; ``relative_logit_difference`` divides it by max |s| (by 1 if that is 0);
    ``kl_divergence`` is the mean over positions of KL(source || grown) in nats.
    """
    largest = float((grown - source).abs().max())
    p, q = source.log_softmax(-1), grown.log_softmax(-1)
    return {
        "max_logit_difference": largest,
        "relative_logit_difference": largest / (float(source.abs().max()) or 1.0),
        "kl_divergence": max(0.0, float((p.exp() * (p - q)).sum(-1).mean())),
    }
