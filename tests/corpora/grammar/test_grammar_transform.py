"""Each dimension of a transform changes what it names and nothing else."""

import re
from random import Random

import pytest

from langmerge.corpora.grammar.language import Language, available
from langmerge.corpora.grammar.meaning import Clause, Meaning, NounPhrase, sample
from langmerge.corpora.grammar.words import Features
from langmerge.corpora.grammar.world import World

WORLD = World.load()
SPANISH = Language.load("es")
GREEK = "{from: abcdefghijklmnñopqrstuvwxyzáéíóúü, to: αβγδεζηθικλμνξοπρστυφχψωάέήίόύώϊϋ}"
LEXICAL = ("NOUN", "ADJ", "VERB", "ADV")


def draw(n=300):
    rng = Random(2)
    return [sample(WORLD, rng) for _ in range(n)]


@pytest.fixture
def declare(tmp_path):
    def build(transform, base="es", code="x"):
        text = f"language: {{code: {code}, transform_of: {base}}}\ntransform: {transform}\n"
        (tmp_path / f"{code}.yaml").write_text(text, encoding="utf-8")
        return Language.load(code, tmp_path)

    return build


def shape(words):
    return [(w.role, w.concept, w.pos, w.features, w.clause) for w in words]


@pytest.mark.parametrize("base", available())
@pytest.mark.parametrize("order", ["reversed", "sov"])
def test_order_permutes_the_words(declare, base, order):
    changed, original = declare(f"{{order: {order}}}", base), Language.load(base)
    moved = 0
    for meaning in draw(100):
        before, after = original.words(meaning), changed.words(meaning)
        key = lambda w: (w.text, w.role, w.concept, w.pos, w.clause)  # noqa: E731
        assert sorted(map(key, before)) == sorted(map(key, after))
        moved += before != after
        if order == "sov" and len(meaning.clauses) == 1:
            final = [w.role in ("verb", "rest", "negation") for w in after]
            assert final == sorted(final)
    assert moved > 50 or (order == "sov" and base in ("hi", "tr"))  # whose verb is last already


def test_orders_by_hand(declare):
    man, dog = NounPhrase("man", "sg", "the", "poor"), NounPhrase("dog", "pl", "two")
    meaning = Meaning((Clause("wash", man, "past", True, object=dog, time="yesterday"),))
    assert SPANISH.render(meaning).text == "El hombre pobre no lavó dos perros ayer."
    assert declare("{order: sov}").render(meaning).text == "El hombre pobre dos perros ayer no lavó."
    assert declare("{order: reversed}").render(meaning).text == "Ayer dos perros lavó no el hombre pobre."


def test_script_is_a_bijection_and_keeps_the_spans(declare):
    greek = declare(f"{{script: {GREEK}}}")
    back = {ord(v): chr(k) for k, v in greek.letters.items()}
    for meaning in draw():
        before, after = SPANISH.render(meaning), greek.render(meaning)
        assert after.spans == before.spans
        assert after.text.translate(back) == before.text
        assert not re.search("[a-záéíóúüñ]", after.text.lower().translate({ord(c): "" for c in "άέήίόύώ"}))


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("base", available())
def test_relexified_share_is_what_was_asked(declare, base, share):
    changed, original = declare(f"{{relexify: {share}}}", base), Language.load(base)
    total = len(WORLD.noun_list) + len(WORLD.adjectives) + len(WORLD.verbs) + len(WORLD.adverbs)
    assert len(changed.relexifier.lexemes) == round(share * total)
    relexified, kept = set(), set()
    for meaning in draw(600):
        before, after = original.words(meaning), changed.words(meaning)
        assert shape(before) == shape(after)
        for old, new in zip(before, after, strict=True):
            lexeme = changed.relexifier.lexeme(old)
            assert (old.text != new.text) == (lexeme is not None), old
            if old.pos in LEXICAL and old.concept != "be":
                (kept if lexeme is None else relexified).add((old.pos, old.concept))
    assert not relexified & kept
    assert abs(len(relexified) / len(relexified | kept) - share) < 0.06


