"""The words of a language as its file lists them, checked against the world."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from langmerge.corpora.grammar.world import LOADER, World

Entry = Mapping[str, Any]


class _Loader(LOADER):  # type: ignore[valid-type, misc]
    """YAML in which only `true` and `false` are booleans, so that "no", "on" and "y" are words."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name in ("true", "false"):
    _Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), _name[0])


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; raises ValueError naming the file if it is missing, broken or no mapping."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
        raise ValueError(f"{path}: no such file; files there: {known}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a mapping, found {type(data).__name__}")
    return data


class Lexicon:
    """The entries of a language by section and concept. Each entry has `lemma` and `concept`."""

    def __init__(self, data: Mapping[str, Any], world: World, path: Path, case_names: frozenset[str]) -> None:
        """Raise ValueError naming file, section and concept if the world has a concept that `data` lacks."""
        self.path = path
        self.world = world
        self._data = data
        self.nouns = self._section("nouns", world.noun_list)
        self.adjectives = self._section("adjectives", world.adjectives)
        self.verbs = self._section("verbs", [*world.verbs, "be"])
        self.adverbs = self._section("adverbs", [*world.adverbs])
        self.relations = self._section("relations", world.relations)
        self.connectives = self._section("connectives", world.connectives)
        self.determiners = self._section("determiners", ())
        self.pronouns = self._section("pronouns", ())
        cases = case_names | {str(e["case"]) for e in self.relations.values() if e.get("case")}
        self._governed = {
            (concept, role): _government(entry[role], cases)
            for concept, entry in self.verbs.items()
            for role in ("object", "recipient")
            if role in entry
        }

    def governed(self, verb: str, role: str) -> tuple[str, str] | None:
        """Case and adposition that a verb's entry asks of a role; None if it asks nothing."""
        return self._governed.get((verb, role))

    def _section(self, name: str, needed: Iterable[str]) -> dict[str, Entry]:
        section = self._data.get(name) or {}
        if not isinstance(section, Mapping):
            raise ValueError(f"{self.path}: lexicon.{name}: expected a mapping from concepts to entries")
        missing = [c for c in needed if c not in section]
        if missing:
            raise ValueError(
                f"{self.path}: lexicon.{name} lacks {', '.join(missing)}; every concept of the world needs an entry"
            )
        return {concept: self._entry(name, concept, value) for concept, value in section.items()}

    def _entry(self, section: str, concept: str, value: Any) -> Entry:
        entry = {"lemma": value} if isinstance(value, str) else value
        if not isinstance(entry, Mapping):
            raise ValueError(
                f"{self.path}: lexicon.{section}.{concept}: expected a lemma or a mapping, found {value!r}"
            )
        if "lemma" not in entry and section not in ("determiners", "pronouns", "relations"):
            raise ValueError(f"{self.path}: lexicon.{section}.{concept}: expected a `lemma`")
        default = {} if section in ("determiners", "pronouns") else {"lemma": ""}
        return {**default, **entry, "concept": concept}


# A verb's `object: dative` names a case, `object: a` an adposition.
STANDARD_CASES = frozenset(
    {"nominative", "accusative", "dative", "genitive", "instrumental", "prepositional", "locative", "partitive"}
    | {"ablative", "inessive", "elative", "illative", "adessive", "allative", "essive", "translative", "ergative"}
    | {"oblique", "direct", "nom", "acc", "dat", "gen", "ins", "loc", "abl", "obl", "erg"}
)


def _government(value: Any, cases: frozenset[str]) -> tuple[str, str]:
    if isinstance(value, Mapping):
        return str(value.get("case", "")), str(value.get("adposition", ""))
    return (str(value), "") if value in cases or value in STANDARD_CASES else ("", str(value))
