"""The claims of arXiv 2512.10772 (P3) and ours (G1)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from langmerge.reporting.load import each
from langmerge.reporting.samples import Sample, mean, ratio
from langmerge.reporting.studies.growth_measures import LABELS, SMALL, TEXT, Measures
from langmerge.reporting.studies.results import MAIN, METRICS
from langmerge.reporting.studies.tables import method_label, words
from langmerge.reporting.table import interval, number
from langmerge.reporting.verdicts import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Finding, untestable, verdict

METRIC = MAIN[TEXT]
PARTED = 0.1  # copies whose difference is so small a share of what noise makes of it count as copies still
ROUNDING = 1e-3  # relative difference of logits, and bits per byte, that pass as rounding
LINEAR, ARITHMETIC = "linear", "task_arithmetic"


def find(measures: Measures) -> list[Finding]:
    """The claims of arXiv 2512.10772 that are testable (P3) and ours."""
    found = [
        clone_is_equal(measures),
        growth_pays(measures),
        not_for_the_smallest(measures),
        growth_forgets_less(measures),
        joint_is_better(measures),
        grown_merges_better(measures),
        more_is_worse(measures),
        methods_differ(measures),
        *([linear_is_arithmetic(measures)] if {LINEAR, ARITHMETIC} <= set(measures.methods) else []),
        copies_stay_copies(measures),
    ]
    return [replace(one, measured=one.measured[:1].upper() + one.measured[1:]) for one in found]


def seeds(measures: Measures, measure: Callable[[Measures], Sample]) -> str:
    """In how many seeds a measure has the sign that it has on average, in words; empty with one seed."""
    every = measures.results.seeds
    if len(every) < 2:
        return ""
    sign = np.sign(measure(measures).point)
    same = sum(np.sign(measure(Measures(measures.samples, seed)).point) == sign for seed in every)
    return f" (same sign in {same} of {len(every)} seeds)"


def smallest(measures: Measures) -> list[str]:
    """The languages with the fewest steps, where not all have as many."""
    study = measures.results.study
    steps = {code: study["steps"].get(code, study["specialist"]["steps"]) for code in measures.languages}
    least = min(steps.values())
    return [code for code, count in steps.items() if count == least] if least < max(steps.values()) else []


# ---- growth --------------------------------------------------------------------------------------------------------


def clone_is_equal(measures: Measures) -> Finding:
    """P3-1."""
    claim = "Before training, a cloned model equals its source."
    costs = measures.results.costs
    pairs = [("1x-cloned", "source", SMALL, "source"), ("2x", "grown", SMALL, "base")]
    found = []
    for (setup, role, other, before), code in itertools.product(pairs, [*measures.languages, measures.pivot]):
        clone, origin = measures.keys(group=setup, role=role), measures.keys(group=other, role=before)
        # Seed by seed, since differences of two seeds could cancel
        found += [
            abs((measures.score([one], [code]) - measures.score([other_one], [code])).point)
            for one, other_one in zip(clone, origin, strict=False)
        ]
    if costs.empty or "relative_logit_difference" not in costs or not found:
        return untestable("P3-1", claim, "a cloned model and its source, both scored")
    grown = costs[costs.relative_logit_difference.notna()]
    if not grown.preserves.all():
        return untestable("P3-1", claim, "ways of growing that preserve the function: `hyperclone`, `identity`")
    relative, largest = grown.relative_logit_difference.max(), grown.max_logit_difference.max()
    measured = (
        f"largest difference of logits {largest:.1e} ({relative:.1e} of the largest logit) over {len(grown)} grown "
        f"models; of scores {max(found):.1e} {METRICS[METRIC]}"
    )
    equal = relative <= ROUNDING and max(found) <= ROUNDING
    return Finding("P3-1", claim, measured, REPRODUCED if equal else NOT_REPRODUCED)


def _gaps(measures: Measures, languages: list[str]) -> dict[tuple[str, str], Sample]:
    """By grown setup and language: what the small model loses at equal FLOPs."""
    return {
        (setup, code): measures.equal_compute(setup, code)
        for setup, code in itertools.product(measures.grown, languages)
        if measures.specialist(setup, code) and measures.specialist(SMALL, code)
    }


def _in_words(measures: Measures, gaps: dict[tuple[str, str], Sample]) -> str:
    texts = []
    for setup in dict.fromkeys(setup for setup, _ in gaps):
        parts = [
            f"{code} {number(gap.point, 3, signed=True)} {interval(*gap.interval, 3)}"
            for (one, code), gap in gaps.items()
            if one == setup
        ]
        texts.append(f"{LABELS[setup]}: {', '.join(parts)}")
    return "; ".join(texts)


def growth_pays(measures: Measures) -> Finding:
    """P3-2: at the largest FLOPs that both have spent on a language, not counting the source's."""
    claim = "With enough text a grown model overtakes the small one at equal compute."
    few = smallest(measures)
    gaps = _gaps(measures, [code for code in measures.languages if code not in few])
    if not gaps:
        return untestable("P3-2", claim, "a small and a grown model of a language")
    measured = (
        f"bits/byte by which the small model is worse at equal FLOPs of continued pre-training: "
        f"{_in_words(measures, gaps)}"
    )
    middle = mean(measures.equal_compute(setup, code, ends=False) for setup, code in gaps)
    if np.isfinite(middle.point):
        measured += f"; at the last FLOPs before either schedule ends, mean {words(middle, METRIC, signed=True)}"
    longer = [found for setup, code in gaps if (found := measures.matched(setup, code)) is not None]
    if longer:
        measured += f"; when the small one ends its schedule there, mean {words(mean(longer), METRIC, signed=True)}"
    final = mean(
        measures.loss(
            measures.score(measures.specialist(setup, code), [code]),
            measures.score(measures.specialist(SMALL, code), [code]),
        )
        for setup, code in gaps
    )
    measured += f"; at equal tokens, mean {words(final, METRIC, signed=True)}"
    return Finding("P3-2", claim, measured, verdict(*(longer or gaps.values())))


