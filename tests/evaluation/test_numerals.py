"""Numbers in text: separators by language, scripts, signs; the last one counts."""

from decimal import Decimal

import pytest

from langmerge.evaluation.generation import number_statistics
from langmerge.evaluation.numerals import numbers, same_number


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Es sind 42.", "de", ["42"]),
        ("1.234", "es", ["1234"]),
        ("1.234", "en", ["1.234"]),
        ("1,234", "en", ["1234"]),
        ("1,234", "es", ["1.234"]),
        ("12.5", "es", ["12.5"]),
        ("12,5", "en", ["12.5"]),
        ("0.125", "es", ["0.125"]),
        ("1,234,567", "de", ["1234567"]),
        ("1.234,50", "en", ["1234.5"]),
        ("1,234.50", "de", ["1234.5"]),
        ("12,34,567", "hi", ["1234567"]),
        ("1 234 567,5", "fr", ["1234567.5"]),
        ("1\u202f234", "fr", ["1234"]),
        ("1'234", "de", ["1234"]),
        ("2020 300", "en", ["2020", "300"]),
        ("१२३", "hi", ["123"]),
        ("١٬٢٣٤٫٥", "ar", ["1234.5"]),
        ("共有42个", "zh", ["42"]),
        ("-3 and \u22124", "en", ["-3", "-4"]),
        ("10-5=5", "en", ["10", "5", "5"]),
        ("12 m2, A4", "en", ["12"]),
        ("1, 2, 3", "en", ["1", "2", "3"]),
        ("none", "en", []),
    ],
)
def test_numbers(text, language, expected):
    assert numbers(text, language) == [Decimal(number) for number in expected]


def test_the_last_number_counts():
    assert same_number("3 + 4 = 7.", "7", "en")
    assert same_number("7.0", "७", "hi")
    assert not same_number("7 + 1", "7", "en")
    assert not same_number("seven", "7", "en")
    assert not same_number("", "7", "en")
    assert same_number(" Sieben ", "sieben", "de") and not same_number("acht", "sieben", "de")
    assert number_statistics(["7", "8"], ["7", "7"], "en").tolist() == [[1, 1], [0, 1]]
