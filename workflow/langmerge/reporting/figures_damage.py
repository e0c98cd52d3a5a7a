"""Figures of what foretells merge damage: a forest of rank correlations, and the pairs behind the strongest. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from langmerge.reporting.figures import COLUMN, TEXT, Figure, colour, panels, style
from langmerge.reporting.load import Results, each
from langmerge.reporting.samples import arrow, label
from langmerge.reporting.table import number
from langmerge.reporting.tables_damage import SHOWN, correlation, measure_label, outcome_label, ranked, tested

BEST = 4  # measures whose pairs are drawn
SIGNIFICANT = 0.05


def forest_figure(results: Results) -> Figure | None:
    """Rank correlations of the strongest measures with their intervals and corrected p; None without tests."""
    found = ranked(results).head(SHOWN)
    if found.empty:
        return None
    several = found.method.nunique() > 1
    with style():
        drawing, axes = panels(1, 1, 0.75 * TEXT, 0.75 + 0.17 * len(found))
        ax = axes[0, 0]
        for i, row in enumerate(each(found)):
            clear = row.p_corrected < SIGNIFICANT
            bars = np.clip([[row.rho - row.low], [row.high - row.rho]], 0, None)
            ax.errorbar(
                row.rho, i, xerr=np.nan_to_num(bars), marker="o", color="black" if clear else "0.45",
                markerfacecolor="black" if clear else "white", elinewidth=0.9,
            )  # fmt: skip
            ax.text(1.08, i, number(row.p_corrected, 2), va="center", ha="left", fontsize=7)
        ax.text(1.08, -1, "p corr.", va="center", ha="left", fontsize=7)
        names = [
            measure_label(row.measure) + (f" ({label('merge', row.method)})" if several else "") for row in each(found)
        ]
        ax.set_yticks(range(len(found)), names)
        ax.set(xlim=(-1.05, 1.05), ylim=(len(found) - 0.5, -0.5))
        ax.axvline(0, color="0.3", linewidth=0.7)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel(f"rank correlation with the {outcome_label(results)}")
        ax.set_ylabel("measure")
        ax.set_title("the strongest measures", pad=12)
    return Figure(
        "predictors",
        "What foretells merge damage",
        "Spearman's rank correlation over pairs of languages, mean over strata; bars: 95 % over languages drawn with "
        f"replacement, each measure by itself; filled where the corrected p is below {SIGNIFICANT}. {tested(results)}.",
        drawing,
    )


def scatter_figure(results: Results) -> Figure | None:
    """Damage of every pair against the strongest measures, a row for each direction group; None without tests."""
    best, damage = ranked(results).head(BEST), results.table("damage/damage")
    if best.empty or damage.empty:
        return None
    outcome = str(best.outcome.iloc[0])
    groups = [group for group in results.groups if (damage.group == group).any()]
    with style():
        looks = {code: colour(i) for i, code in enumerate(results.languages)}
        width = max(COLUMN, TEXT * len(best) / BEST)
        drawing, axes = panels(len(groups), len(best), width, 0.75 + 1.4 * len(groups), sharey="row", sharex="col")
        for g, group in enumerate(groups):
            for ax, row in zip(axes[g], each(best), strict=True):
                keep = (damage.group == group) & (damage.method == row.method) & (damage.measure == row.measure)
                keys = ["language_a", "language_b"]
                for point in each(damage[keep].groupby(keys, sort=False)[["value", outcome]].mean().reset_index()):
                    ax.plot(
                        point.value, getattr(point, outcome), "o", fillstyle="left", markersize=6,
                        color=looks[point.language_a], markerfacecoloralt=looks[point.language_b],
                        markeredgecolor="white", markeredgewidth=0.4,
                    )  # fmt: skip
                ax.set_title(f"{arrow(group, results.pivot)}, ρ {number(correlation(results, group, row), 2)}")
                ax.margins(0.15)
                ax.xaxis.set_major_locator(MaxNLocator(3))
            axes[g, 0].set_ylabel(outcome_label(results))
        for ax, row in zip(axes[-1], each(best), strict=True):
            ax.set_xlabel(measure_label(row.measure).replace(": ", ":\n"), fontsize=6.5)
        dot: dict[str, Any] = {"marker": "o", "linestyle": ""}
        handles = [Line2D([], [], color=look, label=code, **dot) for code, look in looks.items()]
        drawing.legend(handles=handles, loc="outside lower center", ncols=min(9, len(handles)))
    return Figure(
        "damage",
        "Damage against the strongest measures",
        "A point is the merge of two specialists, in the colours of their languages."
        + (" Means over seeds." if len(results.seeds) > 1 else "")
        + f" ρ: in the direction group. The measures are the {len(best)} strongest of {best.tests.iloc[0]:.0f} over "
        "all, so they look better than they are.",
        drawing,
    )
