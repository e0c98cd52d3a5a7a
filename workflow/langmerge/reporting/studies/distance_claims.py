"""The findings of a study of distance, all of them ours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from langmerge.reporting.load import each
from langmerge.reporting.studies import distance_measures as measures
from langmerge.reporting.studies import dyads
from langmerge.reporting.studies.distance_evidence import Evidence
from langmerge.reporting.studies.distance_figures import NAMES, side_name
from langmerge.reporting.studies.distance_measures import BEFORE, INTERACTION
from langmerge.reporting.studies.distance_tables import SIGNIFICANT, estimate
from langmerge.reporting.studies.tables import method_label
from langmerge.reporting.table import interval, number, p_words
from langmerge.reporting.verdicts import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Finding, untestable

AFTERWARDS = "(Put after a look at results)"
MARGIN = 0.05  # a language is as hard as another if its bits differ by less than this share


def find(evidence: Evidence) -> list[Finding]:
    """The findings, all of them ours."""
    found = [
        equally_hard(evidence),
        twins_merge(evidence),
        every_kind_hurts(evidence),
        one_kind_is_worst(evidence),
        kinds_interact(evidence),
        something_foresees(evidence),
        beyond_the_kinds(evidence),
        methods_agree(evidence),
        farthest_is_not_worst(evidence),
        something_foresees_among_alike(evidence),
    ]
    return [replace(one, measured=one.measured[:1].upper() + one.measured[1:]) for one in found]


def verdict(side: float, low: float, high: float, p: float = 0.0) -> str:
    """A claim about a sign (that of ``side``) by its 95 % interval, and by a p-value where there is one.

    Reproduced or not by the side of 0 that the whole interval lies on, if p excludes chance too; else inconclusive.
    """
    if not (low > 0 or high < 0) or not p < SIGNIFICANT:
        return INCONCLUSIVE
    return REPRODUCED if side * low > 0 else NOT_REPRODUCED


def answer(evidence: Evidence) -> list[str]:
    """What was found, in two sentences: what costs where the moderator is alike and apart, what tells; else none."""
    table, by = evidence.conditional, evidence.moderator
    if table is None or by is None or not np.isfinite(table.low).all():
        return []
    name = NAMES[by].lower()

    def clear(side: str) -> str:
        rows = table[table.name.str.endswith(f"/{side}") & (table.p_holm < SIGNIFICANT)]
        rows = rows[(rows.low > 0) | (rows.high < 0)].sort_values("slope")
        texts = [
            f"{NAMES[line['name'].partition('/')[0]].lower()} {number(line['slope'], 2, signed=True)}"
            for line in rows.to_dict("records")
        ]
        return ", ".join(texts) or "no other kind has a clear effect"

    others = evidence.pairs[~evidence.pairs.twins]
    kept = others.groupby(others[by] > 0).retention.mean()
    sentences = [
        f"The kind that changes most what the others do is {name}. Where two languages are alike in it, a full "
        f"difference in another kind changes the retention of their merge by: {clear('same')}. Where they are not: "
        f"{clear('other')}; their merges keep {number(float(kept[True]), 2)} on average, those of pairs "
        f"alike {number(float(kept[False]), 2)}."
    ]
    if evidence.foresight is not None:
        before = evidence.foresight[evidence.foresight.before]
        alike, all_pairs = (before[column] < SIGNIFICANT for column in ("alike_p", "p_max"))
        sentences.append(
            f"Of {len(before)} measures taken before merging, {int(alike.sum())} rank the pairs alike in {name} "
            f"better than chance (best |ρ| {number(float(before.alike_rho.abs().max()), 2)}) and "
            f"{int(all_pairs.sum())} all pairs (best |ρ| {number(float(before.rho.abs().max()), 2)})."
        )
    return [" ".join(sentences)]


def equally_hard(evidence: Evidence) -> Finding:
    """ours-D1: equivalence, by whether the whole interval of the share lies within the margin."""
    claim = f"The transforms are as hard as the original: own bits per sentence within {100 * MARGIN:.0f} %."
    rows = list(evidence.difficulty.share)[1:]
    ends = [share.interval for share in rows]
    worst = max((share.point for share in rows), key=abs)
    lowest, highest = min(low for low, _ in ends), max(high for _, high in ends)
    measured = (
        f"specialists differ from the original's by at most {number(100 * worst, 1, signed=True)} %; intervals "
        f"of all {len(rows)} transforms lie within [{number(100 * lowest, 1)}, {number(100 * highest, 1)}] %; by least "
        "squares a full difference in each kind accounts for "
    )
    design = np.column_stack([np.ones(len(evidence.names)), *(one[0] for one in evidence.distances.values())])
    shares = [share.point for share in evidence.difficulty.share]
    by_kind = zip(evidence.distances, np.linalg.lstsq(design, shares, rcond=None)[0][1:], strict=True)
    measured += ", ".join(f"{NAMES[kind].lower()} {number(100 * value, 1, signed=True)} %" for kind, value in by_kind)
    inside = [low > -MARGIN and high < MARGIN for low, high in ends]
    outside = [low > MARGIN or high < -MARGIN for low, high in ends]
    found = REPRODUCED if all(inside) else NOT_REPRODUCED if any(outside) else INCONCLUSIVE
    return Finding("ours-D1", claim, measured, found)


def twins_merge(evidence: Evidence) -> Finding:
    """ours-D2: the pair at distance 0."""
    claim = "Specialists of one language, trained on different sentences, merge without loss."
    if not evidence.results.study["twin"]:
        return untestable("ours-D2", claim, "a second specialist of one language (`twin`)")
    loss = measures.twin_loss(evidence.samples, evidence.methods[0])
    gain = interval(-loss.interval[1], -loss.interval[0], 2)
    kept = evidence.pairs[evidence.pairs.twins].retention.mean()
    additive = dyads.slopes(evidence.outcome(evidence.methods[0]), evidence.distances)[0]
    measured = (
        f"the merge of the twins is {number(-loss.point, 2, signed=True)} {gain} "
        f"bits per sentence better than they are, retention {number(kept, 2)}; the other pairs' regression says "
        f"{number(float(additive), 2)} at distance 0"
    )
    return Finding("ours-D2", claim, measured, verdict(-1, *loss.interval))


def ranked_kinds(evidence: Evidence, method: str | None = None) -> pd.DataFrame:
    """Effects on retention without the interaction, the most harmful first."""
    table = evidence.effects[method or evidence.methods[0], "retention"]
    return table[table.kind != INTERACTION].sort_values("together", kind="stable")


def every_kind_hurts(evidence: Evidence) -> Finding:
    """ours-D3: slopes beside the others."""
    claim = "Every kind of distance lowers what a merge keeps."
    table = ranked_kinds(evidence)
    if not np.isfinite(table.together).all():
        return untestable("ours-D3", claim, "more languages, so that the kinds can be told apart")
    measured = "change of retention at full distance beside the other kinds: " + "; ".join(
        f"{NAMES[row.kind].lower()} {estimate(row.together, row.low, row.high)} ({p_words(row.p_holm)})"
        for row in each(table)
    )
    verdicts = {verdict(-1, row.low, row.high, row.p_holm) for row in each(table)}
    found = NOT_REPRODUCED if NOT_REPRODUCED in verdicts else INCONCLUSIVE if INCONCLUSIVE in verdicts else REPRODUCED
    return Finding("ours-D3", claim, measured, found)


def one_kind_is_worst(evidence: Evidence) -> Finding:
    """ours-D4: the contrast of the two most harmful kinds. The winner is chosen on the same data."""
    claim = "One kind of distance hurts merging more than every other."
    table = ranked_kinds(evidence)
    if len(table) < 2 or not np.isfinite(table.together).all():
        return untestable("ours-D4", claim, "more languages, so that the kinds can be told apart")
    first, second = table.kind.iloc[0], table.kind.iloc[1]
    gap, low, high = measures.contrast(evidence.outcome(evidence.methods[0]), evidence.distances, first, second)
    seeds = [min(list(evidence.distances), key=found.__getitem__) for found in evidence.slopes_by_seed().values()]
    measured = (
        f"{NAMES[first].lower()} costs most here, {NAMES[second].lower()} is next: difference "
        f"{estimate(gap, low, high)}; {NAMES[first].lower()} costs most in {seeds.count(first)} of {len(seeds)} seeds"
    )
    return Finding("ours-D4", claim, measured, verdict(-1, low, high))


def kinds_interact(evidence: Evidence) -> Finding:
    """ours-D5: the sign of the interaction; > 0: the second kind costs less than it does alone."""
    claim = "Kinds of distance do not add up: beside another, a kind costs less than it does alone."
    table = evidence.effects[evidence.methods[0], "retention"]
    row = table[table.kind == INTERACTION]
    if row.empty or not np.isfinite(row.together.iloc[0]):
        return untestable("ours-D5", claim, "languages that differ in several kinds")
    one = row.iloc[0]
    both = {**evidence.distances, INTERACTION: measures.interaction(evidence.distances)}
    outcome = evidence.outcome(evidence.methods[0])
    shares = [dyads.explained(outcome, factors) for factors in (evidence.distances, both)]
    measured = (
        f"each two kinds at once change retention by {estimate(one.together, one.low, one.high)} against their sum "
        f"({p_words(one.p)}); R² is {number(shares[0], 2)} without and {number(shares[1], 2)} with it"
    )
    if evidence.conditional is not None and evidence.moderator is not None:
        apart = dyads.explained(outcome, measures.split(evidence.distances, evidence.moderator))
        measured += (
            f"; the other kinds split by {NAMES[evidence.moderator].lower()} alone, which explains most on these data, "
            f"R² {number(apart, 2)}: "
        )
        measured += "; ".join(
            f"{side_name(row.name_)} {estimate(row.slope, row.low, row.high)} ({p_words(row.p_holm)})"
            for row in each(evidence.conditional.rename(columns={"name": "name_"}))
            if "/" in row.name_
        )
    return Finding("ours-D5", claim, measured, verdict(1, one.low, one.high, one.p))


def something_foresees(evidence: Evidence) -> Finding:
    """ours-D6: the greatest correlation of all measures taken before merging, corrected for their number."""
    claim = "A measure taken before merging tells which pairs will merge badly."
    table = evidence.foresight
    before = table[table.before & table.rho.notna()] if table is not None else pd.DataFrame()
    if before.empty:
        return untestable("ours-D6", claim, "diagnoses of pairs")
    best = before.iloc[0]
    measured = (
        f"best of {len(before)}: {BEFORE[best['name']]}, ρ = {estimate(best.rho, best.low, best.high)} (corrected "
        f"{p_words(best.p_max)}), Q² for a language left out {number(best.q2, 2)}; "
        f"{int((before.p_max < SIGNIFICANT).sum())} of {len(before)} are significant"
    )
    if np.isfinite(evidence.repeats):
        measured += f"; retention itself repeats over seeds with ρ = {number(evidence.repeats, 2)}"
    return Finding("ours-D6", claim, measured, verdict(best.rho, best.low, best.high, best.p_max))


def beyond_the_kinds(evidence: Evidence) -> Finding:
    """ours-D7: partial correlations beside the kinds of distance."""
    claim = "A measure tells more than the kinds of distance do."
    table = evidence.foresight
    before = table[table.before & table.partial.notna()] if table is not None else pd.DataFrame()
    if before.empty:
        return untestable("ours-D7", claim, "diagnoses of more pairs than there are kinds of distance")
    best = before.iloc[int(np.argmax(before.partial.abs()))]
    known = dyads.foretold(evidence.outcome(evidence.methods[0]), evidence.known)
    measured = (
        f"largest partial correlation beside the kinds: {BEFORE[best['name']]}, {number(best.partial, 2)} (Holm's "
        f"{p_words(best.partial_p)}); the kinds alone foretell Q² = {number(known, 2)} for a language left out"
    )
    return Finding("ours-D7", claim, measured, verdict(best.partial, best.partial, best.partial, best.partial_p))


def methods_agree(evidence: Evidence) -> Finding:
    """ours-D8: rank correlation of two methods' retention over pairs, by its interval and its permutation p."""
    if len(evidence.methods) < 2:
        return untestable("ours-D8", "Pairs that merge worse by one method do so by another.", "merges by two methods")
    first, second = evidence.methods[:2]
    claim = f"Pairs that merge worse by {method_label(first)} merge worse by {method_label(second)}."
    orders = dyads.relabelings(len(evidence.results.languages), measures.PERMUTATIONS, evidence.seed)
    found = dyads.correlations(evidence.outcome(first), {second: evidence.outcome(second)}, orders).iloc[0]
    low, high = measures.rho_interval(evidence.outcome(first), evidence.outcome(second))
    order = ", ".join(NAMES[kind].lower() for kind in ranked_kinds(evidence, second).kind)
    measured = (
        f"retention by {method_label(first)} and {method_label(second)} correlate with ρ = "
        f"{estimate(found.rho, low, high)} over pairs ({p_words(found.p)}); by {method_label(second)} the kinds "
        f"rank, most harmful first: {order}"
    )
    return Finding("ours-D8", claim, measured, verdict(1, low, high, found.p))


