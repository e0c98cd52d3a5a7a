"""How stages write their tables: CSV files of rows with equal keys."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """Write rows as they come: UTF-8, a header, floats with nine digits, NaN as an empty cell.

    ``columns`` are those that every row must have, in this order; without any, those of the first row. A table without
    rows is the header alone, so that readers find it (an empty file if ``columns`` are not given either). ValueError
    for a row with other columns.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        header = tuple(columns)
        if header:
            writer.writerow(header)
        for row in rows:
            if not header:
                header = tuple(row)
                writer.writerow(header)
            if tuple(row) != header:
                raise ValueError(f"{path.name}: a row has columns {list(row)}, expected {list(header)}")
            writer.writerow([_cell(value) for value in row.values()])


def _cell(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else f"{value:.9g}"
    return value
