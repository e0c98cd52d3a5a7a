"""The base class of languages: from a meaning to a sentence, driven by a language file.

A language file (data/grammar/languages/<code>.yaml) has three blocks: `language`, `syntax` and `lexicon`.

language:  code, name, family, script
syntax:
  order: [time, subject, frequency, negation, verb, rest, recipient, object, predicate, manner, place]
  order_subordinate: [...]       # of a "because" clause; default: `order`
  order_be: [...]                # of all clauses with "be"; default: as any other verb's
  verb_second: true              # in main clauses the finite verb follows the first constituent of `order`
  adjective: before | after      # the noun; an adjective's entry may say `position: before` or `after`
  determiner: before | after     # the noun phrase; default before
  adposition: before | after     # default of all adpositions; a relation's entry may say `position: after`
  pro_drop: true | [i, you]      # subject pronouns that are not said; default none
  negation: no                   # the negating word (slot `negation`); leave out if the verb form negates
  numerals: {number: sg}         # features that "two", "five" force on adjective and noun; default none
  copula_place: estar            # entry of the verb in "the cat is in the garden"; default `be`
  cases:                         # by role: subject, object, recipient, place, predicate
    subject: nominative          # a case, or rules of which the first that holds counts:
    object: [{if: {negative: true}, case: partitive}, {if: {animate: true}, adposition: a}, {case: accusative}]
  case_names: [essive]           # cases that occur nowhere else in this file, see below
  agreement: subject             # what the verb agrees with, or rules: [{if: {...}, with: object}, ...];
                                 # with: subject | object | none (citation form)
  citation: {gender: m}          # features of the default form (and the gender of pronouns); default m, sg, 3
  final: "."                     # closing mark
lexicon: nouns, adjectives, verbs (with `be`), adverbs, relations, connectives; and, for the base class's own
  `determiner` and `pronoun`, `determiners` and `pronouns`. `verbs` may hold further copulas by any name that
  `copula` or `copula_place` uses. An entry is a mapping with `lemma`, or the lemma alone.
  A verb's `object:`/`recipient:` is a case or an adposition, and outranks `cases`; {case:, adposition:} gives
  both. Its `of_person:` names the entry that takes its place where the object is a person. A relation has `lemma`
  ("" if the case says it), `case`, `position`. An adverb may have `slot: frequency` (any name that `order` lists).
  An adjective may have `copula:`. A connective may have `comma: true`.

Slots of `order`: subject, verb (finite), rest (non-finite parts), negation, object, recipient, predicate, place,
manner, time; and frequency for adverbs that say so. If not listed, rest follows the verb, negation precedes
the verb, frequency stands with manner, and predicate follows rest.

Conditions (`if`) may ask for facts of the clause: negative, tense, transitive, subordinate, verb; of the noun
phrase whose case is sought: animate, definite, determiner, number, gender, concept, class (of the noun), pronoun,
adjective; and of the others by prefix: subject_animate, object_definite, ... A list means any of its members.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from langmerge.corpora.grammar.lexicon import Entry, Lexicon, read_yaml
from langmerge.corpora.grammar.meaning import NUMERALS, PRONOUN_PERSON, Meaning, NounPhrase
from langmerge.corpora.grammar.setting import Override, Setting, definite, fact
from langmerge.corpora.grammar.syntax import Syntax
from langmerge.corpora.grammar.words import DEFAULT, Features, Sentence, VerbGroup, Word, assemble
from langmerge.corpora.grammar.world import GRAMMAR, World

__all__ = ["Entry", "Features", "Language", "Override", "Sentence", "Setting", "VerbGroup", "Word", "available"]


class Language:
    """A language of the embedded corpus. Subclasses define the morphology and override syntax where needed."""

    def __init__(self, data: Mapping[str, Any], world: World, path: Path) -> None:
        """Check `data` (the content of `path`) against `world`; raise ValueError if an entry is missing."""
        self.world = world
        self.path = path
        self.about: Mapping[str, str] = data["language"]
        self.code = str(self.about["code"])
        self.syntax = Syntax(data.get("syntax") or {}, path)
        self.lexicon = Lexicon(data.get("lexicon") or {}, world, path, self.syntax.case_names)
        self.pro_drop = self.syntax.pro_drop
        self.citation = replace(DEFAULT, **{"gender": "m", **self.syntax.get("citation", {})})

    @staticmethod
    def load(code: str, folder: Path | None = None, world: World | None = None) -> Language:
        """The language with this code, from `folder`/<code>.yaml (default: data/grammar/languages).

        Its class is the subclass of `Language` in langmerge.corpora.grammar.languages.<code>. Raises ValueError
        naming file and key if there is no such language or its file is wrong.
        """
        folder = folder or GRAMMAR / "languages"
        path = folder / f"{code}.yaml"
        data = read_yaml(path)
        world = world or World.load()
        if "transform" in data:
            from langmerge.corpora.grammar.transform import load_transform

            return load_transform(data, folder, world, path)
        for key in ("language", "syntax", "lexicon"):
            if not isinstance(data.get(key), Mapping):
                raise ValueError(f"{path}: expected a mapping under `{key}`")
        if data["language"].get("code") != code:
            raise ValueError(f"{path}: language.code is {data['language'].get('code')!r}; expected {code!r}")
        return language_class(code)(data, world, path)

    # -- sentences -----------------------------------------------------------------------------------------

    def render(self, meaning: Meaning, override: Override | None = None) -> Sentence:
        """The sentence that says `meaning`.

        `override` changes features where they are realised and nowhere else, for minimal pairs:
        {"verb": {"number": "sg"}} or, for one part of speech of a role, {"subject.NOUN": {"number": "pl"}}.
        """
        return assemble(self.words(meaning, override), self.contract, self.capitalise, self.syntax.final)

    def words(self, meaning: Meaning, override: Override | None = None) -> list[Word]:
        """The words of the sentence in order, before contraction."""
        words: list[Word] = []
        for index, clause in enumerate(meaning.clauses):
            subordinate = bool(index) and meaning.connective == "because"
            if index and meaning.connective:
                words += self.connective(meaning.connective)
            words += self.clause(Setting(clause, index, subordinate, override or {}))
        return words

    def connective(self, concept: str) -> list[Word]:
        """The conjunction, after a comma where its entry says so."""
        entry = self.lexicon.connectives[concept]
        pos = "SCONJ" if concept == "because" else "CCONJ"
        word = Word(entry["lemma"], "connective", concept, pos, DEFAULT, 1)
        return [Word(",", "", "", "PUNCT"), word] if entry.get("comma") else [word]

    # -- clauses -------------------------------------------------------------------------------------------

    def clause(self, s: Setting) -> list[Word]:
        """The words of a clause: its constituents in the order of the language."""
        slots = {name: words for name, words in self.constituents(s).items() if words}
        return [w for name in self.order(s, slots) for w in slots.get(name, ())]

    def order(self, s: Setting, slots: Mapping[str, list[Word]]) -> list[str]:
        """The order of the slots; verb-second languages put the finite verb after the first one filled."""
        if s.clause.verb == "be" and self.syntax.order_be:
            return self.syntax.order_be
        order = self.syntax.order_subordinate if s.subordinate else self.syntax.order
        if not self.syntax.verb_second or s.subordinate:
            return order
        rest = [name for name in order if name != "verb"]
        first = next((i for i, name in enumerate(rest) if name in slots), 0)
        return [*rest[: first + 1], "verb", *rest[first + 1 :]]

    def constituents(self, s: Setting) -> dict[str, list[Word]]:
        """The words of each slot."""
        c = s.clause
        slots = {"subject": self.subject(s), **self.verb_words(s), "negation": self.negation(s)}
        if c.object:
            slots["object"] = self.noun_phrase(c.object, "object", s)
        if c.recipient:
            slots["recipient"] = self.noun_phrase(c.recipient, "recipient", s)
        if c.predicate:
            slots["predicate"] = self.predicate(s)
        if c.place:
            slots["place"] = self.place(s)
        for kind, concept in (("manner", c.manner), ("time", c.time)):
            if concept:
                entry = self.lexicon.adverbs[concept]
                slots.setdefault(entry.get("slot", kind), []).append(
                    Word(entry["lemma"], kind, concept, "ADV", DEFAULT, s.index)
                )
        return slots

    def subject(self, s: Setting) -> list[Word]:
        """The subject: a noun phrase, or a pronoun unless it is dropped."""
        np = s.clause.subject
        if not np.pronoun:
            return self.noun_phrase(np, "subject", s)
        if self.drops(np.concept):
            return []
        f = self.override(s, "subject", "PRON", self.phrase_features(np, "subject", s))
        text = self.pronoun(np.concept, f)
        return [Word(text, "subject", np.concept, "PRON", f, s.index)] if text else []

    def drops(self, pronoun: str) -> bool:
        """Whether this subject pronoun is left unsaid."""
        return pronoun in self.pro_drop

    def verb_words(self, s: Setting) -> dict[str, list[Word]]:
        """The slots `verb` and `rest`."""
        f = self.override(s, "verb", "VERB", self.verb_features(s))
        group = self.verb(self.verb_entry(s), f)
        parts = [group.finite, *group.rest]
        main = group.main % len(parts)
        words = []
        for i, text in enumerate(parts):
            auxiliary = s.clause.verb == "be" or i < main
            pos = "AUX" if auxiliary else "VERB" if i == main else "PART"
            words.append(Word(text, "rest" if i else "verb", s.clause.verb, pos, f, s.index))
        return {"verb": [w for w in words[:1] if w.text], "rest": [w for w in words[1:] if w.text]}

    def verb_entry(self, s: Setting) -> Entry:
        """The lexicon entry of the clause's verb; predicates may ask for another copula, persons for another verb."""
        c = s.clause
        if c.predicate:
            return self.lexicon.verbs[self.lexicon.adjectives[c.predicate].get("copula", "be")]
        if c.verb == "be":
            return self.lexicon.verbs[self.syntax.get("copula_place", "be")]
        entry = self.lexicon.verbs[c.verb]
        to_person = "of_person" in entry and c.object and c.object.concept in self.world.nouns.get("person", ())
        return self.lexicon.verbs[entry["of_person"]] if to_person else entry

    def verb_features(self, s: Setting) -> Features:
        """Tense and polarity of the clause with number, gender and person of what the verb agrees with."""
        c, agreeing = s.clause, self.controller(s)
        return replace(
            agreeing,
            tense=c.tense,
            negative=c.negative,
            transitive=c.object is not None,
            subordinate=s.subordinate,
            position="attributive",
            reflexive=False,
        )

    def controller(self, s: Setting) -> Features:
        """The features of what the verb agrees with."""
        role = self.syntax.agreement(lambda name: self.fact(name, "subject", s))
        np = {"subject": s.clause.subject, "object": s.clause.object}.get(role)
        return self.phrase_features(np, role, s) if np else self.citation

    def negation(self, s: Setting) -> list[Word]:
        """The negating word, if the clause is negative and the language has one."""
        word = self.syntax.get("negation", "") if s.clause.negative else ""
        return [Word(word, "negation", "not", "PART", DEFAULT, s.index)] if word else []

    def predicate(self, s: Setting) -> list[Word]:
        """The predicative adjective, which agrees with the subject."""
        concept = s.clause.predicate or ""
        f = self.phrase_features(s.clause.subject, "subject", s)
        case, _ = self.marking("predicate", s)
        f = replace(f, case=case or f.case, position="predicative", tense=s.clause.tense, negative=s.clause.negative)
        f = self.override(s, "predicate", "ADJ", f)
        text = self.adjective(self.lexicon.adjectives[concept], f)
        return [Word(text, "predicate", concept, "ADJ", f, s.index)]

    def place(self, s: Setting) -> list[Word]:
        """The place phrase: the relation's adposition around or its case on the noun phrase."""
        relation, np = s.clause.place or ("", s.clause.subject)
        return self.noun_phrase(np, "place", s, self.lexicon.relations[relation])

    # -- noun phrases --------------------------------------------------------------------------------------

    def noun_phrase(self, np: NounPhrase, role: str, s: Setting, relation: Entry | None = None) -> list[Word]:
        """Determiner, adjective and noun in order, with the adposition that the role or the relation asks for."""
        f = self.phrase_features(np, role, s)
        inner = self.quantified(f) if np.determiner in NUMERALS else f
        words = self.nominal(np, role, s, inner)
        determiner = self.determiner_words(np, role, s, f)
        words = words + determiner if self.syntax.get("determiner") == "after" else determiner + words
        if relation is not None:
            return self.with_adposition(words, relation["lemma"], relation, role, s)
        _, adposition = self.marking(role, s)
        return self.with_adposition(words, adposition, {}, role, s)

    def nominal(self, np: NounPhrase, role: str, s: Setting, f: Features) -> list[Word]:
        """Adjective and noun."""
        g = self.override(s, role, "NOUN", f)
        noun = [Word(self.noun(self.lexicon.nouns[np.concept], g), role, np.concept, "NOUN", g, s.index)]
        if not np.adjective:
            return noun
        g = self.override(s, role, "ADJ", f)
        entry = self.lexicon.adjectives[np.adjective]
        adjective = [Word(self.adjective(entry, g), role, np.adjective, "ADJ", g, s.index)]
        after = entry.get("position", self.syntax.get("adjective", "before")) == "after"
        return noun + adjective if after else adjective + noun

    def determiner_words(self, np: NounPhrase, role: str, s: Setting, f: Features) -> list[Word]:
        """The determiner, if the language has a word for it."""
        f = self.override(s, role, "DET", f)
        text = self.determiner(np.determiner, f) if np.determiner else ""
        pos = "NUM" if np.determiner in NUMERALS else "DET"
        return [Word(text, role, np.determiner, pos, f, s.index)] if text else []

    def with_adposition(self, words: list[Word], lemma: str, entry: Entry, role: str, s: Setting) -> list[Word]:
        """`words` with an adposition before or after them; unchanged if `lemma` is empty."""
        if not lemma:
            return words
        concept = s.clause.place[0] if role == "place" and s.clause.place else role
        adposition = [Word(lemma, role, concept, "ADP", DEFAULT, s.index)]
        after = entry.get("position", self.syntax.get("adposition", "before")) == "after"
        return words + adposition if after else adposition + words

    def phrase_features(self, np: NounPhrase, role: str, s: Setting) -> Features:
        """The features of a noun phrase in its role."""
        case, _ = self.marking(role, s)
        return Features(
            number=np.number,
            gender=self.gender(np),
            case=case,
            person=PRONOUN_PERSON.get(np.concept, 3),
            definite=definite(np),
            animate=np.pronoun or np.concept in self.world.animate,
            determiner=np.determiner,
            reflexive=np.determiner == "my" and role != "subject" and s.clause.subject.concept == "i",
            negative=s.clause.negative,
            tense=s.clause.tense,
        )

    def quantified(self, f: Features) -> Features:
        """The features of adjective and noun after a numeral."""
        return replace(f, **self.syntax.get("numerals", {}))

    def marking(self, role: str, s: Setting) -> tuple[str, str]:
        """Case and adposition of a role: from the relation, the verb's entry, or the rules of the syntax."""
        if role == "place" and s.clause.place:
            relation = self.lexicon.relations[s.clause.place[0]]
            return relation.get("case", ""), relation["lemma"]
        governed = self.lexicon.governed(self.verb_entry(s)["concept"], role)
        if governed is not None:
            return governed
        return self.syntax.marking(role, lambda name: self.fact(name, role, s))

    def fact(self, name: str, role: str, s: Setting) -> Any:
        """The value of a condition's fact; raises ValueError naming the file if there is no such fact."""
        try:
            return fact(name, role, s, self.world, self.gender)
        except KeyError:
            raise ValueError(f"{self.path}: syntax: unknown condition `{name}`; language.py lists them") from None

    def gender(self, np: NounPhrase) -> str:
        """The gender of a noun; that of the citation form for pronouns."""
        return self.citation.gender if np.pronoun else self.lexicon.nouns[np.concept].get("gender", "")

    def override(self, s: Setting, role: str, pos: str, f: Features) -> Features:
        """`f` with the features that the caller of `render` forces on this role or part of speech."""
        if not s.override:
            return f
        return replace(f, **s.override.get(role, {}), **s.override.get(f"{role}.{pos}", {}))

    # -- hooks: what a language defines --------------------------------------------------------------------

    def noun(self, entry: Entry, f: Features) -> str:
        """The form of a noun; by default the lemma."""
        return entry["lemma"]

    def adjective(self, entry: Entry, f: Features) -> str:
        """The form of an adjective; by default the lemma."""
        return entry["lemma"]

    def verb(self, entry: Entry, f: Features) -> VerbGroup:
        """The forms of a verb; by default the lemma."""
        return VerbGroup(entry["lemma"])

    def determiner(self, kind: str, f: Features) -> str:
        """The word for a determiner: `lexicon.determiners`, which may give forms by number and gender.

        An entry is a text or a mapping whose keys are tried in this order: "f.pl", "pl", "f", "lemma".
        """
        entry = self.lexicon.determiners.get(kind)
        if entry is None:
            return ""
        for key in (f"{f.gender}.{f.number}", f.number, f.gender, "lemma"):
            if key in entry:
                return entry[key]
        return ""

    def pronoun(self, concept: str, f: Features) -> str:
        """The word for a subject pronoun: `lexicon.pronouns`, by case if it is a mapping."""
        entry = self.lexicon.pronouns.get(concept, {})
        return entry.get(f.case, entry.get("lemma", ""))

    def contract(self, words: list[str]) -> list[str]:
        """Fuse neighbouring words: the same number of texts, "" for a word fused into the one before it."""
        return words

    def capitalise(self, letter: str) -> str:
        """The capital of the first letter of a sentence."""
        return letter.upper()


def language_class(code: str) -> type[Language]:
    """The subclass of `Language` defined in langmerge.corpora.grammar.languages.<code>."""
    module = f"langmerge.corpora.grammar.languages.{code}"
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ValueError(f"no module {module}; expected a subclass of Language for language {code!r}") from None
    classes = [
        v for v in vars(found).values()
        if isinstance(v, type) and issubclass(v, Language) and v.__module__ == module
    ]  # fmt: skip
    if len(classes) != 1:
        raise ValueError(f"{module}: found {len(classes)} subclasses of Language; expected one")
    return classes[0]


def available(folder: Path | None = None, transforms: bool = False) -> list[str]:
    """The codes of the languages that have a file in `folder`; with those that are transforms, if asked."""
    paths = sorted((folder or GRAMMAR / "languages").glob("*.yaml"))
    return [p.stem for p in paths if transforms or "transform" not in read_yaml(p)]
