"""The embedding's rows: which tokens belong to one language alone. Counted from the text, so equal for all models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import entr

from langmerge import jackknife
from langmerge.analysis.observations import Rows
from langmerge.csv_files import Row
from langmerge.spans import SPANS

EXCLUSIVE = 0.9  # E above which a row is called one language's own


def shares(counts: np.ndarray) -> np.ndarray:
    """E_k = p_k / sum_j p_j [K, V] of token frequencies p(v|k), from ``counts`` [K, V]; 0 for tokens that never occur.

    Frequencies within a language, so that a language with more text has no larger share.
    """
    total = counts.sum(1, keepdims=True)
    p = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)
    every = p.sum(0)
    return np.divide(p, every, out=np.zeros(counts.shape), where=every > 0)


def entropies(counts: np.ndarray) -> np.ndarray:
    """Hn(v) [V]: entropy of :func:`shares` over ln K; 0 one language alone, 1 all alike; NaN for K = 1 or no token."""
    e = shares(counts)
    bound = np.log(len(counts)) if len(counts) > 1 else np.nan
    return np.where(e.any(0), entr(e).sum(0) / bound, np.nan)


def summaries(counts: np.ndarray) -> np.ndarray:
    """Share of each language's tokens whose row is its own (E_k > .9), and its tokens' mean Hn: [2, K]."""
    total = counts.sum(1)
    own = (counts * (shares(counts) > EXCLUSIVE)).sum(1)
    mean = (counts * np.nan_to_num(entropies(counts))).sum(1) if len(counts) > 1 else np.full(1, np.nan)
    return np.divide([own, mean], total, out=np.full((2, len(counts)), np.nan), where=total > 0)


def row_rows(languages: Sequence[str], rows: Rows) -> Iterator[Row]:
    """Per span and language: tokens, types, types of its own, and two measures with intervals."""
    for s, span in enumerate(SPANS):
        blocks = rows.counts[:, s].astype(np.int64)  # [K, G, V]
        counts = blocks.sum(1)
        used = np.flatnonzero(blocks.any((0, 2)))
        values = np.array([summaries(counts), *(summaries(counts - blocks[:, g]) for g in used)])
        low, high = jackknife.interval(values[0], values[1:])
        own = (shares(counts) > EXCLUSIVE).sum(1)
        for m, measure in enumerate(("exclusive_share", "entropy")):
            for k, language in enumerate(languages):
                yield {
                    "span": span,
                    "language": language,
                    "measure": measure,
                    "value": values[0, m, k],
                    "low": np.maximum(low[m, k], 0),
                    "high": np.minimum(high[m, k], 1),
                    "n": int(counts[k].sum()),
                    "types": int((counts[k] > 0).sum()),
                    "own_types": int(own[k]),
                }


def token_rows(languages: Sequence[str], rows: Rows) -> Iterator[Row]:
    """Every token that occurs in a span: how often, its Hn, and the language with the largest share E of it."""
    for s, span in enumerate(SPANS):
        counts = rows.counts[:, s].sum(1)
        share, entropy = shares(counts), entropies(counts)
        for v in np.flatnonzero(counts.any(0)):
            k = int(share[:, v].argmax())
            yield {
                "span": span,
                "token": int(rows.vocabulary[v]),
                "tokens": int(counts[:, v].sum()),
                "entropy": entropy[v],
                "language": languages[k],
                "share": share[k, v],
            }
