"""Invented words: what a language looks like with other words and the same grammar.

Consonants are exchanged in whole clusters for clusters that the language has at the same place of a word and of
the same length; vowels and endings stay. So invented words can be pronounced, keep the shapes of the real ones, and
what the grammar reads off a word (vowel harmony, elision, the class of an ending) still holds.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from random import Random
from typing import NamedTuple

from langmerge.corpora.grammar.hashing import unit_hash
from langmerge.corpora.grammar.lexicon import Entry, Lexicon
from langmerge.corpora.grammar.words import Word

VOWELS = frozenset("aeiouyæœøıαεηιουωаеиоуыэюяєіъь")
# Devanagari: consonants, virama and nukta make up clusters; vowel letters and signs stay.
DEVANAGARI = re.compile("[\u0915-\u0939\u0958-\u095f\u094d\u093c]")
VIRAMA = "\u094d"
# How many letters of the lemma are its ending and stay.
ENDINGS = {"VERB": 2}

Lexeme = tuple[str, str]


def is_consonant(letter: str) -> bool:
    """Whether a letter belongs to a consonant cluster (Latin, Cyrillic, Greek, Devanagari)."""
    if "\u0900" <= letter <= "\u097f":
        return DEVANAGARI.match(letter) is not None
    return letter.isalpha() and unicodedata.normalize("NFD", letter)[0] not in VOWELS


def clusters(word: str) -> list[tuple[int, int]]:
    """The maximal runs of consonants in a word, as (start, end)."""
    runs: list[tuple[int, int]] = []
    for i, letter in enumerate(word):
        if is_consonant(letter):
            # In Devanagari a vowel is heard between consonants that no virama joins.
            apart = "\u0904" <= letter <= "\u0939" and word[i - 1 : i] != VIRAMA
            if runs and runs[-1][1] == i and not apart:
                runs[-1] = (runs[-1][0], i + 1)
            else:
                runs.append((i, i + 1))
    return runs


class Relexifier:
    """Replaces the forms of a share of the lexemes (nouns, adjectives, verbs, adverbs) by invented ones.

    Deterministic in the lexicon and the seed. The lexemes replaced at a share are among those of a larger share
    and have the same invented forms there. Copulas and function words are kept.
    """

    def __init__(self, lexicon: Lexicon, share: float, seed: int = 0) -> None:
        """Raise ValueError unless 0 <= share <= 1."""
        if not 0 <= share <= 1:
            raise ValueError(f"{lexicon.path}: transform.relexify: expected a share from 0 to 1, found {share}")
        self.seed = seed
        self._lemmas = _lexemes(lexicon)
        ranked = sorted(self._lemmas, key=lambda lexeme: unit_hash("relexify", seed, *lexeme))
        self.lexemes = frozenset(ranked[: round(share * len(ranked))])
        self._inventory = _inventory(t for lemma in self._lemmas.values() for t in lemma.lower().split())
        self._taken = {t for lemma in self._lemmas.values() for t in lemma.lower().split()}
        self._parts: dict[str, Invented] = {}  # words that lexemes of several words share: "semana"
        # Every lexeme gets its invented lemma, replaced or not, so that a lexeme has one at any share.
        self._invented = {
            lexeme: {t: self._invent(t, lexeme) for t in self._lemmas[lexeme].lower().split()} for lexeme in ranked
        }
        self._forms: dict[tuple[Lexeme, str], str] = {}

    def lexeme(self, word: Word) -> Lexeme | None:
        """The lexeme of a word, if it is replaced. A verb's particle or noun (PART) belongs to the verb."""
        lexeme = ("VERB" if word.pos == "PART" else word.pos, word.concept)
        return lexeme if lexeme in self.lexemes else None

    def word(self, word: Word) -> Word:
        """The word with its text replaced, if its lexeme is."""
        lexeme = self.lexeme(word)
        if lexeme is None:
            return word
        tokens = word.text.split()
        kept = {t for t in tokens if len(tokens) > 1 and self._grammatical(t.lower(), lexeme)}
        return word._replace(text=" ".join(t if t in kept else self._form(t, lexeme) for t in tokens))

    def _grammatical(self, token: str, lexeme: Lexeme) -> bool:
        """Whether one of several tokens is a function word: "se" in "se sienta", "la" in "la semana pasada"."""
        return len(token) <= 2 or not any(_common_prefix(t, token) for t in self._invented[lexeme])

    def _form(self, token: str, lexeme: Lexeme) -> str:
        key = (lexeme, token)
        if key not in self._forms:
            lower = token.lower()
            new = self._derive(lower, lexeme)
            capital = token[0] != lower[0]
            self._forms[key] = new[0].upper() + new[1:] if capital else new
        return self._forms[key]

    def _derive(self, form: str, lexeme: Lexeme) -> str:
        """Exchange the clusters that the form shares with its lemma; a suppletive form is invented afresh."""
        lemmas = self._invented[lexeme]
        lemma = max(lemmas, key=lambda t: _common_prefix(t, form))
        invented = lemmas[lemma]
        if not invented.old:
            return invented.prefix + form
        runs = clusters(form)
        start = next((i for i, (a, b) in enumerate(runs) if form[a:b] == invented.old[0]), None)
        if start is None:
            lemmas[form] = self._invent(form, lexeme)
            return lemmas[form].apply(form, 0)
        return invented.apply(form, start)

    def _invent(self, word: str, lexeme: Lexeme) -> Invented:
        """The exchange for a word of a lemma; one for all lexemes of several words that share it ("semana")."""
        if len(self._lemmas[lexeme].split()) == 1:
            return self._draw(word, lexeme)
        if word not in self._parts:
            self._parts[word] = self._draw(word, lexeme)
        return self._parts[word]

    def _draw(self, word: str, lexeme: Lexeme) -> Invented:
        """An exchange that gives a word neither in the lexicon nor invented for another lexeme."""
        rng = Random(f"{self.seed}/{lexeme}/{word}")
        runs = clusters(word)
        ending = len(word) - ENDINGS.get(lexeme[0], 1)
        inner = sum(b <= ending for _, b in runs) or len(runs)
        old = tuple(word[a:b] for a, b in runs[:inner])
        for attempt in range(1000):
            new = tuple(
                self._other(text, _place(a, b, word), rng) for text, (a, b) in zip(old, runs[:inner], strict=True)
            )
            prefix = ""
            if not old or attempt > 200:  # no consonant, or all words of this shape taken: a syllable longer
                vowel = next((c for c in word if c.isalpha() and not is_consonant(c)), "")
                prefix = rng.choice(self._inventory["initial"][1]) + (vowel if is_consonant(word[0]) else "")
            invented = Invented(old, new, prefix)
            text = invented.apply(word, 0)
            if text not in self._taken:
                self._taken.add(text)
                return invented
        raise ValueError(f"no unused word of the shape of {word!r} was found for {lexeme}; use another seed")

    def _other(self, cluster: str, place: str, rng: Random) -> str:
        """Another cluster of the same place and, if there is one, the same length."""
        by_length = self._inventory[place]
        same = [c for c in by_length[len(cluster)] if c != cluster]
        return rng.choice(same or [c for _, cs in sorted(by_length.items()) for c in cs if c != cluster])


