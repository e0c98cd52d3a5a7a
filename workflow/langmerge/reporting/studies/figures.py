"""Figures that the reports of several kinds have. Pure: from results to a figure."""

from __future__ import annotations

import pandas as pd

from langmerge.reporting.figures import COLUMN, DASHES, HEAT, MARKERS, TEXT, Figure, colour, panels, settle
from langmerge.reporting.studies.results import LanguageResults
from langmerge.reporting.table import number


def barrier_figure(results: LanguageResults, labels: dict[str, str]) -> Figure | None:
    """Loss on the straight line between the models of a pair: a panel for each group of ``labels``; None without."""
    curve = results.diagnoses.get("curve", pd.DataFrame())
    if curve.empty:
        return None
    shown = [group for group in labels if (curve.group == group).any()]
    drawing, axes = panels(1, len(shown), min(TEXT, max(COLUMN, 2.1 * len(shown))), 2.0, sharey=True)
    for ax, group in zip(axes.flat, shown, strict=True):
        here = curve[curve.group == group]
        for place, ((a, b), pair) in enumerate(here.groupby(["a", "b"], sort=False)):
            way = pair.groupby("alpha").bits_per_byte.mean()
            name = "–".join(language_of(results, str(model)) for model in (a, b))
            ax.plot(way.index, way, label=name, color=colour(place), linestyle=DASHES[place % len(DASHES)])
        ax.set_title(labels[group])
        ax.set_xlabel("way from one to the other")
    axes[0, 0].set_ylabel("bits per byte, mean of both")
    handles, names = axes[0, 0].get_legend_handles_labels()
    drawing.legend(handles, names, loc="outside lower center", ncols=min(6, len(names)))
    return Figure(
        "barriers",
        "Loss along the line between two models",
        "Mean loss in the languages of both models on the straight line in weight space between them; halfway is their "
        "average. A barrier rises above the ends." + (" Means over seeds." if len(results.seeds) > 1 else ""),
        settle(drawing),
    )


def layer_figure(
    results: LanguageResults, measure: str, labels: dict[str, str], title: str, caption: str
) -> Figure | None:
    """A measure of pairs by layer, mean and range over pairs; one line for each group of ``labels``; None without."""
    layers = results.diagnoses.get("layers", pd.DataFrame())
    if layers.empty or not (layers.measure == measure).any():
        return None
    found = layers[layers.measure == measure]
    drawing, axes = panels(1, 1, COLUMN, 2.2)
    ax = axes[0, 0]
    for place, group in enumerate(group for group in labels if (found.group == group).any()):
        by_layer = found[found.group == group].groupby("layer").value.agg(["mean", "min", "max"])
        ax.plot(
            by_layer.index,
            by_layer["mean"],
            marker=MARKERS[place % len(MARKERS)],
            label=labels[group],
            color=colour(place),
        )
        ax.fill_between(by_layer.index, by_layer["min"], by_layer["max"], color=colour(place), alpha=0.15, linewidth=0)
    ax.set_xlabel("layer (0: embedding)")
    ax.set_ylabel("CKA")
    ax.set_xticks(sorted(found.layer.unique()))
    ax.legend()
    return Figure(measure.replace(".", "_"), title, caption, settle(drawing))


def language_of(results: LanguageResults, model: str) -> str:
    """The language of a model as the plan says it; its name where it says nothing."""
    rows = results.systems[results.systems.name == model]
    found = rows.language.dropna() if "language" in rows else rows.iloc[:0]
    return str(found.iloc[0]) if len(found) else model


def matrix_figure(
    name: str, title: str, caption: str, matrices: dict[str, pd.DataFrame], axis: str, decimals: int = 2
) -> Figure:
    """Heat maps beside each other with their numbers in the cells; NaN cells stay empty."""
    drawing, axes = panels(1, len(matrices), min(TEXT, 0.6 + 2.3 * len(matrices)), 2.2)
    low = min(float(m.min().min()) for m in matrices.values())
    high = max(float(m.max().max()) for m in matrices.values())
    for ax, (label, matrix) in zip(axes.flat, matrices.items(), strict=True):
        mesh = ax.pcolormesh(matrix.to_numpy(), vmin=low, vmax=high, **HEAT)
        for y, row in enumerate(matrix.to_numpy()):
            for x, value in enumerate(row):
                dark = value < low + 0.6 * (high - low)
                ax.text(
                    x + 0.5,
                    y + 0.5,
                    number(value, decimals) if value == value else "",
                    ha="center",
                    va="center",
                    color="white" if dark else "black",
                    fontsize=6.5,
                )
        ax.set_xticks([x + 0.5 for x in range(len(matrix.columns))], list(matrix.columns))
        ax.set_yticks([y + 0.5 for y in range(len(matrix.index))], list(matrix.index))
        ax.invert_yaxis()
        ax.grid(visible=False)
        ax.set_title(label)
    drawing.colorbar(mesh, ax=list(axes.flat), label=axis, fraction=0.05)
    return Figure(name, title, caption, settle(drawing))