def not_for_the_smallest(measures: Measures) -> Finding:
    """P3-2, its second half."""
    claim = "For the language with the least text it does not."
    few = smallest(measures)
    gaps = _gaps(measures, few)
    if not gaps:
        return untestable("P3-2b", claim, "a language with less text than the others (`steps`)")
    others = _gaps(measures, [code for code in measures.languages if code not in few]).values()
    worse = [Sample(-gap.point, -gap.draws) for gap in gaps.values()]
    measured = f"bits/byte by which the small model is worse at equal FLOPs: {_in_words(measures, gaps)}"
    if not any(gap.point > 0 for gap in others):
        return Finding("P3-2b", claim, f"{measured}; no other language does either", INCONCLUSIVE)
    return Finding("P3-2b", claim, measured, verdict(*worse))


def growth_forgets_less(measures: Measures) -> Finding:
    """P3-3: specialists after all their steps, equal tokens."""
    claim = f"Grown models forget less of {measures.pivot}."
    if SMALL not in measures.setups or not measures.grown:
        return untestable("P3-3", claim, "small and grown specialists")
    losses = {setup: measures.forgetting(setup, measures.languages) for setup in measures.setups}
    gaps = {setup: losses[SMALL] - losses[setup] for setup in measures.grown}
    texts = [f"{LABELS[setup]} {words(loss, METRIC, signed=True)}" for setup, loss in losses.items()]
    more = [f"{LABELS[setup]} {_estimate(losses[setup] - losses[SMALL])}" for setup in measures.grown]

    def gap(one: Measures) -> Sample:
        return mean(one.forgetting(SMALL, one.languages) - one.forgetting(s, one.languages) for s in one.grown)

    measured = (
        f"loss in {measures.pivot}, mean over specialists: {', '.join(texts)}; more than {LABELS[SMALL]}: "
        f"{', '.join(more)}{seeds(measures, gap)}"
    )
    return Finding("P3-3", claim, measured, verdict(*gaps.values()))


