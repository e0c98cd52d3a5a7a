"""Similarity of several models' hidden states on the same sentences, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch

from langmerge.calibration.sentences import equally_long, token_ids
from langmerge.prompts import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS = 4096  # read at once
LEAST = 4  # sentences for which HSIC_1 is defined


@torch.inference_mode()
def pooled_states(model: PreTrainedModel, encoded: Sequence[Encoded]) -> torch.Tensor:
    """Mean over tokens of each layer's hidden states, float32 [L + 1, n, d] on the CPU; layer 0 is the embedding."""
    training = model.training
    model.eval()
    pooled: torch.Tensor | None = None
    for indices in equally_long(encoded, TOKENS):
        ids = token_ids(encoded, indices, model.device)
        states = model.base_model(input_ids=ids, use_cache=False, output_hidden_states=True).hidden_states
        means = torch.stack([state.float().mean(1) for state in states]).cpu()
        if pooled is None:
            pooled = torch.empty(len(means), len(encoded), means.shape[-1])
        pooled[:, indices] = means
    model.train(training)
    if pooled is None:
        raise ValueError("no sentences; similarity needs some")
    return pooled


def debiased_cka(stack: torch.Tensor) -> torch.Tensor:
    """Debiased linear CKA of every two of M representations of n sentences, float64 [M, M] from [M, n, d].

    HSIC_1 (Song et al. 2012, equation 5) of the Gram matrices, U-centred (Szekely and Rizzo 2014), over the geometric
    mean of each with itself (Kornblith et al. 2019); may be slightly negative. NaN where all sentences look alike.
    ValueError for n < 4.
    """
    n = stack.shape[1]
    if n < LEAST:
        raise ValueError(f"{n} sentences; debiased CKA needs at least {LEAST}")
    x = stack.double()
    x = x - x.mean(1, keepdim=True)
    grams = x @ x.transpose(1, 2)
    hollow = grams - torch.diag_embed(grams.diagonal(dim1=1, dim2=2))
    rows = hollow.sum(2, keepdim=True) / (n - 2)
    centred = hollow - rows - rows.transpose(1, 2) + hollow.sum((1, 2), keepdim=True) / ((n - 1) * (n - 2))
    flat = (centred - torch.diag_embed(centred.diagonal(dim1=1, dim2=2))).flatten(1)
    products = flat @ flat.T
    own = products.diagonal()
    return products / (own[:, None] * own).sqrt()


def layer_similarity(states: Iterable[torch.Tensor]) -> torch.Tensor:
    """:func:`debiased_cka` of M models in each layer, float32 [L + 1, M, M] from M tensors [L + 1, n, d]."""
    stack = torch.stack(list(states), dim=1)
    return torch.stack([debiased_cka(layer) for layer in stack]).float()
