"""What the names of transforms say, and how far two are apart."""

from pathlib import Path

import pytest

from langmerge.corpora.grammar.transform import transform_distance
from langmerge.transforms import Transform, letter_table, named

FOLDER = Path(__file__).parents[1] / "data" / "grammar" / "languages"
EMBEDDED = sorted(path.stem for path in FOLDER.glob("es*.yaml"))


def test_a_name_says_what_differs():
    assert named("es", "es") == Transform()
    assert named("es-relex7", "es") == Transform(relexify=0.07)
    everything = Transform(relexify=1.0, order="reversed", script="script", agreement=False)
    assert named("es-relex100-reversed-script-noagree", "es") == everything
    assert named("pt-BR-script", "pt-BR") == Transform(script="script")


@pytest.mark.parametrize("code", ["fr", "est", "pt-BR", "en-script"])
def test_another_language_is_no_transform(code):
    assert named(code, "es") is None


@pytest.mark.parametrize("part", ["relex0", "relex101", "relex050", "script-reversed", "script-script", "MX", ""])
def test_names_that_are_no_transform_are_refused(part):
    with pytest.raises(ValueError, match="no transform of es is called so; expected es and some of -relexN"):
        named(f"es-{part}", "es")


def test_the_grammars_files_are_what_their_names_say():
    for a in EMBEDDED:
        for b in EMBEDDED:
            one, other = named(a, "es"), named(b, "es")
            assert one and other
            assert transform_distance(a, b, FOLDER) == pytest.approx(one.distance(other)), (a, b)


def test_words_of_two_seeds_are_independent():
    half, three = Transform(relexify=0.5), Transform(relexify=0.75)
    assert half.distance(three)["lexicon"] == 0.25
    assert half.distance(Transform(relexify=0.75, seed=1))["lexicon"] == 1 - 0.5 * 0.25


def test_letters_are_exchanged_with_their_capitals():
    assert "Cañé".translate(letter_table({"from": "acñé", "to": "αβγδ"}, "here")) == "Βαγδ"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ({"from": "abc", "to": "αβ"}, r"here: expected as many different letters .* found 3 \(3 different\) and 2"),
        ({"from": "abb", "to": "αβγ"}, "as many different letters"),
        ({"from": "ab", "to": "bc"}, "repeats letters of `from`"),
        ({"from": "ab", "to": "ßα"}, "capitals of `to` are not one to one"),
        ({"from": "ab"}, "expected {from: letters, to: letters}"),
    ],
)
def test_letters_that_are_not_one_to_one_are_refused(script, message):
    with pytest.raises(ValueError, match=message):
        letter_table(script, "here")