def farthest_is_not_worst(evidence: Evidence) -> Finding:
    """ours-D9: differing in all kinds but the moderator, against differing in all; both from the split regression."""
    claim = f"{AFTERWARDS} The most distant pairs are not the worst: pairs that share one thing and differ in all else "
    claim += "keep less."
    if evidence.moderator is None:
        return untestable("ours-D9", claim, "more languages, so that the kinds can be told apart")
    outcome, by = evidence.outcome(evidence.methods[0]), evidence.moderator

    def both(kept: np.ndarray) -> np.ndarray:
        cut = dyads.without(kept, evidence.known)
        found = dyads.slopes(outcome[np.ix_(kept, kept)], cut)
        alike = found[0] + sum(found[1 + k] for k, name in enumerate(cut) if name.endswith("/same"))
        apart = found[0] + sum(found[1 + k] for k, name in enumerate(cut) if not name.endswith("/same"))
        return np.array([alike, apart, alike - apart])

    (low, high), point = dyads.jackknife(both, len(outcome)), both(np.arange(len(outcome)))
    name = NAMES[by].lower()
    texts = [estimate(float(p), float(a), float(b)) for p, a, b in zip(point, low, high, strict=True)]
    measured = (
        f"pairs alike in {name} that differ fully in all other kinds keep {texts[0]}, pairs apart in {name} too keep "
        f"{texts[1]}: difference {texts[2]}"
    )
    return Finding("ours-D9", claim, measured, verdict(-1, float(low[2]), float(high[2])))


def something_foresees_among_alike(evidence: Evidence) -> Finding:
    """ours-D10: as D6, over the pairs alike in the moderator, languages permuted within its sides."""
    table, by = evidence.foresight, evidence.moderator
    name = NAMES[by].lower() if by else ""
    claim = f"{AFTERWARDS} Among pairs alike in {name or 'one kind'}, a measure taken before merging tells which will "
    claim += "merge badly."
    if table is None or not by or not np.isfinite(table[table.before].alike_rho).any():
        return untestable("ours-D10", claim, "diagnoses of pairs that are alike and apart in one kind")
    before = table[table.before].sort_values("alike_rho", key=abs, ascending=False)
    best, clear = before.iloc[0], before[before.alike_p < SIGNIFICANT]
    measured = (
        f"best of {len(before)}: {BEFORE[best['name']]}, ρ = "
        f"{estimate(best.alike_rho, best.alike_low, best.alike_high)} (corrected {p_words(best.alike_p)}), "
        f"against "
        f"{number(best.rho, 2)} over all pairs; {len(clear)} of {len(before)} are significant"
    )
    found = verdict(best.alike_rho, best.alike_low, best.alike_high, best.alike_p)
    return Finding("ours-D10", claim, measured, found)
