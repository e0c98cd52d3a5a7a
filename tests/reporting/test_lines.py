"""Where lines may not break."""

import pytest

from langmerge.reporting.lines import NO_BREAK, unbroken


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("loss 0.3 [−0.1, 0.2] bits", "[−0.1,~0.2]"),
        ("correlate (p = 0.012)", "(p~=~0.012)"),
        ("corrected p < 0.001, ρ = −0.4", "p~<~0.001,"),
        ("5.0 % more", "5.0~% more"),
        ("it takes 355.5 kB", "355.5~kB"),
        ("864.5 k a token", "864.5~k a"),
        ("n = 24–64 items", "n~=~24–64 items"),
    ],
)
def test_a_number_stays_whole(text, kept):
    assert kept.replace("~", NO_BREAK) in unbroken(text)
    assert unbroken(text).replace(NO_BREAK, " ") == text


@pytest.mark.parametrize("text", ["3 kinds of distance", "4 Turkish models", "[see the CSV file, " + "x" * 40])
def test_words_may_part(text):
    assert unbroken(text) == text