def test_relexified_sets_are_nested_and_words_stable(declare):
    quarter, half = declare("{relexify: 0.25}", code="a"), declare("{relexify: 0.5}", code="b")
    assert quarter.relexifier.lexemes < half.relexifier.lexemes
    for meaning in draw():
        for one, two in zip(quarter.words(meaning), half.words(meaning), strict=True):
            if (one.pos, one.concept) in quarter.relexifier.lexemes:
                assert one.text == two.text
    other = declare("{relexify: 0.5, seed: 1}", code="c")
    assert other.relexifier.lexemes != half.relexifier.lexemes


def test_invented_words_keep_shape_and_endings(declare):
    relexified = declare("{relexify: 1.0}")
    table = Meaning((Clause("sleep", NounPhrase("cat", "sg", "the", "red")),))
    tables = Meaning((Clause("sleep", NounPhrase("cow", "pl", "the", "red")),))
    one, many = relexified.words(table), relexified.words(tables)
    red, reds = (next(w.text for w in ws if w.pos == "ADJ") for ws in (one, many))
    assert red.endswith("o") and reds == red[:-1] + "as"
    invented = set()
    for concept in WORLD.noun_list:
        lemma = SPANISH.lexicon.nouns[concept]["lemma"]
        word = next(
            w for w in relexified.words(Meaning((Clause("fall", NounPhrase(concept, "sg", "the")),))) if w.pos == "NOUN"
        )
        assert re.sub("[^aeiouáéíóú]", "C", word.text) == re.sub("[^aeiouáéíóú]", "C", lemma)
        assert word.text != lemma and word.text[-1] == lemma[-1]
        invented.add(word.text)
    assert len(invented) == len(WORLD.noun_list)


def test_without_agreement_one_form_serves_all(declare):
    plain = declare("{agreement: false}")
    forms = {}
    for meaning in draw(800):
        before, after = SPANISH.words(meaning), plain.words(meaning)
        pronouns = [w for w in after if w.pos == "PRON"]
        assert len(after) == len(before) + len(pronouns)
        for word in after:
            if word.pos in ("VERB", "AUX", "ADJ", "DET"):
                key = (word.pos, word.concept, word.role == "predicate", word.features.tense)
                forms.setdefault(key, set()).add(word.text)
        nouns = [[w.text for w in ws if w.pos in ("NOUN", "ADV", "ADP", "NUM")] for ws in (before, after)]
        assert nouns[0] == nouns[1]
    copulas = {"be"}  # ser and estar; imperfect where often or always
    assert all(len(f) == 1 for (pos, c, _, t), f in forms.items() if c not in copulas and t != "past")
    tables = Meaning((Clause("fall", NounPhrase("table", "pl", "the", "red")),))
    assert plain.render(tables).text == "El mesas rojo cae."
    assert plain.render(Meaning((Clause("fall", NounPhrase("we", "pl")),))).text == "Nosotros cae."


def test_without_agreement_russian_cases_of_nouns_stay(declare):
    if "ru" not in available():
        pytest.skip("Russian is not there")
    plain, russian = declare("{agreement: false}", "ru"), Language.load("ru")
    adjective = plain.lexicon.adjectives["new"]
    genitive = Features(number="pl", gender="f", case="gen")
    assert plain.adjective(adjective, genitive) == plain.adjective(adjective, plain.citation) == "новый"
    assert plain.noun(plain.lexicon.nouns["book"], genitive) == russian.noun(russian.lexicon.nouns["book"], genitive)


def test_dimensions_compose(declare):
    both = declare(f"{{order: sov, script: {GREEK}}}", code="a")
    sov = declare("{order: sov}", code="b")
    for meaning in draw(50):
        assert both.render(meaning).text == sov.render(meaning).text.translate(both.letters)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        ("{ordre: sov}", r"x\.yaml: transform: expected some of"),
        ("{order: osv}", r"x\.yaml: transform\.order"),
        ("{relexify: 2}", r"x\.yaml: transform\.relexify"),
        ("{script: {from: abc, to: αβ}}", r"x\.yaml: transform\.script"),
        ("{script: {from: ab, to: ბბ}}", r"x\.yaml: transform\.script"),
        ("{script: {from: ab, to: ba}}", r"x\.yaml: transform\.script"),
    ],
)
def test_mistakes_are_named(declare, transform, message):
    with pytest.raises(ValueError, match=message):
        declare(transform)


def test_a_transform_of_a_transform_is_refused(declare):
    declare("{order: sov}", code="a")
    with pytest.raises(ValueError, match="name its base instead"):
        declare("{order: sov}", base="a", code="b")
