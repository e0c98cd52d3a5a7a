"""Gram matrices of the inputs of linear maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from langmerge.calibration.sentences import equally_long, token_ids
from langmerge.prompts import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS = 4096  # read at once


def linear_maps(model: PreTrainedModel) -> dict[str, torch.nn.Linear]:
    """The linear modules by the name of their weight, without an output embedding that is tied to the input's."""
    tied = model.get_input_embeddings().weight
    return {
        f"{name}.weight": module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module.weight is not tied
    }


@torch.inference_mode()
def gram_matrices(model: PreTrainedModel, encoded: Sequence[Encoded]) -> dict[str, torch.Tensor]:
    """mean_t x_t x_t^T over all tokens t that a linear map reads, float32 [d_in, d_in] on the CPU, for each map.

    Jin et al. 2023, arXiv 2212.09849, section 3.2 (their X^T X over the number of rows, so that models measured on
    more tokens do not count more). All tokens count: prompt, source, answer and special ones. A map that reads nothing
    (an expert that no token was sent to) gets zeros. Of the activations only one batch is held at a time.
    """
    totals: dict[str, torch.Tensor] = {}
    rows: dict[str, int] = {}

    def hook(name: str) -> Callable[..., None]:
        def add(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
            x = inputs[0].flatten(0, -2).float()
            totals[name] += (x.T @ x).cpu()
            rows[name] += len(x)

        return add

    training = model.training
    model.eval()
    handles = []
    for name, module in linear_maps(model).items():
        totals[name], rows[name] = torch.zeros(module.in_features, module.in_features), 0
        handles.append(module.register_forward_pre_hook(hook(name)))
    try:
        for indices in equally_long(encoded, TOKENS):
            model(input_ids=token_ids(encoded, indices, model.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
        model.train(training)
    return {name: total.div_(max(1, rows[name])) for name, total in totals.items()}
