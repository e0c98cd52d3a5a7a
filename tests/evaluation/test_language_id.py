"""Off-target rates on planted languages; what cannot be known is None."""

import pytest

from langmerge.evaluation.language_id import UNDETERMINED, identify, language_rates, script

EN = [
    "The children are playing in the garden behind the house.",
    "She wrote a long letter to her friend yesterday.",
]
ES = [
    "Los niños están jugando en el jardín detrás de la casa.",
    "Ayer le escribió una carta muy larga a su amiga.",
]
DE = [
    "Die Kinder spielen im Garten hinter dem Haus.",
    "Gestern schrieb sie ihrer Freundin einen langen Brief.",
]
RU = ["Дети играют в саду за домом.", "Вчера она написала подруге длинное письмо."]
SET = ("de", "en", "es", "ru")


def test_right_language_is_not_off_target():
    rates = language_rates(ES, ES, EN, "en", "es", SET)
    assert rates["off_target"] == rates["off_target_floor"] == rates["source_language"] == 0.0
    assert rates["identified"] == 2 and rates["too_short"] == 0
    assert rates["copy"] == rates["empty"] == 0.0


def test_planted_errors_are_counted():
    hypotheses = [ES[0], DE[0], EN[0], EN[1], "", "sí"]
    references = [*ES, *ES, *ES]
    sources = [EN[0], EN[0], EN[0], EN[0], EN[0], EN[0]]
    rates = language_rates(hypotheses, references, sources, "en", "es", SET)
    assert rates["identified"] == 4 and rates["too_short"] == 1  # the empty one counts in neither
    assert rates["off_target"] == 3 / 4
    assert rates["source_language"] == 2 / 4
    assert rates["copy"] == 1 / 6  # EN[1] is English, but not this sentence
    assert rates["empty"] == 1 / 6


def test_floor_is_the_error_on_the_references():
    rates = language_rates(ES, [ES[0], EN[0]], EN, "en", "es", SET)
    assert (rates["off_target"], rates["off_target_floor"]) == (0.0, 0.5)


@pytest.mark.parametrize("target", ["en-rev", "xx"])
def test_unknown_target_is_none_and_not_zero(target):
    rates = language_rates(EN, ES, EN, "en", target, SET)
    for name in ("off_target", "off_target_floor", "source_language", "identified", "too_short"):
        assert rates[name] is None
    assert rates["copy"] == 1.0  # needs no language identification


def test_unknown_source_leaves_the_target_measurable():
    rates = language_rates(ES, ES, EN, "en-rev", "es", SET)
    assert rates["off_target"] == 0.0 and rates["source_language"] is None


def test_all_outputs_empty_gives_none():
    rates = language_rates(["", " "], ES, EN, "en", "es", SET)
    assert rates["off_target"] is None and rates["empty"] == 1.0


def test_script_decides_alone_even_when_short():
    assert identify("дом", SET) == "ru"
    assert identify("house", SET) is None  # three languages in Latin
    assert identify("घर", SET) == UNDETERMINED
    assert identify("1984!", SET) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("straße", "LATIN"), (RU[0], "CYRILLIC"), ("घर बड़ा है", "DEVANAGARI"), ("天気", "CJK"), ("12, 3", None)],
)
def test_script(text, expected):
    assert script(text) == expected


def test_japanese_and_chinese_share_characters():
    assert identify("東京", ("en", "ja")) == "ja"
    assert identify("これはとても面白い本です。私は昨日それを読みました。", ("en", "ja", "zh")) == "ja"
    assert identify("这本书非常有意思，我昨天已经把它读完了，你也应该读。", ("en", "ja", "zh")) == "zh"
