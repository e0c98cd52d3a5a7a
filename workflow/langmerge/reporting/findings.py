"""What the paper claims, what was measured here, and whether the two agree.

The claims are those of One Model to Translate Them All? (arXiv 2604.02881) that can be put as a direction of a number.
A claim is *reproduced* if the number points its way and its interval, where it has one, excludes the opposite; *not
reproduced* if it points the other way as clearly; *inconclusive* in between; *not testable here* if the study did not
measure it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from langmerge.reporting import samples
from langmerge.reporting.errors import over_blocks, over_halves
from langmerge.reporting.load import Results
from langmerge.reporting.samples import METRICS, Row, Sample, Scores, arrow
from langmerge.reporting.shares import MEAN, drift_shares, drift_steps, patched
from langmerge.reporting.table import Table, cells, interval, number
from langmerge.reporting.tables_models import KINDS, angles_of, cka_of, upper_layers
from langmerge.reporting.tables_units import ranking_name, unit_counts

REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
INCONCLUSIVE, NOT_TESTABLE = "inconclusive", "not testable here"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE, NOT_TESTABLE)


@dataclass(frozen=True)
class Finding:
    """A claim, the measurement in words with number and interval, and the verdict."""

    name: str
    claim: str
    measured: str
    verdict: str


def verdict(*differences: Sample) -> str:
    """Of a claim that all of some differences are positive."""
    defined = [d for d in differences if np.isfinite(d.point)]
    if not defined:
        return NOT_TESTABLE
    if all(d.above for d in defined):
        return REPRODUCED
    return NOT_REPRODUCED if any(d.below for d in defined) else INCONCLUSIVE


def _text(sample: Sample, decimals: int = 1) -> str:
    return f"{number(sample.point, decimals)} {interval(*sample.interval, decimals)}"


def find(scores: Scores, metric: str = "bleu") -> list[Finding]:
    """All findings, in the order of the claims."""
    r = scores.results
    return [
        merging_costs(scores, metric),
        asymmetry(scores, metric),
        joint_is_better(scores, metric),
        representations_part(r),
        source_stays(r),
        neurons_at_the_ends(r),
        own_language_falls(r),
        angles_grow(r),
        patch_helps(scores, metric),
        scale_has_optimum(r),
        drift_hurts(scores, metric),
    ]


# ---- scores --------------------------------------------------------------------------------------------------------


def _untestable(name: str, claim: str, missing: str) -> Finding:
    return Finding(name, claim, f"Needs {missing}, which the study does not have.", NOT_TESTABLE)


def merging_costs(scores: Scores, metric: str) -> Finding:
    """P0-1."""
    claim = "Merges score below the specialists on average, in both directions."
    parts, texts = [], []
    for group in scores.results.groups:
        best, specialist = scores.best_merge(group, metric), scores.row(group, "specialist")
        if best and specialist:
            loss = scores.average(specialist, group, metric) - scores.average(best, group, metric)
            parts.append(loss)
            texts.append(
                f"{arrow(group, scores.results.pivot)}: specialists "
                f"{number(scores.average(specialist, group, metric).point)}, "
                f"best merge ({best.label}) {number(scores.average(best, group, metric).point)} {METRICS[metric]}, "
                f"loss {_text(loss)}"
            )
    if len(parts) == 1:
        texts.append("the study has no other direction group")
    return Finding("P0-1", claim, "; ".join(texts), verdict(*parts)) if parts else _untestable("P0-1", claim, "merges")


def asymmetry(scores: Scores, metric: str) -> Finding:
    """P0-2: the mean over methods of the kept share, into the pivot less out of it."""
    pivot = scores.results.pivot
    claim = f"Merging costs a larger share out of {pivot} than into {pivot} (same languages, same method)."
    groups = {group.partition("-")[0]: group for group in scores.results.groups}
    by_group: dict[str, dict[str, Row]] = {
        side: {row.name: row for row in scores.merges(group)} for side, group in groups.items()
    }
    if set(groups) != {"from", "to"} or not by_group["from"] or not by_group["to"]:
        return _untestable("P0-2", claim, "merges in both direction groups")
    shared = [name for name in by_group["from"] if name in by_group["to"]]
    kept = {
        side: samples.mean(
            scores.retained_mean(by_group[side][name], groups[side], metric, samples.ratio) for name in shared
        )
        for side in groups
    }
    difference = kept["to"] - kept["from"]
    if not np.isfinite(difference.point):
        return Finding("P0-2", claim, f"Not defined: specialists score 0 {METRICS[metric]}.", NOT_TESTABLE)
    measured = (
        f"Mean over {len(shared)} methods: merges keep {_text(kept['from'], 2)} of the specialists' {METRICS[metric]} "
        f"{arrow(groups['from'], pivot)} and {_text(kept['to'], 2)} {arrow(groups['to'], pivot)}; difference "
        f"{_text(difference, 2)}"
    )
    return Finding("P0-2", claim, measured, verdict(difference))


def joint_is_better(scores: Scores, metric: str) -> Finding:
    """P0-3."""
    claim = "The best merge stays below the joint model."
    parts, texts = [], []
    for group in scores.results.groups:
        best, joint = scores.best_merge(group, metric), scores.row(group, "joint")
        if best and joint:
            lead = scores.average(joint, group, metric) - scores.average(best, group, metric)
            parts.append(lead)
            texts.append(
                f"{arrow(group, scores.results.pivot)}: joint minus best merge ({best.label}) {_text(lead)} "
                f"{METRICS[metric]}"
            )
    return (
        Finding("P0-3", claim, "; ".join(texts), verdict(*parts))
        if parts
        else _untestable("P0-3", claim, "a joint model")
    )


def patch_helps(scores: Scores, metric: str) -> Finding:
    """P0-9."""
    claim = "Restoring the specialist's last layers recovers more than restoring as many random lower ones."
    systems = scores.results.systems
    patches = systems[systems.role == "patch"]
    parts, texts = [], []
    for group, onto in dict.fromkeys(zip(patches.group, patches.onto, strict=True)):
        gains = [
            patched(scores, group, onto, "last", code, metric) - patched(scores, group, onto, "random", code, metric)
            for code in scores.results.languages
        ]
        parts.append(samples.mean(gains))
        name = samples.label("merge", onto)
        texts.append(
            f"{arrow(group, scores.results.pivot)} on {name}: last minus random {_text(parts[-1])} {METRICS[metric]}"
        )
    return (
        Finding("P0-9", claim, "; ".join(texts), verdict(*parts))
        if parts
        else _untestable("P0-9", claim, "a layer patch")
    )


def drift_hurts(scores: Scores, metric: str) -> Finding:
    """Our own question: does longer fine-tuning make specialists harder to merge."""
    claim = "(Ours) The longer the specialists are fine-tuned, the smaller the share that their merge keeps."
    parts, texts = [], []
    for group in scores.results.groups:
        steps = drift_steps(scores, group)
        if len(steps) > 1:
            first, last = (drift_shares(scores, group, step, metric)[MEAN] for step in (steps[0], steps[-1]))
            parts.append(first - last)
            texts.append(
                f"{arrow(group, scores.results.pivot)}: {_text(first, 2)} after {steps[0]} steps, "
                f"{_text(last, 2)} after {steps[-1]}"
            )
    return (
        Finding("ours-1", claim, "; ".join(texts), verdict(*parts))
        if parts
        else _untestable("ours-1", claim, "a drift curve")
    )


def scale_has_optimum(results: Results) -> Finding:
    """P0-10: the dev score of task arithmetic over its scale."""
    claim = "(Ours) The scale of un-normalised task vectors has an optimum inside the grid."
    trials = results.trials
    trials = trials[trials.name == "task_arithmetic"] if not trials.empty else trials
    if trials.empty:
        return _untestable("P0-10", claim, "a grid of scales for task arithmetic")
    inside, texts = [], []
    table = trials.assign(scale=[p["scale"] for p in trials.parameters])
    for group in results.groups:
        curve = table[table.group == group].groupby("scale")["mean"].mean()
        if len(curve) < 3:
            continue
        best = float(curve.index[int(curve.argmax())])
        inside.append(curve.index[0] < best < curve.index[-1])
        ends = [f"{number(curve.iloc[i])} at {curve.index[i]:g}" for i in (0, -1)]
        texts.append(
            f"{arrow(group, results.pivot)}: best {number(curve.max())} at scale {best:g} (ends: {ends[0]}, {ends[1]})"
        )
    if not inside:
        return _untestable("P0-10", claim, "a grid of three or more scales")
    outcome = REPRODUCED if all(inside) else INCONCLUSIVE if any(inside) else NOT_REPRODUCED
    return Finding("P0-10", claim, "; ".join(texts) + " (dev, no interval)", outcome)


# ---- representations and neurons -----------------------------------------------------------------------------------


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
        return _untestable("P0-4", claim, "measurements of representations")
    out, into = _pairs(results, "from-", "target"), _pairs(results, "to-", "target")
    if out.empty or into.empty:
        return _untestable("P0-4", claim, "measurements in both direction groups")
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
        return _untestable("P0-5", claim, "measurements of representations")
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
        return _untestable("P0-6", claim, _NEURONS)
    if not counts.units.any():
        return _untestable("P0-6", claim, f"a base with neurons that are selective by ranking {PAPER}")
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
        return _untestable("P0-7", claim, _NEURONS)
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
        return _untestable("P0-7", claim, "measurements of base and specialists")
    p = _sign_test(falls, n)
    outcome = INCONCLUSIVE if p >= 0.05 else REPRODUCED if falls > n / 2 else NOT_REPRODUCED
    measured = (
        f"By ranking {ranking_name(PAPER)}, fitted to each model, the number falls in {falls} of {n} specialists "
        f"(sign test p = {number(p, 3)}), its share of the total in {shares}"
    )
    return Finding("P0-7", claim, measured, outcome)


def angles_grow(results: Results) -> Finding:
    """P0-8: least-squares slope over the raw layers; the last one, after the final norm, is left out."""
    claim = "The median principal angle between specialists (target side) grows with depth."
    table = angles_of(results)
    if table.empty:
        return _untestable("P0-8", claim, "measurements of principal angles")
    table = table[(table.span == "target") & (table.pair == KINDS[0]) & (table.layer < table.layers)]
    slopes, halves, texts = [], [], []
    for group, here in table.groupby("group", sort=False):
        by_layer = here.groupby("layer")[["median_degrees", "standard_error"]].mean().dropna()
        angle, layer = by_layer.median_degrees, by_layer.index.to_numpy(dtype=float)
        if len(by_layer) < 2:
            continue
        weight = (layer - layer.mean()) / ((layer - layer.mean()) ** 2).sum()
        slopes.append(float(weight @ angle))
        halves.append(float(over_halves(here, float(np.linalg.norm(weight * by_layer.standard_error)))))
        ends = interval(slopes[-1] - halves[-1], slopes[-1] + halves[-1], 2)
        texts.append(
            f"{arrow(str(group), results.pivot)}: {number(angle.iloc[0])}° at the embedding, {number(angle.iloc[-1])}° "
            f"at layer {layer[-1]:.0f}, slope {number(slopes[-1], 2)} {ends} degrees per layer"
        )
    if not slopes:
        return _untestable("P0-8", claim, "two specialists and two layers below the final norm")
    above = [slope > half for slope, half in zip(slopes, halves, strict=True)]
    below = [slope < -half for slope, half in zip(slopes, halves, strict=True)]
    outcome = REPRODUCED if all(above) else NOT_REPRODUCED if any(below) else INCONCLUSIVE
    return Finding("P0-8", claim, "; ".join(texts), outcome)


def _sign_test(successes: int, n: int) -> float:
    """Two-sided exact p-value of a fair coin."""
    from scipy.stats import binomtest

    return float(binomtest(int(successes), n).pvalue)


# ---- in words ------------------------------------------------------------------------------------------------------


def findings_table(findings: list[Finding]) -> Table:
    """All findings as a table."""
    rows = [[f.name, f.claim, f.measured, f.verdict] for f in findings]
    columns = ["", "Claim", "Measured here", "Verdict"]
    return Table(
        "findings",
        "Findings",
        "Claims P0 are those of arXiv 2604.02881, or tests of them, but for those marked ours. Brackets: 95 % "
        "bootstrap intervals over sentences (CKA and angles: jackknife). The best merge is the "
        "best on test, which favours merging. Reproduced: the interval excludes the opposite; not reproduced: it lies "
        "on the other side; inconclusive: neither. Where there is no interval, the numbers decide as they stand.",
        columns,
        [cells(row) for row in rows],
        pd.DataFrame(rows, columns=["id", "claim", "measured", "verdict"]),
        text_columns=4,
        stretch=[1, 2],
    )


def summary(findings: list[Finding]) -> list[str]:
    """The tested findings as sentences with number, interval and verdict, and one that names the rest; at most 8."""
    order = ["P0-1", "P0-2", "P0-3", "ours-1", "P0-9", "P0-4", "P0-7"]
    by_name = {f.name: f for f in findings}
    tested = [by_name[name] for name in order if name in by_name and by_name[name].verdict != NOT_TESTABLE]
    sentences = [f"{f.verdict.capitalize()}: {f.claim.removeprefix('(Ours) ')} {f.measured}." for f in tested]
    rest = [f.name for f in findings if f.verdict == NOT_TESTABLE]
    if rest:
        sentences.append(f"{NOT_TESTABLE.capitalize()}: {', '.join(rest)} of the claims listed below.")
    return sentences
