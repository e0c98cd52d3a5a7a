"""Prepared sentence pairs: ``<split>.jsonl`` of a corpus folder, a pair a line, by ``id`` and language codes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from langmerge.provenance import InputError


class Direction(NamedTuple):
    """A direction of translation between two language codes; as a string ``en-es``."""

    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.source}-{self.target}"


def read_rows(path: Path, *columns: str) -> Iterator[dict[str, str]]:
    """The pairs of a file in order, blank lines skipped; all have text in ``columns`` (default: the first one's).

    Raises :class:`InputError` naming file and line where that does not hold.
    """
    return (row for _, row in _numbered(path, columns))


def _numbered(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """The same with the number of the line, from 1."""
    if not path.is_file():
        raise InputError(f"{path}: file not found; expected sentence pairs, one JSON object a line")
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    row = _row(line, columns, f"{path}, line {number}")
                    columns = columns or tuple(row)
                    yield number, row
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason}); convert it with `iconv -t UTF-8`") from None


def _row(line: str, columns: tuple[str, ...], place: str) -> dict[str, str]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{place}: not valid JSON ({error.msg}); expected one object a line") from None
    if not isinstance(row, dict) or any(name not in row for name in columns):
        wanted = " and ".join(f'"{name}"' for name in columns) or "sentences"
        raise InputError(f"{place}: expected a JSON object with {wanted}, found {line.strip()[:60]!r}")
    for name in columns or row:
        if not isinstance(row[name], str) or not row[name].strip():
            raise InputError(f'{place}: "{name}" is empty or not text; expected a sentence (remove the line)')
    return row


def read_column(path: Path, language: str) -> dict[str, str]:
    """Sentence of ``language`` by id, in the order of the file; :class:`InputError` if an id stands twice."""
    sentences: dict[str, str] = {}
    for number, row in _numbered(path, ("id", language)):
        if row["id"] in sentences:
            raise InputError(f"{path}, line {number}: id {row['id']!r} stands twice; ids must be unique")
        sentences[row["id"]] = row[language]
    return sentences


def read_direction(
    folders: Mapping[str, Path], direction: Direction, split: str, pivot: str
) -> tuple[dict[str, str], dict[str, str]]:
    """The sentences of source and target by id; those of a pair have the same one.

    ``folders`` maps each language but the pivot to its folder of pairs with the pivot. Two such languages have the ids
    in common that their corpora share, all where these are multi-parallel. Raises :class:`InputError` if a folder, file
    or column is missing.
    """

    def sentences(language: str, other: str) -> dict[str, str]:
        name = other if language == pivot else language
        if name not in folders:
            raise InputError(
                f"direction {direction}: no sentence pairs of {name!r} with {pivot!r}; expected pairs/{name}"
            )
        return read_column(folders[name] / f"{split}.jsonl", language)

    return sentences(direction.source, direction.target), sentences(direction.target, direction.source)
