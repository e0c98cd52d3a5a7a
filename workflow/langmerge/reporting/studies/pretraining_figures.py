"""Figures of a study of pre-training."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from langmerge.reporting.figures import COLUMN, MARKERS, TEXT, Figure, colour, panels
from langmerge.reporting.studies.figures import matrix_figure
from langmerge.reporting.studies.pretraining_measures import association, branch_points, pair_damage
from langmerge.reporting.studies.results import Samples
from langmerge.reporting.studies.tables import method_label
from langmerge.reporting.table import interval, number


def branch_figure(samples: Samples) -> Figure | None:
    """Damage of the merge against the share of steps before the branches."""
    points = branch_points(samples)
    if len(points) < 2:
        return None
    several = samples.results.seeds if len(samples.results.seeds) > 1 else []
    alone = [branch_points(samples.of_seed(seed)) for seed in several]
    drawing, axes = panels(1, 1, COLUMN, 2.2)
    ax = axes[0, 0]
    for place, method in enumerate(next(iter(points.values()))):
        found = {share: by_method[method] for share, by_method in points.items()}
        low, high = zip(*(sample.interval for sample in found.values()), strict=True)
        look = {"color": colour(place), "marker": MARKERS[place % len(MARKERS)]}
        shares = [100 * share for share in found]
        ax.plot(shares, [sample.point for sample in found.values()], label=method_label(method), **look)
        ax.fill_between(shares, low, high, color=colour(place), alpha=0.2, linewidth=0)
        for one in alone:
            ax.plot(shares, [one[share][method].point for share in found], color=colour(place), linewidth=0.5)
    ax.axhline(0, color="0.4", linewidth=0.8)
    ax.set_xlabel("mixed steps before the branches (%)")
    ax.set_ylabel("loss by merging (bits/byte)")
    ax.legend()
    seeds = " and seeds (thin lines: each seed)" if alone else ""
    return Figure(
        "branches",
        "Merge damage by branch point",
        f"Bits per byte that the merge of all branches loses against each branch in its language, mean over languages"
        f"{seeds}; band: 95 % bootstrap interval. At 0 % the branches are monolingual models from shared weights.",
        drawing,
    )


def scatter_figure(table: pd.DataFrame, measures: Mapping[str, str], labels: Mapping[str, str]) -> Figure | None:
    """Damage of pair merges against measures taken before merging, one panel a measure; ``labels`` of the groups."""
    shown = [name for name in measures if name in table and table[name].notna().sum() > 3]
    if not shown:
        return None
    drawing, axes = panels(1, len(shown), min(TEXT, 2.1 * len(shown)), 2.3, sharey=True)
    for ax, measure in zip(axes.flat, shown, strict=True):
        for group, rows_ in table.groupby("group", sort=False):
            place = list(labels).index(str(group))
            style = {"color": colour(place), "marker": MARKERS[place % len(MARKERS)]}
            ax.scatter(rows_[measure], rows_.damage, s=14, label=labels[str(group)], **style)
        rho, low, high = association(table, measure)
        ax.set_title(f"ρ = {number(rho, 2)} {interval(low, high, 2)}")
        ax.set_xlabel(measures[measure])
    axes[0, 0].set_ylabel("loss by merging (bits/byte)")
    handles, names = axes[0, 0].get_legend_handles_labels()
    drawing.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)))
    return Figure(
        "similarity",
        "Similarity before merging against damage after it",
        "Each point is a pair of models of a seed, averaged by the linear method. Spearman's ρ over all pairs with its "
        "95 % jackknife interval, leaving out the pairs of one initialisation or branch point of a seed at a time.",
        drawing,
    )


def pair_figure(samples: Samples, labels: Mapping[str, str]) -> Figure | None:
    """Heat maps of pair merges: mean loss of both languages against their own models; groups of ``labels``."""
    results = samples.results
    table = pair_damage(samples)
    if table.empty:
        return None
    matrices = {}
    for group, rows_ in table[table.group.isin(labels)].groupby("group", sort=False):
        matrix = pd.DataFrame(np.nan, index=results.languages, columns=results.languages)
        for pair, value in rows_.groupby("pair").damage.mean().items():
            a, b = str(pair).split("–")
            matrix.loc[a, b] = matrix.loc[b, a] = value
        matrices[labels[str(group)]] = matrix
    caption = "Bits per byte that the average of two models loses against each in its language, mean of both"
    caption += f" and of {len(results.seeds)} seeds." if len(results.seeds) > 1 else "."
    return matrix_figure("pairs", "Merges of two models", caption, matrices, "loss (bits/byte)")
