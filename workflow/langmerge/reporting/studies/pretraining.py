"""The report of a study of pre-training: what monolingual models lose when merged, and from when on they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from langmerge.reporting.document import Document, Section, given
from langmerge.reporting.figures import COLUMN, MARKERS, TEXT, Figure, colour, panels, settle
from langmerge.reporting.findings import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Finding, verdict
from langmerge.reporting.samples import Sample, mean
from langmerge.reporting.studies.claims import claims_in_words, claims_table, untestable
from langmerge.reporting.studies.figures import barrier_figure, layer_figure, matrix_figure
from langmerge.reporting.studies.results import LanguageResults, Samples
from langmerge.reporting.studies.tables import (
    cost_table,
    everywhere,
    method_label,
    model_table,
    notes,
    score_table,
    words,
)
from langmerge.reporting.table import interval, number
from langmerge.reporting.tables_harness import harness_table

TEXT_TASK, METRIC = "text", "bits_per_byte"
INITIALISATIONS = {"shared": "shared initialisation", "different": "different initialisations"}
MIXED = {"total": "Mixed, tokens of one", "each": "Mixed, tokens of all"}
PERMUTATIONS = 9999
LEAST = 6  # pairs of which a rank correlation is worth a verdict
SAME = "cka.same"  # both models reading one language, mean of the two languages
ACROSS = 4  # panels beside each other


def keys(results: LanguageResults, **values: object) -> list[str]:
    """Keys of the systems with these values, one a seed where they name one system."""
    return list(results.select(**values).key)


# ---- rows of tables ------------------------------------------------------------------------------------------------


def rows(results: LanguageResults) -> dict[str, Mapping[str, Sequence[str]]]:
    """Untrained, monolingual (each in its own language), mixed and merged models, by language."""
    found: dict[str, Mapping[str, Sequence[str]]] = {
        "Random weights": everywhere(results, keys(results, role="origin"))
    }
    for group in results.study["initialisations"]:
        own = {code: keys(results, role="monolingual", group=group, language=code) for code in results.languages}
        found[f"Monolingual, {INITIALISATIONS[group]}"] = own
    for kind in results.study["mixed"]:
        found[MIXED[kind]] = everywhere(results, keys(results, role="mixed", tokens=kind))
    for group in results.study["initialisations"]:
        merges = results.select(role="merge", group=group)
        for method in dict.fromkeys(merges.method if len(merges) else []):
            label = f"{method_label(method)} of all, {group}"
            found[label] = everywhere(results, keys(results, role="merge", group=group, method=method))
    return {label: by_language for label, by_language in found.items() if any(by_language.values())}


# ---- damage --------------------------------------------------------------------------------------------------------


def own_score(samples: Samples, group: str, language: str) -> Sample:
    """Bits per byte of the model of a language in its language."""
    role = "branch" if group.startswith("branch") else "monolingual"
    return samples.average(keys(samples.results, role=role, group=group, language=language), TEXT_TASK, [language])


def damage(samples: Samples, systems: Sequence[str], group: str, languages: Sequence[str]) -> Sample:
    """What merges lose against the models of their languages, mean over these languages, bits per byte; > 0: loss."""
    return mean(samples.average(systems, TEXT_TASK, [code]) - own_score(samples, group, code) for code in languages)


def branch_points(samples: Samples) -> dict[float, dict[str, Sample]]:
    """By share of mixed steps and method: damage of the merge of all branches."""
    results = samples.results
    merged = results.select(role="branch_merge")
    found: dict[float, dict[str, Sample]] = {}
    for share in sorted(set(merged["share"])) if len(merged) else []:
        group = f"branch-{share:g}" if share else "shared"
        for method in dict.fromkeys(merged.method):
            systems = keys(results, role="branch_merge", share=share, method=method)
            found.setdefault(share, {})[method] = damage(samples, systems, group, results.languages)
    return found


def pair_damage(samples: Samples) -> pd.DataFrame:
    """One row a pair, group and seed: damage of its linear merge, and every measure of the pair before merging."""
    results = samples.results
    pairs = results.diagnoses.get("pairs", pd.DataFrame())
    found = []
    for merge in results.select(role="pair", method="linear").to_dict("records"):
        a, b = merge["models"]
        loss = mean(
            samples.of(merge["key"], TEXT_TASK, code)
            - samples.average(keys(results, name=model, seed=merge["seed"]), TEXT_TASK, [code])
            for model, code in zip((a, b), merge["languages"], strict=True)
        )
        here = pairs[(pairs.seed == merge["seed"]) & (pairs.a == a) & (pairs.b == b)] if len(pairs) else pairs
        head = {"seed": merge["seed"], "group": merge["group"], "pair": "–".join(merge["languages"])}
        measured: dict[str, float] = dict(zip(here.measure, here.value, strict=True)) if len(here) else {}
        measured[SAME] = float(np.mean([measured.get(f"cka.{side}", np.nan) for side in "ab"]))
        found.append(head | {"damage": loss.point} | measured)
    return pd.DataFrame(found)


# ---- figures -------------------------------------------------------------------------------------------------------


def branch_figure(samples: Samples) -> Figure | None:
    """Damage of the merge against the share of steps before the branches."""
    points = branch_points(samples)
    if len(points) < 2:
        return None
    drawing, axes = panels(1, 1, COLUMN, 2.2)
    ax = axes[0, 0]
    for place, method in enumerate(next(iter(points.values()))):
        found = {share: by_method[method] for share, by_method in points.items()}
        low, high = zip(*(sample.interval for sample in found.values()), strict=True)
        look = {"color": colour(place), "marker": MARKERS[place % len(MARKERS)]}
        shares = [100 * share for share in found]
        ax.plot(shares, [sample.point for sample in found.values()], label=method_label(method), **look)
        ax.fill_between(shares, low, high, color=colour(place), alpha=0.2, linewidth=0)
    ax.axhline(0, color="0.4", linewidth=0.8)
    ax.set_xlabel("mixed steps before the branches (%)")
    ax.set_ylabel("loss by merging (bits/byte)")
    ax.legend()
    return Figure(
        "branches",
        "Merge damage by branch point",
        "Bits per byte that the merge of all branches loses against each branch in its language, mean over languages; "
        "band: 95 % bootstrap interval. At 0 % the branches are monolingual models from shared random weights.",
        settle(drawing),
    )


def scatter_figure(table: pd.DataFrame, measures: Mapping[str, str]) -> Figure | None:
    """Damage of pair merges against measures taken before merging, one panel a measure."""
    shown = [name for name in measures if name in table and table[name].notna().sum() > 3]
    if not shown:
        return None
    drawing, axes = panels(1, len(shown), min(TEXT, 2.1 * len(shown)), 2.3, sharey=True)
    for ax, measure in zip(axes.flat, shown, strict=True):
        for place, (group, rows_) in enumerate(table.groupby("group", sort=False)):
            style = {"color": colour(place), "marker": MARKERS[place % len(MARKERS)]}
            ax.scatter(rows_[measure], rows_.damage, s=14, label=str(group), **style)
        rho, p = association(table[measure], table.damage)
        ax.set_title(f"ρ = {number(rho, 2)}, p = {p:.2g}")
        ax.set_xlabel(measures[measure])
    axes[0, 0].set_ylabel("loss by merging (bits/byte)")
    handles, names = axes[0, 0].get_legend_handles_labels()
    drawing.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)))
    return Figure(
        "similarity",
        "Similarity before merging against damage after it",
        "Each point is a pair of models, averaged by the linear method. Spearman's ρ over all pairs; p by permuting "
        f"pairs ({PERMUTATIONS} draws, two-sided), not corrected. Pairs that share a language are not independent.",
        settle(drawing),
    )


def association(x: pd.Series, y: pd.Series) -> tuple[float, float]:
    """Spearman's rank correlation of the pairs where both are known, and its permutation p."""
    known = x.notna() & y.notna()
    a, b = x[known].to_numpy(), y[known].to_numpy()
    if len(a) < 4 or len(set(a)) < 2 or len(set(b)) < 2:
        return float("nan"), float("nan")
    ranks = stats.zscore(stats.rankdata(b)) / len(b)

    def rho(shuffled: np.ndarray, axis: int) -> np.ndarray:
        # of ranks, whose mean and spread no permutation changes
        return np.sum(shuffled * ranks, axis=axis)

    test = stats.permutation_test(
        (stats.zscore(stats.rankdata(a)),),
        rho,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        rng=np.random.default_rng(1),
    )
    return float(test.statistic), float(test.pvalue)


