"""Tables of the scenarios: what an update and an addition change in every language."""

from __future__ import annotations

from typing import Any

import pandas as pd

from langmerge.reporting.samples import mean
from langmerge.reporting.studies.maintenance_costs import ADDITION, INITIAL, UPDATE
from langmerge.reporting.studies.maintenance_measures import LEVEL, View, label, spill_over
from langmerge.reporting.studies.results import METRICS
from langmerge.reporting.studies.tables import counted, measure_words
from langmerge.reporting.table import Cell, Table, cells, interval, number


def update_tables(view: View) -> list[Table]:
    """T4: change of every language by every way to bring the model up to date."""
    update = view.results.study["update"]
    tables = []
    for group in view.with_scenario(UPDATE) if update else []:
        changed = update["language"]
        table = spill_over(view, group, changed)
        lines = []
        for way, here in table.groupby("way", sort=False):
            line = [Cell(str(way))]
            for code in view.scored(group):
                row = here[here.language == code].iloc[0]
                shown = f"{number(row.change, 1, True)} {interval(row.low, row.high)}"
                line.append(Cell(shown, bold=bool(row.p_holm < LEVEL)))
            others = here[~here.updated]
            line.append(Cell(f"{number(100 * others.changed.mean(), 0)} %"))
            lines.append(line)
        caption = (
            f"Points of {METRICS[view.metric(group)]}, after less before the data of {changed} grew from "
            f"{number(100 * update['before'], 0)} % of their items; {counted(view.results, view.tasks[group][0])}, "
            f"paired 95 % bootstrap intervals. Bold: p < {LEVEL:g} after Holm over all ways and languages that were "
            "not updated. Last column: their items that are answered differently. Specialists that are not merged do "
            "not change. Merge again: with the parameters of the initial build; tune and merge again: with parameters "
            "chosen anew on dev, so that changes are also due to them."
        )
        columns = ["", *(f"{c} (updated)" if c == changed else c for c in view.scored(group)), "others differ"]
        tables.append(
            Table(
                f"update_{group.replace('-', '_')}",
                f"Update of {changed}: {view.title(group)}",
                caption,
                columns,
                lines,
                table,
            )
        )
    return tables


def addition_tables(view: View) -> list[Table]:
    """What the languages before, and the new one, score when a language is added."""
    addition = view.results.study["addition"]
    tables = []
    for group in view.with_scenario(ADDITION) if addition else []:
        new = addition["language"]
        old = [code for code in view.scored(group) if code != new]
        before = {"role": "combined", "scenario": "before"}
        ways: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
            "All anew": (before, {"role": "combined", "scenario": INITIAL}),
            "Go on with replay": (before, {"role": "continued", "scenario": ADDITION}),
        }
        for method in view.methods(group, "before"):
            merge = {"role": "merge", "method": method}
            ways[f"Merge with it, {label(method)}"] = (merge | {"scenario": "before"}, merge | {"scenario": INITIAL})
        lines, data = [], []
        for way, (first, last) in ways.items():
            was, now = (view.average(group, old, **values) for values in (first, last))
            there = mean([view.score(group, new, **last)])
            shift = now - was
            texts = [
                number(was.point, 1),
                number(now.point, 1),
                f"{number(shift.point, 1, True)} {interval(*shift.interval)}",
            ]
            lines.append(cells([way, *texts, f"{number(there.point, 1)} {interval(*there.interval)}"]))
            data.append(
                {"way": way, "before": was.point, "after": now.point, "change": shift.point, "low": shift.interval[0]}
                | {"high": shift.interval[1], "new": there.point}
            )
        caption = (
            f"{measure_words(view.metric(group))}; {counted(view.results, view.tasks[group][0])}; paired 95 % "
            f"bootstrap intervals. Left: mean over {', '.join(old)}; right: {new}. Merges before and after have the "
            "same parameters, those of the initial build."
        )
        columns = ["", "before", "after", "change", f"{new} after"]
        name = f"addition_{group.replace('-', '_')}"
        tables.append(
            Table(name, f"Addition of {new}: {view.title(group)}", caption, columns, lines, pd.DataFrame(data))
        )
    return tables
