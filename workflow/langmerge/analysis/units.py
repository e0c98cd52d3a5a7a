"""The rows of the CSV files on units: how many, where, and what becomes of them, each with a jackknife interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from langmerge import jackknife
from langmerge.analysis import neurons
from langmerge.analysis.neurons import Ranking, Thresholds
from langmerge.analysis.selection import (
    LeftOut,
    Selection,
    centres,
    end_layers,
    ends,
    flows,
    leanings,
    overlaps,
    select,
    sizes,
)
from langmerge.csv_files import Row
from langmerge.spans import SPANS

FEW_TOKENS = 1000  # with fewer, rankings of non-selective units are mostly noise
NONE = "none"  # the state of a unit that belongs to no language


@dataclass(frozen=True)
class Reference:
    """What the baseline fixes for all models, for one site, span and ranking.

    ``thresholds``, its own ``selection``, and ``ceiling`` [K]: the split-half Jaccard index of its units.
    """

    thresholds: Thresholds
    selection: Selection
    ceiling: np.ndarray


def reference(counts: np.ndarray, tokens: np.ndarray, ranking: Ranking, seed: int) -> Reference:
    """The reference from the baseline's ``counts`` [K, G, layer, unit] and ``tokens`` [K, G]."""
    left_out = neurons.leave_one_out(counts, tokens)
    thresholds = neurons.fit_thresholds(*left_out[0], ranking)
    ceiling = neurons.split_half(counts, tokens, ranking, thresholds, seed)
    return Reference(thresholds, select(left_out, ranking, thresholds), ceiling)


def precision_reference(left_out: LeftOut, ranking: Ranking) -> Reference:
    """The same from average precisions, which are not kept by block: intervals and ceiling are NaN."""
    thresholds = neurons.fit_thresholds(*left_out[0], ranking)
    return Reference(thresholds, select(left_out, ranking, thresholds), np.full(len(left_out[0][0]), np.nan))


def warning_of(tokens: int) -> str:
    """What a table says of rankings from so few ``tokens``; empty if they are enough."""
    return f"fewer than {FEW_TOKENS} tokens in a language: selectivity is mostly noise" if tokens < FEW_TOKENS else ""


def _estimate(values: np.ndarray, low: float = -math.inf, high: float = math.inf) -> tuple[np.ndarray, ...]:
    """Value and interval, within ``low`` .. ``high``, of estimates [R, ...]: of all sentences first."""
    lower, upper = jackknife.interval(values[0].astype(float), values[1:].astype(float))
    return values[0], np.maximum(lower, low), np.minimum(upper, high)


def _count(values: np.ndarray) -> tuple[np.ndarray, ...]:
    """The same for numbers of units: not below 0, and at least one unit to both sides.

    Blocks left out one at a time change a small number by 0 or 1, and often all of them by nothing, so that the
    jackknife alone says that eight units are exactly eight in any text.
    """
    value, low, high = _estimate(values, 0)
    return value, np.maximum(np.minimum(low, value - 1), 0), np.maximum(high, value + 1)


def _place(values: np.ndarray) -> tuple[np.ndarray, ...]:
    """The same within 0 .. 1, and without an interval (NaN) where no block of sentences makes a difference.

    That is no certainty: units are few, and none is near its threshold.
    """
    value, low, high = _estimate(values, 0, 1)
    blind = np.ptp(values[1:], axis=0) == 0 if len(values) > 1 else np.ones(value.shape, dtype=bool)
    return value, np.where(blind, np.nan, low), np.where(blind, np.nan, high)


def unit_rows(head: Row, languages: Sequence[str], found: Selection, tokens: int) -> Iterator[Row]:
    """Units per layer and language; ``share`` is of all that the model has there (``total_units``).

    ``tokens`` are the fewest of any language.
    """
    n = sizes(found)
    units, low, high = _count(n)
    every = n.sum((1, 2), keepdims=True)
    shares = np.divide(n, every, out=np.full(n.shape, np.nan), where=every > 0)
    share, share_low, share_high = _estimate(shares, 0, 1)
    for layer in range(units.shape[1]):
        for k, language in enumerate(languages):
            yield {
                **head,
                "layer": layer,
                "language": language,
                "units": int(units[k, layer]),
                "share": share[k, layer],
                "low": low[k, layer],
                "high": high[k, layer],
                "share_low": share_low[k, layer],
                "share_high": share_high[k, layer],
                "total_units": int(every[0, 0, 0]),
                "tokens": tokens,
                "warning": warning_of(tokens),
            }


def layer_rows(head: Row, languages: Sequence[str], found: Selection) -> Iterator[Row]:
    """Where over depth a language's units lie: centre of mass (0 first layer, 1 last) and share at both ends.

    ``null`` are the values of an even spread: .5, and the ends' share of the layers.
    """
    layers = found.sets.shape[2]
    units = sizes(found)[0].sum(1)
    for measure, values, null in (
        ("centre_of_mass", centres(found), 0.5),
        ("ends", ends(found), len(end_layers(layers)) / layers),
    ):
        value, low, high = _place(values)
        for k, language in enumerate(languages):
            yield {
                **head,
                "language": language,
                "measure": measure,
                "value": value[k],
                "low": low[k],
                "high": high[k],
                "n": int(units[k]),
                "null": null,
            }


