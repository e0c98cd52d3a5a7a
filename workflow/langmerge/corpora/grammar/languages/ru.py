"""Russian: six cases, animacy, numerals that govern the noun, aspect, gender in the past, zero copula.

Forms follow Zaliznyak's grammatical dictionary and the Academy grammar (Русская грамматика, 1980). Cases are
nom, gen, dat, acc, ins and loc (the prepositional, or the second locative where a noun has one: в саду).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from langmerge.corpora.grammar.language import Entry, Features, Language, Setting, VerbGroup, Word
from langmerge.corpora.grammar.meaning import FREQUENCY, NUMERALS, NounPhrase

VELAR, HUSHING = "гкх", "жшщч"
PLURAL_CASES = ("nom", "gen", "dat", "ins", "loc")
PERSONS = {("sg", 1): 0, ("sg", 2): 1, ("sg", 3): 2, ("pl", 1): 3, ("pl", 2): 4, ("pl", 3): 5}
WILL_BE = ("буду", "будешь", "будет", "будем", "будете", "будут")

# Adjectives: endings by column and case; the accusative is the nominative or, if animate, the genitive.
HARD = {
    "m": {"nom": "ый", "gen": "ого", "dat": "ому", "ins": "ым", "loc": "ом"},
    "n": {"nom": "ое", "gen": "ого", "dat": "ому", "ins": "ым", "loc": "ом"},
    "f": {"nom": "ая", "gen": "ой", "dat": "ой", "acc": "ую", "ins": "ой", "loc": "ой"},
    "pl": {"nom": "ые", "gen": "ых", "dat": "ым", "ins": "ыми", "loc": "ых"},
}
TO_SOFT = {"ы": "и", "о": "е", "а": "я", "у": "ю"}
# Determiners: "this" and "one" share endings, "my" and "own" theirs.
THIS = {
    "m": {"gen": "ого", "dat": "ому", "ins": "им", "loc": "ом"},
    "f": {"gen": "ой", "dat": "ой", "acc": "у", "ins": "ой", "loc": "ой"},
    "pl": {"gen": "их", "dat": "им", "ins": "ими", "loc": "их"},
}
MY = {
    "m": {"gen": "его", "dat": "ему", "ins": "им", "loc": "ём"},
    "f": {"gen": "ей", "dat": "ей", "acc": "ю", "ins": "ей", "loc": "ей"},
    "pl": {"gen": "их", "dat": "им", "ins": "ими", "loc": "их"},
}
STEMS = {"this": ("эт", THIS), "a": ("одн", THIS), "my": ("мо", MY), "own": ("сво", MY)}
NOMINATIVES = {
    "this": {"m": "этот", "f": "эта", "n": "это", "pl": "эти"},
    "a": {"m": "один", "f": "одна", "n": "одно", "pl": "одни"},
    "my": {"m": "мой", "f": "моя", "n": "моё", "pl": "мои"},
    "own": {"m": "свой", "f": "своя", "n": "своё", "pl": "свои"},
}
SOME: Entry = {"lemma": "некоторый"}
COUNTS = {
    "two": {"nom": "два", "gen": "двух", "dat": "двум", "ins": "двумя", "loc": "двух"},
    "five": {"nom": "пять", "gen": "пяти", "dat": "пяти", "ins": "пятью", "loc": "пяти"},
}


def column(f: Features) -> str:
    """The column of the tables: a gender or the plural."""
    return "pl" if f.number == "pl" else f.gender


def resolve_accusative(f: Features) -> str:
    """The case whose form the accusative borrows (masculine, neuter and plural); other cases stay."""
    if f.case != "acc":
        return f.case
    return "gen" if f.animate and column(f) != "n" else "nom"


# -- nouns ----------------------------------------------------------------------------------------------


def join(stem: str, ending: str) -> str:
    """Stem and ending under the spelling rules: и, а for ы, я after velars and hushing consonants."""
    if stem[-1] in VELAR + HUSHING and ending.startswith("ы"):
        ending = "и" + ending[1:]
    if stem[-1] in HUSHING and ending.startswith("я"):
        ending = "а" + ending[1:]
    return stem + ending


def declension(entry: Entry) -> str:
    """The declension by the lemma's end: "a" (книга), "third" (мышь), "m" (стол, конь), "n" (окно)."""
    last = entry["lemma"][-1]
    if last in "ая":
        return "a"
    if last in "ое":
        return "n"
    return "third" if entry["gender"] == "f" else "m"


def noun_stem(entry: Entry) -> str:
    """The stem of the oblique cases: the lemma without its last vowel, й or ь, or the written-out stem."""
    lemma: str = entry["lemma"]
    return entry.get("stem") or (lemma[:-1] if lemma[-1] in "аяоейь" else lemma)


def soft(entry: Entry) -> bool:
    """Whether the endings are those of the soft declension."""
    return entry["lemma"][-1] in "яейь"


def instrumental_o(entry: Entry, stem: str) -> str:
    """The vowel of -ом/-ой: ё or е if soft, е if unstressed after a hushing consonant or ц, else о."""
    stressed = bool(entry.get("stressed"))
    if soft(entry):
        return "ё" if stressed else "е"
    return "е" if stem[-1] in HUSHING + "ц" and not stressed else "о"


