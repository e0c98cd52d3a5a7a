"""Texts with a label: AfriSenti and XED (sentiment), or any table of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from langmerge.corpora.readers.tasks.cells import Cells, fill

Item = dict[str, Any]
Build = Callable[[Cells, str], tuple[str, Item] | None]

# The labels of a set, and those of its rows that are read where the source does not say.
LABELS = {
    "afrisenti": ("negative", "neutral", "positive"),
    "xed": ("negative", "positive", "mixed", "other"),
}
READ = {"afrisenti": ("negative", "neutral", "positive"), "xed": ("negative", "positive")}


def labelled(kind: str, column: str, template: str, words: Mapping[str, str]) -> Build:
    """A builder of items from ``text`` and the label in ``column``.

    The choices are the words of the labels in the order of ``words`` ({label: word}), the same in every row; without
    ``words`` those of :data:`READ` in English. Rows with another label of the set (:data:`LABELS`) give None: XED's
    polarity is ``mixed`` where a line shows emotions of both signs and ``other`` where it shows none, and these are
    read only if they have a word. The group is the label. Raises ValueError for fewer than two words, for two labels
    with the same word, for a word of a label that the set has not, and for a row whose label is none of the set's.
    """
    chosen = dict(words) or {label: label for label in READ.get(kind, ())}
    known = LABELS.get(kind)
    if len(chosen) < 2:
        raise ValueError(f"format {kind}: found words for {len(chosen)} labels; give at least two as `words`")
    if len(set(chosen.values())) < len(chosen):
        raise ValueError(f"format {kind}: two labels have the same word in {chosen}; they could not be told apart")
    if unknown := [label for label in chosen if known and label not in known]:
        raise ValueError(f"format {kind}: no label {unknown[0]!r}; its labels are {', '.join(known or ())}")
    order = list(chosen)

    def build(cells: Cells, number: str) -> tuple[str, Item] | None:
        label = cells.one_of(column, known) if known else cells.text(column)
        text = cells.text("text")
        if label not in chosen:
            return None
        identity = cells.identity() or number
        item = {"prompt": fill(template, cells, text=text), "choices": list(chosen.values())}
        return identity, {"id": identity, "kind": "choice", **item, "gold": order.index(label), "group": label}

    return build
