"""Meanings: language-independent descriptions of sentences, and how they are sampled from a world.

A meaning is data. It names concepts ("cat", "sleep") and features ("past", "pl") and holds no word of any
language, so that every language renders the same meaning and the renderings are translations of each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from langmerge.corpora.grammar.world import Verb, World

Number = Literal["sg", "pl"]
Tense = Literal["past", "present", "future"]

PRONOUN_NUMBER: dict[str, Number] = {"i": "sg", "you": "sg", "we": "pl", "they": "pl"}
PRONOUN_PERSON = {"i": 1, "you": 2, "we": 1, "they": 3}
NUMERALS = ("two", "five")
FREQUENCY = ("often", "always")

# How often each choice is made. A clause with a future tense always has a time adverb.
SHARES = {
    "two_clauses": 0.18,
    "negative": 0.15,
    "adjective": 0.35,
    "pronoun": 0.15,
    "predicate_adjective": 0.13,
    "predicate_place": 0.08,
    "place": 0.3,
    "time": 0.35,
    "manner": 0.15,
    "plural": 0.35,
}
DETERMINER_WEIGHTS = {
    "sg": {"the": 9, "a": 5, "this": 3, "my": 3},
    "pl": {"the": 8, "a": 3, "this": 2, "my": 3, "two": 3, "five": 2},
}


@dataclass(frozen=True, slots=True)
class NounPhrase:
    """A noun with its number, determiner and at most one adjective; or a subject pronoun (no determiner)."""

    concept: str
    number: Number = "sg"
    determiner: str = ""
    adjective: str | None = None

    @property
    def pronoun(self) -> bool:
        """Whether this is one of the subject pronouns."""
        return self.concept in PRONOUN_PERSON


@dataclass(frozen=True, slots=True)
class Clause:
    """One event or state. `place` is (relation, noun phrase); the verb is "be" in predicates."""

    verb: str
    subject: NounPhrase
    tense: Tense = "present"
    negative: bool = False
    object: NounPhrase | None = None
    recipient: NounPhrase | None = None
    predicate: str | None = None
    place: tuple[str, NounPhrase] | None = None
    manner: str | None = None
    time: str | None = None

    def noun_phrases(self) -> Iterator[tuple[str, NounPhrase]]:
        """The noun phrases of the clause with their roles."""
        yield "subject", self.subject
        if self.object:
            yield "object", self.object
        if self.recipient:
            yield "recipient", self.recipient
        if self.place:
            yield "place", self.place[1]


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a sentence says: one clause, or two joined by a connective."""

    clauses: tuple[Clause, ...]
    connective: str | None = None

    def key(self) -> str:
        """The canonical text of this meaning: two meanings are equal exactly if their keys are."""
        return _canonical(self)

    def content(self) -> str:
        """The concepts and their roles alone, without tense, number, determiner, polarity or pronoun.

        Languages neglect different features ("dormimos" is present and past), but all of them tell apart
        different contents; so splits that share no content share no sentence in any language.
        """
        parts = [self.connective or ""]
        for clause in self.clauses:
            phrases = [
                f"{role}={'pronoun' if np.pronoun else np.concept}.{np.adjective or ''}"
                for role, np in clause.noun_phrases()
            ]
            relation = clause.place[0] if clause.place else ""
            rest = [clause.verb, clause.predicate, relation, clause.manner, clause.time]
            parts.append(" ".join([*(x or "-" for x in rest), *phrases]))
        return " | ".join(parts)

    def combinations(self) -> frozenset[tuple[str, str]]:
        """The pairs (verb, object noun) and (adjective, noun) that this meaning puts together."""
        pairs = set()
        for clause in self.clauses:
            if clause.object:
                pairs.add((clause.verb, clause.object.concept))
            if clause.predicate:
                pairs.add((clause.predicate, clause.subject.concept))
            pairs |= {(np.adjective, np.concept) for _, np in clause.noun_phrases() if np.adjective}
        return frozenset(pairs)

    def to_dict(self) -> dict[str, Any]:
        """As nested mappings and lists that JSON can hold; `from_dict` is the inverse."""
        return _plain(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Meaning:
        """Read what `to_dict` wrote."""
        return Meaning(tuple(_clause(c) for c in data["clauses"]), data.get("connective"))


def _canonical(value: Any) -> str:
    if is_dataclass(value):
        return "(" + ",".join(_canonical(getattr(value, f.name)) for f in fields(value)) + ")"
    if isinstance(value, tuple):
        return "[" + ",".join(_canonical(v) for v in value) + "]"
    return "-" if value is None else str(value)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _clause(data: dict[str, Any]) -> Clause:
    phrases = {role: NounPhrase(**data[role]) for role in ("subject", "object", "recipient") if data.get(role)}
    place = (data["place"][0], NounPhrase(**data["place"][1])) if data.get("place") else None
    return Clause(**{**data, **phrases, "place": place})


class _NoNounLeft(Exception):
    """All nouns that could fill a role are already in the sentence."""


def sample(world: World, rng: Random) -> Meaning:
    """Draw a meaning that respects what `world` lets combine; depends on `world` and the state of `rng` alone.

    No noun occurs twice. Sentences of two clauses are in the past or present and carry fewer adjuncts.
    Raises ValueError if the world has too few nouns for any sentence.
    """
    for _ in range(1000):
        try:
            return _sample(world, rng)
        except _NoNounLeft:
            continue
    raise ValueError("the world has too few nouns to fill the roles of a sentence; restrict it less")


def _sample(world: World, rng: Random) -> Meaning:
    used: set[str] = set()
    if not world.connectives or rng.random() >= SHARES["two_clauses"]:
        tense = _weighted(rng, {"past": 9, "present": 7, "future": 4})
        return Meaning((_sample_clause(world, rng, tense, used, adjuncts=True),))
    tense = _weighted(rng, {"past": 3, "present": 2})
    first = _sample_clause(world, rng, tense, used, adjuncts=False)
    second = _sample_clause(world, rng, tense, used, adjuncts=False)
    return Meaning((first, second), rng.choice(world.connectives))


def _sample_clause(world: World, rng: Random, tense: Tense, used: set[str], adjuncts: bool) -> Clause:
    kind = rng.random()
    verb, predicate = rng.choice(world.verb_list), None
    if kind < SHARES["predicate_adjective"]:
        verb, predicate = world.be_adjective, rng.choice(world.adjective_list)
    elif kind < SHARES["predicate_adjective"] + SHARES["predicate_place"]:
        verb = world.be_place
    negative = rng.random() < SHARES["negative"]
    subject = _sample_subject(world, rng, verb, predicate, used)
    obj = _sample_noun_phrase(world, rng, verb.object, used) if verb.object else None
    recipient = _sample_noun_phrase(world, rng, verb.recipient, used) if verb.recipient else None
    place = None
    if verb is world.be_place or (verb.place and adjuncts and rng.random() < SHARES["place"]):
        place = _sample_place(world, rng, used)
    time = _sample_time(world, rng, verb, tense) if adjuncts else None
    manner = _sample_manner(world, rng, verb, negative, time) if adjuncts else None
    return Clause(verb.concept, subject, tense, negative, obj, recipient, predicate, place, manner, time)


def _sample_subject(world: World, rng: Random, verb: Verb, predicate: str | None, used: set[str]) -> NounPhrase:
    described = world.adjectives[predicate] if predicate else None
    if "person" in (described or verb).classes and rng.random() < SHARES["pronoun"]:
        concept = rng.choice(world.pronouns)
        return NounPhrase(concept, PRONOUN_NUMBER[concept])
    return _sample_noun_phrase(world, rng, described.nouns if described else verb.subject, used, predicate)


def _sample_noun_phrase(
    world: World,
    rng: Random,
    nouns: tuple[str, ...],
    used: set[str],
    predicate: str | None = None,
    counted: bool = True,
) -> NounPhrase:
    free = [n for n in nouns if n not in used]
    if not free:
        raise _NoNounLeft
    concept = rng.choice(free)
    used.add(concept)
    number: Number = "pl" if rng.random() < SHARES["plural"] else "sg"
    weights = DETERMINER_WEIGHTS[number]
    if predicate and number == "sg":  # "a cat is big" is no natural statement about one cat
        weights = {k: w for k, w in weights.items() if k != "a"}
    if not counted:
        weights = {k: w for k, w in weights.items() if k not in NUMERALS}
    determiner = _weighted(rng, {k: w for k, w in weights.items() if k in world.determiners})
    adjectives = [a for a in world.describing[concept] if a != predicate]
    has_adjective = bool(adjectives) and not predicate and rng.random() < SHARES["adjective"]
    return NounPhrase(concept, number, determiner, rng.choice(adjectives) if has_adjective else None)


def _sample_place(world: World, rng: Random, used: set[str]) -> tuple[str, NounPhrase]:
    relation = rng.choice(world.relations)
    grounds = world.inside if relation == "in" else world.inside + world.beside
    return relation, _sample_noun_phrase(world, rng, grounds, used, counted=False)


def _sample_time(world: World, rng: Random, verb: Verb, tense: Tense) -> str | None:
    choices = [t for t in world.times[tense] if t not in verb.without]
    if tense != "future" and (not choices or rng.random() >= SHARES["time"]):
        return None
    return rng.choice(choices)


def _sample_manner(world: World, rng: Random, verb: Verb, negative: bool, time: str | None) -> str | None:
    """Adverbs of frequency only where nothing else bears on frequency: "not always", "always now" are avoided."""
    barred = FREQUENCY if negative or time else ()
    choices = [m for m in world.manners if m not in verb.without and m not in barred]
    return rng.choice(choices) if choices and rng.random() < SHARES["manner"] else None


def _weighted(rng: Random, weights: dict[str, int]) -> Any:
    return rng.choices(list(weights), weights=list(weights.values()))[0]
