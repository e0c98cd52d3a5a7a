"""The loss of each sentence: cross-entropy of its target span, without prompt and end of sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from langmerge.prompts import Encoded
from langmerge.spans import by_length

# Small batches on a CPU stay in its cache
TOKENS = {"cpu": 1024, "cuda": 16384}
LOGITS = {"cpu": 2**26, "cuda": 2**28}  # elements held at once


@dataclass(frozen=True)
class Batch:
    """B sequences, padded on the right to T tokens, of which only the last P positions' outputs are needed.

    ``rows`` are the sequences' places in the list that was batched, ``ids`` [B, T], ``asked`` bool [B, P] the positions
    whose next token is in a target span, and ``labels`` [k] those tokens, sequence by sequence.
    """

    rows: tuple[int, ...]
    ids: torch.Tensor
    asked: torch.Tensor
    labels: torch.Tensor


def make_batch(encoded: Sequence[Encoded], rows: Sequence[int], device: torch.device) -> Batch:
    """The sequences ``rows`` of ``encoded`` as one batch. Target spans start at position 1 or later."""
    length = max(len(encoded[row].ids) for row in rows)
    first = min(encoded[row].target[0] for row in rows) - 1
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    asked = torch.zeros(len(rows), length - first, dtype=torch.bool)
    for i, row in enumerate(rows):
        start, end = encoded[row].target
        ids[i, : len(encoded[row].ids)] = torch.tensor(encoded[row].ids)
        asked[i, start - 1 - first : end - 1 - first] = True
    labels = torch.tensor([token for row in rows for token in encoded[row].ids[slice(*encoded[row].target)]])
    return Batch(tuple(rows), ids.to(device), asked.to(device), labels.to(device))


def make_batches(encoded: Sequence[Encoded], rows: Sequence[int], model: Any) -> list[Batch]:
    """Batches of similar length on the model's device, small enough that the logits fit into memory."""
    kind = model.device.type
    vocabulary = model.config.get_text_config().vocab_size
    tokens = min(TOKENS.get(kind, 1024), LOGITS.get(kind, 2**26) // vocabulary)
    return [make_batch(encoded, group, model.device) for group in by_length(encoded, rows, max(1, tokens))]


def batch_losses(model: Any, batch: Batch) -> torch.Tensor:
    """-sum_t log p(y_t | y_<t, prompt) in nats over the target span of each sequence, fp32 [B], differentiable.

    Nothing is masked: in a causal model what stands on the left does not see the padding on the right.
    """
    kept = batch.asked.shape[1]
    logits = model(input_ids=batch.ids, use_cache=False, logits_to_keep=kept).logits[:, -kept:]
    each = functional.cross_entropy(logits[batch.asked].float(), batch.labels, reduction="none")
    return torch.zeros(batch.asked.shape, device=each.device).masked_scatter(batch.asked, each).sum(1)


@torch.inference_mode()
def sentence_losses(model: Any, batches: Sequence[Batch]) -> torch.Tensor:
    """:func:`batch_losses` of all sequences of ``batches`` in the order of the list batched, fp64 [n] on the CPU."""
    rows = [row for batch in batches for row in batch.rows]
    found = torch.cat([batch_losses(model, batch) for batch in batches]).double().cpu()
    return found[torch.tensor(rows).argsort()]
