"""Exact match and token F1 of SQuAD for any script, against the rule applied by hand."""

import re
import string

import numpy as np
import pytest

from langmerge.evaluation.metrics import score
from langmerge.evaluation.spans import exact_match, normalised, span_statistics, token_f1


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("The  Panthers' defense,", "en", ["panthers", "defense"]),
        ("It's $1,000 (a year)", "en", ["its", "1000", "year"]),
        ("an der Spree", "de", ["an", "spree"]),  # English articles are other words in other languages
        ("La Niña, ¿el «fenómeno»?", "es", ["niña", "fenómeno"]),
        ("ISPARTA'DA", "tr", ["ıspartada"]),
        ("الحرب العالمية", "ar", ["حرب", "عالمية"]),
        ("सन् १९१५ में।", "hi", ["सन्", "१९१५", "में"]),
        ("１９１５年。在 London", "zh", ["1915", "年", "在", "london"]),
        ("Cafe\u0301", "en", ["caf\u00e9"]),
        ("the", "en", []),
        (" … ", "ru", []),
    ],
)
def test_normalisation(text, language, expected):
    assert normalised(text, language) == expected


def squad(text):
    """SQuAD's published steps for English: lower case, punctuation, articles, white space."""
    kept = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def test_english_is_squads_own():
    texts = [
        "The Denver Broncos",
        "A. Lincoln & co.",
        "24–10",
        "an-the end",
        "$4.5 million",
        "Santa Clara, California.",
    ]
    for text in texts:
        assert normalised(text.replace("–", "-"), "en") == squad(text.replace("–", "-"))


@pytest.mark.parametrize(
    ("output", "answer", "language", "exact", "f1"),
    [
        ("the Broncos", "Broncos.", "en", 1, 1),
        ("Denver Broncos", "Broncos", "en", 0, 2 / 3),
        ("Broncos Denver", "Denver Broncos", "en", 0, 1),  # order counts for exact match only
        ("no no no", "no", "en", 0, 2 / 4),  # the same word counts once where it is asked for once
        ("no no", "no yes no", "en", 0, 4 / 5),
        ("Panthers", "Broncos", "en", 0, 0),
        ("", "Broncos", "en", 0, 0),
        ("the", "a", "en", 1, 1),  # nothing is left of either
        ("世界大战", "第一次世界大战", "zh", 0, 8 / 11),
    ],
)
def test_exact_match_and_f1(output, answer, language, exact, f1):
    assert exact_match(output, answer, language) == exact
    assert token_f1(output, answer, language) == pytest.approx(f1)
    assert token_f1(answer, output, language) == pytest.approx(f1)


def test_statistics_sum_to_the_means():
    outputs, answers = ["Denver Broncos", "24", "x"], ["Broncos", "24", "y"]
    made = span_statistics(outputs, answers, "en")
    assert list(made) == ["token_f1", "exact_match"] and made["token_f1"].shape == (3, 2)
    assert score("exact_match", made["exact_match"].sum(0)) == pytest.approx(100 / 3)
    assert score("token_f1", made["token_f1"].sum(0)) == pytest.approx(100 * (2 / 3 + 1) / 3)
    assert np.isnan(span_statistics([], [], "en")["token_f1"]).sum() == 0
