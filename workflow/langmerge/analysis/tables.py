"""The rows of the CSV files on representations: CKA, angles, maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import torch

from langmerge.analysis import angles, cka
from langmerge.analysis.angles import Angles
from langmerge.csv_files import Row


def cka_rows(
    direction: str, span: str, layer: int, layers: int, models: Sequence[str], stack: torch.Tensor, blocks: np.ndarray,
    permutations: int, seed: int,
) -> Iterator[Row]:  # fmt: skip
    """Every two of ``models`` at one layer, in every variant; ``stack`` [M, n, d], ``blocks`` [n]."""
    dropped = cka.dropped_channels(stack)
    found: cka.Comparison | None = None
    for variant, transform in cka.VARIANTS.items():
        x = transform(stack)
        if found is None or not torch.equal(x, stack):  # without sinks, nothing is dropped
            found = cka.compare(x, blocks, permutations, seed)
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
            "floor_degrees": found.floor[a, b],
            "standard_error": found.standard_error[a, b],
            "halves": found.halves,
            "distance": found.distance[a, b],
        }


def map_rows(direction: str, span: str, layer: int, models: Sequence[str], distances: np.ndarray) -> Iterator[Row]:
    """A point in the plane for each of ``models``, from their ``distances`` [M, M] at one layer."""
    for model, (x, y) in zip(models, angles.scaling(distances), strict=True):
        yield {"span": span, "direction": direction, "layer": layer, "model": model, "x": x, "y": y}
