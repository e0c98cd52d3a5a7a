"""Another order of real text: the words of each clause in reverse, which needs no parser and can be undone."""

from __future__ import annotations

import unicodedata
from typing import NamedTuple


class Framed(NamedTuple):
    """What stands between two spaces: the word, and the punctuation before and after it; any may be empty."""

    before: str
    word: str
    after: str


def framed(token: str) -> Framed:
    """A token without its outer punctuation and symbols; inner ones ("3.50", "ex-novio") belong to the word."""
    inside = [i for i, letter in enumerate(token) if _is_content(letter)]
    if not inside:
        return Framed("", "", token)
    return Framed(token[: inside[0]], token[inside[0] : inside[-1] + 1], token[inside[-1] + 1 :])


def _is_content(letter: str) -> bool:
    return letter.isalnum() or unicodedata.category(letter).startswith("M")


def reversed_clauses(text: str) -> str:
    """The text with the words between two punctuation marks in reverse; the marks and each word's letters stay.

    "¿Vienes, o te quedas?" becomes "¿Vienes, quedas te o?". Applied twice it gives the text back.
    """
    tokens = [framed(token) for token in text.split(" ")]
    clauses: list[list[int]] = []
    for i, token in enumerate(tokens):
        joined = i > 0 and token.word and not token.before and tokens[i - 1].word and not tokens[i - 1].after
        if joined:
            clauses[-1].append(i)
        else:
            clauses.append([i])
    sources = [i for clause in clauses for i in reversed(clause)]
    return " ".join(token.before + tokens[i].word + token.after for token, i in zip(tokens, sources, strict=True))
