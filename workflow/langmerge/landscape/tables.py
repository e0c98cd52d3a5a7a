"""CSV tables of a survey."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]

COLUMNS = {
    "losses": ("model", "language", "loss", "low", "high", "n", "tokens", "bytes"),
    "line": ("model_a", "model_b", "language", "a", "loss", "excess", "low", "high", "n"),
    "barriers": ("model_a", "model_b", "language", "measure", "value", "low", "high", "at", "n"),
    "plane": ("x", "y", "model", "language", "loss", "n"),
    "fisher": ("at", "language_a", "language_b", "layer", "measure", "value", "null", "ceiling", "n"),
    "gradients": (
        *("language_a", "language_b", "layer", "measure", "value", "low", "high", "null", "ceiling"),
        *("n", "blocks"),
    ),
}


def write(folder: Path, name: str, rows: Iterable[Row]) -> None:
    """Write ``<name>.csv`` with the columns of ``COLUMNS``, also without rows; nine digits, NaN as an empty cell.

    ValueError for a row with other columns.
    """
    columns: Sequence[str] = COLUMNS[name]
    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            if tuple(row) != columns:
                raise ValueError(f"{name}.csv: a row has columns {list(row)}, expected {list(columns)}")
            writer.writerow([_cell(value) for value in row.values()])


def _cell(value: Any) -> Any:
    if isinstance(value, float):  # numpy's fp64 too
        return "" if math.isnan(value) else f"{value:.9g}"
    return value
