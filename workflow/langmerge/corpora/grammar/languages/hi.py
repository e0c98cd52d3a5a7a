"""Hindi: gender and number in everything, cases by postpositions, an ergative subject in the perfective.

Conventions of this corpus. `you` is तुम, `they` is वे, all pronouns are masculine. Reference is not honorific, so
that "my father" and "my fathers" stay apart. The present is the habitual (-ता है), the past the perfective, the
future -गा. People and animals take को as objects; things are bare, but a definite plural that looks like the singular
takes को too (घरों को), which keeps "the house" and "the houses" apart. "My" is अपना where the subject is "I".

Further reading: McGregor, Outline of Hindi Grammar (3rd edition, 1995).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from langmerge.corpora.grammar.language import Entry, Features, Language, Setting, VerbGroup, Word
from langmerge.corpora.grammar.meaning import NounPhrase

_VOWELS = "ािीुूेैोौआइईउऊएऐओऔ"
_SHORT = {"ी": "ि", "ई": "इ", "ू": "ु"}
_PERFECTIVE = {"कर": "किया", "दे": "दिया", "जा": "गया"}
# By person and number; तुम counts as plural.
_PRESENT = {(1, False): "हूँ", (2, True): "हो", (3, False): "है", (1, True): "हैं", (3, True): "हैं"}
_FUTURE_SIGN = {(1, False): "ूँ", (2, True): "ो", (3, False): "े", (1, True): "ें", (3, True): "ें"}
_FUTURE_LETTER = {(1, False): "ऊँ", (2, True): "ओ", (3, False): "ए", (1, True): "एँ", (3, True): "एँ"}
_FUTURE_BE = {(1, False): "होऊँ", (2, True): "हो", (3, False): "हो", (1, True): "हों", (3, True): "हों"}
DIRECT, OBLIQUE, ERGATIVE = "direct", "oblique", "ergative"


class Agreement(NamedTuple):
    """What a verb agrees with: person 1 to 3, gender m or f, plural or not (तुम is plural)."""

    person: int = 3
    gender: str = "m"
    plural: bool = False


def inflect(entry: Entry, plural: bool = False, oblique: bool = False) -> str:
    """A noun in the direct case, or in the oblique case that stands before a postposition."""
    lemma = entry["lemma"]
    irregular = entry.get("oblique_plural" if oblique else "plural") if plural else None
    if irregular:
        return irregular
    masculine = entry["gender"] == "m"
    if masculine and lemma.endswith("ा") and not entry.get("invariable"):
        return lemma[:-1] + ("ों" if plural and oblique else "े" if plural or oblique else "ा")
    if not plural or (masculine and not oblique):
        return lemma
    if lemma[-1] in "ीई":
        return lemma[:-1] + _SHORT[lemma[-1]] + ("यों" if oblique else "याँ")
    if lemma[-1] == "ू":
        return lemma[:-1] + _SHORT[lemma[-1]] + ("ओं" if oblique else "एँ")
    if lemma[-1] in _VOWELS:
        return lemma + ("ओं" if oblique else "एँ")
    return lemma + ("ों" if oblique else "ें")


def agree(word: str, gender: str, plural: bool = False, oblique: bool = False) -> str:
    """An adjective, possessive or participle in -ā with the gender and number of its noun; others unchanged."""
    if " " in word:
        return " ".join(agree(part, gender, plural, oblique) for part in word.split())
    feminine = gender == "f"
    if not (feminine or plural or oblique):
        return word
    if word.endswith("िया"):  # किया: किए, की
        return word[:-3] + "ी" if feminine else word[:-2] + "ए"
    if word.endswith("या"):  # नया: नए, नई
        return word[:-2] + ("ई" if feminine else "ए")
    if word.endswith("आ"):
        return word[:-1] + ("ई" if feminine else "ए")
    return word[:-1] + ("ी" if feminine else "े") if word.endswith("ा") else word


def finite_participle(word: str, to: Agreement) -> str:
    """A participle that ends the verb, on which alone a feminine plural is nasal: सोई, सोईं; थी, थीं."""
    word = agree(word, to.gender, to.plural)
    return word + "ं" if to.gender == "f" and to.plural else word


def conjugate(entry: Entry, tense: str, negative: bool = False, to: Agreement = Agreement()) -> str:  # noqa: B008
    """The verb with its auxiliary, without the noun of a conjunct verb and without नहीं: करता है, किया, मर गया.

    A helper verb (`vector`) goes with affirmative clauses only: मर गया, मर जाएगा, but नहीं मरा, नहीं मरेगा.
    """
    before, _, stem = verb_stem(entry)[1].rpartition(" ")
    if entry.get("vector") and not negative:
        before, stem = stem, entry["vector"].removesuffix("ना")
    return f"{before} {_finite(stem, tense, entry.get('perfective', True), to)}".lstrip()


def _finite(stem: str, tense: str, perfective: bool, to: Agreement) -> str:
    present = _PRESENT[to.person, to.plural]
    if tense == "future":
        return _future(stem, to)
    if stem == "हो":
        return present if tense == "present" else finite_participle("था", to)
    if tense == "present" or not perfective:
        copula = present if tense == "present" else finite_participle("था", to)
        return f"{agree(stem + 'ता', to.gender, to.plural)} {copula}"
    regular = stem + ("या" if stem[-1] in _VOWELS else "ा")
    return finite_participle(_PERFECTIVE.get(stem, regular), to)


def verb_stem(entry: Entry) -> tuple[str, str]:
    """The noun of a conjunct verb ("" if none) and the stem: (इंतज़ार, कर); ले जा is one stem."""
    lemma = entry["lemma"].removesuffix("ना")
    if lemma.startswith("ले "):
        return "", lemma
    noun, _, stem = lemma.rpartition(" ")
    return noun, stem


def _future(stem: str, to: Agreement) -> str:
    key = (to.person, to.plural)
    if stem == "हो":
        form = _FUTURE_BE[key]
    elif stem == "दे":  # देगा, but दूँगा, दोगे
        form = stem[:-1] + _FUTURE_SIGN[key]
    else:
        form = stem + (_FUTURE_LETTER if stem[-1] in _VOWELS else _FUTURE_SIGN)[key]
    return form + agree("गा", to.gender, to.plural)


class Hindi(Language):
    """Hindi: postpositions by verb and animacy, ergative subjects, agreement with subject, object or neither."""

    def noun(self, entry: Entry, f: Features) -> str:
        """Number and case."""
        return inflect(entry, f.number == "pl", f.case != DIRECT)

    def adjective(self, entry: Entry, f: Features) -> str:
        """Gender, number and case; तुम takes the plural."""
        return agree(entry["lemma"], f.gender, _plural(f), f.case != DIRECT)

    def determiner(self, kind: str, f: Features) -> str:
        """यह by case and number, मेरा (अपना where the subject is "I") by gender too; एक and the numerals as they are."""
        entry = self.lexicon.determiners.get(kind, {})
        case = DIRECT if f.case == DIRECT else OBLIQUE
        word = entry.get(f"{case}.{f.number}") or entry.get(f.number) or entry.get("lemma", "")
        if kind != "my":
            return word
        return agree(entry["reflexive"] if f.reflexive else word, f.gender, f.number == "pl", case == OBLIQUE)

    def verb(self, entry: Entry, f: Features) -> VerbGroup:
        """Stem and auxiliary as the finite part; the noun of a conjunct verb as the rest."""
        noun, _ = verb_stem(entry)
        to = Agreement(f.person, f.gender or "m", _plural(f))
        return VerbGroup(conjugate(entry, f.tense, f.negative, to), (noun,) if noun else (), main=0)

    def verb_words(self, s: Setting) -> dict[str, list[Word]]:
        """The words of the finite part one by one: the verb, then its auxiliary."""
        slots = super().verb_words(s)
        verb = [w._replace(text=text) for w in slots["verb"] for text in w.text.split()]
        return {**slots, "verb": verb[:1] + [w._replace(pos="AUX") for w in verb[1:]]}

    def ergative(self, s: Setting) -> bool:
        """Whether the subject takes ने."""
        entry = self.verb_entry(s)
        return s.clause.tense == "past" and entry.get("ne", True) and entry.get("perfective", True)

    def marking(self, role: str, s: Setting) -> tuple[str, str]:
        """Case and postposition of a role."""
        match role:
            case "subject" if self.ergative(s):
                return ERGATIVE, "ने"
            case "object":
                postposition = self.object_postposition(s)
                return (OBLIQUE if postposition else DIRECT), postposition
            case "recipient":
                return OBLIQUE, self.verb_entry(s).get("recipient", "को")
            case "place":
                return OBLIQUE, super().marking(role, s)[1]
        return DIRECT, ""

    def object_postposition(self, s: Setting) -> str:
        """What the verb asks for, or को on people, animals and definite plurals that look like the singular."""
        np = s.clause.object
        wanted = self.verb_entry(s).get("object", "")
        if np is None or wanted not in ("", "bare"):
            return wanted
        if not wanted and np.concept in self.world.animate:
            return "को"
        if s.clause.recipient and self.marking("recipient", s)[1] == "को":  # two of them would clash
            return ""
        return "को" if np.determiner == "the" and np.number == "pl" and self.hides_number(np) else ""

    def hides_number(self, np: NounPhrase) -> bool:
        """Whether noun and adjective have one form for both numbers of the direct case."""
        noun = self.lexicon.nouns[np.concept]
        lemma = self.lexicon.adjectives[np.adjective]["lemma"] if np.adjective else ""
        same = agree(lemma, noun["gender"], plural=True) == agree(lemma, noun["gender"])
        return same and inflect(noun, plural=True) == inflect(noun)

    def controller(self, s: Setting) -> Features:
        """The subject; under ने the noun of the conjunct verb, else a bare object, else masculine singular."""
        if not self.ergative(s):
            return super().controller(s)
        gender = self.verb_entry(s).get("agrees")
        if gender:
            return replace(self.citation, gender=gender)
        bare = s.clause.object is not None and self.marking("object", s)[0] == DIRECT
        return self.phrase_features(s.clause.object, "object", s) if bare and s.clause.object else self.citation


def _plural(f: Features) -> bool:
    return f.number == "pl" or f.person == 2
