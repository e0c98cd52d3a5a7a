"""The claims of arXiv 2601.16127 (P2) and ours, each with its number, interval and verdict."""

from __future__ import annotations

import numpy as np
import pandas as pd

from langmerge.reporting.samples import Sample, mean
from langmerge.reporting.studies.maintenance_cost_claims import (
    Conditions,
    against_replay,
    cheap_update,
    faster_build,
    pays_off,
    same_work,
)
from langmerge.reporting.studies.maintenance_costs import ADDITION, INITIAL, UPDATE, Ledger, core_share
from langmerge.reporting.studies.maintenance_measures import (
    BELOW,
    EQUAL,
    LEAD,
    LEVEL,
    View,
    adjusted,
    association,
    change,
    cosines,
    equivalence,
    label,
    narrow,
    off_diagonal,
    spill_over,
    update_ways,
    vector_table,
)
from langmerge.reporting.studies.tables import words
from langmerge.reporting.table import interval, number, p_words
from langmerge.reporting.verdicts import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Finding, untestable, verdict

SAVES = "by merging saves more than 60 % of training all anew."


def find(view: View, costs: pd.DataFrame, ledger: Ledger) -> list[Finding]:
    """All claims."""
    measured = Conditions(ledger.workers, core_share(view.results), ledger.noise())
    return [
        as_good_as_combined(view),
        something_breaks(view),
        no_pruning_is_best(view),
        dare_without_drop(view),
        same_work(costs, measured),
        faster_build(costs, measured),
        cheap_update(costs, measured, UPDATE, "P2-5c", f"Updating one language {SAVES}"),
        cheap_update(costs, measured, ADDITION, "P2-5d", f"Adding a language {SAVES}"),
        against_replay(view, costs),
        pays_off(costs, measured),
        nearly_orthogonal(view),
        cosine_foretells(view),
        others_change(view),
        clusters(view),
    ]  # fmt: skip


def _lora(view: View) -> list[str]:
    """The groups that the paper's claims are of: adapters, where there are any, and tasks that were learnt."""
    groups = [group for group in view.groups if LEAD in view.methods(group) and view.learnt(group)]
    return [group for group in groups if view.tasks[group][1] == "lora"] or groups


def _learnt(view: View) -> str:
    """``(1 of 3: sentiment, LoRA)``."""
    known = [view.title(group) for group in _lora(view)]
    tasks = [group for group in view.groups if view.tasks[group][1] == "lora"] or view.groups
    return f"({len(known)} of {len(tasks)}{': ' if known else ''}{'; '.join(known)})"


# ---- quality -------------------------------------------------------------------------------------------------------


def as_good_as_combined(view: View) -> Finding:
    """P2-1, by two one-sided tests of the mean over languages."""
    claim = f"Merged ({label(LEAD)}) scores about as the combined model on at least two of three tasks."
    groups = _lora(view)
    if len(groups) < 2:
        return untestable(
            "P2-1", claim, f"two tasks in which the combined model is clearly above the base {_learnt(view)}"
        )
    gaps = {group: view.gap(group, LEAD) for group in groups}
    found = {group: equivalence(gap, view.margin) for group, gap in gaps.items()}
    texts = [
        f"{view.title(group)} {words(gap, view.metric(group), signed=True)} ({found[group]})"
        for group, gap in gaps.items()
    ]
    good = sum(value == EQUAL or gap.above for value, gap in zip(found.values(), gaps.values(), strict=True))
    bad = sum(value == BELOW for value in found.values())
    outcome = REPRODUCED if good >= 2 else NOT_REPRODUCED if bad > max(3, len(groups)) - 2 else INCONCLUSIVE
    measured = f"merged minus combined, equal within {view.margin:g} points or better counts: {'; '.join(texts)}"
    return Finding("P2-1", claim, measured, outcome)


