"""Italian: gender and number, articles by the following sound, articulated prepositions, passato prossimo.

Regular forms follow the standard school grammar; irregular ones come from `it.yaml`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

from langmerge.corpora.grammar.language import Entry, Features, Language, Setting, VerbGroup, Word
from langmerge.corpora.grammar.meaning import NounPhrase

VOWELS = "aàeèéiìoòuù"
# lo, uno, begli: before s + consonant, z, gn, ps, pn, x, y and i + vowel
IMPURE = re.compile(rf"s[^{VOWELS}]|z|gn|ps|pn|x|y|i[{VOWELS}]")
ENDINGS = {
    "are": ("o", "i", "a", "iamo", "ate", "ano"),
    "ere": ("o", "i", "e", "iamo", "ete", "ono"),
    "ire": ("o", "i", "e", "iamo", "ite", "ono"),
    "isc": ("isco", "isci", "isce", "iamo", "ite", "iscono"),
}
FUTURE_ENDINGS = ("ò", "ai", "à", "emo", "ete", "anno")
IMPERFECT_ENDINGS = ("vo", "vi", "va", "vamo", "vate", "vano")
AVERE = ("ho", "hai", "ha", "abbiamo", "avete", "hanno")
ESSERE = ("sono", "sei", "è", "siamo", "siete", "sono")
REFLEXIVE = ("mi", "ti", "si", "ci", "vi", "si")
# form before a consonant: (before a vowel, before an impure consonant)
SANDHI = {
    "il": ("l'", "lo"), "la": ("l'", "la"), "i": ("gli", "gli"), "un": ("un", "uno"), "una": ("un'", "una"),
    "questo": ("quest'", "questo"), "questa": ("quest'", "questa"),
    "bel": ("bell'", "bello"), "bei": ("begli", "begli"), "buon": ("buon", "buono"),
}  # fmt: skip
SHORT = {"bello": "bel", "belli": "bei", "buono": "buon"}  # adjectives before a noun
ARTICLES = {"il": "l", "lo": "llo", "l'": "ll'", "la": "lla", "i": "i", "gli": "gli", "le": "lle"}
PREPOSITIONS = {"in": "ne", "a": "a"}


def vocalic(word: str) -> bool:
    """Whether a word starts with a vowel."""
    return word[:1].lower() in VOWELS


def impure(word: str) -> bool:
    """Whether a masculine word takes lo and uno: studente, specchio, zaino, gnomo."""
    return IMPURE.match(word.lower()) is not None


def plural(word: str, gender: str) -> str:
    """The regular plural of a noun or adjective: gatti, parchi, amiche, arance, camicie, città."""
    stem, ending = word[:-1], word[-1]
    if ending == "a" and gender == "m":
        return stem + "i"
    if ending == "a":
        if stem.endswith(("c", "g")):
            return stem + "he"
        return stem[:-1] + "e" if re.search(rf"[^{VOWELS}][cg]i$", stem) else stem + "e"
    if ending == "o":
        if stem.endswith("i"):
            return stem
        return stem + "hi" if stem.endswith(("c", "g")) else stem + "i"
    return stem + "i" if ending == "e" else word


def present(entry: Entry) -> tuple[str, ...]:
    """The six forms of the present tense, io to loro: those written out, or the regular ones.

    Verbs in -care and -gare take an h before i (dimentichi); those in -iare lose one i of two (mangi).
    """
    if "present" in entry:
        return tuple(entry["present"])
    lemma = entry["lemma"]
    stem, conjugation = lemma[:-3], "isc" if entry.get("isc") else lemma[-3:]
    return tuple(_join(stem, ending, conjugation) for ending in ENDINGS[conjugation])


def _join(stem: str, ending: str, conjugation: str) -> str:
    """Put an ending on a stem, keeping the sound of c and g and avoiding ii."""
    if conjugation == "are" and ending.startswith(("i", "e")):
        if stem.endswith(("c", "g")):
            return stem + "h" + ending
        if stem.endswith("i"):
            return stem[:-1] + ending if ending[0] == "i" or stem[-2] in "cg" else stem + ending
    return stem + ending


def future(entry: Entry) -> tuple[str, ...]:
    """The six forms of the future: amerò, venderò, dormirò, dimenticherò, mangerò, vedrò (`future: vedr`)."""
    lemma = entry["lemma"]
    stem = entry.get("future") or (_join(lemma[:-3], "er", "are") if lemma.endswith("are") else lemma[:-1])
    return tuple(stem + ending for ending in FUTURE_ENDINGS)


def imperfect(entry: Entry) -> tuple[str, ...]:
    """The six forms of the imperfetto: amavo, conoscevo, dormivo, or those written out."""
    if "imperfect" in entry:
        return tuple(entry["imperfect"])
    return tuple(entry["lemma"][:-2] + ending for ending in IMPERFECT_ENDINGS)


def participle(entry: Entry) -> str:
    """The masculine singular past participle: amato, venduto, dormito, or the one written out."""
    lemma = entry["lemma"]
    return entry.get("participle") or lemma[:-3] + {"are": "ato", "ere": "uto", "ire": "ito"}[lemma[-3:]]


def agree(word: str, gender: str, number: str) -> str:
    """An adjective or participle in -o (four forms) or -e (two forms): rosso -> rosse, verde -> verdi."""
    base = word[:-1] + "a" if gender == "f" and word.endswith("o") else word
    return plural(base, gender) if number == "pl" else base


def before(word: str, following: str) -> str:
    """The form of an article, questo, bello or buono before a word: lo studente, bell'albero."""
    word = SHORT.get(word, word)
    vowel, hard = SANDHI.get(word, (word, word))
    return vowel if vocalic(following) else hard if impure(following) else word


