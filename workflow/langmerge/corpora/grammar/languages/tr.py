"""Turkish: agglutinative, vowel harmony, verb-final; the subject pronoun is in the ending of the verb.

Conventions of this corpus. The present is -(I)yor, the past -DI (of states -(I)yordu), the future -(y)AcAK. Plural
noun subjects take a singular verb, `they` a plural one. "My" is the suffix -(I)m alone. An object after "a", "two" or
"five" is bare unless the verb wants a specific one (`object: accusative`). "A big cat" is büyük bir kedi.

Suffixes are written as in grammars: A is a or e, I is ı i u or ü, D is d or t, and a letter in parentheses appears
only between two vowels (a consonant) or between two consonants (a vowel).
Further reading: Göksel and Kerslake, Turkish: A Comprehensive Grammar (2005).
"""

from __future__ import annotations

from dataclasses import replace

from langmerge.corpora.grammar.language import Entry, Features, Language, Setting, VerbGroup, Word
from langmerge.corpora.grammar.meaning import NounPhrase

_BACK, _FRONT = "aâıou", "eiöü"
VOWELS = _BACK + _FRONT
_HIGH = dict(zip(VOWELS, "ıııuuiiüü", strict=True))
_VOICELESS = "fstkçşhp"
_SOFT = {"p": "b", "ç": "c", "t": "d", "k": "ğ"}
CASES = {
    "": "",
    "nominative": "",
    "accusative": "(y)I",
    "dative": "(y)A",
    "locative": "DA",
    "ablative": "DAn",
    "genitive": "(n)In",
}
# Personal endings by (person, number): after the past, and after everything else.
_PAST = {(1, "sg"): "m", (2, "sg"): "n", (3, "sg"): "", (1, "pl"): "k", (2, "pl"): "nIz", (3, "pl"): "lAr"}
_PERSONAL = {
    (1, "sg"): "(y)Im",
    (2, "sg"): "sIn",
    (3, "sg"): "",
    (1, "pl"): "(y)Iz",
    (2, "pl"): "sInIz",
    (3, "pl"): "lAr",
}
_CLITIC = "="  # marks a copula that is written together with the word before it


def attach(stem: str, suffix: str, softens: bool = False, drops: bool = False) -> str:
    """`stem` with a suffix in harmony: ("kitap", "(y)I", softens) kitabı, ("şehir", "(y)I", drops) şehri."""
    if not suffix:
        return stem
    vowel_final = stem[-1] in VOWELS
    if suffix[0] == "(":
        buffer, suffix = suffix[1], suffix[3:]
        if (buffer == "I") != vowel_final:
            suffix = buffer + suffix
    if suffix[0] in "AI" and not vowel_final:
        stem = stem[:-2] + stem[-1] if drops else stem
        stem = stem[:-1] + _SOFT[stem[-1]] if softens else stem
    for letter in suffix:
        last = next(c for c in reversed(stem) if c in VOWELS)
        match letter:
            case "I":
                stem += _HIGH[last]
            case "A":
                stem += "a" if last in _BACK else "e"
            case "D":
                stem += "t" if stem[-1] in _VOICELESS else "d"
            case _:
                stem += letter
    return stem


def inflect(entry: Entry, case: str = "", plural: bool = False, mine: bool = False) -> str:
    """A noun with its suffixes in order: plural, "my", case (kedi-ler-im-i)."""
    head, _, stem = entry["lemma"].rpartition(" ")
    softens, drops = entry.get("softens", False), entry.get("drops", False)
    for suffix in (*(["lAr"] if plural else []), *(["(I)m"] if mine else []), CASES[case]):
        if suffix:
            stem = attach(stem, suffix, softens, drops)
            softens = drops = False
    return f"{head} {stem}".lstrip()


