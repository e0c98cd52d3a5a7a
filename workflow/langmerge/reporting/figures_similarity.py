"""Figures of the similarity of representations by layer, four measures beside each other. Pure.

Figures: :func:`similarity_figure` (across models), :func:`language_figure` (across languages within a model).
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from langmerge.reporting.errors import over_blocks
from langmerge.reporting.figures import DASHES, MARKERS, TEXT, Figure, colour, panels, style
from langmerge.reporting.figures_units import TALL
from langmerge.reporting.load import Results
from langmerge.reporting.samples import arrow
from langmerge.reporting.tables_models import KINDS, model_label, pair_kinds
from langmerge.reporting.tables_units import BASE, JOINT, colour_index, in_own_span, sentences_note, specialists

MEASURES = {
    "cka": "debiased CKA",
    "anc": "ANC",
    "mutual_neighbours": "mutual neighbours",
    "procrustes": "Procrustes distance",
}
BASE_MERGE = "base–merge"
ALL_KINDS = (*KINDS, BASE_MERGE)
NUMBERS = ["value", "low", "high", "null"]
LENGTH, RAW = "length", "raw"  # variants, the first without what follows from the sentences' lengths
BANDS = "bands: 95 % delete-one-block jackknife of one pair (mean; of neighbours delete-half)"
EXPLAINED = {
    "cka": "Debiased linear CKA",
    "anc": "ANC: mean absolute correlation of equal coordinates",
    "mutual_neighbours": "mutual neighbours: share of common ones among the nearest",
    "procrustes": "Procrustes: squared distance after the best rotation (0: rotated copies, at most 2)",
}


# ---- across models -------------------------------------------------------------------------------------------------


def across_models(results: Results) -> pd.DataFrame:
    """All measures of pairs of models in long form, raw span means in the languages' own span, with ``pair``.

    ``pair`` is of :data:`ALL_KINDS`; other pairs are left out. CKA's null is the 97.5th percentile of shuffled
    sentences, that of the others their value for unrelated data.
    """
    cka, others = (in_own_span(results.table(f"measurements/{name}")) for name in ("cka", "similarity"))
    if len(cka):
        half = over_blocks(results, cka.standard_error)
        cka = cka.assign(measure="cka", value=cka.cka, null=cka.null_high, low=cka.cka - half, high=cka.cka + half)
    if len(others):
        others = others[others.measure.isin(MEASURES) & (others.pool == "mean")]
    parts = [table for table in (cka, others) if len(table)]
    if not parts:
        return pd.DataFrame()
    table = pd.concat(parts, ignore_index=True)
    table = table[table.variant == RAW]
    table = table.assign(pair=pair_kinds(results, table))
    trained = {name for group in results.groups for name in specialists(results, group)}
    merge = ~table[["model_a", "model_b"]].isin([*trained, BASE, JOINT])
    base = (table.model_a == BASE) | (table.model_b == BASE)
    table["pair"] = table.pair.mask(base & merge.any(axis=1), BASE_MERGE)
    return table[table.pair.isin(ALL_KINDS)]


def similarity_figure(results: Results) -> Figure | None:
    """Similarity of models on the same sentences by layer, a column for each measure; None without measurements."""
    table = across_models(results)
    if table.empty:
        return None
    drawing = _panels(results, table, _kinds)
    return Figure(
        "similarity",
        "Similarity of models by layer",
        f"Span means of two models on the same sentences, in the span in the language. {_explained(table)} Lines: "
        f"means over pairs of models and directions; {BANDS}, {sentences_note(results)}. "
        "Dotted: null, for CKA the 97.5th percentile under "
        "shuffled sentences, for Procrustes their mean, for ANC and neighbours the expectation of unrelated data. "
        f"Procrustes: not between specialists and merges.{_over_seeds(results)}",
        drawing,
    )


def _kinds(ax: Axes, results: Results, group: str, table: pd.DataFrame) -> None:
    for k, kind in enumerate(ALL_KINDS):
        line = table[table.pair == kind].groupby("layer")[NUMBERS].mean().reset_index()
        if len(line):
            _line(ax, line, color=colour(k), marker=MARKERS[k], label=kind)


# ---- across languages ----------------------------------------------------------------------------------------------


def across_languages(results: Results) -> pd.DataFrame:
    """All measures of pairs of languages within a model in long form, span means; one variant of them.

    :data:`LENGTH` where all direction groups have it, else :data:`RAW`.
    """
    table = results.table("measurements/languages")
    if table.empty:
        return table
    table = table[(table.pool == "mean") & table.measure.isin(MEASURES)]
    known = table[table.variant == LENGTH]
    return known if set(known.group) == set(table.group) else table[table.variant == RAW]


def language_figure(results: Results) -> Figure | None:
    """Similarity of languages within each model by layer, a column for each measure; None without measurements."""
    table = across_languages(results)
    if table.empty:
        return None
    drawing = _panels(results, table, _within)
    pairs = len(set(zip(table.language_a, table.language_b, strict=True)))
    kept = (
        "the logarithm of the spans' lengths regressed out"
        if (table.variant == LENGTH).all()
        else "lengths of sentences not regressed out, so that a part is common length"
    )
    return Figure(
        "languages",
        "Similarity of languages within a model by layer",
        f"Span means of parallel sentences in two languages, in one model; {kept}. {_explained(table)} Lines: means "
        f"over {pairs} pairs of languages; {BANDS}, "
        f"{sentences_note(results)}. Dotted: null, "
        "for CKA and Procrustes the mean under shuffled sentences, for ANC and neighbours the expectation of unrelated "
        f"data.{_over_seeds(results)}",
        drawing,
    )


def _within(ax: Axes, results: Results, group: str, table: pd.DataFrame) -> None:
    own, merges = specialists(results, group), 0
    for model in dict.fromkeys(table.model):
        looks: dict[str, Any]
        if model in own:
            k = colour_index(results, own[model])
            looks = {"color": colour(k), "marker": MARKERS[k % len(MARKERS)], "label": f"specialist {own[model]}"}
        elif model in (BASE, JOINT):
            dash = DASHES[0] if model == BASE else DASHES[1]
            looks = {"color": "black", "linewidth": 1.6, "linestyle": dash, "label": model_label(model)}
        else:
            looks = {"marker": MARKERS[::-1][merges % len(MARKERS)], "markerfacecolor": "white"}
            looks |= {"color": ("0.1", "0.55", "0.4")[merges % 3], "linestyle": DASHES[merges % len(DASHES)]}
            looks |= {"label": model_label(model)}
            merges += 1
        line = table[table.model == model].groupby("layer")[NUMBERS].mean().reset_index()
        _line(ax, line, **looks)


# ---- both ----------------------------------------------------------------------------------------------------------


def _panels(results: Results, table: pd.DataFrame, draw: Any) -> Any:
    """A row for each direction group, a column for each measure; ``draw`` puts the lines in."""
    groups = list(dict.fromkeys(table.group))
    measures = [measure for measure in MEASURES if measure in set(table.measure)]
    with style():
        width, height = TEXT * max(2, len(measures)) / len(MEASURES), min(TALL, 0.75 + 1.5 * len(groups))
        drawing, axes = panels(len(groups), len(measures), width, height, sharex=True, sharey="col")
        for (g, group), (m, measure) in itertools.product(enumerate(groups), enumerate(measures)):
            ax, here = axes[g, m], table[(table.group == group) & (table.measure == measure)]
            ax.set_title(MEASURES[measure])
            if here.empty:
                ax.set_visible(False)
                continue
            draw(ax, results, group, here)
            chance = here.groupby("layer").null.max() if measure == "cka" else here.groupby("layer").null.mean()
            if chance.notna().any():
                ax.plot(chance.index, chance, color="0.25", linestyle=":", label="null")
            ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        for ax, group in zip(axes[:, 0], groups, strict=True):
            ax.set_ylabel(arrow(group, results.pivot))
        for ax in axes[-1]:
            ax.set_xlabel("layer (0: embedding)")
        for ax, measure in zip(axes[0], measures, strict=True):
            low, high = ax.get_ylim()
            ax.set_ylim(*((0, high) if measure != "cka" else (min(low, 0), max(1.02, high))))  # shared by the column
        legend: dict[str, Any] = {}
        for ax in axes.flat:
            for handle, text in zip(*ax.get_legend_handles_labels(), strict=True):
                legend.setdefault(text, handle)
        drawing.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=min(5, len(legend)))
        return drawing


def _line(ax: Axes, line: pd.DataFrame, **looks: Any) -> None:
    ax.plot(line.layer, line.value, **looks)
    if np.isfinite(line.low).any():
        ax.fill_between(line.layer, line.low, line.high, color=looks["color"], alpha=0.1, linewidth=0)


def _explained(table: pd.DataFrame) -> str:
    return "; ".join(text for measure, text in EXPLAINED.items() if measure in set(table.measure)) + "."


def _over_seeds(results: Results) -> str:
    return " Means over seeds." if len(results.seeds) > 1 else ""
