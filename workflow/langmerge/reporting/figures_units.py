"""Figures of language units: by layer, by site, and what becomes of the base's units in each model. Pure.

Figures: :func:`units_figure`, :func:`site_figure`, :func:`flow_figure` (of a direction group).
"""

from __future__ import annotations

import itertools
import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from langmerge.reporting.figures import HEAT, MARKERS, TEXT, Figure, colour, panels, style
from langmerge.reporting.load import Results
from langmerge.reporting.samples import arrow
from langmerge.reporting.table import interval, si
from langmerge.reporting.tables_models import model_label
from langmerge.reporting.tables_units import (
    BASE,
    GATE,
    SITES,
    colour_index,
    headline,
    in_own_span,
    languages_of,
    means,
    ranking_label,
    seeds_note,
    sentences_note,
    sites_of,
    specialists,
)

TALL = 8.3  # inches: a page of two columns
ACROSS = 6  # panels of layers beside each other
NARROW = 15  # letters of a line of their titles
MATRICES, WIDE = 4, 7  # matrices beside each other; one less of more rows
COUNTS = ["units", "low", "high"]
NONE = "none"  # the state of a unit that belongs to no language
SPECIALISTS = "Specialists, own language"


def units_figure(results: Results) -> Figure | None:
    """Units of each language by layer, a row for each direction group, a panel for each model; None without them."""
    table = headline(in_own_span(results.table("measurements/units")))
    table = table[table.site == GATE] if len(table) else table
    if table.empty:
        return None
    shown = {group: _models(results, group, table[table.group == group]) for group in dict.fromkeys(table.group)}
    titles = list(dict.fromkeys(title for models in shown.values() for title in models))
    drawing = _layers(results, shown, titles, sharey=True)
    return Figure(
        "units",
        "Language units by layer",
        f"{SITES[GATE]} events: units that belong to each language (ranking: {ranking_label(table)}, thresholds of the "
        "base for all models), by layer (0 is the first), in the span in that language. Second panel: each language "
        f"in its own specialist. {_bands(results)}",
        drawing,
    )


def site_figure(results: Results) -> Figure | None:
    """The base's units by layer at all other sites, a row for each direction group; None without other sites."""
    table = headline(in_own_span(results.table("measurements/units")))
    table = table[(table.site != GATE) & (table.model == BASE)] if len(table) else table
    if table.empty:
        return None
    sites = sites_of(table)
    shown = {
        group: {SITES.get(site, site): table[(table.group == group) & (table.site == site)] for site in sites}
        for group in dict.fromkeys(table.group)
    }
    drawing = _layers(results, shown, [SITES.get(site, site) for site in sites], sharey=False)
    return Figure(
        "unit_sites",
        "Language units at other sites",
        f"As the figure before, in the base alone: events of units (coordinates for the streams) above the threshold "
        f"of each (ranking: {ranking_label(table)}). A site of one layer has languages on its axis. {_bands(results)}",
        drawing,
    )


def _bands(results: Results) -> str:
    return (
        f"Bands: 95 % delete-one-block jackknife, {sentences_note(results)}. Dotted: mean count if all units were "
        f"spread evenly over layers and languages.{seeds_note(results)}"
    )