def pair_figure(samples: Samples, labels: Mapping[str, str]) -> Figure | None:
    """Heat maps of pair merges: mean loss of both languages against their own models; groups of ``labels``."""
    results = samples.results
    table = pair_damage(samples)
    if table.empty:
        return None
    matrices = {}
    for group, rows_ in table[table.group.isin(labels)].groupby("group", sort=False):
        matrix = pd.DataFrame(np.nan, index=results.languages, columns=results.languages)
        for pair, value in rows_.groupby("pair").damage.mean().items():
            a, b = str(pair).split("–")
            matrix.loc[a, b] = matrix.loc[b, a] = value
        matrices[labels[str(group)]] = matrix
    caption = "Bits per byte that the average of two models loses against each in its language, mean of both."
    return matrix_figure("pairs", "Merges of two models", caption, matrices, "loss (bits/byte)")


# ---- claims --------------------------------------------------------------------------------------------------------


def find(samples: Samples) -> list[Finding]:
    """The claims of arXiv 2605.25846 (P1) and ours."""
    return [
        collapse(samples),
        no_rescue(samples),
        mixed_is_better(samples),
        monolingual_is_best(samples),
        branching_helps(samples),
        similarity_foretells(samples),
        initialisation_matters(samples),
    ]


def _merges(results: LanguageResults, group: str) -> dict[str, list[str]]:
    merges = results.select(role="merge", group=group)
    return {method: list(merges[merges.method == method].key) for method in dict.fromkeys(merges.method)}


