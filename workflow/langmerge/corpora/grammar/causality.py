"""Which effect follows, or which cause explains: a premise, a connective and two continuations.

`data/grammar/tasks/world.yaml` lists pairs of causes with effects that exclude each other. Each gives four questions:
what follows from either cause (of the two effects), and what explains either effect (of the two causes). So each
continuation is as often right as wrong, and nothing but the premise tells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from langmerge.corpora.grammar.drawing import Row, one_of, speaker
from langmerge.corpora.grammar.language import Language
from langmerge.corpora.grammar.meaning import Clause, Meaning, NounPhrase
from langmerge.corpora.grammar.phrases import Phrases
from langmerge.corpora.grammar.world import World

QUESTIONS = {"effect": "so", "cause": "because"}
UNOWNED = ("animal", "place", "landmark")  # classes of nouns that do not go with "my"
SPOKEN = 0.5  # share of pronouns where a role allows them


@dataclass(frozen=True)
class Choice:
    """A premise with the right and the wrong continuation; `gold` is the place of the right one."""

    question: str
    premise: Clause
    right: Clause
    wrong: Clause
    gold: int
    contrast: str

    def key(self) -> str:
        """The contrast with its roles filled: all its questions belong to one split."""
        return self.contrast

    def meanings(self) -> Sequence[Meaning]:
        """Premise and continuations, one sentence each."""
        return [Meaning((clause,)) for clause in (self.premise, self.right, self.wrong)]


class CausalChoice:
    """The task: draws choices and says them. A stratum is the question and the place of the right answer."""

    name = "causal_choice"
    strata = tuple((question, gold) for gold in (0, 1) for question in QUESTIONS)

    def __init__(self, world: World, rules: Mapping[str, Any]) -> None:
        """From `rules["causality"]`, as far as the world can fill its roles.

        Raises ValueError naming the rule if causes and effects are not two each.
        """
        self.world = world
        self.contrasts = []
        for number, rule in enumerate(rules["causality"]):
            if not len(rule["causes"]) == len(rule["effects"]) == 2:
                raise ValueError(f"causality, rule {number + 1}: expected two causes and two effects")
            fillers = {role: self._fillers(rule, role) for role in rule["roles"]}
            if all(fillers.values()):
                self.contrasts.append((rule, fillers))

    def _fillers(self, rule: Mapping[str, Any], role: str) -> list[str]:
        nouns = [n for name in rule["roles"][role] for n in self.world.nouns.get(name, (name,))]
        kept = [n for n in dict.fromkeys(nouns) if n in self.world.class_of]
        for pattern in (*rule["causes"], *rule["effects"]):
            allowed = self._allowed(pattern, role)
            kept = [n for n in kept if allowed is None or n in allowed]
        return kept + ["pronoun"] * ("pronoun" in rule["roles"][role] and "person" in self.world.nouns)

    def _allowed(self, pattern: Mapping[str, Any], role: str) -> tuple[str, ...] | None:
        """The nouns that may fill the role in this pattern; None if it does not stand in it."""
        place = next((p for p in ("subject", "object", "recipient") if pattern.get(p) == role), None)
        if place is None:
            return None
        if "predicate" in pattern:
            adjective = self.world.adjectives.get(pattern["predicate"])
            return adjective.nouns if adjective else ()
        verb = self.world.verbs.get(pattern["verb"])
        return getattr(verb, place) if verb else ()

    def draw(self, stratum: tuple[str, int], rng: Random) -> Choice | None:
        """A choice of this kind; None if two roles would be the same noun or there is no rule."""
        question, gold = stratum
        contrast = one_of(rng, self.contrasts)
        if contrast is None:
            return None
        rule, fillers = contrast
        roles = {role: self._phrase(rng, nouns) for role, nouns in fillers.items()}
        if len({np.concept for np in roles.values()}) < len(roles):
            return None
        causes, effects = ([clause_of(p, roles) for p in rule[key]] for key in ("causes", "effects"))
        side = rng.randrange(2)
        given, asked = (causes, effects) if question == "effect" else (effects, causes)
        premise = given[side]
        without = self.world.verbs[premise.verb].without if premise.verb in self.world.verbs else ()
        times = [t for t in self.world.times["past"] if t not in without]
        if rng.random() < 0.4:
            premise = replace(premise, time=one_of(rng, times))
        key = " | ".join(Meaning((clause,)).content() for clause in (*causes, *effects))
        return Choice(question, premise, asked[side], asked[1 - side], gold, key)

    def _phrase(self, rng: Random, fillers: list[str]) -> NounPhrase:
        nouns = [n for n in fillers if n != "pronoun"]
        if "pronoun" in fillers and (not nouns or rng.random() < SPOKEN):
            return speaker(rng)
        noun = rng.choice(nouns)
        owned = self.world.class_of[noun] not in UNOWNED
        determiner = rng.choice(["the", "the", "my"]) if owned else "the"
        return NounPhrase(noun, "pl" if rng.random() < 0.3 else "sg", determiner)

    def row(self, content: Choice, language: Language, phrases: Phrases) -> Row:
        """Premise and connective as prompt, the continuations as choices; group is the question."""
        connective = phrases.block("causality")[QUESTIONS[content.question]]
        premise, right = halves(language, content.premise, content.right)
        _, wrong = halves(language, content.premise, content.wrong)
        return {
            "kind": "choice",
            "prompt": premise + connective,
            "choices": [wrong, right] if content.gold else [right, wrong],
            "gold": content.gold,
            "group": content.question,
        }


def clause_of(pattern: Mapping[str, Any], roles: Mapping[str, NounPhrase]) -> Clause:
    """The clause in the past that a pattern of the rules stands for."""
    return Clause(
        pattern.get("verb", "be"),
        roles[pattern["subject"]],
        "past",
        negative=bool(pattern.get("negative")),
        object=roles[pattern["object"]] if "object" in pattern else None,
        recipient=roles[pattern["recipient"]] if "recipient" in pattern else None,
        predicate=pattern.get("predicate"),
    )


def halves(language: Language, first: Clause, second: Clause) -> tuple[str, str]:
    """Two clauses as they stand before and after "because", without comma and connective."""
    sentence = language.render(Meaning((first, second), "because"))
    spans = [span for span in sentence.spans if span.role == "connective"]
    start, end = min(span.start for span in spans), max(span.end for span in spans)
    return sentence.text[:start].rstrip(" ,"), sentence.text[end:].strip()
