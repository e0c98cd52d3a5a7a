"""The claims of arXiv 2605.25846 (P1) and ours."""

from __future__ import annotations

from scipy import stats

from langmerge.reporting.samples import Sample, mean, ratio
from langmerge.reporting.studies.claims import by_seed
from langmerge.reporting.studies.pretraining_measures import (
    CLUSTER,
    INITIALISATIONS,
    METRIC,
    SAME,
    TEXT_TASK,
    association,
    branch_points,
    damage,
    keys,
    own_score,
    pair_damage,
)
from langmerge.reporting.studies.results import LanguageResults, Samples
from langmerge.reporting.studies.tables import method_label, words
from langmerge.reporting.table import interval, number
from langmerge.reporting.verdicts import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Finding, untestable, verdict

COLLAPSED = (
    0.5  # of what the monolingual models learnt since their random weights: a merge that loses more has collapsed
)
LEAST = 6  # pairs of which a rank correlation is worth a verdict
RESCUED = 0.1  # bits per byte that a merge may lose and still pass as rescued


def find(samples: Samples) -> list[Finding]:
    """The claims of arXiv 2605.25846 (P1) and ours."""
    claims = (
        collapse,
        no_rescue,
        mixed_is_better,
        monolingual_is_best,
        branching_helps,
        similarity_foretells,
        initialisation_matters,
    )
    return by_seed(samples, claims)


def _merges(results: LanguageResults, group: str) -> dict[str, list[str]]:
    merges = results.select(role="merge", group=group)
    return {method: list(merges[merges.method == method].key) for method in dict.fromkeys(merges.method)}


def _combinations(results: LanguageResults, group: str) -> list[tuple[list[str], str, list[str]]]:
    """Merges of all models of an initialisation and of every two: languages, method, keys of the systems."""
    found = [(results.languages, method, systems) for method, systems in _merges(results, group).items()]
    pairs = results.select(role="pair", group=group)
    names = pairs.drop_duplicates("name").to_dict("records")
    return found + [(one["languages"], one["method"], keys(results, role="pair", name=one["name"])) for one in names]


def collapse(samples: Samples) -> Finding:
    """P1-2: every merge loses more than :data:`COLLAPSED` of what its parents learnt, each in its language."""
    claim = "Merging any combination of monolingual models collapses: most of what they had learnt is lost."
    results = samples.results
    merges = {
        f"{method_label(method)} of {'+'.join(codes)}, {INITIALISATIONS[group]}": (systems, group, codes)
        for group in results.study["initialisations"]
        for codes, method, systems in _combinations(results, group)
    }
    origins = keys(results, role="origin")
    if not merges or not origins:
        return untestable("P1-2", claim, "merges of monolingual models, and the random weights they began with")
    losses = {name: damage(samples, *merge) for name, merge in merges.items()}
    learnt = {
        name: mean(samples.average(origins, TEXT_TASK, [code]) - own_score(samples, group, code) for code in codes)
        for name, (_, group, codes) in merges.items()
    }
    shares = {name: ratio(loss, learnt[name]) for name, loss in losses.items()}
    least = min(shares, key=lambda name: shares[name].point)
    low, high = shares[least].interval
    measured = (
        f"of {len(losses)} merges of two or all the one that loses the smallest share, {least}, loses "
        f"{words(losses[least], METRIC)} against the monolingual models, {number(100 * shares[least].point, 0)} "
        f"{interval(100 * low, 100 * high, 0)} % of what they had learnt since random weights; "
        f"{100 * COLLAPSED:g} % and more is called a collapse"
    )
    beyond = [Sample(share.point - COLLAPSED, share.draws - COLLAPSED) for share in shares.values()]
    return Finding("P1-2", claim, measured, verdict(*beyond))


def no_rescue(samples: Samples) -> Finding:
    """P1-3: every method against interference loses more than :data:`RESCUED` against the parents."""
    claim = "Interference-aware methods (TIES, DARE-TIES) do not rescue the merge."
    results = samples.results
    losses = {
        name: damage(samples, systems, "shared", results.languages)
        for name, systems in _merges(results, "shared").items()
        if name in ("ties", "dare_ties")
    }
    if not losses:
        return untestable("P1-3", claim, "a merge by TIES or DARE-TIES")
    texts = ", ".join(f"{method_label(name)} {words(loss, METRIC)}" for name, loss in losses.items())
    measured = (
        f"loss against the monolingual models of shared initialisation: {texts}; a rescue would be {RESCUED:g} at most"
    )
    beyond = [Sample(loss.point - RESCUED, loss.draws - RESCUED) for loss in losses.values()]
    return Finding("P1-3", claim, measured, verdict(*beyond))