def something_breaks(view: View) -> Finding:
    """P2-2: the largest loss over tasks and languages, Holm-corrected over all of them."""
    claim = "In at least one task and language the merge loses against the combined model (there: English sentiment)."
    cells = {(group, code): view.gap(group, LEAD, code) for group in _lora(view) for code in view.languages}
    cells = {cell: gap for cell, gap in cells.items() if np.isfinite(gap.point)}
    if not cells:
        return untestable("P2-2", claim, f"tasks in which the combined model is clearly above the base {_learnt(view)}")
    corrected = adjusted(cells)
    worst = min(cells, key=lambda cell: cells[cell].point)
    losses = [cell for cell, gap in cells.items() if gap.point < -view.margin and corrected[cell] < LEVEL]
    harmless = all(narrow(gap)[0] > -view.margin for gap in cells.values())
    outcome = REPRODUCED if losses else NOT_REPRODUCED if harmless else INCONCLUSIVE
    measured = (
        f"largest loss in {worst[1]}, {view.title(worst[0])}: "
        f"{words(cells[worst], view.metric(worst[0]), signed=True)}, {p_words(corrected[worst])} after Holm over "
        f"{len(cells)} cells; {len(losses)} of them more than {view.margin:g} points with p < {LEVEL:g}"
    )
    return Finding("P2-2", claim, measured, outcome)


def at_density(view: View, group: str, recipe: str, density: float) -> Sample:
    """Mean score over languages of a merge at a fixed density."""
    return view.average(group, role="density", recipe=recipe, density=density)


def no_pruning_is_best(view: View) -> Finding:
    """P2-3: no lower density is better, each mean over tasks and languages."""
    claim = "TIES is best without pruning (density 1)."
    densities = sorted(view.results.study["densities"])
    lower = [density for density in densities if density < 1]
    groups = _lora(view)
    if 1.0 not in densities or not lower or not groups:
        return untestable("P2-3", claim, f"TIES at density 1 and below it in tasks that were learnt {_learnt(view)}")
    leads = {d: mean(at_density(view, g, "TIES", 1.0) - at_density(view, g, "TIES", d) for g in groups) for d in lower}
    texts = ", ".join(f"{d:g}: {number(s.point, 1, True)} {interval(*s.interval)}" for d, s in leads.items())
    outcome = verdict(*leads.values())
    if outcome == INCONCLUSIVE and all(equivalence(lead, view.margin) == EQUAL for lead in leads.values()):
        texts += f"; all 90 % intervals within ±{view.margin:g}, equal by two one-sided tests"
    return Finding("P2-3", claim, f"points that density 1 leads by, mean over tasks, over density {texts}", outcome)


def dare_without_drop(view: View) -> Finding:
    """P2-4: an identity, so every score must be the same number."""
    claim = "DARE-TIES at density 1 is TIES."
    if 1.0 not in view.results.study["densities"]:
        return untestable("P2-4", claim, "both at density 1")
    differences = [
        abs(view.score(g, code, role="density", recipe="TIES", density=1.0).point
            - view.score(g, code, role="density", recipe="DARE-TIES", density=1.0).point)
        for g in view.groups for code in view.languages
    ]  # fmt: skip
    worst = float(np.nanmax(differences)) if np.isfinite(differences).any() else float("nan")
    outcome = REPRODUCED if worst == 0 else NOT_REPRODUCED
    return Finding("P2-4", claim, f"largest difference of any score: {worst:g} (n = {len(differences)} tests)", outcome)


def clusters(view: View) -> Finding:
    """P2-8: clusters against all, in the languages of the clusters."""
    claim = "Merging only a cluster of related languages is no better than merging all."
    rows = view.results.select(role="cluster", group=_lora(view))
    if rows.empty:
        return untestable("P2-8", claim, "merges of clusters in tasks that were learnt")
    gains: dict[str, Sample] = {}
    for cluster, found in rows.groupby("cluster", sort=False):
        parts = []
        for row in found.to_dict("records"):
            apart = view.average(row["group"], row["languages"], role="cluster", cluster=cluster)
            parts.append(
                apart - view.average(row["group"], row["languages"], role="merge", method=LEAD, scenario=INITIAL)
            )
        gains[str(cluster)] = mean(parts)
    texts = ", ".join(f"{name} {number(s.point, 1, True)} {interval(*s.interval)}" for name, s in gains.items())
    outcome = INCONCLUSIVE
    if any(gain.above for gain in gains.values()):
        outcome = NOT_REPRODUCED
    elif all(narrow(gain)[1] < view.margin for gain in gains.values()):
        outcome = REPRODUCED
    return Finding("P2-8", claim, f"points that the cluster's merge gains in its languages: {texts}", outcome)


