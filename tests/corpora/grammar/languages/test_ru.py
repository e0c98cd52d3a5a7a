"""Russian: forms as in Zaliznyak's dictionary, and whole sentences."""

from __future__ import annotations

import re
from random import Random

import pytest

from langmerge.corpora.grammar.language import Features, Language
from langmerge.corpora.grammar.languages.ru import nonpast, past
from langmerge.corpora.grammar.meaning import Clause, Meaning, NounPhrase, sample

CASES = ("nom", "gen", "dat", "acc", "ins", "loc")


@pytest.fixture(scope="module")
def ru() -> Language:
    return Language.load("ru")


def features(ru: Language, concept: str, number: str, case: str, determiner: str = "the") -> Features:
    gender = ru.lexicon.nouns[concept]["gender"]
    animate = concept in ru.world.animate
    return Features(number=number, gender=gender, case=case, animate=animate, determiner=determiner)


NOUNS = [
    ("table", "sg", "стол стола столу стол столом столе"),
    ("cat", "sg", "кошка кошки кошке кошку кошкой кошке"),
    ("cat", "pl", "кошки кошек кошкам кошек кошками кошках"),
    ("man", "sg", "мужчина мужчины мужчине мужчину мужчиной мужчине"),
    ("judge", "sg", "судья судьи судье судью судьёй судье"),
    ("lion", "sg", "лев льва льву льва львом льве"),
    ("father", "pl", "отцы отцов отцам отцов отцами отцах"),
    ("friend", "pl", "друзья друзей друзьям друзей друзьями друзьях"),
    ("child", "pl", "дети детей детям детей детьми детях"),
    ("mother", "sg", "мать матери матери мать матерью матери"),
    ("mouse", "pl", "мыши мышей мышам мышей мышами мышах"),
    ("horse", "pl", "лошади лошадей лошадям лошадей лошадьми лошадях"),
    ("teacher", "pl", "учителя учителей учителям учителей учителями учителях"),
    ("king", "sg", "король короля королю короля королём короле"),
    ("guest", "sg", "гость гостя гостю гостя гостем госте"),
    ("egg", "pl", "яйца яиц яйцам яйца яйцами яйцах"),
    ("letter", "pl", "письма писем письмам письма письмами письмах"),
    ("poem", "sg", "стихотворение стихотворения стихотворению стихотворение стихотворением стихотворении"),
    ("knife", "sg", "нож ножа ножу нож ножом ноже"),
    ("pear", "sg", "груша груши груше грушу грушей груше"),
    ("candle", "sg", "свеча свечи свече свечу свечой свече"),
    ("garden", "sg", "сад сада саду сад садом саду"),
    ("church", "sg", "церковь церкви церкви церковь церковью церкви"),
    ("museum", "pl", "музеи музеев музеям музеи музеями музеях"),
    ("village", "pl", "деревни деревень деревням деревни деревнями деревнях"),
    ("tree", "pl", "деревья деревьев деревьям деревья деревьями деревьях"),
    ("lake", "pl", "озёра озёр озёрам озёра озёрами озёрах"),
    ("book", "pl", "книги книг книгам книги книгами книгах"),
]


@pytest.mark.parametrize(("concept", "number", "forms"), NOUNS)
def test_nouns_decline(ru: Language, concept: str, number: str, forms: str) -> None:
    entry = ru.lexicon.nouns[concept]
    assert [ru.noun(entry, features(ru, concept, number, case)) for case in CASES] == forms.split()


ADJECTIVES = [  # with an animate noun
    ("new", "m", "sg", "новый нового новому нового новым новом"),
    ("new", "f", "sg", "новая новой новой новую новой новой"),
    ("new", "m", "pl", "новые новых новым новых новыми новых"),
    ("blue", "m", "sg", "синий синего синему синего синим синем"),
    ("blue", "f", "sg", "синяя синей синей синюю синей синей"),
    ("blue", "n", "sg", "синее синего синему синее синим синем"),
    ("blue", "m", "pl", "синие синих синим синих синими синих"),
    ("small", "m", "sg", "маленький маленького маленькому маленького маленьким маленьком"),
    ("big", "n", "sg", "большое большого большому большое большим большом"),
    ("big", "m", "pl", "большие больших большим больших большими больших"),
    ("good", "m", "sg", "хороший хорошего хорошему хорошего хорошим хорошем"),
    ("good", "f", "sg", "хорошая хорошей хорошей хорошую хорошей хорошей"),
    ("expensive", "m", "sg", "дорогой дорогого дорогому дорогого дорогим дорогом"),
    ("young", "f", "sg", "молодая молодой молодой молодую молодой молодой"),
]


@pytest.mark.parametrize(("concept", "gender", "number", "forms"), ADJECTIVES)
def test_adjectives_decline(ru: Language, concept: str, gender: str, number: str, forms: str) -> None:
    entry = ru.lexicon.adjectives[concept]
    made = [
        ru.adjective(entry, Features(number=number, gender=gender, case=case, animate=gender != "n")) for case in CASES
    ]
    assert made == forms.split()


