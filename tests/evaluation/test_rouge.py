"""ROUGE over any script: against an independent computation, and the tokenizer's cases."""

import random
from collections import Counter

import pytest

from langmerge.evaluation.metrics import score
from langmerge.evaluation.rouge import UnicodeTokenizer, rouge_statistics

SENTENCES = {
    "hi": "बच्चे नदी के किनारे खेलते हैं",
    "ru": "Дети играют на берегу реки",
    "tr": "Çocuklar ırmağın kıyısında oynuyor",
    "de": "Kinder spielen am Ufer des Flusses",
    "zh": "孩子们在河边玩",
}


def longest_common_subsequence(a, b):
    """By recursion over all prefixes."""
    if not a or not b:
        return 0
    if a[-1] == b[-1]:
        return 1 + longest_common_subsequence(a[:-1], b[:-1])
    return max(longest_common_subsequence(a[:-1], b), longest_common_subsequence(a, b[:-1]))


def f1(common, output, answer):
    return 2 * common / (output + answer) if common else 0.0


@pytest.mark.parametrize("seed", range(8))
def test_equals_overlaps_and_an_independent_lcs(seed):
    draw = random.Random(seed)
    words = ["дом", "река", "çay", "नदी", "straße"]
    output, answer = ([draw.choice(words) for _ in range(draw.randint(1, 7))] for _ in range(2))
    found = rouge_statistics([" ".join(output)], [" ".join(answer)], "xx")
    assert found["rouge_l"][0, 0] == pytest.approx(
        f1(longest_common_subsequence(output, answer), len(output), len(answer))
    )
    for name, n in (("rouge_1", 1), ("rouge_2", 2)):
        a, b = (Counter(zip(*(t[i:] for i in range(n)), strict=False)) for t in (output, answer))
        expected = f1((a & b).total(), a.total(), b.total())
        assert found[name][0, 0] == pytest.approx(expected)


@pytest.mark.parametrize("language", SENTENCES)
def test_equal_texts_score_100_in_every_script_and_unrelated_ones_0(language):
    text = SENTENCES[language]
    other = "xyz uvw"
    found = rouge_statistics([text, other], [text + "!", text], language)
    for table in found.values():
        assert table.tolist() == [[1, 1], [0, 1]]
        assert float(score("rouge_l", table.sum(0))) == 50


def test_tokens():
    tokens = UnicodeTokenizer().tokenize
    assert tokens("Über Größe, d'accord: ９9!") == ["über", "größe", "d", "accord", "99"]
    assert tokens("नदी के") == ["नदी", "के"]  # vowel signs stay with their letters
    assert tokens("我爱GPT模型") == ["我", "爱", "gpt", "模", "型"]
    assert tokens("") == tokens("...") == []
    assert UnicodeTokenizer("tr").tokenize("IŞIK İz") == ["ışık", "iz"]


def test_without_tokens_the_score_is_zero():
    assert rouge_statistics(["", "a"], ["a", "..."], "en")["rouge_l"][:, 0].tolist() == [0, 0]
