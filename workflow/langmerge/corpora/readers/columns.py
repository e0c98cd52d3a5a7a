"""Which column holds what, and rows of any table turned into sentence pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from langmerge.provenance import InputError

Raw = tuple[str | None, str | None, str | None]  # id, pivot, target
# Rows that are looked at to learn the columns: JSON rows may leave out what is null.
HEAD = 100
NESTED = "translation"  # the usual name on the Hub of the column that holds {language: sentence}


@dataclass(frozen=True)
class Wanted:
    """The two languages that are sought in a place, and the study file's names of their columns."""

    place: str
    columns: Mapping[str, str]
    pivot: str
    language: str
    one_sided: bool = False  # whether the pivot is not sought

    def named(self, code: str) -> str | None:
        """The column that the study file gives for a language; None if it gives none."""
        return self.columns.get(code, self.columns.get("language" if self.one_sided or code != self.pivot else "pivot"))

    def numbered(self) -> bool:
        """Whether columns are given by number, so that the table has no header."""
        return bool(self.columns) and all(name.isdigit() for name in self.columns.values())

    def find(self, code: str, present: Iterable[str]) -> str:
        """The column of a language among those present; :class:`InputError` naming them if there is none."""
        present = list(present)
        given = self.named(code)
        candidates = [code, f"{NESTED}.{code}"] if given is None else [given]
        for name in candidates:
            if _among(name, present):
                return name
        raise InputError(
            f"{self.place}: no column {candidates[0]!r} for the language {code}; the columns are {', '.join(present)}; "
            "name it under `columns`" + ('; for a table without a header give numbers ("0")' if given is None else "")
        )

    def sides(self, present: Iterable[str]) -> list[str]:
        """The columns of pivot and language, or of the language alone where text is one-sided."""
        present = list(present)
        return [self.find(code, present) for code in (self.pivot, self.language)[self.one_sided :]]

    def find_id(self, present: Iterable[str]) -> str | None:
        """The column of the identifier, if there is one."""
        present = list(present)
        given = self.columns.get("id")
        if given is None:
            return "uid" if "uid" in present else None
        if not _among(given, present):
            raise InputError(f"{self.place}: no column {given!r} for the id; the columns are {', '.join(present)}")
        return given


def _among(name: str, present: Iterable[str]) -> bool:
    return name in present or name.partition(".")[0] in present


def value(row: Mapping[str, Any], name: str) -> Any:
    """A cell; ``translation.en`` reaches into a nested column. None if there is none."""
    if name in row or "." not in name:
        return row.get(name)
    head, _, rest = name.partition(".")
    inner = row.get(head)
    return value(inner, rest) if isinstance(inner, Mapping) else None


def pairs(table: Iterable[tuple[int, Mapping[str, Any]]], wanted: Wanted) -> Iterator[Raw]:
    """Rows ``(number, {column: cell})`` as sentence pairs.

    Raises :class:`InputError` if there are no rows, if a column is in none of the first, or if a cell is not text.
    """
    rows = iter(table)
    head = list(islice(rows, HEAD))
    if not head:
        raise InputError(f"{wanted.place}: no rows; expected sentence pairs")
    present = dict.fromkeys(name for _, row in head for name in row)
    key, names = wanted.find_id(present), wanted.sides(present)
    for name in names:
        if "." in name and name not in present and not any(_reaches(row, name) for _, row in head):
            outer = name.rpartition(".")[0]
            inner = sorted({key for _, row in head for key in (value(row, outer) or {})})
            raise InputError(f"{wanted.place}: no {name!r}; {outer} holds {', '.join(inner) or 'nothing by name'}")
    for number, row in chain(head, rows):
        texts = [value(row, name) for name in names]
        for name, text in zip(names, texts, strict=True):
            if text is not None and not isinstance(text, str):
                raise InputError(
                    f"{wanted.place}, row {number}: column {name!r}: expected a sentence, found {type(text).__name__} "
                    f"{str(text)[:40]}; name another column under `columns`"
                )
        identity = value(row, key) if key else None
        if key and identity is None:
            raise InputError(
                f"{wanted.place}, row {number}: no id in column {key!r}; name another as `id` under `columns`"
            )
        yield None if identity is None else str(identity), None if wanted.one_sided else texts[0], texts[-1]


def _reaches(row: Mapping[str, Any], name: str) -> bool:
    outer, _, inner = name.rpartition(".")
    held = value(row, outer)
    return isinstance(held, Mapping) and inner in held
