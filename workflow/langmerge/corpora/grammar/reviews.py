"""Reviews of a thing, a place or a person, whose verdict no bag of words gives away.

Each sentence about the thing reviewed has a value: +1 if its adjective or verb praises, -1 if it blames; a negation
turns it round; of two clauses joined by "but" the second alone counts. Sentences that tell what happened have none,
though adjectives of praise or blame may stand in them with other nouns. The verdict is the sign of the sum: positive,
negative or, with three classes, mixed (0). Polarities are those of the world's adjectives and, of verbs,
those of `data/grammar/tasks/world.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from langmerge.corpora.grammar.drawing import Row, one_of, person
from langmerge.corpora.grammar.language import Language
from langmerge.corpora.grammar.meaning import Clause, Meaning, NounPhrase
from langmerge.corpora.grammar.phrases import Phrases
from langmerge.corpora.grammar.world import World

LABELS = {2: ("negative", "positive"), 3: ("negative", "mixed", "positive")}
# How often an evaluation is negated, opposed to another by "but", an opinion, about a part; and how often the subject
# of an event has an adjective.
SHARES: Mapping[str, float] = {"negated": 0.4, "but": 0.45, "opinion": 0.3, "part": 0.5, "adjective": 0.6}


@dataclass(frozen=True)
class Review:
    """A review with its verdict; `kind` is "but", "negated" or "plain", by the hardest thing in it."""

    sentences: tuple[Meaning, ...]
    label: str
    kind: str

    def key(self) -> str:
        """The contents of its sentences."""
        return " || ".join(m.content() for m in self.sentences)

    def meanings(self) -> Sequence[Meaning]:
        """Its sentences."""
        return self.sentences


class Reviews:
    """The task: draws reviews and says them."""

    name = "sentiment"

    def __init__(
        self, world: World, rules: Mapping[str, Any], classes: int = 2, shares: Mapping[str, float] | None = None
    ) -> None:
        """From `rules["reviews"]`: verbs of opinion, events, parts, what to avoid; two or three `classes`.

        `shares` replace some of :data:`SHARES`.
        """
        self.world = world
        self.shares = {**SHARES, **(shares or {})}
        self.strata = LABELS[classes]
        own = rules["reviews"]
        self.unrated = frozenset(own["unrated"])
        self.opposite: dict[str, str] = {a: b for pair in own["opposites"] for a, b in (pair, pair[::-1])}
        self.opinions: dict[str, int] = {v: sign for v, sign in own["opinions"].items() if v in world.verbs}
        self.events = [v for v in own["events"] if v in world.verbs]
        self.parts = {n: [p for p in parts if p in world.class_of] for n, parts in own["parts"].items()}
        self.targets = [n for n in world.noun_list if {1, -1} <= {world.adjectives[a].polarity for a in self._polar(n)}]

    def draw(self, stratum: str, rng: Random) -> Review | None:
        """A review with this verdict; None where the target offers too little to say."""
        target = one_of(rng, self.targets)
        if target is None:
            return None
        topic = NounPhrase(target, "pl" if rng.random() < 0.25 else "sg", "the")
        values = self._values(stratum, rng)
        said: set[str] = set()
        evaluations = [self._sentence(topic, value, said, rng) for value in values]
        happened = [self._event(topic, said, rng) for _ in range(rng.choice([2, 3]) - len(values))]
        if None in evaluations or None in happened:
            return None
        sentences = [m for m in (*evaluations, *happened) if m is not None]
        if not any(topic in (c.subject, c.object) for m in sentences for c in m.clauses):
            return None
        kind = "plain"
        if any(c.negative for m in sentences for c in m.clauses):
            kind = "negated"
        if any(m.connective == "but" for m in sentences):
            kind = "but"
        rng.shuffle(sentences)
        if rng.random() < 0.5:
            sentences[0] = _this(sentences[0], topic)
        return Review(tuple(sentences), stratum, kind)

    def _values(self, label: str, rng: Random) -> list[int]:
        if label == "mixed":
            return rng.choice([[1, -1], [-1, 1]])
        return [{"positive": 1, "negative": -1}[label]] * rng.choice([1, 2])

    def _sentence(self, topic: NounPhrase, value: int, said: set[str], rng: Random) -> Meaning | None:
        last = self._evaluation(topic, value, said, rng)
        if last is None:
            return None
        if rng.random() >= self.shares["but"]:
            return Meaning((last,))
        first = self._evaluation(topic, -value, said, rng)
        return Meaning((first, last), "but") if first else None

    def _evaluation(self, topic: NounPhrase, value: int, said: set[str], rng: Random) -> Clause | None:
        negative = rng.random() < self.shares["negated"]
        polarity = -value if negative else value
        clause = self._opinion(topic, polarity, said, rng) if rng.random() < self.shares["opinion"] else None
        clause = clause or self._description(topic, polarity, said, rng)
        return replace(clause, negative=negative) if clause else None

    def _opinion(self, topic: NounPhrase, polarity: int, said: set[str], rng: Random) -> Clause | None:
        verb = one_of(
            rng,
            (v for v, p in self.opinions.items()
             if p == polarity and v not in said and topic.concept in self.world.verbs[v].object),
        )  # fmt: skip
        somebody = person(rng, self.world.nouns["person"], {topic.concept, *said})
        if verb is None or somebody is None:
            return None
        said |= {verb, self.opposite.get(verb, verb), somebody.concept}
        return Clause(verb, somebody, "present", object=topic)

    def _description(self, topic: NounPhrase, polarity: int, said: set[str], rng: Random) -> Clause | None:
        parts = [p for p in self.parts.get(topic.concept, ()) if p not in said and self._polar(p)]
        about = topic
        if parts and rng.random() < self.shares["part"]:
            about = NounPhrase(rng.choice(parts), rng.choice(["sg", "pl"]), "the")
        choices = (a for a in self._polar(about.concept) if self.world.adjectives[a].polarity == polarity)
        adjective = one_of(rng, (a for a in choices if a not in said))
        if adjective is None:
            return None
        said |= {adjective, self.opposite.get(adjective, adjective)} | ({about.concept} - {topic.concept})
        return Clause("be", about, "present", predicate=adjective)

    def _event(self, topic: NounPhrase, said: set[str], rng: Random) -> Meaning | None:
        somebody = person(rng, self.world.nouns["person"], {topic.concept, *said})
        if somebody is None:
            return None
        allowed = [
            v for v in self.events if v not in said and topic.concept in self.world.verbs[v].object
            and (somebody.pronoun or somebody.concept in self.world.verbs[v].subject)
        ]  # fmt: skip
        verb = one_of(rng, allowed)
        if verb is None:
            return None
        if not somebody.pronoun and rng.random() < self.shares["adjective"]:
            somebody = replace(somebody, adjective=one_of(rng, self._polar(somebody.concept)))
        said |= {verb, somebody.concept}
        times = [t for t in self.world.times["past"] if t not in self.world.verbs[verb].without]
        return Meaning((Clause(verb, somebody, "past", object=topic, time=rng.choice([None, *times])),))

    def _polar(self, noun: str) -> list[str]:
        known = self.world.adjectives
        return [a for a in self.world.describing[noun] if known[a].polarity and a not in self.unrated]

    def row(self, content: Review, language: Language, phrases: Phrases) -> Row:
        """The review with the cue as prompt, the labels of the language as choices; group is the kind."""
        wording = phrases.block("reviews")
        text = " ".join(language.render(m).text for m in content.sentences)
        return {
            "kind": "choice",
            "prompt": wording["prompt"].format(text=text),
            "choices": [wording["labels"][label] for label in self.strata],
            "gold": self.strata.index(content.label),
            "group": content.kind,
        }


def _this(sentence: Meaning, topic: NounPhrase) -> Meaning:
    """The sentence with "this" at its first mention of the topic."""
    clauses = list(sentence.clauses)
    for i, clause in enumerate(clauses):
        for role in ("subject", "object"):
            if getattr(clause, role) == topic:
                changed: dict[str, Any] = {role: replace(topic, determiner="this")}
                clauses[i] = replace(clause, **changed)
                return replace(sentence, clauses=tuple(clauses))
    return sentence
