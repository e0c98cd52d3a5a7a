"""Average precision of units as detectors of a language, from histograms of sentences.

A unit's mean value over a span ranks the sentences of all languages; those of language k are the positives (Kojima et
al., arXiv 2404.02431, section 3). Sentences in one bin are taken for tied, so B bins stand for the whole ranking.
Histograms are not kept by block of sentences, and units read the same sentences, so that they cannot be resampled one
by one: this ranking has no intervals.
"""

from __future__ import annotations

import numpy as np


def average_precision(histogram: np.ndarray) -> np.ndarray:
    """AP [K, ...] from numbers of sentences by ascending bin, ``histogram`` [K, ..., B]; NaN without sentences.

    AP_k = sum_b (R_b - R_b-1) P_b over bins from the highest down, R and P recall and precision of "in bin b or above".
    The share of language k's sentences for a unit that says nothing (all in one bin), 1 if its sentences lie above all.
    """
    own = histogram[..., ::-1].astype(np.float64)
    positives = own.cumsum(-1)
    every = own.sum(0).cumsum(-1)
    precision = np.divide(positives, every, out=np.zeros_like(positives), where=every > 0)
    total = positives[..., -1]
    return np.divide((own * precision).sum(-1), total, out=np.full(total.shape, np.nan), where=total > 0)
