"""Spans and batches: which token positions are measured, and how sequences are padded together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch

from langmerge.prompts import Encoded
from langmerge.provenance import InputError

SPANS = ("source", "target")


def positions(encoded: Encoded, align: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Half-open position ranges of the source and the target span.

    ``read``: the positions that hold the span's tokens; ``predict``: those before them, whose outputs predict the
    tokens. The first position of a sequence is never counted: it is the attention sink, whose states are unlike all
    others.
    """
    shift = {"read": 0, "predict": 1}[align]
    ranges = [(max(start - shift, 1), end - shift) for start, end in (encoded.source, encoded.target)]
    return ranges[0], ranges[1]


def check_spans(encoded: Sequence[Encoded], ids: Sequence[str], align: str) -> None:
    """:class:`InputError` naming the first sentence that has a span without tokens."""
    for key, sequence in zip(ids, encoded, strict=True):
        for span, (start, end) in zip(SPANS, positions(sequence, align), strict=True):
            if end <= start:
                raise InputError(
                    f"sentence {key!r}: its {span} has no token that can be counted; remove it, or use a longer prompt"
                )


def span_tokens(encoded: Sequence[Encoded], blocks: np.ndarray, n_blocks: int, align: str) -> np.ndarray:
    """Number of counted tokens, int64 [span, block]; ``blocks`` [n] is the block of each sequence."""
    counts = np.zeros((len(SPANS), n_blocks), dtype=np.int64)
    for block, sequence in zip(blocks, encoded, strict=True):
        counts[:, block] += [end - start for start, end in positions(sequence, align)]
    return counts


@dataclass(frozen=True)
class Batch:
    """B sequences, padded on the right to T tokens: ``ids`` and ``attention`` [B, T], ``mask`` fp32 0/1 [B, span, T].

    ``rows`` [B] are the sequences' places in the list that was batched, ``last`` [B, span] the spans' last positions.
    """

    rows: torch.Tensor
    ids: torch.Tensor
    attention: torch.Tensor
    mask: torch.Tensor
    last: torch.Tensor


def collate(encoded: Sequence[Encoded], rows: Sequence[int], align: str, device: torch.device) -> Batch:
    """The sequences ``rows`` of ``encoded`` as one batch on ``device``."""
    chosen = [encoded[row] for row in rows]
    lengths = np.array([len(sequence.ids) for sequence in chosen])
    bounds = np.array([positions(sequence, align) for sequence in chosen])  # [B, span, 2]
    place = np.arange(lengths.max())
    attention = place < lengths[:, None]
    ids = np.zeros(attention.shape, dtype=np.int64)
    ids[attention] = np.fromiter(chain.from_iterable(sequence.ids for sequence in chosen), np.int64, lengths.sum())
    mask = (place >= bounds[:, :, :1]) & (place < bounds[:, :, 1:])
    parts = (np.array(rows), ids, attention.astype(np.int64), mask.astype(np.float32), bounds[:, :, 1] - 1)
    return Batch(*(torch.from_numpy(part).to(device) for part in parts))


def by_length(encoded: Sequence[Encoded], rows: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """``rows`` in groups of similar length with at most ``tokens`` padded tokens each (or one sequence)."""
    order = sorted(rows, key=lambda row: len(encoded[row].ids))
    while order:
        size = 1
        while size < len(order) and (size + 1) * len(encoded[order[size]].ids) <= tokens:
            size += 1
        group, order = order[:size], order[size:]
        yield group
