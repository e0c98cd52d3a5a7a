"""Figures of the report on maintenance: language vectors, costs, densities. Pure: from results to a figure."""

from __future__ import annotations

import numpy as np
import pandas as pd

from langmerge.reporting.figures import COLUMN, DASHES, MARKERS, TEXT, Figure, arranged, colour, panels, used
from langmerge.reporting.studies.figures import matrix_figure
from langmerge.reporting.studies.maintenance_costs import SCENARIOS, WAYS
from langmerge.reporting.studies.maintenance_measures import (
    INITIAL,
    LEAD,
    PERMUTATIONS,
    View,
    association,
    cosines,
    label,
    vector_table,
)
from langmerge.reporting.studies.results import METRICS
from langmerge.reporting.studies.tables import counted
from langmerge.reporting.table import number, p_words

SHOWN = {"work": "work", "wall": "wall-clock", "flops": "FLOPs"}
RECIPES = ("TIES", "DARE-TIES", "DARE-TIES-SVD")


def cosine_figure(view: View) -> Figure | None:
    """F1: cosines of the language vectors, a heat map for each task and tuning."""
    found = cosines(view)
    if not found:
        return None
    matrices = {}
    for group, matrix in found.items():
        values = matrix.to_numpy().copy()
        np.fill_diagonal(values, np.nan)
        matrices[view.title(group).replace(", ", "\n")] = pd.DataFrame(values, matrix.index, matrix.columns)
    seeds = len(view.results.seeds)
    caption = (
        "Cosine of what fine-tuning changed in the base's weights (of all weights as one vector) between the "
        f"specialists of two languages, {'one seed' if seeds == 1 else f'mean of {seeds} seeds'}. 0: the "
        "changes are orthogonal."
    )
    return matrix_figure("cosines", "Language vectors", caption, matrices, "cosine")


def cost_figure(costs: pd.DataFrame, workers: int) -> Figure | None:
    """F2: cost of every way relative to training all together, a panel for each scenario."""
    scenarios = [name for name in SCENARIOS if (costs.scenario == name).any()]
    if not scenarios:
        return None
    drawing, axes = panels(1, len(scenarios), TEXT, 2.3, sharey=True)
    ways = [way for way in WAYS if (costs.way == way).any()]
    for ax, scenario in zip(axes.flat, scenarios, strict=True):
        here = costs[costs.scenario == scenario]
        for place, quantity in enumerate(SHOWN):
            by_way = here.groupby("way")[f"{quantity}_ratio"].agg(["mean", "min", "max"])
            known = [(y, by_way.loc[way]) for y, way in enumerate(ways) if way in by_way.index]
            heights = [y + 0.26 * (place - 1) for y, _ in known]
            means = np.array([row["mean"] for _, row in known])
            reach = np.array([[row["mean"] - row["min"], row["max"] - row["mean"]] for _, row in known]).T
            ax.barh(heights, means, 0.26, color=colour(place), label=SHOWN[quantity], xerr=reach, error_kw={"lw": 0.7})
        ax.axvline(1, color="0.4", linewidth=0.8, linestyle=":")
        ax.set_title(SCENARIOS[scenario])
        ax.set_xticks([0, 0.5, 1])
        ax.set_xlabel("ratio to training all together")
    axes[0, 0].set_yticks(range(len(ways)), [WAYS[way] for way in ways])
    axes[0, 0].invert_yaxis()
    handles, names = axes[0, 0].get_legend_handles_labels()
    drawing.legend(handles, names, loc="outside lower center", ncols=3)
    return Figure(
        "costs",
        "Cost of building, updating and adding",
        f"Measured, relative to training all together on {workers} workers; bars: mean, lines: range over tasks, "
        "tunings and seeds. Work is CPU time (on GPUs: GPU time); wall-clock is that of trainings scheduled on the "
        f"same {workers} workers. Merges: {label(LEAD)}; their FLOPs are not counted. No bar: "
        "the way does not apply.",
        drawing,
    )


