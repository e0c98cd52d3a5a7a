"""The report of a study of growth: what growing a model brings to new languages, to the old one, and to merges."""

from __future__ import annotations

from langmerge.reporting.document import Document, Section, given
from langmerge.reporting.studies import growth_figures as figures
from langmerge.reporting.studies import growth_tables as tables
from langmerge.reporting.studies.claims import claims_in_words, claims_table
from langmerge.reporting.studies.growth_claims import LINEAR, find
from langmerge.reporting.studies.growth_measures import LABELS, TEXT, Measures
from langmerge.reporting.studies.phenomena import phenomena_table, rows_of_growth
from langmerge.reporting.studies.results import LanguageResults, Samples
from langmerge.reporting.studies.tables import cost_table, model_table, notes
from langmerge.reporting.table import si
from langmerge.reporting.tables_harness import harness_table


def compute_note(measures: Measures) -> list[str]:
    """What compute was counted, and what a token of each setup costs."""
    texts = []
    for setup in measures.setups:
        model = f"{setup}-{measures.languages[0]}"
        per_token = measures.cost(model, "flops") / measures.cost(model, "tokens")
        texts.append(f"{LABELS[setup]} {si(per_token)} a token ({si(measures.source_flops(setup))} for its source)")
    return [
        "FLOPs are the model's own, counted from the shapes and the lengths of the sequences that were read: "
        f"{'; '.join(texts)}. Growing costs none.",
        "At equal FLOPs the longer curve is read between its scored steps, in the middle of its schedule; a learning "
        "rate that has not come down yet speaks against it.",
        "The merges of a setup are measured against its own source. The released configurations of the paper name one "
        "base for merges of two setups, of which one cannot be the ancestor.",
    ]


def compose(results: LanguageResults) -> Document:
    """The whole report; sections without content are left out."""
    measures = Measures(Samples(results))
    findings = find(measures)
    tasks = results.tasks
    best = LINEAR if LINEAR in measures.methods else next(iter(measures.methods), "")
    sections = [
        Section("Summary", [claims_in_words(findings)]),
        Section(
            "Learning a language",
            given(
                *(tables.final_table(measures, task) for task in tasks),
                phenomena_table(measures.samples, rows_of_growth(measures)),
                figures.curve_figure(measures),
                compute_note(measures),
            ),
        ),
        Section(
            f"What is forgotten of {measures.pivot}",
            given(figures.forgetting_figure(measures), *(tables.forgetting_table(measures, task) for task in tasks)),
        ),
        Section(
            "Merges",
            given(
                *(tables.merge_table(measures, task) for task in tasks),
                figures.number_figure(measures),
                tables.size_table(measures, TEXT),
                tables.subset_table(measures, TEXT),
                figures.subset_figure(measures, best),
            ),
        ),
        Section("Tasks of lm-evaluation-harness", given(harness_table(results.folders))),
        Section("Findings", given(claims_table(findings, "Claims P3 are those of arXiv 2512.10772, G1 is ours."))),
        Section(
            "Growth, cost and models",
            given(
                tables.growth_table(measures),
                tables.copy_table(measures),
                cost_table(results),
                model_table(results),
                notes(results),
            ),
        ),
    ]
    languages = ", ".join(measures.languages)
    question = (
        f"A small model of {measures.pivot} was continued on each of {languages} as it was (1x), grown after its "
        "pre-training (1x cloned), and grown before the end of its pre-training (2x); the specialists of each setup "
        "were merged in all subsets, and one joint model was trained on all languages. What does growing bring to the "
        f"new languages, to {measures.pivot}, and to merging?"
    )
    return Document(results.study["title"], question, [s for s in sections if s.blocks], findings)
