"""Tables of a study of growth: growth itself, final scores, forgetting, and merges by method and number."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from langmerge.reporting.samples import Sample
from langmerge.reporting.studies.growth_measures import LABELS, TEXT, Measures
from langmerge.reporting.studies.results import DECIMALS, MAIN, METRICS, TASKS
from langmerge.reporting.studies.tables import counted, everywhere, measure_words, method_label, score_table
from langmerge.reporting.table import Cell, Table, cells, interval, number, si

COPIES = "copy_difference"
Rows = dict[str, Mapping[str, Sequence[str]]]


def growth_table(measures: Measures) -> Table | None:
    """Every growth: sizes, how far the logits are from the source's, and whether copies differ; None without any."""
    costs = measures.results.costs
    if costs.empty or "max_logit_difference" not in costs:
        return None
    # Ways that lay no copies beside each other, as stacking does, measure no difference of them
    grown = costs[costs.max_logit_difference.notna()].assign(**({} if COPIES in costs else {COPIES: np.nan}))
    rows = [
        cells(
            [
                str(one["name"]),
                str(one["seed"]),
                si(one["parameters_before"], 2),
                si(one["parameters"], 2),
                f"{one['max_logit_difference']:.1e}",
                f"{one['relative_logit_difference']:.1e}",
                "yes" if one["preserves"] else "no",
                str(one["symmetry"]) + (f", {number(one[COPIES], 2)}" if pd.notna(one[COPIES]) else ""),
            ]
        )
        for one in grown.to_dict("records")
    ]
    columns = ["model", "seed", "parameters", "grown to", "max |Δ logit|", "relative", "promised", "symmetry"]
    caption = (
        "Before any training, on random tokens in fp32. Promised: whether this way of growing preserves the source's "
        "function. Symmetry: whether copies in the clone are equal (kept: then "
        "they get equal gradients, and training never tells them apart), and by how much they differ relative to the "
        "weights; none: there are no copies side by side."
    )
    kept = ["name", "seed", "parameters_before", "parameters", "max_logit_difference", "relative_logit_difference"]
    return Table("growth", "Growth", caption, columns, rows, grown[[*kept, "preserves", "symmetry", COPIES]])


def copy_table(measures: Measures) -> Table | None:
    """How far the copies in a clone differ while it learns, with noise and without; None without a control."""
    copies = measures.copies()
    if copies.empty:
        return None
    (language,), pivot = set(copies.language), measures.pivot
    steps = sorted(set(copies.step))
    items, _, _ = counted(measures.results, TEXT).partition(",")
    rows = []
    for noise, own in copies.sort_values("noise", ascending=False).groupby("noise", sort=False):
        difference = own.set_index("step").difference
        scores = [measures.score(measures.copied(own.role.iloc[0]), [code]) for code in (language, pivot)]
        shown = [f"{number(score.point, 3)} {interval(*score.interval, 3)}" for score in scores]
        rows.append(cells(["with noise" if noise else "without", *(f"{difference[s]:.2g}" for s in steps), *shown]))
    caption = (
        "Relative change of a clone's matrices when its copies change places (0: they are copies still), after so many "
        f"steps of learning {language}, and bits/byte after the last. {items}, one seed; the "
        "clone that is not the study's own is called control."
    )
    return Table(
        "copies",
        "Copies with and without noise",
        caption,
        ["clone", *map(str, steps), language, pivot],
        rows,
        copies,
        spans=[("after steps", len(steps)), ("bits/byte", 2)],
    )


def final_table(measures: Measures, task: str) -> Table:
    """T1: each setup's source, specialists (each in its own language), and joint model, by language."""
    results = measures.results
    rows: Rows = {}
    rules = []
    for setup in measures.setups:
        rules += [len(rows)] if rows else []
        name = LABELS[setup]
        rows[f"{name}, source"] = everywhere(results, measures.source(setup))
        rows[f"{name}, specialists"] = {code: measures.specialist(setup, code) for code in measures.languages}
        longer = {code: measures.keys(group=setup, role="matched", language=code) for code in measures.languages}
        if any(longer.values()):
            rows[f"{name}, specialists, FLOPs of 2x"] = longer
        rows[f"{name}, joint"] = everywhere(results, measures.keys(group=setup, role="joint"))
    caption = "Specialists: each in its own language."
    return replace(score_table(measures.samples, f"final_{task}", task, rows, caption), rules=rules)


def merge_table(measures: Measures, task: str) -> Table | None:
    """T3: the merge of all specialists by every method, beside specialists and joint model; None without merges."""
    results = measures.results
    if not measures.methods:
        return None
    rows: Rows = {}
    rules = []
    for setup in measures.setups:
        rules += [len(rows)] if rows else []
        name = LABELS[setup]
        rows[f"{name}, specialists"] = {code: measures.specialist(setup, code) for code in measures.languages}
        rows[f"{name}, joint"] = everywhere(results, measures.keys(group=setup, role="joint"))
        for method in measures.methods:
            for systems in measures.merges(setup, method, len(measures.languages)).values():
                rows[f"{name}, {method_label(method)}"] = everywhere(results, systems)
    table = score_table(measures.samples, f"merges_{task}", task, rows, "Merges of all languages' specialists.")
    return replace(table, title=f"Merges of all, {table.title[:1].lower()}{table.title[1:]}", rules=rules)


