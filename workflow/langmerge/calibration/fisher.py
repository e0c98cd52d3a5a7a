"""Diagonal Fisher information of a language model on sentence pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch

from langmerge.prompts import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Labels = Literal["target", "model"]


def diagonal_fisher(
    model: PreTrainedModel, encoded: Sequence[Encoded], labels: Labels = "target", seed: int = 0
) -> dict[str, torch.Tensor]:
    """F = mean over examples of (d/d theta sum_t log p(y_t | y_<t, x))^2, for each parameter, float32 on the CPU.

    Matena and Raffel 2022, arXiv 2111.09832, section 3.1. t runs over the answer's tokens and the end of sequence.
    ``labels`` says what y_t is: the ``target`` of the data (the empirical Fisher), or drawn from the ``model``'s own
    distribution after the data's y_<t (Fisher information of the next token under the data's contexts; one draw an
    example, by ``seed``). Parameters that no example touches get 0; tied parameters are one.

    Gradients are squared and dropped as soon as autograd has finished them: besides weights and result only the
    largest one is held. One example at a time, since the square of a sum over examples is not the sum of squares.
    """
    parameters = dict(model.named_parameters())
    fisher = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in parameters.items()}
    generator = torch.Generator().manual_seed(seed)

    def take(name: str, weight: torch.Tensor) -> None:
        assert weight.grad is not None
        gradient = weight.grad.float()
        fisher[name].addcmul_(gradient, gradient)
        weight.grad = None

    training = model.training
    model.eval()  # no dropout
    # The default argument binds the name of each parameter to its own hook.
    hooks = [
        weight.register_post_accumulate_grad_hook(lambda w, n=name: take(n, w))
        for name, weight in parameters.items()
        if weight.requires_grad
    ]
    try:
        for row in encoded:
            log_likelihood(model, row, labels, generator).backward()
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    return {name: total.div_(max(1, len(encoded))).cpu() for name, total in fisher.items()}


def log_likelihood(model: PreTrainedModel, row: Encoded, labels: Labels, generator: torch.Generator) -> torch.Tensor:
    """Sum of the log-probabilities of one sequence's answer (or of tokens drawn in its place), a scalar."""
    ids = torch.tensor([row.ids], device=model.device)
    logits = model(input_ids=ids, use_cache=False).logits[0, row.prompt_length - 1 : -1].float()
    scores = logits.log_softmax(-1)  # [answer, V]
    asked = ids[0, row.prompt_length :]
    if labels == "model":
        # On the CPU, so that a GPU draws the same tokens
        asked = torch.multinomial(scores.detach().exp().cpu(), 1, generator=generator)[:, 0].to(ids.device)
    return scores.gather(1, asked[:, None]).sum()
