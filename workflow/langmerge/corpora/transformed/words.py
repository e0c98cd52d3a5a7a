"""Other words for real text: a share of its words in a cipher of letters, so that they are as hard as the real ones.

Consonants are exchanged for consonants and vowels for vowels, each letter for the same one throughout. So invented
words are as long as the real ones, have the same shape, and share stems and endings where the real ones do: as strings
of letters the two lexica are the same up to the letters' names. A word whose cipher is a real word gets a letter more.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import count, product

from langmerge.corpora.grammar.hashing import unit_hash
from langmerge.corpora.grammar.relexify import is_consonant

WORD = re.compile(r"[^\W\d_]+")
STEM = 4  # letters that forms of one word share, as a rule: so they are replaced, or kept, together
RARE = 1e-4  # share of all letters below which a letter is left alone: those of foreign names
GOLDEN = (5**0.5 - 1) / 2

Kind = tuple[str, bool, bool, str]


def types(texts: Iterable[str]) -> Counter[str]:
    """The words of some texts, in small letters, with how often each stands there."""
    return Counter(lower(word) for text in texts for word in WORD.findall(text))


def lower(word: str) -> str:
    """In small letters, as far as each is one letter whose capital is the letter itself (not İ)."""
    return "".join(small if _one(small := letter.lower(), letter, str.upper) else letter for letter in word)


def _upper(letter: str) -> str:
    return capital if _one(capital := letter.upper(), letter, str.lower) else letter


def _one(changed: str, letter: str, back: object) -> bool:
    return len(changed) == 1 and callable(back) and back(changed) == letter


def recased(new: str, old: str) -> str:
    """``new`` (in small letters) with capitals where ``old`` has them; what it has more is like the end of ``old``.

    A single capital says nothing of the letters after it.
    """
    capitals = [letter != lower(letter) for letter in old]
    capitals += [len(old) > 1 and capitals[-1]] * (len(new) - len(old))
    return "".join(_upper(letter) if capital else letter for letter, capital in zip(new, capitals, strict=True))


def cipher(words: Mapping[str, int], seed: int) -> dict[str, str]:
    """Which letter stands for which: a permutation of the letters of ``words`` (word to frequency).

    Letters without marks go round within their kind (script, with or without a capital, vowel or consonant), in an
    order drawn by ``seed``. Letters with a mark go round in the same order, past letters that never bear it: "á" stands
    for "é" where "a" stands for "e", and "ñ" stays alone. Rare letters stay.
    """
    letters: Counter[str] = Counter()
    for word, frequency in words.items():
        for letter in word:
            letters[letter] += frequency
    kinds: dict[Kind, list[str]] = {}
    for letter in sorted(letters):
        if letters[letter] >= RARE * letters.total():
            kinds.setdefault(_kind(letter), []).append(letter)
    table: dict[str, str] = {}
    for (*_, marks), group in kinds.items():
        if not marks and len(group) > 1:
            order = sorted(group, key=lambda letter: unit_hash("cipher", seed, letter))
            table |= dict(zip(order, order[1:] + order[:1], strict=True))
    plain = dict(table)
    for (*_, marks), group in kinds.items():
        bearing = {_plain(letter): letter for letter in group if marks and _plain(letter) in plain}
        for base, letter in bearing.items():
            following = plain[base]
            while following not in bearing:
                following = plain[following]
            table[letter] = bearing[following]
    return table


def _kind(letter: str) -> Kind:
    script = unicodedata.name(letter, "").partition(" ")[0]
    marks = unicodedata.normalize("NFD", letter)[1:]
    return script, _upper(letter) != letter, is_consonant(letter), marks


def _plain(text: str) -> str:
    """Without marks."""
    return "".join(unicodedata.normalize("NFD", letter)[0] for letter in text)


def invented(words: Mapping[str, int], seed: int) -> dict[str, str]:
    """For every word another one: no two alike, and none of them among ``words``.

    Raises ValueError if the words' letters cannot be exchanged.
    """
    table = cipher(words, seed)
    if not table:
        raise ValueError("the text has no alphabet whose vowels and consonants could be exchanged")
    letters, plain = str.maketrans(table), sorted(letter for letter in table if _plain(letter) == letter)
    found = {word: word.translate(letters) for word in words}
    clashing = sorted(word for word, new in found.items() if new in words)
    taken = set(words) | set(found.values())
    for word in clashing:
        found[word] = next(new for new in _longer(word, found[word], plain, seed) if new not in taken)
        taken.add(found[word])
    return found


def _longer(word: str, new: str, letters: list[str], seed: int) -> Iterable[str]:
    order = sorted(letters, key=lambda letter: unit_hash("longer", seed, word, letter))
    for length in count(1):
        for tail in product(order, repeat=length):
            yield new + "".join(tail)


def ranked(words: Mapping[str, int], seed: int) -> list[list[str]]:
    """Words by stem (their first letters without marks), the stems in the order in which they are replaced.

    Any first part of the list holds about the same share of words and of running text: by frequency the stem
    ranked r has the place (u + r φ) mod 1 (a Kronecker sequence; φ the golden ratio, u drawn by ``seed``).
    """
    stems: dict[str, list[str]] = {}
    for word in sorted(words):
        stems.setdefault(_plain(word)[:STEM], []).append(word)
    frequent = sorted(stems, key=lambda stem: (-sum(words[word] for word in stems[stem]), stem))
    start = unit_hash("ranked", seed)
    place = {stem: (start + rank * GOLDEN) % 1 for rank, stem in enumerate(frequent)}
    return [stems[stem] for stem in sorted(frequent, key=place.__getitem__)]


class Relexifier:
    """Replaces a share of the words of a text by invented ones.

    Deterministic in the words' frequencies and the seed. The words replaced at a share are among those of a larger one
    and have the same invented ones there.
    """

    def __init__(self, words: Mapping[str, int], share: float, seed: int = 0) -> None:
        """``words``: all of the text, in small letters, with their frequencies. ValueError unless 0 <= share <= 1."""
        if not 0 <= share <= 1:
            raise ValueError(f"expected a share of words from 0 to 1, found {share}")
        self.words = {word: word for word in words}  # to what stands for it
        if not share:
            return
        others, replaced = invented(words, seed), 0
        for stem in ranked(words, seed):
            if replaced >= round(share * len(words)):
                break
            self.words |= {word: others[word] for word in stem}
            replaced += len(stem)

    def __call__(self, text: str) -> str:
        """The text with the words in place; ValueError for a word that is not among those known."""
        return WORD.sub(lambda found: self._replaced(found[0]), text)

    def _replaced(self, word: str) -> str:
        small = lower(word)
        if small not in self.words:
            raise ValueError(f"the word {word!r} is not among those that the invented ones were chosen by")
        new = self.words[small]
        return word if new == small else recased(new, word)
