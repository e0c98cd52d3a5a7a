"""What the paper claims, what was measured here, and whether the two agree.

The claims are those of One Model to Translate Them All? (arXiv 2604.02881) that can be put as a direction of a number.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from langmerge.reporting import findings_models, samples
from langmerge.reporting.load import Results
from langmerge.reporting.samples import METRICS, Row, Sample, Scores, arrow
from langmerge.reporting.shares import MEAN, drift_shares, drift_steps, patched
from langmerge.reporting.table import Table, cells, interval, number
from langmerge.reporting.verdicts import (
    INCONCLUSIVE,
    NOT_REPRODUCED,
    NOT_TESTABLE,
    REPRODUCED,
    Finding,
    untestable,
    verdict,
)


def _text(sample: Sample, decimals: int = 1) -> str:
    return f"{number(sample.point, decimals)} {interval(*sample.interval, decimals)}"


def find(scores: Scores, metric: str = "bleu") -> list[Finding]:
    """All findings, in the order of the claims."""
    r = scores.results
    return [
        merging_costs(scores, metric),
        asymmetry(scores, metric),
        joint_is_better(scores, metric),
        findings_models.representations_part(r),
        findings_models.source_stays(r),
        findings_models.neurons_at_the_ends(r),
        findings_models.own_language_falls(r),
        findings_models.angles_grow(r),
        patch_helps(scores, metric),
        scale_has_optimum(r),
        drift_hurts(scores, metric),
    ]


# ---- scores --------------------------------------------------------------------------------------------------------


def _of_all(name: str, claim: str, parts: list[Sample], texts: list[str], missing: str) -> Finding:
    """Of differences that all have to be positive, with what was measured of each in words."""
    return Finding(name, claim, "; ".join(texts), verdict(*parts)) if parts else untestable(name, claim, missing)


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
    return _of_all("P0-1", claim, parts, texts, "merges")


def asymmetry(scores: Scores, metric: str) -> Finding:
    """P0-2: the mean over methods of the kept share, into the pivot less out of it."""
    pivot = scores.results.pivot
    claim = f"Merging costs a larger share out of {pivot} than into {pivot} (same languages, same method)."
    groups = {group.partition("-")[0]: group for group in scores.results.groups}
    by_group: dict[str, dict[str, Row]] = {
        side: {row.name: row for row in scores.merges(group)} for side, group in groups.items()
    }
    if set(groups) != {"from", "to"} or not by_group["from"] or not by_group["to"]:
        return untestable("P0-2", claim, "merges in both direction groups")
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
    return _of_all("P0-3", claim, parts, texts, "a joint model")


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
    return _of_all("P0-9", claim, parts, texts, "a layer patch")


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
    return _of_all("ours-1", claim, parts, texts, "a drift curve")


def scale_has_optimum(results: Results) -> Finding:
    """P0-10: the dev score of task arithmetic over its scale."""
    claim = "(Ours) The scale of un-normalised task vectors has an optimum inside the grid."
    trials = results.trials
    trials = trials[trials.name == "task_arithmetic"] if not trials.empty else trials
    if trials.empty:
        return untestable("P0-10", claim, "a grid of scales for task arithmetic")
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
        return untestable("P0-10", claim, "a grid of three or more scales")
    outcome = REPRODUCED if all(inside) else INCONCLUSIVE if any(inside) else NOT_REPRODUCED
    return Finding("P0-10", claim, "; ".join(texts) + " (dev, no interval)", outcome)


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
