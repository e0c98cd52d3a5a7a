"""Figures of the report of a study of distance. Pure: from frames to figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from langmerge.reporting.figures import COLUMN, HEAT, MARKERS, TEXT, Figure, colour, panels
from langmerge.reporting.studies import dyads
from langmerge.reporting.studies.distance_measures import AFTER, BEFORE, INTERACTION, KINDS, LETTERS
from langmerge.reporting.table import interval, number

RETENTION = "retention of the merge"
NAMES = {**KINDS, INTERACTION: "Interaction"}


def dose_figure(pairs: pd.DataFrame, fitted: np.ndarray) -> Figure:
    """Retention against the share of other words, and against the set of kinds in which a pair differs.

    ``pairs``: one row a pair of models, the twins among them, with retention (mean over seeds), the kinds, ``set``
    (letters of those that differ), ``size`` (their number) and ``twins``; ``fitted`` is what the additive model says of
    each.
    """
    drawing, axes = panels(1, 2, TEXT, 2.3, sharey=True, width_ratios=[2, 3])
    words, sets = axes[0]
    if "lexicon" in pairs:
        others = [kind for kind in KINDS if kind in pairs and kind != "lexicon"]
        apart = pairs[(pairs[others] == 0).all(axis=1)] if others else pairs
        _points(words, 100 * apart.lexicon, apart)
        means = apart.groupby("lexicon").retention.mean()
        words.plot(100 * means.index, means, color="0.3", zorder=1)
    words.set_xlabel("words that differ (%), nothing else")
    words.set_ylabel(RETENTION)
    order = list(dict.fromkeys(pairs.sort_values(["size", "set"]).set))
    place = {name: x for x, name in enumerate(order)}
    _points(sets, pairs.set.map(place), pairs)
    expected = pd.Series(fitted, index=pairs.index).groupby(pairs.set).mean()
    sets.plot([place[s] for s in expected.index], expected, linestyle="", marker="_", markersize=11, color="black")
    sets.set_xticks(range(len(order)), [name or "none" for name in order], rotation=60)
    sets.set_xlabel("kinds in which the two languages differ")
    letters = ", ".join(f"{LETTERS[kind]} {KINDS[kind].lower()}" for kind in KINDS if kind in pairs)
    return Figure(
        "dose",
        "What merging keeps, by distance",
        f"Each point is a pair ({len(pairs)}), mean over seeds; stars: the twins, two specialists of one "
        "language. Left: pairs that differ in words only, and their mean. Right: by the kinds that differ "
        f"({letters}; words by any share); dashes: mean of the additive model.",
        drawing,
    )


def _points(ax: Axes, x: pd.Series, pairs: pd.DataFrame) -> None:
    """Points of pairs, moved apart a little where they would cover each other; twins as stars."""
    shift = (pairs.groupby(x).cumcount() % 5 - 2) * 0.02 * (float(x.max() - x.min()) or 1) / 2
    looks: dict[bool, dict[str, Any]] = {False: {"marker": "o", "s": 12}, True: {"marker": "*", "s": 60}}
    for twins, look in looks.items():
        here = pairs.twins == twins
        ax.scatter((x + shift)[here], pairs.retention[here], color=colour(int(twins)), alpha=0.8, linewidth=0, **look)


def effect_figure(effects: pd.DataFrame, by_seed: Mapping[int, Mapping[str, float]], outcome: str) -> Figure:
    """Slopes of the kinds of distance with intervals: alone, beside the others, and in each seed."""
    drawing, axes = panels(1, 1, COLUMN, 0.9 + 0.32 * len(effects))
    ax = axes[0, 0]
    names = list(effects.kind)
    for shift, column, low, high, look in (
        (-0.14, "alone", "alone_low", "alone_high", {"marker": "o", "color": colour(5), "markerfacecolor": "white"}),
        (0.14, "together", "low", "high", {"marker": "o", "color": colour(0)}),
    ):
        known = effects[effects[column].notna()] if column in effects else effects.iloc[:0]
        y = [names.index(kind) + shift for kind in known.kind]
        ends = np.nan_to_num(np.array([known[column] - known[low], known[high] - known[column]], dtype=float))
        ax.errorbar(known[column], y, xerr=ends, linestyle="", elinewidth=1, label=column, **look)
    for place, found in enumerate(by_seed.values()):
        y = [names.index(kind) + 0.32 for kind in found]
        label = "single seeds" if not place else None
        ax.plot(list(found.values()), y, linestyle="", marker="|", markersize=5, color="0.4", label=label)
    ax.axvline(0, color="0.4", linewidth=0.8)
    ax.set_yticks(range(len(names)), [NAMES[kind] for kind in names])
    ax.invert_yaxis()
    ax.set_xlabel(f"change of {outcome} at full distance")
    drawing.legend(loc="outside lower center", ncols=3)
    return Figure(
        "effects",
        "Effect of each kind of distance",
        f"Slopes over pairs, mean of {len(by_seed)} seeds: of the kind alone, and beside the others "
        "(regression; ticks: single seeds). Bars: 95 % jackknife intervals over languages. Interaction: slope of the "
        "sum of the products of every two kinds, beside all kinds.",
        drawing,
    )


def side_name(name: str) -> str:
    """A factor of :func:`.distance_measures.split` in print; the moderator is named in the text around it."""
    kind, _, side = name.partition("/")
    sides = {"same": "alike", "other": "apart", "": ""}
    return f"{NAMES[kind].lower()} {sides[side]}".strip()


def conditional_figure(table: pd.DataFrame | None, moderator: str | None) -> Figure | None:
    """Slopes of the other kinds for pairs alike in the moderator and for pairs apart in it; None without them."""
    if table is None or moderator is None or not np.isfinite(table.slope).all():
        return None
    kinds = [name.partition("/")[0] for name in table.name if name.endswith("/same")]
    drawing, axes = panels(1, 1, COLUMN, 0.8 + 0.36 * len(kinds))
    ax = axes[0, 0]
    rows = table.set_index("name")
    name = KINDS[moderator].lower()
    for place, (side, label) in enumerate((("same", f"{name} alike"), ("other", f"{name} apart"))):
        here = rows.loc[[f"{kind}/{side}" for kind in kinds]]
        ends = np.nan_to_num(np.array([here.slope - here.low, here.high - here.slope], dtype=float))
        y = np.arange(len(kinds)) + 0.24 * place - 0.12
        look = {"color": colour(place), "marker": MARKERS[place]}
        ax.errorbar(here.slope, y, xerr=ends, linestyle="", elinewidth=1, label=label, **look)
    ax.axvline(0, color="0.4", linewidth=0.8)
    ax.set_yticks(range(len(kinds)), [NAMES[kind] for kind in kinds])
    ax.set_ylim(len(kinds) - 0.5, -0.5)
    ax.set_xlabel("change of retention at full distance")
    drawing.legend(loc="outside lower center", ncols=2)
    own = {column: float(rows[column][moderator]) for column in ("slope", "low", "high")}
    return Figure(
        "conditional",
        "What one kind of distance does to the effect of the others",
        f"Slopes of the other kinds in pairs alike and in pairs apart in {name}, one regression; {name} itself: "
        f"{number(own['slope'], 2)} {interval(own['low'], own['high'], 2)}. Bars: 95 % jackknife intervals over "
        f"languages. Of the kinds, {name} is the one that splits the others best, chosen on these data.",
        drawing,
    )


def pair_figure(outcome: np.ndarray, names: list[str], methods: str) -> Figure:
    """Heat map of what the merge of each pair keeps, languages in the order given."""
    drawing, axes = panels(1, 1, 4.6, 3.6)
    ax = axes[0, 0]
    shown = np.where(np.eye(len(names), dtype=bool), np.nan, outcome)
    mesh = ax.pcolormesh(shown, **HEAT)
    low, high = np.nanmin(shown), np.nanmax(shown)
    for y, x in zip(*np.where(np.isfinite(shown)), strict=True):
        dark = shown[y, x] < low + 0.6 * (high - low)
        look = {"ha": "center", "va": "center", "color": "white" if dark else "black", "fontsize": 6}
        ax.text(x + 0.5, y + 0.5, number(float(shown[y, x]), 2), **look)
    ax.set_xticks([x + 0.5 for x in range(len(names))], names, rotation=60, ha="right", rotation_mode="anchor")
    ax.set_yticks([y + 0.5 for y in range(len(names))], names)
    ax.invert_yaxis()
    ax.grid(visible=False)
    drawing.colorbar(mesh, ax=ax, label=RETENTION, fraction=0.05)
    return Figure(
        "pairs",
        "What the merge of each pair keeps",
        f"Retention of the {methods} merge: (base − merge) / (base − specialist) in bits per byte, mean of "
        "both languages and seeds; 1: all of what the specialists gained over the base, 0: none. Languages "
        "are named by what they changed, in groups by the kind that splits the others best.",
        drawing,
    )


def foresight_figure(table: pd.DataFrame, by_seed: Mapping[int, Mapping[str, float]], moderator: str | None) -> Figure:
    """Rank correlations of the measures with retention, over all pairs and over those alike in the moderator."""
    drawing, axes = panels(1, 1, TEXT * 0.85, 0.8 + 0.24 * len(table))
    ax = axes[0, 0]
    name = KINDS[moderator].lower() if moderator else ""
    series = [("all pairs", "rho", "low", "high", "p_max", -0.16 if moderator else 0.0)]
    series += [(f"pairs alike in {name}", "alike_rho", "alike_low", "alike_high", "alike_p", 0.16)] if moderator else []
    for place, (label, value, low, high, p, shift) in enumerate(series):
        for y, line in enumerate(table.to_dict("records")):
            reach = [line[value] - line[low], line[high] - line[value]]
            xerr = np.clip(np.nan_to_num(np.array([reach], dtype=float).T), 0, None)
            look: dict[str, Any] = {"marker": MARKERS[place], "color": colour(place), "elinewidth": 1}
            look["markerfacecolor"] = colour(place) if line[p] < 0.05 else "white"
            ax.errorbar(line[value], y + shift, xerr=xerr, label=None if y else label, linestyle="", **look)
    for y, measure in enumerate(table.name):
        values = [found[measure] for found in by_seed.values() if measure in found]
        ax.plot(values, [y - 0.36] * len(values), linestyle="", marker="|", markersize=3, color="0.4")
    ax.axhline(float(table.before.sum()) - 0.5, color="0.4", linewidth=0.8, linestyle=":")
    ax.axvline(0, color="0.4", linewidth=0.8)
    ax.set_xlim(-1.05, 1.05)
    ax.set_yticks(range(len(table)), [{**BEFORE, **AFTER}[measure] for measure in table.name])
    ax.invert_yaxis()
    ax.set_xlabel("rank correlation with retention")
    drawing.legend(loc="outside lower center", ncols=2)
    return Figure(
        "foresight",
        "What tells beforehand how much a merge keeps",
        "Spearman's ρ with 95 % jackknife intervals over languages; ticks: all pairs in single seeds. Filled: p < 0.05 "
        "after correction for the number of measures (permuting languages). Below the dotted line: needs the merged "
        "weights, on other sentences.",
        drawing,
    )


def scatter_figure(pairs: pd.DataFrame, measures: Mapping[str, str], moderator: str | None) -> Figure | None:
    """Retention of every pair against a few measures; pairs alike and apart in the moderator, if any, told apart."""
    shown = [name for name in measures if name in pairs and pairs[name].notna().any()]
    if not shown:
        return None
    drawing, axes = panels(1, len(shown), min(TEXT, 2.2 * len(shown)), 2.4, sharey=True)
    apart = pairs[moderator] > 0 if moderator else pd.Series(data=False, index=pairs.index)
    name = KINDS[moderator].lower() if moderator else ""
    groups = {"twins": pairs.twins, f"{name} alike".strip(): ~apart & ~pairs.twins, f"{name} apart".strip(): apart}
    for ax, measure in zip(axes.flat, shown, strict=True):
        for place, (label, chosen) in enumerate(groups.items()):
            look = {"marker": "*", "s": 60, "color": "black"} if not place else {"s": 12, "color": colour(place - 1)}
            if chosen.any():
                look.setdefault("marker", MARKERS[place - 1])
                ax.scatter(pairs[measure][chosen], pairs.retention[chosen], label=label, linewidth=0, **look)
        ax.locator_params(axis="x", nbins=4)
        ax.set_xlabel(measures[measure])
    axes[0, 0].set_ylabel(RETENTION)
    handles, names = axes[0, 0].get_legend_handles_labels()
    drawing.legend(handles, names, loc="outside lower center", ncols=len(names))
    return Figure(
        "scatter",
        "The best measures before merging against what the merge keeps",
        f"Each point is a pair ({len(pairs)}), mean over seeds.",
        drawing,
    )


def fitted(outcome: np.ndarray, distances: Mapping[str, np.ndarray], pairs: pd.DataFrame) -> np.ndarray:
    """What the additive model says of each row of ``pairs``, which has a column for each kind."""
    found = dyads.slopes(outcome, distances)
    return np.asarray(found[0] + pairs[list(distances)].to_numpy(dtype=float) @ found[1:])
