"""What switching off a language's units costs, in a heading and as a table.

Heading: :func:`ablation_heading`. Table: :func:`ablation_table`.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from langmerge.reporting.load import Results, each
from langmerge.reporting.samples import arrow
from langmerge.reporting.table import Cell, Table, interval, number
from langmerge.reporting.tables_models import model_label
from langmerge.reporting.tables_units import means, seeds_note

TITLE = "Switching language units off"
KEYS = ["group", "model", "units_of", "language"]
NUMBERS = [
    *("units", "draws", "n", "intact", "value", "low", "high"),
    *("null", "null_low", "null_high", "excess", "excess_low", "excess_high"),
]


def ablations(results: Results) -> pd.DataFrame:
    """The cost in ``language`` of the units of ``units_of`` for each direction group and model, means over seeds."""
    table = results.table("ablation/ablation")
    return table if table.empty else means(table, KEYS, NUMBERS)


def clear(found: pd.DataFrame) -> pd.Series:
    """Whether units cost more than random ones: beyond the band of random draws, and in other sentences too."""
    return (found.value > found.null_high) & (found.excess_low > 0)


def ablation_heading(results: Results) -> str:
    """The title, and after a colon in how many sets of units the language itself, and others, lose more than chance."""
    found = ablations(results)
    if found.empty:
        return TITLE
    mine = found.units_of == found.language
    own, others = clear(found[mine]), clear(found[~mine])
    if not own.any():
        return f"{TITLE}: inconclusive, no language loses clearly more by its own units than by random ones"
    return (
        f"{TITLE}: the language itself loses clearly more than by random units for {own.sum()} of {len(own)} sets, "
        f"another language in {others.sum()} of {len(others)} cases"
    )


def ablation_table(results: Results) -> Table | None:
    """Cost of each language's units in that language, beside random units and other languages; None without."""
    found = ablations(results)
    if found.empty:
        return None
    body: list[list[Cell]] = []
    rules: list[int] = []
    data: list[dict[str, Any]] = []
    for (group, model, code), here in found.groupby(KEYS[:3], sort=False):
        own, others = here[here.language == code], here[here.language != code]
        if own.empty:
            continue
        if not data or data[-1]["group"] != group or data[-1]["model"] != model:
            rules.append(len(body))
        row: Any = next(each(own))
        beyond = bool(clear(own).iloc[0])
        elsewhere = int(clear(others).sum())
        data.append(
            {"group": group, "model": model, "language": code}
            | {name: float(getattr(row, name)) for name in NUMBERS}
            | {"beyond_chance": beyond, "others_beyond_chance": elsewhere, "others_excess": others.excess.mean()}
        )
        body.append(
            [
                Cell(arrow(str(group), results.pivot)),
                Cell(model_label(str(model))),
                Cell(str(code)),
                Cell(number(row.units, 0)),
                Cell(_milli(row.value), bold=beyond),
                Cell(_ends(row.low, row.high)),
                Cell(_milli(row.null)),
                Cell(_ends(row.null_low, row.null_high)),
                Cell(_milli(row.excess)),
                Cell(_ends(row.excess_low, row.excess_high)),
                Cell(_milli(others.excess.mean())),
                Cell(f"{elsewhere} of {len(others)}"),
            ]
        )
    return Table(
        "ablation",
        "What a language's own units cost it",
        f"{TITLE}: change of the target's bits per byte in that language, in thousandths; random: as many units of the "
        f"same layers that fire as often, mean of {found.draws.max():.0f} draws and the band of a further draw "
        "(Student's prediction interval); excess: the difference. Other intervals: 95 % delete-one-block jackknife, "
        f"n = {found.n.max():.0f} sentences a language. Bold: beyond the band, and the excess clearly above 0. Others: "
        f"mean excess in the other languages, and in how many of them it is beyond chance so.{seeds_note(results)}",
        ["Direction", "Model", "Language", "units", "cost", "95 %", "random", "band", "excess", "95 %", "others",
         "beyond"],
        body,
        pd.DataFrame(data),
        rules=rules[1:],
        text_columns=3,
    )  # fmt: skip


def _milli(value: float) -> str:
    return number(1000 * value, 1, signed=True)


def _ends(low: float, high: float) -> str:
    return interval(1000 * low, 1000 * high, 1)
