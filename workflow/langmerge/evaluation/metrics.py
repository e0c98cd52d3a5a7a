"""Scores from sufficient statistics: BLEU, chrF++ and TER (sacrebleu, with their signatures), and those of tasks.

A corpus score is a function of the *sum* of the sentences' (or items') statistics. The statistics are kept, so that
significance tests can resample sentences without tokenising anything again; :func:`score` computes many sums
at once.

BLEU: Papineni et al. 2002; chrF++: Popović 2017; TER: Snover et al. 2006; signatures: Post 2018.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from langmerge.provenance import InputError

ORDER = 4  # BLEU's n-grams
BETA = 2  # chrF weighs recall twice as much as precision

# Written without spaces, or with particles stuck to words: these need a BLEU tokenizer of their own.
BLEU_TOKENIZERS = {"zh": "zh", "ja": "ja-mecab", "ko": "ko-mecab"}


def build(name: str, target: str) -> Metric:
    """The sacrebleu metric ``name`` (bleu, chrf, ter) set up for target language ``target``."""
    if name == "bleu":
        try:
            return BLEU(tokenize=BLEU_TOKENIZERS.get(target, "13a"))
        except (ImportError, RuntimeError) as error:
            raise InputError(
                f"BLEU for {target!r} needs a tokenizer that is not installed ({error}); "
                f'run `pip install "sacrebleu[{target}]"` or leave bleu out of `metrics`'
            ) from None
    if name == "chrf":
        return CHRF(word_order=2)
    if name == "ter":
        asian = target in BLEU_TOKENIZERS
        return TER(normalized=asian, asian_support=asian)
    raise InputError(f"metrics: unknown metric {name!r}; expected some of {', '.join(TRANSLATION)}")


def statistics(metric: Metric, hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Sufficient statistics of n sentences with one reference each, as integers (n, k).

    k is 10 for BLEU (lengths of hypothesis and reference, 4 matches, 4 totals), 24 for chrF++ (hypothesis,
    reference, match for 6 character and 2 word orders), 2 for TER (edits, reference length).
    """
    # sacrebleu's only way to the statistics of single sentences; its significance tests use it too
    rows = metric._extract_corpus_statistics(list(hypotheses), [list(references)])
    return np.asarray(rows).astype(np.int64)


def signature(metric: Metric) -> str:
    """sacrebleu's signature of a metric that has been used: what to print next to a score."""
    return str(metric.get_signature())


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a / b``, and 0 where b is 0."""
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(a.shape, b.shape)), where=b != 0)


def _bleu(sums: np.ndarray) -> np.ndarray:
    """BLEU with exponential smoothing from summed statistics (..., 10)."""
    length, reference = sums[..., 0], sums[..., 1]
    correct, total = sums[..., 2 : 2 + ORDER], sums[..., 2 + ORDER :]
    # The j-th order without a match gets precision 1 / (2^j total); orders without n-grams make the score 0.
    misses = np.cumsum((correct == 0) & (total > 0), axis=-1)
    precision = _divide(np.where(correct > 0, correct, 0.5**misses), total)
    defined = np.logical_and((total > 0).all(-1), (correct > 0).any(-1))
    logarithm = np.log(np.where(defined[..., None], precision, 1.0)).mean(-1)
    penalty = np.minimum(0.0, 1.0 - _divide(reference, length))
    return np.where(defined, 100.0 * np.exp(logarithm + penalty), 0.0)


def _chrf(sums: np.ndarray) -> np.ndarray:
    """chrF from summed statistics (..., 3 x orders), averaged over the orders that both sides have."""
    hypothesis, reference, match = sums[..., 0::3], sums[..., 1::3], sums[..., 2::3]
    both = (hypothesis > 0) & (reference > 0)
    orders = both.sum(-1)
    precision = _divide(np.where(both, _divide(match, hypothesis), 0.0).sum(-1), orders)
    recall = _divide(np.where(both, _divide(match, reference), 0.0).sum(-1), orders)
    return 100.0 * _divide((1 + BETA**2) * precision * recall, BETA**2 * precision + recall)


def _ter(sums: np.ndarray) -> np.ndarray:
    """TER in percent from summed statistics (..., 2); lower is better."""
    edits, reference = sums[..., 0], sums[..., 1]
    return 100.0 * np.where(reference > 0, _divide(edits, reference), edits > 0)


def _mean(sums: np.ndarray) -> np.ndarray:
    """Mean in percent from (sum of values in [0, 1], items) (..., 2); 0 without items."""
    return 100.0 * _divide(sums[..., 0], sums[..., 1])


def _macro_f1(sums: np.ndarray) -> np.ndarray:
    """Macro-F1 in percent from summed confusion matrices (..., c^2), row-major with the right class as row.

    The unweighted mean over all c classes of ``2 TP / (2 TP + FP + FN)``; a class that is neither right nor chosen
    anywhere counts 0 (scikit-learn's ``labels=all, zero_division=0``).
    """
    classes = math.isqrt(sums.shape[-1])
    table = sums.reshape(*sums.shape[:-1], classes, classes)
    hits = np.diagonal(table, axis1=-2, axis2=-1)
    return 100.0 * _divide(2 * hits, table.sum(-1) + table.sum(-2)).mean(-1)


def _bits_per_byte(sums: np.ndarray) -> np.ndarray:
    """Bits per byte from (negative log-likelihood in nats, bytes) (..., 2); lower is better."""
    return _divide(sums[..., 0], sums[..., 1]) / math.log(2)


TRANSLATION: dict[str, Callable[[np.ndarray], np.ndarray]] = {"bleu": _bleu, "chrf": _chrf, "ter": _ter}
SCORES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    **TRANSLATION,
    "bits_per_byte": _bits_per_byte,
    "accuracy": _mean,
    "accuracy_norm": _mean,
    "macro_f1": _macro_f1,
    "exact_match": _mean,
    "token_f1": _mean,
    "rouge_1": _mean,
    "rouge_2": _mean,
    "rouge_l": _mean,
}
LOWER_IS_BETTER = frozenset({"ter", "bits_per_byte"})


def score(name: str, sums: np.ndarray) -> np.ndarray:
    """Corpus scores (...) from sums over sentences or items of statistics (..., k): percent, or bits per byte.

    A single corpus is ``score(name, statistics.sum(0))``; BLEU, chrF++ and TER are equal to sacrebleu's own.
    """
    return SCORES[name](np.asarray(sums, dtype=np.float64))


def oriented(name: str, value: float) -> float:
    """A score so that higher is better: with the sign turned for :data:`LOWER_IS_BETTER`."""
    return -value if name in LOWER_IS_BETTER else value