def singular(entry: Entry, case: str) -> str:
    """A singular form; the accusative only of nouns in -а and -я, which have one of their own."""
    stem, is_soft, kind = noun_stem(entry), soft(entry), declension(entry)
    if case == "nom":
        return entry["lemma"]
    if kind == "third":
        return stem + ("ью" if case == "ins" else "и")
    vowel = instrumental_o(entry, stem)
    loc = "и" if stem.endswith("и") else "е"
    if kind == "a":
        endings = {
            "gen": "и" if is_soft else "ы",
            "dat": loc,
            "acc": "ю" if is_soft else "у",
            "ins": vowel + "й",
        }
    else:
        endings = {"gen": "я" if is_soft else "а", "dat": "ю" if is_soft else "у", "ins": vowel + "м"}
    return join(stem, endings.get(case, loc))


def genitive_plural(entry: Entry, stem: str) -> str:
    """The regular genitive plural: столов, ножей, гостей, музеев, книг, змей, мышей, мнений."""
    kind, last = declension(entry), entry["lemma"][-1]
    if kind == "third" or (kind == "m" and (last == "ь" or last in HUSHING)):
        return stem + "ей"
    if kind == "m":
        return stem + ("ев" if last == "й" else "ов")
    return stem + ("й" if stem[-1] in "аеи" else "")


def plural(entry: Entry, case: str) -> str:
    """A plural form in any case but the accusative."""
    if "plural" in entry:
        return entry["plural"][PLURAL_CASES.index(case)]
    stem = entry.get("plural_stem") or noun_stem(entry)
    kind, is_soft = declension(entry), soft(entry)
    if case == "gen":
        return genitive_plural(entry, stem)
    if case == "nom":
        return join(stem, ("я" if is_soft else "а") if kind == "n" else ("и" if is_soft else "ы"))
    return join(stem, ("я" if is_soft else "а") + {"dat": "м", "ins": "ми", "loc": "х"}[case])


def decline_noun(entry: Entry, f: Features) -> str:
    """Number and case of a noun; irregular forms ("gen_pl") come first."""
    case = f.case
    own_accusative = f.number == "sg" and declension(entry) == "a"
    if case == "acc" and not own_accusative:
        third = f.number == "sg" and declension(entry) == "third"
        case = "nom" if third else resolve_accusative(f)
    if f"{case}_{f.number}" in entry:
        return entry[f"{case}_{f.number}"]
    return singular(entry, case) if f.number == "sg" else plural(entry, case)


# -- adjectives, determiners, numerals ------------------------------------------------------------------


def decline_adjective(entry: Entry, f: Features) -> str:
    """The long form: hard (новый), soft (синий), after velars (маленький) and hushing consonants (свежий)."""
    lemma: str = entry["lemma"]
    stem, at = lemma[:-2], column(f)
    case = f.case if at == "f" else resolve_accusative(f)
    if (at, case) == ("m", "nom"):
        return lemma
    ending = HARD[at][case]
    if lemma.endswith("ний"):
        return stem + TO_SOFT[ending[0]] + ending[1:]
    if stem[-1] in HUSHING and lemma.endswith("ий") and ending.startswith("о"):
        ending = "е" + ending[1:]
    return stem + ("и" + ending[1:] if stem[-1] in VELAR + HUSHING and ending.startswith("ы") else ending)


def decline_determiner(kind: str, f: Features) -> str:
    """этот, один (plural некоторые), мой, свой, and the numerals два, пять; "" for "the"."""
    at = column(f)
    if kind in COUNTS:
        case = f.case
        if case == "acc":
            case = "gen" if kind == "two" and f.animate else "nom"
        return "две" if (kind, case, f.gender) == ("two", "nom", "f") else COUNTS[kind][case]
    if kind == "the":
        return ""
    if (kind, at) == ("a", "pl"):
        return decline_adjective(SOME, f)
    case = f.case if at == "f" else resolve_accusative(f)
    if case == "nom":
        return NOMINATIVES[kind][at]
    stem, endings = STEMS[kind]
    return stem + endings["m" if at == "n" else at][case]


def counted(f: Features, part: str) -> Features:
    """The features of noun or adjective after a numeral.

    In the nominative and inanimate accusative two takes the genitive singular of the noun with the adjective
    in the genitive plural (feminine: nominative plural), five the genitive plural of both. In the other cases,
    and in the animate accusative of two, numeral and noun agree.
    """
    if f.determiner not in NUMERALS:
        return f
    two = f.determiner == "two"
    if not (f.case == "nom" or (f.case == "acc" and not (two and f.animate))):
        return f
    if part == "noun":
        return replace(f, case="gen", number="sg" if two else "pl")
    return replace(f, case="nom" if two and f.gender == "f" else "gen")


# -- verbs ----------------------------------------------------------------------------------------------


