"""Word problems of one or two steps with small numbers.

Somebody buys, finds, sells, eats, loses or gives away things of one kind; the question asks how many there are, or are
left. Numbers are written in digits and lie between 2 and 20, so that each takes the noun's form after "two" (2 to 4, in
languages that tell them apart) or after "five".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from langmerge.corpora.grammar.drawing import Row, one_of, person
from langmerge.corpora.grammar.language import Language
from langmerge.corpora.grammar.meaning import Clause, Meaning, NounPhrase
from langmerge.corpora.grammar.phrases import Phrases, say
from langmerge.corpora.grammar.words import Word
from langmerge.corpora.grammar.world import World

LARGEST, LARGEST_FACTOR = 20, 9
PAUCAL = range(2, 5)
# After the first purchase: what each further step does.
KINDS = {
    "addition": "+",
    "subtraction": "-",
    "multiplication": "*",
    "addition, subtraction": "+-",
    "subtraction, subtraction": "--",
    "multiplication, addition": "*+",
    "multiplication, subtraction": "*-",
}


@dataclass(frozen=True)
class Problem:
    """A problem: what happens with how many of the `noun`, and, of multiplications, the containers bought."""

    kind: str
    noun: str
    events: tuple[Clause, ...]
    numbers: tuple[int, ...]
    container: str | None = None

    def key(self) -> str:
        """Who does what with how many."""
        return " | ".join([self.kind, self.noun, *(m.content() for m in self.meanings()), str(self.numbers)])

    def meanings(self) -> Sequence[Meaning]:
        """The events, one sentence each."""
        return [Meaning((event,)) for event in self.events]

    def answer(self) -> int:
        """The number asked for."""
        value = self.numbers[0]
        for sign, number in zip(KINDS[self.kind], self.numbers[1:], strict=True):
            value = {"+": value + number, "-": value - number, "*": value * number}[sign]
        return value


class Arithmetic:
    """The task: draws problems and says them."""

    name = "arithmetic"
    strata = tuple(KINDS)

    def __init__(self, world: World, rules: Mapping[str, Any]) -> None:
        """From `rules["arithmetic"]`: verbs of gain and loss, containers and what comes in them."""
        self.world = world
        own = rules["arithmetic"]
        self.gains, self.losses = ([v for v in own[key] if v in world.verbs] for key in ("gains", "losses"))
        self.containers: list[str] = own["containers"]
        self.contained = {n for name in own["contained"] for n in world.nouns.get(name, (name,))}
        countable = {o for verb in self.gains for o in world.verbs[verb].object} - {*self.containers, *world.animate}
        self.nouns = [n for n in world.noun_list if n in countable and world.class_of[n] in ("food", "text", "object")]

    def draw(self, stratum: str, rng: Random) -> Problem | None:
        """A problem of this kind; None if no verb fits the noun or nothing would be left."""
        signs = KINDS[stratum]
        noun = one_of(rng, [n for n in self.nouns if n in self.contained] if "*" in signs else self.nouns)
        subject = person(rng, self.world.nouns["person"])
        if noun is None or subject is None:
            return None
        container = rng.choice(self.containers) if "*" in signs else None
        numbers = tuple(self._number(sign, rng) for sign in ("*" if container else "+") + signs)
        events: list[Clause] = []
        for sign, number in zip("+" + signs, numbers, strict=True):
            if sign == "*":
                continue
            first = not events
            said = container if container and first else noun
            event = self._event(sign, subject, said, number, {e.verb for e in events}, rng)
            if event is None:
                return None
            events.append(event)
        problem = Problem(stratum, noun, tuple(events), numbers, container)
        return problem if problem.answer() >= 1 else None

    def _number(self, sign: str, rng: Random) -> int:
        return rng.randint(2, LARGEST_FACTOR if sign == "*" else LARGEST)

    def _event(
        self, sign: str, subject: NounPhrase, noun: str, number: int, used: set[str], rng: Random
    ) -> Clause | None:
        verbs = self.losses if sign == "-" else self.gains
        fitting = [
            v for v in verbs if noun in (*self.containers, *self.world.verbs[v].object) and v not in used
            and (subject.pronoun or subject.concept in self.world.verbs[v].subject)
        ]  # fmt: skip
        verb = one_of(rng, fitting)
        if verb is None:
            return None
        counted = NounPhrase(noun, "pl", "two" if number in PAUCAL else "five")
        recipient = None
        if self.world.verbs[verb].recipient:
            recipient = person(rng, self.world.nouns["person"], {subject.concept}, pronouns=0, plural=0)
            if recipient is None:
                return None
        time = rng.choice([None, None, "yesterday", "last_week"]) if not used else None
        return Clause(verb, subject, "past", object=counted, recipient=recipient, time=time)

    def row(self, content: Problem, language: Language, phrases: Phrases) -> Row:
        """The problem with its question as prompt, the number as answer; group is the kind."""
        wording = phrases.block("arithmetic")
        numbers = list(content.numbers)
        sentences = [with_digits(language, content.events[0], numbers.pop(0))]
        if content.container:
            number = numbers.pop(0)
            noun = counted_noun(language, content.noun, number)
            sentences.append(say(language, wording["each"][content.container], number=number, noun=noun.text))
        sentences += [
            with_digits(language, event, number) for event, number in zip(content.events[1:], numbers, strict=True)
        ]
        many = counted_noun(language, content.noun, LARGEST)
        question = wording["left" if content.kind.endswith("subtraction") else "total"]
        if isinstance(question, Mapping):
            question = question[many.features.gender]
        sentences.append(say(language, question, noun=many.text))
        return {
            "kind": "generation",
            "prompt": " ".join(sentences),
            "answer": str(content.answer()),
            "group": content.kind,
        }


def with_digits(language: Language, event: Clause, number: int) -> str:
    """The sentence with the number in digits in place of "two" or "five"."""
    sentence = language.render(Meaning((event,)))
    start, end = next((span.start, span.end) for span in sentence.spans if span.pos == "NUM")
    return sentence.text[:start] + str(number) + sentence.text[end:]


def counted_noun(language: Language, noun: str, number: int) -> Word:
    """The noun as it stands after a number (subject or inanimate object): "яблока" after 3, "яблок" after 7."""
    counted = NounPhrase(noun, "pl", "two" if number in PAUCAL else "five")
    clause = Clause("buy", NounPhrase("i"), "past", object=counted)
    return next(w for w in language.words(Meaning((clause,))) if w.role == "object" and w.pos == "NOUN")