# ---- language vectors, spill-over ----------------------------------------------------------------------------------


def nearly_orthogonal(view: View) -> Finding:
    """P2-6a, of adapters where there are any; the cosines of given vectors are numbers without sampling error."""
    claim = "Vectors of different languages have small, positive cosines (below 0.5)."
    adapters = [group for group in view.groups if view.tasks[group][1] == "lora"] or view.groups
    values = {group: off_diagonal(matrix) for group, matrix in cosines(view).items() if group in adapters}
    if not values:
        return untestable("P2-6a", claim, "a diagnosis of pairs")
    texts = [
        f"{view.title(g)} {number(v.mean(), 2)} ({number(v.min(), 2)} to {number(v.max(), 2)})"
        for g, v in values.items()
    ]
    whole = np.concatenate(list(values.values()))
    small = bool(((whole > 0) & (whole < 0.5)).all())
    outcome = REPRODUCED if small else NOT_REPRODUCED if not ((whole > 0) & (whole < 0.5)).any() else INCONCLUSIVE
    return Finding("P2-6a", claim, f"mean (range) over pairs: {'; '.join(texts)}", outcome)


def cosine_foretells(view: View) -> Finding:
    """P2-6b."""
    claim = "The lower a language's cosines with the others, the more it loses against the combined model."
    table = vector_table(view)
    rho, p = association(table)
    if not np.isfinite(rho):
        return untestable("P2-6b", claim, "cosines and merges of three languages")
    outcome = INCONCLUSIVE if p >= LEVEL else REPRODUCED if rho > 0 else NOT_REPRODUCED
    measured = (
        f"rank correlation of mean cosine and (merged minus combined) within tasks {number(rho, 2)}, {p_words(p)} by "
        f"permutation, n = {len(table)} languages of tasks"
    )
    return Finding("P2-6b", claim, measured, outcome)


def others_change(view: View) -> Finding:
    """P2-7: languages that were not updated, Holm-corrected over them."""
    claim = "Merging again after the update of one language changes the scores of others."
    groups = view.with_scenario(UPDATE)
    if not groups or LEAD not in view.methods(groups[0], UPDATE):
        return untestable("P2-7", claim, "an update")
    language = view.results.study["update"]["language"]
    changes: dict[tuple[str, str], Sample] = {}
    answers: list[float] = []
    for group in groups:
        table = spill_over(view, group, language)
        rows = table[(table.way == f"Merge again, {label(LEAD)}") & ~table.updated]
        answers += list(rows.changed)
        before, after = update_ways(view, group)[f"Merge again, {label(LEAD)}"]
        changes |= {(group, code): change(view, group, before, after, code) for code in rows.language}
    corrected = adjusted(changes)
    moved = [cell for cell, p in corrected.items() if p < LEVEL]
    still = all(equivalence(sample, view.margin) == EQUAL for sample in changes.values())
    outcome = REPRODUCED if moved else NOT_REPRODUCED if still else INCONCLUSIVE
    points = [sample.point for sample in changes.values()]
    measured = (
        f"changes from {number(min(points), 1, True)} to {number(max(points), 1, True)} points in {len(points)} "
        f"languages that were not updated, {len(moved)} of them significant after Holm; "
        f"{number(100 * float(np.mean(answers)), 1)} % of their items are answered differently"
    )
    return Finding("P2-7", claim, measured, outcome)
