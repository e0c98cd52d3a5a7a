"""The training loss: cross-entropy of the tokens that are asked for, and of no others."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

LOGITS = 2**26  # elements of the logits that are held at once (fp32: 256 MiB)


def _summed_loss(hidden: torch.Tensor, labels: torch.Tensor, head: torch.nn.Module, cap: float | None) -> torch.Tensor:
    logits = head(hidden).float()
    if cap:
        logits = cap * torch.tanh(logits / cap)
    return functional.cross_entropy(logits, labels, reduction="sum")


class Objective(torch.nn.Module):
    """Summed cross-entropy (nats) of one micro-batch.

    The head multiplies only the hidden states whose next token is asked for, in chunks whose logits fit
    into memory (recomputed in the backward pass), so a large vocabulary costs neither time nor memory for prompts.
    """

    def __init__(self, model: PreTrainedModel, compiled: bool = False, dynamic: bool = True) -> None:
        super().__init__()
        config = model.config.get_text_config()
        self.model = model
        # Kept out of the module's own parameters: they are the model's.
        self._body: list[Any] = [torch.compile(model.base_model, dynamic=dynamic) if compiled else model.base_model]
        self._cap = getattr(config, "final_logit_softcapping", None)
        # Some families scale their logits in `forward`; for them the model is called whole.
        self._whole = any(
            getattr(config, key, None) not in (None, 1, 1.0)
            for key in ("logit_scale", "logits_scaling", "lm_head_multiplier")
        )

    def forward(
        self, ids: torch.Tensor, positions: torch.Tensor | None, where: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Loss, a scalar.

        Args:
            ids: token ids [rows, width].
            positions: positions [rows, width] that restart with every packed document, or None.
            where: places [k] in the flattened ``ids`` whose next token is asked for.
            labels: those next tokens [k].
        """
        # Neither mask nor cache: with either of them packed documents see each other (transformers 5), silently.
        inputs = {"input_ids": ids, "position_ids": positions, "attention_mask": None, "use_cache": False}
        if self._whole:
            logits = self.model(**inputs).logits
            return functional.cross_entropy(logits.flatten(0, 1)[where].float(), labels, reduction="sum")
        hidden = self._body[0](**inputs).last_hidden_state
        hidden = hidden.flatten(0, 1).index_select(0, where)
        head = self.model.get_output_embeddings()
        size = max(1, LOGITS // head.weight.shape[0])
        if len(where) <= size:
            return _summed_loss(hidden, labels, head, self._cap)
        pieces = [
            checkpoint(_summed_loss, h, y, head, self._cap, use_reentrant=False)
            for h, y in zip(hidden.split(size), labels.split(size), strict=True)
        ]
        return torch.stack(pieces).sum()
