"""Greedy answers to prompts, and how close they come: exact match of numbers, ROUGE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from langmerge.evaluation.numerals import same_number
from langmerge.evaluation.translation import greedy_decode, stop_tokens
from langmerge.tasks import encode_again

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Answers:
    """Texts by prompt, and the numbers of tokens read (prompts) and written (end tokens included)."""

    texts: tuple[str, ...]
    prompt_tokens: int
    new_tokens: int


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    batch_size: int,
    max_new_tokens: int,
    cut: Literal["newline"] | None = None,
) -> Answers:
    """Greedy answers of at most ``max_new_tokens`` tokens; ``cut="newline"`` keeps the first line that is not blank."""
    asked = []
    for prompt in prompts:
        ids, length = encode_again(tokenizer, prompt, "")
        asked.append(ids[:length])
    stop = stop_tokens(model, tokenizer)
    outputs = greedy_decode(model, asked, [max_new_tokens] * len(asked), stop, min(stop), batch_size)
    texts = [
        str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)).strip()
        for ids in outputs
    ]
    if cut == "newline":
        texts = [text.split("\n", 1)[0].rstrip() for text in texts]
    written = sum(min(len(ids) + 1, max_new_tokens) for ids in outputs)
    return Answers(tuple(texts), sum(map(len, asked)), written)


def number_statistics(outputs: Sequence[str], answers: Sequence[str], language: str) -> np.ndarray:
    """(hit, 1) of n outputs (n, 2): the same number (:func:`~langmerge.evaluation.numerals.same_number`)."""
    hits = [float(same_number(output, answer, language)) for output, answer in zip(outputs, answers, strict=True)]
    return np.column_stack([hits, np.ones(len(hits))])
