"""Figures that the reports of several kinds have. Pure: from results to a figure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pandas as pd

from langmerge.reporting.figures import COLUMN, DASHES, HEAT, MARKERS, TEXT, Figure, arranged, colour, panels, used
from langmerge.reporting.studies.results import LanguageResults
from langmerge.reporting.table import number


def barrier_figure(results: LanguageResults, labels: dict[str, str]) -> Figure | None:
    """Loss in a language from its model to the others: a panel for each group of ``labels``; None without."""
    curve = results.diagnoses.get("curve", pd.DataFrame())
    shown = [group for group in labels if len(curve) and (curve.group == group).any()]
    if not shown:
        return None
    drawing, axes = panels(1, len(shown), min(TEXT, max(COLUMN, 2.1 * len(shown))), 2.1, sharey=True)
    for ax, group in zip(axes.flat, shown, strict=True):
        way = outward(results, curve[curve.group == group])
        for place, language in enumerate(code for code in results.languages if code in set(way.language)):
            found = way[way.language == language].groupby("step").bits_per_byte.agg(["mean", "min", "max"])
            look = {"color": colour(place), "linestyle": DASHES[place % len(DASHES)]}
            ax.plot(found.index, found["mean"], label=language, **look)
            ax.fill_between(found.index, found["min"], found["max"], color=colour(place), alpha=0.15, linewidth=0)
        ax.set_title(labels[group])
        ax.set_xticks([0, 0.5, 1], ["own", "half", "other"])
    axes[0, 0].set_ylabel("bits per byte")
    handles, names = axes[0, 0].get_legend_handles_labels()
    drawing.legend(handles, names, loc="outside lower center", ncols=min(6, len(names)))
    return Figure(
        "barriers",
        "Loss along the line between two models",
        "Bits per byte in a language on the straight line in weight space from its own model (0) to another language's "
        "(1); halfway is their average. Mean and range over the other languages. "
        + sentences_of(results)
        + (" Means over seeds." if len(results.seeds) > 1 else ""),
        drawing,
    )


def sentences_of(results: LanguageResults) -> str:
    """What a caption says of the sentences of the diagnosis; nothing where there is none."""
    diagnosis = results.study["diagnosis"]
    return f"n = {diagnosis['sentences']} parallel sentences of {diagnosis['split']}." if diagnosis else ""


def outward(results: LanguageResults, curve: pd.DataFrame) -> pd.DataFrame:
    """Losses in each language from its own model on: columns language, step (0: its own), bits_per_byte."""
    parts = []
    for side, turned in (("a", False), ("b", True)):
        own = {model: language_of(results, str(model)) for model in set(curve[side])}
        found = curve[curve[side].map(own) == curve.language]
        step = 1 - found.alpha if turned else found.alpha
        parts.append(pd.DataFrame({"language": found.language, "step": step, "bits_per_byte": found.bits_per_byte}))
    return pd.concat(parts, ignore_index=True).round({"step": 9})


def layer_figure(
    results: LanguageResults,
    measures: Sequence[str],
    labels: dict[str, str],
    groups: Collection[str],
    title: str,
    caption: str,
) -> Figure | None:
    """Measures of pairs by layer, averaged; mean and range over pairs; a line for each of ``groups``.

    ``labels`` names all groups of the study: each has its colour and marker in every figure.
    """
    layers = results.diagnoses.get("layers", pd.DataFrame())
    found = layers[layers.measure.isin(measures)] if len(layers) else layers
    shown = [group for group in groups if len(found) and (found.group == group).any()]
    if not shown:
        return None
    drawing, axes = panels(1, 1, COLUMN, 2.6)
    ax = axes[0, 0]
    for group in shown:
        place = list(labels).index(group)
        pairs = found[found.group == group].groupby(["a", "b", "layer"]).value.mean()
        by_layer = pairs.groupby("layer").agg(["mean", "min", "max"])
        mark = MARKERS[place % len(MARKERS)]
        ax.plot(by_layer.index, by_layer["mean"], marker=mark, label=labels[group], color=colour(place))
        ax.fill_between(by_layer.index, by_layer["min"], by_layer["max"], color=colour(place), alpha=0.15, linewidth=0)
    ax.set_xlabel("layer (0: embedding)")
    ax.set_ylabel("CKA")
    ax.set_xticks(sorted(found.layer.unique()))
    drawing.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return Figure("layers", title, caption, drawing)


def language_of(results: LanguageResults, model: str) -> str:
    """The language of a model as the plan says it; its name where it says nothing."""
    rows = results.systems[results.systems.name == model]
    found = rows.language.dropna() if "language" in rows else rows.iloc[:0]
    return str(found.iloc[0]) if len(found) else model


def matrix_figure(
    name: str, title: str, caption: str, matrices: dict[str, pd.DataFrame], axis: str, decimals: int = 2
) -> Figure:
    """Heat maps, up to three beside each other, with their numbers in the cells; NaN cells stay empty."""
    rows, columns = arranged(len(matrices))
    drawing, axes = panels(rows, columns, min(TEXT, 0.6 + 2.3 * columns), 2.2 * rows)
    low = min(float(m.min().min()) for m in matrices.values())
    high = max(float(m.max().max()) for m in matrices.values())
    shown = list(used(axes, len(matrices)))
    for ax, (label, matrix) in zip(shown, matrices.items(), strict=True):
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
    drawing.colorbar(mesh, ax=shown, label=axis, fraction=0.05)
    return Figure(name, title, caption, drawing)
