"""Which sentences are measured: the same ids in every direction where the corpora share them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from langmerge.pairs import Direction, read_direction
from langmerge.provenance import InputError

LEAST = 4  # debiased CKA is undefined for fewer


@dataclass(frozen=True)
class Sentences:
    """The n sentence pairs of one direction, in the order of its file.

    ``language`` names the direction in tables of languages: the one that is not the pivot, or the whole direction where
    that is not unique.
    """

    direction: Direction
    language: str
    ids: tuple[str, ...]
    sources: tuple[str, ...]
    targets: tuple[str, ...]


def blocks_of(ids: Sequence[str], blocks: int) -> np.ndarray:
    """The jackknife block of each sentence, int64 [n] in ``range(blocks)``: a hash of its id, so equal everywhere."""
    digests = (hashlib.sha256(key.encode()).digest() for key in ids)
    return np.array([int.from_bytes(digest[:8], "big") % blocks for digest in digests], dtype=np.int64)


def choose_ids(available: Sequence[Sequence[str]], wanted: int) -> tuple[list[list[str]], bool]:
    """Up to ``wanted`` ids per direction, and whether they are the same in all.

    They are the first common ids, unless the directions have so few in common that more than half of what they could
    give would be lost; then each gives its own first ids.
    """
    sets = [set(ids) for ids in available]
    common = [key for key in available[0] if all(key in ids for ids in sets[1:])][:wanted]
    possible = min(wanted, *(len(ids) for ids in available))
    if common and 2 * len(common) >= possible:
        return [common for _ in available], True
    return [list(ids[:wanted]) for ids in available], False


def _labels(directions: Sequence[Direction], pivot: str) -> list[str]:
    names = [d.target if d.source == pivot else d.source if d.target == pivot else str(d) for d in directions]
    return [
        name if names.count(name) == 1 else str(direction) for name, direction in zip(names, directions, strict=True)
    ]


def read_sentences(spec: Mapping[str, Any], folders: Mapping[str, Path]) -> tuple[list[Sentences], bool]:
    """The sentences of each of ``spec["directions"]``, and whether all directions have the same ids.

    ``folders`` maps each language but ``spec["pivot"]`` to its folder of pairs with the pivot; directions between two
    such languages are joined by id. At most ``spec["sentences"]`` of ``spec["split"]`` are taken. :class:`InputError`
    for a missing file, column or language, and for fewer than four sentences.
    """
    pivot, split = spec["pivot"], spec["split"]
    directions = [Direction(value["source"], value["target"]) for value in spec["directions"]]
    if not directions:
        raise InputError("directions: expected at least one, found none")
    columns = [read_direction(folders, direction, split, pivot) for direction in directions]
    chosen, shared = choose_ids([[k for k in source if k in target] for source, target in columns], spec["sentences"])
    result = []
    for direction, label, ids, (source, target) in zip(
        directions, _labels(directions, pivot), chosen, columns, strict=True
    ):
        if len(ids) < LEAST:
            raise InputError(
                f"direction {direction}, split {split}: {len(ids)} sentence pairs; the analysis needs {LEAST} or more"
            )
        texts = tuple(source[key] for key in ids), tuple(target[key] for key in ids)
        result.append(Sentences(direction, label, tuple(ids), *texts))
    return result, shared
