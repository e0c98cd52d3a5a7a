"""Figures of a study of growth: curves over FLOPs and tokens, forgetting, and merges by number and by subset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import EngFormatter

from langmerge.reporting.figures import DASHES, MARKERS, TEXT, Figure, colour, panels
from langmerge.reporting.samples import Sample
from langmerge.reporting.studies.figures import matrix_figure
from langmerge.reporting.studies.growth_measures import LABELS, Measures, Point
from langmerge.reporting.studies.growth_measures import TEXT as TASK
from langmerge.reporting.studies.results import MAIN, METRICS
from langmerge.reporting.studies.tables import counted, method_label

AXES: dict[str, Callable[[Point], float]] = {
    "tokens of the language": lambda point: point.tokens,
    "FLOPs": lambda point: point.flops,
    "FLOPs, with the source's": lambda point: point.total,
}
BAND = "Bands: 95 % bootstrap intervals."


def _line(ax: Axes, place: int, x: Sequence[float], found: Sequence[Sample], label: str) -> None:
    low, high = zip(*(sample.interval for sample in found), strict=True)
    look: dict[str, Any] = {
        "color": colour(place),
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": DASHES[place % len(DASHES)],
    }
    ax.plot(x, [sample.point for sample in found], label=label, **look)
    ax.fill_between(x, low, high, color=colour(place), alpha=0.18, linewidth=0)


def _ticks(values: Sequence[float]) -> list[float]:
    """At most four numbers of one digit, evenly spread over a logarithmic axis that holds these values.

    None is nearer to the one before than a quarter of the axis, where their labels would touch.
    """
    low, high = min(values), max(values)
    kept: list[float] = []
    for value in (float(f"{value:.1g}") for value in np.geomspace(low, high, 4)):
        if low <= value <= high and (not kept or value >= kept[-1] * (high / low) ** 0.25):
            kept.append(value)
    return kept or [low]


def _legend(drawing: Drawing, ax: Axes) -> None:
    handles, names = ax.get_legend_handles_labels()
    drawing.legend(handles, names, loc="outside upper center", ncols=min(6, len(names)))


def curve_figure(measures: Measures) -> Figure | None:
    """Score in each language over tokens, over FLOPs, and over FLOPs with the source's own; None without snapshots."""
    languages, setups = measures.languages, measures.setups
    if not any(len(measures.curve(setup, code)) > 2 for setup in setups for code in languages):
        return None
    drawing, axes = panels(len(AXES), len(languages), TEXT, 0.5 + 1.55 * len(AXES), sharey="col")
    for row, (title, axis) in enumerate(AXES.items()):
        for ax, code in zip(axes[row], languages, strict=True):
            for place, setup in enumerate(setups):
                # On a logarithmic axis there is no place for what has spent nothing
                points = [point for point in measures.curve(setup, code) if axis(point) > 0]
                found = [measures.score(list(point.systems), [code]) for point in points]
                _line(ax, place, [axis(point) for point in points], found, LABELS[setup])
            ax.set_xscale("log")
            ax.set_xticks(_ticks([x for line in ax.lines for x in line.get_xdata()]))
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))
            ax.minorticks_off()
            if row == 0:
                ax.set_title(code)
            ax.set_xlabel(title if len(title) < 12 or len(languages) < 4 else title.replace(", ", ",\n"))
        axes[row, 0].set_ylabel(METRICS[MAIN[TASK]])
    _legend(drawing, axes[0, 0])
    return Figure(
        "curves",
        "Learning a language, by tokens and by compute",
        "Bits per byte in the language that is learnt against tokens, against the FLOPs of continued pre-training, and "
        f"against these with all FLOPs that made the source (logarithmic). {counted(measures.results, TASK)}. {BAND}",
        drawing,
    )


def forgetting_figure(measures: Measures) -> Figure | None:
    """Score in the pivot over the tokens of each language; None without snapshots."""
    languages, pivot = measures.languages, measures.pivot
    if not any(len(measures.curve(setup, code)) > 2 for setup in measures.setups for code in languages):
        return None
    drawing, axes = panels(1, len(languages), TEXT, 1.9, sharey=True)
    for ax, code in zip(axes[0], languages, strict=True):
        for place, setup in enumerate(measures.setups):
            points = measures.curve(setup, code)
            found = [measures.score(list(point.systems), [pivot]) for point in points]
            _line(ax, place, [point.tokens for point in points], found, LABELS[setup])
        ax.set_title(f"learning {code}")
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        ax.set_xlabel("tokens")
    axes[0, 0].set_ylabel(f"{pivot} ({METRICS[MAIN[TASK]]})")
    _legend(drawing, axes[0, 0])
    return Figure(
        "forgetting",
        f"What is forgotten of {pivot}",
        f"Bits per byte in {pivot} while a language is learnt; at 0 the source. "
        f"{counted(measures.results, TASK)}. {BAND}",
        drawing,
    )


def number_figure(measures: Measures) -> Figure | None:
    """What merges lose against their specialists, by the number of models; a panel each setup; None for one number."""
    if len(measures.sizes) < 2:
        return None
    drawing, axes = panels(1, len(measures.setups), TEXT, 2.1, sharey=True)
    for ax, setup in zip(axes[0], measures.setups, strict=True):
        for place, method in enumerate(measures.methods):
            found = [measures.size_loss(setup, method, size) for size in measures.sizes]
            _line(ax, place, measures.sizes, found, method_label(method))
        ax.set_title(LABELS[setup])
        ax.set_xlabel("models merged")
        ax.set_xticks(measures.sizes)
    axes[0, 0].set_ylabel("loss by merging (bits/byte)")
    _legend(drawing, axes[0, 0])
    return Figure(
        "number",
        "Merges by number of models",
        "Bits per byte that a merge loses against the specialists it is made of, each in its language; mean over all "
        f"subsets of the languages of that size. {counted(measures.results, TASK)}. {BAND}",
        drawing,
    )


def subset_figure(measures: Measures, method: str) -> Figure | None:
    """Heat map: what the merge of each subset loses in each of its languages; None without merges."""
    matrices = {}
    for setup in measures.setups:
        rows = {
            "+".join(languages): {
                code: measures.merge_loss(setup, systems, [code]).point if code in languages else np.nan
                for code in measures.languages
            }
            for size in measures.sizes
            for languages, systems in measures.merges(setup, method, size).items()
        }
        matrices[LABELS[setup]] = pd.DataFrame.from_dict(rows, orient="index", columns=measures.languages)
    if not matrices or any(matrix.empty for matrix in matrices.values()):
        return None
    return matrix_figure(
        "subsets",
        f"Every subset of the languages, merged ({method_label(method)})",
        "Bits per byte that the merge of a subset (row) loses against the specialist of a language (column). "
        f"{counted(measures.results, TASK)}.",
        matrices,
        "loss (bits/byte)",
    )
