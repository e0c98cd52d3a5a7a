"""Minimal pairs: BLiMP, MultiBLiMP, CLAMS, SLING and TurBLiMP, a grammatical and an ungrammatical sentence a row.

Identical and repeated pairs that the published sets hold are kept, so that counts agree with the papers'. An identical
pair is a tie: an error where a scorer asks for a strictly greater probability (MultiBLiMP's own), and right where it
takes the first of the greatest (lm-evaluation-harness).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from langmerge.corpora.readers.tasks.cells import Cells

Item = dict[str, Any]


def sentences(good: str, bad: str, *, group: str) -> Callable[[Cells, str], tuple[str, Item]]:
    """A builder of items from the columns ``good`` and ``bad``, grouped by the column ``group``.

    The group is stripped: TurBLiMP writes some names with spaces at their ends. ``columns: {group: paradigm}`` in a
    source takes another column.
    """

    def build(cells: Cells, number: str) -> tuple[str, Item]:
        choices = [cells.text(good), cells.text(bad)]
        name = "group" if "group" in cells.columns else group
        identity = cells.identity("paradigm", "pair_id") or number
        item = {"prompt": "", "choices": choices, "gold": 0, "group": cells.text(name)}
        return identity, {"id": identity, "kind": "choice", **item}

    return build


def multiblimp(cells: Cells, number: str) -> tuple[str, Item]:
    """A pair of MultiBLiMP (arXiv 2504.02768): sentences that share ``prefix`` and part at the verb.

    The prefix stays in both, as its own scorer sums over whole sentences: given the same tokens before, it adds the
    same to both. Sentences that stand under two phenomena fall into the same split. Raises ValueError if one of the
    sentences does not begin with the prefix.
    """
    _, item = sentences("sen", "wrong_sen", group="phenomenon")(cells, number)
    if cells.has("prefix"):
        prefix = str(cells.value("prefix")).strip()
        for name, sentence in zip(("sen", "wrong_sen"), item["choices"], strict=True):
            if not sentence.startswith(prefix):
                raise cells.wrong(name, f"a sentence that begins with the prefix {prefix[:40]!r}", sentence)
    return item["choices"][0], item


def identical(items: Iterable[Mapping[str, Any]]) -> int:
    """How many pairs are ties by their text: 7 in BLiMP, 24 in SLING, 20 in TurBLiMP."""
    return sum(item["choices"][0] == item["choices"][1] for item in items)


def repeated(items: Iterable[Mapping[str, Any]]) -> int:
    """How many pairs stand there before: 831 in TurBLiMP."""
    pairs = [tuple(item["choices"]) for item in items]
    return len(pairs) - len(set(pairs))
