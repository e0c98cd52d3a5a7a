"""Which feature of which word to change for a minimal pair, and where a language leaves the verdict in doubt.

Phenomena are those of the literature on targeted syntactic evaluation (Marvin and Linzen, arXiv:1808.09031; BLiMP,
arXiv:1912.00582; CLAMS, arXiv:2005.00187; MultiBLiMP, arXiv:2504.02768), and one of time for a language with too
little of them. A *direction* is the value that the correct form has. Each phenomenon has several, so that what is right
in one sentence is wrong in another (minimal_pairs.py):

number_agreement   the verb in the other number than its subject, a noun (sg: singular is right; pl)
person_agreement   a verb in the first person after a singular noun or "they" (third), or in the third after "I", "you",
                   "we" (local). Not where pronouns are dropped (es, it, fi, tr): any person of theirs is right, so
                   that a first person would always be wrong, and it is the rarer form
gender_agreement   determiner, adjective, predicate or verb in another gender than the noun's (m, f, n)
case               a noun phrase in another case than its role's (direct: nominative is right; oblique). Not in Finnish
                   and Turkish, where no determiners but nouns alone tell cases: too few are met in both
tense              Turkish: a verb in the future beside "yesterday" (past), or in the past beside "tomorrow" (future)

What speakers accept somewhere is left out, though this grammar never says it: either number after numerals (ru, fi);
plurals of respect (hi); persons as common-gender nouns (es "la estudiante"); first-person plurals after nouns (es
"los estudiantes leemos"); nouns of two genders (fr "la livre"); a noun as the object of a verb that the world takes
for intransitive (ru "мать ждут", they wait for mother); subjects without a nominative where a language has them. The
wrong person after a German noun is the second, since the first is a subjunctive ("er helfe").
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from langmerge.corpora.grammar.language import Features, Language, Override, Setting
from langmerge.corpora.grammar.meaning import NUMERALS, NounPhrase

NUMBER, PERSON, GENDER = "number_agreement", "person_agreement", "gender_agreement"
CASE, TENSE = "case", "tense"
_NUMBERS, _CASES = ("sg", "pl"), ("direct", "oblique")
# Per language: its phenomena and their directions.
PHENOMENA: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {NUMBER: _NUMBERS, PERSON: ("third", "local")},
    "es": {NUMBER: _NUMBERS, GENDER: ("m", "f")},
    "it": {NUMBER: _NUMBERS, GENDER: ("m", "f")},
    "fr": {NUMBER: _NUMBERS, PERSON: ("third", "local"), GENDER: ("m", "f")},
    "de": {NUMBER: _NUMBERS, PERSON: ("third", "local"), GENDER: ("m", "f", "n"), CASE: _CASES},
    "ru": {NUMBER: _NUMBERS, PERSON: ("third", "local"), GENDER: ("m", "f", "n"), CASE: _CASES},
    "hi": {NUMBER: _NUMBERS, PERSON: ("third", "local"), GENDER: ("m", "f"), CASE: _CASES},
    "fi": {NUMBER: _NUMBERS},
    "tr": {TENSE: ("past", "future")},
}
# Nouns that have a second gender with another meaning, or whose gender varies.
TWO_GENDERS: dict[str, frozenset[str]] = {
    "es": frozenset({"orange", "guitar", "ball"}),  # el naranja (colour), el guitarra (player), el pelota
    "fr": frozenset({"book", "orange", "goat"}),  # la livre (pound), un orange (colour), le chèvre (cheese)
    "de": frozenset({"lake", "hat", "knife"}),  # die See (sea), die Hut (guard), der Messer (gauge)
    "hi": frozenset({"sausage", "mushroom", "guitar", "ball", "duck", "lamp"}),  # usage varies
}
# Intransitive verbs of the world that a language uses with an object too: Italian "corre" runs a race.
TRANSITIVE_TOO: dict[str, frozenset[str]] = {
    "es": frozenset({"wait", "play", "run", "sing"}),
    "it": frozenset({"wait", "play", "run", "sing", "dance", "cry"}),
    "ru": frozenset({"wait", "play", "sing", "dance"}),
    "fi": frozenset({"wait", "play", "run", "sing", "dance", "swim", "travel", "work"}),
}
OTHER_PERSON = {"i": 3, "you": 3, "we": 3, "they": 1}
NOMINATIVE = {"de": "nom", "ru": "nom", "hi": "direct"}
# The cases that a nominative phrase is put in.
OBLIQUE = {"de": ("acc", "dat"), "ru": ("acc",), "hi": ("oblique",)}
# Adverbs that rule out a tense.
DATED = {"past": ("tomorrow", "next_week", "next_year"), "future": ("yesterday", "last_week", "last_year")}


class Violation(NamedTuple):
    """What to change for a pair: the phenomenon, the direction, and the features to render wrongly."""

    phenomenon: str
    direction: str
    override: Override


def base_of(language: Language) -> str:
    """The code of the natural language that a language is, or is a transform of."""
    return str(language.about.get("transform_of") or language.code)


def phenomena(language: Language) -> dict[str, tuple[str, ...]]:
    """The phenomena of a language with their directions; none if nothing agrees in it.

    Raises ValueError for a language without an entry in `PHENOMENA`.
    """
    base = base_of(language)
    if base not in PHENOMENA:
        raise ValueError(
            f"{language.path}: no minimal pairs are known for {base!r}; expected one of {sorted(PHENOMENA)}, "
            "or add what agrees in it to langmerge/corpora/grammar/violations.py"
        )
    return PHENOMENA[base] if getattr(language, "agrees", True) else {}


def violations(language: Language, s: Setting) -> Iterator[Violation]:
    """All changes to a clause that break one of the language's phenomena, where they change a word at all."""
    known = phenomena(language)
    rules = {NUMBER: _number, PERSON: _person, GENDER: _gender, CASE: _case, TENSE: _tense}
    for phenomenon, directions in known.items():
        for direction, override in rules[phenomenon](language, s):
            if direction in directions:
                yield Violation(phenomenon, direction, override)


