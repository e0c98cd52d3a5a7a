"""Of two sentences that differ in one word, the first is the grammar's and the second is nobody's."""

from collections import Counter
from itertools import product

import pytest

from langmerge.corpora.grammar import corpus
from langmerge.corpora.grammar.language import Language, available
from langmerge.corpora.grammar.meaning import PRONOUN_NUMBER, Clause, Meaning, NounPhrase
from langmerge.corpora.grammar.minimal_pairs import minimal_pairs, pairs_of
from langmerge.corpora.grammar.violations import CASE, GENDER, NUMBER, PERSON, PHENOMENA, phenomena
from langmerge.corpora.grammar.world import World

WORLD = World.load()
TEST = corpus.meanings(WORLD, corpus.Sizes(1, 1, 600), seed=3)["test"]
DETERMINERS = {"sg": ("the", "a", "this", "my"), "pl": ("the", "a", "this", "my", "two", "five")}


@pytest.fixture(scope="module", params=available())
def language(request):
    return Language.load(request.param)


@pytest.fixture(scope="module")
def rows(language):
    return minimal_pairs(language, TEST, 12)


def said(language, clause):
    """Phenomenon -> wrong sentence."""
    return {pair.phenomenon: pair.bad for pair in pairs_of(language, Meaning((clause,)))}


def test_rows_are_those_of_a_choice_task(rows):
    for row in rows:
        assert set(row) == {"id", "kind", "prompt", "choices", "gold", "group"}
        assert (row["kind"], row["prompt"], row["gold"]) == ("choice", "", 0)
        assert row["id"].startswith(row["group"])
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({tuple(row["choices"]) for row in rows}) == len(rows)


def test_one_word_differs_and_the_good_sentence_is_the_grammars(language, rows):
    sentences = {language.render(meaning).text for meaning in TEST}
    for good, bad in (row["choices"] for row in rows):
        assert good in sentences and bad not in sentences
        words = list(zip(good.split(), bad.split(), strict=True))
        assert sum(a != b for a, b in words) == 1


def test_phenomena_and_directions_are_balanced(language, rows):
    by_group = Counter(row["group"] for row in rows)
    assert set(by_group) == set(PHENOMENA[language.code]) and len(set(by_group.values())) == 1
    for name, directions in PHENOMENA[language.code].items():
        counts = Counter(row["id"].split(".")[1] for row in rows if row["group"] == name)
        assert set(counts) == set(directions)
        assert max(counts.values()) - min(counts.values()) <= 1
    head = Counter(row["group"] for row in rows[: 2 * len(by_group)])
    assert set(head.values()) == {2}


def phrases(nouns, adjectives):
    return [
        NounPhrase(noun, number, determiner, adjective)
        for noun, adjective, number in product(nouns, (None, *adjectives), ("sg", "pl"))
        for determiner in DETERMINERS[number]
    ]


def small_world():
    """All affirmative meanings about two animals that bite each other, die or are young."""
    animals = phrases(("dog", "cat"), ())
    subjects = animals + [NounPhrase(concept, number) for concept, number in PRONOUN_NUMBER.items()]
    for subject, tense in product(subjects, ("past", "present", "future")):
        yield Meaning((Clause("die", subject, tense),))
        yield Meaning((Clause("be", subject, tense, predicate="young"),))
        for other in animals:
            if other.concept != subject.concept:
                yield Meaning((Clause("bite", subject, tense, object=other),))


@pytest.mark.parametrize("code", available())
def test_no_bad_sentence_is_said_in_a_small_world(code):
    language = Language.load(code)
    everything = list(small_world())
    sentences = {language.render(meaning).text for meaning in everything}
    found = [pair for meaning in everything[::11] for pair in pairs_of(language, meaning)]
    assert {pair.phenomenon for pair in found} == set(PHENOMENA[code])
    assert {pair.good for pair in found} <= sentences
    assert not {pair.bad for pair in found} & sentences


CAT = Clause("sleep", NounPhrase("cat", "sg", "the"))