def overlap_rows(head: Row, languages: Sequence[str], found: Selection) -> Iterator[Row]:
    """Units that two languages have in common, for every pair of languages and each with itself (its own number)."""
    both, similarity = overlaps(found)
    units, units_low, units_high = _count(both)
    value, low, high = _estimate(similarity, 0, 1)
    for a in range(len(languages)):
        for b in range(a, len(languages)):
            yield {
                **head,
                "language_a": languages[a],
                "language_b": languages[b],
                "units": int(units[a, b]),
                "units_low": units_low[a, b],
                "units_high": units_high[a, b],
                "jaccard": value[a, b],
                "low": low[a, b],
                "high": high[a, b],
            }


def flow_rows(head: Row, languages: Sequence[str], base: Selection, found: Selection) -> Iterator[Row]:
    """What becomes of the baseline's units in a model, by the frozen thresholds.

    Kind ``set``: units by the language that they belong to before and after, ``none`` included. Kind ``argmax``: the
    baseline's language units by the language in which they fire most in the model, selected there or not.
    """
    for kind, values, names in (
        ("set", flows(base, found), [*languages, NONE]),
        ("argmax", leanings(base, found), list(languages)),
    ):
        units, low, high = _count(values)
        for a, before in enumerate(names):
            for b, after in enumerate(names):
                yield {
                    **head,
                    "kind": kind,
                    "language_from": before,
                    "language_to": after,
                    "units": int(units[a, b]),
                    "low": low[a, b],
                    "high": high[a, b],
                }


def turnover_rows(head: Row, languages: Sequence[str], base: Reference, found: Selection) -> Iterator[Row]:
    """How a model's language units, by the frozen thresholds, differ from the baseline's."""
    before, after = base.selection.sets, found.sets
    both = (before & after).sum((2, 3))
    union = (before | after).sum((2, 3))
    value, low, high = _estimate(np.divide(both, union, out=np.full(both.shape, np.nan), where=union > 0), 0, 1)
    for k, language in enumerate(languages):
        base_units, own, overlap = int(before[0, k].sum()), int(after[0, k].sum()), int(both[0, k])
        yield {
            **head,
            "language": language,
            "base_units": base_units,
            "units": own,
            "overlap": overlap,
            "gained": own - overlap,
            "lost": base_units - overlap,
            "jaccard": value[k],
            "ceiling": base.ceiling[k],
            "low": low[k],
            "high": high[k],
        }


def usage_vectors(left_out: LeftOut) -> np.ndarray:
    """Mean firing probabilities over the languages, fp32 [R, layer, unit]: all sentences, then without each block."""
    return np.array([p.mean(0) for p, _ in left_out], dtype=np.float32)


def usage_rows(span: str, usage: Mapping[str, np.ndarray]) -> Iterator[Row]:
    """Neuron usage alignment of all pairs: the cosine of their :func:`usage_vectors` per layer (arXiv 2604.02881)."""
    models = list(usage)
    vectors = np.array([usage[model] for model in models], dtype=np.float64).transpose(1, 2, 0, 3)
    norms = np.linalg.norm(vectors, axis=-1)
    products = vectors @ vectors.swapaxes(-1, -2)  # [1 + G, layer, M, M]
    outer = norms[..., :, None] * norms[..., None, :]
    cosine = np.divide(products, outer, out=np.full(products.shape, np.nan), where=outer > 0)
    low, high = jackknife.interval(cosine[0], cosine[1:])
    for layer in range(cosine.shape[1]):
        for a, b in combinations(range(len(models)), 2):
            yield {
                "layer": layer,
                "span": span,
                "model_a": models[a],
                "model_b": models[b],
                "nua": cosine[0, layer, a, b],
                "low": low[layer, a, b],
                "high": np.minimum(high[layer, a, b], 1),
            }


def token_summary(languages: Sequence[str], tokens: np.ndarray) -> dict[str, Any]:
    """Tokens per span and language from [K, span, G], the fewest, and a warning where they are too few."""
    table = {
        span: {language: int(n) for language, n in zip(languages, tokens[:, s].sum(-1), strict=True)}
        for s, span in enumerate(SPANS)
    }
    fewest = {span: min(row.values()) for span, row in table.items()}
    warnings = [
        f"{span} span: only {least} tokens in a language; below {FEW_TOKENS}, neuron rankings are mostly noise"
        for span, least in fewest.items()
        if least < FEW_TOKENS
    ]
    return {"tokens": table, "fewest_tokens": fewest, "warnings": warnings}


def ranking_summary(ranking: Ranking, fixed: Mapping[str, Thresholds]) -> dict[str, Any]:
    """The ranking's settings and the values that the baseline fixed in each span (None: none)."""

    def finite(value: float | None) -> float | None:
        return value if value is not None and math.isfinite(value) else None

    thresholds = {span: {name: finite(value) for name, value in asdict(own).items()} for span, own in fixed.items()}
    return {"ranking": asdict(ranking), "thresholds": thresholds}