DETERMINERS = [
    ("this", "cat", "sg", "эта этой этой эту этой этой"),
    ("this", "table", "sg", "этот этого этому этот этим этом"),
    ("this", "dog", "pl", "эти этих этим этих этими этих"),
    ("my", "brother", "sg", "мой моего моему моего моим моём"),
    ("my", "letter", "sg", "моё моего моему моё моим моём"),
    ("my", "book", "sg", "моя моей моей мою моей моей"),
    ("my", "book", "pl", "мои моих моим мои моими моих"),
    ("a", "wolf", "sg", "один одного одному одного одним одном"),
    ("a", "book", "sg", "одна одной одной одну одной одной"),
    ("a", "wolf", "pl", "некоторые некоторых некоторым некоторых некоторыми некоторых"),
    ("two", "wolf", "pl", "два двух двум двух двумя двух"),
    ("two", "table", "pl", "два двух двум два двумя двух"),
    ("two", "book", "pl", "две двух двум две двумя двух"),
    ("two", "cat", "pl", "две двух двум двух двумя двух"),
    ("five", "wolf", "pl", "пять пяти пяти пять пятью пяти"),
]


@pytest.mark.parametrize(("kind", "concept", "number", "forms"), DETERMINERS)
def test_determiners_decline(ru: Language, kind: str, concept: str, number: str, forms: str) -> None:
    assert [ru.determiner(kind, features(ru, concept, number, case, kind)) for case in CASES] == forms.split()


COUNTED = [
    ("two", "table", "nom", "два больших стола"),
    ("two", "table", "acc", "два больших стола"),
    ("two", "table", "ins", "двумя большими столами"),
    ("two", "book", "nom", "две большие книги"),
    ("two", "cat", "acc", "двух больших кошек"),
    ("two", "child", "nom", "два больших ребёнка"),
    ("two", "child", "acc", "двух больших детей"),
    ("two", "letter", "acc", "два больших письма"),
    ("five", "child", "nom", "пять больших детей"),
    ("five", "wolf", "acc", "пять больших волков"),
    ("five", "cat", "dat", "пяти большим кошкам"),
    ("five", "egg", "acc", "пять больших яиц"),
    ("five", "chair", "loc", "пяти больших стульях"),
]


@pytest.mark.parametrize(("kind", "concept", "case", "text"), COUNTED)
def test_numerals_govern_noun_and_adjective(ru: Language, kind: str, concept: str, case: str, text: str) -> None:
    f = features(ru, concept, "pl", case, kind)
    big, noun = ru.lexicon.adjectives["big"], ru.lexicon.nouns[concept]
    assert f"{ru.determiner(kind, f)} {ru.adjective(big, f)} {ru.noun(noun, f)}" == text


VERBS = [
    ("read", "читаю читаешь читает читаем читаете читают", "читал читала читало читали"),
    ("dance", "танцую танцуешь танцует танцуем танцуете танцуют", "танцевал танцевала танцевало танцевали"),
    ("sleep", "сплю спишь спит спим спите спят", "спал спала спало спали"),
    ("shout", "кричу кричишь кричит кричим кричите кричат", "кричал кричала кричало кричали"),
    ("laugh", "смеюсь смеёшься смеётся смеёмся смеётесь смеются", "смеялся смеялась смеялось смеялись"),
    ("eat", "ем ешь ест едим едите едят", "ел ела ело ели"),
    ("carry", "несу несёшь несёт несём несёте несут", "нёс несла несло несли"),
    ("write", "пишу пишешь пишет пишем пишете пишут", "писал писала писало писали"),
]
PERFECTIVES = [
    ("give", "дам дашь даст дадим дадите дадут", "дал дала дало дали"),
    ("help", "помогу поможешь поможет поможем поможете помогут", "помог помогла помогло помогли"),
    ("find", "найду найдёшь найдёт найдём найдёте найдут", "нашёл нашла нашло нашли"),
    ("buy", "куплю купишь купит купим купите купят", "купил купила купило купили"),
]


@pytest.mark.parametrize(("concept", "forms", "then"), VERBS)
def test_imperfectives_conjugate(ru: Language, concept: str, forms: str, then: str) -> None:
    entry = ru.lexicon.verbs[concept]
    assert nonpast(entry) == tuple(forms.split())
    assert [past(entry, at) for at in ("m", "f", "n", "pl")] == then.split()


@pytest.mark.parametrize(("concept", "forms", "then"), PERFECTIVES)
def test_perfectives_conjugate(ru: Language, concept: str, forms: str, then: str) -> None:
    entry = ru.lexicon.verbs[concept]["perfective"]
    assert nonpast(entry) == tuple(forms.split())
    assert [past(entry, at) for at in ("m", "f", "n", "pl")] == then.split()


CAT, MAN = NounPhrase("cat", determiner="the"), NounPhrase("man", determiner="the")
BOOK = NounPhrase("book", determiner="the")
GARDEN = ("in", NounPhrase("garden", determiner="the"))

