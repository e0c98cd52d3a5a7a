"""Figure of the causal test, language units switched off against random ones: :func:`ablation_figure`. Pure."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from langmerge.reporting.figures import COLUMN, MARKERS, TEXT, Figure, colour, panels, style
from langmerge.reporting.figures_units import TALL
from langmerge.reporting.load import Results, each
from langmerge.reporting.samples import arrow
from langmerge.reporting.tables_ablation import ablations
from langmerge.reporting.tables_models import model_label
from langmerge.reporting.tables_units import colour_index, languages_of, seeds_note

ACROSS = 3  # panels beside each other
FEW = 5  # languages; with more a panel takes more room
MILLI = 1000
WIDTH = 0.8  # of the points of one set of units
NULL = "0.86"


def ablation_figure(results: Results) -> Figure | None:
    """Cost of each language's units in each language, a panel for each direction group and model; None without."""
    found = ablations(results)
    if found.empty:
        return None
    groups, models = list(dict.fromkeys(found.group)), {}
    for group in groups:
        models[group] = list(dict.fromkeys(found.model[found.group == group]))
    widest = max(map(len, models.values()))
    across = ACROSS - (found.language.nunique() > FEW)
    columns = min(across, widest)
    lines = -(-widest // columns)
    with style():
        width, height = max(COLUMN, TEXT * columns / across), min(TALL, 0.5 + 1.6 * lines * len(groups))
        drawing, axes = panels(lines * len(groups), columns, width, height)
        for ax in axes.flat:
            ax.set_visible(False)
        for g, group in enumerate(groups):
            for k, model in enumerate(models[group]):
                ax = axes[g * lines + k // columns, k % columns]
                ax.set_visible(True)
                _costs(ax, results, found[(found.group == group) & (found.model == model)])
                ax.set_title(f"{arrow(group, results.pivot)}, {model_label(model)}")
                if k % columns == 0:
                    ax.set_ylabel("10⁻³ bits per byte")
                if k + columns >= len(models[group]):
                    ax.set_xlabel("language whose units are off")
        drawing.legend(handles=_handles(results, found), loc="outside lower center", ncols=6)
    return Figure(
        "ablation",
        "Language units switched off",
        "Change of the target's bits per byte when the MLP units of one language (x axis) are zero, in each language "
        "(colour; filled: the language itself), with the 95 % delete-one-block jackknife interval over "
        f"n = {found.n.max():.0f} sentences a language. Grey: where the cost of as many random units of the same "
        f"layers that fire as often lies (line and 95 % prediction interval of {found.draws.max():.0f} draws, cut off "
        f"at the edge where it is much wider).{seeds_note(results)}",
        drawing,
    )


def _costs(ax: Axes, results: Results, table: pd.DataFrame) -> None:
    """Points with intervals, K languages for each of up to K sets of units, each before its null."""
    sets, languages = languages_of(results, table.units_of), languages_of(results, table.language)
    step, costs = WIDTH / len(languages), ["value", "low", "high", "null", "null_low", "null_high"]
    table = table.assign(**{name: MILLI * table[name] for name in costs})
    for (i, off), (j, read) in itertools.product(enumerate(sets), enumerate(languages)):
        x = i + (j - (len(languages) - 1) / 2) * step
        for row in each(table[(table.units_of == off) & (table.language == read)]):
            ax.fill_between([x - step / 2, x + step / 2], row.null_low, row.null_high, color=NULL, linewidth=0)
            ax.hlines(row.null, x - step / 2, x + step / 2, color="0.5", linewidth=0.9)
            ends = np.clip(np.nan_to_num([[row.value - row.low], [row.high - row.value]]), 0, None)
            looks = _look(results, read) | {"fillstyle": "full" if off == read else "none"}
            looks |= {"markersize": 3.5 if len(languages) <= FEW else 2.2}
            ax.errorbar(x, row.value, yerr=ends, elinewidth=0.9, linestyle="", markeredgewidth=0.8, **looks)
    ax.axhline(0, color="0.3", linewidth=0.7)
    low, high = min(0.0, table[["low", "value", "null"]].min().min()), table[["high", "value", "null"]].max().max()
    if np.isfinite(low) and np.isfinite(high) and high > low:
        ax.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))
    units = table.groupby("units_of").units.max()
    ax.set_xticks(range(len(sets)), [f"{code}\n({units[code]:.0f})" for code in sets])
    ax.set_xlim(-0.5, len(sets) - 0.5)
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.grid(axis="x", visible=False)


def _look(results: Results, language: str) -> dict[str, Any]:
    k = colour_index(results, language)
    return {"color": colour(k), "marker": MARKERS[k % len(MARKERS)]}


def _handles(results: Results, found: pd.DataFrame) -> list[Any]:
    """The legend: languages that are read, and the null."""
    lines: list[Any] = [
        Line2D([], [], linestyle="", label=code, **_look(results, code))
        for code in languages_of(results, found.language)
    ]
    return [*lines, Patch(color=NULL, label="random units")]
