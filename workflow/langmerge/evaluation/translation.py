"""Greedy batched translation with a causal language model.

The loop is our own, not ``generate``: rows that have ended leave the batch, so they cost nothing, and prompts
of several directions share batches. Each row depends on its own prompt and limit alone: in fp32 the outputs
do not depend on the batch size or on the order of the sentences (in bf16 near-ties may fall differently).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch

from langmerge.prompts import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Tokens granted on top of `max_length_ratio` times the source's, so that short sentences are not cut off.
LENGTH_MARGIN = 8


class Request(NamedTuple):
    """One sentence to translate, with the codes of its two languages."""

    sentence: str
    source: str
    target: str


@dataclass(frozen=True)
class Translation:
    """The text, and the number of tokens read (the prompt) and written (the end token included)."""

    text: str
    prompt_tokens: int
    new_tokens: int


def stop_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that end an answer: the tokenizer's end of sequence and special ones that the model names.

    Ids that the model's generation configuration names but that are ordinary words of this vocabulary (a
    default that was never set) are left out.
    """
    named = model.generation_config.eos_token_id if model.generation_config is not None else None
    ids = named if isinstance(named, list) else [named]
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return {i for i in ids if i in special} | {int(tokenizer.eos_token_id)}


@torch.inference_mode()
def _decode_batch(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    limits: Sequence[int],
    stop: Collection[int],
    pad: int,
) -> list[list[int]]:
    """Greedy continuations of B prompts, each without its stop token and at most ``limits[b]`` long."""
    from transformers import DynamicCache

    device = model.device
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), pad, dtype=torch.long)  # (B, T), padded on the left
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    ids, mask = ids.to(device), mask.to(device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    outputs: list[list[int]] = [[] for _ in prompts]
    alive = list(range(len(prompts)))  # the output row that each row of the batch belongs to
    while alive:
        step = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        tokens = step.logits[:, -1].argmax(-1)  # (B,)
        keep = []
        for index, (row, token) in enumerate(zip(alive, tokens.tolist(), strict=True)):
            if token not in stop:
                outputs[row].append(token)
                if len(outputs[row]) < limits[row]:
                    keep.append(index)
        if len(keep) < len(alive):
            alive = [alive[index] for index in keep]
            if not alive:
                break
            kept = torch.tensor(keep, device=device)
            tokens, mask, positions = tokens[kept], mask[kept], positions[kept]
            cache.batch_select_indices(kept)
        ids = tokens[:, None]
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
        positions = positions[:, -1:] + 1
    return outputs


def greedy_decode(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    limits: Sequence[int],
    stop: Collection[int],
    pad: int,
    batch_size: int,
) -> list[list[int]]:
    """Greedy continuations of token sequences, in their order, without the stop token.

    Prompts are batched by length, longest first (so that a batch that does not fit into memory fails at
    once); ``limits[i] >= 1`` is the most tokens that prompt i may get; ``pad`` is any valid id, masked out.
    """
    training = model.training
    model.eval()
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), limits[i]), reverse=True)
    outputs: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        decoded = _decode_batch(model, [prompts[i] for i in batch], [limits[i] for i in batch], stop, pad)
        for i, tokens in zip(batch, decoded, strict=True):
            outputs[i] = tokens
    model.train(training)
    return outputs


def translate_requests(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    requests: Sequence[Request],
    *,
    batch_size: int,
    max_new_tokens: int,
    max_length_ratio: float | None = None,
    cut: Literal["newline"] | None = None,
) -> list[Translation]:
    """Translate sentences of any mixture of directions, in their order.

    An answer has at most ``max_new_tokens`` tokens and, if ``max_length_ratio`` is given, at most that many
    times the tokens of its source sentence (plus :data:`LENGTH_MARGIN`). ``cut="newline"`` keeps the first
    line that is not blank.
    """
    stop = stop_tokens(model, tokenizer)
    prompts, limits = [], []
    for request in requests:
        ids, (start, end) = prompt.encode_prompt(tokenizer, request.sentence, request.source, request.target)
        limit = max_new_tokens
        if max_length_ratio is not None:
            limit = min(limit, math.ceil(max_length_ratio * (end - start)) + LENGTH_MARGIN)
        prompts.append(ids)
        limits.append(limit)
    outputs = greedy_decode(model, prompts, limits, stop, min(stop), batch_size)
    texts = [
        str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)).strip()
        for ids in outputs
    ]
    if cut == "newline":
        texts = [text.split("\n", 1)[0].rstrip() for text in texts]
    return [
        Translation(text, len(ids), min(len(new) + 1, limit))
        for text, ids, new, limit in zip(texts, prompts, outputs, limits, strict=True)
    ]


def translate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    sentences: Sequence[str],
    source: str,
    target: str,
    *,
    batch_size: int = 64,
    max_new_tokens: int = 256,
    max_length_ratio: float | None = None,
    cut: Literal["newline"] | None = None,
) -> list[str]:
    """Translate sentences of one direction; the options are those of :func:`translate_requests`."""
    requests = [Request(sentence, source, target) for sentence in sentences]
    translations = translate_requests(
        model,
        tokenizer,
        prompt,
        requests,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        max_length_ratio=max_length_ratio,
        cut=cut,
    )
    return [translation.text for translation in translations]