def forgetting_table(measures: Measures, task: str) -> Table:
    """T2: the pivot before, and after each language was learnt."""
    metric, pivot, results = MAIN[task], measures.pivot, measures.results
    whole = max(measures.sizes, default=0) == len(measures.languages)
    method = next(iter(measures.methods), "") if whole else ""
    decimals = DECIMALS.get(metric, 1)
    rows, data = [], []
    for setup in measures.setups:
        line = [LABELS[setup]]
        scores: dict[str, Sample] = {"before": measures.score(measures.source(setup), [pivot], task)}
        scores |= {code: measures.score(measures.specialist(setup, code), [pivot], task) for code in measures.languages}
        scores["joint"] = measures.score(measures.keys(group=setup, role="joint"), [pivot], task)
        if method:
            (systems,) = measures.merges(setup, method, max(measures.sizes)).values()
            scores["merge"] = measures.score(systems, [pivot], task)
        scores["loss"] = measures.forgetting(setup, measures.languages, task)
        for name, sample in scores.items():
            low, high = sample.interval
            shown = number(sample.point, decimals)
            line.append(f"{shown} {interval(low, high, decimals)}" if name == "loss" else shown)
            data.append({"setup": setup, "after": name, "task": task, "score": sample.point, "low": low, "high": high})
        rows.append(cells(line))
    own = replace(results, scores=results.scores[results.scores.language == pivot])
    columns = ["", "before", *measures.languages, "joint", *(["merge"] if method else []), "mean loss"]
    merged = f", and of the merge of all ({method_label(method)})" if method else ""
    caption = (
        f"{measure_words(metric)}, in {pivot}, of each setup's source, of its specialists (by the language that they "
        f"learnt), of its joint model{merged}; the loss is the specialists' mean, with its 95 % bootstrap interval. "
        f"{counted(own, task)}."
    )
    spans = [("", 1), ("after learning", len(columns) - 3), ("", 1)]
    title = f"{TASKS[task]}: {pivot} before and after"
    return Table(f"forgetting_{task}", title, caption, columns, rows, pd.DataFrame(data), spans=spans)


def subset_table(measures: Measures, task: str) -> Table | None:
    """What the merge of every subset loses against its specialists, by method; None without merges."""
    decimals = DECIMALS.get(MAIN[task], 1)
    if not measures.sizes:
        return None
    rows: list[list[Cell]] = []
    data: list[dict[str, Any]] = []
    rules = []
    for setup in measures.setups:
        rules += [len(rows)] if rows else []
        subsets: dict[tuple[str, ...], list[str]] = {}
        for size, method in itertools.product(measures.sizes, measures.methods):
            for languages, systems in measures.merges(setup, method, size).items():
                loss = measures.merge_loss(setup, systems, languages, task)
                low, high = loss.interval
                shown = f"{number(loss.point, decimals)} {interval(low, high, decimals)}"
                subsets.setdefault(languages, []).append(shown)
                row = {"setup": setup, "languages": "+".join(languages), "method": method, "task": task}
                data.append(row | {"loss": loss.point, "low": low, "high": high})
        rows += [cells([LABELS[setup], "+".join(languages), *shown]) for languages, shown in subsets.items()]
    caption = (
        f"What the merge of each subset of the languages loses against their specialists ({METRICS[MAIN[task]]}), mean "
        f"over its languages, with 95 % bootstrap intervals. {counted(measures.results, task)}."
    )
    columns = ["setup", "languages", *map(method_label, measures.methods)]
    title = f"{TASKS[task]}: loss by merging, every subset"
    return Table(f"subsets_{task}", title, caption, columns, rows, pd.DataFrame(data), rules=rules, text_columns=2)


def size_table(measures: Measures, task: str) -> Table | None:
    """T4: what merges lose against their specialists, by the number of models; None without merges."""
    metric = MAIN[task]
    decimals = DECIMALS.get(metric, 1)
    if not measures.sizes:
        return None
    rows: list[list[Cell]] = []
    data: list[dict[str, Any]] = []
    rules = []
    for setup in measures.setups:
        rules += [len(rows)] if rows else []
        for method in measures.methods:
            line = [LABELS[setup], method_label(method)]
            for size in measures.sizes:
                loss = measures.size_loss(setup, method, size, task)
                low, high = loss.interval
                line.append(f"{number(loss.point, decimals)} {interval(low, high, decimals)}")
                row = {"setup": setup, "method": method, "size": size, "task": task, "loss": loss.point}
                data.append(row | {"low": low, "high": high})
            kept = measures.kept(setup, method, task)
            low, high = kept.interval
            line.append(f"{number(100 * kept.point, 0)} {interval(100 * low, 100 * high, 0)}")
            data.append({"setup": setup, "method": method, "task": task, "kept": kept.point, "low": low, "high": high})
            rows.append(cells(line))
    caption = (
        f"What a merge loses against the specialists it is made of, each in its language ({METRICS[metric]}), mean "
        "over all subsets of the languages of that size, with 95 % bootstrap intervals. Kept: share of what the "
        f"specialists had learnt since the source, in the merge of all. {counted(measures.results, task)}."
    )
    columns = ["setup", "method", *map(str, measures.sizes), "kept (%)"]
    spans = [("models merged", len(measures.sizes)), ("", 1)]
    title = f"{TASKS[task]}: loss by merging, by number of models"
    frame = pd.DataFrame(data)
    return Table(f"sizes_{task}", title, caption, columns, rows, frame, spans=spans, rules=rules, text_columns=2)
