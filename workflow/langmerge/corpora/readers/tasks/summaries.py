"""Texts with a summary: Klexikon (German), SciTLDR (English), headlines of NTREX, or any table of both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langmerge.corpora.readers.tasks.cells import Cells, fill


def summaries(template: str) -> Callable[[Cells, str], tuple[str, dict[str, Any]]]:
    """A builder of items from the columns ``text`` and ``summary``; of SciTLDR's several summaries the first."""

    def build(cells: Cells, number: str) -> tuple[str, dict[str, Any]]:
        identity = cells.identity() or number
        item = {"prompt": fill(template, cells), "answer": cells.text("summary"), "group": ""}
        return identity, {"id": identity, "kind": "generation", **item}

    return build
