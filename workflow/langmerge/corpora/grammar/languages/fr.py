"""French: gender and number, elision, the passé composé, two-part negation.

Regular forms follow the standard school grammar (Bescherelle's tables); irregular ones come from `fr.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping

from langmerge.corpora.grammar.language import Entry, Features, Language, Setting, VerbGroup, Word
from langmerge.corpora.grammar.meaning import NounPhrase
from langmerge.corpora.grammar.words import DEFAULT

VOWELS = "aàâeéèêëiîïoôuùûyœ"
ENDINGS = {
    "er": ("e", "es", "e", "ons", "ez", "ent"),
    "ir": ("is", "is", "it", "issons", "issez", "issent"),
    "re": ("s", "s", "", "ons", "ez", "ent"),
}
FUTURE_ENDINGS = ("ai", "as", "a", "ons", "ez", "ont")
IMPERFECT_ENDINGS = ("ais", "ais", "ait", "ions", "iez", "aient")
AVOIR = ("ai", "as", "a", "avons", "avez", "ont")
ETRE = ("suis", "es", "est", "sommes", "êtes", "sont")
REFLEXIVE = ("me", "te", "se", "nous", "vous", "se")
SILENT = (0, 1, 2, 5)  # the persons whose ending in -er verbs is silent: je, tu, il, ils
ELIDED = frozenset(("je", "me", "te", "se", "ne", "le", "la", "de", "que"))
BEFORE_VOWEL = {("this", "ce"): "cet", ("my", "ma"): "mon"}
FUSED = {("de", "le"): "du", ("de", "les"): "des", ("à", "le"): "au", ("à", "les"): "aux"}


def vocalic(word: str) -> bool:
    """Whether a word starts with a vowel sound; every `h` of the lexicon is mute."""
    return word[:1].lower() in VOWELS + "h"


def plural(word: str) -> str:
    """The plural of a noun, adjective or participle: chat -> chats, cheval -> chevaux, souris -> souris."""
    if word.endswith(("s", "x", "z")):
        return word
    if word.endswith("eau"):
        return word + "x"
    return word[:-2] + "aux" if word.endswith("al") else word + "s"


def feminine(word: str) -> str:
    """The regular feminine of an adjective or participle: grande, heureuse (from heureux), sale."""
    if word.endswith("eux"):
        return word[:-1] + "se"
    return word if word.endswith("e") else word + "e"


def present(entry: Entry) -> tuple[str, ...]:
    """The six forms of the present tense, je to ils.

    The written-out forms if the entry has any; else those of the regular -er, -ir and -re verbs, with the
    spelling of mangeons, nettoie, achète (`stem_change: è`) and appelle (`stem_change: ll`).
    """
    if "present" in entry:
        return tuple(entry["present"])
    lemma = entry["lemma"]
    stem, endings = lemma[:-2], ENDINGS[lemma[-2:]]
    forms = []
    for person, ending in enumerate(endings):
        base = stem
        if lemma.endswith("er") and person in SILENT:
            base = _stressed(stem, entry.get("stem_change"))
        elif stem.endswith("g") and ending == "ons":
            base = stem + "e"
        forms.append(base + ending)
    return tuple(forms)


def _stressed(stem: str, change: str | None) -> str:
    """The stem of an -er verb before a silent ending: achet -> achèt, appel -> appell, nettoy -> nettoi."""
    if change == "è":
        return stem[:-2] + "è" + stem[-1]
    if change == "ll":
        return stem + "l"
    return stem[:-1] + "i" if stem.endswith(("oy", "uy")) else stem


def future(entry: Entry) -> tuple[str, ...]:
    """The six forms of the simple future: choisirai, vendrai, achèterai, verrai (`future: verr`)."""
    lemma = entry["lemma"]
    if "future" in entry:
        stem = entry["future"]
    elif lemma.endswith("er"):
        stem = present(entry)[0] + "r"
    else:
        stem = lemma.removesuffix("e")
    return tuple(stem + ending for ending in FUTURE_ENDINGS)


def imperfect(entry: Entry) -> tuple[str, ...]:
    """The six forms of the imparfait, on the stem of nous (connaissons -> connaissais) or `imperfect`."""
    stem = entry.get("imperfect") or present(entry)[3].removesuffix("ons")
    return tuple(stem + ending for ending in IMPERFECT_ENDINGS)


def participle(entry: Entry) -> str:
    """The masculine singular past participle: mangé, choisi, vendu, or the one written out."""
    lemma = entry["lemma"]
    return entry.get("participle") or lemma[:-2] + {"er": "é", "ir": "i", "re": "u"}[lemma[-2:]]


def agree(masculine: str, feminine_form: str, f: Features) -> str:
    """The form for the gender and number of `f`."""
    word = feminine_form if f.gender == "f" else masculine
    return plural(word) if f.number == "pl" else word


class French(Language):
    """French: ne ... pas, être or avoir with agreement, de for un and des, forms before a vowel."""

    def noun(self, entry: Entry, f: Features) -> str:
        """Singular or plural."""
        return plural(entry["lemma"]) if f.number == "pl" else entry["lemma"]

    def adjective(self, entry: Entry, f: Features) -> str:
        """Agrees in gender and number, unless invariable."""
        lemma = entry["lemma"]
        if entry.get("invariable"):
            return lemma
        return agree(lemma, entry.get("feminine") or feminine(lemma), f)

    def verb(self, entry: Entry, f: Features) -> VerbGroup:
        """Present, simple future and passé composé (imparfait where the entry says so), with its pronoun."""
        person = f.person - 1 + 3 * (f.number == "pl")
        noun = (entry["with"],) if "with" in entry else ()
        pronoun = REFLEXIVE[person] + " " if entry.get("reflexive") else ""
        if f.tense == "past" and entry.get("past") != "imperfect":
            with_etre = entry.get("reflexive") or entry.get("auxiliary") == "être"
            done = participle(entry)
            if with_etre:
                done = agree(done, feminine(done), f)
            auxiliary = (ETRE if with_etre else AVOIR)[person]
            return VerbGroup(pronoun + auxiliary, (done, *noun), main=1)
        forms = {"past": imperfect, "present": present, "future": future}[f.tense](entry)
        return VerbGroup(pronoun + forms[person], noun, main=0)

    def constituents(self, s: Setting) -> dict[str, list[Word]]:
        """As usual, with the second part of the negation in a slot of its own."""
        pas = [Word("pas", "negation", "not", "PART", DEFAULT, s.index)] if s.clause.negative else []
        return {**super().constituents(s), "pas": pas}

    def order(self, s: Setting, slots: Mapping[str, list[Word]]) -> list[str]:
        """As usual, but no adverb parts a negated verb and `de`: "n'a pas vendu de pommes rapidement"."""
        order = super().order(s, slots)
        if not (s.clause.negative and s.clause.object and s.clause.object.determiner == "a"):
            return order
        order = [name for name in order if name != "manner"]
        at = order.index("object") + 1
        return [*order[:at], "manner", *order[at:]]

    def determiner_words(self, np: NounPhrase, role: str, s: Setting, f: Features) -> list[Word]:
        """`de` for un, une, des with the direct object of a negated verb, and for des before an adjective."""
        words = super().determiner_words(np, role, s, f)
        if not words or np.determiner != "a":
            return words
        negated = s.clause.negative and role == "object" and not self.marking(role, s)[1]
        preposed = np.adjective and self.lexicon.adjectives[np.adjective].get("position") == "before"
        if negated or (preposed and words[0].features.number == "pl"):
            return [words[0]._replace(text="de")]
        return words

    def noun_phrase(self, np: NounPhrase, role: str, s: Setting, relation: Entry | None = None) -> list[Word]:
        """As usual, with the forms that stand before a vowel: cet ami, mon école, un bel arbre."""
        words = super().noun_phrase(np, role, s, relation)
        following = [*(w.text for w in words[1:]), ""]
        return [self._before_vowel(w) if vocalic(n) else w for w, n in zip(words, following, strict=True)]

    def _before_vowel(self, word: Word) -> Word:
        if word.pos == "DET":
            return word._replace(text=BEFORE_VOWEL.get((word.concept, word.text), word.text))
        f = word.features
        if word.pos == "ADJ" and f.number == "sg" and f.gender == "m":
            entry = self.lexicon.adjectives[word.concept]
            return word._replace(text=entry.get("liaison", word.text))
        return word

    def contract(self, words: list[str]) -> list[str]:
        """de + des and de + de are de ("près de maisons"); elision before a vowel; au, aux, du, des."""
        texts = [*words, ""]
        for i in range(len(words)):
            if texts[i] == "de" and texts[i + 1] in ("de", "des"):
                texts[i + 1] = ""
        for i in range(len(words)):
            following = texts[i + 1] or texts[min(i + 2, len(words))]
            if texts[i] in ELIDED and vocalic(following):
                texts[i] = texts[i][:-1] + "'"
        for i in range(len(words)):
            if (texts[i], texts[i + 1]) in FUSED:
                texts[i : i + 2] = [FUSED[texts[i], texts[i + 1]], ""]
        return texts[:-1]
