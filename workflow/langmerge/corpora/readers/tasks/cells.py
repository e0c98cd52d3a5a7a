"""Cells of a row, prompts filled with them, and what is said where one is missing or broken."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Cells:
    """One row of a file by the names of the set; ``columns`` maps those to the file's, where they differ."""

    place: str
    values: Mapping[str, Any]
    columns: Mapping[str, str]

    def has(self, name: str) -> bool:
        """Whether there is such a column with something in it."""
        return self.values.get(self.columns.get(name, name)) is not None

    def value(self, name: str) -> Any:
        """The cell as it stands; ValueError naming the columns there are if this one is missing or null."""
        column = self.columns.get(name, name)
        if self.values.get(column) is None:
            present = ", ".join(key for key, value in self.values.items() if value is not None)
            raise ValueError(
                f"{self.place}: no column {column!r}; the columns are {present}; name another for {name!r} under "
                "`columns`"
            )
        return self.values[column]

    def text(self, name: str) -> str:
        """The cell's text without white space around it; ValueError if it is not text or empty."""
        value = self.value(name)
        if not isinstance(value, str):
            raise self.wrong(name, "text", value)
        if not value.strip():
            raise ValueError(f"{self.place}, column {self.columns.get(name, name)!r}: empty; remove the row or mend it")
        return value.strip()

    def one_of(self, name: str, allowed: Mapping[str, Any] | tuple[str, ...]) -> str:
        """The cell as one of ``allowed`` (numbers as their digits); ValueError naming them for any other."""
        value = self.value(name)
        if isinstance(value, bool) or str(value).strip() not in allowed:
            raise self.wrong(name, f"one of {', '.join(allowed)}", value)
        return str(value).strip()

    def identity(self, *names: str) -> str | None:
        """The columns ``id`` or ``uid`` or, without one, all of ``names`` joined by a full stop; None if one lacks."""
        if "id" in self.columns:
            return str(self.value("id"))
        if self.has("uid"):
            return str(self.value("uid"))
        return ".".join(str(self.value(name)) for name in names) if names and all(map(self.has, names)) else None

    def wrong(self, name: str, expected: str, found: object) -> ValueError:
        """The error for a cell that is not what it should be."""
        column = self.columns.get(name, name)
        return ValueError(f"{self.place}, column {column!r}: expected {expected}, found {str(found)[:60]!r}")


def fill(template: str, cells: Cells, **others: str) -> str:
    """``template`` with each ``{name}`` replaced by the text of that column, or by ``others``.

    Filled in one pass, so that braces inside a text stay text. Raises ValueError for a column that there is not.
    """
    return FIELD.sub(lambda match: others[match[1]] if match[1] in others else cells.text(match[1]), template)
