"""Figure of what fine-tuning does to language units, against its nulls: :func:`redistribution_figure`. Pure."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from langmerge.reporting.figures import TEXT, Figure, colour, panels, settle, style
from langmerge.reporting.figures_units import TALL
from langmerge.reporting.load import Results, each
from langmerge.reporting.samples import arrow
from langmerge.reporting.tables_models import model_label
from langmerge.reporting.tables_redistribution import INCONCLUSIVE, verdicts
from langmerge.reporting.tables_units import (
    BASE,
    colour_index,
    in_own_span,
    means,
    seeds_note,
    sentences_note,
    specialists,
)

NUMBERS = ["value", "low", "high", "n", "null", "null_low", "null_high"]
Filled = Literal["full", "none"]
ROLES: dict[str, tuple[str, Filled]] = {  # marker, how it is filled
    "supervised": ("o", "full"),
    "related": ("D", "none"),
    "unrelated": ("s", "none"),
    "unknown": ("^", "none"),
}
LABELS = {"unknown": "family not known"}
APART = 0.25  # of the roles of one model, in rows
NULL = "0.86"  # grey of the null's bands


def redistribution_figure(results: Results) -> Figure | None:
    """Change of exclusivity by role and mutual information, with nulls and verdicts; None without measurements.

    A row for each direction group: left the change of the share E of supervised, related and unrelated languages in
    each specialist, right the mutual information of firing and language in every model.
    """
    table = in_own_span(results.table("measurements/redistribution"))
    table = table[table["set"].isin(["union", "all"])] if len(table) else table
    if table.empty:
        return None
    table = table.assign(language=table.language.fillna(""), role=table.role.fillna(""))
    keys = ["group", "model", "set", "role", "language", "measure"]
    mean, units = means(table, keys, NUMBERS), table[table["set"] == "union"].n
    called = verdicts(results)
    groups = list(dict.fromkeys(mean.group))
    rows = max(len(set(mean.model[mean.group == group])) for group in groups)
    with style():
        height = min(TALL, 0.6 + (0.5 + 0.2 * rows) * len(groups))
        drawing, axes = panels(len(groups), 2, TEXT, height, sharex="col", width_ratios=[3, 2])
        for (left, right), group in zip(axes, groups, strict=True):
            here = mean[mean.group == group]
            _shares(left, results, group, here[here["set"] == "union"], called)
            _masses(right, results, group, here[here["set"] == "all"])
            left.set_title(f"{arrow(group, results.pivot)}: share of the base's units")
            right.set_title(f"{arrow(group, results.pivot)}: mutual information")
            left.set_ylabel("specialist")
        axes[-1, 0].set_xlabel("change of the share E, points")
        axes[-1, 1].set_xlabel("bits, summed over units")
        drawing.legend(handles=_handles(set(mean.role)), loc="outside lower center", ncols=6)
        settle(drawing)
    again = " of all seeds together" if len(results.table("replication/replication")) else ""
    return Figure(
        "redistribution",
        "Sharpened or redistributed language units",
        "Left: change, from the base to each specialist, of the share E of a language in the firing of the base's "
        f"language units (on average {units.mean():.0f} units of the MLP gates), in the span in that language: of the "
        "supervised language, and the means of related (same family) and unrelated ones; units are chosen in one half "
        "of the blocks and measured in the other. Right: bias-corrected mutual information of firing and language. "
        f"Bars: 95 % delete-one-block jackknife, {sentences_note(results)}. Grey: 95 % of the differences between "
        "random halves of the base's own sentences lie within (right: around the base). Dotted: languages permuted "
        f"within each block. In words: the verdict{again}, inconclusive where the interval of the supervised language "
        f"reaches into the grey or the panels do not agree; the reasons are in the text.{seeds_note(results)}",
        drawing,
    )


def _shares(ax: Axes, results: Results, group: str, table: pd.DataFrame, called: pd.DataFrame) -> None:
    """The roles' changes in each specialist, one below the other, in points; the verdict beside them."""
    own = specialists(results, group)
    models = [model for model in dict.fromkeys(table.model) if model in own]
    for i, model in enumerate(models):
        here = table[(table.model == model) & (table.language == "")]
        roles = [role for role in ROLES if role in set(here.role)]
        for j, role in enumerate(roles):
            row = here[here.role == role].iloc[0]
            y = i + (j - (len(roles) - 1) / 2) * APART
            ax.fill_betweenx(
                [y - 0.4 * APART, y + 0.4 * APART], 100 * row.null_low, 100 * row.null_high, color=NULL, linewidth=0
            )
            marker, filled = ROLES[role]
            look = {"marker": marker, "fillstyle": filled, "color": colour(colour_index(results, own[model]))}
            _bar(ax, 100 * row.value, 100 * row.low, 100 * row.high, y, look)
        found = called[(called.group == group) & (called.model == model)] if len(called) else called
        for row in each(found):
            clear = row.verdict != INCONCLUSIVE
            ax.text(
                1.01, i, str(row.verdict), transform=ax.get_yaxis_transform(), va="center", fontsize=6.5,
                weight="bold" if clear else "normal", color="black" if clear else "0.4",
            )  # fmt: skip
    ax.axvline(0, color="0.3", linewidth=0.7)
    ax.set_yticks(range(len(models)), [model_label(model) for model in models])
    ax.set_ylim(max(len(models), 1) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)


def _masses(ax: Axes, results: Results, group: str, table: pd.DataFrame) -> None:
    """Mutual information of every model, the base first; its band of halves and what permuted languages have."""
    own, change = specialists(results, group), table[table.measure == "mass_change"]
    table = table[table.measure == "mass"]
    models = list(dict.fromkeys(table.model))
    for i, model in enumerate(models):
        row = table[table.model == model].iloc[0]
        shade = colour(colour_index(results, own[model])) if model in own else "black" if model == BASE else "0.4"
        _bar(ax, row.value, row.low, row.high, i, {"marker": "o", "color": shade})
    base = table[table.model == BASE]
    floor, band = table.null.mean(), change.null_high.mean()
    if np.isfinite(floor):
        ax.axvline(floor, color="0.25", linestyle=":")
    if len(base):
        start = float(base.value.iloc[0])
        ax.axvline(start, color="0.3", linewidth=0.7)
        if np.isfinite(band):
            ax.axvspan(start * (1 - band), start * (1 + band), color=NULL, linewidth=0, zorder=0)
    ax.set_yticks(range(len(models)), [model_label(model) for model in models])
    ax.set_ylim(len(models) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.xaxis.set_major_locator(MaxNLocator(5))


def _bar(ax: Axes, value: float, low: float, high: float, y: float, looks: dict[str, Any]) -> None:
    """A point with its interval at height ``y``; nothing where the value is not defined."""
    if np.isfinite(value):
        ends = np.clip(np.nan_to_num([[value - low], [high - value]]), 0, None)
        ax.errorbar(value, y, xerr=ends, elinewidth=0.9, linestyle="", markeredgewidth=0.9, **looks)


def _handles(roles: set[str]) -> list[Any]:
    """The legend: roles that occur, and the nulls."""
    found: list[Any] = [
        Line2D([], [], color="0.2", marker=marker, fillstyle=filled, linestyle="", label=LABELS.get(role, role))
        for role, (marker, filled) in ROLES.items()
        if role in roles
    ]
    found.append(Patch(color=NULL, label="halves of the base's text"))
    return [*found, Line2D([], [], color="0.25", linestyle=":", label="permuted languages")]
