"""BLEU, chrF++ and TER from per-sentence sufficient statistics (sacrebleu), with their signatures.

A corpus score is a function of the *sum* of the sentences' statistics. The statistics are kept, so that
significance tests can resample sentences without tokenising anything again; :func:`score` computes many sums
at once.

BLEU: Papineni et al. 2002; chrF++: Popović 2017; TER: Snover et al. 2006; signatures: Post 2018.
"""

from __future__ import annotations

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
    raise InputError(f"metrics: unknown metric {name!r}; expected some of {', '.join(SCORES)}")


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


SCORES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"bleu": _bleu, "chrf": _chrf, "ter": _ter}


def score(name: str, sums: np.ndarray) -> np.ndarray:
    """Corpus scores (...) in percent from sums over sentences of statistics (..., k).

    Equal to sacrebleu's own scores; a single corpus is ``score(name, statistics.sum(0))``.
    """
    return SCORES[name](np.asarray(sums, dtype=np.float64))
