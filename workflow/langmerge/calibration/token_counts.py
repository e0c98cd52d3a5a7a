"""How often each token occurs in the text of a language."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXTS = 1024  # tokenised at once


def token_counts(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], rows: int) -> torch.Tensor:
    """Occurrences of each of ``rows`` token ids (the rows of the embedding), float32 [rows], without special tokens."""
    counts = torch.zeros(rows, dtype=torch.int64)
    texts = list(texts)
    for start in range(0, len(texts), TEXTS):
        encoding = tokenizer(texts[start : start + TEXTS], add_special_tokens=False)
        ids = torch.tensor([token for row in encoding["input_ids"] for token in row], dtype=torch.int64)
        counts += torch.bincount(ids, minlength=rows)
    return counts.float()
