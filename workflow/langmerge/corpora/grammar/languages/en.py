"""English."""

from __future__ import annotations

import re
from collections.abc import Mapping

from langmerge.corpora.grammar.language import Entry, Features, Language, Setting, VerbGroup, Word

VOWELS = "aeiou"
# Words that start with a vowel sound: an honest, but a useful.
VOCALIC = re.compile("(?!us[ei]|uni|eu)[aeiou]|hon")
BE_PRESENT = {("sg", 1): "am", ("sg", 2): "are", ("sg", 3): "is"}


def plural(lemma: str) -> str:
    """The regular plural: s, es after a sibilant, ies for a consonant and y."""
    if lemma.endswith(("s", "x", "z", "ch", "sh")):
        return lemma + "es"
    if lemma.endswith("y") and lemma[-2] not in VOWELS:
        return lemma[:-1] + "ies"
    return lemma + "s"


def past(lemma: str) -> str:
    """The regular past: ed, d after e, ied for a consonant and y."""
    if lemma.endswith("e"):
        return lemma + "d"
    if lemma.endswith("y") and lemma[-2] not in VOWELS:
        return lemma[:-1] + "ied"
    return lemma + "ed"


class English(Language):
    """English: irregular plurals and pasts from the lexicon, do-support under negation."""

    def noun(self, entry: Entry, f: Features) -> str:
        """Singular or plural."""
        return entry["lemma"] if f.number == "sg" else entry.get("plural") or plural(entry["lemma"])

    def verb(self, entry: Entry, f: Features) -> VerbGroup:
        """Simple present and past, "will" in the future, "do" under negation."""
        lemma = entry["lemma"]
        if f.tense == "future":
            return VerbGroup("will", (lemma,))
        third = f.number == "sg" and f.person == 3
        if lemma == "be":
            singular = f.number == "sg" and f.person != 2
            return VerbGroup(
                BE_PRESENT.get((f.number, f.person), "are") if f.tense == "present" else ("was" if singular else "were")
            )
        if f.negative:
            return VerbGroup("did" if f.tense == "past" else "does" if third else "do", (lemma,))
        if f.tense == "past":
            return VerbGroup(entry.get("past") or past(lemma))
        return VerbGroup(plural(lemma) if third else lemma)

    def order(self, s: Setting, slots: Mapping[str, list[Word]]) -> list[str]:
        """Adverbs of frequency stand before a full verb, but after "be" and auxiliaries and their "not"."""
        order = super().order(s, slots)
        if s.clause.verb != "be" and "rest" not in slots:
            return order
        order = [name for name in order if name != "frequency"]
        at = order.index("negation") + 1
        return [*order[:at], "frequency", *order[at:]]

    def contract(self, words: list[str]) -> list[str]:
        """ "a" before a vowel is "an"."""
        following = [*words[1:], ""]
        return ["an" if w == "a" and VOCALIC.match(n) else w for w, n in zip(words, following, strict=True)]
