"""Figures of the loss between models: lines, the plane of three models, overlaps of gradients and information. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from langmerge.reporting.figures import COLUMN, HEAT, TEXT, Figure, colour, panels, style
from langmerge.reporting.load import Results
from langmerge.reporting.samples import arrow
from langmerge.reporting.table import number
from langmerge.reporting.tables_models import model_label

MEAN = "mean"  # in the place of a language: all that were read at a point
ACROSS = 4  # panels beside each other
LEVELS = 12  # of the contours
CELLS = 6  # languages of a matrix whose numbers still fit into its cells
AXIS = "bits per byte"


def _specialists(results: Results, group: str) -> dict[str, str]:
    """Languages by the label of their specialist."""
    return {results.direction(group, code): code for code in results.languages}


def _outward(results: Results, line: pd.DataFrame, group: str) -> pd.DataFrame:
    """Losses in each language from its own specialist on: columns language, to (a model), step, loss, low, high.

    ``low`` and ``high`` move the loss by the interval of its rise above the chord.
    """
    own = _specialists(results, group)
    here = line[(line.group == group) & (line.language != MEAN)]
    parts = []
    for mine, other, turn in (("model_a", "model_b", False), ("model_b", "model_a", True)):
        found = here[here[mine].map(own) == here.language]
        chord = found.loss - found.excess
        part = {"language": found.language, "to": found[other], "step": 1 - found.a if turn else found.a}
        part |= {"loss": found.loss, "low": chord + found.low, "high": chord + found.high}
        parts.append(pd.DataFrame(part))
    keys = ["language", "to", "step"]
    return pd.concat(parts).groupby(keys, sort=False)[["loss", "low", "high"]].mean().reset_index()


def line_figure(results: Results) -> Figure | None:
    """Loss on the way from each specialist to the others: a panel for each language; None without a landscape."""
    line = results.table("landscape/line")
    if line.empty:
        return None
    shown = [(group, code) for group in dict.fromkeys(line.group) for code in results.languages]
    columns = min(ACROSS, len(results.languages))
    lines = -(-len(shown) // columns)
    with style():
        drawing, axes = panels(
            lines, columns, max(COLUMN, TEXT * columns / ACROSS), 0.7 + min(1.4 * lines, 7.6), sharex=True, sharey="row"
        )
        legend: dict[str, Any] = {}
        for ax, (group, code) in zip(axes.flat, shown, strict=False):
            found, own = _outward(results, line, group), _specialists(results, group)
            found = found[found.language == code]
            for model, way in found.sort_values("step").groupby("to", sort=False):
                other = own.get(str(model))
                look = colour(results.languages.index(other)) if other else "black"
                (drawn,) = ax.plot(way.step, way.loss, color=look, linestyle="-" if other else "--")
                ax.fill_between(way.step, way.low, way.high, color=look, alpha=0.2, linewidth=0)
                legend.setdefault(f"to {other}" if other else f"to {model_label(str(model)).lower()}", drawn)
            ax.set_title(f"loss in {code}, {arrow(group, results.pivot)}")
        for ax in list(axes.flat)[len(shown) :]:
            ax.set_visible(False)
        _bottom_labels(axes, "way from the specialist")
        for ax in axes[:, 0]:
            ax.set_ylabel(AXIS)
            ax.set_ylim(bottom=0)  # shared by the row
        axes[0, 0].set_xticks([0, 0.5, 1], ["0", "0.5", "1"])  # shared
        order = [*(f"to {code}" for code in results.languages), *legend]
        names = sorted(legend, key=order.index)
        drawing.legend([legend[name] for name in names], names, loc="outside lower center", ncols=min(9, len(names)))
    sentences = int(line[line.language != MEAN].n.max())
    return Figure(
        "lines",
        "Loss along the line between specialists",
        "Loss in a language on the straight line in weight space from its specialist (0) to another model (1); halfway "
        f"is the average of the two. A barrier would rise above the chord between the ends. Targets of {sentences} "
        f"sentences ({results.study['analysis']['split']}); bands: 95 % bootstrap intervals of the distance to that "
        "chord, each point by itself." + (" Means over seeds." if len(results.seeds) > 1 else ""),
        drawing,
    )


def _bottom_labels(axes: np.ndarray, text: str) -> None:
    """The label of x under the last visible panel of each column."""
    for column in axes.T:
        last = [ax for ax in column if ax.get_visible()][-1]
        last.set_xlabel(text)
        last.tick_params(labelbottom=True)


def plane_figure(results: Results) -> Figure | None:
    """Mean loss of the languages on the plane of three models, as filled contours; None without a plane."""
    plane = results.table("landscape/plane")
    if plane.empty:
        return None
    plane = plane[plane.seed == plane.seed.min()]
    groups = list(dict.fromkeys(plane.group))
    with style():
        drawing, axes = panels(1, len(groups), TEXT if len(groups) > 1 else COLUMN, 2.75)
        for ax, group in zip(axes.flat, groups, strict=True):
            here = plane[plane.group == group]
            means = here[here.language == MEAN] if (here.language == MEAN).any() else here
            points = means.groupby(["x", "y"]).loss.mean().reset_index()
            levels = np.geomspace(points.loss.min() * 0.999, points.loss.max() * 1.001, LEVELS)
            filled = ax.tricontourf(points.x, points.y, points.loss, levels=levels, cmap=HEAT["cmap"])
            ax.tricontour(points.x, points.y, points.loss, levels=levels, colors="white", linewidths=0.3)
            marked = means.dropna(subset="model")
            for model, x, y, loss in zip(marked.model, marked.x, marked.y, marked.loss, strict=True):
                ax.plot(x, y, "o", markersize=6, color="white", markeredgecolor="black", markeredgewidth=0.8)
                box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.8, "linewidth": 0}
                ax.annotate(
                    f"{model_label(model)} {loss:.2f}", (x, y), (0, 7), textcoords="offset points", ha="center",
                    fontsize=7, bbox=box,
                )  # fmt: skip
            pair = marked[marked.model != "base"]
            if len(pair) == 2:
                ax.plot(pair.x.mean(), pair.y.mean(), "x", color="white", markersize=5, markeredgewidth=1.4)
            ax.set_aspect("equal")
            ax.grid(visible=False)
            read = ", ".join(code for code in dict.fromkeys(here.language) if code != MEAN)
            ax.set_title(f"{arrow(group, results.pivot)}: mean over {read}")
            ax.set_xlabel("distance in weight space")
            bar = drawing.colorbar(filled, ax=ax, label=AXIS, shrink=0.85, format=lambda value, _: f"{value:.2g}")
            bar.set_ticks(levels[:: (LEVELS - 1) // 4].tolist())
            bar.ax.yaxis.set_minor_locator(NullLocator())
        axes[0, 0].set_ylabel("distance in weight space")
    seed = f" Seed {results.seeds[0]}." if len(results.seeds) > 1 else ""
    return Figure(
        "plane",
        "Loss on the plane of three models",
        "Mean loss of the languages at every point of the plane through the base and two specialists (circles, with "
        "their loss; cross: the average of the two specialists), interpolated between the points that were read; "
        f"logarithmic steps of colour.{seed}",
        drawing,
    )


@dataclass(frozen=True)
class Matrix:
    """A column of matrices: its title, the label of its colours, and where its numbers are."""

    title: str
    label: str
    table: str
    where: dict[str, str]


GRADIENTS = {"layer": "all", "measure": "cosine_half"}
FISHER = {"layer": "all", "measure": "overlap_half"}
MATRICES = (
    Matrix("cost of averaging", AXIS, "barriers", {"language": MEAN, "measure": "loss_of_merging"}),
    Matrix("gradients at the base", "cosine of halves", "gradients", GRADIENTS),
    Matrix("Fisher at the base", "overlap of halves", "fisher", {**FISHER, "at": "base"}),
    Matrix("Fisher at own weights", "overlap of halves", "fisher", {**FISHER, "at": "own"}),
)


def square(results: Results, matrix: Matrix, group: str) -> np.ndarray:
    """The numbers of one matrix, [language, language], symmetric; NaN where there is none."""
    table = results.table(f"landscape/{matrix.table}")
    found = np.full((len(results.languages),) * 2, np.nan)
    if table.empty:
        return found
    keep = table.group == group
    for column, value in matrix.where.items():
        keep &= table[column].astype(str) == value
    who = ["model_a", "model_b"] if "model_a" in table else ["language_a", "language_b"]
    codes = _specialists(results, group) | {code: code for code in results.languages}
    means = table[keep].groupby(who, sort=False).value.mean()
    places = {code: i for i, code in enumerate(results.languages)}
    for a, b, value in zip(*(means.index.get_level_values(name) for name in who), means, strict=True):
        if a in codes and b in codes:
            i, j = places[codes[a]], places[codes[b]]
            found[i, j] = found[j, i] = value
    return found


def matrix_figure(results: Results) -> Figure | None:
    """What averaging two specialists costs beside how alike their gradients and information are; None without them."""
    groups = [g for g in results.groups if any(np.isfinite(square(results, m, g)).any() for m in MATRICES)]
    shown = [m for m in MATRICES if any(np.isfinite(square(results, m, g)).any() for g in groups)]
    if not groups:
        return None
    with style():
        width = max(COLUMN, TEXT * len(shown) / ACROSS)
        drawing, axes = panels(len(groups), len(shown), width, 0.85 + 1.4 * len(groups))
        for k, matrix in enumerate(shown):
            tables = [square(results, matrix, group) for group in groups]
            low, high = float(np.nanmin(tables)), float(np.nanmax(tables))
            for ax, group, table in zip(axes[:, k], groups, tables, strict=True):
                image = _heat(ax, table, low, high, results.languages)
                ax.set_title(matrix.title)
                if k == 0:
                    ax.set_ylabel(arrow(group, results.pivot))
            axes[-1, k].set_xlabel("language")
            bar = drawing.colorbar(image, ax=list(axes[:, k]), location="bottom", label=matrix.label, aspect=18)
            bar.ax.xaxis.set_major_locator(MaxNLocator(3))
    gradients, fisher = (results.table(f"landscape/{name}") for name in ("gradients", "fisher"))
    chance = ["gradients 0"] if len(gradients) else []
    if len(fisher):
        null = (
            fisher[(fisher.layer.astype(str) == "all") & (fisher.measure == "overlap_half")].groupby("at").null.mean()
        )
        texts = {"base": "at the base", "own": "at the specialists' own weights"}
        parts = ", ".join(f"{null[at]:.2f} {text}" for at, text in texts.items() if at in null)
        chance.append(f"overlap with permuted entries {parts}")
    sentences = "" if gradients.empty else f" n = {int(gradients.n.max())} sentences for gradients."
    return Figure(
        "pairs_inside",
        "Pairs of languages: cost of averaging, gradients, Fisher information",
        "From the left: loss halfway between two specialists less that of the better end, mean of both languages; "
        "cosine of two languages' gradients; overlap of their diagonal Fisher information (root, cosine). The last are "
        "between one language's odd and the other's even sentences, so that the diagonal (one language's two halves) "
        "is about the most that this many sentences let two languages reach; near chance it leaves nothing to say. "
        f"Chance: {'; '.join(chance)}.{sentences}",
        drawing,
    )


def _heat(ax: Axes, table: np.ndarray, low: float, high: float, languages: list[str]) -> Any:
    n = len(languages)
    image = ax.pcolormesh(range(n), range(n), table, vmin=low, vmax=high, **HEAT)
    ax.invert_yaxis()
    ax.set_aspect("equal")
    decimals = 2 if high - low > 0.1 else 3
    for i, j in np.ndindex(n, n) if n <= CELLS else ():
        if np.isfinite(table[i, j]):
            ink = "white" if table[i, j] < low + 0.55 * (high - low) else "black"
            text = number(float(table[i, j]), decimals).replace("0.", ".", 1)
            ax.text(j, i, text, ha="center", va="center", color=ink, fontsize=6.5)
    ax.set_xticks(range(n), languages)
    ax.set_yticks(range(n), languages)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    return image
