"""Figures of pairs of models by layer: panels of one measure, usage of neurons. Pure."""

from __future__ import annotations

import itertools

import pandas as pd
from matplotlib.figure import Figure as Drawing

from langmerge.reporting.figures import COLUMN, DASHES, MARKERS, TEXT, Figure, colour, panels, settle, style
from langmerge.reporting.load import Results
from langmerge.reporting.samples import arrow
from langmerge.reporting.tables_models import KINDS, pair_kinds
from langmerge.reporting.tables_units import sentences_note

LINES = (
    "Thick: mean over pairs, band: 1.96 jackknife standard errors of one pair (mean over pairs); thin: single pairs."
)


def layer_panels(results: Results, table: pd.DataFrame, value: str, axis: str, null: tuple[str, str]) -> Drawing:
    """A column of a table of pairs by layer: a panel for each direction group and span, lines for kinds of pairs.

    ``null`` is the column with the value of unrelated representations and its name in the legend. Not yet settled.
    """
    groups, spans = list(dict.fromkeys(table.group)), list(dict.fromkeys(table.span))
    width, height = TEXT if len(spans) > 1 else COLUMN, 0.5 + 1.75 * len(groups)
    drawing, axes = panels(len(groups), len(spans), width, height, sharex=True, sharey=True)
    for (g, group), (s, span) in itertools.product(enumerate(groups), enumerate(spans)):
        ax = axes[g, s]
        here = table[(table.group == group) & (table.span == span)]
        for k, kind in enumerate(KINDS):
            chosen = here[here.pair == kind]
            if chosen.empty:
                continue
            pairs = by_pair(chosen, value)
            for _, line in pairs.groupby(["model_a", "model_b"]):
                ax.plot(line.layer, line[value], color=colour(k), linewidth=0.5, alpha=0.35)
            mean = pairs.groupby("layer").agg({value: "mean", "standard_error": "mean"}).reset_index()
            ax.plot(mean.layer, mean[value], color=colour(k), marker=MARKERS[k], linewidth=1.6, label=kind)
            half = 1.96 * mean.standard_error
            ends = mean[value] - half, mean[value] + half
            ax.fill_between(mean.layer, *ends, color=colour(k), alpha=0.15, linewidth=0)
        chance = here.groupby("layer")[null[0]].max()
        if chance.notna().any():
            ax.plot(chance.index, chance, color="0.4", linestyle=":", label=null[1])
        ax.set_title(f"{arrow(group, results.pivot)}, {span} span")
    for ax in axes[-1]:
        ax.set_xlabel("layer (0: embedding)")
        ax.xaxis.get_major_locator().set_params(integer=True)
    for ax in axes[:, 0]:
        ax.set_ylabel(axis)
    drawing.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return drawing


def by_pair(table: pd.DataFrame, value: str) -> pd.DataFrame:
    """A value and its error of every pair and layer, averaged over the directions that were read and over seeds."""
    keys = ["model_a", "model_b", "layer"]
    return table.groupby(keys, sort=False)[[value, "standard_error"]].mean().reset_index()


def usage_figure(results: Results) -> Figure | None:
    """Neuron usage alignment by layer, a panel for each direction group, lines for kinds of pairs; None without it."""
    usage = results.table("measurements/usage")
    if usage.empty:
        return None
    table = usage.assign(pair=pair_kinds(results, usage))
    groups, spans = list(dict.fromkeys(table.group)), list(dict.fromkeys(table.span))
    with style():
        drawing, axes = panels(1, len(groups), TEXT if len(groups) > 1 else COLUMN, 2.1, sharey=True)
        for ax, group in zip(axes.flat, groups, strict=True):
            for k, kind in enumerate(KINDS):
                for s, span in enumerate(spans):
                    chosen = table[(table.group == group) & (table.pair == kind) & (table.span == span)]
                    if chosen.empty:
                        continue
                    mean = chosen.groupby("layer")[["nua", "low", "high"]].mean()
                    looks = {"color": colour(k), "linestyle": DASHES[s % 2], "marker": MARKERS[k]}
                    ax.plot(mean.index, mean.nua, label=f"{kind}, {span}", **looks)
                    ax.fill_between(mean.index, mean.low, mean.high, color=colour(k), alpha=0.13, linewidth=0)
            ax.set_title(arrow(group, results.pivot))
            ax.set_xlabel("MLP layer")
            ax.xaxis.get_major_locator().set_params(integer=True)
        axes[0, 0].set_ylabel("cosine of firing rates")
        drawing.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        settle(drawing)
    return Figure(
        "usage",
        "Alignment of neuron usage by layer",
        "Cosine of two models' vectors of firing probabilities (mean over languages), mean over pairs of models. "
        f"Bands: 95 % delete-one-block jackknife of one pair (mean), {sentences_note(results)}.",
        drawing,
    )