def controller_role(language: Language, s: Setting) -> str:
    """The role that the verb agrees with: "subject", "object", or "" where it stands in a default form."""
    found = language.controller(s)
    for role, np in s.clause.noun_phrases():
        f = language.phrase_features(np, role, s)
        if role in ("subject", "object") and f == _with_number(found, f.number):
            return role
    return ""


def _with_number(f: Features, number: str) -> Features:
    return Features(**{**f.to_dict(), "number": number})


def _person_noun(language: Language, np: NounPhrase) -> bool:
    return np.concept in language.world.nouns.get("person", ())


def _number(language: Language, s: Setting) -> Iterator[tuple[str, Override]]:
    np = s.clause.subject
    if np.pronoun or np.determiner in NUMERALS or not _sure(language, s):
        return
    if base_of(language) == "hi" and np.number == "sg" and _person_noun(language, np):
        return  # a plural of respect: माँ सोती हैं
    yield np.number, {"verb": {"number": "pl" if np.number == "sg" else "sg"}}


def _person(language: Language, s: Setting) -> Iterator[tuple[str, Override]]:
    np = s.clause.subject
    if not _sure(language, s):
        return
    if np.pronoun:
        if language.subject(s):
            yield "third" if np.concept == "they" else "local", {"verb": {"person": OTHER_PERSON[np.concept]}}
    elif np.number == "sg" and not (language.pro_drop and s.clause.verb == "be"):  # "a doctor am I"
        yield "third", {"verb": {"person": 2 if base_of(language) == "de" else 1}}


def _sure(language: Language, s: Setting) -> bool:
    """Whether the verb agrees with the subject, which no use of the verb takes for an object."""
    if s.clause.verb in TRANSITIVE_TOO.get(base_of(language), ()):
        return False
    return controller_role(language, s) == "subject"


def _gender(language: Language, s: Setting) -> Iterator[tuple[str, Override]]:
    base = base_of(language)
    genders = PHENOMENA[base][GENDER]
    controller = controller_role(language, s)
    for role, np in s.clause.noun_phrases():
        doubtful = np.pronoun or _person_noun(language, np) or np.concept in TWO_GENDERS.get(base, ())
        if doubtful or np.determiner in NUMERALS or "plural_gender" in language.lexicon.nouns[np.concept]:
            continue
        targets = [f"{role}.DET", f"{role}.ADJ"]
        targets += ["predicate.ADJ"] if role == "subject" else []
        targets += ["verb"] if role == controller else []
        right = language.gender(np)
        for wrong in genders:
            if wrong != right:
                yield from ((right, {target: {"gender": wrong}}) for target in targets)


def _case(language: Language, s: Setting) -> Iterator[tuple[str, Override]]:
    base = base_of(language)
    nominative = NOMINATIVE[base]
    for role, np in s.clause.noun_phrases():
        if np.pronoun or np.determiner in NUMERALS:
            continue
        case, adposition = language.marking(role, s)
        if case == nominative:
            if _case_of_subject(base, role, language, s):
                yield from (("direct", {role: {"case": wrong}}) for wrong in OBLIQUE[base])
        elif _case_of_object(base, role, adposition, s):
            yield "oblique", {role: {"case": nominative}}


def _case_of_subject(base: str, role: str, language: Language, s: Setting) -> bool:
    """Whether an oblique case is surely wrong for a nominative phrase.

    Intransitive full verbs only: "dem Kind ist kalt" and the like are right. Hindi: plurals only, since an oblique
    singular is a direct plural.
    """
    c = s.clause
    if base == "hi":
        return dict(c.noun_phrases())[role].number == "pl"
    return role == "subject" and not (c.object or c.verb == "be" or c.verb in TRANSITIVE_TOO.get(base, ()))


def _case_of_object(base: str, role: str, adposition: str, s: Setting) -> bool:
    """Whether the nominative is surely wrong for a phrase in another case.

    Hindi: before any postposition, but कुछ may go with a singular.
    """
    np = dict(s.clause.noun_phrases())[role]
    if base == "hi":
        return (np.determiner, np.number) != ("a", "pl")
    return not adposition and role in ("object", "recipient")


def _tense(language: Language, s: Setting) -> Iterator[tuple[str, Override]]:
    for right, wrong in (("past", "future"), ("future", "past")):
        if s.clause.tense == right and clashes(s.clause.time, wrong):
            yield right, {"verb": {"tense": wrong}}


def clashes(time: str | None, tense: str) -> bool:
    """Whether an adverb rules a tense out: "tomorrow" the past. Not "soon", which is "nearby" in Turkish (yakında)."""
    return time in DATED.get(tense, ())
