"""What the tasks share: contents drawn per stratum, split by content, the same for every language.

A *content* is what an item says in any language; a *stratum* is what is balanced (label, position of the answer, kind
of problem). Item i of a split is of stratum i modulo their number, so that every beginning of a split is balanced too.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol, TypeVar

from langmerge.corpora.grammar.corpus import DEV_SHARE, TEST_SHARE
from langmerge.corpora.grammar.hashing import unit_hash
from langmerge.corpora.grammar.language import Language
from langmerge.corpora.grammar.meaning import PRONOUN_NUMBER, Meaning, NounPhrase
from langmerge.corpora.grammar.phrases import Phrases

PATIENCE = 20_000
SPEAKERS = ("i", "we", "they")

Row = dict[str, Any]


class Content(Protocol):
    """What an item says, without words."""

    def key(self) -> str:
        """What makes two items the same content: they belong to one split."""

    def meanings(self) -> Sequence[Meaning]:
        """The sentences it says, those of wrong answers too."""


C = TypeVar("C", bound=Content)


class Task(Protocol[C]):
    """A task: how contents are drawn and said."""

    @property
    def name(self) -> str:
        """What files and ids call it."""

    @property
    def strata(self) -> Sequence[Hashable]:
        """What is balanced."""

    def draw(self, stratum: Any, rng: Random) -> C | None:
        """A content of this stratum; None if the draw led nowhere."""

    def row(self, content: C, language: Language, phrases: Phrases) -> Row:
        """The item in a language, without its id."""


@dataclass(frozen=True)
class Guard:
    """Which split a content belongs to.

    `barred` are the combinations of concepts that the corpus holds out of training, `corpus_seed` is what its splits
    depend on, `seed` what those of the tasks depend on.
    """

    barred: frozenset[tuple[str, str]]
    corpus_seed: int
    seed: int

    def split(self, content: Content) -> str | None:
        """The split by the hash of the content, or None if it may stand in none.

        No item holds a barred combination, and no item of train a sentence of the corpus's dev or test.
        """
        meanings = content.meanings()
        if any(self.barred & meaning.combinations() for meaning in meanings):
            return None
        u = unit_hash("task", self.seed, content.key())
        if u < DEV_SHARE + TEST_SHARE:
            return "dev" if u < DEV_SHARE else "test"
        known = all(unit_hash("split", self.corpus_seed, m.content()) >= DEV_SHARE + TEST_SHARE for m in meanings)
        return "train" if known else None


def draw_contents(task: Task[C], sizes: Mapping[str, int], guard: Guard, english: Language) -> dict[str, list[C]]:
    """Contents by split, of which no two say the same in English; every split is the beginning of a longer one.

    Raises ValueError naming task, stratum and numbers if the world has too few contents for `sizes`.
    """
    count = len(task.strata)
    columns = []
    for index, stratum in enumerate(task.strata):
        quota = {split: len(range(index, size, count)) for split, size in sizes.items()}
        columns.append(_column(task, stratum, quota, guard, english))
    return {split: [columns[i % count][split][i // count] for i in range(size)] for split, size in sizes.items()}


def _column(
    task: Task[C], stratum: Hashable, quota: Mapping[str, int], guard: Guard, english: Language
) -> dict[str, list[C]]:
    rng = Random(f"{task.name} {guard.seed} {stratum}")
    drawn: dict[str, list[C]] = {split: [] for split in quota}
    seen: set[str] = set()
    in_vain = 0
    while any(len(drawn[split]) < size for split, size in quota.items()):
        content = task.draw(stratum, rng)
        split = guard.split(content) if content is not None else None
        in_vain += 1
        if content is not None and split in drawn and len(drawn[split]) < quota[split]:
            said = " ".join([content.key(), *(english.render(meaning).text for meaning in content.meanings())])
            if said not in seen:
                seen.add(said)
                drawn[split].append(content)
                in_vain = 0
        if in_vain > PATIENCE:
            found = {split: len(contents) for split, contents in drawn.items()}
            raise ValueError(
                f"{task.name}: the world has too few distinct items of kind {stratum!r}: asked for {dict(quota)}, "
                f"found {found} before {PATIENCE} draws in a row brought nothing new; ask for fewer items or restrict "
                "nouns less"
            )
    return drawn


def rows(task: Task[C], contents: Iterable[C], split: str, language: Language, phrases: Phrases) -> Iterable[Row]:
    """The items of a split in one language; the same id is the same content in every language."""
    for number, content in enumerate(contents):
        yield {"id": f"{task.name}-{split}-{number:06d}", **task.row(content, language, phrases)}


def one_of(rng: Random, options: Iterable[Any]) -> Any | None:
    """One of the options, or None if there are none."""
    listed = list(options)
    return rng.choice(listed) if listed else None


def person(
    rng: Random, persons: Sequence[str], used: Iterable[str] = (), pronouns: float = 0.3, plural: float = 0.3
) -> NounPhrase | None:
    """Somebody not in `used`: "I", "we" or "they" with the given chance, else "the" or "my" and a noun of `persons`."""
    if rng.random() < pronouns:
        return speaker(rng)
    noun = one_of(rng, [p for p in persons if p not in set(used)])
    if noun is None:
        return None
    return NounPhrase(noun, "pl" if rng.random() < plural else "sg", rng.choice(["the", "the", "my"]))


def speaker(rng: Random) -> NounPhrase:
    """ "I", "we" or "they"."""
    concept = rng.choice(SPEAKERS)
    return NounPhrase(concept, PRONOUN_NUMBER[concept])