class Italian(Language):
    """Italian: essere or avere with agreement, article and possessive, forms by the following sound."""

    def noun(self, entry: Entry, f: Features) -> str:
        """Singular or plural."""
        lemma = entry["lemma"]
        return lemma if f.number == "sg" else entry.get("plural") or plural(lemma, entry["gender"])

    def adjective(self, entry: Entry, f: Features) -> str:
        """Agrees in gender and number, unless invariable."""
        if entry.get("invariable"):
            return entry["lemma"]
        if "plural" in entry and (f.gender, f.number) == ("m", "pl"):
            return entry["plural"]
        return agree(entry["lemma"], f.gender, f.number)

    def verb(self, entry: Entry, f: Features) -> VerbGroup:
        """Present, future and passato prossimo (imperfetto where the entry says so), with its pronoun."""
        person = f.person - 1 + 3 * (f.number == "pl")
        noun = (entry["with"],) if "with" in entry else ()
        pronoun = REFLEXIVE[person] + " " if entry.get("reflexive") else ""
        if f.tense == "past" and entry.get("past") != "imperfect":
            with_essere = entry.get("reflexive") or entry.get("auxiliary") == "essere"
            done = participle(entry)
            if with_essere:
                done = agree(done, f.gender, f.number)
            auxiliary = (ESSERE if with_essere else AVERE)[person]
            return VerbGroup(pronoun + auxiliary, (done, *noun), main=1)
        forms = {"past": imperfect, "present": present, "future": future}[f.tense](entry)
        return VerbGroup(pronoun + forms[person], noun, main=0)

    def subject(self, s: Setting) -> list[Word]:
        """`loro` is said in "loro sono nel giardino", which would else be "I am in the garden"."""
        c = s.clause
        if c.subject.concept == "they" and c.tense == "present" and c.verb == "be" and not c.predicate:
            f = self.phrase_features(c.subject, "subject", s)
            return [Word(self.pronoun("they", f), "subject", "they", "PRON", f, s.index)]
        return super().subject(s)

    def phrase_features(self, np: NounPhrase, role: str, s: Setting) -> Features:
        """As usual, with the gender that some nouns change in the plural: l'uovo fresco, le uova fresche."""
        f = super().phrase_features(np, role, s)
        if np.pronoun or f.number == "sg":
            return f
        return replace(f, gender=self.lexicon.nouns[np.concept].get("plural_gender", f.gender))

    def determiner_words(self, np: NounPhrase, role: str, s: Setting, f: Features) -> list[Word]:
        """A possessive has no article before a single relative that no adjective describes: mio padre."""
        words = super().determiner_words(np, role, s, f)
        kin = np.determiner == "my" and not np.adjective and self.lexicon.nouns[np.concept].get("kin")
        if words and kin and words[0].features.number == "sg":
            return [words[0]._replace(text=words[0].text.split()[-1])]
        return words

    def noun_phrase(self, np: NounPhrase, role: str, s: Setting, relation: Entry | None = None) -> list[Word]:
        """As usual, with articles, questo, bello and buono as the sound of the next word wants them."""
        words = super().noun_phrase(np, role, s, relation)
        for i, (word, following) in enumerate(pairwise(words)):
            if word.pos in ("DET", "ADJ"):
                words[i] = word._replace(text=before(word.text, following.text))
        return words

    def contract(self, words: list[str]) -> list[str]:
        """in and a fuse with the article (nel, allo); `a` and `e` are ad and ed before their own vowel."""
        texts = list(words)
        for i, (word, following) in enumerate(pairwise(words)):
            if word in PREPOSITIONS and following in ARTICLES:
                texts[i : i + 2] = [PREPOSITIONS[word] + ARTICLES[following], ""]
            elif (word == "a" and following[:1] == "a") or (word == "e" and following[:1] in ("e", "è")):
                texts[i] = word + "d"
        return texts