def _estimate(difference: Sample, scale: float = 1.0, decimals: int = 3) -> str:
    """A difference with its sign and interval; ``scale`` is 100 for shares."""
    low, high = difference.interval
    point = number(scale * difference.point, decimals, signed=True)
    return f"{point} {interval(scale * low, scale * high, decimals)}"


# ---- merges --------------------------------------------------------------------------------------------------------


def joint_is_better(measures: Measures) -> Finding:
    """P3-4: joint models against every merge of every subset, in the languages that are merged."""
    claim = "A joint model is better than any merge."
    gaps = {
        (setup, method, languages): measures.joint_gap(setup, systems, languages)
        for setup, method, size in itertools.product(measures.setups, measures.methods, measures.sizes)
        for languages, systems in measures.merges(setup, method, size).items()
        if measures.keys(group=setup, role="joint")
    }
    if not gaps:
        return untestable("P3-4", claim, "joint models and merges")
    least = min(gaps, key=lambda name: gaps[name].point)
    every = [gap for (_, _, languages), gap in gaps.items() if len(languages) == max(measures.sizes)]
    nearest = min(every, key=lambda gap: gap.point)
    setup, method, languages = least
    measured = (
        f"of {len(gaps)} merges the one that loses least against its setup's joint model is {method_label(method)} of "
        f"{'+'.join(languages)} ({LABELS[setup]}), {words(gaps[least], METRIC, signed=True)}; the best merge of all "
        f"languages loses {words(nearest, METRIC, signed=True)}"
    )
    return Finding("P3-4", claim, measured, verdict(*gaps.values()))


def grown_merges_better(measures: Measures) -> Finding:
    """P3-5: the share that the merge of all keeps of what its specialists had learnt, mean over methods.

    Said by method too: one that gains much can carry a mean of many that do not.
    """
    claim = "Grown models merge better than small ones."
    if SMALL not in measures.setups or not measures.grown or not measures.methods:
        return untestable("P3-5", claim, "merges of small and of grown models")

    def kept(one: Measures, setup: str) -> Sample:
        return mean(one.kept(setup, method) for method in one.methods)

    def gap(one: Measures) -> Sample:
        return mean(kept(one, setup) - kept(one, SMALL) for setup in one.grown)

    gaps = [kept(measures, setup) - kept(measures, SMALL) for setup in measures.grown]
    if not any(np.isfinite(one.point) for one in gaps):
        return untestable("P3-5", claim, "specialists that have clearly learnt something since their source")
    texts = []
    for setup in measures.setups:
        share = kept(measures, setup)
        low, high = (100 * end for end in share.interval)
        texts.append(f"{LABELS[setup]} {number(100 * share.point)} {interval(low, high)} %")
    more = [f"{LABELS[s]} {_estimate(g, 100, 1)}" for s, g in zip(measures.grown, gaps, strict=True)]
    by_method = {
        method: mean(measures.kept(setup, method) - measures.kept(SMALL, method) for setup in measures.grown)
        for method in measures.methods
    }
    methods = [f"{method_label(method)} {_estimate(share, 100, 1)}" for method, share in by_method.items()]
    measured = (
        f"share of what specialists learnt that the merge of all keeps, mean over methods: {', '.join(texts)}; points "
        f"more than {LABELS[SMALL]}: {', '.join(more)}{seeds(measures, gap)}; by method, mean of the grown: "
        f"{', '.join(methods)}"
    )
    return Finding("P3-5", claim, measured, verdict(*gaps))