def collapse(samples: Samples) -> Finding:
    """P1-2."""
    claim = "Merging any combination of monolingual models collapses: worse than every parent in its language."
    results = samples.results
    losses = {
        f"{name} ({group})": damage(samples, systems, group, results.languages)
        for group in results.study["initialisations"]
        for name, systems in _merges(results, group).items()
    }
    if not losses:
        return untestable("P1-2", claim, "merges of monolingual models")
    least = min(losses, key=lambda name: losses[name].point)
    origin = samples.average(keys(results, role="origin"), TEXT_TASK, results.languages)
    measured = (
        f"the merge of all that loses least, {least}, loses {words(losses[least], METRIC)} against the monolingual "
        f"models (random weights have {words(origin, METRIC)})"
    )
    return Finding("P1-2", claim, measured, verdict(*losses.values()))


def no_rescue(samples: Samples) -> Finding:
    """P1-3: the best of the methods against interference is not within a tenth of a bit of the parents."""
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
    return Finding("P1-3", claim, f"loss against the monolingual models: {texts}", verdict(*losses.values()))


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
    return Finding("P1-5", claim, measured, verdict(drop))


def similarity_foretells(samples: Samples) -> Finding:
    """P1-5, its second half: similarity before merging; the interval is that of Fisher's z over pairs."""
    name, claim = "P1-5b", "Damage by merging falls with the similarity of the representations before it."
    table = pair_damage(samples)
    if SAME not in table or table[SAME].notna().sum() < LEAST:
        return untestable(name, claim, f"{LEAST} merged pairs with CKA")
    rho, p = association(table[SAME], table.damage)
    n = int(table[SAME].notna().sum())
    # of Spearman's rho: Bonett and Wright 2000
    width = 1.96 * np.sqrt((1 + rho**2 / 2) / (n - 3))
    low, high = np.tanh(np.arctanh(np.clip(rho, -0.999999, 0.999999)) + np.array([-width, width]))
    settled = REPRODUCED if high < 0 else NOT_REPRODUCED if low > 0 else INCONCLUSIVE
    measured = (
        f"rank correlation over {n} pairs of debiased CKA on the same input and damage: {number(rho, 2)} "
        f"{interval(low, high, 2)}, permutation p = {p:.2g}; pairs share models, so this is less sure than it looks"
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
    return Finding("P1-6", claim, measured, verdict(gap))


# ---- the report ----------------------------------------------------------------------------------------------------


def compose(results: LanguageResults) -> Document:
    """The whole report; sections without content are left out."""
    samples = Samples(results)
    findings = find(samples)
    branches = sorted(set(results.select(role="branch").group), key=lambda name: float(name.partition("-")[2]))
    labels = {group: INITIALISATIONS[group] for group in results.study["initialisations"]}
    labels |= {group: f"branches at {100 * float(group.partition('-')[2]):g} %" for group in branches}
    chosen = [*results.study["initialisations"], *branches[len(branches) // 2 :: max(1, len(branches) // 2)]]
    few = {group: labels[group] for group in chosen[:ACROSS]}
    measures = {SAME: "CKA, same input", "distance.relative": "distance / norm", "cosine": "cosine of task vectors"}
    sections = [
        Section("Summary", [claims_in_words(findings)]),
        Section(
            "Scores by language",
            given(
                *(score_table(samples, f"scores_{task}", task, rows(results)) for task in results.tasks),
                harness_table(results.folders),
            ),
        ),
        Section("Pairs of languages", given(pair_figure(samples, few))),
        Section("From when on models can be merged", given(branch_figure(samples))),
        Section(
            "Similarity before, damage after",
            given(
                barrier_figure(results, few),
                layer_figure(
                    results,
                    ["cka.a", "cka.b"],
                    few,
                    "Similarity of two models by layer",
                    "Debiased linear CKA between two models that read the same sentences, in the language of one and "
                    "of the other; mean and range over pairs.",
                ),
                scatter_figure(pair_damage(samples), measures),
            ),
        ),
        Section("Findings", given(claims_table(findings, "Claims P1 are those of arXiv 2605.25846."))),
        Section("Cost and models", given(cost_table(results), model_table(results), notes(results))),
    ]
    languages = ", ".join(results.languages)
    question = (
        f"Language models for {languages} were pre-trained apart, mixed, and mixed for a while before they branched "
        "off; the models that were trained apart were then merged in weight space. What does merging cost, and what "
        "tells beforehand?"
    )
    return Document(results.study["title"], question, [s for s in sections if s.blocks], findings)
