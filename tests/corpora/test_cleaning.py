"""Normalising, folding, and which pairs each filter keeps."""

import pytest

from langmerge.config import Filters
from langmerge.corpora.cleaning import HeldOut, Pair, Tally, clean, fold, normalise


def run(sentences, held_out=None, limit=None, **filters):
    """The numbers of the pairs that are kept, and the tally."""
    tally = Tally("en", "es")
    held_out = {} if held_out is None else held_out
    rows = [Pair(str(i), *sides) for i, sides in enumerate(sentences)]
    kept = [int(pair.id) for pair in clean(rows, Filters(**filters), limit, tally, held_out)]
    assert tally.read == tally.kept + sum(tally.dropped.values())
    assert tally.kept == len(kept)
    return kept, tally


@pytest.mark.parametrize(
    ("raw", "clean_text"),
    [
        ("cafe\u0301", "café"),  # decomposed to composed
        (" « Où ? »\u202f! ", "« Où ? » !"),  # no-break and narrow no-break spaces
        ("a\t b\r\n\u2028c\u3000d", "a b c d"),
        ("\ufeffa\u200bb\u2060c", "abc"),
        ("a\x00b\x1bc", "abc"),
        ("क्‍ष नमस्‌ते", "क्‍ष नमस्‌ते"),  # joiners are spelling
        ("\u00a0\u200b ", ""),
    ],
)
def test_normalise(raw, clean_text):
    assert normalise(raw) == clean_text
    assert normalise(clean_text) == clean_text


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Don't go!", "don’t GO"),
        ("¿Dónde está?", "dónde está"),
        ("STRASSE.", "straße"),
        ("Ich , du", "ich, du"),
        ("मैं सोता हूँ।", "मैं सोता हूँ"),
    ],
)
def test_fold_joins(first, second):
    assert fold(first) == fold(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("el", "él"),  # accents are letters, not punctuation
        ("कि", "की"),  # and so are vowel signs
        ("5 $", "5 €"),
        ("?!", "..."),
        ("a b", "ab"),
    ],
)
def test_fold_keeps_apart(first, second):
    assert fold(first) != fold(second)


def test_filters_drop_what_they_say():
    rows = [
        ("one two three", "uno dos tres"),
        ("one two three four", "uno dos tres"),  # 4 words
        ("one two", "uno dos tres cuatro"),  # 4 words on the other side
        ("one", "u" * 31),  # 31 characters
        ("abc", "a" * 10),  # ratio 10 / 3 > 3
        ("abc", "a" * 9),  # ratio 3
        ("", "uno"),
        ("one", "\u200b"),
    ]
    kept, tally = run(rows, max_words=3, max_characters=30, max_length_ratio=3.0)
    assert kept == [0, 5]
    assert dict(tally.dropped) == {"max_words": 2, "max_characters": 1, "max_length_ratio": 1, "empty": 2}
    assert tally.words == {"en": 4, "es": 4}
    assert tally.characters == {"en": 16, "es": 21}


def test_duplicates_are_pairs_not_sentences():
    rows = [("I sleep.", "Duermo."), ("i sleep!", "¡Duermo!"), ("I sleep.", "Yo duermo."), ("I nap.", "Duermo.")]
    assert run(rows)[0] == [0, 2, 3]
    assert run(rows, deduplicate=False)[0] == [0, 1, 2, 3]


def test_held_out_splits_keep_their_repetitions_but_not_long_sentences():
    rows = [Pair("0", "a b", "c"), Pair("1", "a b", "c"), Pair("2", "a b c", "d"), Pair("3", "", "d")]
    kept = clean(rows, Filters(max_words=2), None, Tally("en", "es"), None)
    assert [pair.id for pair in kept] == ["0", "1"]


def test_limit_counts_after_filtering_and_prefix_holds():
    rows = [("", "x"), ("a b", "c d"), ("a b", "c d"), ("e", "f"), ("g", "h")]
    assert run(rows, limit=2)[0] == [1, 3]
    for limit in (1, 2, 3):
        assert run(rows, limit=limit)[0] == run(rows)[0][:limit]


def test_planted_contamination_is_counted_exactly():
    dev, test = HeldOut(), HeldOut()
    dev.add(Pair("d", "The cat sleeps.", "El gato duerme."))
    test.add(Pair("t", "I run.", "Corro."))
    rows = [
        ("the cat sleeps", "El gato está durmiendo."),  # pivot in dev
        ("A cat sleeps.", "¡El gato duerme!"),  # target in dev
        ("I RUN", "corro"),  # both sides in test
        ("The cat sleeps.", "Corro."),  # dev by the pivot, test by the target
        ("El gato duerme.", "The cat sleeps."),  # the sides are not mixed up
        ("The cat sleeps here.", "El gato duerme aquí."),
    ]
    held_out = {"dev": dev, "test": test}
    kept, tally = run(rows, held_out)
    assert kept == [4, 5]
    assert tally.dropped == {"contaminated": 4}
    counts = {"dev": {"en": 2, "es": 1, "either": 3}, "test": {"en": 1, "es": 2, "either": 2}}
    assert tally.contaminated == counts
    kept, tally = run(rows, held_out, drop_contaminated=False)
    assert kept == [0, 1, 2, 3, 4, 5]
    assert tally.contaminated == counts
