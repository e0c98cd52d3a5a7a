"""German: gender, case, three adjective declensions, verb-second and verb-final clauses, separable verbs.

Forms and orders follow the Duden grammar (Die Grammatik, Duden vol. 4). Cases are nom, acc and dat; the corpus
has no genitive.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from langmerge.corpora.grammar.language import Entry, Features, Language, Setting, VerbGroup, Word
from langmerge.corpora.grammar.meaning import NounPhrase

# Endings by case, of the columns masculine, feminine, neuter and plural.
COLUMNS = "mfn"
STRONG = {"nom": ("er", "e", "es", "e"), "acc": ("en", "e", "es", "e"), "dat": ("em", "er", "em", "en")}
WEAK = {"nom": ("e", "e", "e", "en"), "acc": ("en", "e", "e", "en"), "dat": ("en", "en", "en", "en")}
ARTICLE = {
    "nom": ("der", "die", "das", "die"),
    "acc": ("den", "die", "das", "die"),
    "dat": ("dem", "der", "dem", "den"),
}
NUMERALS = {"two": "zwei", "five": "fünf"}

PERSONS = {("sg", 1): 0, ("sg", 2): 1, ("sg", 3): 2, ("pl", 1): 3, ("pl", 2): 4, ("pl", 3): 5}
WERDEN = ("werde", "wirst", "wird", "werden", "werdet", "werden")
SEIN = ("bin", "bist", "ist", "sind", "seid", "sind")
CONTRACTIONS = {("in", "dem"): "im", ("bei", "dem"): "beim"}
NEEDS_E = re.compile(r"([dt]|ch[nm]|[bfgkps][nm])$")  # arbeit-e-t, öffn-e-t, zeichn-e-t, but lernt, wohnt
SIBILANT = re.compile(r"[sßxz]$")


def column(f: Features) -> int:
    """The column of the tables of endings: masculine, feminine, neuter, plural."""
    return 3 if f.number == "pl" else COLUMNS.index(f.gender)


def decline_noun(entry: Entry, f: Features) -> str:
    """Number and case of a noun: weak nouns take the plural's form (den Bären), the dative plural an n."""
    if f.number == "sg":
        return entry["plural"] if entry.get("weak") and f.case != "nom" else entry["lemma"]
    plural: str = entry["plural"]
    return plural + "n" if f.case == "dat" and not plural.endswith(("n", "s")) else plural


def mixed(determiner: str, number: str) -> bool:
    """Whether a determiner inflects like "ein", which leaves some endings to the adjective."""
    return determiner in ("my", "no") or (determiner == "a" and number == "sg")


def decline_adjective(entry: Entry, f: Features) -> str:
    """The attributive form: weak after "der" and "dieser", mixed after "ein" and "mein", else strong."""
    stem, at = entry.get("stem", entry["lemma"]), column(f)
    if mixed(f.determiner, f.number):
        unmarked = f.number == "sg" and not ein_ending(f)
        return stem + (STRONG if unmarked else WEAK)[f.case][at]
    return stem + (WEAK if f.determiner in ("the", "this") else STRONG)[f.case][at]


def ein_ending(f: Features) -> str:
    """The ending of "ein": none in the masculine and neuter where dieser has -er and -es."""
    at = column(f)
    return "" if (f.case, at) in (("nom", 0), ("nom", 2), ("acc", 2)) else STRONG[f.case][at]


def decline_determiner(kind: str, f: Features) -> str:
    """The form of a determiner; "no" is kein."""
    at = column(f)
    match kind:
        case "the":
            return ARTICLE[f.case][at]
        case "this":
            return "dies" + STRONG[f.case][at]
        case "a" if f.number == "pl":
            return "einig" + STRONG[f.case][at]
        case "a" | "my" | "no":
            return {"a": "ein", "my": "mein", "no": "kein"}[kind] + ein_ending(f)
    return NUMERALS[kind]


