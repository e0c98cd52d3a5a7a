"""The rows of the result's CSV files, from counts and representations."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from langmerge.analysis import angles, cka, jackknife, neurons
from langmerge.analysis.angles import Angles
from langmerge.analysis.neurons import Ranking, Thresholds
from langmerge.analysis.spans import SPANS

Row = dict[str, Any]

FEW_TOKENS = 1000  # with fewer, rankings of non-selective units are mostly noise


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """Write rows with equal keys; numbers with nine digits, NaN as an empty cell."""
    rows = list(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(rows[0] if rows else [])
        writer.writerows([_cell(value) for value in row.values()] for row in rows)


def _cell(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else f"{value:.9g}"
    return value


def cka_rows(
    direction: str, span: str, layer: int, layers: int, models: Sequence[str], stack: torch.Tensor, blocks: np.ndarray,
    permutations: int, seed: int,
) -> Iterator[Row]:  # fmt: skip
    """Every two of ``models`` at one layer, in every variant; ``stack`` [M, n, d], ``blocks`` [n]."""
    dropped = cka.dropped_channels(stack)
    for variant, transform in cka.VARIANTS.items():
        found = cka.compare(transform(stack), blocks, permutations, seed)
        for a, b in combinations(range(len(models)), 2):
            yield {
                "span": span,
                "direction": direction,
                "layer": layer,
                "layers": layers,
                "model_a": models[a],
                "model_b": models[b],
                "variant": variant,
                "n": stack.shape[1],
                "cka": found.cka[a, b],
                "cka_biased": found.cka_biased[a, b],
                "anc": found.anc[a, b],
                "null_mean": found.null_mean[a, b],
                "null_high": found.null_high[a, b],
                "standard_error": found.standard_error[a, b],
                "dropped": int(dropped[a, b]) if variant == "drop_sink" else 0,
            }


def angle_rows(
    direction: str, span: str, layer: int, layers: int, models: Sequence[str], found: Angles
) -> Iterator[Row]:
    """Principal angles of every two of ``models`` at one layer, in degrees."""
    for a, b in combinations(range(len(models)), 2):
        yield {
            "span": span,
            "direction": direction,
            "layer": layer,
            "layers": layers,
            "model_a": models[a],
            "model_b": models[b],
            "k": found.k,
            "n": found.n,
            "median_degrees": found.median[a, b],
            "null_degrees": found.null,
            "standard_error": found.standard_error[a, b],
            "distance": found.distance[a, b],
        }


def map_rows(direction: str, span: str, layer: int, models: Sequence[str], distances: np.ndarray) -> Iterator[Row]:
    """A point in the plane for each of ``models``, from their ``distances`` [M, M] at one layer."""
    for model, (x, y) in zip(models, angles.scaling(distances), strict=True):
        yield {"span": span, "direction": direction, "layer": layer, "model": model, "x": x, "y": y}


@dataclass(frozen=True)
class Reference:
    """What the baseline fixes for all models, for one span: thresholds, its own units, and their split-half ceiling.

    ``units`` bool [K, layer, unit]; ``ceiling`` [K].
    """

    thresholds: Thresholds
    units: np.ndarray
    ceiling: np.ndarray


def reference(counts: np.ndarray, tokens: np.ndarray, ranking: Ranking, seed: int) -> Reference:
    """The reference from the baseline's ``counts`` [K, G, layer, unit] and ``tokens`` [K, G]."""
    p, n = neurons.leave_one_out(counts, tokens)[0]
    thresholds = neurons.fit_thresholds(p, n, ranking)
    units = neurons.language_units(p, n, ranking, thresholds)
    return Reference(thresholds, units, neurons.split_half(counts, tokens, ranking, thresholds, seed))


def neuron_rows(
    model: str, span: str, languages: Sequence[str], counts: np.ndarray, tokens: np.ndarray, ranking: Ranking,
    frozen: Thresholds,
) -> Iterator[Row]:  # fmt: skip
    """Units per layer and language, with the frozen thresholds and, for presets, also with the model's own.

    ``counts`` [K, G, layer, unit], ``tokens`` [K, G]. ``share`` is of all the model's language units in this span
    (``total_units``); ``tokens`` the fewest of any language.
    """
    left_out = neurons.leave_one_out(counts, tokens)
    few = int(tokens.sum(1).min())
    warning = f"fewer than {FEW_TOKENS} tokens in a language: selectivity is mostly noise" if few < FEW_TOKENS else ""
    for is_frozen in (True, False) if ranking.several else (True,):
        sizes = []  # [1 + G, K, layer]
        for p, n in left_out:
            thresholds = frozen if is_frozen else neurons.fit_thresholds(p, n, ranking)
            sizes.append(neurons.language_units(p, n, ranking, thresholds).sum(-1))
        units, blocks = sizes[0], np.array(sizes[1:], dtype=float).reshape(-1, *sizes[0].shape)
        low, high = jackknife.interval(units, blocks)
        total = int(units.sum())
        for layer in range(units.shape[1]):
            for k, language in enumerate(languages):
                yield {
                    "model": model,
                    "span": span,
                    "ranking": ranking.name,
                    "frozen": is_frozen,
                    "layer": layer,
                    "language": language,
                    "units": int(units[k, layer]),
                    "share": units[k, layer] / total if total else math.nan,
                    "low": np.maximum(low[k, layer], 0),
                    "high": high[k, layer],
                    "total_units": total,
                    "tokens": few,
                    "warning": warning,
                }


def turnover_rows(
    model: str, span: str, languages: Sequence[str], counts: np.ndarray, tokens: np.ndarray, ranking: Ranking,
    base: Reference,
) -> Iterator[Row]:  # fmt: skip
    """How a model's language units, by the frozen thresholds, differ from the baseline's."""
    p, n = neurons.leave_one_out(counts, tokens)[0]
    units = neurons.language_units(p, n, ranking, base.thresholds)
    similarity = neurons.jaccard(base.units, units)
    for k, language in enumerate(languages):
        overlap = int((base.units[k] & units[k]).sum())
        base_units, own = int(base.units[k].sum()), int(units[k].sum())
        yield {
            "model": model,
            "span": span,
            "language": language,
            "base_units": base_units,
            "units": own,
            "overlap": overlap,
            "gained": own - overlap,
            "lost": base_units - overlap,
            "jaccard": similarity[k],
            "ceiling": base.ceiling[k],
        }


def usage_vectors(counts: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Mean firing probabilities over the languages, fp32 [1 + G, layer, unit]: all sentences, then without each block.

    ``counts`` [K, G, layer, unit], ``tokens`` [K, G].
    """
    return np.array([p.mean(0) for p, _ in neurons.leave_one_out(counts, tokens)], dtype=np.float32)


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


def ranking_summary(ranking: Ranking, references: Mapping[str, Reference]) -> dict[str, Any]:
    """The ranking's settings and the values that the baseline fixed in each span (None: none)."""

    def finite(value: float | None) -> float | None:
        return value if value is not None and math.isfinite(value) else None

    thresholds = {
        span: {name: finite(value) for name, value in asdict(reference.thresholds).items()}
        for span, reference in references.items()
    }
    return {"ranking": asdict(ranking), "thresholds": thresholds}
