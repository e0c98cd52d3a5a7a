"""Transforms of real text: the same sentences in other words, another order, or other letters.

Each transform maps the very same sentences one to one, so that all are equally hard by construction. Which words there
are is read off all splits of the base language, so that the map is the same for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from langmerge.config import FilesCorpus
from langmerge.corpora import readers
from langmerge.corpora.cleaning import Pair, Tally, normalise
from langmerge.corpora.transformed.order import reversed_clauses
from langmerge.corpora.transformed.words import Relexifier, types
from langmerge.provenance import InputError
from langmerge.transforms import Transform, letter_table


class Transformer:
    """Maps a text of the base language to the transform's: words, then order, then letters."""

    def __init__(
        self, transform: Transform, words: Mapping[str, int], script: Mapping[Any, str] | None, seed: int = 0
    ) -> None:
        """``words``: all of the base's text, with frequencies; ``script``: ``{from: letters, to: letters}``.

        Raises ValueError if the letters of ``script`` or of the words cannot be exchanged.
        """
        self.relexifies = transform.relexify > 0
        self.relexifier = Relexifier(words, transform.relexify, seed)
        self.reverses = transform.order is not None
        letters = letter_table(script, "script") if transform.script else {}
        # Real text holds stray letters of other scripts: they change places, so that no two letters become one.
        self.letters = {ord(new): chr(old) for old, new in letters.items()} | letters

    def __call__(self, text: str) -> str:
        """The transformed text; as many words between spaces."""
        text = self.relexifier(text) if self.relexifies else text
        return (reversed_clauses(text) if self.reverses else text).translate(self.letters)


def transformer(corpus: FilesCorpus, pivot: str, language: str) -> tuple[Transformer, dict[str, Any]] | None:
    """The transform that a language's name asks for, and what it does to the words; None for text as it is.

    :class:`InputError` if the text and the transform do not go together.
    """
    settings, transform = corpus.transforms, corpus.transform(language)
    if settings is None or transform in (None, Transform()):
        return None
    assert transform is not None
    words = types(
        normalise(pair.target)
        for split, source in corpus.splits.items()
        for pair in readers.read(source, split, pivot, settings.base)
    )
    try:
        made = Transformer(transform, words, settings.script, settings.seed)
    except ValueError as error:
        raise InputError(f"corpus.transforms, {language}: {error}") from None
    replaced = [word for word, new in made.relexifier.words.items() if new != word]
    running = sum(words[word] for word in replaced) / max(words.total(), 1)
    return made, {"of": settings.base, "types": len(words), "replaced": len(replaced), "replaced_in_text": running}


def transformed(pairs: Iterable[Pair], transform: Transformer, tally: Tally) -> Iterator[Pair]:
    """The pairs with the language's side transformed; its characters are counted anew."""
    for pair in pairs:
        target = transform(pair.target)
        tally.characters[tally.language] += len(target) - len(pair.target)
        yield pair._replace(target=target)
