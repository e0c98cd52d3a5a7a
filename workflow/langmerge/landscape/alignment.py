"""Alignment of the gradients of languages, from the Gram matrix of their blocks' gradients.

g_k = grad L_k (bits per byte) is the sum of its blocks' gradients over the sum of their bytes, so that every statistic
here, of all blocks or of some, is a function of one [K G, K G] matrix. Alignment at the base was the most consistent
signal of mergeability among those of Zhou et al. 2026, arXiv 2601.22285.

- ``cosine``: <g_i, g_j> / (||g_i|| ||g_j||). Sampling noise makes the norms too long, and the cosine too small.
- ``cosine_debiased``: the same with every inner product over pairs of different blocks only, so that noise (and what
  parallel sentences of two languages share) has no part in it; NaN where the noise is all there is.
- ``cosine_half``: the mean cosine between one language's odd and the other's even blocks. Of a language with itself it
  is the split-half null: what half the data reproduce of a gradient.
- ``l2``: ||g_i - g_j||, in bits per byte and unit of weight; ``norm``: ||g_i||.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from langmerge.jackknife import interval


@dataclass(frozen=True)
class Alignment:
    """Statistics of every two of K languages, [K, K] each; ``norm`` [K]. With blocks left out: [G, K, K], [G, K]."""

    cosine: np.ndarray
    cosine_debiased: np.ndarray
    cosine_half: np.ndarray
    l2: np.ndarray
    norm: np.ndarray


def _cosines(inner: np.ndarray) -> np.ndarray:
    """Cosines from inner products [..., K, K]; NaN where a squared norm is not positive."""
    square = np.diagonal(inner, axis1=-2, axis2=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        length = np.sqrt(np.where(square > 0, square, np.nan))
        return np.asarray(inner / (length[..., :, None] * length[..., None, :]))


def _inner(gram: np.ndarray, sizes: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """<g_i of the blocks ``left``, g_j of the blocks ``right``> [..., K, K]; both 0/1 [..., G]; ``sizes`` [K, G]."""
    sums = np.einsum("...b,ibjc,...c->...ij", left, gram, right, optimize=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums / ((left @ sizes.T)[..., :, None] * (right @ sizes.T)[..., None, :]))


def _distinct(gram: np.ndarray, sizes: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Inner products of gradients over pairs of different ``kept`` blocks, [..., K, K]."""
    together = np.einsum("ibjb,...b->...ij", gram, kept)
    bytes_together = np.einsum("ib,jb,...b->...ij", sizes, sizes, kept)
    sums = np.einsum("...b,ibjc,...c->...ij", kept, gram, kept, optimize=True) - together
    bytes_of = (kept @ sizes.T)[..., :, None] * (kept @ sizes.T)[..., None, :] - bytes_together
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums / bytes_of)


def align(gram: np.ndarray, sizes: np.ndarray, kept: np.ndarray | None = None) -> Alignment:
    """All statistics of K languages with G blocks each.

    ``gram`` [K, G, K, G] are inner products of the blocks' gradients (of losses in bits), ``sizes`` [K, G] the blocks'
    bytes, ``kept`` 0/1 [..., G] the blocks that count (all).
    """
    kept = np.ones(gram.shape[1]) if kept is None else kept
    odd = np.arange(gram.shape[1]) % 2
    inner = _inner(gram, sizes, kept, kept)
    square = np.diagonal(inner, axis1=-2, axis2=-1)
    apart = square[..., :, None] + square[..., None, :] - 2 * inner
    first, second = kept * (1 - odd), kept * odd
    across = _inner(gram, sizes, first, second)
    lengths = [np.sqrt(np.diagonal(_inner(gram, sizes, h, h), axis1=-2, axis2=-1)) for h in (first, second)]
    with np.errstate(divide="ignore", invalid="ignore"):
        half = across / (lengths[0][..., :, None] * lengths[1][..., None, :])
    return Alignment(
        _cosines(inner),
        _cosines(_distinct(gram, sizes, kept)),
        (half + np.swapaxes(half, -1, -2)) / 2,
        np.sqrt(np.maximum(apart, 0)),
        np.sqrt(square),
    )


def left_out(gram: np.ndarray, sizes: np.ndarray) -> Alignment:
    """:func:`align` with one block left out of all languages at a time, [G, K, K]."""
    blocks = gram.shape[1]
    return align(gram, sizes, np.ones((blocks, blocks)) - np.eye(blocks))


@dataclass(frozen=True)
class Row:
    """A statistic of languages i and j (i = j: of one), its jackknife interval, and its ``ceiling`` (NaN: has none).

    The ceiling is the expected value if the two languages' true gradients were equal, from how well each agrees with
    itself: for ``cosine_half`` the geometric mean of the two split-half cosines c, for ``cosine`` that of their
    extrapolations to all the data, 2 c / (1 + c) (Spearman and Brown).
    """

    i: int
    j: int
    measure: str
    value: float
    low: float
    high: float
    ceiling: float


def _ceilings(own: np.ndarray) -> dict[str, np.ndarray]:
    own = np.where(own > 0, own, np.nan)
    longer = 2 * own / (1 + own)
    return {"cosine_half": np.sqrt(np.outer(own, own)), "cosine": np.sqrt(np.outer(longer, longer))}


def rows(gram: np.ndarray, sizes: np.ndarray) -> Iterator[Row]:
    """Every statistic of every two languages, and of each with itself the norm and ``cosine_half``."""
    whole, without = align(gram, sizes), left_out(gram, sizes)
    ceilings = _ceilings(np.diagonal(whole.cosine_half))
    for measure in ("cosine", "cosine_debiased", "cosine_half", "l2"):
        value = getattr(whole, measure)
        low, high = interval(value, getattr(without, measure))
        ceiling = ceilings.get(measure, np.full_like(value, np.nan))
        for i in range(len(value)):
            for j in range(i if measure == "cosine_half" else i + 1, len(value)):
                yield Row(i, j, measure, value[i, j], low[i, j], high[i, j], ceiling[i, j])
    low, high = interval(whole.norm, without.norm)
    for i, value in enumerate(whole.norm):
        yield Row(i, i, "norm", value, low[i], high[i], np.nan)