SENTENCES = [
    (Clause("sleep", CAT, "past", place=GARDEN), "Кошка спала в саду."),
    (Clause("sleep", CAT, "future", True, place=GARDEN, time="tomorrow"), "Завтра кошка не будет спать в саду."),
    (Clause("be", CAT, "present", predicate="young"), "Кошка молодая."),
    (Clause("be", CAT, "present", True, predicate="young"), "Кошка не молодая."),
    (Clause("be", CAT, "past", True, predicate="young"), "Кошка не была молодой."),
    (Clause("be", CAT, "future", predicate="young", time="soon"), "Скоро кошка будет молодой."),
    (Clause("be", CAT, "past", predicate="sick"), "Кошка была больна."),
    (Clause("be", NounPhrase("we", "pl"), "past", predicate="happy"), "Мы были счастливыми."),
    (Clause("be", CAT, "present", place=GARDEN), "Кошка в саду."),
    (Clause("be", CAT, "present", True, place=GARDEN), "Кошки нет в саду."),
    (Clause("be", CAT, "past", True, place=GARDEN, time="yesterday"), "Вчера кошки не было в саду."),
    (Clause("be", NounPhrase("i"), "future", True, place=GARDEN, time="soon"), "Скоро меня не будет в саду."),
    (
        Clause("be", NounPhrase("i"), "present", True, place=("in", NounPhrase("garden", determiner="my"))),
        "Меня нет в моём саду.",
    ),
    (
        Clause("be", NounPhrase("i"), "present", place=("in", NounPhrase("garden", determiner="my"))),
        "Я в своём саду.",
    ),
    (
        Clause("be", NounPhrase("cat", "pl", "five"), "past", True, place=("behind", GARDEN[1])),
        "Пяти кошек не было за садом.",
    ),
    (Clause("see", MAN, "past", object=NounPhrase("dog", "pl", "two")), "Мужчина увидел двух собак."),
    (Clause("see", MAN, "present", object=NounPhrase("dog", "pl", "five")), "Мужчина видит пять собак."),
    (Clause("eat", NounPhrase("cat", "pl", "two"), "past", object=NounPhrase("egg", determiner="a")),
     "Две кошки съели одно яйцо."),
    (Clause("buy", MAN, "past", object=BOOK, manner="often"), "Мужчина часто покупал книгу."),
    (Clause("buy", MAN, "past", object=BOOK), "Мужчина купил книгу."),
    (Clause("buy", MAN, "past", True, object=BOOK, manner="quickly"), "Мужчина купил книгу не быстро."),
    (Clause("sing", MAN, "future", manner="quietly", time="soon"), "Скоро мужчина будет тихо петь."),
    (Clause("help", CAT, "future", object=NounPhrase("judge", determiner="this"), time="soon"),
     "Скоро кошка поможет этому судье."),
    (Clause("follow", NounPhrase("they", "pl"), "present", object=NounPhrase("lion", "pl", "the", "big")),
     "Они следуют за большими львами."),
    (Clause("admire", NounPhrase("you"), "past", object=NounPhrase("king", determiner="my")),
     "Ты восхищался моим королём."),
    (Clause("sell", NounPhrase("i"), "past", object=NounPhrase("car", determiner="my", adjective="blue")),
     "Я продал свою синюю машину."),
    (
        Clause("give", MAN, "past", object=BOOK, recipient=NounPhrase("child", "pl", "two"), time="last_week"),
        "На прошлой неделе мужчина дал двум детям книгу.",
    ),
    (Clause("sit", CAT, "present", place=("near", NounPhrase("lake", "pl", "the"))), "Кошка сидит около озёр."),
    (Clause("sit", CAT, "present", place=("in_front_of", NounPhrase("house", determiner="the"))),
     "Кошка сидит перед домом."),
]  # fmt: skip


@pytest.mark.parametrize(("clause", "text"), SENTENCES)
def test_sentences(ru: Language, clause: Clause, text: str) -> None:
    assert ru.render(Meaning((clause,))).text == text


def test_clauses_are_joined_after_a_comma(ru: Language) -> None:
    clauses = (Clause("laugh", MAN, "past"), Clause("fall", CAT, "past"))
    assert ru.render(Meaning(clauses, "because")).text == "Мужчина смеялся, потому что кошка упала."
    assert ru.render(Meaning(clauses, "and")).text == "Мужчина смеялся, и кошка упала."


def test_v_becomes_vo_before_a_cluster(ru: Language) -> None:
    assert ru.contract(["в", "всех"]) == ["во", "всех"]
    assert ru.contract(["в", "важном", "в", "саду"]) == ["в", "важном", "в", "саду"]


def test_spelling_rules_hold_in_every_sentence(ru: Language) -> None:
    """After к г х ж ш щ ч never ы, after hushing consonants never я or ю; only Cyrillic."""
    rng = Random(11)
    for _ in range(400):
        text = ru.render(sample(ru.world, rng)).text
        assert re.fullmatch(r"[А-ЯЁ][а-яё, ]+\.", text), text
        assert not re.search(r"[кгхжшщч]ы|[жшщч][яю]|[аеёиоуыэюя]ь", text), text