def density_figure(view: View) -> Figure | None:
    """F3: score of merges against their density, a panel for each task and tuning."""
    densities = sorted(view.results.study["densities"])
    groups = [group for group in view.groups if view.keys(group, role="density")]
    if len(densities) < 2 or not groups:
        return None
    rows, columns = arranged(len(groups))
    drawing, axes = panels(rows, columns, min(TEXT, max(COLUMN + 0.6, 0.4 + 1.9 * columns)), 0.4 + 1.8 * rows)
    for ax, group in zip(used(axes, len(groups)), groups, strict=True):
        for place, recipe in enumerate(RECIPES):
            found = [view.average(group, role="density", recipe=recipe, density=d) for d in densities]
            low, high = zip(*(sample.interval for sample in found), strict=True)
            look = {"color": colour(place), "marker": MARKERS[place], "linestyle": DASHES[place]}
            ax.plot(densities, [sample.point for sample in found], label=recipe, markersize=3, **look)
            ax.fill_between(densities, low, high, color=colour(place), alpha=0.12, linewidth=0)
        combined = view.average(group, role="combined", scenario=INITIAL)
        ax.axhline(combined.point, color="0.3", linewidth=0.9, linestyle="--", label="combined")
        ax.set_title(view.title(group).replace(", ", "\n"))
        ax.set_xlabel("density")
        ax.set_ylabel(METRICS[view.metric(group)])
    handles, names = axes[0, 0].get_legend_handles_labels()
    drawing.legend(handles, names, loc="outside lower center", ncols=4)
    return Figure(
        "densities",
        "Score by density",
        "Mean over languages on test, scale 1; bands: 95 % bootstrap intervals. Density: share of each change that the "
        "trim keeps (TIES), or probability of keeping an entry (DARE-TIES, which drops at random and then trims "
        "nothing; with the SVD, in the common singular basis).",
        drawing,
    )


def gap_figure(view: View) -> Figure | None:
    """F4: what merging loses in a language against the mean cosine of its vector with the others."""
    table = vector_table(view)
    if len(table) < 4:
        return None
    groups = list(dict.fromkeys(table.group))
    rows, columns = arranged(len(groups))
    drawing, axes = panels(rows, columns, min(TEXT, max(COLUMN, 2.1 * columns)), 0.3 + 1.9 * rows, sharey=True)
    for place, (ax, group) in enumerate(zip(used(axes, len(groups)), groups, strict=True)):
        here = table[table.group == group]
        reach = np.clip(np.array([here.gap - here.low, here.high - here.gap]), 0, None)
        style = {"color": colour(place), "fmt": MARKERS[place % len(MARKERS)]}
        ax.errorbar(here.cosine, here.gap, reach, markersize=4, elinewidth=0.6, **style)
        for row in here.to_dict("records"):
            ax.annotate(row["language"], (row["cosine"], row["gap"]), (3, 2), textcoords="offset points", fontsize=6.5)
        ax.axhline(0, color="0.4", linewidth=0.8)
        ax.margins(x=0.15)
        ax.locator_params(axis="x", nbins=4)
        ax.set_title(view.title(str(group)).replace(", ", "\n"))
    rho, p = association(table)
    drawing.supxlabel("mean cosine with the others", fontsize="medium")
    drawing.supylabel("merged − combined (points)", fontsize="medium")
    found = (
        f" Rank correlation within tasks {number(rho, 2)}, {p_words(p)} ({PERMUTATIONS} permutations)."
        if rho == rho
        else ""
    )
    tasks = "; ".join(dict.fromkeys(counted(view.results, view.tasks[g][0]) for g in table.group.unique()))
    return Figure(
        "gaps",
        "Language vectors and what merging loses",
        f"Each point is a language of a task: {label(LEAD)} against the combined model, with 95 % bootstrap intervals "
        f"({tasks}).{found} The horizontal scales differ.",
        drawing,
    )
