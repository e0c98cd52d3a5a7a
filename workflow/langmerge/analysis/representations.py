"""The tables ``similarity.csv`` (two models, same sentences) and ``languages.csv`` (one model, two languages)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from langmerge import jackknife, models
from langmerge.analysis import cka, halves, similarity
from langmerge.analysis.languages import language_of, language_pairs, regress_out, span_lengths
from langmerge.analysis.observations import Summary, read_representation
from langmerge.csv_files import Row, write_csv
from langmerge.spans import SPANS

LENGTH = "length"  # the variant without what follows from the sentences' lengths
SHUFFLES = 1  # of the Procrustes null: a sum of so many singular values hardly varies
LEVEL = 0.95
LANGUAGE_VARIANTS = {"mean": ("raw", "drop_sink", LENGTH), "last": ("raw",)}  # by pool


def _estimate(values: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value, low and high [...] from [1 + G, ...]."""
    found = values.cpu().numpy()
    return found[0], *jackknife.interval(found[0], found[1:], LEVEL)


def _sampled(values: torch.Tensor, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """:func:`_estimate` of values [1 + H, ...], all sentences and half-samples."""
    found = values.cpu().numpy()
    half = jackknife.half_width(halves.standard_error(found[1:], blocks), len(found) - 1, LEVEL)
    return found[0], found[0] - half, found[0] + half


def trained_pairs(labels: Sequence[str], baseline: str, directions: Sequence[str]) -> list[tuple[int, int]]:
    """Places of every two of the baseline and the specialists, who bear the names of ``directions``."""
    return list(itertools.combinations([i for i, label in enumerate(labels) if label in (baseline, *directions)], 2))


def _row(estimate: Iterable[Any], n: int, null: float) -> Row:
    value, low, high = map(float, estimate)
    return {"value": value, "low": low, "high": high, "n": n, "null": null}


def pair_rows(
    stack: torch.Tensor, blocks: np.ndarray, pairs: Sequence[tuple[int, int]], rotated: Sequence[tuple[int, int]],
    seed: int,
) -> Iterator[tuple[str, int, int, Row]]:  # fmt: skip
    """Measure, the two places and the values, for ``stack`` [M, n, d]; Procrustes distances of ``rotated`` alone.

    ``null`` is the value of unrelated data: exact for mutual neighbours, asymptotic for ANC, from shuffled sentences
    for Procrustes distances.
    """
    n, device = stack.shape[1], stack.device
    if pairs:
        index = torch.tensor(pairs, device=device)
        common = _sampled(similarity.mutual_neighbours(stack, blocks), blocks)
        aligned = _estimate(similarity.coordinate_correlations(stack, index, blocks))
        for p, (a, b) in enumerate(pairs):
            yield "mutual_neighbours", a, b, _row((v[a, b] for v in common), n, similarity.chance(n))
            yield "anc", a, b, _row((v[p] for v in aligned), n, math.sqrt(2 / (math.pi * n)))
    if rotated:
        index = torch.tensor(rotated, device=device)
        distance = _estimate(similarity.procrustes(stack, index, blocks))
        null = similarity.procrustes_null(stack, index, SHUFFLES, seed).cpu().numpy()
        for p, (a, b) in enumerate(rotated):
            yield "procrustes", a, b, _row((v[p] for v in distance), n, float(null[p]))


def similarity_rows(
    head: Row, labels: Sequence[str], baseline: str, specialists: Sequence[str], stack: torch.Tensor,
    blocks: np.ndarray, seed: int,
) -> Iterator[Row]:  # fmt: skip
    """All measures of models at one layer in every variant; ``stack`` [M, n, d], ``blocks`` [n].

    Neighbours and ANC for every two models; Procrustes distances, which cost a decomposition each, from the baseline to
    all and, of the data as they are (``raw``), between specialists; ranks for each model (``model_b`` is empty, and so
    is ``null``).
    """
    base = labels.index(baseline)
    pairs = list(itertools.combinations(range(len(labels)), 2))
    from_base = [(base, other) for other in range(len(labels)) if other != base]
    between = [pair for pair in trained_pairs(labels, baseline, specialists) if base not in pair]
    kept: list[tuple[str, str, str, Row]] = []
    for variant, transform in cka.VARIANTS.items():
        x = transform(stack)
        if not kept or not torch.equal(x, stack):  # without sinks, nothing is dropped
            rotated = [*from_base, *(between if variant == "raw" else [])]
            kept = [(m, labels[a], labels[b], values) for m, a, b, values in pair_rows(x, blocks, pairs, rotated, seed)]
            kept += [(measure, labels[m], "", values) for measure, m, values in rank_rows(x, blocks)]
        for measure, a, b, values in kept:
            yield {**head, "model_a": a, "model_b": b, "variant": variant, "measure": measure, **values}


def rank_rows(stack: torch.Tensor, blocks: np.ndarray) -> Iterator[tuple[str, int, Row]]:
    """Effective and stable rank of each of the representations [M, n, d]: measure, place, values."""
    for measure, found in zip(("effective_rank", "stable_rank"), similarity.ranks(stack, blocks), strict=True):
        estimate = _estimate(found)
        for m in range(len(stack)):
            yield measure, m, _row((v[m] for v in estimate), stack.shape[1], math.nan)


def language_rows(
    names: Sequence[tuple[str, str]], pairs: Sequence[tuple[int, int]], stack: torch.Tensor, blocks: np.ndarray,
    permutations: int, seed: int,
) -> Iterator[Row]:  # fmt: skip
    """All measures of ``pairs`` of languages at one layer of one model; ``stack`` [K, n, d] has a language each.

    ``names`` [K] are language and direction. CKA is debiased; its null is the mean over shuffled sentences.
    """
    found = cka.compare(stack, blocks, permutations, seed)
    width = jackknife.half_width(found.standard_error, len(np.unique(blocks)), LEVEL)
    every = [
        ("cka", a, b, _row((v, v - width[a, b], v + width[a, b]), stack.shape[1], float(found.null_mean[a, b])))
        for a, b in pairs
        for v in [float(found.cka[a, b])]
    ]
    every += pair_rows(stack, blocks, pairs, pairs, seed)
    for measure, a, b, values in every:
        yield {
            "language_a": names[a][0],
            "language_b": names[b][0],
            "direction_a": names[a][1],
            "direction_b": names[b][1],
            "measure": measure,
            **values,
        }


VALUES = ("value", "low", "high", "n", "null")
SIMILARITY = ("span", "direction", "layer", "layers", "pool", "model_a", "model_b", "variant", "measure", *VALUES)
LANGUAGES = (
    *("model", "span", "layer", "layers", "pool", "variant"),
    *("language_a", "language_b", "direction_a", "direction_b", "measure", *VALUES),
)


def write_similarity(spec: Mapping[str, Any], summary: Summary, folders: Mapping[str, Path], out: Path) -> None:
    """Write ``similarity.csv`` and ``languages.csv`` from the observations in ``folders`` (by label).

    Of ``spec``: ``models``, ``baseline``, ``permutations`` and ``seed``. Similarity is of span means. Languages are
    compared where all directions have the same sentences (``summary.same_sentences``); otherwise, and where ``span`` is
    the pivot in all directions, there are no rows. One layer of all models, or of all languages, is in memory at once.
    """
    labels, device, layers = list(spec["models"]), models.device(), summary.layers
    specialists = list(map(str, summary.directions))
    rows: list[Row] = []
    for direction, blocks in zip(map(str, summary.directions), summary.blocks, strict=True):
        for span in SPANS:
            for layer in range(layers + 1):
                states = [read_representation(folders[label], direction, span, "mean", layer) for label in labels]
                head = {"span": span, "direction": direction, "layer": layer, "layers": layers, "pool": "mean"}
                rows += similarity_rows(
                    head, labels, spec["baseline"], specialists, torch.stack(states).to(device), blocks, spec["seed"]
                )
    write_csv(out / "similarity.csv", rows, SIMILARITY)
    write_csv(out / "languages.csv", _all_languages(spec, summary, folders, device), LANGUAGES)


def _all_languages(
    spec: Mapping[str, Any], summary: Summary, folders: Mapping[str, Path], device: torch.device
) -> Iterator[Row]:
    if not summary.same_sentences:
        return
    directions, blocks = list(summary.directions), summary.blocks[0]
    lengths = span_lengths(folders[spec["baseline"]], summary)
    for span in SPANS:
        names = [(language_of(direction, span), str(direction)) for direction in directions]
        pairs = language_pairs(directions, span)
        places = itertools.product(spec["models"], range(summary.layers + 1), summary.pools) if pairs else ()
        for label, layer, pool in places:
            states = [read_representation(folders[label], name, span, pool, layer) for _, name in names]
            stack = torch.stack(states).to(device)
            head = {"model": label, "span": span, "layer": layer, "layers": summary.layers, "pool": pool}
            kept: list[Row] = []
            for variant in LANGUAGE_VARIANTS[pool]:
                if variant == LENGTH:
                    if span not in lengths:
                        continue
                    x = regress_out(stack, np.log(np.stack(lengths[span])))
                else:
                    x = cka.VARIANTS[variant](stack)
                if not kept or not torch.equal(x, stack):
                    kept = list(language_rows(names, pairs, x, blocks, spec["permutations"], spec["seed"]))
                yield from ({**head, "variant": variant, **row} for row in kept)