def present(lemma: str, changed: str | None = None) -> tuple[str, ...]:
    """The six forms of the present, ich to sie; `changed` is the stem of du and er (schläf-)."""
    if lemma == "sein":
        return SEIN
    stem = lemma.removesuffix("n").removesuffix("e")
    first = stem[:-2] + "l" if lemma.endswith("eln") else stem
    link = "e" if NEEDS_E.search(stem) else ""
    second, second_link = (changed, "") if changed else (stem, link)
    du = second + second_link + ("t" if SIBILANT.search(second) else "st")
    er = second if changed and second.endswith("t") else second + second_link + "t"
    return first + "e", du, er, lemma, stem + link + "t", lemma


def past(lemma: str, strong: str | None = None) -> tuple[str, ...]:
    """The six forms of the past; `strong` is the irregular form of ich and er (schlief, brachte)."""
    stem = lemma.removesuffix("n").removesuffix("e")
    base = strong or stem + ("ete" if NEEDS_E.search(stem) else "te")
    link = "e" if SIBILANT.search(base) or base.endswith(("d", "t")) else ""
    plural = base + ("n" if base.endswith("e") else "en")
    return (
        base,
        base + link + "st",
        base,
        plural,
        base + ("t" if not base.endswith(("d", "t")) else "et"),
        plural,
    )


class German(Language):
    """German: order of the middle field and negation by definiteness, kein for negated indefinite objects."""

    def noun(self, entry: Entry, f: Features) -> str:
        """Number and case."""
        return decline_noun(entry, f)

    def adjective(self, entry: Entry, f: Features) -> str:
        """Declined before a noun, bare in the predicate."""
        return entry["lemma"] if f.position == "predicative" else decline_adjective(entry, f)

    def determiner(self, kind: str, f: Features) -> str:
        """Gender, number and case; numerals do not inflect."""
        return decline_determiner(kind, f)

    def verb(self, entry: Entry, f: Features) -> VerbGroup:
        """Present, Präteritum and werden with the infinitive; the prefix is split off in main clauses."""
        at = PERSONS[f.number, f.person]
        prefix = entry.get("prefix", "")
        if f.tense == "future":
            return VerbGroup(WERDEN[at], (entry["lemma"],))
        lemma = entry["lemma"].removeprefix(prefix)
        past_tense = f.tense == "past"
        finite = (past(lemma, entry.get("past")) if past_tense else present(lemma, entry.get("present")))[at]
        if prefix and not f.subordinate:
            return VerbGroup(finite, (prefix,), main=0)
        return VerbGroup(prefix + finite)

    def takes_kein(self, s: Setting) -> bool:
        """Whether "kein" at the object says the negation: not over an adverb ("nicht schnell ein Ei")."""
        c, np = s.clause, s.clause.object
        return c.negative and np is not None and (np.determiner, np.number) == ("a", "sg") and not c.manner

    def negation(self, s: Setting) -> list[Word]:
        """No "nicht" beside "kein"."""
        return [] if self.takes_kein(s) else super().negation(s)

    def determiner_words(self, np: NounPhrase, role: str, s: Setting, f: Features) -> list[Word]:
        """ "ein" becomes "kein" where that negates the clause; both decline alike."""
        if role == "object" and self.takes_kein(s):
            np = replace(np, determiner="no")
        return super().determiner_words(np, role, s, f)

    def order(self, s: Setting, slots: Mapping[str, list[Word]]) -> list[str]:
        """Indefinite objects follow the adverbials; "nicht" stands before an adverb of manner or before them."""
        order = super().order(s, slots)
        np = s.clause.object
        if np is None or self.early(np, s.clause.negative):
            return order
        late = ["object"] if "manner" in slots else ["negation", "object"]
        order = [name for name in order if name not in late]
        at = order.index("place") + 1
        return [*order[:at], *late, *order[at:]]

    @staticmethod
    def early(np: NounPhrase, negative: bool) -> bool:
        """Whether an object stands before the adverbials: definite ones, and "einige" outside a negation."""
        return np.determiner in ("the", "this", "my") or (negative and (np.determiner, np.number) == ("a", "pl"))

    def contract(self, words: list[str]) -> list[str]:
        """Fuse in dem and bei dem to im and beim."""
        out = list(words)
        for i, pair in enumerate(pairwise(words)):
            if pair in CONTRACTIONS:
                out[i : i + 2] = [CONTRACTIONS[pair], ""]
        return out