def mixed_is_better(samples: Samples) -> Finding:
    """P1-4: at equal total tokens."""
    claim = "Mixed training with the same total tokens is better than every merge."
    results = samples.results
    systems = keys(results, role="mixed", tokens="each")
    merges = [s for group in results.study["initialisations"] for s in _merges(results, group).values()]
    if not systems or not merges:
        return untestable("P1-4", claim, "a mixed model and merges")
    mixed = samples.average(systems, TEXT_TASK, results.languages)
    gaps = [samples.average(merged, TEXT_TASK, results.languages) - mixed for merged in merges]
    least = min(gaps, key=lambda gap: gap.point)
    return Finding(
        "P1-4", claim, f"the best merge is {words(least, METRIC)} worse than the mixed model", verdict(*gaps)
    )


def monolingual_is_best(samples: Samples) -> Finding:
    """P1-1: at equal tokens per language."""
    claim = "The monolingual model is best in its language at equal tokens of that language."
    results = samples.results
    mixed = keys(results, role="mixed", tokens="each")
    if not mixed or "shared" not in results.study["initialisations"]:
        return untestable("P1-1", claim, "a mixed model with as many tokens of each language")
    gap = mean(
        samples.average(mixed, TEXT_TASK, [code]) - own_score(samples, "shared", code) for code in results.languages
    )
    measured = f"mixed minus monolingual, mean over languages: {words(gap, METRIC, signed=True)}"
    return Finding("P1-1", claim, measured, verdict(gap))


def branching_helps(samples: Samples) -> Finding:
    """P1-5: damage at the first against the last branch point, and its order in between."""
    claim = "Damage by merging falls with a later branch point."
    points = {share: by_method.get("linear") for share, by_method in branch_points(samples).items()}
    found = {share: sample for share, sample in points.items() if sample is not None}
    if len(found) < 2:
        return untestable("P1-5", claim, "branches at two shares of the steps")
    shares = list(found)
    rho = stats.spearmanr(shares, [sample.point for sample in found.values()]).statistic
    drop = found[shares[0]] - found[shares[-1]]
    measured = (
        f"loss {words(found[shares[0]], METRIC)} when branching at {100 * shares[0]:g} % and "
        f"{words(found[shares[-1]], METRIC)} at {100 * shares[-1]:g} %; drop {words(drop, METRIC)}; rank correlation "
        f"over {len(shares)} branch points {number(rho, 2)}"
    )
    worst = max(found, key=lambda share: found[share].point)
    if worst != shares[0]:
        measured += f"; not everywhere: most is lost at {100 * worst:g} %, {words(found[worst], METRIC)}"
    return Finding("P1-5", claim, measured, verdict(drop))


def similarity_foretells(samples: Samples) -> Finding:
    """P1-5, its second half: similarity before merging, over pairs and within branch points and initialisations.

    Later branches are both more alike and less damaged: what is left of the correlation within a branch point says
    whether similarity itself foretells, and is told beside the verdict, which is the claim's.
    """
    name, claim = "P1-5b", "Damage by merging falls with the similarity of the representations before it."
    table = pair_damage(samples)
    if SAME not in table or table[SAME].notna().sum() < LEAST:
        return untestable(name, claim, f"{LEAST} merged pairs with CKA")
    rho, low, high = association(table, SAME)
    inside = table.copy()
    inside[[SAME, "damage"]] -= table.groupby(CLUSTER)[[SAME, "damage"]].transform("mean")
    within = association(inside, SAME)
    settled = REPRODUCED if high < 0 else NOT_REPRODUCED if low > 0 else INCONCLUSIVE
    measured = (
        f"rank correlation over {int(table[SAME].notna().sum())} pairs of debiased CKA on the same input and damage: "
        f"{number(rho, 2)} {interval(low, high, 2)}; within branch points and initialisations {number(within[0], 2)} "
        f"{interval(*within[1:], 2)} (jackknife over these groups of pairs, since pairs share models)"
    )
    return Finding(name, claim, measured, settled)


def initialisation_matters(samples: Samples) -> Finding:
    """P1-6 (ours)."""
    claim = "(Ours) Different initialisations make merging worse than a shared one."
    results = samples.results
    losses = {
        group: {name: damage(samples, s, group, results.languages) for name, s in _merges(results, group).items()}
        for group in results.study["initialisations"]
    }
    if len(losses) < 2 or not all("linear" in by_method for by_method in losses.values()):
        return untestable("P1-6", claim, "linear merges from shared and from different initialisations")
    gap = losses["different"]["linear"] - losses["shared"]["linear"]
    measured = (
        f"linear merge: loss {words(losses['different']['linear'], METRIC)} from different and "
        f"{words(losses['shared']['linear'], METRIC)} from shared weights; difference {words(gap, METRIC, signed=True)}"
    )
    origin = samples.average(keys(results, role="origin"), TEXT_TASK, results.languages)
    worse = [
        INITIALISATIONS[name]
        for name in losses
        if samples.average(_merges(results, name)["linear"], TEXT_TASK, results.languages).point > origin.point
    ]
    if worse:
        measured += f"; worse than random weights ({words(origin, METRIC)}): the merge from {' and from '.join(worse)}"
    return Finding("P1-6", claim, measured, verdict(gap))