def nonpast(entry: Entry) -> tuple[str, ...]:
    """The six forms, я to они, of the present (imperfective) or future (perfective).

    Written out (`sg`, `pl`); or from the forms of я and ты; or, without these, as of verbs in -ать and -ять
    (-аю) and -овать (-ую).
    """
    if "sg" in entry:
        return (*entry["sg"], *entry["pl"])
    lemma = entry["lemma"].removesuffix("ся")
    reflexive = lemma != entry["lemma"]
    if "forms" in entry:
        first, second = (re.sub("(ся|сь)$", "", form) if reflexive else form for form in entry["forms"])
    else:
        stem = lemma[:-5] + "у" if lemma.endswith("овать") else lemma[:-2]
        first, second = stem + "ю", stem + "ешь"
    base = second[:-2]
    third = first + "т"
    if base.endswith("и"):
        third = base[:-1] + ("ат" if base[-2] in HUSHING else "ят")
    forms = (first, second, base + "т", base + "м", base + "те", third)
    return tuple(reflect(form) for form in forms) if reflexive else forms


def reflect(form: str) -> str:
    """The reflexive form: сь after a vowel, else ся."""
    return form + ("сь" if form[-1] in "аеёиоуыэюя" else "ся")


def past(entry: Entry, at: str) -> str:
    """The past in a column: спал, спала, спало, спали."""
    lemma = entry["lemma"].removesuffix("ся")
    masculine, feminine = entry.get("past") or (lemma[:-2] + "л", lemma[:-2] + "ла")
    form = masculine if at == "m" else feminine[:-1] + {"f": "а", "n": "о", "pl": "и"}[at]
    return reflect(form) if entry["lemma"].endswith("ся") else form


class Russian(Language):
    """Russian: aspect by tense and adverb, the genitive of negation in "X is not in the garden"."""

    def noun(self, entry: Entry, f: Features) -> str:
        """Number, case and what a numeral asks for."""
        return decline_noun(entry, counted(f, "noun"))

    def adjective(self, entry: Entry, f: Features) -> str:
        """The long form; in the predicate the short one where Russian prefers it."""
        if f.position == "attributive":
            return decline_adjective(entry, counted(f, "adjective"))
        if "short" in entry:
            return entry["short"][("m", "f", "n", "pl").index(column(f))]
        return decline_adjective(entry, f)

    def determiner(self, kind: str, f: Features) -> str:
        """Gender, number, case; свой where the owner is the subject."""
        return decline_determiner("own" if kind == "my" and f.reflexive else kind, f)

    def verb(self, entry: Entry, f: Features) -> VerbGroup:
        """Past by gender, present, future: of perfectives simple, of imperfectives with буду."""
        at = PERSONS[f.number, f.person]
        if f.tense == "past":
            return VerbGroup(past(entry, column(f)))
        be = entry["lemma"] == "быть"
        if f.tense == "future" and not entry.get("is_perfective"):
            return VerbGroup(WILL_BE[at], () if be else (entry["lemma"],))
        return VerbGroup("" if be else nonpast(entry)[at])

    def verb_entry(self, s: Setting) -> Entry:
        """The perfective partner for single events in past and future."""
        entry, c = super().verb_entry(s), s.clause
        if c.tense == "present" or c.manner in FREQUENCY or "perfective" not in entry:
            return entry
        return {**entry["perfective"], "concept": entry["concept"], "is_perfective": True}

    def absent(self, s: Setting) -> bool:
        """Whether the clause denies that something is somewhere: кошки нет (не было, не будет) в саду."""
        return s.clause.verb == "be" and s.clause.place is not None and s.clause.negative

    def marking(self, role: str, s: Setting) -> tuple[str, str]:
        """The subject of such a clause is in the genitive."""
        return ("gen", "") if role == "subject" and self.absent(s) else super().marking(role, s)

    def phrase_features(self, np: NounPhrase, role: str, s: Setting) -> Features:
        """Without a nominative subject свой has no antecedent: меня нет в моём саду."""
        f = super().phrase_features(np, role, s)
        return replace(f, reflexive=False) if self.absent(s) else f

    def controller(self, s: Setting) -> Features:
        """The verb of such a clause is impersonal."""
        return Features(gender="n") if self.absent(s) else super().controller(s)

    def negation(self, s: Setting) -> list[Word]:
        """не, or нет in place of the missing copula."""
        words = super().negation(s)
        return [w._replace(text="нет") for w in words] if self.absent(s) and s.clause.tense == "present" else words

    def order(self, s: Setting, slots: Mapping[str, list[Word]]) -> list[str]:
        """Manner stands before the infinitive (будет быстро петь); negated, after the object (нашёл ключ не быстро)."""
        order = super().order(s, slots)
        if "manner" not in slots or not ("rest" in slots or s.clause.negative):
            return order
        moved = ["manner"] if "rest" in slots else ["negation", "manner"]
        order = [name for name in order if name not in moved]
        at = order.index("rest" if "rest" in slots else "place")
        return [*order[:at], *moved, *order[at:]]

    def contract(self, words: list[str]) -> list[str]:
        """в becomes во before в or ф and a consonant."""
        following = [*words[1:], ""]
        heavy = re.compile(r"[вф][^аеёиоуыэюя]")
        return ["во" if w == "в" and heavy.match(n) else w for w, n in zip(words, following, strict=True)]
