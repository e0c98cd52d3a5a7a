"""Figure of task vectors by layer: how far specialists moved, whether they agree, what a merge holds of them. Pure."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from langmerge.reporting.figures import COLUMN, DASHES, MARKERS, TEXT, Figure, colour, panels, style
from langmerge.reporting.load import Results
from langmerge.reporting.samples import arrow
from langmerge.reporting.tables_models import model_label
from langmerge.reporting.tables_weights import NUMBERS, aligned, language_means

EMBEDDING = -1  # its place on the layer axis
PANELS = {
    "drift": "change / weight",
    "cosine": "cosine with others",
    "sign_conflict": "sign conflict",
    "alignment": "alignment beyond null",
}


def weight_figure(results: Results) -> Figure | None:
    """Task vectors by layer, a row for each direction group, a column for each of :data:`PANELS`; None without them."""
    vectors, pairs = (_layers(results.table(f"weighing/{name}")) for name in ("task_vectors", "pairs"))
    if vectors.empty:
        return None
    subspaces = _layers(aligned(results.table("weighing/subspaces")))
    shown = {"drift": vectors, "cosine": pairs, "sign_conflict": pairs, "alignment": subspaces}
    shown = {name: table for name, table in shown.items() if len(_chosen(table, name))}
    groups = list(dict.fromkeys(vectors.group))
    with style():
        width = max(COLUMN, TEXT * len(shown) / len(PANELS))
        drawing, axes = panels(len(groups), len(shown), width, 0.75 + 1.55 * len(groups), sharex=True, sharey="col")
        for g, group in enumerate(groups):
            for ax, (name, table) in zip(axes[g], shown.items(), strict=True):
                here = _chosen(table, name)
                here = here[here.group == group]
                if name == "alignment":
                    _merges(ax, here)
                else:
                    _languages(ax, results, group, here)
                    _null(ax, here)
                ax.set_title(f"{PANELS[name]}, {arrow(group, results.pivot)}" if len(shown) < 3 else PANELS[name])
                _ticks(ax, table)
            axes[g, 0].set_ylabel(arrow(group, results.pivot))
        for ax in axes[-1]:
            ax.set_xlabel("layer")
        legend: dict[str, Any] = {}
        for ax in axes.flat:
            for handle, text in zip(*ax.get_legend_handles_labels(), strict=True):
                legend.setdefault(text, handle)
        drawing.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=min(8, len(legend)))
    return Figure(
        "task_vectors",
        "Task vectors by layer",
        "What fine-tuning changed in the weights of each layer (0 is the first; emb.: the embedding). From the left: "
        "norm of the change over that of the base's weights; mean cosine of a language's task vector with those of the "
        "others; share of opposite signs among the entries that TIES' trim keeps of two; subspace alignment ratio of "
        "the specialists in each merge, less that of a random subspace (mean over specialists and both sides of the "
        "matrices; merges that are multiples of each other coincide). Bands: spread, a 95 % interval over the layer's "
        "tensors or matrices (mean over pairs). Dotted: chance, for alignment what the mean of independent specialists "
        f"gives{_without_null(shown.get('alignment'))}." + (" Means over seeds." if len(results.seeds) > 1 else ""),
        drawing,
    )


def _without_null(alignment: pd.DataFrame | None) -> str:
    """What the caption says of alignments without a null: without one, membership alone looks like alignment."""
    if alignment is None or alignment.empty:
        return ""
    lacking = _chosen(alignment, "alignment").null.isna()
    return " (no null was drawn)" if lacking.all() else " (no null in some layers)" if lacking.any() else ""


def _layers(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of whole layers, and of the embedding as layer :data:`EMBEDDING`."""
    if table.empty:
        return table
    found = table[(table.scope == "layer") | ((table.scope == "module") & (table.module == "embed"))]
    return found.assign(layer=found.layer.where(found.scope == "layer", EMBEDDING).astype(int))


def _chosen(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of a panel."""
    if table.empty or name == "alignment":
        return table[table.relation == "in_merge"] if len(table) else table
    found = table[table.measure == name]
    return found[found.relation == "specialists"] if "relation" in found else found


def _languages(ax: Axes, results: Results, group: str, table: pd.DataFrame) -> None:
    """A line with a band for each language; where rows are of pairs, the mean over those with the language."""
    for i, code in enumerate(results.languages):
        line = language_means(table, results.direction(group, code), ["layer"]).sort_values("layer")
        _line(ax, line, color=colour(i), marker=MARKERS[i % len(MARKERS)], label=code)


def _merges(ax: Axes, table: pd.DataFrame) -> None:
    """A line with a band for each merge, in greys, and what independent specialists would give."""
    for i, name in enumerate(dict.fromkeys(table.model_b)):
        line = table[table.model_b == name].groupby("layer")[NUMBERS].mean().reset_index()
        looks: dict[str, Any] = {"marker": MARKERS[::-1][i % len(MARKERS)], "markerfacecolor": "white"}
        looks |= {"color": ("0.1", "0.55", "0.4")[i % 3], "linestyle": DASHES[i % len(DASHES)]}
        _line(ax, line, label=model_label(str(name)), **looks)
    _null(ax, table)


def _line(ax: Axes, line: pd.DataFrame, **looks: Any) -> None:
    """A line over the layers with its band; the embedding stands apart, as a point with a bar."""
    layers, apart = line[line.layer >= 0], line[line.layer < 0]
    ax.plot(layers.layer, layers.value, **looks)
    ax.fill_between(layers.layer, layers.low, layers.high, color=looks["color"], alpha=0.12, linewidth=0)
    if len(apart):
        point = {name: value for name, value in looks.items() if name != "label"}
        ax.plot(apart.layer, apart.value, **point | {"linestyle": ""})


def _null(ax: Axes, table: pd.DataFrame) -> None:
    chance = table[table.layer >= 0].groupby("layer").null.mean().dropna()
    if len(chance):
        ax.plot(chance.index, chance, color="0.25", linestyle=":", label="chance")


def _ticks(ax: Axes, table: pd.DataFrame) -> None:
    layers = sorted(set(table.layer) - {EMBEDDING})
    step = max(1, -(-len(layers) // 5))
    apart = EMBEDDING in set(table.layer)
    places = [*([EMBEDDING] if apart else []), *layers[::step]]
    ax.set_xticks(places, ["emb." if place == EMBEDDING else str(place) for place in places])
