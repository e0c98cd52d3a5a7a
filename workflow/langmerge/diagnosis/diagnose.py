"""All measures of all pairs: one model is loaded, the weights of every other are put into its place once."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from langmerge import models
from langmerge.diagnosis import losses, parameters, representations
from langmerge.diagnosis.settings import Settings
from langmerge.diagnosis.texts import Texts, encode_alike
from langmerge.landscape.layers import ALL, EMBEDDING
from langmerge.landscape.losses import Batch, make_batches, sentence_losses
from langmerge.landscape.weights import Weights, blend

COLUMNS = {
    "pairs": ("a", "b", "measure", "value", "low", "high"),
    "layers": ("a", "b", "measure", "layer", "value"),
    "curve": ("a", "b", "language", "alpha", "bits_per_byte"),
}
Row = Sequence[Any]
NOWHERE = (math.nan, math.nan)  # no interval


class Readings:
    """What each model makes of each language's sentences, computed once.

    ``nats`` [n] (loss of each sentence), ``states`` fp32 [L + 1, n, d] and ``directions`` fp64 [1 + G, L + 1, d, k], by
    (model, language).
    """

    def __init__(
        self, settings: Settings, sentences: Mapping[str, Mapping[str, str]], folders: Mapping[str, Path]
    ) -> None:
        self.settings = settings
        self.texts = encode_alike(settings, sentences, folders)
        count = len(next(iter(self.texts.values())).ids)
        self.blocks = np.arange(count) % min(settings.blocks, count)  # the same ids in every language
        start = settings.models[0] if settings.base is None else settings.base
        self.model: Any = models.load_model(folders[start]).eval()
        self.model.to(models.device())
        expected = dict(self.model.named_parameters())
        self.weights = {name: Weights(folder, expected) for name, folder in folders.items()}
        self.batches: dict[str, list[Batch]] = {
            code: make_batches(text.encoded, range(len(text.ids)), self.model) for code, text in self.texts.items()
        }
        self.cost: dict[str, Any] = {"tokens": 0, "flops": 0.0, "device": str(self.model.device)}
        self.nats: dict[tuple[str, str], np.ndarray] = {}
        self.states: dict[tuple[str, str], torch.Tensor] = {}
        self.directions: dict[tuple[str, str], torch.Tensor] = {}
        placed = None
        for name, code in settings.readings():
            if placed != name:
                self.place({name: 1.0})
                placed = name
            self._read(name, code)

    def place(self, combination: Mapping[str, float]) -> None:
        """Put a combination of models, by name, into the model."""
        blend(self.model, [self.weights[name] for name in combination], list(combination.values()))

    def loss(self, code: str) -> np.ndarray:
        """Loss in nats of each sentence of a language [n] at the weights in place."""
        self.count(self.texts[code], 1)
        return sentence_losses(self.model, self.batches[code]).numpy()

    def _read(self, name: str, code: str) -> None:
        text = self.texts[code]
        self.nats[name, code] = self.loss(code)
        states = representations.pooled_states(self.model, text.encoded)
        self.count(text, 1)
        self.states[name, code] = states
        self.directions[name, code] = representations.principal_directions(
            states, self.blocks, self.settings.directions
        )

    def count(self, text: Texts, passes: float) -> None:
        """Note ``passes`` forward passes' worth of work on a language's sentences (a backward pass is two)."""
        config = self.model.config.get_text_config()
        per_token = models.training_flops_per_token(config, round(text.tokens / len(text.ids))) / 3
        self.cost["tokens"] += text.tokens
        self.cost["flops"] += passes * text.tokens * per_token


def diagnose(
    spec: Settings, sentences: Mapping[str, Mapping[str, str]], folders: Mapping[str, Path], out: Path
) -> dict[str, Any]:
    """Write ``pairs.csv``, ``layers.csv`` and ``curve.csv`` into ``out``; return the costs (tokens, flops, device)."""
    readings = Readings(spec, sentences, folders)
    overall: list[Row] = []
    layers: list[Row] = []
    curve: list[Row] = []
    places = [(spec.models.index(a), spec.models.index(b)) for a, b in spec.pairs]
    parts = parameters.weigh(spec, folders, models.device())
    for p, found in enumerate(parameters.measures(parts, places)):
        overall += [(*spec.pairs[p], measure, value, *NOWHERE) for measure, value in found.items()]
    for layer, each in parameters.by_layer(parts, places).items():
        layers += [(*spec.pairs[p], m, layer, value) for p, found in enumerate(each) for m, value in found.items()]
    for pair in spec.pairs:
        _line(readings, pair, overall, curve)
        _represented(readings, pair, overall, layers)
    if spec.base is not None and spec.gradients:
        _gradients(readings, overall, layers)
    for name, rows in (("pairs", overall), ("layers", layers), ("curve", curve)):
        ranks = {pair: rank for rank, pair in enumerate(spec.pairs)}
        write(out / f"{name}.csv", COLUMNS[name], sorted(rows, key=lambda row: ranks[row[0], row[1]]))
    return readings.cost


def _line(readings: Readings, pair: tuple[str, str], overall: list[Row], curve: list[Row]) -> None:
    a, b = pair
    codes = [readings.settings.languages[name] for name in pair]
    at = np.linspace(0, 1, readings.settings.points)
    found: dict[str, list[np.ndarray]] = {code: [readings.nats[a, code]] for code in codes}
    for alpha in at[1:-1]:
        readings.place({a: 1 - float(alpha), b: float(alpha)})
        for code, values in found.items():
            values.append(readings.loss(code))
    nats = {code: np.stack([*values, readings.nats[b, code]]) for code, values in found.items()}
    along, measures = losses.barriers(nats, [readings.texts[code] for code in codes], readings.settings.seed)
    overall += [(a, b, measure, *estimate) for measure, estimate in measures.items()]
    curve += [(a, b, code, x, y) for code, each in along.items() for x, y in zip(at, each, strict=True)]


def _represented(readings: Readings, pair: tuple[str, str], overall: list[Row], layers: list[Row]) -> None:
    a, b = pair
    own_a, own_b = (readings.settings.languages[name] for name in pair)
    for side, codes in (("own", (own_a, own_b)), ("a", (own_a, own_a)), ("b", (own_b, own_b))):
        first, second = (a, codes[0]), (b, codes[1])
        device = readings.model.device
        x, y = (readings.states[key].to(device) for key in (first, second))
        similarity = representations.cka(x, y, readings.blocks)
        shared = representations.overlap(readings.directions[first], readings.directions[second])
        for measure, values in ((f"cka.{side}", similarity), (f"activation.{side}", shared)):
            overall.append((a, b, measure, *representations.over_layers(values)))
            layers += [(a, b, measure, layer, value) for layer, value in enumerate(values[0])]


def _gradients(readings: Readings, overall: list[Row], layers: list[Row]) -> None:
    """Alignment of the pairs' languages at the base; 1 where both models have one language."""
    spec = readings.settings
    assert spec.base is not None
    readings.place({spec.base: 1.0})
    texts = [readings.texts[code] for code in spec.codes]
    found: dict[frozenset[str], list[tuple[str, str, losses.Estimate]]] = {}
    if len(texts) > 1:
        for one, other, layer, measure, estimate in losses.gradient_rows(
            readings.model, texts, spec.gradients, spec.blocks
        ):
            found.setdefault(frozenset((one, other)), []).append((layer, measure, estimate))
        for text in texts:
            readings.count(text, 3 * min(1.0, spec.gradients / len(text.ids)))
    same = [(ALL, f"gradient.{measure}", (1.0, 1.0, 1.0)) for measure in ("cosine", "cosine_debiased")]
    for a, b in spec.pairs:
        for layer, measure, estimate in found.get(frozenset((spec.languages[a], spec.languages[b])), same):
            if layer == ALL:
                overall.append((a, b, measure, *estimate))
            elif layer == EMBEDDING or layer.isdecimal():
                layers.append((a, b, measure, 0 if layer == EMBEDDING else int(layer) + 1, estimate[0]))


def write(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write a CSV file, also without rows; nine digits, NaN as an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Any) -> Any:
    if isinstance(value, float):  # numpy's fp64 too
        return "" if math.isnan(value) else f"{value:.9g}"
    return value
