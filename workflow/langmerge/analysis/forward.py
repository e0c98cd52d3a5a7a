"""One forward pass of a model over the sentences of a direction: pooled representations and gate counts at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from langmerge.analysis.gates import GateCounter, gate_projections
from langmerge.analysis.representations import span_means
from langmerge.analysis.spans import SPANS, batches
from langmerge.prompts import Encoded

# Small batches on a CPU stay in its cache
TOKENS_PER_BATCH = {"cpu": 1024, "cuda": 8192}


@dataclass(frozen=True)
class Observation:
    """What one model did on the n sequences of one direction.

    ``means`` fp32 [span, layer, n, d] on the CPU: span means of the hidden states, layer 0 the embedding's output, the
    last one (L) taken after the final norm. ``counts`` int64 [span, block, MLP layer, unit]: gate events.
    """

    means: torch.Tensor
    counts: np.ndarray


@torch.inference_mode()
def observe(
    model: Any,
    encoded: Sequence[Encoded],
    blocks: np.ndarray,
    n_blocks: int,
    align: str = "read",
    tokens_per_batch: int | None = None,
) -> Observation:
    """Read ``encoded`` with a causal language model in Hugging Face form, on the device where it lies.

    ``blocks`` [n] is the jackknife block of each sequence. :class:`InputError` for architectures without gated MLPs.
    """
    device = model.device
    layers = model.config.get_text_config().num_hidden_layers
    counter = GateCounter(gate_projections(model, layers), n_blocks)
    block_of = torch.from_numpy(blocks).to(device)
    width = model.config.get_text_config().hidden_size
    means = torch.empty(len(SPANS), layers + 1, len(encoded), width)
    budget = tokens_per_batch or TOKENS_PER_BATCH.get(device.type, 1024)
    # Without the language modelling head: nothing here needs logits
    backbone = model.base_model
    with counter:
        for batch in batches(encoded, align, budget, device):
            counter.expect(batch, block_of[batch.rows])
            output = backbone(
                input_ids=batch.ids, attention_mask=batch.attention, use_cache=False, output_hidden_states=True
            )
            pooled = torch.stack([span_means(state, batch.mask) for state in output.hidden_states])
            means[:, :, batch.rows.cpu()] = pooled.permute(2, 0, 1, 3).cpu()
    return Observation(means, counter.counts.cpu().numpy())
