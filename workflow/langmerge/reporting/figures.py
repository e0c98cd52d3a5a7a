"""Figures of translation quality: retention, drift, grids, pairs, training. Pure: from results to a figure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from langmerge.reporting import samples
from langmerge.reporting.samples import METRICS, Sample, Scores, arrow, label
from langmerge.reporting.shares import drift_curve, pair_shares
from langmerge.reporting.tables_scores import test_set

STYLE = Path(__file__).with_name("style.mplstyle")
COLUMN, TEXT = 3.03, 6.3  # inches: widths of a column and of the text in ACL's style
MARKERS = "osD^vPX*"
DASHES = ("-", "--", "-.", ":")
HEAT: dict[str, Any] = {"cmap": "cividis", "edgecolors": "face", "linewidth": 0.3}  # edges: no hairlines between cells


@dataclass(frozen=True)
class Figure:
    """A drawing with its name and caption."""

    name: str
    title: str
    caption: str
    drawing: Drawing


@contextmanager
def style() -> Iterator[None]:
    """Draw inside this with the sizes and colours of :data:`STYLE`, whatever the user's own settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        plt.style.use(STYLE)
        yield


def panels(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple[Drawing, np.ndarray]:
    """A drawing with a grid of axes, never registered with pyplot (nothing to close)."""
    drawing = Drawing(figsize=(width, height), layout="constrained")
    return drawing, drawing.subplots(rows, columns, squeeze=False, **options)


def arranged(count: int) -> tuple[int, int]:
    """Rows and columns for so many panels: up to three stand in a row, more in rows of equal length."""
    rows = -(-count // 3)
    return rows, -(-count // rows)


def used(axes: np.ndarray, count: int) -> np.ndarray:
    """The first ``count`` axes of a grid, in one row; the others are taken out of the drawing."""
    for ax in axes.flat[count:]:
        ax.remove()
    return axes.flat[:count]


def colour(index: int) -> str:
    """The palette's colour ``index``, around."""
    cycle = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    return str(cycle[index % len(cycle)])


def _errors(found: list[Sample]) -> np.ndarray:
    """Lengths of error bars (2, n) from 95 % intervals; 0 where undefined."""
    ends = np.array([[s.point - s.interval[0], s.interval[1] - s.point] for s in found]).T
    return np.clip(np.nan_to_num(ends), 0, None)


def retention_figure(scores: Scores, metric: str = "bleu") -> Figure | None:
    """Kept share of the specialists' score, direction groups side by side, one panel a merge; None without merges."""
    r = scores.results
    names = list(dict.fromkeys(row.name for group in r.groups for row in scores.merges(group)))
    if not names:
        return None
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    ticks = [*r.languages, "mean"]
    with style():
        drawing, axes = panels(
            lines, columns, max(COLUMN, TEXT * columns / 3), 0.55 + 1.35 * lines, sharex=True, sharey=True
        )
        width = 0.8 / len(r.groups)
        for ax, name in zip(axes.flat, names, strict=False):
            for g, group in enumerate(r.groups):
                row = next((row for row in scores.merges(group) if row.name == name), None)
                if row is None:
                    continue
                found = [scores.retained(row, group, code, metric, samples.ratio) for code in r.languages]
                found.append(scores.retained_mean(row, group, metric, samples.ratio))
                places = np.arange(len(ticks)) + (g - (len(r.groups) - 1) / 2) * width
                ax.bar(
                    places,
                    np.nan_to_num([s.point for s in found]),
                    0.9 * width,
                    yerr=_errors(found),
                    color=colour(g),
                    hatch=(None, "//////")[g % 2],
                    edgecolor="white",
                    linewidth=0.4,
                    error_kw={"elinewidth": 0.7, "ecolor": "0.15"},
                    label=arrow(group, r.pivot),
                )
            ax.axhline(1, color="0.3", linewidth=0.7)
            ax.axvline(len(r.languages) - 0.5, color="0.75", linewidth=0.6)
            ax.set_title(label("merge", name))
            ax.set_xticks(range(len(ticks)), ticks)
            ax.grid(axis="x", visible=False)
        for ax in list(axes.flat)[len(names) :]:
            ax.set_visible(False)
        for column in range(columns):
            last = max(i for i in range(lines) if i * columns + column < len(names))
            axes[last, column].set_xlabel("language")
            axes[last, column].tick_params(labelbottom=True)
        axes[0, 0].set_ylim(bottom=0)  # shared
        for ax in axes[:, 0]:
            ax.set_ylabel(f"{METRICS[metric]}, merge / specialist")
        drawing.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(r.groups))
    return Figure(
        "retention",
        "What merges keep",
        f"{METRICS[metric]} of each merge over that of the specialist, per language and direction group, with "
        "95 % bootstrap "
        f"intervals; the line at 1 is the specialist. {test_set(scores)}.",
        drawing,
    )


def drift_figure(scores: Scores, metric: str = "bleu") -> Figure | None:
    """Kept share against how long (and how far) the merged specialists were fine-tuned; None without a drift curve."""
    r = scores.results
    curve = drift_curve(scores, metric)
    if curve.empty:
        return None
    groups = list(dict.fromkeys(curve.group))
    with style():
        drawing, axes = panels(1, len(groups), TEXT if len(groups) > 1 else COLUMN, 2.4, sharey=True)
        for ax, group in zip(axes.flat, groups, strict=True):
            here = curve[curve.group == group]
            for i, code in enumerate([*r.languages, "mean"]):
                line = here[here.language == code].sort_values("step")
                looks: dict[str, Any] = {"color": colour(i), "marker": MARKERS[i % len(MARKERS)]}
                if code == "mean":
                    looks = {"color": "black", "linewidth": 1.8, "marker": ""}
                    ax.fill_between(line.step, line.low, line.high, color="black", alpha=0.12, linewidth=0)
                ax.plot(line.step, line.value, label=code, **looks)
            ax.axhline(1, color="0.3", linewidth=0.7)
            ax.set_xscale("log")
            steps = sorted(set(here.step))
            norms = here.drop_duplicates("step").set_index("step").norm
            far = norms.notna().all()
            ax.set_xticks(steps, [f"{s}\n{norms[s]:.2g}" if far else str(s) for s in steps])
            ax.minorticks_off()
            ax.set_title(arrow(group, r.pivot))
            ax.set_xlabel(
                "steps of fine-tuning before the merge" + ("\n(below: norm of the task vectors)" if far else "")
            )
        axes[0, 0].set_ylim(bottom=0)  # shared
        axes[0, 0].set_ylabel(f"{METRICS[metric]}, merge / specialist")
        handles = axes[0, 0].get_legend_handles_labels()
        drawing.legend(*handles, loc="outside lower center", ncols=min(9, len(r.languages) + 1))
    method = label("merge", str(r.study["merging"]["drift"]["method"]))
    return Figure(
        "drift",
        "Fine-tuning strength and mergeability",
        f"{method} merge of the specialists' snapshots after so many steps, over the snapshot alone. Band: 95 "
        "% bootstrap interval "
        f"of the mean. {test_set(scores)}.",
        drawing,
    )


def grid_figure(scores: Scores) -> Figure | None:
    """Dev score over the grid of each tuned merge: one number that varies on x, a line per value of another."""
    r = scores.results
    if r.trials.empty:
        return None
    trials = r.trials.groupby(["group", "name", "seed", "trial"], sort=False).first().reset_index()
    names = list(dict.fromkeys(trials.name))
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    with style():
        drawing, axes = panels(lines * len(r.groups), columns, TEXT, 0.5 + 1.45 * lines * len(r.groups), sharey="row")
        for ax in axes.flat:
            ax.set_visible(False)
        for g, group in enumerate(r.groups):
            for k, name in enumerate(names):
                found = trials[(trials.group == group) & (trials.name == name)]
                if found.empty:
                    continue
                ax = axes[g * lines + k // columns, k % columns]
                ax.set_visible(True)
                _grid_panel(ax, pd.DataFrame(list(found.parameters)).assign(mean=found["mean"].to_numpy()))
                ax.set_title(f"{label('merge', name)}, {arrow(group, r.pivot)}")
                if k % columns == 0:
                    ax.set_ylabel(f"dev {METRICS[r.study['merging']['select_by']]}")
        for ax in axes[:, 0]:
            ax.set_ylim(bottom=0)  # shared by the row
    return Figure(
        "grid",
        "Dev score over the grids",
        "Mean over the languages of the direction"
        + (" and over seeds" if len(r.seeds) > 1 else "")
        + ". Ring: the highest. Chosen on dev only; the test set was not looked at.",
        drawing,
    )


def _grid_panel(ax: Axes, table: pd.DataFrame) -> None:
    numbers = [c for c in table.columns if c != "mean" and pd.api.types.is_numeric_dtype(table[c])]
    varied = [c for c in numbers if table[c].nunique() > 1 and not pd.api.types.is_bool_dtype(table[c])]
    varied = sorted(varied, key=lambda c: c != "scale")[:2]
    if not varied:
        return
    x, others = varied[0], varied[1:]
    mean = table.groupby(varied)["mean"].mean().reset_index()
    lines: list[tuple[Any, pd.DataFrame]] = list(mean.groupby(others[0])) if others else [(None, mean)]
    for i, (value, line) in enumerate(lines):
        ax.plot(
            line[x],
            line["mean"],
            color=colour(i),
            marker=MARKERS[i % len(MARKERS)],
            label=None if value is None else f"{value:g}",
        )
    best = mean.iloc[int(mean["mean"].argmax())]
    ax.plot(
        best[x], best["mean"], "o", markersize=8, markerfacecolor="none", markeredgecolor="black", markeredgewidth=0.8
    )
    ax.set_xlabel(x)
    ax.margins(x=0.12, y=0.12)
    if others:
        ax.legend(title=others[0], loc="best", handlelength=1.2, borderaxespad=0.2, labelspacing=0.2)


def training_figure(scores: Scores) -> Figure | None:
    """Training loss of base, specialists and joint models; None without logs."""
    r = scores.results
    if r.logs.empty:
        return None
    logs = r.logs[r.logs.seed == r.seeds[0]]
    parts: dict[str, list[str]] = {"base": ["base"]}
    for group in r.groups:
        parts[arrow(group, r.pivot)] = [*(r.direction(group, code) for code in r.languages), f"joint-{group}"]
    parts = {title: [n for n in names if n in set(logs.name)] for title, names in parts.items()}
    parts = {title: names for title, names in parts.items() if names}
    if not parts:
        return None
    with style():
        drawing, axes = panels(1, len(parts), TEXT if len(parts) > 1 else COLUMN, 2.1)
        for ax, (title, names) in zip(axes.flat, parts.items(), strict=True):
            for i, name in enumerate(names):
                run = logs[logs.name == name].sort_values("step")
                smooth = run.loss.ewm(span=max(1, len(run) // 30)).mean()
                joint = name.startswith("joint-")
                shown = "joint" if joint else name
                ax.plot(
                    run.step,
                    smooth,
                    label=shown,
                    color="black" if joint else colour(i),
                    linestyle="--" if joint else DASHES[0],
                    linewidth=0.9,
                )
            ax.set_title(title)
            ax.set_xlabel("step")
            ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            ax.set_ylim(bottom=0)
            if len(names) > 1:
                ax.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.24), handlelength=1.2, columnspacing=0.8)
        axes[0, 0].set_ylabel("loss (nats per token)")
    return Figure(
        "training",
        "Training",
        "Loss of the training batches, exponentially smoothed" + (f"; seed {r.seeds[0]}." if len(r.seeds) > 1 else "."),
        drawing,
    )


def pair_figure(scores: Scores, metric: str = "bleu") -> Figure | None:
    """Kept share of a language's score (row) in the merge with another one (column); None without merges of pairs."""
    r = scores.results
    shares = pair_shares(scores, metric)
    if shares.empty:
        return None
    shares = shares[(shares.language != "mean") & (shares.method == shares.method.iloc[0])]
    groups = list(dict.fromkeys(shares.group))
    n = len(r.languages)
    with style():
        side = max(1.7, 0.36 * n + 0.5)
        drawing, axes = panels(1, len(groups), min(TEXT, side * len(groups) + 1.3), side + 0.5)
        low, top = np.floor(10 * min(0.9, shares.value.min())) / 10, max(1.0, float(shares.value.max()))
        for ax, group in zip(axes.flat, groups, strict=True):
            table = shares[shares.group == group].pivot_table(index="language", columns="other", values="value")
            table = table.reindex(index=r.languages, columns=r.languages)
            image = ax.pcolormesh(range(n), range(n), table, vmin=low, vmax=top, **HEAT)
            ax.invert_yaxis()
            ax.set_aspect("equal")
            for i, j in np.ndindex(n, n):
                value = table.iloc[i, j]
                if np.isfinite(value):
                    ink = "white" if value - low < 0.55 * (top - low) else "black"
                    ax.text(j, i, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=7)
            ax.set_xticks(range(n), r.languages)
            ax.set_yticks(range(n), r.languages)
            ax.grid(visible=False)
            ax.spines[:].set_visible(False)
            ax.set_title(arrow(group, r.pivot))
            ax.set_xlabel("merged with")
        axes[0, 0].set_ylabel("language scored")
        drawing.colorbar(image, ax=list(axes.flat), label="merge / specialist", shrink=0.85)
    method = label("merge", str(shares.method.iloc[0]))
    return Figure(
        "pairs",
        "Merges of two specialists",
        f"{method}: share of the specialist's {METRICS[metric]} that its language keeps when the specialist is "
        "merged with that "
        f"of another. {test_set(scores)}.",
        drawing,
    )
