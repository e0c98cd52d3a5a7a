"""Short texts about a scene, with a summary of one sentence that says the central event.

The main character is the only person whom two sentences have as their subject; one of them tells what he or she is or
always does (in the present), the other what happened (in the past). The latter is the central event, wherever it
stands; other persons have past events too, one each. The summary is the central event without adjectives, place,
manner and time, so that neither the first sentence nor a sentence as it stands is always right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from langmerge.corpora.grammar.drawing import Row, one_of
from langmerge.corpora.grammar.language import Language
from langmerge.corpora.grammar.meaning import FREQUENCY, Clause, Meaning, NounPhrase, Number, Tense
from langmerge.corpora.grammar.phrases import Phrases
from langmerge.corpora.grammar.world import Verb, World

LENGTHS = (3, 4, 5)
EVERY_DAY = "every_day"
DETERMINERS = ("the", "the", "a", "this")
PLURAL, ADJECTIVE, ADVERB = 0.3, 0.5, 0.25  # shares of noun phrases and of events
AT_THE_SCENE = 0.5  # share of the clauses that name the place of the scene, and of the events that name its time


@dataclass
class Scene:
    """Where and when the text plays, and who and what has been mentioned."""

    ground: str
    time: str | None
    used: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Text:
    """A text and the index of its central sentence."""

    sentences: tuple[Clause, ...]
    central: int

    def key(self) -> str:
        """The contents of its sentences, in order."""
        return " || ".join(m.content() for m in self.meanings()[:-1])

    def meanings(self) -> Sequence[Meaning]:
        """Its sentences and the summary."""
        return [*(Meaning((clause,)) for clause in self.sentences), self.summary()]

    def summary(self) -> Meaning:
        """The central event reduced to the verb and bare noun phrases."""
        return Meaning((reduced(self.sentences[self.central]),))


class Summaries:
    """The task: draws texts and says them. A stratum is the number of sentences and the place of the central one."""

    name = "summarization"
    strata = tuple((n, position) for position in range(max(LENGTHS)) for n in LENGTHS if position < n)

    def __init__(self, world: World, rules: Mapping[str, Any]) -> None:
        """From the world and `rules["summaries"]`: verbs to avoid."""
        self.world = world
        self.verbs = [v for v in world.verb_list if v.concept not in rules["summaries"]["unsaid"]]

    def draw(self, stratum: tuple[int, int], rng: Random) -> Text | None:
        """A text of this length with its central sentence at this place; None if its parts do not come together."""
        length, position = stratum
        ground = rng.choice(self.world.inside)
        scene = Scene(ground, rng.choice([None, *self.world.times["past"]]), {ground})
        hero = self._somebody(rng, scene)
        kinds = [True, *(rng.random() < 0.5 for _ in range(length - 3))]
        others = [
            self._event(rng, scene, self._somebody(rng, scene)) if kind else self._state(rng, scene) for kind in kinds
        ]
        central, habit = self._event(rng, scene, hero), self._habit(rng, scene, hero)
        rest = [clause for clause in (habit, *others) if clause is not None]
        if central is None or reduced(central) == central or len(rest) < length - 1:
            return None
        rng.shuffle(rest)
        return Text((*rest[:position], central, *rest[position:]), position)

    def _somebody(self, rng: Random, scene: Scene) -> NounPhrase | None:
        """One definite person, of whom all languages tell present and past apart."""
        concept = one_of(rng, [p for p in self.world.nouns["person"] if p not in scene.used])
        if concept is None:
            return None
        scene.used.add(concept)
        return NounPhrase(concept, "sg", rng.choice(["the", "the", "my"]))

    def _event(self, rng: Random, scene: Scene, subject: NounPhrase | None) -> Clause | None:
        """What somebody did once."""
        verb = one_of(rng, [v for v in self.verbs if subject is not None and subject.concept in v.subject])
        clause = self._action(rng, scene, verb, subject, "past") if verb and subject else None
        if clause is None or verb is None:
            return None
        time = scene.time if scene.time not in verb.without and rng.random() < AT_THE_SCENE else None
        manners = [m for m in self.world.manners if m not in verb.without and m not in FREQUENCY]
        manner = one_of(rng, manners) if rng.random() < ADVERB else None
        return replace(clause, time=time, manner=manner)

    def _habit(self, rng: Random, scene: Scene, subject: NounPhrase | None) -> Clause | None:
        """What somebody is, or does every day."""
        if subject is None:
            return None
        if rng.random() < 0.5:
            adjective = one_of(rng, self.world.describing[subject.concept])
            return Clause("be", subject, "present", predicate=adjective) if adjective else None
        daily = [v for v in self.verbs if subject.concept in v.subject and EVERY_DAY not in v.without]
        verb = one_of(rng, daily)
        clause = self._action(rng, scene, verb, subject, "present") if verb else None
        return replace(clause, time=EVERY_DAY) if clause else None

    def _state(self, rng: Random, scene: Scene) -> Clause | None:
        """How a thing or an animal is, or where."""
        things = [n for n in self.world.noun_list if n not in scene.used and n not in self.world.nouns["person"]]
        concept = one_of(rng, things)
        if concept is None:
            return None
        scene.used.add(concept)
        subject = NounPhrase(concept, rng.choice(["sg", "pl"]), rng.choice(["the", "this"]))
        if concept in self.world.be_place.subject and rng.random() < 0.5:
            return Clause("be", subject, "present", place=("in", NounPhrase(scene.ground, "sg", "the")))
        adjective = one_of(rng, self.world.describing[concept])
        return Clause("be", subject, "present", predicate=adjective) if adjective else None

    def _action(self, rng: Random, scene: Scene, verb: Verb, subject: NounPhrase, tense: Tense) -> Clause | None:
        """The verb with its noun phrases, at the place of the scene or nowhere; None if it lacks a noun."""
        phrases = [self._thing(rng, scene, nouns) if nouns else None for nouns in (verb.object, verb.recipient)]
        if any(bool(nouns) != bool(np) for nouns, np in zip((verb.object, verb.recipient), phrases, strict=True)):
            return None
        placed = verb.place and rng.random() < AT_THE_SCENE
        place = ("in", NounPhrase(scene.ground, "sg", "the")) if placed else None
        return Clause(verb.concept, subject, tense, object=phrases[0], recipient=phrases[1], place=place)

    def _thing(self, rng: Random, scene: Scene, nouns: Sequence[str]) -> NounPhrase | None:
        """Something not mentioned yet, often with an adjective."""
        concept = one_of(rng, [n for n in nouns if n not in scene.used])
        if concept is None:
            return None
        scene.used.add(concept)
        number: Number = "pl" if rng.random() < PLURAL else "sg"
        determiners = DETERMINERS if number == "sg" else (*DETERMINERS, "two", "five")
        adjective = one_of(rng, self.world.describing[concept]) if rng.random() < ADJECTIVE else None
        return NounPhrase(concept, number, rng.choice(determiners), adjective)

    def row(self, content: Text, language: Language, phrases: Phrases) -> Row:
        """The text with the cue as prompt, the summary as answer; group is the place of the central sentence."""
        text = " ".join(language.render(Meaning((clause,))).text for clause in content.sentences)
        return {
            "kind": "generation",
            "prompt": phrases.block("summaries")["prompt"].format(text=text),
            "answer": language.render(content.summary()).text,
            "group": f"sentence {content.central + 1}",
        }


def reduced(clause: Clause) -> Clause:
    """The clause without adjectives, place, manner and time."""
    bare: dict[str, Any] = {role: replace(np, adjective=None) for role, np in clause.noun_phrases() if role != "place"}
    return replace(clause, **bare, place=None, manner=None, time=None)