@pytest.mark.parametrize(
    ("code", "clause", "expected"),
    [
        ("en", CAT, {NUMBER: "The cat sleep."}),
        ("es", CAT, {NUMBER: "El gato duermen.", PERSON: "El gato duermo.", GENDER: "La gato duerme."}),
        ("it", CAT, {NUMBER: "Il gatto dormono.", PERSON: "Il gatto dormo.", GENDER: "La gatto dorme."}),
        ("fr", CAT, {NUMBER: "Le chat dorment.", PERSON: "Le chat dors.", GENDER: "La chat dort."}),
        ("fi", CAT, {NUMBER: "Kissa nukkuvat.", PERSON: "Kissa nukun.", CASE: "Kissan nukkuu."}),
        ("tr", CAT, {PERSON: "Kedi uyuyorum.", CASE: "Kediyi uyuyor."}),
        # person is not the first: "schlafe" is a subjunctive; "der Katze" would be wrong in gender or in case
        ("de", CAT, {NUMBER: "Die Katze schlafen.", PERSON: "Die Katze schläfst.", GENDER: "Das Katze schläft."}),
        ("ru", CAT, {NUMBER: "Кошка спят.", PERSON: "Кошка сплю.", CASE: "Кошку спит."}),
        ("hi", CAT, {NUMBER: "बिल्ली सोती हैं।", PERSON: "बिल्ली सोती हूँ।", GENDER: "बिल्ली सोता है।"}),
        # "die Frau sieht der Freund" is right, the friend sees the woman
        ("de", Clause("see", NounPhrase("woman", "sg", "the"), object=NounPhrase("friend", "sg", "the")),
         {NUMBER: "Die Frau sehen den Freund.", PERSON: "Die Frau siehst den Freund."}),
        ("de", Clause("see", NounPhrase("king", "sg", "the"), object=NounPhrase("friend", "sg", "the")),
         {NUMBER: "Der König sehen den Freund.", PERSON: "Der König siehst den Freund.",
          CASE: "Der König sieht der Freund."}),
        # a dropped pronoun: any person is right
        ("es", Clause("sleep", NounPhrase("i")), {}),
        ("en", Clause("sleep", NounPhrase("i")), {PERSON: "I sleeps."}),
        ("en", Clause("sleep", NounPhrase("i"), "past"), {}),
        # "they see the book" and "the books see"
        ("es", Clause("find", NounPhrase("cat", "sg", "the"), object=NounPhrase("book", "pl", "two")),
         {PERSON: "El gato encuentro dos libros.", GENDER: "La gato encuentra dos libros."}),
        ("ru", Clause("wait", NounPhrase("mother", "sg", "the")), {}),  # мать ждут: they wait for mother
        ("hi", Clause("sleep", NounPhrase("mother", "sg", "my")), {PERSON: "मेरी माँ सोती हूँ।"}),  # सोती हैं: respect
        ("tr", Clause("sleep", NounPhrase("man", "sg", "the")), {PERSON: "Adam uyuyorum."}),  # adamı: his man
    ],
)  # fmt: skip
def test_pairs_by_hand(code, clause, expected):
    assert said(Language.load(code), clause) == expected


def test_the_same_is_wrong_in_another_script_and_with_other_words():
    spanish, script, invented = (Language.load(code) for code in ("es", "es-script", "es-relex100"))
    for meaning in TEST[:60]:
        pairs = list(pairs_of(spanish, meaning))
        assert [
            p._replace(good=p.good.translate(script.letters), bad=p.bad.translate(script.letters)) for p in pairs
        ] == (list(pairs_of(script, meaning)))
        assert [pair[:2] for pair in pairs] == [pair[:2] for pair in pairs_of(invented, meaning)]


def test_without_agreement_there_is_nothing_to_break():
    plain = Language.load("es-noagree")
    assert phenomena(plain) == {} and minimal_pairs(plain, TEST, 5) == []


def test_mistakes_are_named():
    spanish = Language.load("es")
    with pytest.raises(ValueError, match="per_phenomenon"):
        minimal_pairs(spanish, TEST, 0)
    with pytest.raises(ValueError, match="es: 0 meanings give no minimal pair for number_agreement"):
        minimal_pairs(spanish, [], 5)
    spanish.code, spanish.about = "eo", {"code": "eo"}
    with pytest.raises(ValueError, match="no minimal pairs are known for 'eo'"):
        minimal_pairs(spanish, TEST, 5)
