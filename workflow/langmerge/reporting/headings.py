"""Headings that say what was found: each a few words of finding and number, computed from the tables.

A heading claims a direction only where an interval excludes the other one in every direction group, says so where the
groups differ, and otherwise says that the measurement is inconclusive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from langmerge.reporting.figures_damage import SIGNIFICANT
from langmerge.reporting.figures_patches import MEAN, of_metric
from langmerge.reporting.load import Results
from langmerge.reporting.samples import arrow
from langmerge.reporting.table import interval, number
from langmerge.reporting.tables_damage import measure_label, ranked


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    def text(self, decimals: int = 2) -> str:
        """Number and interval in print."""
        return f"{number(self.value, decimals)} {interval(self.low, self.high, decimals)}"


def sides(found: dict[str, Interval], bar: float = 0.0) -> int:
    """1 if all intervals lie above ``bar``, -1 if all lie below, 0 otherwise or for none."""
    if found and all(one.low > bar for one in found.values()):
        return 1
    return -1 if found and all(one.high < bar for one in found.values()) else 0


def _joined(results: Results, found: dict[str, Interval], decimals: int = 2) -> str:
    return "; ".join(f"{arrow(group, results.pivot)} {one.text(decimals)}" for group, one in found.items())


def _by_group(table: pd.DataFrame, columns: tuple[str, str, str] = ("value", "low", "high")) -> dict[str, Interval]:
    """The mean of each direction group's rows; groups without a defined number are left out."""
    if table.empty:
        return {}
    means = table.groupby("group", sort=False)[list(columns)].mean()
    return {
        str(g): Interval(*map(float, row))
        for g, row in zip(means.index, means.to_numpy(), strict=True)
        if np.isfinite(row).all()
    }


def weights(results: Results) -> str:
    """Do the specialists' changes of the layers' weights agree?"""
    title = "In weight space"
    pairs = results.table("weighing/pairs")
    if pairs.empty:
        return title
    pairs = pairs[(pairs.relation == "specialists") & (pairs.measure == "cosine") & (pairs.scope == "layer")]
    found = _by_group(pairs)
    if not found:
        return title
    said = {
        1: "specialists change their layers more alike than chance",
        -1: "specialists change their layers less alike than chance",
        0: "inconclusive whether specialists change their layers more alike than chance",
    }[sides(found)]
    return f"{title}: {said} (cosine {_joined(results, found)})"


def landscape(results: Results) -> str:
    """Is there a barrier between specialists, and what does their average cost?"""
    title = "Between the models"
    table = results.table("landscape/barriers")
    if table.empty:
        return title
    table = table[(table.language == MEAN) & ~table.model_a.eq("base") & ~table.model_b.eq("base")]
    cost, middle = (_by_group(table[table.measure == name]) for name in ("loss_of_merging", "midpoint"))
    if not cost or not middle:
        return title
    said = {
        1: "a loss barrier between specialists",
        -1: "no loss barrier between specialists",
        0: "inconclusive whether a loss barrier lies between specialists",
    }[sides(middle)]
    but = {1: "yet" if sides(middle) < 0 else "and", -1: "and", 0: "and"}[sides(cost)]
    costs = {1: "their average costs", -1: "their average gains", 0: "inconclusive what their average costs"}
    return f"{title}: {said}, {but} {costs[sides(cost)]} (bits per byte: {_joined(results, cost, 3)})"


def patches(results: Results, onto: str) -> str:
    """Which end of the model restores more: the last layers, or as many below them?"""
    title = "Where in the model the merge breaks"
    table = of_metric(results)
    if table.empty:
        return title
    table = table[(table.onto == onto) & (table.language == MEAN) & (table.kind == "last")]
    columns = ("excess", "excess_low", "excess_high")
    found = _by_group(table, columns)
    if not found:
        return title
    size = int(table["size"].max())
    last = "the last layer restores" if size == 1 else f"the last {size} layers restore"
    below = "one below it" if size == 1 else "as many below them"
    said = {
        1: f"{last} more than {below}",
        -1: f"{last} less than {below}",
        0: f"inconclusive whether {last} more than {below}",
    }[sides(found)]
    return f"{title}: {said} (difference of restored shares {_joined(results, found)})"


def damage(results: Results) -> str:
    """Does any measure foretell what a pair's merge costs?"""
    title = "Which pairs merge well"
    tests = ranked(results)
    if tests.empty:
        return title
    clear = tests[tests.p_corrected < SIGNIFICANT]
    best = (clear if len(clear) else tests).iloc[0]
    text = f"{measure_label(best.measure)} ρ {number(best.rho, 2)}, corrected p {number(best.p_corrected, 2)}"
    if len(clear):
        return f"{title}: {len(clear)} of {len(tests)} measures foretell it (strongest: {text})"
    return f"{title}: inconclusive, none of {len(tests)} measures foretells it beyond chance (strongest: {text})"
