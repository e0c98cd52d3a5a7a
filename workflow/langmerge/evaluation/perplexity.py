"""Bits per byte: the code length that a model gives to raw text, comparable between tokenizers.

``BPB = -sum log2 p(tokens) / UTF-8 bytes of the same text`` (The Pile, arXiv 2101.00027, section 3.1). Documents are
scored one by one, each after the beginning token; the end token is not part of the text. Scripts differ in bytes per
character: compare within a language only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from langmerge.evaluation.likelihood import Likelihoods, answer_likelihoods, context_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Longest window in tokens, the same for models that could read more: more context alone lowers the bits.
CONTEXT = 2048


def text_likelihoods(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], batch_size: int
) -> Likelihoods:
    """Log-probabilities of documents, those longer than the window with a stride of half of it."""
    return answer_likelihoods(model, tokenizer, [("", text) for text in texts], batch_size, CONTEXT)


def text_statistics(likelihoods: Likelihoods) -> np.ndarray:
    """(negative log-likelihood in nats, bytes) of documents (n, 2)."""
    return np.column_stack([-likelihoods.log_probabilities, likelihoods.bytes]).astype(np.float64)


def signature(model: PreTrainedModel) -> str:
    """What a score in bits per byte depends on besides model and text."""
    context = min(CONTEXT, context_of(model))
    return f"bits_per_byte|context:{context}|stride:{context // 2}|unit:document|eos:no"
