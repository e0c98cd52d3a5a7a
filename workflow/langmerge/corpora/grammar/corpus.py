"""The embedded corpus: unique meanings, split by content, rendered in any number of languages.

Meanings are drawn once, from the world, the seed and nothing else; a job may then render one language at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from langmerge.corpora.grammar.hashing import unit_hash
from langmerge.corpora.grammar.language import Language
from langmerge.corpora.grammar.meaning import Meaning, sample
from langmerge.corpora.grammar.world import World

SPLITS = ("train", "dev", "test")
# Shares of all contents that belong to dev and test; fixed, so that neither changes with the size of train.
DEV_SHARE, TEST_SHARE = 0.1, 0.1
PATIENCE = 20_000

Split = dict[str, list[Meaning]]


@dataclass(frozen=True)
class Sizes:
    """How many meanings each split holds."""

    train: int
    dev: int
    test: int


def held_out_combinations(world: World, share: float) -> frozenset[tuple[str, str]]:
    """The pairs (verb, object) and (adjective, noun) that occur in the test split only.

    Of each verb's objects and each adjective's nouns the `share` with the smallest hash, rounded down: so every
    word still occurs in training, and a smaller share is a subset of a larger one. Raises ValueError unless
    0 <= share < 1.
    """
    if not 0 <= share < 1:
        raise ValueError(f"held_out: expected a share in [0, 1), found {share}")
    tables = {"verb": {v.concept: v.object for v in world.verb_list if v.object}}
    tables["adjective"] = {c: a.nouns for c, a in world.adjectives.items()}
    return frozenset(
        (left, noun)
        for kind, table in tables.items()
        for left, nouns in table.items()
        for _, noun in sorted((unit_hash("held out", kind, left, n), n) for n in nouns)[: int(share * len(nouns))]
    )


def meanings(
    world: World,
    sizes: Sizes,
    seed: int,
    held_out: float = 0.1,
    novel: float = 0.5,
    folder: Path | None = None,
    english: Callable[[Meaning], str] | None = None,
) -> Split:
    """Meanings for train, dev and test.

    No two meanings are equal or have the same English sentence. A content (`Meaning.content`) belongs to one
    split, so that no sentence of dev or test is in train in any language. Combinations that are held out
    (`held_out_combinations`) occur only in test, in a share `novel` of its meanings. A split of n meanings is the
    first n of a longer one, whatever the sizes of the others. English sentences are those of `english` (default: of the
    English in `folder`, default the project's).

    Raises ValueError if the world has too few meanings for `sizes`.
    """
    barred = held_out_combinations(world, held_out)
    say = english or _speaker("en", folder, world)
    rng = Random(seed)
    quota = {"train": sizes.train, "dev": sizes.dev, "test": sizes.test}
    quota["novel"] = round(sizes.test * novel) if barred else 0
    quota["test"] -= quota["novel"]
    drawn: Split = {name: [] for name in quota}
    seen: set[str] = set()
    in_vain = 0
    while any(len(drawn[name]) < n for name, n in quota.items()):
        meaning = sample(world, rng)
        name = "novel" if barred & meaning.combinations() else _split_of(meaning, seed)
        in_vain += 1
        if len(drawn[name]) < quota[name]:
            text = say(meaning)
            if text not in seen:
                seen.add(text)
                drawn[name].append(meaning)
                in_vain = 0
        if in_vain > PATIENCE:
            found = {name: len(drawn[name]) for name in quota}
            raise ValueError(
                f"the world has too few distinct meanings: asked for {quota}, found {found} before {PATIENCE} draws "
                "in a row brought nothing new; ask for fewer sentences or restrict the world less"
            )
    novel_meanings = drawn.pop("novel")
    drawn["test"] = _interleave(drawn["test"], novel_meanings)
    return drawn


def _speaker(code: str, folder: Path | None, world: World) -> Callable[[Meaning], str]:
    language = Language.load(code, folder, world)
    return lambda meaning: language.render(meaning).text


def generate(
    world: World,
    languages: Sequence[Language],
    n_train: int,
    n_dev: int,
    n_test: int,
    seed: int,
    held_out: float = 0.1,
    novel: float = 0.5,
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Rows by language code and split, parallel across languages: the same id is the same meaning."""
    splits = meanings(world, Sizes(n_train, n_dev, n_test), seed, held_out, novel)
    barred = held_out_combinations(world, held_out)
    return {
        language.code: {name: rows(language, splits[name], name, barred) for name in SPLITS} for language in languages
    }


def rows(
    language: Language, split: Sequence[Meaning], name: str, barred: frozenset[tuple[str, str]] = frozenset()
) -> list[dict[str, Any]]:
    """Render the meanings of the split called `name` in one language."""
    return [row(language, meaning, f"{name}-{i:06d}", barred) for i, meaning in enumerate(split)]


def row(
    language: Language, meaning: Meaning, identity: str, barred: frozenset[tuple[str, str]] = frozenset()
) -> dict[str, Any]:
    """One sentence: id, text, spans (character offsets) and features of the meaning's first clause.

    `novel` says whether the meaning holds one of the `barred` combinations.
    """
    sentence = language.render(meaning)
    first = meaning.clauses[0]
    return {
        "id": identity,
        "text": sentence.text,
        "spans": [span._asdict() for span in sentence.spans],
        "clauses": len(meaning.clauses),
        "connective": meaning.connective,
        "verb": first.verb,
        "tense": first.tense,
        "negative": first.negative,
        "subject_number": first.subject.number,
        "novel": bool(barred & meaning.combinations()),
        "meaning": meaning.to_dict(),
    }


def write_rows(rows: Iterable[dict[str, Any]], path: Path) -> None:
    """Write rows as JSON lines (UTF-8), under a temporary name first so that a file is never half written."""
    temporary = path.with_name(path.name + ".part")
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        for item in rows:
            file.write(json.dumps(item, ensure_ascii=False) + "\n")
    temporary.replace(path)


def _split_of(meaning: Meaning, seed: int) -> str:
    u = unit_hash("split", seed, meaning.content())
    return "dev" if u < DEV_SHARE else "test" if u < DEV_SHARE + TEST_SHARE else "train"


def _interleave(first: list[Meaning], second: list[Meaning]) -> list[Meaning]:
    """Mix two lists evenly, each in its own order."""
    placed = [((i + 0.5) / len(part), k, m) for k, part in enumerate((first, second)) for i, m in enumerate(part)]
    return [m for _, _, m in sorted(placed, key=lambda item: item[:2])]
