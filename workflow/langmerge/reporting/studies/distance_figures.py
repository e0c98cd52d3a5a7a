"""Figures of the report of a study of distance. Pure: from frames to figures."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from langmerge.reporting.figures import COLUMN, HEAT, MARKERS, TEXT, Figure, colour, panels, settle
from langmerge.reporting.studies import dyads
from langmerge.reporting.studies.distance_measures import AFTER, BEFORE, INTERACTION, KINDS, LETTERS
from langmerge.reporting.table import number

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
        settle(drawing),
    )


def _points(ax: Axes, x: pd.Series, pairs: pd.DataFrame) -> None:
    """Points of pairs, moved apart a little where they would cover each other; twins as stars."""
    shift = (pairs.groupby(x).cumcount() % 5 - 2) * 0.02 * (float(x.max() - x.min()) or 1) / 2
    for twins, look in ((False, {"marker": "o", "s": 12}), (True, {"marker": "*", "s": 60})):
        here = pairs.twins == twins
        ax.scatter((x + shift)[here], pairs.retention[here], color=colour(int(twins)), alpha=0.8, linewidth=0, **look)


def effect_figure(effects: pd.DataFrame, by_seed: Mapping[int, Mapping[str, float]], outcome: str) -> Figure:
    """Slopes of the kinds of distance with intervals: alone, beside the others, and in each seed."""
    drawing, axes = panels(1, 1, COLUMN, 0.7 + 0.36 * len(effects))
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
    ax.legend()
    return Figure(
        "effects",
        "Effect of each kind of distance",
        f"Slopes over pairs, mean of {len(by_seed)} seeds: of the kind alone, and beside the others "
        "(regression). Bars: 95 % jackknife intervals over languages. Interaction: slope of the sum of the "
        "products of every two kinds, beside all kinds.",
        settle(drawing),
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
        f"Retention of the {methods} merge: (base - merge) / (base - specialist) in bits per byte, mean of "
        "both languages and seeds; 1: all of what the specialists gained over the base, 0: none. Languages "
        "are named by what they changed, and ordered by how much.",
        settle(drawing),
    )


def foresight_figure(table: pd.DataFrame, by_seed: Mapping[int, Mapping[str, float]]) -> Figure:
    """Rank correlations of the measures with retention, with intervals; significant ones filled."""
    drawing, axes = panels(1, 1, TEXT * 0.8, 0.7 + 0.2 * len(table))
    ax = axes[0, 0]
    for y, row in enumerate(table.itertuples()):
        shade = colour(0) if row.before else "0.5"
        ends = [[max(0.0, row.rho - max(-1.0, row.low))], [max(0.0, min(1.0, row.high) - row.rho)]]
        face = shade if row.p_max < 0.05 else "white"
        xerr = np.nan_to_num(np.array(ends, dtype=float))
        ax.errorbar(row.rho, y, xerr=xerr, marker="o", color=shade, markerfacecolor=face, elinewidth=1)
        values = [found[row.name] for found in by_seed.values() if row.name in found]
        ax.plot(values, [y + 0.25] * len(values), linestyle="", marker="|", markersize=4, color="0.4")
    ax.axvline(0, color="0.4", linewidth=0.8)
    ax.set_xlim(-1.05, 1.05)
    ax.set_yticks(range(len(table)), [{**BEFORE, **AFTER}[name] for name in table.name])
    ax.invert_yaxis()
    ax.set_xlabel("rank correlation with retention")
    return Figure(
        "foresight",
        "What tells beforehand how much a merge keeps",
        "Spearman's ρ over pairs, with 95 % jackknife intervals over languages; ticks: single seeds. Filled: "
        "p < 0.05 after correction for the number of measures (permuting languages). Grey: needs the merged "
        "weights, on other sentences; how well the outcome repeats.",
        settle(drawing),
    )


def scatter_figure(pairs: pd.DataFrame, measures: Mapping[str, str]) -> Figure | None:
    """Retention of every pair against a few measures, coloured by the number of kinds in which it differs."""
    shown = [name for name in measures if name in pairs and pairs[name].notna().any()]
    if not shown:
        return None
    drawing, axes = panels(1, len(shown), min(TEXT, 2.2 * len(shown)), 2.4, sharey=True)
    for ax, measure in zip(axes.flat, shown, strict=True):
        for place, (size, here) in enumerate(pairs.groupby("size")):
            kinds = "twins" if size == 0 else f"{size} kind" + ("s" if size > 1 else "")
            look = {"color": colour(place), "marker": "*" if size == 0 else MARKERS[place % len(MARKERS)]}
            ax.scatter(here[measure], here.retention, s=60 if size == 0 else 12, label=kinds, **look)
        ax.set_xlabel(measures[measure])
    axes[0, 0].set_ylabel(RETENTION)
    handles, names = axes[0, 0].get_legend_handles_labels()
    drawing.legend(handles, names, loc="outside lower center", ncols=len(names))
    return Figure(
        "scatter",
        "The best measures before merging against what the merge keeps",
        f"Each point is a pair ({len(pairs)}), mean over seeds, by the number of kinds in which its languages "
        "differ; star: the twins.",
        settle(drawing),
    )


def fitted(outcome: np.ndarray, distances: Mapping[str, np.ndarray], pairs: pd.DataFrame) -> np.ndarray:
    """What the additive model says of each row of ``pairs``, which has a column for each kind."""
    found = dyads.slopes(outcome, distances)
    return np.asarray(found[0] + pairs[list(distances)].to_numpy(dtype=float) @ found[1:])
