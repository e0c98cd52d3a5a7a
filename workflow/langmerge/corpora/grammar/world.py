"""The world: concepts and what may combine with what, read from world.yaml and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader  # the files are long
GRAMMAR = Path(__file__).resolve().parents[4] / "data" / "grammar"
FRAMES = ("intransitive", "transitive", "ditransitive")
ANIMATE_CLASSES = ("person", "animal")


@dataclass(frozen=True)
class Adjective:
    """An adjective: what it may describe (classes or nouns as declared, and all nouns), its polarity."""

    concept: str
    classes: tuple[str, ...]
    nouns: tuple[str, ...]
    polarity: int = 0


@dataclass(frozen=True)
class Verb:
    """A verb: the nouns that may fill its roles (empty if it lacks the role), and how it may be modified.

    `classes` are the subject's as declared; `without` are adverbs that do not suit the verb.
    """

    concept: str
    frame: str
    classes: tuple[str, ...]
    subject: tuple[str, ...]
    object: tuple[str, ...] = ()
    recipient: tuple[str, ...] = ()
    place: bool = False
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class World:
    """Concepts by kind. All orders are those of the file, so that sampling depends on nothing else."""

    nouns: Mapping[str, tuple[str, ...]]
    adjectives: Mapping[str, Adjective]
    verbs: Mapping[str, Verb]
    be_adjective: Verb
    be_place: Verb
    times: Mapping[str, tuple[str, ...]]
    manners: tuple[str, ...]
    relations: tuple[str, ...]
    determiners: tuple[str, ...]
    pronouns: tuple[str, ...]
    connectives: tuple[str, ...]

    @staticmethod
    def load(path: Path | None = None) -> World:
        """Read and check a world file (default: data/grammar/world.yaml).

        Raises ValueError naming file, key and concept if the file is missing or names something unknown.
        """
        return _load(path or GRAMMAR / "world.yaml")

    @cached_property
    def noun_list(self) -> tuple[str, ...]:
        """All nouns."""
        return tuple(n for members in self.nouns.values() for n in members)

    @cached_property
    def class_of(self) -> dict[str, str]:
        """The class of each noun."""
        return {n: c for c, members in self.nouns.items() for n in members}

    @cached_property
    def animate(self) -> frozenset[str]:
        """The nouns for people and animals."""
        return frozenset(n for c in ANIMATE_CLASSES for n in self.nouns.get(c, ()))

    @cached_property
    def adverbs(self) -> tuple[str, ...]:
        """All adverbs, those of time first."""
        return tuple(dict.fromkeys([t for ts in self.times.values() for t in ts] + list(self.manners)))

    @cached_property
    def verb_list(self) -> tuple[Verb, ...]:
        """All verbs but "be"."""
        return tuple(self.verbs.values())

    @cached_property
    def adjective_list(self) -> tuple[str, ...]:
        """All adjectives."""
        return tuple(self.adjectives)

    @cached_property
    def describing(self) -> dict[str, tuple[str, ...]]:
        """For each noun the adjectives that may describe it."""
        return {n: tuple(c for c, a in self.adjectives.items() if n in a.nouns) for n in self.noun_list}

    @property
    def inside(self) -> tuple[str, ...]:
        """Nouns that one can be in."""
        return self.nouns.get("place", ())

    @property
    def beside(self) -> tuple[str, ...]:
        """Nouns that one can be near but not in."""
        return self.nouns.get("landmark", ())

    def restricted(
        self,
        nouns: int | None = None,
        verbs: int | None = None,
        adjectives: int | None = None,
        two_clauses: bool = True,
    ) -> World:
        """A smaller world: the first `nouns` of each noun class, `verbs` of each frame, `adjectives` in all.

        Without `two_clauses` it has no connectives, and every sentence one clause.

        Verbs and adjectives that no longer combine with anything are dropped before counting; None keeps all.
        Raises ValueError if nothing is left to say.
        """
        kept = {c: members[:nouns] for c, members in self.nouns.items()}
        known = {n for members in kept.values() for n in members}

        def still(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(n for n in names if n in known)

        def smaller(v: Verb) -> Verb:
            return replace(v, subject=still(v.subject), object=still(v.object), recipient=still(v.recipient))

        possible = [
            s for v in self.verb_list for s in [smaller(v)]
            if s.subject and bool(s.object) == bool(v.object) and bool(s.recipient) == bool(v.recipient)
        ]  # fmt: skip
        frames = [[v for v in possible if v.frame == frame][:verbs] for frame in FRAMES]
        described = [replace(a, nouns=still(a.nouns)) for a in self.adjectives.values()]
        described = [a for a in described if a.nouns][:adjectives]
        if not any(frames) or not described or not kept.get("place"):
            raise ValueError(
                f"world restricted to {nouns} nouns, {verbs} verbs, {adjectives} adjectives holds no verb, "
                "adjective or place; ask for more"
            )
        return replace(
            self,
            nouns=kept,
            adjectives={a.concept: a for a in described},
            verbs={v.concept: v for frame in frames for v in frame},
            be_place=smaller(self.be_place),
            connectives=self.connectives if two_clauses else (),
        )


@lru_cache(maxsize=8)
def _load(path: Path) -> World:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), LOADER)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; expected the world of the embedded corpus") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {error}") from None
    for key in ("nouns", "adjectives", "verbs", "adverbs", "relations", "determiners", "pronouns", "connectives"):
        if not (data or {}).get(key):
            raise ValueError(f"{path}: `{key}` is missing or empty")
    return _Reader(path, data).world()


class _Reader:
    """Turns the file's mappings into a World; raises ValueError naming file and key."""

    def __init__(self, path: Path, data: Mapping[str, Any]) -> None:
        self.path = path
        self.data = data
        self.nouns = {c: tuple(members) for c, members in data["nouns"].items()}
        everything = [n for members in self.nouns.values() for n in members]
        twice = {n for n in everything if everything.count(n) > 1}
        if twice:
            raise ValueError(f"{path}: nouns: {', '.join(sorted(twice))} listed twice")
        self.names = set(everything)
        self.times: Mapping[str, Sequence[str]] = data["adverbs"]["time"]
        self.manners = tuple(data["adverbs"]["manner"])

    def world(self) -> World:
        data = self.data
        predicates = data.get("predicates") or {}
        for adverb, tenses in self.times.items():
            if not set(tenses) <= {"past", "present", "future"}:
                raise ValueError(f"{self.path}: adverbs.time.{adverb}: expected past, present, future; found {tenses}")
        times = {t: tuple(a for a, ts in self.times.items() if t in ts) for t in ("past", "present", "future")}
        if not times["future"]:
            raise ValueError(f"{self.path}: adverbs.time: no adverb of the future; each future clause needs one")
        anything = list(self.nouns)
        return World(
            nouns=self.nouns,
            adjectives={c: self.adjective(c, d) for c, d in data["adjectives"].items()},
            verbs={c: self.verb(c, frame, d) for frame in FRAMES for c, d in (data["verbs"].get(frame) or {}).items()},
            be_adjective=self.verb("be", "predicate", {"subject": anything, **(predicates.get("adjective") or {})}),
            be_place=self.verb("be", "predicate", {"subject": anything, **(predicates.get("place") or {})}),
            times=times,
            manners=self.manners,
            relations=tuple(data["relations"]),
            determiners=tuple(data["determiners"]),
            pronouns=tuple(data["pronouns"]),
            connectives=tuple(data["connectives"]),
        )

    def expand(self, where: str, members: Sequence[str]) -> tuple[str, ...]:
        unknown = [m for m in members if m not in self.nouns and m not in self.names]
        if unknown:
            raise ValueError(f"{self.path}: {where}: {', '.join(unknown)} is neither a noun class nor a noun")
        return tuple(dict.fromkeys(n for m in members for n in self.nouns.get(m, (m,))))

    def adjective(self, concept: str, d: Mapping[str, Any]) -> Adjective:
        where = f"adjectives.{concept}"
        classes = d.get("describes") or []
        if not classes or d.get("polarity", 0) not in (-1, 0, 1):
            raise ValueError(f"{self.path}: {where}: expected `describes` (a list) and `polarity` -1, 0 or 1")
        return Adjective(concept, tuple(classes), self.expand(where, classes), d.get("polarity", 0))

    def verb(self, concept: str, frame: str, d: Mapping[str, Any]) -> Verb:
        where = f"verbs.{concept}"
        roles = {"subject", *{"transitive": ["object"], "ditransitive": ["object", "recipient"]}.get(frame, [])}
        if {"subject", "object", "recipient"} & set(d) != roles:
            raise ValueError(f"{self.path}: {where}: a verb of frame {frame} needs {', '.join(sorted(roles))}")
        without = tuple(d.get("without") or ())
        unknown = [a for a in without if a not in self.times and a not in self.manners]
        if unknown:
            raise ValueError(f"{self.path}: {where}.without: {', '.join(unknown)} is no adverb")
        filled = {role: self.expand(f"{where}.{role}", d[role]) for role in sorted(roles)}
        return Verb(concept, frame, tuple(d["subject"]), place=bool(d.get("place")), without=without, **filled)
