"""Figure of layer patch sweeps: which layers of the specialist restore how much of what merging cost. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from langmerge.reporting.figures import COLUMN, MARKERS, TEXT, Figure, colour, panels, style
from langmerge.reporting.load import Results
from langmerge.reporting.samples import METRICS, arrow, label

MEAN = "mean"  # in the place of a language: all together
SHARES = ["value", "low", "high", "null", "excess", "excess_low", "excess_high"]
BY_LAYER = {
    "single": ("one layer", "layer"),
    "window": ("neighbouring layers", "first layer"),
    "prefix": ("the first layers", "number of layers"),
    "suffix": ("the last layers", "number of layers"),
}
PARTS = ("embeddings", "head", "outside", "attention", "mlp", "norms")
PARTS_TITLE = "a part of all layers"


def of_metric(results: Results, metric: str = "bleu") -> pd.DataFrame:
    """The rows of all sweeps in one metric, or in the first that there is where it is not among them."""
    table = results.table("patches/patches")
    if table.empty:
        return table
    return table[table.metric == (metric if (table.metric == metric).any() else table.metric.iloc[0])]


def shares(results: Results, onto: str, group: str) -> pd.DataFrame:
    """Restored shares of one merge and direction group, means over seeds; ``at`` is the place on a panel's axis.

    The first layer of a set for sets of one layer or window, else the number of layers.
    """
    table = of_metric(results)
    table = table[(table.onto == onto) & (table.group == group)].copy()
    first = table.layers.fillna("").astype(str).str.split().str[0].fillna("-1").astype(float)
    table["at"] = np.where(table.kind.isin(["single", "window"]), first, table["size"])
    table["set"] = table.layers.fillna("").astype(str)
    keys = ["language", "kind", "part", "set", "size", "at", "draw"]
    return table.groupby(keys, sort=False, dropna=False)[SHARES].mean().reset_index()


def patch_figure(results: Results, onto: str) -> Figure | None:
    """Restored share by layer set: a row for each direction group, a column for each kind; None without sweeps."""
    table = of_metric(results)
    table = table[table.onto == onto] if len(table) else table
    if table.empty:
        return None
    groups = list(dict.fromkeys(table.group))
    whole = table[table.part.isna()]
    kinds = [kind for kind in BY_LAYER if (whole.kind == kind).any()]
    parts = [part for part in PARTS if (table.kind == part).any()]
    columns = [*kinds, *([PARTS_TITLE] if parts else [])]
    with style():
        height = 0.75 + 1.6 * len(groups)
        drawing, axes = panels(len(groups), len(columns), max(COLUMN, TEXT * len(columns) / 4), height, sharey=True)
        for g, group in enumerate(groups):
            here = shares(results, onto, group)
            for ax, kind in zip(axes[g], columns, strict=True):
                if kind == PARTS_TITLE:
                    _parts(ax, results, here, parts)
                    ax.set_title(PARTS_TITLE)
                    continue
                found = here[(here.kind == kind) & here.part.isna()].sort_values("at")
                _lines(ax, results, found)
                if kind == "suffix":
                    _paper(ax, here)
                ax.set_title(BY_LAYER[kind][0])
                ax.xaxis.get_major_locator().set_params(integer=True)
                ax.margins(x=0.1)
            for ax in axes[g]:
                for level in (0, 1):
                    ax.axhline(level, color="0.3", linewidth=0.7)
            axes[g, 0].set_ylabel(f"{arrow(group, results.pivot)}\nrestored share")
        for ax, kind in zip(axes[-1], columns, strict=True):
            ax.set_xlabel(BY_LAYER[kind][1] if kind in BY_LAYER else "part")
        legend: dict[str, Any] = {}
        for ax in axes.flat:
            for handle, text in zip(*ax.get_legend_handles_labels(), strict=True):
                legend.setdefault(text, handle)
        drawing.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=min(9, len(legend)))
    sentences = int(table[table.language != MEAN].n.max())
    return Figure(
        f"patches_{onto}",
        f"Where the {label('merge', onto)} merge breaks",
        f"Share of what merging cost in {METRICS[str(table.metric.iloc[0])]} that comes "
        "back when only these tensors of the specialist replace those of the merge: 0 is the merge, 1 the specialist. "
        "Band and bars: 95 % paired bootstrap interval of the languages' mean score (black). Dotted: random sets of as "
        "many layers, mean. Star: the paper's last layers, cross: as many drawn below them (each with its interval). "
        f"{sentences} test sentences per language; a language that merging costs less than two standard errors has no "
        "line." + (" Means over seeds." if len(results.seeds) > 1 else ""),
        drawing,
    )


def _lines(ax: Axes, results: Results, found: pd.DataFrame) -> None:
    for i, code in enumerate(results.languages):
        line = found[found.language == code].dropna(subset="value")
        if len(line):
            ax.plot(
                line["at"], line.value, color=colour(i), marker=MARKERS[i % len(MARKERS)], linewidth=0.8, label=code
            )
    mean = found[found.language == MEAN]
    ax.plot(mean["at"], mean.value, color="black", linewidth=1.8, label=MEAN)
    ax.fill_between(mean["at"], mean.low, mean.high, color="black", alpha=0.12, linewidth=0)
    chance = mean.dropna(subset="null")
    if len(chance):
        ax.plot(chance["at"], chance.null, color="0.25", linestyle=":", label="random layers")


def _paper(ax: Axes, here: pd.DataFrame) -> None:
    """The paper's test as two marked points: the last layers, and as many drawn at random below them."""
    mean = here[here.language == MEAN]
    looks: dict[str, Any] = {"color": "black", "elinewidth": 0.9, "linestyle": "", "markerfacecolor": "white"}
    for kind, marker, size, shift in (("last", "*", 9, -0.06), ("below", "X", 6, 0.06)):
        points = mean[(mean.kind == kind)][["size", "value", "low", "high"]].mean().dropna()
        if len(points) < 4:
            continue
        bars = [[max(0, points.value - points.low)], [max(0, points.high - points.value)]]
        text = "last (paper)" if kind == "last" else "random below (paper)"
        ax.errorbar(points["size"] + shift, points.value, bars, marker=marker, markersize=size, label=text, **looks)


def _parts(ax: Axes, results: Results, here: pd.DataFrame, parts: list[str]) -> None:
    """A point for each language and part of the model, and the mean of the languages with its interval."""
    places = {part: i for i, part in enumerate(parts)}
    found = here[here.kind.isin(parts)].dropna(subset="value")
    spread = np.linspace(-0.25, 0.25, len(results.languages) + 1)
    for i, code in enumerate([*results.languages, MEAN]):
        own = found[found.language == code]
        at = [places[kind] + spread[i] for kind in own.kind]
        if code != MEAN:
            ax.plot(at, own.value, color=colour(i), marker=MARKERS[i % len(MARKERS)], linestyle="")
        elif at:
            bars = np.clip([own.value - own.low, own.high - own.value], 0, None)
            ax.errorbar(at, own.value, bars, color="black", marker="_", markersize=7, linestyle="")
    ax.set_xticks(list(places.values()), [part.replace("embeddings", "embed.") for part in places], fontsize=6.5)
    ax.set_xlim(-0.6, len(parts) - 0.4)
    ax.grid(axis="x", visible=False)
