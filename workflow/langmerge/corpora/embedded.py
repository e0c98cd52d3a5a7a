"""The embedded corpus as sentence pairs: one language with the pivot, and where each word stands."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from langmerge.config import EmbeddedCorpus
from langmerge.corpora.cleaning import Pair
from langmerge.corpora.grammar import corpus as grammar
from langmerge.corpora.grammar.language import Language
from langmerge.corpora.grammar.meaning import Meaning
from langmerge.corpora.grammar.world import World
from langmerge.provenance import InputError

# Splits whose sentences are measured, and which therefore keep their words' places. Those of train would be most of
# the corpus's bytes, and nothing reads them.
WITH_SPANS = ("dev", "test")


class Embedded:
    """The meanings of an embedded corpus, and its two languages."""

    def __init__(self, corpus: EmbeddedCorpus, pivot: str, language: str) -> None:
        """Sample the meanings; :class:`InputError` if the grammar's files are wrong or the world is too small."""
        folder = Path(corpus.grammar)
        sizes = grammar.Sizes(corpus.train, corpus.dev, corpus.test)
        try:
            world = World.load(folder / "world.yaml").restricted(
                corpus.nouns, corpus.verbs, corpus.adjectives, corpus.two_clauses
            )
            self.languages = [Language.load(code, folder / "languages", world) for code in (pivot, language)]
            # To draw meanings takes their English sentences, which are then written: remembered, not said twice.
            self._in_pivot = functools.cache(lambda meaning: self.languages[0].render(meaning).text)
            english = self._in_pivot if pivot == "en" else None
            self.splits = grammar.meanings(
                world, sizes, corpus.seed, corpus.held_out, folder=folder / "languages", english=english
            )
        except ValueError as error:
            raise InputError(f"corpus: {error}") from None
        self.barred = grammar.held_out_combinations(world, corpus.held_out)

    def pairs(self, split: str) -> Iterator[Pair]:
        """The sentences of a split; the same id is the same meaning in every language."""
        for number, meaning in enumerate(self.splits[split]):
            yield Pair(identity(split, number), self._in_pivot(meaning), self.languages[1].render(meaning).text)

    def spans(self, split: str) -> Iterator[dict[str, Any]]:
        """Per pair: id, features of the meaning and, under either code, the sentence's spans.

        A span is ``{start, end, role, concept, pos, features, clause}`` with offsets in characters of the sentence.
        """
        sides = [self._rows(language, split) for language in self.languages]
        for rows in zip(*sides, strict=True):
            row = {key: value for key, value in rows[0].items() if key not in ("text", "spans")}
            yield row | {side.code: one["spans"] for side, one in zip(self.languages, rows, strict=True)}

    def _rows(self, language: Language, split: str) -> Iterator[dict[str, Any]]:
        meanings: Sequence[Meaning] = self.splits[split]
        for number, meaning in enumerate(meanings):
            yield grammar.row(language, meaning, identity(split, number), self.barred)


def identity(split: str, number: int) -> str:
    """The id of the meaning at position ``number`` (from 0) of a split."""
    return f"{split}-{number:06d}"
