"""Of two sentences that differ in one word, the first is the grammar's and the second is nobody's."""

from collections import Counter
from dataclasses import replace
from itertools import product
from random import Random

import pytest

from langmerge.corpora.grammar import corpus
from langmerge.corpora.grammar.language import Language, available
from langmerge.corpora.grammar.meaning import PRONOUN_NUMBER, Clause, Meaning, NounPhrase
from langmerge.corpora.grammar.minimal_pairs import minimal_pairs, pairs_of
from langmerge.corpora.grammar.violations import CASE, GENDER, NUMBER, PERSON, PHENOMENA, TENSE, phenomena
from langmerge.corpora.grammar.world import World

WORLD = World.load().restricted(8, 8, 12)
MEANINGS = corpus.meanings(WORLD, corpus.Sizes(2000, 1, 600), seed=3)
TRAIN, TEST = MEANINGS["train"], MEANINGS["test"]
TRANSFORMS = ["es-script", "es-sov", "es-relex100"]
DETERMINERS = {"sg": ("the", "a", "this", "my"), "pl": ("the", "a", "this", "my", "two", "five")}


@pytest.fixture(scope="module", params=available())
def language(request):
    return Language.load(request.param, world=WORLD)


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
    assert min(by_group.values()) >= 8
    for name, directions in PHENOMENA[language.code].items():
        counts = Counter(row["id"].split(".")[1] for row in rows if row["group"] == name)
        assert set(counts) == set(directions)
        if len(directions) == 2:
            assert len(set(counts.values())) == 1
    head = Counter(row["group"] for row in rows[: 2 * len(by_group)])
    assert set(head.values()) == {2}


def words(sentence):
    return [word.strip(".।").casefold() for word in sentence.split()]


def answered(rows, score):
    """Phenomenon -> percentage of pairs of which the good sentence scores higher, ties counting half."""
    found = {}
    for row in rows:
        good, bad = map(score, row["choices"])
        found.setdefault(row["group"], []).append(1.0 if good > bad else 0.5 if good == bad else 0.0)
    return {group: 100 * sum(hits) / len(hits) for group, hits in found.items()}


@pytest.mark.parametrize("code", [*available(), *TRANSFORMS])
def test_what_knows_words_alone_guesses(code):
    language = Language.load(code, world=WORLD)
    rows = minimal_pairs(language, TEST, 12)
    seen = Counter(word for meaning in TRAIN for word in words(language.render(meaning).text))
    anything = {word: Random(word).random() for row in rows for text in row["choices"] for word in words(text)}
    for number in (
        seen.__getitem__,  # how frequent a word is
        lambda word: -len(word),  # how short
        lambda word: -len(word.encode()),
        anything.__getitem__,
    ):
        found = answered(rows, lambda text, number=number: sum(map(number, words(text))))
        assert found == dict.fromkeys(phenomena(language), 50.0)


def test_of_all_pairs_the_commoner_words_would_win():
    """What the couples are for: person in a language that drops pronouns."""
    spanish = Language.load("es", world=WORLD)
    seen = Counter(word for meaning in TRAIN for word in words(spanish.render(meaning).text))
    wrong = [({"verb": {"person": 1}}, meaning) for meaning in TEST if not meaning.clauses[0].subject.pronoun]
    pairs = [(spanish.render(meaning).text, spanish.render(meaning, override).text) for override, meaning in wrong]
    found = answered(
        [{"group": PERSON, "choices": pair} for pair in pairs if pair[0] != pair[1]],
        lambda text: sum(seen[word] for word in words(text)),
    )
    assert found[PERSON] > 90


def test_words_take_turns():
    """No two words are told apart a second time before all have been once."""
    rows = minimal_pairs(Language.load("es", world=WORLD), TEST, 12)
    for name in (NUMBER, GENDER):
        told = [
            frozenset(
                word for pair in zip(*map(words, row["choices"]), strict=True) if len(set(pair)) == 2 for word in pair
            )
            for row in rows
            if row["group"] == name
        ]
        assert told[::2] == told[1::2] and len(set(told)) == len(told) / 2


def phrases(nouns, adjectives):
    return [
        NounPhrase(noun, number, determiner, adjective)
        for noun, adjective, number in product(nouns, (None, *adjectives), ("sg", "pl"))
        for determiner in DETERMINERS[number]
    ]


def small_world():
    """All affirmative meanings about two animals that bite each other, die or are young, also yesterday or tomorrow."""
    animals = phrases(("dog", "cat"), ())
    subjects = animals + [NounPhrase(concept, number) for concept, number in PRONOUN_NUMBER.items()]
    dated = [("past", None), ("past", "yesterday"), ("present", None), ("future", None), ("future", "tomorrow")]
    for subject, (tense, time) in product(subjects, dated):
        yield Meaning((Clause("die", subject, tense, time=time),))
        yield Meaning((Clause("be", subject, tense, predicate="young", time=time),))
        for other in animals:
            if other.concept != subject.concept:
                yield Meaning((Clause("bite", subject, tense, object=other, time=time),))


@pytest.mark.parametrize("code", available())
def test_no_bad_sentence_is_said_in_a_small_world(code):
    language = Language.load(code)
    everything = list(small_world())
    sentences = {language.render(meaning).text for meaning in everything}
    found = [pair for meaning in everything[::17] for pair in pairs_of(language, meaning)]
    assert {pair.phenomenon for pair in found} == set(PHENOMENA[code])
    assert {pair.good for pair in found} <= sentences
    assert not {pair.bad for pair in found} & sentences


CAT = Clause("sleep", NounPhrase("cat", "sg", "the"))


@pytest.mark.parametrize(
    ("code", "clause", "expected"),
    [
        ("en", CAT, {NUMBER: "The cat sleep."}),
        ("es", CAT, {NUMBER: "El gato duermen.", GENDER: "La gato duerme."}),
        ("it", CAT, {NUMBER: "Il gatto dormono.", GENDER: "La gatto dorme."}),
        ("fr", CAT, {NUMBER: "Le chat dorment.", PERSON: "Le chat dors.", GENDER: "La chat dort."}),
        ("fi", CAT, {NUMBER: "Kissa nukkuvat."}),
        ("tr", CAT, {}),
        ("tr", replace(CAT, tense="past", time="yesterday"), {TENSE: "Dün kedi uyuyacak."}),
        ("tr", replace(CAT, tense="future", time="tomorrow"), {TENSE: "Yarın kedi uyudu."}),
        ("tr", replace(CAT, tense="future", time="soon"), {}),  # yakında uyudu: slept nearby
        ("tr", Clause("sleep", NounPhrase("we", "pl"), "past", time="last_year"), {TENSE: "Geçen yıl uyuyacağız."}),
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
         {GENDER: "La gato encuentra dos libros."}),
        ("ru", Clause("wait", NounPhrase("mother", "sg", "the")), {}),  # мать ждут: they wait for mother
        ("hi", Clause("sleep", NounPhrase("mother", "sg", "my")), {PERSON: "मेरी माँ सोती हूँ।"}),  # सोती हैं: respect
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
    with pytest.raises(ValueError, match="per_phenomenon: pairs come in twos, so expected 2 or more, found 1"):
        minimal_pairs(spanish, TEST, 1)
    with pytest.raises(ValueError, match="es: 0 meanings give no minimal pair for number_agreement"):
        minimal_pairs(spanish, [], 5)
    spanish.code, spanish.about = "eo", {"code": "eo"}
    with pytest.raises(ValueError, match="no minimal pairs are known for 'eo'"):
        minimal_pairs(spanish, TEST, 5)
