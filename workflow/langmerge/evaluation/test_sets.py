"""Directions and the sentence pairs that they are evaluated on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from langmerge.provenance import InputError


class Direction(NamedTuple):
    """A direction of translation between two language codes; as a string ``en-es``."""

    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.source}-{self.target}"


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


def _column(path: Path, language: str) -> dict[str, str]:
    """Sentence of ``language`` by id, in the order of the file."""
    if not path.is_file():
        raise InputError(f"{path}: file not found; expected sentence pairs, one JSON object a line")
    sentences: dict[str, str] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                key, text = row["id"], row[language]
            except json.JSONDecodeError as error:
                raise InputError(f"{path}, line {number}: not valid JSON ({error.msg})") from None
            except (KeyError, TypeError):
                raise InputError(
                    f'{path}, line {number}: expected the keys "id" and "{language}", found {line.strip()[:60]!r}'
                ) from None
            if not isinstance(text, str) or not text.strip():
                raise InputError(f'{path}, line {number}: "{language}" is empty; expected a sentence (remove the line)')
            if str(key) in sentences:
                raise InputError(f"{path}, line {number}: id {key!r} stands twice; ids must be unique")
            sentences[str(key)] = text
    return sentences


def read_test_set(
    folders: Mapping[str, Path], direction: Direction, split: str, limit: int | None, pivot: str
) -> TestSet:
    """The first ``limit`` (None: all) pairs of ``direction`` in ``split``.

    ``folders`` maps each language but the pivot to its folder of pairs with the pivot. Directions between two
    such languages are joined by id, which works where the corpora are multi-parallel. Raises
    :class:`InputError` if a file or column is missing or nothing is left.
    """

    def sentences(language: str, other: str) -> dict[str, str]:
        name = other if language == pivot else language
        if name not in folders:
            raise InputError(
                f"direction {direction}: no sentence pairs of {name!r} with {pivot!r}; expected pairs/{name}"
            )
        return _column(folders[name] / f"{split}.jsonl", language)

    sources = sentences(direction.source, direction.target)
    references = sentences(direction.target, direction.source)
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
