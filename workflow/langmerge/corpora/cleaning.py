"""Normalising, folding and filtering sentence pairs."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

from langmerge.config import Filters

# Zero-width space, word joiner, byte order mark, and controls that are no white space. Joiners (U+200C, U+200D) stay:
# Hindi, Persian and emoji are spelled with them.
_INVISIBLE = dict.fromkeys([0x200B, 0x2060, 0xFEFF, *range(0x09), *range(0x0E, 0x1C), *range(0x7F, 0x85)])


class Pair(NamedTuple):
    """A sentence in the pivot and its translation; a side that is missing is empty (of one-sided text the pivot's)."""

    id: str
    pivot: str
    target: str


class _Punctuation(dict[int, int | str]):
    """Translation table that turns punctuation into a space, filled as characters come up."""

    def __missing__(self, code: int) -> int | str:
        self[code] = " " if unicodedata.category(chr(code)).startswith("P") else code
        return self[code]


_PUNCTUATION = _Punctuation()


def normalise(text: str) -> str:
    """Unicode NFC, invisible characters removed, runs of any white space (no-break too) one space, ends stripped."""
    return " ".join(unicodedata.normalize("NFC", text).translate(_INVISIBLE).split())


def fold(text: str) -> str:
    """What two sentences share that differ only in case and punctuation; marks and symbols count.

    A text of nothing but punctuation is itself.
    """
    folded = " ".join(text.casefold().translate(_PUNCTUATION).split())
    return folded or text


@dataclass
class HeldOut:
    """The folded sentences of a held-out split, by side."""

    pivot: set[str] = field(default_factory=set)
    target: set[str] = field(default_factory=set)

    def add(self, pair: Pair) -> None:
        """Note the sides that are there."""
        self.pivot.update(filter(None, [fold(pair.pivot)]))
        self.target.update(filter(None, [fold(pair.target)]))


@dataclass
class Tally:
    """What became of a split's rows, and how much text is left."""

    pivot: str
    language: str
    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    contaminated: dict[str, Counter[str]] = field(default_factory=dict)  # held-out split -> side -> rows

    def keep(self, pair: Pair) -> None:
        """Count a pair that is kept."""
        self.kept += 1
        for code, text in ((self.pivot, pair.pivot), (self.language, pair.target)):
            self.characters[code] += len(text)
            self.words[code] += len(text.split())

    def compare(self, pair: Pair, held_out: Mapping[str, HeldOut]) -> bool:
        """Whether a side of ``pair`` stands in a held-out split; count where."""
        found = False
        pivot, target = fold(pair.pivot), fold(pair.target)
        for split, sentences in held_out.items():
            counts = self.contaminated.setdefault(split, Counter({self.pivot: 0, self.language: 0, "either": 0}))
            sides = {self.pivot: pivot in sentences.pivot, self.language: target in sentences.target}
            sides["either"] = any(sides.values())
            counts.update(sides)
            found |= sides["either"]
        return found

    def to_dict(self) -> dict[str, Any]:
        """For ``statistics.json``."""
        return {
            "read": self.read,
            "dropped": dict(self.dropped),
            "kept": self.kept,
            "characters": dict(self.characters),
            "words": dict(self.words),
        }


def reason_to_drop(pair: Pair, filters: Filters, one_sided: bool = False) -> str | None:
    """The first filter that a normalised pair does not pass: ``empty``, the name of a length filter, or None.

    Text that is ``one_sided`` has no pivot, which is not held against it, and so no ratio of lengths.
    """
    if one_sided and pair.target:
        pair = pair._replace(pivot=pair.target)
    if not (pair.pivot and pair.target):
        return "empty"
    if filters.max_words and max(len(pair.pivot.split()), len(pair.target.split())) > filters.max_words:
        return "max_words"
    short, long = sorted((len(pair.pivot), len(pair.target)))
    if long > filters.max_characters:
        return "max_characters"
    return "max_length_ratio" if long > filters.max_length_ratio * short else None


def clean(
    pairs: Iterable[Pair],
    filters: Filters,
    limit: int | None,
    tally: Tally,
    held_out: Mapping[str, HeldOut] | None,
    one_sided: bool = False,
) -> Iterator[Pair]:
    """The pairs that are kept, normalised, in their order: the first ``limit``, counted after filtering.

    Training pairs alone are deduplicated and, last, compared with ``held_out``: those found there are dropped as
    ``contaminated`` or, with ``filters.drop_contaminated`` off, only counted. Where ``held_out`` is None the split is
    itself held out and keeps its repetitions, so that scores on published test sets stay comparable. ``one_sided`` text
    is kept without the pivot.
    """
    seen: set[bytes] = set()
    for raw in pairs:
        tally.read += 1
        pair = Pair(raw.id, normalise(raw.pivot), normalise(raw.target))
        reason = reason_to_drop(pair, filters, one_sided)
        if not reason and filters.deduplicate and held_out is not None:
            # 16 bytes a pair, however long the sentences: corpora of 10^7 pairs fit in memory.
            key = blake2b(f"{fold(pair.pivot)}\n{fold(pair.target)}".encode(), digest_size=16).digest()
            reason = "duplicate" if key in seen else None
            seen.add(key)
        if not reason and held_out is not None and tally.compare(pair, held_out) and filters.drop_contaminated:
            reason = "contaminated"
        if reason:
            tally.dropped[reason] += 1
            continue
        tally.keep(pair)
        yield pair
        if tally.kept == limit:
            return
