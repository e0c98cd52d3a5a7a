"""Directions and the sentence pairs that they are evaluated on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langmerge.pairs import Direction, read_direction
from langmerge.provenance import InputError


def parse_direction(value: Mapping[str, str] | str) -> Direction:
    """A direction from ``{"source": "en", "target": "es"}`` or ``"en-es"``; else :class:`InputError`."""
    if isinstance(value, Mapping) and set(value) == {"source", "target"}:
        direction = Direction(value["source"], value["target"])
    elif isinstance(value, str) and value.count("-") == 1:
        direction = Direction(*value.split("-"))
    else:
        raise InputError(f'direction {value!r}: expected {{"source": "en", "target": "es"}} or "en-es"')
    if not direction.source or not direction.target or direction.source == direction.target:
        raise InputError(f"direction {direction}: expected two different language codes")
    return direction


@dataclass(frozen=True)
class TestSet:
    """The n sentences of one split and direction, in the order of the file."""

    __test__ = False  # the name is the field's, not a pytest class

    split: str
    direction: Direction
    ids: tuple[str, ...]
    sources: tuple[str, ...]
    references: tuple[str, ...]


def read_test_set(
    folders: Mapping[str, Path], direction: Direction, split: str, limit: int | None, pivot: str
) -> TestSet:
    """The first ``limit`` (None: all) pairs of ``direction`` in ``split``.

    ``folders`` maps each language but the pivot to its folder of pairs with the pivot. Directions between two
    such languages are joined by id, which works where the corpora are multi-parallel. Raises
    :class:`InputError` if a file or column is missing or nothing is left.
    """
    sources, references = read_direction(folders, direction, split, pivot)
    ids = tuple(key for key in sources if key in references)[:limit]
    if not ids:
        raise InputError(
            f"direction {direction}, split {split}: no sentences to evaluate on; check the pairs and the limit"
        )
    return TestSet(split, direction, ids, tuple(sources[i] for i in ids), tuple(references[i] for i in ids))


def read_test_sets(spec: Mapping[str, Any], folders: Mapping[str, Path]) -> list[TestSet]:
    """All test sets of an evaluation: each of ``spec["splits"]`` (name to limit), each direction."""
    directions: Sequence[Direction] = [parse_direction(value) for value in spec["directions"]]
    return [
        read_test_set(folders, direction, split, limit, spec["pivot"])
        for split, limit in spec["splits"].items()
        for direction in directions
    ]
