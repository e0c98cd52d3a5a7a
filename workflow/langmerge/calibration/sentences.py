"""Which sentences are measured on, how they become tokens, and how they are batched without padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from langmerge.pairs import Direction, read_direction
from langmerge.prompts import Encoded, Prompt, encode_pairs
from langmerge.provenance import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPLITS = ("train", "dev")  # never a test set: what is measured decides weights


def read_sentences(spec: Mapping[str, Any], folders: Mapping[str, Path]) -> dict[Direction, list[tuple[str, str]]]:
    """The (source, target) pairs of each of ``spec["directions"]``: ``spec["sentences"]`` of ``spec["split"]``.

    ``folders`` maps each language but ``spec["pivot"]`` to its folder of pairs with the pivot. The sentences are drawn
    without replacement by ``spec["seed"]`` and stay in the order of the file; all are taken where there are fewer.
    Raises :class:`InputError` for a test split, a missing file or column, and a direction without pairs.
    """
    if spec["split"] not in SPLITS:
        raise InputError(f"split: expected one of {', '.join(SPLITS)}, found {spec['split']!r}; merges never see test")
    chosen = {}
    for value in spec["directions"]:
        direction = Direction(value["source"], value["target"])
        sources, targets = read_direction(folders, direction, spec["split"], spec["pivot"])
        ids = [key for key in sources if key in targets]
        if not ids:
            raise InputError(f"direction {direction}, split {spec['split']}: no sentence pairs; check the corpus")
        drawn = np.random.Generator(np.random.Philox(key=spec["seed"])).permutation(len(ids))[: spec["sentences"]]
        chosen[direction] = [(sources[ids[i]], targets[ids[i]]) for i in sorted(drawn.tolist())]
    return chosen


def encode(
    sentences: Mapping[Direction, Sequence[tuple[str, str]]], prompt: Prompt, tokenizer: PreTrainedTokenizerBase
) -> list[Encoded]:
    """The sequences of all directions, in order."""
    return [row for way, pairs in sentences.items() for row in encode_pairs(prompt, tokenizer, pairs, *way)]


def equally_long(encoded: Sequence[Encoded], tokens: int) -> Iterator[list[int]]:
    """Indices of sequences of one length together, at most ``tokens`` tokens (but one sequence) a batch.

    Nothing is padded, so that every token that a model reads is a real one and counts.
    """
    by_length: dict[int, list[int]] = {}
    for index, row in enumerate(encoded):
        by_length.setdefault(len(row.ids), []).append(index)
    for length, indices in sorted(by_length.items()):
        step = max(1, tokens // length)
        for start in range(0, len(indices), step):
            yield indices[start : start + step]


def token_ids(encoded: Sequence[Encoded], indices: Sequence[int], device: torch.device) -> torch.Tensor:
    """Token ids [B, T] of sequences of one length."""
    return torch.tensor([encoded[i].ids for i in indices], device=device)
