"""Headings say what the planted tables hold, with the sign of the intervals, and admit what they do not show."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from planted_tables import COSINE, COST, RESTORED

from langmerge.reporting import headings
from langmerge.reporting.document import Section
from langmerge.reporting.headings import Interval, sides
from langmerge.reporting.load import TABLES, Results

ONTO = "task_arithmetic"


@pytest.fixture
def empty(results: Results) -> Results:
    for name in results.tables:
        results = results.with_table(name, pd.DataFrame())
    return results


def shifted(results: Results, name: str, where: dict[str, str], by: float, group: str | None = None) -> Results:
    """The same results with numbers and intervals moved, in one direction group or all."""
    table = results.table(name).copy()
    chosen = table.group.eq(group) if group else pd.Series(True, index=table.index)
    for column, value in where.items():
        chosen &= table[column] == value
    numbers = [c for c in ("value", "low", "high", "excess", "excess_low", "excess_high") if c in table]
    table.loc[chosen, numbers] += by
    return results.with_table(name, table)


def test_sides_need_every_interval_on_one_side() -> None:
    above, below, across = Interval(1, 0.5, 2), Interval(-1, -2, -0.5), Interval(0.1, -1, 1)
    assert sides({"a": above, "b": above}) == 1
    assert sides({"a": below}) == -1
    assert sides({"a": above, "b": across}) == sides({"a": above, "b": below}) == sides({}) == 0


def test_weights(results: Results) -> None:
    text = headings.weights(results)
    assert "more alike than chance" in text
    assert text.count(f"{COSINE:.2f} [{COSINE - 0.02:.2f}, {COSINE + 0.02:.2f}]") == 2  # layers only, both groups
    where = {"measure": "cosine"}
    assert "less alike than chance" in headings.weights(shifted(results, "weighing/pairs", where, -2 * COSINE))
    for by, group in ((-COSINE, None), (-2 * COSINE, "to-en")):
        assert "inconclusive" in headings.weights(shifted(results, "weighing/pairs", where, by, group))


def test_landscape(results: Results) -> None:
    text = headings.landscape(results)
    assert "no loss barrier between specialists, yet their average costs" in text
    assert f"{COST:.3f}" in text
    middle, cost = {"measure": "midpoint"}, {"measure": "loss_of_merging"}
    risen = shifted(results, "landscape/barriers", middle, 1.0)
    assert ": a loss barrier between specialists, and" in headings.landscape(risen)
    better = shifted(results, "landscape/barriers", cost, -1.0)
    assert "and their average gains" in headings.landscape(better)
    assert "inconclusive what" in headings.landscape(shifted(results, "landscape/barriers", cost, -COST))


def test_patches(results: Results) -> None:
    first, last = RESTORED
    text = headings.patches(results, ONTO)
    assert "the last layer restores less than one below it" in text
    assert f"−{first - last:.2f}" in text  # in BLEU; the rows in chrF++ do not count
    where = {"kind": "last"}
    turned = shifted(results, "patches/patches", where, 2 * (first - last))
    assert "the last layer restores more than one below it" in headings.patches(turned, ONTO)
    unclear = shifted(results, "patches/patches", where, first - last, "from-en")
    assert "inconclusive whether" in headings.patches(unclear, ONTO)
    undefined = results.table("patches/patches").assign(excess=np.nan)
    assert headings.patches(results.with_table("patches/patches", undefined), ONTO) == headings.patches(results, "ties")


def test_damage(results: Results) -> None:
    text = headings.damage(results)
    assert "1 of 4 measures foretell it" in text  # not the stronger one that is not significant
    assert "weights: cosine ρ 0.90, corrected p 0.01" in text
    chance = results.table("damage/predictors").assign(p_corrected=0.4)
    text = headings.damage(results.with_table("damage/predictors", chance))
    assert "inconclusive, none of 4" in text
    assert "CKA target last ρ −0.95" in text


def test_without_tables_only_the_name_is_left(empty: Results) -> None:
    found = [headings.weights(empty), headings.landscape(empty), headings.patches(empty, ONTO), headings.damage(empty)]
    assert all(":" not in text for text in found)


def test_links_are_short(results: Results) -> None:
    assert Section(headings.damage(results)).name == "Which pairs merge well"
    assert Section("Examples").name == "Examples"


def test_tables_of_all_stages_can_be_asked_for(results: Results) -> None:
    for place, files in TABLES.items():
        for file in files:
            table = results.table(f"{place}/{file}")
            assert table.empty or "value" in table or len(table)
    with pytest.raises(KeyError, match="no table weighing/cka"):
        results.table("weighing/cka")
