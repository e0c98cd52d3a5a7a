"""Tiny Llamas, and a slow readable loss."""

import torch
from tiny_llamas import random_llama

PROMPT = {"template": "<{source_code}> {source} <{target_code}>", "format": "plain"}


def tiny_llama(seed=0, **changes):
    settings = {"num_hidden_layers": 2, "initializer_range": 0.2, "tie_word_embeddings": True}
    return random_llama(seed, **{**settings, **changes})


def slow_loss(model, row):
    """-sum_t log p(y_t | y_<t, prompt) over the target span of one sequence, in nats, without batches."""
    logits = model(input_ids=torch.tensor([row.ids])).logits[0]
    return sum(logits[t - 1].exp().sum().log() - logits[t - 1, row.ids[t]] for t in range(row.target[0], row.target[1]))


def slow_gradient(model, rows):
    """Gradient of the summed loss of ``rows`` by parameter."""
    weights = dict(model.named_parameters())
    found = torch.autograd.grad(sum(slow_loss(model, row) for row in rows), list(weights.values()), allow_unused=True)
    return {n: torch.zeros_like(w) if g is None else g for (n, w), g in zip(weights.items(), found, strict=True)}
