"""Claims on representations and neurons, tested: those of One Model to Translate Them All? (arXiv 2604.02881)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from langmerge.reporting.errors import over_blocks, over_halves
from langmerge.reporting.load import Results
from langmerge.reporting.samples import arrow
from langmerge.reporting.table import interval, number
from langmerge.reporting.tables_models import KINDS, angles_of, cka_of, upper_layers
from langmerge.reporting.tables_units import ranking_name, unit_counts
from langmerge.reporting.verdicts import INCONCLUSIVE, NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED, Finding, untestable


def _pairs(results: Results, side: str, span: str) -> pd.DataFrame:
    """CKA between specialists of the group that starts with ``side``, at all layers."""
    table = cka_of(results)
    return table[table.group.str.startswith(side) & (table.span == span) & (table.pair == "specialist–specialist")]


def representations_part(results: Results) -> Finding:
    """P0-4."""
    pivot = results.pivot
    claim = (
        f"On the target side, specialists out of {pivot} differ in the last layer far more than specialists "
        f"into {pivot}; "
        "a third of the way up both agree (CKA above 0.95)."
    )
    if results.table("measurements/cka").empty:
        return untestable("P0-4", claim, "measurements of representations")
    out, into = _pairs(results, "from-", "target"), _pairs(results, "to-", "target")
    if out.empty or into.empty:
        return untestable("P0-4", claim, "measurements in both direction groups")
    last, third, error = [], [], []
    for table in (out, into):
        final = table[table.layer == table.layer.max()]
        last.append(final.cka.mean())
        error.append(final.standard_error.mean())
        third.append(table[table.layer == (table.layers / 3).round()].cka.mean())
    gap, half = last[1] - last[0], float(over_blocks(results, np.hypot(*error)))
    agree = min(third) > 0.95
    outcome = REPRODUCED if gap > half and agree else NOT_REPRODUCED if gap < -half else INCONCLUSIVE
    measured = (
        f"Last layer: {number(last[0], 3)} out of {pivot}, {number(last[1], 3)} into {pivot}, difference "
        f"{number(gap, 3)} "
        f"{interval(gap - half, gap + half, 3)}; at 1/3 depth {number(third[0], 3)} and {number(third[1], 3)}"
    )
    return Finding("P0-4", claim, measured, outcome)


def source_stays(results: Results) -> Finding:
    """P0-5."""
    claim = f"On the source side, specialists out of {results.pivot} stay alike (CKA above 0.90) in every layer."
    table = _pairs(results, "from-", "source") if not results.table("measurements/cka").empty else pd.DataFrame()
    if table.empty:
        return untestable("P0-5", claim, "measurements of representations")
    means = table.groupby(["model_a", "model_b", "layer"])[["cka", "standard_error"]].mean()
    place = int(means.cka.argmin())
    worst: Any = means.index[place]
    low, half = float(means.cka.iloc[place]), float(over_blocks(results, means.standard_error.iloc[place]))
    outcome = REPRODUCED if low - half > 0.9 else NOT_REPRODUCED if low + half < 0.9 else INCONCLUSIVE
    measured = (
        f"Lowest over pairs and layers: {number(low, 3)} {interval(low - half, low + half, 3)} "
        f"({worst[0]} and {worst[1]}, layer {worst[2]})"
    )
    return Finding("P0-5", claim, measured, outcome)


PAPER = "mount_doom"  # the paper's ranking; its thresholds are those of each model
_NEURONS = f"measurements of neurons by ranking {PAPER}"


def _paper_counts(results: Results) -> pd.DataFrame:
    """Selective neurons of the target side as the paper counts them, by layer and language."""
    counts = unit_counts(results, PAPER, frozen=False)
    return counts if counts.empty else counts[counts.span == "target"]


def neurons_at_the_ends(results: Results) -> Finding:
    """P0-6, by the paper's ranking."""
    claim = (
        "At least 70 % of the base's selective neurons (target side) lie in the first layer and the top 15 % of layers."
    )
    counts = _paper_counts(results)
    counts = counts[counts.model == "base"] if not counts.empty else counts
    if counts.empty:
        return untestable("P0-6", claim, _NEURONS)
    if not counts.units.any():
        return untestable("P0-6", claim, f"a base with neurons that are selective by ranking {PAPER}")
    group = counts.group.iloc[0]
    by_layer = counts[counts.group == group].groupby("layer").units.sum()
    depth = len(by_layer)
    ends = sorted({0, *range(depth - upper_layers(depth), depth)})
    share, chance = float(by_layer.iloc[ends].sum() / by_layer.sum()), len(ends) / depth
    # Among few layers the ends are most of the model: the claim says something only where chance is far below 70 %.
    outcome = NOT_TESTABLE if chance > 0.5 else REPRODUCED if share >= 0.7 else NOT_REPRODUCED
    measured = (
        f"{arrow(group, results.pivot)}: {number(100 * share)} % in {len(ends)} of {depth} layers (even spread: "
        f"{number(100 * chance)} %; n = {by_layer.sum():.0f} neurons, ranking {ranking_name(PAPER)})"
    )
    return Finding("P0-6", claim, measured, outcome)


