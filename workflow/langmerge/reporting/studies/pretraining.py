"""The report of a study of pre-training: what monolingual models lose when merged, and from when on they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from langmerge.reporting.document import Document, Section, given
from langmerge.reporting.studies.claims import claims_in_words, claims_table
from langmerge.reporting.studies.figures import barrier_figure, layer_figure, sentences_of
from langmerge.reporting.studies.phenomena import phenomena_table
from langmerge.reporting.studies.pretraining_claims import find
from langmerge.reporting.studies.pretraining_figures import branch_figure, pair_figure, scatter_figure
from langmerge.reporting.studies.pretraining_measures import INITIALISATIONS, SAME, keys, pair_damage
from langmerge.reporting.studies.pretraining_tables import branch_table, pair_table
from langmerge.reporting.studies.results import LanguageResults, Samples
from langmerge.reporting.studies.tables import (
    cost_table,
    everywhere,
    method_label,
    model_table,
    notes,
    score_table,
)
from langmerge.reporting.tables_harness import harness_table

MIXED = {"total": "Mixed, tokens of one", "each": "Mixed, tokens of all"}
ACROSS = 4  # panels beside each other


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
            label = f"{method_label(method)} of all, {INITIALISATIONS[group]}"
            found[label] = everywhere(results, keys(results, role="merge", group=group, method=method))
    return {label: by_language for label, by_language in found.items() if any(by_language.values())}


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
                *(score_table(samples, f"scores_{task}", task, rows(results), by_seed=True) for task in results.tasks),
                phenomena_table(samples, rows(results)),
                harness_table(results.folders),
            ),
        ),
        Section("Pairs of languages", given(pair_figure(samples, few), pair_table(samples, labels))),
        Section("Damage by branch point", given(branch_figure(samples), branch_table(samples))),
        Section(
            "Similarity before, damage after",
            given(
                barrier_figure(results, few),
                layer_figure(
                    results,
                    ["cka.a", "cka.b"],
                    labels,
                    few,
                    "Similarity of two models by layer",
                    "Debiased linear CKA between two models that read the same sentences, in the language of one and "
                    f"of the other; mean and range over pairs. {sentences_of(results)}",
                ),
                scatter_figure(pair_damage(samples), measures, labels),
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
