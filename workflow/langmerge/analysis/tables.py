"""The rows of the CSV files on representations, and how rows are written."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from langmerge.analysis import angles, cka
from langmerge.analysis.angles import Angles

Row = dict[str, Any]


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