def more_is_worse(measures: Measures) -> Finding:
    """P3-6: the merge of all against merges of two, mean over methods, in every setup."""
    claim = "Quality falls with the number of merged models."
    if len(measures.sizes) < 2:
        return untestable("P3-6", claim, "merges of two numbers of models")

    def lost(one: Measures, setup: str, size: int) -> Sample:
        return mean(one.size_loss(setup, method, size) for method in one.methods)

    def gap(one: Measures) -> Sample:
        few, many = min(one.sizes), max(one.sizes)
        return mean(lost(one, setup, many) - lost(one, setup, few) for setup in one.setups)

    few, many = min(measures.sizes), max(measures.sizes)
    texts = [
        f"{LABELS[setup]} " + ", ".join(number(lost(measures, setup, size).point, 3) for size in measures.sizes)
        for setup in measures.setups
    ]
    measured = (
        f"loss against the specialists by {', '.join(map(str, measures.sizes))} models, mean over methods and subsets "
        f"(bits/byte): {'; '.join(texts)}; {many} against {few}: {words(gap(measures), METRIC, signed=True)}"
    )
    steps = [lost(measures, setup, many) - lost(measures, setup, few) for setup in measures.setups]
    return Finding("P3-6", claim, measured + seeds(measures, gap), verdict(*steps))


def methods_differ(measures: Measures) -> Finding:
    """P3-7: large means that the worst method loses more than twice what the best one does: the ratio less 2."""
    claim = "Merge methods differ greatly: the worst loses more than twice what the best does."
    if len(measures.methods) < 2:
        return untestable("P3-7", claim, "merges by two methods")
    size = max(measures.sizes)
    losses = {
        setup: {method: measures.size_loss(setup, method, size) for method in measures.methods}
        for setup in measures.setups
    }
    texts, excess = [], []
    for setup, by_method in losses.items():
        ordered = sorted(by_method, key=lambda name: by_method[name].point)
        best, worst = ordered[0], ordered[-1]
        times = ratio(by_method[worst], by_method[best])
        excess.append(Sample(times.point - 2, times.draws - 2))
        texts.append(
            f"{LABELS[setup]} {method_label(worst)} {number(by_method[worst].point, 3)} bits/byte, "
            f"{number(times.point, 2)} {interval(*times.interval, 2)} times {method_label(best)}'s "
            f"{number(by_method[best].point, 3)}"
        )
    return Finding("P3-7", claim, f"loss of the merge of all: {'; '.join(texts)}", verdict(*excess))


def linear_is_arithmetic(measures: Measures) -> Finding:
    """P3-7b, arithmetic: base + mean(m - base) = mean(m). Asked of studies that make both merges."""
    claim = "Normalised task arithmetic with equal weights is the linear merge."
    found = []
    for setup, size in itertools.product(measures.setups, measures.sizes):
        other = measures.merges(setup, ARITHMETIC, size)
        for languages, systems in measures.merges(setup, LINEAR, size).items():
            found.append(abs((measures.score(systems, languages) - measures.score(other[languages], languages)).point))
    measured = f"largest difference of {len(found)} merges {max(found):.1e} {METRICS[METRIC]}"
    return Finding("P3-7b", claim, measured, REPRODUCED if max(found) <= ROUNDING else INCONCLUSIVE)


# ---- copies --------------------------------------------------------------------------------------------------------


def copies_stay_copies(measures: Measures) -> Finding:
    """Ours: a clone without noise, trained as the one with noise is."""
    claim = "Copies without noise are still copies after the specialist's training; noise parts them."
    copies = measures.copies()
    if copies.empty:
        return untestable("G1", claim, "a clone without noise beside one with it (`control`)")
    last = copies.step.max()
    after, before = (
        {bool(row.noise): row.difference for row in each(copies[copies.step == step])} for step in (last, 0)
    )
    without, noisy = (measures.copied(copies[copies.noise == noise].role.iloc[0]) for noise in (False, True))
    (language,) = set(copies.language)
    change = measures.score(without, [language]) - measures.score(noisy, [language])
    measured = (
        f"relative difference of the copies after {last} steps {after[False]:.2g} without noise ({before[False]:.2g} "
        f"before), {after[True]:.2g} with ({before[True]:.2g} before), one seed; {language} without noise minus with "
        f"{words(change, METRIC, signed=True)}"
    )
    parted = after[False] > PARTED * after[True]
    return Finding("G1", claim, measured, NOT_REPRODUCED if parted else REPRODUCED)
