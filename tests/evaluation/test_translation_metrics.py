"""Scores equal sacrebleu's corpus functions, also in the corners, and are functions of summed statistics."""

import random

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF, TER

from langmerge.evaluation import metrics
from langmerge.provenance import InputError

WORDS = [
    "the",
    "a",
    "red",
    "old",
    "cat",
    "dog",
    "house",
    ",",
    ".",
    "sees",
    "gives",
    "(big)",
    "don't",
    "l'été",
    "straße",
    "3.14",
]


def corpus(seed, n=40, noise=0.3, words=WORDS):
    rng = random.Random(seed)
    references = [" ".join(rng.choices(words, k=rng.randint(1, 14))) for _ in range(n)]
    hypotheses = [" ".join(rng.choice(words) if rng.random() < noise else w for w in r.split()) for r in references]
    return hypotheses, references


REFERENCE = {"bleu": BLEU, "chrf": lambda: CHRF(word_order=2), "ter": TER}


def both(name, hypotheses, references):
    ours = metrics.build(name, "es")
    rows = metrics.statistics(ours, hypotheses, references)
    theirs = REFERENCE[name]()
    expected = theirs.corpus_score(hypotheses, [references])
    return (
        float(metrics.score(name, rows.sum(0))),
        expected.score,
        metrics.signature(ours),
        str(theirs.get_signature()),
    )


@pytest.mark.parametrize("name", ["bleu", "chrf", "ter"])
@pytest.mark.parametrize("noise", [0.0, 0.1, 0.5, 1.0])
def test_equals_sacrebleu(name, noise):
    ours, theirs, our_signature, their_signature = both(name, *corpus(3, noise=noise))
    assert ours == pytest.approx(theirs, rel=1e-12)
    assert our_signature == their_signature
    assert ours >= 0.0


@pytest.mark.parametrize("name", ["bleu", "chrf", "ter"])
@pytest.mark.parametrize(
    "hypotheses",
    [
        ["", ""],
        ["x", "y"],
        ["the cat", ""],
        ["the", "a dog"],
        ["the cat sat on a mat", "no"],
        ["the dog cat mat on", "zz yy xx ww vv"],
        ["the cat sat on the mat", "a dog"],
    ],
)
def test_equals_sacrebleu_in_the_corners(name, hypotheses):
    """Empty outputs, no match at all, orders without a match (smoothing), outputs shorter than four words."""
    ours, theirs, *_ = both(name, hypotheses, ["the cat sat on the mat", "a dog"])
    assert ours == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("name", ["bleu", "chrf", "ter"])
def test_many_sums_at_once(name):
    """Scoring (samples, k) sums equals scoring the resampled texts one by one."""
    hypotheses, references = corpus(5)
    rows = metrics.statistics(metrics.build(name, "es"), hypotheses, references)
    picks = np.random.default_rng(0).integers(len(rows), size=(6, len(rows)))
    many = metrics.score(name, rows[picks].sum(1))
    for pick, value in zip(picks, many, strict=True):
        expected = REFERENCE[name]().corpus_score([hypotheses[i] for i in pick], [[references[i] for i in pick]])
        assert value == pytest.approx(expected.score, rel=1e-12)


def test_tokenizer_follows_the_target_language():
    sentence = "今天天气很好。"
    for target, tokenizer in {"zh": "tok:zh", "tr": "tok:13a"}.items():
        metric = metrics.build("bleu", target)
        length = metrics.statistics(metric, [sentence], [sentence])[0, 0]
        assert tokenizer in metrics.signature(metric)
        assert length == (7 if target == "zh" else 1)
    assert "nw:2" in _signature("chrf", "es")
    assert "asian:yes" in _signature("ter", "zh")


def _signature(name, target):
    metric = metrics.build(name, target)
    metrics.statistics(metric, ["a"], ["a"])
    return metrics.signature(metric)


def test_unknown_metric_is_named():
    with pytest.raises(InputError, match=r"comet.*bleu, chrf, ter"):
        metrics.build("comet", "es")


def test_missing_segmenter_is_named(monkeypatch):
    def missing(**_):
        raise ImportError("no module named MeCab")

    monkeypatch.setattr(metrics, "BLEU", missing)
    with pytest.raises(InputError, match=r"sacrebleu\[ja\]"):
        metrics.build("bleu", "ja")
