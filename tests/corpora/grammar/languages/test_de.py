"""German: forms as in the Duden tables, and whole sentences."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from langmerge.corpora.grammar.language import Features, Language
from langmerge.corpora.grammar.languages.de import past, present
from langmerge.corpora.grammar.meaning import Clause, Meaning, NounPhrase, sample


@pytest.fixture(scope="module")
def de() -> Language:
    return Language.load("de")


def phrase(de: Language, concept: str, number: str, case: str, determiner: str, adjective: str | None) -> str:
    entry = de.lexicon.nouns[concept]
    f = Features(number=number, gender=entry["gender"], case=case, determiner=determiner)
    middle = [de.adjective(de.lexicon.adjectives[adjective], f)] if adjective else []
    return " ".join([de.determiner(determiner, f), *middle, de.noun(entry, f)])


PARADIGMS = [  # nominative, accusative, dative
    ("dog", "sg", "the", "big", "der große Hund", "den großen Hund", "dem großen Hund"),
    ("dog", "sg", "a", "big", "ein großer Hund", "einen großen Hund", "einem großen Hund"),
    ("dog", "sg", "this", "big", "dieser große Hund", "diesen großen Hund", "diesem großen Hund"),
    ("dog", "sg", "my", "big", "mein großer Hund", "meinen großen Hund", "meinem großen Hund"),
    ("dog", "sg", "no", "big", "kein großer Hund", "keinen großen Hund", "keinem großen Hund"),
    ("dog", "pl", "the", "big", "die großen Hunde", "die großen Hunde", "den großen Hunden"),
    ("dog", "pl", "a", "big", "einige große Hunde", "einige große Hunde", "einigen großen Hunden"),
    ("dog", "pl", "this", "big", "diese großen Hunde", "diese großen Hunde", "diesen großen Hunden"),
    ("dog", "pl", "my", "big", "meine großen Hunde", "meine großen Hunde", "meinen großen Hunden"),
    ("dog", "pl", "two", "big", "zwei große Hunde", "zwei große Hunde", "zwei großen Hunden"),
    ("cat", "sg", "the", "young", "die junge Katze", "die junge Katze", "der jungen Katze"),
    ("cat", "sg", "a", "young", "eine junge Katze", "eine junge Katze", "einer jungen Katze"),
    ("cat", "sg", "my", "young", "meine junge Katze", "meine junge Katze", "meiner jungen Katze"),
    ("cat", "pl", "five", "young", "fünf junge Katzen", "fünf junge Katzen", "fünf jungen Katzen"),
    ("book", "sg", "the", "expensive", "das teure Buch", "das teure Buch", "dem teuren Buch"),
    ("book", "sg", "a", "expensive", "ein teures Buch", "ein teures Buch", "einem teuren Buch"),
    ("book", "sg", "this", "expensive", "dieses teure Buch", "dieses teure Buch", "diesem teuren Buch"),
    ("book", "pl", "the", "expensive", "die teuren Bücher", "die teuren Bücher", "den teuren Büchern"),
    ("bear", "sg", "a", "tired", "ein müder Bär", "einen müden Bären", "einem müden Bären"),
    ("boy", "sg", "the", None, "der Junge", "den Jungen", "dem Jungen"),
    ("student", "sg", "the", None, "der Student", "den Studenten", "dem Studenten"),
    ("neighbour", "sg", "this", None, "dieser Nachbar", "diesen Nachbarn", "diesem Nachbarn"),
    ("monkey", "sg", "my", None, "mein Affe", "meinen Affen", "meinem Affen"),
    ("lion", "pl", "the", None, "die Löwen", "die Löwen", "den Löwen"),
    ("car", "pl", "the", None, "die Autos", "die Autos", "den Autos"),
    ("room", "sg", "a", "dark", "ein dunkles Zimmer", "ein dunkles Zimmer", "einem dunklen Zimmer"),
    ("apple", "pl", "a", "sour", "einige saure Äpfel", "einige saure Äpfel", "einigen sauren Äpfeln"),
    ("child", "pl", "my", "good", "meine guten Kinder", "meine guten Kinder", "meinen guten Kindern"),
]


@pytest.mark.parametrize(("concept", "number", "determiner", "adjective", "nom", "acc", "dat"), PARADIGMS)
def test_noun_phrases_decline(
    de: Language, concept: str, number: str, determiner: str, adjective: str | None, nom: str, acc: str, dat: str
) -> None:
    forms = [phrase(de, concept, number, case, determiner, adjective) for case in ("nom", "acc", "dat")]
    assert forms == [nom, acc, dat]


VERBS = [  # ich, du, er, wir of the present; ich, du, wir of the past
    ("be", "bin bist ist sind", "war warst waren"),
    ("sleep", "schlafe schläfst schläft schlafen", "schlief schliefst schliefen"),
    ("play", "spiele spielst spielt spielen", "spielte spieltest spielten"),
    ("smile", "lächle lächelst lächelt lächeln", "lächelte lächeltest lächelten"),
    ("admire", "bewundere bewunderst bewundert bewundern", "bewunderte bewundertest bewunderten"),
    ("work", "arbeite arbeitest arbeitet arbeiten", "arbeitete arbeitetest arbeiteten"),
    ("open", "öffne öffnest öffnet öffnen", "öffnete öffnetest öffneten"),
    ("draw", "zeichne zeichnest zeichnet zeichnen", "zeichnete zeichnetest zeichneten"),
    ("dance", "tanze tanzt tanzt tanzen", "tanzte tanztest tanzten"),
    ("read", "lese liest liest lesen", "las lasest lasen"),
    ("eat", "esse isst isst essen", "aß aßest aßen"),
    ("wash", "wasche wäschst wäscht waschen", "wusch wuschst wuschen"),
    ("bring", "bringe bringst bringt bringen", "brachte brachtest brachten"),
    ("know", "kenne kennst kennt kennen", "kannte kanntest kannten"),
    ("shout", "schreie schreist schreit schreien", "schrie schriest schrien"),
    ("run", "renne rennst rennt rennen", "rannte ranntest rannten"),
]


@pytest.mark.parametrize(("concept", "now", "then"), VERBS)
def test_verbs_conjugate(de: Language, concept: str, now: str, then: str) -> None:
    entry = de.lexicon.verbs[concept]
    forms = present(entry["lemma"], entry.get("present"))
    assert forms[:4] == tuple(now.split())
    assert forms[5] == forms[3]
    forms = past(entry["lemma"], entry.get("past"))
    assert (forms[0], forms[1], forms[3]) == tuple(then.split())
    assert (forms[2], forms[5]) == (forms[0], forms[3])


def test_prefix_is_split_off_in_main_clauses_only(de: Language) -> None:
    invite = de.lexicon.verbs["invite"]
    group = de.verb(invite, Features(tense="present"))
    assert (group.finite, group.rest, group.main) == ("lädt", ("ein",), 0)
    assert de.verb(invite, Features(tense="past", subordinate=True)).finite == "einlud"
    group = de.verb(invite, Features(tense="future", number="pl"))
    assert (group.finite, group.rest) == ("werden", ("einladen",))


MAN, BOY = NounPhrase("man", determiner="the"), NounPhrase("boy", determiner="the")
BOOK, A_BOOK = NounPhrase("book", determiner="the"), NounPhrase("book", determiner="a", adjective="good")
GARDEN = ("in", NounPhrase("garden", determiner="the"))

SENTENCES = [
    (Clause("sleep", MAN, "past", place=GARDEN), "Der Mann schlief im Garten."),
    (Clause("sleep", MAN, "past", True, place=GARDEN), "Der Mann schlief nicht im Garten."),
    (Clause("read", MAN, "past", time="yesterday", object=BOOK), "Gestern las der Mann das Buch."),
    (Clause("read", MAN, "past", True, object=BOOK, place=GARDEN), "Der Mann las das Buch nicht im Garten."),
    (Clause("read", MAN, "past", True, object=A_BOOK, place=GARDEN), "Der Mann las im Garten kein gutes Buch."),
    (Clause("read", MAN, "past", object=A_BOOK, place=GARDEN), "Der Mann las im Garten ein gutes Buch."),
    (
        Clause("read", MAN, "past", True, object=A_BOOK, manner="quickly"),
        "Der Mann las nicht schnell ein gutes Buch.",
    ),
    (
        Clause("read", MAN, "present", True, object=NounPhrase("book", "pl", "two")),
        "Der Mann liest nicht zwei Bücher.",
    ),
    (
        Clause("read", MAN, "present", True, object=NounPhrase("book", "pl", "a")),
        "Der Mann liest einige Bücher nicht.",
    ),
    (Clause("help", NounPhrase("i"), "present", object=BOY), "Ich helfe dem Jungen."),
    (Clause("thank", NounPhrase("you"), "present", True, object=BOY), "Du dankst dem Jungen nicht."),
    (
        Clause("help", MAN, "future", True, object=NounPhrase("bear", determiner="a"), time="soon"),
        "Bald wird der Mann keinem Bären helfen.",
    ),
    (
        Clause("offer", MAN, "past", object=BOOK, recipient=BOY, time="last_week"),
        "Letzte Woche bot der Mann dem Jungen das Buch an.",
    ),
    (Clause("invite", NounPhrase("they", "pl"), "present", object=BOY), "Sie laden den Jungen ein."),
    (Clause("arrive", NounPhrase("train", determiner="my"), "past"), "Mein Zug kam an."),
    (Clause("be", BOOK, "future", True, predicate="new", time="tomorrow"), "Morgen wird das Buch nicht neu sein."),
    (Clause("be", BOOK, "present", place=("near", GARDEN[1])), "Das Buch ist beim Garten."),
    (
        Clause("be", MAN, "past", place=("behind", NounPhrase("tree", "pl", "the"))),
        "Der Mann war hinter den Bäumen.",
    ),
    (Clause("read", MAN, "present", object=BOOK, manner="often"), "Der Mann liest das Buch oft."),
    (
        Clause("sleep", MAN, "past", place=("in", NounPhrase("garden", determiner="this"))),
        "Der Mann schlief in diesem Garten.",
    ),
]


@pytest.mark.parametrize(("clause", "text"), SENTENCES)
def test_sentences(de: Language, clause: Clause, text: str) -> None:
    assert de.render(Meaning((clause,))).text == text


def test_finite_verb_comes_last_after_weil_and_second_after_aber(de: Language) -> None:
    first = Clause("laugh", MAN, "past")
    second = Clause("offer", BOY, "past", object=A_BOOK, recipient=NounPhrase("student", determiner="a"))
    assert de.render(Meaning((first, second), "because")).text == (
        "Der Mann lachte, weil der Junge einem Studenten ein gutes Buch anbot."
    )
    assert de.render(Meaning((first, second), "but")).text == (
        "Der Mann lachte, aber der Junge bot einem Studenten ein gutes Buch an."
    )


def test_object_marking_depends_on_polarity_only_through_kein_and_nicht(de: Language) -> None:
    """Each negated clause has exactly one negative word, each positive clause none."""
    rng = Random(3)
    for _ in range(300):
        meaning = sample(de.world, rng)
        words = de.render(meaning).text.rstrip(".").lower().replace(",", "").split()
        negatives = [w for w in words if w == "nicht" or w.startswith("kein")]
        assert len(negatives) == sum(c.negative for c in meaning.clauses)


def test_number_and_tense_are_recoverable(de: Language) -> None:
    """Sentences that differ in number or tense differ in text."""
    base = Clause("read", MAN, "past", object=BOOK)
    changes = [
        base,
        replace(base, tense="present"),
        replace(base, subject=NounPhrase("man", "pl", "the")),
        replace(base, object=NounPhrase("book", "pl", "the")),
        replace(base, negative=True),
    ]
    assert len({de.render(Meaning((c,))).text for c in changes}) == len(changes)
