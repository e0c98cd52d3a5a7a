"""What a grammar hands around: features, words, and sentences with spans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Features:
    """The grammatical features that a word is inflected for; each hook of a language reads what it needs.

    `case` and `gender` are the names that the language file uses ("" for none). `position` says whether an
    adjective is "attributive" or "predicative". `determiner` is that of the noun phrase ("the", "two", ...).
    `reflexive` is true for "my" in a clause whose subject is "i". `subordinate` is true in a "because" clause.
    """

    number: str = "sg"
    gender: str = ""
    case: str = ""
    person: int = 3
    tense: str = "present"
    definite: bool = False
    animate: bool = False
    negative: bool = False
    position: str = "attributive"
    determiner: str = ""
    reflexive: bool = False
    transitive: bool = False
    subordinate: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The features that differ from their defaults, and always the number."""
        values = zip(_NAMES, _values(self), _DEFAULTS, strict=True)
        return {n: v for n, v, default in values if n == "number" or v != default}


DEFAULT = Features()
_NAMES = tuple(f.name for f in fields(Features))
_values = attrgetter(*_NAMES)
_DEFAULTS = _values(DEFAULT)


@dataclass(frozen=True, slots=True)
class VerbGroup:
    """The finite verb and what belongs to it: VerbGroup("wird", ("schlafen",)).

    `main` is the index of the lexical verb in (finite, *rest): the last by default; 0 where `rest` holds a
    particle ("lädt", ("ein",)). The others are auxiliaries.
    """

    finite: str
    rest: tuple[str, ...] = ()
    main: int = -1


class Word(NamedTuple):
    """A word in place: its text (which may hold spaces), role in the clause, concept, UPOS and features."""

    text: str
    role: str
    concept: str
    pos: str
    features: Features = DEFAULT
    clause: int = 0


class Span(NamedTuple):
    """Characters `start` to `end` of a sentence and what stands there."""

    start: int
    end: int
    role: str
    concept: str
    pos: str
    features: dict[str, Any]
    clause: int


@dataclass(frozen=True, slots=True)
class Sentence:
    """A rendered meaning: its text, and where each word starts and ends in it, in characters."""

    text: str
    places: tuple[tuple[int, int, Word], ...]

    @property
    def spans(self) -> tuple[Span, ...]:
        """The span of every word; words fused into one ("del") share their characters."""
        return tuple(Span(s, e, w.role, w.concept, w.pos, w.features.to_dict(), w.clause) for s, e, w in self.places)


def assemble(
    words: Sequence[Word],
    contract: Callable[[list[str]], list[str]],
    capitalise: Callable[[str], str],
    final: str,
) -> Sentence:
    """Join words into a sentence and record where each stands.

    `contract` maps the texts to texts of the same number, "" where a word has been fused into the one before.
    No space follows an apostrophe and none precedes punctuation. Punctuation has no span.
    """
    tokens = [w._replace(text=t) if t != w.text else w for w in words for t in w.text.split()]
    before = [t.text for t in tokens]
    texts = contract(list(before))
    if len(texts) != len(tokens):
        raise ValueError(
            f"contract({before}) returned {len(texts)} texts for {len(tokens)} words; "
            'expected the same number, with "" for a word fused into the one before it'
        )
    pieces: list[str] = []
    places: list[tuple[int, int, Word]] = []
    length = start = 0
    for token, text in zip(tokens, texts, strict=True):
        if text:
            if length and token.pos != "PUNCT" and not pieces[-1].endswith(("'", "’")):
                pieces.append(" ")
                length += 1
            start = length
            pieces.append(text)
            length += len(text)
        if token.pos != "PUNCT":
            places.append((start, length, token))
    text = "".join(pieces)
    first = capitalise(text[:1])
    if len(first) != 1:
        raise ValueError(f"capitalising {text[:1]!r} gave {first!r}; expected one character")
    return Sentence(first + text[1:] + final, tuple(places))
