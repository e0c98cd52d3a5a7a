"""Which sentences are measured on, how they become tokens, and how they are batched without padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from langmerge import tasks
from langmerge.pairs import Direction, read_column, read_direction
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
    _check_split(spec)
    chosen = {}
    for value in spec["directions"]:
        direction = Direction(value["source"], value["target"])
        sources, targets = read_direction(folders, direction, spec["split"], spec["pivot"])
        ids = [key for key in sources if key in targets]
        if not ids:
            raise InputError(f"direction {direction}, split {spec['split']}: no sentence pairs; check the corpus")
        chosen[direction] = [(sources[ids[i]], targets[ids[i]]) for i in drawn(spec, len(ids))]
    return chosen


def _check_split(spec: Mapping[str, Any]) -> None:
    if spec["split"] not in SPLITS:
        raise InputError(f"split: expected one of {', '.join(SPLITS)}, found {spec['split']!r}; merges never see test")


def drawn(spec: Mapping[str, Any], n: int) -> list[int]:
    """Which of ``n`` items are measured on: ``spec["sentences"]`` drawn by ``spec["seed"]``, ascending."""
    order = np.random.Generator(np.random.Philox(key=spec["seed"])).permutation(n)
    return sorted(order[: spec["sentences"]].tolist())


def encode(
    sentences: Mapping[Direction, Sequence[tuple[str, str]]], prompt: Prompt, tokenizer: PreTrainedTokenizerBase
) -> list[Encoded]:
    """The sequences of all directions, in order."""
    return [row for way, pairs in sentences.items() for row in encode_pairs(prompt, tokenizer, pairs, *way)]


def read_tests(spec: Mapping[str, Any], pairs: Mapping[str, Path], items: Mapping[str, Path]) -> list[tuple[str, str]]:
    """The (prompt, answer) of each of ``spec["tests"]``: a language's sentences ("" before them), or a task's items.

    ``pairs`` maps languages to corpora, ``items`` to folders of tasks; the pivot's text is in every corpus. Drawn as
    :func:`read_sentences` says. Raises :class:`InputError` for a test split and for what is missing or empty.
    """
    _check_split(spec)
    chosen: list[tuple[str, str]] = []
    for test in spec["tests"]:
        task, language = test["task"], test["language"]
        if task == "text":
            own = language if language != spec["pivot"] or language in pairs else next(iter(pairs), language)
            if own not in pairs:
                raise InputError(f"tests: no text of {language!r}; expected the input pairs/{language}")
            rows = [("", text) for text in read_column(pairs[own] / f"{spec['split']}.jsonl", language).values()]
        else:
            if language not in items:
                raise InputError(f"tests: no tasks of {language!r}; expected the input tasks/{language}")
            found = tasks.read_items(tasks.file_of(items[language], task, spec["split"]))
            rows = [(item.prompt, item.answer) for item in found]
        if not rows:
            raise InputError(f"test {task}.{language}, split {spec['split']}: no items; check the corpus")
        chosen += [rows[i] for i in drawn(spec, len(rows))]
    return chosen


def encode_tests(
    rows: Sequence[tuple[str, str]], tokenizer: PreTrainedTokenizerBase, context: int | None = None
) -> list[Encoded]:
    """Sequences of prompts and answers, each cut to its first ``context`` tokens; without those that ask for nothing.

    The first token of a sequence is never asked for: nothing foretells it.
    """
    encoded = []
    for prompt, answer in rows:
        ids, start = tasks.encode(tokenizer, prompt, answer)
        ids, start = ids[:context], max(1, start)
        if len(ids) > start:
            encoded.append(Encoded(tuple(ids), start, (0, 0), (start, len(ids))))
    return encoded


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
