"""Spanish."""

from __future__ import annotations

import re
from itertools import pairwise

from langmerge.corpora.grammar.language import Entry, Features, Language, Setting, VerbGroup
from langmerge.corpora.grammar.meaning import FREQUENCY

VOWELS = "aeiouáéíóú"
PLAIN = str.maketrans("áéíóú", "aeiou")
ACUTE = str.maketrans("aeiou", "áéíóú")
PERSONS = (("sg", 1), ("sg", 2), ("sg", 3), ("pl", 1), ("pl", 3))
PRESENT = {
    "a": ("o", "as", "a", "amos", "an"),
    "e": ("o", "es", "e", "emos", "en"),
    "i": ("o", "es", "e", "imos", "en"),
}
PRETERITE = {
    "a": ("é", "aste", "ó", "amos", "aron"),
    "e": ("í", "iste", "ió", "imos", "ieron"),
    "i": ("í", "iste", "ió", "imos", "ieron"),
}
STRONG = ("e", "iste", "o", "imos", "ieron")
IMPERFECT = {"a": ("aba", "abas", "aba", "ábamos", "aban"), "e": ("ía", "ías", "ía", "íamos", "ían")}
FUTURE = ("é", "ás", "á", "emos", "án")
REFLEXIVE = ("me", "te", "se", "nos", "se")
# The vowel that each stem change replaces; in the third person of the preterite of -ir verbs o -> u, e -> i.
STEM_CHANGES = {"ue": "[ou]", "ie": "e", "i": "e"}
CONTRACTIONS = {("a", "el"): "al", ("de", "el"): "del"}


def plural(word: str) -> str:
    """The plural of a noun or adjective: gatos, reyes, nueces, leones (the accent is no longer needed)."""
    if word[-1] in "aeiouáéó":
        return word + "s"
    if word.endswith("z"):
        return word[:-1] + "ces"
    if re.search(r"[áéíóú][ns]$", word):
        return word[:-2] + word[-2:].translate(PLAIN) + "es"
    return word + "es"


def spell(stem: str, ending: str, conjugation: str) -> str:
    """Join a verb's stem and ending so that the stem keeps its sound: llegué, elijo, sigo, conozco, construyo."""
    front = ending[0] in "eéií"
    if conjugation == "a" and front:
        stem = re.sub("g$", "gu", re.sub("c$", "qu", re.sub("z$", "c", stem)))
    elif conjugation != "a" and not front:
        stem = re.sub(f"([{VOWELS}])c$", r"\1zc", stem)
        stem = stem[:-1] if stem.endswith("gu") else re.sub("g$", "j", stem)
    if stem.endswith("u") and not stem.endswith(("gu", "qu")) and ending[0] in "aeo":
        return stem + "y" + ending
    return stem + ending


def diphthong(stem: str, change: str) -> str:
    """The stressed stem: dorm -> duerm, jug -> jueg, perd -> pierd, eleg -> elig."""
    return re.sub(f"{STEM_CHANGES[change]}([^{VOWELS}]+u?)$", rf"{change}\1", stem) if change else stem


def present(entry: Entry) -> tuple[str, ...]:
    """The present tense: yo, tú, él, nosotros, ellos."""
    if "present" in entry:
        return tuple(entry["present"])
    stem, vowel = principal(entry)
    stressed = diphthong(stem, entry.get("stem_change", ""))
    if entry.get("accent"):
        stressed = stressed[:-1] + stressed[-1].translate(ACUTE)
    endings = enumerate(PRESENT[vowel])
    forms = [spell(stem if person == 3 else stressed, ending, vowel) for person, ending in endings]
    return (entry.get("first", forms[0]), *forms[1:])


def preterite(entry: Entry) -> tuple[str, ...]:
    """The simple past (indefinido): yo, tú, él, nosotros, ellos."""
    if "preterite" in entry:
        return tuple(entry["preterite"])
    if "strong" in entry:
        stem = entry["strong"]
        return tuple(stem + (e[1:] if stem.endswith("j") and e == "ieron" else e) for e in STRONG)
    stem, vowel = principal(entry)
    raised = stem
    if vowel == "i" and entry.get("stem_change"):
        raised = diphthong(stem, "i") if "e" in stem else re.sub(f"o([^{VOWELS}]+)$", r"u\1", stem)
    hiatus = stem[-1] in "aeou" and not stem.endswith("gu")
    forms = []
    for person, ending in enumerate(PRETERITE[vowel]):
        if hiatus and vowel != "a":
            third = person in (2, 4)
            accented = stem[-1] != "u" and ending[0] == "i"
            forms.append(stem + ("y" + ending[1:] if third else ("í" if accented else ending[0]) + ending[1:]))
        else:
            forms.append(spell(raised if person in (2, 4) else stem, ending, vowel))
    return tuple(forms)


def imperfect(entry: Entry) -> tuple[str, ...]:
    """The imperfect: yo, tú, él, nosotros, ellos."""
    stem, vowel = principal(entry)
    return tuple(entry.get("imperfect") or (stem + e for e in IMPERFECT["a" if vowel == "a" else "e"]))


def future(entry: Entry) -> tuple[str, ...]:
    """The future: the infinitive (without accent) and an ending."""
    return tuple(infinitive(entry).translate(PLAIN) + e for e in FUTURE)


def infinitive(entry: Entry) -> str:
    """The verb of a lemma that may hold more words: dar las gracias -> dar."""
    return entry["lemma"].split()[0]


def principal(entry: Entry) -> tuple[str, str]:
    """Stem and vowel of the conjugation: dormir -> dorm, i."""
    verb = infinitive(entry).translate(PLAIN)
    return infinitive(entry)[:-2], verb[-2]


class Spanish(Language):
    """Spanish: gender, two copulas, personal "a", subjects dropped when they are pronouns."""

    def noun(self, entry: Entry, f: Features) -> str:
        """Singular or plural."""
        return entry["lemma"] if f.number == "sg" else entry.get("plural") or plural(entry["lemma"])

    def adjective(self, entry: Entry, f: Features) -> str:
        """Agrees in number, and in gender if the lemma ends in -o; short before a masculine singular noun."""
        if "short" in entry and f.position == "attributive" and (f.gender, f.number) == ("m", "sg"):
            return entry["short"]
        word = entry["lemma"]
        if f.gender == "f" and word.endswith("o"):
            word = word[:-1] + "a"
        return word if f.number == "sg" else entry.get("plural") or plural(word)

    def verb(self, entry: Entry, f: Features) -> VerbGroup:
        """Present, indefinido (imperfect for states) or future, with the reflexive pronoun if there is one."""
        person = PERSONS.index((f.number, f.person))
        past = imperfect if entry.get("past") == "imperfect" else preterite
        form = {"present": present, "past": past, "future": future}[f.tense](entry)[person]
        if entry.get("reflexive"):
            form = f"{REFLEXIVE[person]} {form}"
        return VerbGroup(form, tuple(entry["lemma"].split()[1:]), main=0)

    def verb_entry(self, s: Setting) -> Entry:
        """What often or always happened stands in the imperfect."""
        entry = super().verb_entry(s)
        return {**entry, "past": "imperfect"} if s.clause.manner in FREQUENCY else entry

    def contract(self, words: list[str]) -> list[str]:
        """a + el = al, de + el = del; "y" before an i sound is "e"."""
        out = list(words)
        for i, (word, following) in enumerate(pairwise(words)):
            fused = CONTRACTIONS.get((word, following))
            if fused:
                out[i : i + 2] = [fused, ""]
            elif word == "y" and re.match("h?[ií](?!e)", following):
                out[i] = "e"
        return out
