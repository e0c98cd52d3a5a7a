"""Figure of what fine-tuning does to language units, against its nulls: :func:`redistribution_figure`. Pure."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from langmerge.reporting.figures import TEXT, Figure, colour, panels, style
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
OWN = "supervised"  # the set of units
LABELS = {"unknown": "family not known"}
MATCHED = "x"  # marker
APART = 0.25  # of the roles of one model, in rows
NULL = "0.86"  # grey of the null's bands


def redistribution_figure(results: Results) -> Figure | None:
    """Changes of the supervised language's units beyond matched ones, with nulls and verdicts; None without any.

    A row for each direction group: left the shares E of supervised, related and unrelated languages in each specialist,
    then the mutual information of firing and language in the same units, right that in all units of every model.
    """
    table = in_own_span(results.table("measurements/redistribution"))
    table = table[table["set"].isin([OWN, "all"])] if len(table) else table
    if table.empty:
        return None
    table = table.assign(language=table.language.fillna(""), role=table.role.fillna(""))
    keys = ["group", "model", "set", "role", "language", "measure"]
    mean = means(table, keys, NUMBERS)
    units = mean[(mean["set"] == OWN) & (mean.measure == "information_excess")].n
    called = verdicts(results)
    groups = list(dict.fromkeys(mean.group))
    rows = max(len(set(mean.model[mean.group == group])) for group in groups)
    with style():
        height = min(TALL, 0.6 + (0.5 + 0.2 * rows) * len(groups))
        drawing, axes = panels(len(groups), 3, TEXT, height, sharex="col", width_ratios=[3, 2, 2])
        for (left, middle, right), group in zip(axes, groups, strict=True):
            here = mean[mean.group == group]
            _shares(left, results, group, here[here["set"] == OWN])
            _information(middle, results, group, here[here["set"] == OWN], called)
            _masses(right, results, group, here[here["set"] == "all"])
            left.set_title(f"{arrow(group, results.pivot)}: shares in own units")
            middle.set_title("information in own units")
            right.set_title("information in all units")
            left.set_ylabel("specialist")
        axes[-1, 0].set_xlabel("change of the share E, points")
        axes[-1, 1].set_xlabel("change, %")
        axes[-1, 2].set_xlabel("bits, summed over units")
        drawing.legend(handles=_handles(set(mean.role)), loc="outside lower center", ncols=4)
    again = " of all seeds together" if len(results.table("replication/replication")) else ""
    return Figure(
        "redistribution",
        "Sharpened or redistributed language units",
        "Left: change, from the base to each specialist, of the share E of a language in the firing of the base's "
        f"units of the supervised language (on average {units.mean():.0f} units of the MLP gates), in the span in that "
        "language: of that language, and the means of related (same family) and unrelated ones. Middle: change of the "
        "same units' bias-corrected mutual information of firing and language. From both is subtracted what the units "
        "would have done had they changed as matched ones, in no language's set, of the same layer and nearest in "
        "firing rate (crosses: what was subtracted). Units and matches are chosen in one half of the blocks and "
        "measured in the other. Right: mutual information of all units, nothing subtracted. "
        f"Bars: 95 % delete-one-block jackknife, {sentences_note(results)}. Grey: 95 % of the differences between "
        "random halves of the base's own sentences lie within (right: around the base). Dotted: languages permuted "
        f"within each block. In words: the verdict{again} on left and middle, inconclusive where an interval reaches "
        f"into the grey or the two do not agree; the reasons are in the text.{seeds_note(results)}",
        drawing,
    )


def _models(results: Results, group: str, table: pd.DataFrame) -> list[str]:
    """The specialists of a direction group that a table has, in its order."""
    return [model for model in dict.fromkeys(table.model) if model in specialists(results, group)]


def _rows(ax: Axes, models: list[str]) -> None:
    """A row for each model from the top, and the line of no change."""
    ax.axvline(0, color="0.3", linewidth=0.7)
    ax.set_yticks(range(len(models)), [model_label(model) for model in models])
    ax.set_ylim(max(len(models), 1) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)


def _excess(ax: Axes, table: pd.DataFrame, measure: str, y: float, looks: dict[str, Any]) -> None:
    """The excess over matched units in %, its null's band and, as a cross, what the matched units did."""
    excess, matched = (table[table.measure == f"{measure}_{kind}"].iloc[0] for kind in ("excess", "matched"))
    band = [y - 0.4 * APART, y + 0.4 * APART]
    ax.fill_betweenx(band, 100 * excess.null_low, 100 * excess.null_high, color=NULL, linewidth=0)
    _bar(ax, 100 * matched.value, np.nan, np.nan, y, {"marker": MATCHED, "color": "0.45", "markersize": 4})
    _bar(ax, 100 * excess.value, 100 * excess.low, 100 * excess.high, y, looks)


def _shares(ax: Axes, results: Results, group: str, table: pd.DataFrame) -> None:
    """The roles' changes in each specialist, one below the other, in points."""
    own, models = specialists(results, group), _models(results, group, table)
    for i, model in enumerate(models):
        here = table[(table.model == model) & (table.language == "")]
        roles = [role for role in ROLES if role in set(here.role)]
        for j, role in enumerate(roles):
            marker, filled = ROLES[role]
            looks = {"marker": marker, "fillstyle": filled, "color": colour(colour_index(results, own[model]))}
            _excess(ax, here[here.role == role], "share", i + (j - (len(roles) - 1) / 2) * APART, looks)
    _rows(ax, models)


def _information(ax: Axes, results: Results, group: str, table: pd.DataFrame, called: pd.DataFrame) -> None:
    """The change of mutual information in each specialist, in %; the verdict beside it."""
    own, models = specialists(results, group), _models(results, group, table)
    for i, model in enumerate(models):
        here = table[(table.model == model) & (table.role == "")]
        _excess(ax, here, "information", i, {"marker": "o", "color": colour(colour_index(results, own[model]))})
        found = called[(called.group == group) & (called.model == model)] if len(called) else called
        for row in each(found):
            clear = row.verdict != INCONCLUSIVE
            ax.text(
                0.99, i - 0.3, str(row.verdict), transform=ax.get_yaxis_transform(), ha="right", va="center",
                fontsize=6.5, weight="bold" if clear else "normal", color="black" if clear else "0.4",
            )  # fmt: skip
    _rows(ax, models)
    ax.set_yticklabels([])


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
    found.append(Line2D([], [], color="0.45", marker=MATCHED, linestyle="", label="matched units"))
    found.append(Patch(color=NULL, label="halves of the base's text"))
    return [*found, Line2D([], [], color="0.25", linestyle=":", label="permuted languages")]