def own_language_falls(results: Results) -> Finding:
    """P0-7, by the paper's ranking with thresholds of each model: those of other rankings fix the numbers."""
    claim = "Fine-tuning on a language lowers the number of neurons selective for it (target side)."
    counts = _paper_counts(results)
    if counts.empty:
        return untestable("P0-7", claim, _NEURONS)
    keys = ["group", "model", "language"]
    units = counts.groupby(["seed", *keys]).units.sum().groupby(level=keys).mean()
    totals = units.groupby(level=["group", "model"]).sum()
    falls, shares, n = 0, 0, 0
    for group in dict.fromkeys(counts.group):
        for code in results.languages:
            own = (group, results.direction(group, code))
            if (*own, code) not in units.index or (group, "base", code) not in units.index:
                continue
            n += 1
            falls += units[(*own, code)] < units[(group, "base", code)]
            shares += units[(*own, code)] / totals[own] < units[(group, "base", code)] / totals[(group, "base")]
    if not n:
        return untestable("P0-7", claim, "measurements of base and specialists")
    p = _sign_test(falls, n)
    outcome = INCONCLUSIVE if p >= 0.05 else REPRODUCED if falls > n / 2 else NOT_REPRODUCED
    measured = (
        f"By ranking {ranking_name(PAPER)}, fitted to each model, the number falls in {falls} of {n} specialists "
        f"(sign test p = {number(p, 3)}), its share of the total in {shares}"
    )
    return Finding("P0-7", claim, measured, outcome)


def angles_grow(results: Results) -> Finding:
    """P0-8: least-squares slope over the raw layers; the last one, after the final norm, is left out.

    What counts is the angle above its floor, that of twins which differ by the noise of half a sample: the raw angle
    also grows where deeper layers are merely noisier.
    """
    claim = "The median principal angle between specialists (target side) grows with depth."
    table = angles_of(results)
    if table.empty:
        return untestable("P0-8", claim, "measurements of principal angles")
    table = table[(table.span == "target") & (table.pair == KINDS[0]) & (table.layer < table.layers)]
    table = table.assign(excess=table.median_degrees - table.floor_degrees)
    slopes, halves, texts = [], [], []
    for group, here in table.groupby("group", sort=False):
        by_layer = here.groupby("layer")[["median_degrees", "excess", "standard_error"]].mean().dropna()
        if len(by_layer) < 2:
            continue
        layer = by_layer.index.to_numpy(dtype=float)
        weight = (layer - layer.mean()) / ((layer - layer.mean()) ** 2).sum()
        slopes.append(float(weight @ by_layer.excess))
        halves.append(float(over_halves(here, float(np.linalg.norm(weight * by_layer.standard_error)))))
        ends = interval(slopes[-1] - halves[-1], slopes[-1] + halves[-1], 2)
        first, last = (
            f"{number(by_layer.median_degrees.iloc[i])}° ({number(by_layer.excess.iloc[i])}° above its floor)"
            for i in (0, -1)
        )
        texts.append(
            f"{arrow(str(group), results.pivot)}: {first} at the embedding, {last} "
            f"at layer {layer[-1]:.0f}, slope of the excess {number(slopes[-1], 2)} {ends} degrees "
            "per layer"
        )
    if not slopes:
        return untestable("P0-8", claim, "two specialists, and two layers below the final norm with floors")
    above = [slope > half for slope, half in zip(slopes, halves, strict=True)]
    below = [slope < -half for slope, half in zip(slopes, halves, strict=True)]
    outcome = REPRODUCED if all(above) else NOT_REPRODUCED if any(below) else INCONCLUSIVE
    return Finding("P0-8", claim, "; ".join(texts), outcome)


def _sign_test(successes: int, n: int) -> float:
    """Two-sided exact p-value of a fair coin."""
    from scipy.stats import binomtest

    return float(binomtest(int(successes), n).pvalue)