def conjugate(entry: Entry, tense: str, negative: bool = False, person: int = 3, number: str = "sg") -> str:
    """The finite form of a verb, without the noun of a compound (dans etmek: etti, ediyor, etmeyecek)."""
    stem = entry["lemma"].rpartition(" ")[2][:-3]
    softens, narrows = entry.get("softens", False), entry.get("narrows", False)
    if negative:
        stem, softens, narrows = attach(stem, "mA"), False, False
    state = tense == "past" and entry.get("state", False)
    if tense == "past" and not state:
        return attach(attach(stem, "DI"), _PAST[person, number])
    if narrows:
        stem = stem[:-1] + "i"
    if tense == "future":
        return attach(attach(stem, "(y)AcAk", softens), _PERSONAL[person, number], softens=True)
    if not narrows:  # the last vowel of the stem gives way to the one of -Iyor: bekle-, bekliyor
        stem = attach(stem.rstrip(VOWELS), "I", softens)
    stem += "yor"
    if state:  # "they" comes before the past here: tanıyorlardı
        return stem + "lardı" if (person, number) == (3, "pl") else attach(stem + "du", _PAST[person, number])
    return attach(stem, _PERSONAL[person, number])


def copula(tense: str, person: int, number: str) -> str:
    """The suffix of "be" after a predicate, in the present and past; "" in the third person present."""
    if tense == "past":
        return "(y)DI" + _PAST[person, number]
    return _PERSONAL[person, number]


class Turkish(Language):
    """Turkish: suffixes for case, "my", tense, person and "be"."""

    def noun(self, entry: Entry, f: Features) -> str:
        """Number, possession and case."""
        return inflect(entry, f.case, f.number == "pl", f.determiner == "my")

    def adjective(self, entry: Entry, f: Features) -> str:
        """Unchanged, but for the softening before the -(y)Im, -(y)Iz of a first person predicate (gencim)."""
        lemma = entry["lemma"]
        hosts = f.position == "predicative" and f.person == 1 and f.tense == "present" and not f.negative
        return lemma[:-1] + _SOFT[lemma[-1]] if hosts and entry.get("softens") else lemma

    def verb(self, entry: Entry, f: Features) -> VerbGroup:
        """The finite verb last; "be" is a suffix on the predicate or on değil, and olmak in the future."""
        if entry["concept"] == "be" and f.tense != "future":
            suffix = copula(f.tense, f.person, f.number)
            if f.negative:
                return VerbGroup(attach("değil", suffix))
            return VerbGroup(_CLITIC + suffix if suffix else "")
        noun = entry["lemma"].rpartition(" ")[0]
        finite = conjugate(entry, f.tense, f.negative, f.person, f.number)
        return VerbGroup(finite, (noun,) if noun else (), main=0)

    def controller(self, s: Setting) -> Features:
        """A noun in the plural takes a singular verb; only `they` is told by the verb."""
        f = super().controller(s)
        return f if s.clause.subject.pronoun else replace(f, number="sg")

    def nominal(self, np: NounPhrase, role: str, s: Setting, f: Features) -> list[Word]:
        """Adjective and noun, with bir between them."""
        words = super().nominal(np, role, s, f)
        return [*words[:-1], *super().determiner_words(np, role, s, f), words[-1]] if _single(np) else words

    def determiner_words(self, np: NounPhrase, role: str, s: Setting, f: Features) -> list[Word]:
        """The determiner before adjective and noun; bir is not among them."""
        return [] if _single(np) else super().determiner_words(np, role, s, f)

    def contract(self, words: list[str]) -> list[str]:
        """Write the copula together with the word before it: mutlu, =(y)DI: mutluydu."""
        texts = list(words)
        for i, word in enumerate(words):
            if i and word.startswith(_CLITIC):
                texts[i - 1 : i + 1] = [attach(words[i - 1], word[1:]), ""]
        return texts

    def capitalise(self, letter: str) -> str:
        """The capital of i is İ."""
        return "İ" if letter == "i" else letter.upper()


def _single(np: NounPhrase) -> bool:
    return np.determiner == "a" and np.number == "sg"
