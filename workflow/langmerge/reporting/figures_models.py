"""Figures of the models: selective neurons and similarity of representations by layer. Pure."""

from __future__ import annotations

import itertools

import pandas as pd
from matplotlib.figure import Figure as Drawing

from langmerge.reporting.figures import COLUMN, HEAT, MARKERS, TEXT, Figure, colour, panels, settle, style
from langmerge.reporting.load import Results
from langmerge.reporting.samples import arrow
from langmerge.reporting.tables_models import KINDS, cka_of, model_label, neuron_counts, pair_kinds

ACROSS = 10  # heat maps beside each other
LINES = (
    "Thick: mean over pairs, band: 1.96 jackknife standard errors of one pair (mean over pairs); thin: single pairs."
)


def neuron_figure(results: Results, group: str) -> Figure | None:
    """Heat maps of selective neurons, language by layer: a panel for each model and span; None without measurements."""
    counts = neuron_counts(results)
    counts = counts[counts.group == group] if not counts.empty else counts
    if counts.empty:
        return None
    spans, models = list(dict.fromkeys(counts.span)), list(dict.fromkeys(counts.model))
    languages, layers = list(dict.fromkeys(counts.language)), sorted(set(counts.layer))
    mean = counts.groupby(["span", "model", "layer", "language"]).units.mean()
    top = max(1.0, float(mean.max()))
    columns = min(ACROSS, len(models))
    lines = -(-len(models) // columns)
    height = min(1.9, 0.7 + 0.12 * len(layers))
    with style():
        width = min(TEXT, 0.62 * columns + 0.9)
        drawing, axes = panels(lines * len(spans), columns, width, 0.55 + height * lines * len(spans))
        for ax in axes.flat:
            ax.set_visible(False)
        for s, span in enumerate(spans):
            for k, model in enumerate(models):
                ax = axes[s * lines + k // columns, k % columns]
                ax.set_visible(True)
                table = mean.loc[span, model].unstack("language").reindex(index=layers, columns=languages)
                image = ax.pcolormesh(range(len(languages)), layers, table, vmin=0, vmax=top, **HEAT)
                ax.set_xticks(range(len(languages)), languages)
                ax.set_yticks(layers[:: max(1, len(layers) // 6)])
                ax.grid(visible=False)
                ax.spines[:].set_visible(False)
                ax.set_title(model_label(model).replace(" ", "\n"), fontsize=6.5)
                ax.tick_params(axis="x", labelsize=6, length=0)
                if k % columns == 0:
                    ax.set_ylabel(f"{span} span\nlayer")
                else:
                    ax.tick_params(labelleft=False)
                if k + columns >= len(models):
                    ax.set_xlabel("language", fontsize=6.5)
        drawing.colorbar(image, ax=list(axes.flat), label="selective neurons", aspect=30, shrink=0.8)
        settle(drawing)
    return Figure(
        f"neurons_{group.replace('-', '_')}",
        f"Selective neurons by layer, {arrow(group, results.pivot)}",
        "Neurons assigned to each language in each MLP layer (0 is the first)"
        + ("; means over seeds." if len(results.seeds) > 1 else "."),
        drawing,
    )


def cka_figure(results: Results) -> Figure | None:
    """CKA by layer: a panel for each direction group and span, lines for kinds of pairs; None without measurements."""
    table = cka_of(results)
    if table.empty:
        return None
    with style():
        drawing = layer_panels(results, table, "cka", "debiased CKA", ("null_high", "shuffled sentences, 97.5 %"))
        drawing.axes[0].set_ylim(top=1.02)  # shared
        settle(drawing)
    return Figure(
        "cka",
        "Similarity of representations by layer",
        f"Debiased linear CKA of span means between two models on the same sentences. {LINES}",
        drawing,
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
    """Neuron usage alignment by layer, in the form of :func:`cka_figure`; None without measurements."""
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
                    mean = chosen.groupby("layer").nua.mean()
                    dash = ("-", "--")[s % 2]
                    if len(mean):
                        ax.plot(
                            mean.index,
                            mean,
                            color=colour(k),
                            linestyle=dash,
                            marker=MARKERS[k],
                            label=f"{kind}, {span}",
                        )
            ax.set_title(arrow(group, results.pivot))
            ax.set_xlabel("MLP layer")
            ax.xaxis.get_major_locator().set_params(integer=True)
        axes[0, 0].set_ylabel("cosine of firing rates")
        drawing.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        settle(drawing)
    return Figure(
        "usage",
        "Alignment of neuron usage by layer",
        "Cosine of two models' vectors of firing probabilities (mean over languages), mean over pairs of models.",
        drawing,
    )