class Invented(NamedTuple):
    """Which clusters of a word are exchanged for which, and what is put before it."""

    old: tuple[str, ...]
    new: tuple[str, ...]
    prefix: str = ""

    def apply(self, form: str, start: int) -> str:
        """`form` with its clusters from the one numbered `start` exchanged, as long as they are the old ones."""
        pairs = list(zip(clusters(form)[start:], self.old, self.new, strict=False))
        shared = next((i for i, ((a, b), old, _) in enumerate(pairs) if form[a:b] != old), len(pairs))
        for (a, b), _, new in reversed(pairs[:shared]):
            form = form[:a] + new + form[b:]
        return self.prefix + form


def _lexemes(lexicon: Lexicon) -> dict[Lexeme, str]:
    """The lemmas of the world's nouns, adjectives, verbs (but "be") and adverbs."""
    world = lexicon.world
    sections: dict[str, tuple[Mapping[str, Entry], Iterable[str]]] = {
        "NOUN": (lexicon.nouns, world.noun_list),
        "ADJ": (lexicon.adjectives, world.adjectives),
        "VERB": (lexicon.verbs, world.verbs),
        "ADV": (lexicon.adverbs, world.adverbs),
    }
    return {
        (pos, concept): str(section[concept]["lemma"])
        for pos, (section, concepts) in sections.items()
        for concept in concepts
    }


def _place(start: int, end: int, word: str) -> str:
    return "initial" if start == 0 else "final" if end == len(word) else "medial"


def _inventory(words: Iterable[str]) -> dict[str, dict[int, list[str]]]:
    """Clusters by place and length; each distinct one once, in a fixed order."""
    found: dict[str, dict[int, set[str]]] = {}
    for word in words:
        for a, b in clusters(word):
            found.setdefault(_place(a, b, word), {}).setdefault(b - a, set()).add(word[a:b])
    return {place: {n: sorted(cs) for n, cs in by_length.items()} for place, by_length in found.items()}


def _common_prefix(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
