"""Rows that are items already, in the form of :mod:`langmerge.tasks`: your own tasks."""

from __future__ import annotations

from typing import Any

from langmerge.corpora.readers.tasks.cells import Cells

KINDS = ("choice", "generation")


def items(cells: Cells, number: str) -> tuple[str, dict[str, Any]]:
    """The row with the keys of an item only; a missing ``prompt`` or ``group`` is "", a missing id the row's number.

    Raises ValueError for a kind other than choice and generation, fewer than two choices or an empty one, a ``gold``
    that is no index of them, and an empty answer.
    """
    kind, identity = cells.one_of("kind", KINDS), cells.identity("id") or number
    free = {name: str(cells.value(name)) if cells.has(name) else "" for name in ("prompt", "group")}
    item = {"id": identity, "kind": kind, **free}
    if kind == "generation":
        return identity, {**item, "answer": cells.text("answer")}
    choices, gold = cells.value("choices"), cells.value("gold")
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(c, str) and c.strip() for c in choices):
        raise cells.wrong("choices", "a list of two texts or more", choices)
    if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < len(choices):
        raise cells.wrong("gold", f"an index from 0 to {len(choices) - 1}", gold)
    return identity, {**item, "choices": choices, "gold": gold}
