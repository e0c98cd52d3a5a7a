"""Tables of what is inside the models: selective neurons, similarity of representations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from langmerge.reporting import samples
from langmerge.reporting.load import Results
from langmerge.reporting.samples import arrow, label
from langmerge.reporting.table import EMPTY, Cell, Table, cells, interval, number

KINDS = ("specialist–specialist", "base–specialist", "merge–specialist")
UPPER = 0.15  # share of the layers that counts as the top


def neuron_counts(results: Results) -> pd.DataFrame:
    """Selective neurons by the headline ranking in long form: seed, group, model, span, layer, language, units.

    By the thresholds of the base for all models: refitted to each, most rankings select as many in every one.
    """
    table = results.table("measurements/neurons")
    return table if table.empty else table[table["frozen"].astype(bool)]


def neuron_table(results: Results) -> Table | None:
    """Selective neurons per language (all layers), with the share of the model's total; None without any."""
    counts = neuron_counts(results)
    if counts.empty:
        return None
    # Languages of a run are those of its rows: the pivot may be among them.
    languages = list(dict.fromkeys(counts.language))
    body: list[list[Cell]] = []
    data: list[dict[str, Any]] = []
    rules: list[int] = []
    for place, here in counts.groupby(["group", "span"], sort=False):
        group, span = map(str, place)
        if not here.units.any():
            continue  # the pivot's span before the model knows which language is asked for
        rules.append(len(body))
        summed = here.groupby(["seed", "model", "language"]).units.sum().groupby(level=["model", "language"]).mean()
        for model in dict.fromkeys(here.model):
            units = summed.loc[model].reindex(languages)
            total = units.sum()
            own = [code for code in languages if model == results.direction(group, code)]
            line = [Cell(arrow(group, results.pivot)), Cell(span), Cell(model_label(model))]
            for code in languages:
                share = units[code] / total if total else float("nan")
                data.append(
                    {
                        "group": group,
                        "span": span,
                        "model": model,
                        "language": code,
                        "units": units[code],
                        "share": share,
                    }
                )
                text = f"{number(units[code], 0)} ({number(100 * share, 0)})"
                line.append(Cell(text, bold=code in own))
            body.append([*line, Cell(number(total, 0))])
    if not body:
        return None
    ranking = ", ".join(dict.fromkeys(counts.ranking)).replace("_", " ")
    warnings = list(dict.fromkeys(counts.warning.dropna())) if "warning" in counts else []
    return Table(
        "neurons",
        "Selective neurons per language",
        f"Number of neurons (per cent of the row's total); ranking: {ranking}, thresholds of the base for all models. "
        "Bold: the language that a specialist was trained on."
        f"{' Caution: ' + '; '.join(warnings) + '.' if warnings else ''}",
        ["Direction", "Span", "Model", *languages, "all"],
        body,
        pd.DataFrame(data),
        rules=rules[1:],
        text_columns=3,
    )


def turnover_table(results: Results) -> Table | None:
    """Neurons gained and lost against the base, and how far two sets overlap; None without any."""
    table = results.table("measurements/turnover")
    if table.empty:
        return None
    languages = list(dict.fromkeys(table.language))
    values = ["gained", "lost", "jaccard", "ceiling"]
    mean: Any = table.groupby(["group", "span", "model", "language"], sort=False)[values].mean()
    body: list[list[Cell]] = []
    rules: list[int] = []
    for place, here in table.groupby(["group", "span"], sort=False):
        group, span = map(str, place)
        if here.jaccard.isna().all():
            continue  # neither the base nor another model has any
        rules.append(len(body))
        for model in dict.fromkeys(here.model):
            line = [Cell(arrow(group, results.pivot)), Cell(span), Cell(model_label(model))]
            for code in languages:
                if (group, span, model, code) not in mean.index:
                    line.append(Cell(EMPTY))
                    continue
                row = mean.loc[(group, span, model, code)]
                own = model == results.direction(group, code)
                text = f"+{row.gained:.0f} −{row.lost:.0f} ({number(row.jaccard, 2)})"
                line.append(Cell(text, bold=own))
            body.append(line)
    if not body:
        return None
    top = f" Two halves of the sentences give the base itself {mean.ceiling.mean():.2f}."
    return Table(
        "turnover",
        "Selective neurons gained and lost",
        f"Against the base: gained, lost, and in brackets the Jaccard overlap of the two sets.{top}",
        ["Direction", "Span", "Model", *languages],
        body,
        table,
        rules=rules[1:],
        text_columns=3,
    )


def model_label(name: str) -> str:
    """A measured model's name in print: directions as arrows, methods by their usual names."""
    if name in samples.METHODS or name in ("base", "joint"):
        return label(name if name in ("base", "joint") else "merge", name)
    return name.replace("-", "→", 1)


def upper_layers(count: int) -> int:
    """How many of ``count`` layers are the top: 15 %, at least one."""
    return max(1, math.ceil(UPPER * count - 1e-9))