def _models(results: Results, group: str, table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each panel by its title: of the base, of all specialists in their own language, of other models."""
    own = specialists(results, group)
    found = {model_label(BASE): table[table.model == BASE]}
    found[SPECIALISTS] = table[table.model.map(own) == table.language]
    for model in dict.fromkeys(table.model):
        if model != BASE and model not in own:
            found[model_label(model)] = table[table.model == model]
    return {title: rows for title, rows in found.items() if len(rows)}


def _layers(
    results: Results, shown: dict[str, dict[str, pd.DataFrame]], titles: list[str], sharey: bool
) -> Drawing:  # fmt: skip
    """Panels of counts by layer: direction groups below each other, ``titles`` beside each other."""
    lines = -(-len(titles) // ACROSS)
    columns = -(-len(titles) // lines)  # so that the last line is not a lone panel
    with style():
        width, height = TEXT * max(3, columns) / ACROSS, min(TALL, 0.45 + 1.4 * lines * len(shown))
        drawing, axes = panels(lines * len(shown), columns, width, height, sharey=sharey)
        for ax in axes.flat:
            ax.set_visible(False)
        legend: dict[str, Any] = {}
        for (g, (group, found)), (k, title) in itertools.product(enumerate(shown.items()), enumerate(titles)):
            if title not in found:
                continue
            ax = axes[g * lines + k // columns, k % columns]
            ax.set_visible(True)
            _counts(ax, results, found[title])
            ax.set_title(textwrap.fill(title, NARROW))
            if k % columns == 0:
                ax.set_ylabel(f"{arrow(group, results.pivot)}\nunits")
            if g == len(shown) - 1 and k + columns >= len(titles):
                ax.set_xlabel("layer" if found[title].layer.nunique() > 1 else "language")
            for handle, text in zip(*ax.get_legend_handles_labels(), strict=True):
                legend.setdefault(text, handle)
        for ax in axes.flat:
            ax.set_ylim(bottom=0)  # after all have been drawn: axes may be shared
        drawing.legend(
            legend.values(), legend.keys(), loc="outside lower center", ncols=min(int(width / 0.7), len(legend))
        )
        return drawing


def _counts(ax: Axes, results: Results, table: pd.DataFrame) -> None:
    """A line with a band for each language; of a single layer a point with a bar, the languages beside each other."""
    found = means(table, ["layer", "language"], COUNTS)
    layers, languages = sorted(set(found.layer)), languages_of(results, found.language)
    even = found.units.sum() / len(found)
    for i, code in enumerate(languages):
        k = colour_index(results, code)
        looks: dict[str, Any] = {"color": colour(k), "marker": MARKERS[k % len(MARKERS)], "label": code}
        line = found[found.language == code].sort_values("layer")
        if len(layers) > 1:
            ax.plot(line.layer, line.units, **looks)
            ax.fill_between(line.layer, line.low, line.high, color=colour(k), alpha=0.13, linewidth=0)
        else:
            ends = np.clip(np.nan_to_num([line.units - line.low, line.high - line.units]), 0, None)
            ax.errorbar([i], line.units, yerr=ends, elinewidth=0.9, linestyle="", **looks)
    ax.axhline(even, color="0.3", linestyle=":", linewidth=0.9, label="even spread")
    if len(layers) > 1:
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    else:
        ax.set_xticks(range(len(languages)), languages)
        ax.set_xlim(-0.6, len(languages) - 0.4)
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))


# ---- flows ---------------------------------------------------------------------------------------------------------


def flow_figure(results: Results, group: str) -> Figure | None:
    """From which language to which the base's units go, a matrix for each model of a direction group; None without."""
    table = headline(in_own_span(results.table("measurements/flows")))
    table = table[(table.group == group) & (table.site == GATE)] if len(table) else table
    if table.empty:
        return None
    sets, models = table[table.kind == "set"], list(dict.fromkeys(table.model))
    languages = languages_of(results, table.language_from[table.language_from != NONE])
    names, own = [*languages, NONE], specialists(results, group)
    keys = ["model", "language_from", "language_to"]
    mean = means(sets, keys, ["units"]).set_index(keys)
    across = MATRICES - (len(names) > WIDE)
    columns = min(across, len(models))
    lines = -(-len(models) // columns)
    shown = mean[(mean.index.get_level_values(1) != NONE) | (mean.index.get_level_values(2) != NONE)]
    top = max(1.0, float(shown.units.max()))
    with style():
        drawing, axes = panels(lines, columns, TEXT * max(2, columns) / across, min(TALL, 0.25 + 6 / across * lines))
        for ax, model in itertools.zip_longest(axes.flat, models):
            if model is None:
                ax.set_visible(False)
                continue
            units = mean.units.loc[model].unstack().reindex(index=names, columns=names)
            image = _matrix(ax, units.to_numpy(float), top, names)
            for text in [*ax.get_xticklabels(), *ax.get_yticklabels()]:
                text.set_fontweight("bold" if text.get_text() == own.get(model) else "normal")
            ax.set_title(model_label(model))
        for k in range(len(models)):
            ax = axes.flat[k]
            if k % columns == 0:
                ax.set_ylabel("base")
            if k + columns >= len(models):
                ax.set_xlabel("model")
        drawing.colorbar(image, ax=list(axes.flat), label="units", aspect=30, shrink=0.8)
    return Figure(
        f"flows_{group.replace('-', '_')}",
        f"What becomes of the base's language units, {arrow(group, results.pivot)}",
        f"{SITES[GATE]} events: units by the language that they belong to in the base (row) and in the model (column), "
        f"ranking: {ranking_label(table)}, thresholds of the base; none: of no language (the cell of units that never "
        f"are is left without colour). Bold: the language that a specialist was "
        f"trained on.{_kept(results, group, table)}{seeds_note(results)}",
        drawing,
    )


def _matrix(ax: Axes, units: np.ndarray, top: float, names: list[str]) -> Any:
    """Counts [from, to] as a heat map with numbers."""
    n = len(names)
    coloured = units.copy()
    coloured[-1, -1] = np.nan
    image = ax.pcolormesh(range(n), range(n), coloured, vmin=0, vmax=top, **HEAT)
    ax.invert_yaxis()
    ax.set_aspect("equal")
    for i, j in np.ndindex(n, n):
        if np.isfinite(units[i, j]):
            dark = np.isfinite(coloured[i, j]) and coloured[i, j] < 0.55 * top
            ink = "white" if dark else "black"
            ax.text(j, i, si(float(units[i, j]), 0).replace(" ", ""), ha="center", va="center", color=ink, fontsize=6)
    ax.set_xticks(range(n), names)
    ax.set_yticks(range(n), names)
    ax.tick_params(labelsize=6, length=0)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    return image


def _kept(results: Results, group: str, flows: pd.DataFrame) -> str:
    """How many of the base's units still fire most in their language, and how far two halves of the text agree."""
    own = specialists(results, group)
    leaning = flows[(flows.kind == "argmax") & flows.model.isin(own)]
    total, kept = leaning.units.sum(), leaning.units[leaning.language_from == leaning.language_to].sum()
    said = f" In the specialists {100 * kept / total:.0f} % of the base's language units still fire most in their own "
    said = f"{said}language, selected there or not." if total else ""
    turned = headline(in_own_span(results.table("measurements/turnovers")))
    turned = turned[(turned.group == group) & (turned.site == GATE) & turned.model.isin(own)] if len(turned) else turned
    if turned.empty or not turned.ceiling.notna().any():
        return said
    value, low, high, ceiling = turned[["jaccard", "low", "high", "ceiling"]].mean()
    return (
        f"{said} Jaccard index of a language's units in base and specialist: {value:.2f} {interval(low, high, 2)} "
        f"(95 % delete-one-block jackknife, {sentences_note(results)}, mean over languages and specialists); of two "
        f"halves of the base's own sentences: {ceiling:.2f}."
    )
