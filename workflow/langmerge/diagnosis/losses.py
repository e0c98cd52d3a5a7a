"""The loss between two models, and the directions in which two languages pull at their base.

Losses are bits per byte of the sentences. The barrier is the greatest rise above the chord between the ends
(:mod:`langmerge.landscape.line`; arXiv 2110.06296, definition 1), with the interval of a simultaneous bootstrap band
over sentences, so that flat lines are seldom called barriers; ``midpoint`` has a percentile interval. Gradients:
:mod:`langmerge.landscape.alignment`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from langmerge.diagnosis.texts import Texts
from langmerge.landscape import alignment, gradients, line
from langmerge.landscape.losses import make_batches

Estimate = tuple[float, float, float]  # value, low, high


def barriers(
    nats: Mapping[str, np.ndarray], texts: Sequence[Texts], seed: int
) -> tuple[dict[str, np.ndarray], dict[str, Estimate]]:
    """By language the losses at ``points`` equally spaced places [A], and the measures of the line.

    ``nats`` has the loss of each sentence [A, n] by language; ``texts`` are those of l(a) and of l(b), which may be the
    same. ``barrier`` and ``midpoint``, each of ``a``, ``b`` and their ``mean``.
    """
    at = np.linspace(0, 1, len(next(iter(nats.values()))))
    by_language = {text.language: text for text in texts}
    sizes = {code: text.sizes for code, text in by_language.items()}
    draws = {code: line.resamples(text.ids, seed) for code, text in by_language.items()}
    found = line.lines({code: nats[code] for code in by_language}, sizes, draws, at)
    sides = {"a": texts[0].language, "b": texts[1].language, "mean": "mean" if "mean" in found else texts[0].language}
    measures: dict[str, Estimate] = {}
    for side, key in sides.items():
        measures[f"barrier.{side}"] = found[key].barrier()[:3]
        measures[f"midpoint.{side}"] = found[key].midpoint()[:3]
    return {code: found[code].losses for code in by_language}, measures


def gradient_rows(
    model: Any, texts: Sequence[Texts], sentences: int, blocks: int
) -> Iterator[tuple[str, str, str, str, Estimate]]:
    """(language, language, layer, measure, estimate) of every two languages, at the weights of ``model``.

    The first ``sentences`` of each in ``blocks`` of the same ids, which the jackknife leaves out in turn. ``layer`` is
    as :func:`langmerge.landscape.layers.layer_of` says, or "all".
    """
    count = min(sentences, *(len(text.ids) for text in texts))
    number = min(blocks, count)
    members = [(text, range(g, count, number)) for text in texts for g in range(number)]
    sizes = np.array([text.sizes[rows].sum() for text, rows in members]).reshape(len(texts), number)
    grams = gradients.block_grams(model, [make_batches(text.encoded, rows, model) for text, rows in members])
    for layer, gram in grams.items():
        inner = gram.numpy().reshape(len(texts), number, len(texts), number) / np.log(2) ** 2
        for row in alignment.rows(inner, sizes):
            if row.measure in ("cosine", "cosine_debiased") and row.i != row.j:
                codes = texts[row.i].language, texts[row.j].language
                yield *codes, layer, f"gradient.{row.measure}", (row.value, row.low, row.high)
