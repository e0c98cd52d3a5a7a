"""Half of a 95 % interval from the standard errors that measurements give: Student's t, never the normal's 1.96."""

from __future__ import annotations

import numpy as np
import pandas as pd

from langmerge.jackknife import half_width
from langmerge.reporting.load import Results


def over_blocks(results: Results, error: np.ndarray | pd.Series | float) -> np.ndarray:
    """Of delete-one-block jackknife errors [...], such as CKA's: one degree of freedom less than blocks."""
    return half_width(np.asarray(error, dtype=float), int(results.study["analysis"]["blocks"]))


def over_halves(table: pd.DataFrame, error: np.ndarray | pd.Series | float) -> np.ndarray:
    """Of delete-half jackknife errors [...] of principal angles, whose ``table`` has the number of half-samples."""
    return half_width(np.asarray(error, dtype=float), int(table.halves.min()))
