"""Figures of the subspaces in which models represent sentences: principal angles by layer, maps of the models. Pure."""

from __future__ import annotations

import itertools
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from langmerge.reporting.errors import over_halves
from langmerge.reporting.figures import COLUMN, MARKERS, TEXT, Figure, colour, panels, style
from langmerge.reporting.load import Results
from langmerge.reporting.samples import arrow
from langmerge.reporting.tables_models import KINDS, angles_of, model_label

SPAN = "target"  # the span whose maps are drawn
ALL = "all"  # in the column direction: distances of all directions taken together


def angle_figure(results: Results) -> Figure | None:
    """Median principal angle by layer, a panel for each direction group and span; None without measurements."""
    table = angles_of(results)
    if table.empty:
        return None
    k = ", ".join(map(str, sorted(set(table.k))))
    n = ", ".join(map(str, sorted(set(table.n))))
    with style():
        groups, spans = list(dict.fromkeys(table.group)), list(dict.fromkeys(table.span))
        width, height = TEXT if len(spans) > 1 else COLUMN, 0.65 + 1.75 * len(groups)
        drawing, axes = panels(len(groups), len(spans), width, height, sharex=True, sharey=True)
        for (g, group), (s, span) in itertools.product(enumerate(groups), enumerate(spans)):
            _angles(axes[g, s], table[(table.group == group) & (table.span == span)])
            axes[g, s].set_title(f"{arrow(group, results.pivot)}, {span} span")
        for ax in axes[-1]:
            ax.set_xlabel("layer (0: embedding)")
            ax.xaxis.get_major_locator().set_params(integer=True)
        for ax in axes[:, 0]:
            ax.set_ylabel("median principal angle (°)")
        axes[0, 0].set_ylim(bottom=0)  # shared
        drawing.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return Figure(
        "angles",
        "Principal angles by layer",
        f"Median principal angle between the subspaces of the {k} leading principal directions of two models' span "
        f"means on the same n = {n} sentences. Thick: mean over pairs, band: 95 % delete-half jackknife of one pair "
        "(mean over pairs); thin: single pairs. Dashed: floor, the angle between twins that exchange half of their "
        "sentences, which have one true subspace: what sampling alone gives (of base and specialists). Only what lies "
        "above the floor is a difference of the models, and only angles of equal n and k can be compared.",
        drawing,
    )


def _angles(ax: Axes, table: pd.DataFrame) -> None:
    """Lines for kinds of pairs, their floors and the angle of random subspaces."""
    for k, kind in enumerate(KINDS):
        chosen = table[table.pair == kind]
        if chosen.empty:
            continue
        columns = ["median_degrees", "floor_degrees", "standard_error"]
        # over the directions that were read and over seeds
        pairs = chosen.groupby(["model_a", "model_b", "layer"], sort=False)[columns].mean().reset_index()
        for _, line in pairs.groupby(["model_a", "model_b"]):
            ax.plot(line.layer, line.median_degrees, color=colour(k), linewidth=0.5, alpha=0.35)
        mean = pairs.groupby("layer")[columns].mean().reset_index()
        ax.plot(mean.layer, mean.median_degrees, color=colour(k), marker=MARKERS[k], linewidth=1.6, label=kind)
        half = over_halves(chosen, mean.standard_error)
        ends = mean.median_degrees - half, mean.median_degrees + half
        ax.fill_between(mean.layer, *ends, color=colour(k), alpha=0.15, linewidth=0)
        if mean.floor_degrees.notna().any():
            ax.plot(mean.layer, mean.floor_degrees, color=colour(k), linestyle="--", label=f"floor, {kind}")
    chance = table.groupby("layer").null_degrees.max()
    ax.plot(chance.index, chance, color="0.4", linestyle=":", label="random subspaces")


def _looks(results: Results, models: list[str]) -> dict[str, dict[str, Any]]:
    """Marker, colour and name in the legend by model: a colour for each language, shapes for all others."""
    looks: dict[str, dict[str, Any]] = {}
    for i, code in enumerate(results.languages):
        for group in results.groups:
            name = f"specialist {code}"
            looks[results.direction(group, code)] = {"color": colour(i), "marker": "o", "label": name}
    looks["base"] = {"color": "black", "marker": "s", "label": model_label("base")}
    looks["joint"] = {"color": "black", "marker": "*", "label": model_label("joint")}
    merges = [model for model in models if model not in looks]
    for i, model in enumerate(merges):
        marker = MARKERS[2:][i % len(MARKERS[2:])]
        looks[model] = {"color": "0.35", "markerfacecolor": "white", "marker": marker, "label": model_label(model)}
    return looks


def map_figure(results: Results) -> Figure | None:
    """Maps of the models by layer, a row for each direction group; None without measurements."""
    table = results.table("measurements/mds")
    if table.empty:
        return None
    table = table[(table.span == SPAN) & (table.direction == ALL) & (table.seed == table.seed.min())].dropna()
    if table.empty:
        return None
    groups, layers = list(dict.fromkeys(table.group)), sorted(set(table.layer))
    with style():
        looks = _looks(results, list(dict.fromkeys(table.model)))
        width = max(COLUMN, TEXT * len(layers) / 4)
        lines = -(-len({look["label"] for look in looks.values()}) // (len(layers) + 1))  # of the legend
        height = 0.5 + 0.16 * lines + (width / len(layers) + 0.05) * len(groups)
        drawing, axes = panels(len(groups), len(layers), width, height, sharex=True, sharey=True)
        side = 1.15 * float(table[["x", "y"]].abs().to_numpy().max()) or 1.0
        legend: dict[str, Any] = {}
        for (g, group), (c, layer) in itertools.product(enumerate(groups), enumerate(layers)):
            ax = axes[g, c]
            here = table[(table.group == group) & (table.layer == layer)]
            for model, x, y in zip(here.model, here.x, here.y, strict=True):
                (point,) = ax.plot(x, y, linestyle="", markersize=5, **looks[model])
                legend.setdefault(looks[model]["label"], point)
            ax.set_title(f"{arrow(group, results.pivot)}, layer {layer}")
            ax.set_aspect("equal")
            ax.set(xlim=(-side, side), ylim=(-side, side))
        for ax in axes[-1]:
            ax.set_xlabel("first axis")
            ax.xaxis.set_major_locator(MaxNLocator(4))
        for ax in axes[:, 0]:
            ax.set_ylabel("second axis")
            ax.yaxis.set_major_locator(MaxNLocator(4))
        drawing.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=len(layers) + 1)
    seed = f" Seed {results.seeds[0]}." if len(results.seeds) > 1 else ""
    return Figure(
        "maps",
        "Maps of the models",
        f"Classical multidimensional scaling of the distances between models, {SPAN} span: root mean squared sine of "
        "the principal angles, over all directions. Models near each other represent the sentences in similar "
        f"subspaces; the scale is that of the distance and equal in all panels, the axes have no meaning.{seed}",
        drawing,
    )
