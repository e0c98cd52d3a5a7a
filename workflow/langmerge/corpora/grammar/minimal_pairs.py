"""Minimal pairs: a sentence of a language and the same sentence with one word in a wrong form.

`violations.py` says what may go wrong. Here a pair is made and judged: the right sentence is the grammar's own; the
wrong one differs from it in one word; and no meaning of the grammar says it (`readings`). So a form that looks like
the right one, or makes another right sentence, gives no pair.

Pairs come in twos that mirror each other: what is the right word of one is the wrong word of the other ("the cat
*sleeps*/sleep", "the cats *sleep*/sleeps"). Whatever knows words alone, how frequent or how long they are in whatever
tokens, is right in exactly one of the two; only the sentence around a word tells. Forms that cannot be mirrored make
no test: of two forms the commoner would win.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace
from itertools import islice, permutations, product
from typing import Any, NamedTuple

from langmerge.corpora.grammar.hashing import unit_hash
from langmerge.corpora.grammar.language import Language, Sentence, Setting
from langmerge.corpora.grammar.meaning import NUMERALS, PRONOUN_NUMBER, Clause, Meaning, NounPhrase, Tense
from langmerge.corpora.grammar.violations import CASE, GENDER, Violation, base_of, clashes, phenomena, violations

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


Couple = tuple[MinimalPair, MinimalPair]  # the right word of each is the wrong word of the other
Words = tuple[str, str]  # the right one and the wrong one
Found = tuple[Meaning, MinimalPair]


def minimal_pairs(language: Language, meanings: Sequence[Meaning], per_phenomenon: int) -> list[dict[str, Any]]:
    """Rows of a choice task: {"id", "kind": "choice", "prompt": "", "choices": [good, bad], "gold": 0, "group"}.

    `group` is the phenomenon; an id is "<phenomenon>.<direction>.<number>". Pairs are taken in the order of
    `meanings`, of which only those of one clause serve; a meaning gives at most one pair of a phenomenon, and no pair
    comes twice. Numbers 2k and 2k + 1 of a phenomenon mirror each other. All phenomena of the language have the same
    number of rows: `per_phenomenon` (one less if that is odd), or the most that `meanings` allow for the rarest.
    Within a phenomenon the words that are told apart take turns, so that no frequent ones fill it; the phenomena take
    turns too, so that any first rows are balanced. A language without agreement has none.

    Raises ValueError if per_phenomenon < 2, if the language is unknown to violations.py, or if `meanings` give
    no two such pairs for one of its phenomena.
    """
    if per_phenomenon < 2:
        raise ValueError(f"per_phenomenon: pairs come in twos, so expected 2 or more, found {per_phenomenon}")
    drawn = _drawn(language, meanings, per_phenomenon // 2)
    size = min((len(found) for found in drawn.values()), default=0)
    if empty := [name for name, found in drawn.items() if not found]:
        raise ValueError(
            f"{language.code}: {len(meanings)} meanings give no minimal pair for {', '.join(empty)}; "
            "give more meanings (`corpus.dev` and `corpus.test`) or more verbs"
        )
    return [
        {
            "id": f"{pair.phenomenon}.{pair.direction}.{2 * number + side:05d}",
            "kind": "choice",
            "prompt": "",
            "choices": [pair.good, pair.bad],
            "gold": 0,
            "group": pair.phenomenon,
        }
        for number in range(size)
        for side in range(2)
        for pair in (found[number][side] for found in drawn.values())
    ]


def pairs_of(language: Language, meaning: Meaning) -> Iterator[MinimalPair]:
    """The pairs that a meaning of one clause gives: at most one of each phenomenon, no wrong sentence twice."""
    done: set[str] = set()
    for pair in _candidates(language, meaning):
        if done.isdisjoint((pair.phenomenon, pair.bad)) and not _is_right(language, meaning, pair.bad):
            done |= {pair.phenomenon, pair.bad}
            yield pair


def _candidates(language: Language, meaning: Meaning) -> Iterator[MinimalPair]:
    """What a meaning of one clause gives, though some reading of it may be right.

    What may be blamed on number or person ("the cat sleep") comes for each, for number first; what may be blamed on
    gender or case (German "der Katze schläft") is left out.
    """
    if len(meaning.clauses) != 1:
        return
    good = language.render(meaning)
    wrong: dict[str, dict[str, Violation]] = {}
    for violation in violations(language, Setting(meaning.clauses[0])):
        bad = _one_word(good, language.render(meaning, violation.override).text)
        if bad is not None:
            wrong.setdefault(bad, {}).setdefault(violation.phenomenon, violation)

    def place(bad: str) -> float:
        """Shuffled, so that no target is always the first, by what transforms of a language share."""
        return unit_hash("pair", meaning.key(), next(iter(wrong[bad].values())).override)

    for bad in sorted(wrong, key=place):
        if not {GENDER, CASE} <= set(wrong[bad]):
            for phenomenon, direction, _ in wrong[bad].values():
                yield MinimalPair(phenomenon, direction, good.text, bad)


def readings(language: Language, meaning: Meaning, text: str) -> Iterator[Meaning]:
    """The meanings that `text` might say, if it has the words of a sentence that says `meaning` but for one.

    They have the same concepts but may differ in tense (unless an adverb rules it out), in the numbers of nouns, in
    determiners that the language has no word for, in the subject pronoun, and in which noun phrase plays which role;
    what the world lets combine is not asked, so there are too many rather than too few. Left out are those that need a
    form of a noun that `text` lacks.
    """
    clause = meaning.clauses[0]
    roles = [role for role, np in clause.noun_phrases() if not np.pronoun]
    phrases = [np for _, np in clause.noun_phrases() if not np.pronoun]
    subjects = [clause.subject]
    if clause.subject.pronoun:
        subjects = [NounPhrase(concept, number) for concept, number in PRONOUN_NUMBER.items()]
    words = set(_words(text))
    for tense in (tense for tense in TENSES if not clashes(clause.time, tense)):
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


def _drawn(language: Language, meanings: Sequence[Meaning], most: int) -> dict[str, list[Couple]]:
    """Per phenomenon, at most so many couples of pairs that mirror each other."""
    found: dict[str, dict[Words, list[Found]]] = {name: {} for name in phenomena(language)}
    for meaning in meanings:
        for pair in _candidates(language, meaning):
            found[pair.phenomenon].setdefault(_changed(pair), []).append((meaning, pair))
    taken: set[tuple[str, str]] = set()
    return {name: list(islice(_couples(language, pairs, taken), most)) for name, pairs in found.items()}


def _changed(pair: MinimalPair) -> Words:
    """The right and the wrong word, capitals and punctuation aside; with what an apostrophe ties to them."""
    ((right, wrong),) = ((a, b) for a, b in zip(pair.good.split(), pair.bad.split(), strict=True) if a != b)
    return " ".join(_words(right)), " ".join(_words(wrong))


def _couples(language: Language, found: dict[Words, list[Found]], taken: set[tuple[str, str]]) -> Iterator[Couple]:
    """Couples of one phenomenon: of each two words that both may be right one, then of each a second, and so on.

    Adds the pairs to ``taken``, and leaves out those in it, those of a meaning that has given one, and right ones.
    """
    asked: set[str] = set()

    def usable(pairs: Sequence[Found]) -> Iterator[MinimalPair]:
        for meaning, pair in pairs:
            fresh = pair[2:] not in taken and meaning.key() not in asked
            if fresh and not _is_right(language, meaning, pair.bad):
                asked.add(meaning.key())
                taken.add(pair[2:])
                yield pair

    both = [words for words in found if words < words[::-1] and words[::-1] in found]
    turns = deque(zip(usable(found[words]), usable(found[words[::-1]]), strict=False) for words in both)
    while turns:
        turn = turns.popleft()
        if couple := next(turn, None):
            yield couple
            turns.append(turn)
