"""Minimal pairs: a sentence of a language and the same sentence with one word in a wrong form.

`violations.py` says what may go wrong. Here a pair is made and judged: the right sentence is the grammar's own; the
wrong one differs from it in one word; and no meaning of the grammar says it (`readings`). So a form that looks like
the right one, or makes another right sentence, gives no pair.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace
from itertools import permutations, product
from typing import Any, NamedTuple

from langmerge.corpora.grammar.hashing import unit_hash
from langmerge.corpora.grammar.language import Language, Sentence, Setting
from langmerge.corpora.grammar.meaning import NUMERALS, PRONOUN_NUMBER, Clause, Meaning, NounPhrase, Tense
from langmerge.corpora.grammar.violations import CASE, GENDER, Violation, base_of, phenomena, violations

TENSES: tuple[Tense, ...] = ("past", "present", "future")
# Languages whose subjects and objects are told apart by place alone. In the others a wrong sentence must not be
# right in another order either: "die Frau sieht der Hund" is "der Hund sieht die Frau".
FIXED_ORDER = ("en", "fr")


class MinimalPair(NamedTuple):
    """A right and a wrong sentence; `direction` is the value that the right form has (violations.py)."""

    phenomenon: str
    direction: str
    good: str
    bad: str


def minimal_pairs(language: Language, meanings: Sequence[Meaning], per_phenomenon: int) -> list[dict[str, Any]]:
    """Rows of a choice task: {"id", "kind": "choice", "prompt": "", "choices": [good, bad], "gold": 0, "group"}.

    `group` is the phenomenon; an id is "<phenomenon>.<direction>.<number>". Pairs are taken in the order of
    `meanings`, of which only those of one clause serve; a meaning gives at most one pair of a phenomenon, and no pair
    comes twice. All phenomena of the language have the same number of rows: `per_phenomenon`, or the most that
    `meanings` allow for the rarest. Within a phenomenon the directions take turns and their numbers differ by one at
    most; the phenomena take turns too, so that any first rows are balanced. A language without agreement has none.

    Raises ValueError if per_phenomenon < 1, if the language is unknown to violations.py, or if `meanings` give
    no pair for one of its phenomena.
    """
    if per_phenomenon < 1:
        raise ValueError(f"per_phenomenon: expected 1 or more, found {per_phenomenon}")
    known = phenomena(language)
    drawn = {name: _balanced(found, per_phenomenon) for name, found in _collect(language, meanings, per_phenomenon)}
    size = min((len(found) for found in drawn.values()), default=0)
    if known and not size:
        empty = [name for name, found in drawn.items() if not found]
        raise ValueError(
            f"{language.code}: {len(meanings)} meanings give no minimal pair for {', '.join(empty)}; give more meanings"
        )
    rows = []
    for number in range(size):
        for found in drawn.values():
            pair = found[number]
            rows.append(
                {
                    "id": f"{pair.phenomenon}.{pair.direction}.{number:05d}",
                    "kind": "choice",
                    "prompt": "",
                    "choices": [pair.good, pair.bad],
                    "gold": 0,
                    "group": pair.phenomenon,
                }
            )
    return rows


def pairs_of(
    language: Language, meaning: Meaning, wanted: Container[tuple[str, str]] | None = None
) -> Iterator[MinimalPair]:
    """The pairs that a meaning of one clause gives: at most one of each phenomenon.

    `wanted` holds the (phenomenon, direction) that are of use; by default all are.

    What may be blamed on number or person ("the cat sleep") counts for number; what may be blamed on gender or case
    (German "der Katze schläft") is left out.
    """
    if len(meaning.clauses) != 1:
        return
    good = language.render(meaning)
    wrong: dict[str, list[Violation]] = {}
    for violation in violations(language, Setting(meaning.clauses[0])):
        bad = _one_word(good, language.render(meaning, violation.override).text)
        if bad is not None:
            wrong.setdefault(bad, []).append(violation)
    done: set[str] = set()
    # Shuffled, so that no target is always the first, by what transforms of a language share.
    for bad in sorted(wrong, key=lambda text: unit_hash("pair", meaning.key(), wrong[text][0].override)):
        phenomenon, direction, _ = wrong[bad][0]
        ambiguous = {GENDER, CASE} <= {violation.phenomenon for violation in wrong[bad]}
        if phenomenon in done or ambiguous or (wanted is not None and (phenomenon, direction) not in wanted):
            continue
        if _is_right(language, meaning, bad):
            continue
        done.add(phenomenon)
        yield MinimalPair(phenomenon, direction, good.text, bad)


def readings(language: Language, meaning: Meaning, text: str) -> Iterator[Meaning]:
    """The meanings that `text` might say, if it has the words of a sentence that says `meaning` but for one.

    They have the same concepts but may differ in tense, in the numbers of nouns, in determiners that the language has
    no word for, in the subject pronoun, and in which noun phrase plays which role; what the world lets combine is not
    asked, so there are too many rather than too few. Left out are those that need a form of a noun that `text` lacks.
    """
    clause = meaning.clauses[0]
    roles = [role for role, np in clause.noun_phrases() if not np.pronoun]
    phrases = [np for _, np in clause.noun_phrases() if not np.pronoun]
    subjects = [clause.subject]
    if clause.subject.pronoun:
        subjects = [NounPhrase(concept, number) for concept, number in PRONOUN_NUMBER.items()]
    words = set(_words(text))
    for tense in TENSES:
        told = replace(clause, tense=tense)
        options = {
            (role, i): [v for v in _variants(language, np, role, told) if _noun_in(words, language, v, role, told)]
            for role in roles
            for i, np in enumerate(phrases)
        }
        for order in permutations(range(len(roles))):
            for chosen in product(*(options[key] for key in zip(roles, order, strict=True))):
                placed = _placed(told, dict(zip(roles, chosen, strict=True)))
                for subject in subjects:
                    yield Meaning((replace(placed, subject=subject) if subject.pronoun else placed,))


def _noun_in(words: Container[str], language: Language, np: NounPhrase, role: str, clause: Clause) -> bool:
    """Whether the form of the noun that this phrase has in this role is among the words; with "be" not asked."""
    if clause.verb == "be":  # Turkish "be" is a suffix
        return True
    sentence = language.render(Meaning((_placed(clause, {role: np}),)))
    nouns = (s for s in sentence.spans if s.role == role and s.pos == "NOUN")
    return all(part in words for s in nouns for part in _words(sentence.text[s.start : s.end]))


def _placed(clause: Clause, phrases: dict[str, NounPhrase]) -> Clause:
    place = phrases.pop("place", None)
    moved: dict[str, Any] = dict(phrases)
    if place is not None and clause.place is not None:
        moved["place"] = (clause.place[0], place)
    return replace(clause, **moved)


def _variants(language: Language, np: NounPhrase, role: str, clause: Clause) -> Iterator[NounPhrase]:
    """The phrase in both numbers; where its determiner is not said, with all that are not."""
    f = language.phrase_features(np, role, Setting(clause))
    kinds = [np.determiner]
    if np.determiner and not language.determiner(np.determiner, f):
        kinds = [kind for kind in language.world.determiners if not language.determiner(kind, f)]
    for kind in kinds:
        yield replace(np, determiner=kind, number="pl")
        if kind not in NUMERALS:
            yield replace(np, determiner=kind, number="sg")


def _is_right(language: Language, meaning: Meaning, text: str) -> bool:
    said: Callable[[str], Any] = str if base_of(language) in FIXED_ORDER else _bag
    wanted = said(text)
    return any(said(language.render(reading).text) == wanted for reading in readings(language, meaning, text))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\s.,।'’]+", text.replace("İ", "i").lower())


def _bag(text: str) -> Counter[str]:
    """The words of a sentence whatever their order."""
    return Counter(_words(text))


def _one_word(good: Sentence, wrong: str) -> str | None:
    """The wrong sentence, if it differs from the good one in one word; of several, the auxiliary alone is taken."""
    right, other = good.text.split(), wrong.split()
    if len(right) != len(other):
        return None
    changed = [i for i, (a, b) in enumerate(zip(right, other, strict=True)) if a != b]
    if len(changed) > 1:
        auxiliaries = {good.text[: span.start].count(" ") for span in good.spans if span.pos == "AUX"}
        changed = [i for i in changed if i in auxiliaries][:1]
    if len(changed) != 1:
        return None
    return " ".join([*right[: changed[0]], other[changed[0]], *right[changed[0] + 1 :]])


def _collect(
    language: Language, meanings: Sequence[Meaning], enough: int
) -> Iterator[tuple[str, dict[str, list[MinimalPair]]]]:
    """Per phenomenon, the pairs of each direction: no pair twice, no more than can be used."""
    found = {name: {d: list[MinimalPair]() for d in directions} for name, directions in phenomena(language).items()}
    quota = {(n, d): -(-enough // len(ds)) for n, ds in found.items() for d in ds}
    missing = set(quota)
    seen: set[tuple[str, str]] = set()
    for meaning in meanings:
        if not missing:
            break
        for pair in pairs_of(language, meaning, missing):
            if (pair.good, pair.bad) in seen:
                continue
            seen.add((pair.good, pair.bad))
            pairs = found[pair.phenomenon][pair.direction]
            pairs.append(pair)
            key = (pair.phenomenon, pair.direction)
            if len(pairs) == quota[key]:
                missing.discard(key)
    yield from found.items()


def _balanced(by_direction: dict[str, list[MinimalPair]], most: int) -> list[MinimalPair]:
    """Take turns between the directions until `most` are taken or the next one has none left."""
    queues = [iter(pairs) for pairs in by_direction.values()]
    taken: list[MinimalPair] = []
    while queues:
        for queue in queues:
            pair = next(queue, None)
            if pair is None or len(taken) == most:
                return taken
            taken.append(pair)
    return taken
