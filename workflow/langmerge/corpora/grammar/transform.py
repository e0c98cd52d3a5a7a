"""Languages that are a transform of another, for studies of what relatedness is made of.

A file declares which dimensions differ, each independent of the others:

language: {code: es-relex50, transform_of: es}
transform:
  relexify: 0.5              # share of the lexemes replaced by invented words (relexify.py)
  order: reversed            # constituents of each clause in reverse, or `sov`: the verb and its parts last
  script: {from: "abc", to: "αβγ"}   # each letter by another; capitals follow
  agreement: false           # adjectives, determiners and verbs in one form; subject pronouns are said
  seed: 0                    # of the invented words

The base is looked for beside the file, then in data/grammar/languages. Transforms are named after their parts in this
order: es-relex50-sov-script-noagree. Those of data/grammar/languages share seed 0: the lexemes invented at a smaller
share are among those at a larger one and have the same words, so that es-relex25 and es-relex75 differ in half of
their lexemes. Give another seed where the words that two languages invent are to be independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from langmerge.corpora.grammar.language import Entry, Features, Language, Override, Setting, VerbGroup, language_class
from langmerge.corpora.grammar.lexicon import read_yaml
from langmerge.corpora.grammar.meaning import NUMERALS, Meaning
from langmerge.corpora.grammar.relexify import Relexifier
from langmerge.corpora.grammar.words import Sentence, Word
from langmerge.corpora.grammar.world import GRAMMAR, World
from langmerge.transforms import Transform, letter_table

VERBAL = ("verb", "rest", "negation")
KEYS = {"relexify", "order", "script", "agreement", "seed"}


class Transformed(Language):
    """Mixed into the class of the base language; see the module's docstring."""

    def __init__(
        self, data: Mapping[str, Any], world: World, path: Path, transform: Mapping[str, Any], seed: int = 0
    ) -> None:
        """As `Language`, with the checked `transform` block of the file `path`."""
        super().__init__(data, world, path)
        self.constituent_order: str | None = transform.get("order")
        self.agrees = bool(transform.get("agreement", True))
        self.relexifier = Relexifier(self.lexicon, float(transform.get("relexify", 0)), seed)
        script = transform.get("script")
        self.letters = {} if script is None else letter_table(script, f"{path}: transform.script")
        subject_case, _ = self.syntax.marking("subject", lambda name: None)
        self.citation = replace(self.citation, case=self.citation.case or subject_case)

    def render(self, meaning: Meaning, override: Override | None = None) -> Sentence:
        """The base language's sentence, transformed."""
        sentence = super().render(meaning, override)
        return replace(sentence, text=sentence.text.translate(self.letters)) if self.letters else sentence

    def words(self, meaning: Meaning, override: Override | None = None) -> list[Word]:
        """The words with the invented ones in place."""
        return [self.relexifier.word(w) for w in super().words(meaning, override)]

    def clause(self, s: Setting) -> list[Word]:
        """The words of a clause with its constituents permuted."""
        words = super().clause(s)
        if self.constituent_order is None:
            return words
        constituents = [list(run) for _, run in groupby(words, key=lambda w: w.role)]
        if self.constituent_order == "reversed":
            constituents.reverse()
        else:
            constituents.sort(key=lambda run: run[0].role in VERBAL)
        return [w for run in constituents for w in run]

    def drops(self, pronoun: str) -> bool:
        """Without agreement nothing but the pronoun says who does it, so none is dropped."""
        return self.agrees and super().drops(pronoun)

    def adjective(self, entry: Entry, f: Features) -> str:
        """In its citation form if nothing agrees."""
        return super().adjective(entry, f if self.agrees else self.uninflected(f))

    def verb(self, entry: Entry, f: Features) -> VerbGroup:
        """In the form of its tense that the citation features give if nothing agrees."""
        return super().verb(entry, f if self.agrees else self.uninflected(f))

    def determiner(self, kind: str, f: Features) -> str:
        """In its citation form if nothing agrees; numerals keep the number."""
        if self.agrees:
            return super().determiner(kind, f)
        g = self.uninflected(f)
        return super().determiner(kind, replace(g, number=f.number) if kind in NUMERALS else g)

    def uninflected(self, f: Features) -> Features:
        """`f` with number, gender, case and person of the citation form."""
        c = self.citation
        return replace(f, number=c.number, gender=c.gender, case=c.case, person=c.person, animate=c.animate)


def load_transform(data: Mapping[str, Any], folder: Path, world: World, path: Path) -> Language:
    """The language that the file `path` (content `data`) declares as a transform of another.

    Raises ValueError naming file and key if the declaration is wrong.
    """
    base, transform = declaration(data, path)
    source = folder / f"{base}.yaml"
    if not source.exists():
        source = GRAMMAR / "languages" / f"{base}.yaml"
    original = read_yaml(source)
    if "transform" in original:
        raise ValueError(f"{path}: language.transform_of: {base} is itself a transform; name its base instead")
    merged = {**original, "language": {**original["language"], **data["language"]}}
    base_class = language_class(base)
    cls = type(f"Transformed{base_class.__name__}", (Transformed, base_class), {})
    language: Language = cls(merged, world, path, transform, int(transform.get("seed", 0)))
    return language


def declaration(data: Mapping[str, Any], path: Path) -> tuple[str, Mapping[str, Any]]:
    """The base and the checked `transform` block of a file's content; of a natural language its code and {}.

    Raises ValueError naming file and key if code, base, a key or the order is wrong.
    """
    about, transform = data.get("language") or {}, data.get("transform") or {}
    code, base = about.get("code"), about.get("transform_of")
    if "transform" not in data and code == path.stem:
        return str(code), {}
    if code != path.stem or not base:
        raise ValueError(f"{path}: language: expected code {path.stem!r} and `transform_of`, found {code!r}, {base!r}")
    unknown = set(transform) - KEYS
    if unknown or not transform:
        raise ValueError(f"{path}: transform: expected some of {sorted(KEYS)}, found {sorted(transform)}")
    if transform.get("order") not in (None, "reversed", "sov"):
        raise ValueError(f"{path}: transform.order: expected reversed or sov, found {transform['order']!r}")
    return str(base), transform


def transform_distance(a: str, b: str, folder: Path) -> dict[str, float]:
    """How far two transforms of one language are apart in each dimension, from what `folder`/<code>.yaml declare.

    `lexicon` (of lexemes), `order`, `script` and `agreement` as in :meth:`.Transform.distance`. The base language
    itself counts as a transform that changes nothing. A distance of a language to itself is 0 throughout, and with
    one seed each dimension is a metric.

    Raises ValueError if a file is missing or wrong, or if the two have different bases.
    """
    (base, one), (other, two) = (declaration(read_yaml(folder / f"{c}.yaml"), folder / f"{c}.yaml") for c in (a, b))
    if base != other:
        raise ValueError(f"{folder}: {a} is a transform of {base} and {b} of {other}; expected transforms of one base")
    return _summary(one).distance(_summary(two))


def _summary(transform: Mapping[str, Any]) -> Transform:
    script = transform.get("script")
    return Transform(
        relexify=float(transform.get("relexify", 0)),
        order=transform.get("order"),
        script=None if script is None else f"{script['from']}>{script['to']}",
        agreement=bool(transform.get("agreement", True)),
        seed=int(transform.get("seed", 0)),
    )
