"""The transforms of Spanish that come with the grammar: a factorial design, equally hard where that can be."""

from itertools import combinations, product
from pathlib import Path

import pytest

from langmerge.corpora.grammar import corpus
from langmerge.corpora.grammar.language import Language, available
from langmerge.corpora.grammar.transform import transform_distance
from langmerge.corpora.grammar.world import GRAMMAR, World

WORLD = World.load()
FOLDER = GRAMMAR / "languages"
SPANISH = Language.load("es")
MEANINGS = corpus.meanings(WORLD, corpus.Sizes(1, 1, 400), seed=5)["test"]
TRANSFORMS = [code for code in available(transforms=True) if code.startswith("es-")]
PARTS = ("relex50", "sov", "script", "noagree")
AGREEING = [code for code in TRANSFORMS if not code.endswith("noagree")]


def words(language):
    return [language.render(meaning).text.split() for meaning in MEANINGS]


def distance(a, b, folder=FOLDER):
    return transform_distance(a, b, folder)


def test_every_combination_is_there():
    parts = [(share, *PARTS[1:]) for share in ("relex50", "relex100")]
    factorial = {"-".join(["es", *c]) for some in parts for n in range(1, 5) for c in combinations(some, n)}
    assert factorial | {f"es-relex{n}" for n in (25, 75, 100)} | {"es-reversed"} == set(TRANSFORMS)


@pytest.mark.parametrize("code", AGREEING)
def test_sentences_have_the_same_number_of_words_and_letters(code):
    for before, after in zip(words(SPANISH), words(Language.load(code)), strict=True):
        assert len(before) == len(after)
        if "relex" not in code:
            assert sum(map(len, before)) == sum(map(len, after))


@pytest.mark.parametrize("code", [code for code in AGREEING if "sov" not in code and code != "es-reversed"])
def test_words_correspond_one_to_one(code):
    """A form of a lexeme has one form in the transform, and no two share it."""
    changed = Language.load(code)
    there, back = {}, {}
    for meaning in MEANINGS:
        for old, new in zip(SPANISH.words(meaning), changed.words(meaning), strict=True):
            key = old.pos, old.concept, old.text
            text = new.text.translate(changed.letters)
            assert there.setdefault(key, text) == text
            assert back.setdefault((*key[:2], text), key) == key


def test_agreement_removed_leaves_fewer_forms_and_about_as_many_words():
    plain = words(Language.load("es-noagree"))
    forms = [{word.lower() for sentence in text for word in sentence} for text in (words(SPANISH), plain)]
    assert len(forms[1]) < 0.85 * len(forms[0])
    lengths = [sum(map(len, text)) for text in (words(SPANISH), plain)]
    assert lengths[1] / lengths[0] == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(("one", "two"), combinations(["es", *TRANSFORMS], 2))
def test_distances_are_what_the_names_say(one, two):
    named = [set(code.split("-")[1:]) for code in (one, two)]
    shares = [next((int(part[5:]) for part in parts if part.startswith("relex")), 0) for parts in named]
    orders = [parts & {"sov", "reversed"} for parts in named]
    assert distance(one, two) == {
        "lexicon": abs(shares[0] - shares[1]) / 100,
        "order": float(orders[0] != orders[1]),
        "script": float("script" in named[0] ^ named[1]),
        "agreement": float("noagree" in named[0] ^ named[1]),
    }
    assert distance(one, two) == distance(two, one)


@pytest.mark.parametrize("seeds", [(0, 0), (0, 7)])
@pytest.mark.parametrize(("p", "q"), [(0.25, 0.75), (0.5, 0.5), (0.0, 1.0)])
def test_lexical_distance_is_the_share_of_lexemes_that_differ(tmp_path, seeds, p, q):
    declare(tmp_path, "a", f"{{relexify: {p}, seed: {seeds[0]}}}")
    declare(tmp_path, "b", f"{{relexify: {q}, seed: {seeds[1]}}}")
    one, two = (Language.load(code, tmp_path).relexifier for code in "ab")
    total = len(WORLD.noun_list) + len(WORLD.adjectives) + len(WORLD.verbs) + len(WORLD.adverbs)
    differ = one.lexemes ^ two.lexemes if seeds[0] == seeds[1] else one.lexemes | two.lexemes
    assert distance("a", "b", tmp_path)["lexicon"] == pytest.approx(len(differ) / total, abs=0.05)


def test_distance_is_a_metric_in_each_dimension():
    codes = ["es", "es-relex25", "es-relex75", "es-reversed", "es-relex50-sov-script-noagree"]
    apart = {pair: distance(*pair) for pair in product(codes, repeat=2)}
    for a, b, c in product(codes, repeat=3):
        assert all(apart[a, c][key] <= apart[a, b][key] + apart[b, c][key] for key in apart[a, c])
        assert a != b or not any(apart[a, b].values())


def declare(folder: Path, code: str, transform: str, base: str = "es") -> None:
    text = f"language: {{code: {code}, transform_of: {base}}}\ntransform: {transform}\n"
    (folder / f"{code}.yaml").write_text(text, encoding="utf-8")


def test_mistakes_are_named(tmp_path):
    declare(tmp_path, "a", "{order: sov}")
    declare(tmp_path, "b", "{order: sov}", base="it")
    declare(tmp_path, "c", "{ordre: sov}")
    with pytest.raises(ValueError, match="a is a transform of es and b of it"):
        distance("a", "b", tmp_path)
    with pytest.raises(ValueError, match=r"c\.yaml: transform: expected some of"):
        distance("a", "c", tmp_path)
    with pytest.raises(ValueError, match=r"d\.yaml: no such file"):
        distance("a", "d", tmp_path)
