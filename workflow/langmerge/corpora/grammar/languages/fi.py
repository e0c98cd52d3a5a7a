"""Finnish: morphology and syntax of the embedded corpus.

The lexicon gives the principal parts of a Finnish dictionary: of nominals the genitive, partitive and
partitive plural, of verbs the first person present, third person past and past participle. Gradation, vowel
harmony and all other forms follow from these. Terms: Hakulinen et al., Iso suomen kielioppi (2004).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from langmerge.corpora.grammar.language import Entry, Features, Language, Setting, VerbGroup, Word
from langmerge.corpora.grammar.meaning import NUMERALS, Meaning

VOWELS = "aeiouyäö"
BACK_TO_FRONT = str.maketrans("aou", "äöy")
NEGATIVE = {("sg", 1): "en", ("sg", 2): "et", ("sg", 3): "ei"}
NEGATIVE |= {("pl", 1): "emme", ("pl", 2): "ette", ("pl", 3): "eivät"}
NEGATIVE_AND = {"en": "enkä", "et": "etkä", "emme": "emmekä"}
ENDINGS = {"sg": ("n", "t"), "pl": ("mme", "tte")}
LOCAL = {"inessive": "ssa", "elative": "sta", "allative": "lle"}


def analogy(model: str, derived: str, base: str) -> str:
    """What `base` becomes by the change of ending that turns `model` into `derived`.

    The weak grade thus follows the strong one: katu : katui- = kadu : kadui-. Where `base` does not end
    like `model`, gradation does not apply and the answer is `derived`: huuta : huusi = huuda : huusi.
    """
    shared = 0
    while shared < min(len(model), len(derived)) and model[shared] == derived[shared]:
        shared += 1
    ending = model[shared:]
    return base.removesuffix(ending) + derived[shared:] if base.endswith(ending) else derived


def harmony(word: str, ending: str) -> str:
    """`ending` with a, o, u fronted to ä, ö, y unless the last harmonic vowel of `word` is a back vowel."""
    vowels = [c for c in word if c in "aouäöy"]
    back = bool(vowels) and vowels[-1] in "aou"
    return ending if back else ending.translate(BACK_TO_FRONT)


@dataclass(frozen=True, slots=True)
class Nominal:
    """The stems of a noun, adjective or pronoun; `genitives`, `partitive`, `partitives` are whole forms.

    `weak` and `strong` are the singular stems in both grades (pöydä-, pöytä-), `plural` and `strong_plural`
    those of the plural with its i (pöydi-, pöyti-).
    """

    lemma: str
    weak: str
    strong: str
    partitive: str
    partitives: str
    genitives: str
    plural: str
    strong_plural: str

    @classmethod
    def of(cls, entry: Entry) -> Nominal:
        """The stems of a lexicon entry; only words in -nen may go without principal parts."""
        lemma = entry["lemma"]
        genitive, partitive, partitives = entry.get("parts") or _parts_of_nen(lemma)
        weak = genitive[:-1]
        vocalic = partitive[:-1]
        strong = entry.get("strong") or (vocalic if vocalic[-1] in VOWELS else weak)
        i_stem = partitives[:-2] if partitives[-2] in "jt" else partitives[:-1]
        strong_plural = i_stem if i_stem.endswith("i") else i_stem + "i"
        # laatikkoa : laatikoita has the weak grade throughout; elsewhere the weak stem decides
        plural = strong_plural if partitives[-2] == "t" else analogy(strong, strong_plural, weak)
        genitives = entry.get("genitives") or _genitive_plural(lemma, strong_plural, partitives)
        return cls(lemma, weak, strong, partitive, partitives, genitives, plural, strong_plural)

    def form(self, case: str, plural: bool) -> str:
        """The form in one of seven cases, or in the accusative, the case of the total object.

        The seven are nominative, genitive, partitive, inessive, elative, illative and allative. The
        accusative is the genitive singular or the nominative plural. Raises ValueError for others.
        """
        if case in LOCAL:
            return (self.plural if plural else self.weak) + harmony(self.partitive[-1], LOCAL[case])
        match case:
            case "nominative" | "accusative" if plural:
                return self.weak + "t"
            case "nominative":
                return self.lemma
            case "genitive" | "accusative":
                return self.genitives if plural else self.weak + "n"
            case "partitive":
                return self.partitives if plural else self.partitive
            case "illative":
                return self._illative(plural)
        raise ValueError(f"Finnish {self.lemma!r}: unknown case {case!r}; expected one that fi.py inflects for")

    def with_my(self, case: str, plural: bool) -> str:
        """The form with the suffix -ni, which hides a final n or t: taloni is talo, talon and talot."""
        if case in ("nominative", "accusative") or (case == "genitive" and not plural):
            return self.strong + "ni"
        return self.form(case, plural).removesuffix("n") + "ni"

    def _illative(self, plural: bool) -> str:
        long_vowel = self.strong[-1] == self.strong[-2]
        if long_vowel and len(self.strong) <= 3:
            return self.strong_plural + "hin" if plural else self.strong + "h" + self.strong[-1] + "n"
        if long_vowel:
            return self.strong_plural + "siin" if plural else self.strong + "seen"
        if plural:
            return self.strong_plural + ("hin" if self.strong_plural[-2] in VOWELS else "in")
        return self.strong + self.strong[-1] + "n"


def _parts_of_nen(lemma: str) -> tuple[str, str, str]:
    """Genitive, partitive and partitive plural of a noun or adjective in -nen: hevosen, hevosta, hevosia."""
    if not lemma.endswith("nen"):
        raise ValueError(f"fi.yaml: {lemma!r} lacks `parts`: expected [genitive, partitive, partitive plural]")
    stem = lemma.removesuffix("nen") + "s"
    return stem + "en", stem + harmony(lemma, "ta"), stem + harmony(lemma, "ia")


def _genitive_plural(lemma: str, i_stem: str, partitives: str) -> str:
    if lemma.endswith("nen"):
        return i_stem[:-1] + "ten"
    if partitives[-2] == "t":
        return i_stem + "den"
    if partitives[-2] == "j":  # kuppeja : kuppien, but kissoja : kissojen
        return i_stem[:-2] + "ien" if i_stem.endswith("ei") else i_stem[:-1] + "jen"
    return i_stem + "en"


@dataclass(frozen=True, slots=True)
class Conjugation:
    """The stems of a verb in both grades (nuku-, nukku-; nukui-, nukkui-) and its past participle.

    `third` are the third persons singular and plural of the present.
    """

    weak: str
    strong: str
    weak_past: str
    strong_past: str
    participle: str
    third: tuple[str, str]

    @classmethod
    def of(cls, entry: Entry) -> Conjugation:
        """The stems of a lexicon entry with its principal parts (nukun, nukkui, nukkunut)."""
        lemma = entry["lemma"]
        first, strong_past, participle = entry["parts"]
        weak = first[:-1]
        strong = entry.get("strong") or (lemma[:-1] if lemma[-2] in VOWELS else weak)
        # ui-da, syö-dä and contracted avaa- already end long
        short = strong[-1] != strong[-2] and ("strong" in entry or lemma[-2] != "d")
        third = entry.get("third") or (strong + strong[-1] * short, strong + harmony(lemma, "vat"))
        return cls(weak, strong, analogy(strong, strong_past, weak), strong_past, participle, tuple(third))

    def form(self, person: int, plural: bool, past: bool) -> str:
        """The finite form of a person in the present or past indicative."""
        if person == 3:
            if not past:
                return self.third[plural]
            return self.strong_past + (harmony(self.participle, "vat") if plural else "")
        stem = self.weak_past if past else self.weak
        return stem + ENDINGS["pl" if plural else "sg"][person - 1]

    def connegative(self, plural: bool, past: bool) -> str:
        """What follows the negative verb: nuku, nukkunut, nukkuneet."""
        if not past:
            return self.weak
        return self.participle[:-2] + "eet" if plural else self.participle


class Finnish(Language):
    """Finnish: object cases, numerals with a singular, possessive suffix, negative verb, cases of motion."""

    def noun(self, entry: Entry, f: Features) -> str:
        """The noun in case and number, with -ni for "my"."""
        nominal = Nominal.of(entry)
        return (nominal.with_my if f.determiner == "my" else nominal.form)(f.case, f.number == "pl")

    def adjective(self, entry: Entry, f: Features) -> str:
        """The adjective in case and number."""
        return Nominal.of(entry).form(f.case, f.number == "pl")

    def determiner(self, kind: str, f: Features) -> str:
        """Inflected eräs, tämä, kaksi, viisi; minun, which a subject "I" makes redundant: söin omenani."""
        if kind == "the" or (kind == "my" and f.reflexive):
            return ""
        entry = self.lexicon.determiners[kind]
        if kind == "my":
            return entry["lemma"]
        if kind in NUMERALS:
            numeral = Nominal.of(entry)
            return numeral.form("nominative" if f.case == "accusative" else f.case, plural=False)
        if kind == "this":
            total = {"sg": "genitive", "pl": "nominative"}[f.number]
            return entry[f.number][total if f.case == "accusative" else f.case]
        return Nominal.of(entry).form(f.case, f.number == "pl")

    def verb(self, entry: Entry, f: Features) -> VerbGroup:
        """The finite form, or the negative verb and the connegative; the future is the present."""
        verb, plural, past = Conjugation.of(entry), f.number == "pl", f.tense == "past"
        if f.negative:
            return VerbGroup(NEGATIVE[f.number, f.person], (verb.connegative(plural, past),))
        return VerbGroup(verb.form(f.person, plural, past))

    def quantified(self, f: Features) -> Features:
        """After a numeral the singular: the partitive in the direct cases, else the numeral's own case."""
        direct = f.case in ("nominative", "accusative")
        return replace(f, number="sg", case="partitive" if direct else f.case)

    def controller(self, s: Setting) -> Features:
        """A numeral as the subject takes a verb in the singular: kaksi kissaa nukkuu."""
        f = super().controller(s)
        return replace(f, number="sg") if f.determiner in NUMERALS else f

    def marking(self, role: str, s: Setting) -> tuple[str, str]:
        """Case and adposition; those of a place depend on the verb as well."""
        if role == "place":
            relation = self.relation(s)
            return relation["case"], relation["lemma"]
        return super().marking(role, s)

    def place(self, s: Setting) -> list[Word]:
        """The place phrase, in the cases of motion after verbs that ask for them: unohdin kirjan kouluun."""
        assert s.clause.place is not None
        return self.noun_phrase(s.clause.place[1], "place", s, self.relation(s))

    def relation(self, s: Setting) -> Mapping[str, Any]:
        """The entry of the clause's relation, as the verb wants it: in, from or to."""
        assert s.clause.place is not None
        entry = self.lexicon.relations[s.clause.place[0]]
        return {**entry, **entry.get(self.lexicon.verbs[s.clause.verb].get("place", ""), {})}

    def words(self, meaning: Meaning, override: Any = None) -> list[Word]:
        """As in the base class; clauses that share an unsaid subject have no comma before ja."""
        words = super().words(meaning, override)
        subjects = {c.subject.concept for c in meaning.clauses}
        if meaning.connective == "and" and len(subjects) == 1 and self.drops(*subjects):
            return [w for w in words if w.pos != "PUNCT"]
        return words

    def contract(self, words: list[str]) -> list[str]:
        """The conjunction ja joins the negative verb: ja en -> enkä."""
        out = list(words)
        for i, pair in enumerate(pairwise(words)):
            if pair[0] == "ja" and pair[1] in NEGATIVE_AND:
                out[i : i + 2] = [NEGATIVE_AND[pair[1]], ""]
        return out
