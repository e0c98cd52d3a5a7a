"""A table before it has a format: cells of text, and the numbers behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

EMPTY = "–"


@dataclass(frozen=True)
class Cell:
    """What stands in a cell; ``mark`` is set as a superscript."""

    text: str
    bold: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """A table for people (``rows`` under ``columns``) and the frame behind it for programs (``data``, written as CSV).

    ``spans`` are (title, columns) over the numeric columns, in order; ``rules`` the rows that a thin line precedes;
    ``text_columns`` how many of the first columns are text (set left). ``stretch`` are the columns that hold sentences
    and share the width that the others leave.
    """

    name: str
    title: str
    caption: str
    columns: list[str]
    rows: list[list[Cell]]
    data: pd.DataFrame
    spans: list[tuple[str, int]] = field(default_factory=list)
    rules: list[int] = field(default_factory=list)
    text_columns: int = 1
    stretch: list[int] = field(default_factory=list)

    def markdown(self) -> str:
        """The table as a pipe table, the caption under it."""

        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

        heads = self.columns
        if self.spans:
            over = [title for title, width in self.spans for _ in range(width)]
            heads = [
                *self.columns[: self.text_columns],
                *(
                    f"{title} {column}".strip()
                    for title, column in zip(over, self.columns[self.text_columns :], strict=True)
                ),
            ]
        ruler = ["---" if i < self.text_columns else "---:" for i in range(len(heads))]
        body = [[f"**{c.text}**{c.mark}" if c.bold else c.text + c.mark for c in row] for row in self.rows]
        return "\n".join([line(heads), line(ruler), *map(line, body), "", f"{self.title}. {self.caption}", ""])


def number(value: float | None, decimals: int = 1, signed: bool = False) -> str:
    """A number with a fixed number of decimals and a true minus; :data:`EMPTY` for what is not defined."""
    if value is None or not np.isfinite(value):
        return EMPTY
    text = f"{value:+.{decimals}f}" if signed else f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def interval(low: float, high: float, decimals: int = 1) -> str:
    """``[low, high]``; :data:`EMPTY` if it is not defined."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return EMPTY
    return f"[{number(low, decimals)}, {number(high, decimals)}]"


def p_text(p: float) -> str:
    """A p-value with three decimals, or that it is below 0.001; :data:`EMPTY` if it is not defined."""
    if not np.isfinite(p):
        return EMPTY
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def p_words(p: float) -> str:
    """``p = 0.012`` or ``p < 0.001``."""
    text = p_text(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def si(value: float | None, decimals: int = 1) -> str:
    """A large number with its SI prefix: ``1.2 M``."""
    if value is None or not np.isfinite(value):
        return EMPTY
    for factor, unit in ((1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.{decimals}f} {unit}"
    return f"{value:.0f}"


def cells(texts: Sequence[str]) -> list[Cell]:
    """Plain cells."""
    return [Cell(text) for text in texts]
