"""The clause being rendered, and the facts about it that the rules of a syntax may ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from langmerge.corpora.grammar.meaning import Clause, NounPhrase
from langmerge.corpora.grammar.world import World

Override = Mapping[str, Mapping[str, Any]]


@dataclass(slots=True)
class Setting:
    """The clause being rendered and where it stands; `override` changes features, see `Language.render`."""

    clause: Clause
    index: int = 0
    subordinate: bool = False
    override: Override = field(default_factory=dict)


def fact(name: str, role: str, s: Setting, world: World, gender: Callable[[NounPhrase], str]) -> Any:
    """The value of a fact of the clause, of the noun phrase in `role`, or (by prefix) of that in another role.

    None if there is no such noun phrase. Raises KeyError if there is no such fact.
    """
    c = s.clause
    match name:
        case "negative" | "tense" | "verb":
            return getattr(c, name)
        case "transitive":
            return c.object is not None
        case "subordinate":
            return s.subordinate
    prefix, _, rest = name.partition("_")
    if rest and prefix in ("subject", "object", "recipient"):
        return fact(rest, prefix, s, world, gender)
    if name not in (
        "animate",
        "definite",
        "class",
        "gender",
        "determiner",
        "number",
        "concept",
        "pronoun",
        "adjective",
    ):
        raise KeyError(name)
    np = dict(c.noun_phrases()).get(role)
    if np is None:
        return None
    match name:
        case "animate":
            return np.pronoun or np.concept in world.animate
        case "definite":
            return definite(np)
        case "class":
            return "person" if np.pronoun else world.class_of[np.concept]
        case "gender":
            return gender(np)
    return getattr(np, name)


def definite(np: NounPhrase) -> bool:
    """Whether a noun phrase speaks of something known."""
    return np.pronoun or np.determiner in ("the", "this", "my")
