"""Figure of pairs of models by layer: usage of neurons. Pure."""

from __future__ import annotations

from langmerge.reporting.figures import COLUMN, DASHES, MARKERS, TEXT, Figure, colour, panels, style
from langmerge.reporting.load import Results
from langmerge.reporting.samples import arrow
from langmerge.reporting.tables_models import KINDS, pair_kinds
from langmerge.reporting.tables_units import sentences_note


def usage_figure(results: Results) -> Figure | None:
    """Neuron usage alignment by layer, a panel for each direction group, lines for kinds of pairs; None without it."""
    usage = results.table("measurements/usage")
    if usage.empty:
        return None
    table = usage.assign(pair=pair_kinds(results, usage))
    groups, spans = list(dict.fromkeys(table.group)), list(dict.fromkeys(table.span))
    with style():
        drawing, axes = panels(1, len(groups), TEXT if len(groups) > 1 else COLUMN, 2.1, sharey=True)
        for ax, group in zip(axes.flat, groups, strict=True):
            for k, kind in enumerate(KINDS):
                for s, span in enumerate(spans):
                    chosen = table[(table.group == group) & (table.pair == kind) & (table.span == span)]
                    if chosen.empty:
                        continue
                    mean = chosen.groupby("layer")[["nua", "low", "high"]].mean()
                    looks = {"color": colour(k), "linestyle": DASHES[s % 2], "marker": MARKERS[k]}
                    ax.plot(mean.index, mean.nua, label=f"{kind}, {span}", **looks)
                    ax.fill_between(mean.index, mean.low, mean.high, color=colour(k), alpha=0.13, linewidth=0)
            ax.set_title(arrow(group, results.pivot))
            ax.set_xlabel("MLP layer")
            ax.xaxis.get_major_locator().set_params(integer=True)
        axes[0, 0].set_ylabel("cosine of firing rates")
        drawing.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return Figure(
        "usage",
        "Alignment of neuron usage by layer",
        "Cosine of two models' vectors of firing probabilities (mean over languages), mean over pairs of models. "
        f"Bands: 95 % delete-one-block jackknife of one pair (mean), {sentences_note(results)}.",
        drawing,
    )