def pair_kinds(results: Results, table: pd.DataFrame) -> np.ndarray:
    """Which kind of models each row compares, by its columns model_a and model_b: of :data:`KINDS`, or ``other``."""
    trained = {results.direction(group, code) for group in results.groups for code in results.languages}
    known = trained | {"base", "joint"}
    a, b = table.model_a.isin(trained), table.model_b.isin(trained)
    base = (table.model_a == "base") | (table.model_b == "base")
    merge = ~table.model_a.isin(known) | ~table.model_b.isin(known)
    return np.select([a & b, base & (a | b), merge & (a | b)], KINDS, "other")


def cka_of(results: Results, variant: str = "raw") -> pd.DataFrame:
    """CKA by layer in long form with ``pair``: the kind of models that is compared (:func:`pair_kinds`)."""
    table = results.table("measurements/cka")
    if table.empty:
        return table
    table = table[table["variant"] == variant]
    return table.assign(pair=pair_kinds(results, table))


def angles_of(results: Results) -> pd.DataFrame:
    """Principal angles by layer in long form with ``pair``, as :func:`cka_of`."""
    table = results.table("measurements/angles")
    return table if table.empty else table.assign(pair=pair_kinds(results, table))


def rank_of(results: Results, group: str, span: str, models: set[str]) -> float:
    """Mean effective rank of the models' span means at the last layer, all channels; NaN where it was not measured."""
    table = results.table("measurements/similarity")
    if table.empty:
        return math.nan
    table = table[(table.measure == "effective_rank") & (table.variant == "raw") & (table.pool == "mean")]
    table = table[(table.group == group) & (table.span == span) & table.model_a.isin(models)]
    return float(table[table.layer == table.layers].value.mean())


def _at_last(table: pd.DataFrame, group: str, span: str, kind: str) -> float:
    """Mean CKA at the last layer over the pairs of one kind."""
    here = (table.group == group) & (table.span == span) & (table.pair == kind)
    return float(table[here & (table.layer == table.layers)].cka.mean())


def cka_table(results: Results) -> Table | None:
    """Mean CKA of the upper layers by direction group, span and kind of pair; None without measurements.

    Beside it, at the last layer, what it rests on: other estimates and scalings, and the effective rank.
    """
    table = cka_of(results)
    if table.empty:
        return None
    scaled = {variant: cka_of(results, variant) for variant in ("drop_sink", "zscore")}
    last = table["layers"] - table["layers"].map(upper_layers)
    body: list[list[Cell]] = []
    data: list[dict[str, Any]] = []
    rules: list[int] = []
    for group, span in dict.fromkeys(zip(table.group, table.span, strict=True)):
        here = table[(table.group == group) & (table.span == span)]
        if group not in [row["group"] for row in data]:
            rules.append(len(body))
        for kind in KINDS:
            chosen = here[here.pair == kind]
            if chosen.empty:
                continue
            third = chosen[chosen.layer == (chosen.layers / 3).round()]
            top = chosen[chosen.layer > last.loc[chosen.index]]
            final = chosen[chosen.layer == chosen.layer.max()]
            row = {
                "group": group,
                "span": span,
                "pair": kind,
                "third": third.cka.mean(),
                "upper": top.cka.mean(),
                "last": final.cka.mean(),
                "low": final.groupby(["model_a", "model_b"]).cka.mean().min(),
                "high": final.groupby(["model_a", "model_b"]).cka.mean().max(),
                "standard_error": final.standard_error.mean(),
                "null_high": final.null_high.max(),
                "anc": final.anc.mean(),
                "biased": final.cka_biased.mean(),
                **{variant: _at_last(other, group, span, kind) for variant, other in scaled.items()},
                "effective_rank": rank_of(results, group, span, {*final.model_a, *final.model_b}),
            }
            data.append(row)
            body.append(
                cells(
                    [
                        arrow(group, results.pivot),
                        span,
                        kind,
                        *(number(row[c], 3) for c in ("third", "upper", "last")),
                        interval(row["low"], row["high"], 3),
                        *(number(row[c], 3) for c in ("standard_error", "null_high")),
                        *(number(row[c], 3) for c in ("biased", "drop_sink", "zscore", "anc")),
                        number(row["effective_rank"]),
                    ]
                )
            )
    count = int(table["layers"].max())
    return Table(
        "cka",
        "Similarity of representations in the upper layers",
        f"Debiased linear CKA of span means, mean over pairs of models; {upper_layers(count)} of {count} "
        "layers are called upper. "
        "Range: over pairs, at the last layer; se: jackknife, mean over pairs; null: 97.5th percentile under "
        "shuffled sentences; "
        "biased: by the usual estimator, which is above 0 for unrelated data; no sinks: debiased, without channels of "
        "more than 100 median variances; z-scored: debiased, all channels scaled alike; "
        "ANC: mean absolute correlation of equal coordinates; rank: effective rank of a model's representations, mean "
        f"over models. n = {int(table.n.max())} sentences.",
        [
            *("Direction", "Span", "Pair", "1/3 depth", "upper", "last", "range", "se", "null"),
            *("biased", "no sinks", "z-scored", "ANC", "rank"),
        ],
        body,
        pd.DataFrame(data),
        [("debiased CKA", 6), ("last layer", 5)],
        rules=rules[1:],
        text_columns=3,
    )
