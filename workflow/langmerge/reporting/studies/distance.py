"""The report of a study of distance: which kind makes merging fail, and what tells beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from langmerge.reporting.document import Document, Section, given
from langmerge.reporting.studies import distance_measures as measures
from langmerge.reporting.studies import dyads
from langmerge.reporting.studies.claims import claims_in_words, claims_table
from langmerge.reporting.studies.distance_claims import answer, find, ranked_kinds
from langmerge.reporting.studies.distance_evidence import Evidence
from langmerge.reporting.studies.distance_figures import (
    NAMES,
    conditional_figure,
    dose_figure,
    effect_figure,
    fitted,
    foresight_figure,
    pair_figure,
    scatter_figure,
)
from langmerge.reporting.studies.distance_measures import BEFORE, KINDS
from langmerge.reporting.studies.distance_tables import (
    diagnosis_table,
    difficulty_table,
    effect_table,
    foresight_table,
)
from langmerge.reporting.studies.results import LanguageResults, Samples
from langmerge.reporting.studies.tables import cost_table, counted, method_label, model_table, notes
from langmerge.reporting.table import Table
from langmerge.reporting.tables_harness import harness_table
from langmerge.reporting.verdicts import NOT_REPRODUCED, REPRODUCED, Finding


def findings_table(findings: list[Finding], weighed: bool) -> Table:
    """The findings; what the verdicts mean here. ``weighed``: whether the base's languages were given weights."""
    table = claims_table(findings, "Claims of our own.")
    caption = (
        "Claims of our own; the split in D5, like D9 and D10, was put after a look at results. "
        + (
            "The base's text is weighted (`weights` of the scale), so that all languages are known equally well. "
            if weighed
            else ""
        )
        + "D1 and D2: 95 % bootstrap intervals over sentences; the others: 95 % jackknife intervals over languages and "
        "permutation p-values. "
        "Reproduced: the number points the claim's way, and of interval and p those that are given exclude chance; not "
        "reproduced: it points the other way as clearly; inconclusive: neither."
    )
    return Table(
        table.name, table.title, caption, table.columns, table.rows, table.data, text_columns=4, stretch=table.stretch
    )


def heading(title: str, finding: Finding, short: Mapping[str, str]) -> str:
    """A title with what was found, where the finding's verdict has words for it."""
    return f"{title}: {short[finding.verdict]}" if finding.verdict in short else title


def of_real_text(corpus: Mapping[str, Any], kinds: Set[str]) -> str:
    """What the transforms of real text are, those among ``kinds``; empty for the embedded corpus."""
    made = {
        "lexicon": "invented words are a cipher of letters (vowels for vowels, consonants for consonants)",
        "order": "another order is the words between two punctuation marks in reverse",
        "script": "another script is another letter for each",
    }
    if corpus["kind"] == "embedded":
        return ""
    chosen = "; ".join(text for kind, text in made.items() if kind in kinds)
    return f" The text is real: {chosen}. Removing agreement takes morphology, and is left out."


def _order(evidence: Evidence) -> list[int]:
    """Languages of one side of the moderator together, those that changed less first."""
    sizes = [sum(float(matrix[0, i]) for matrix in evidence.distances.values()) for i in range(len(evidence.names))]
    first = evidence.distances[evidence.moderator][0] if evidence.moderator else np.zeros(len(sizes))
    return sorted(range(len(sizes)), key=lambda i: (first[i], sizes[i], i))


def compose(results: LanguageResults) -> Document:
    """The whole report; sections without content are left out."""
    samples = Samples(results)
    evidence = Evidence(samples)
    findings = find(evidence)
    named = {finding.name: finding for finding in findings}
    codes, first = results.languages, evidence.methods[0]
    order = _order(evidence)
    outcome = evidence.outcome(first)
    worst = NAMES[ranked_kinds(evidence).kind.iloc[0]].lower() if evidence.distances else ""
    tables = {f"{method_label(method)}, {column}": table for (method, column), table in evidence.effects.items()}
    seeds = len(results.seeds)
    blocks = [
        dose_figure(evidence.pairs, fitted(outcome, evidence.distances, evidence.pairs)),
        effect_figure(evidence.effects[first, "retention"], evidence.slopes_by_seed(), "retention"),
        conditional_figure(evidence.conditional, evidence.moderator),
        effect_table(tables, len(dyads.upper(outcome)), len(codes), seeds),
    ]
    foresight = evidence.foresight
    told = []
    if foresight is not None:
        best = list(foresight[foresight.before].name)[:1]  # over all pairs, and the best among those alike
        if evidence.moderator:
            alike = foresight[foresight.before].sort_values("alike_rho", key=abs, ascending=False)
            best = list(dict.fromkeys([*best, *alike.name]))[:3]
        told = given(
            foresight_figure(foresight, evidence.correlations_by_seed(), evidence.moderator),
            scatter_figure(evidence.pairs, {name: BEFORE[name] for name in best}, evidence.moderator),
            foresight_table(foresight, dyads.foretold(outcome, evidence.known), evidence.repeats, evidence.moderator),
            diagnosis_table(measures.diagnosed(evidence.measured, evidence.distances, evidence.seed)),
        )
    sections = [
        Section("Summary", [*answer(evidence), claims_in_words(findings)]),
        Section(
            heading(
                "Equal difficulty", named["ours-D1"], {REPRODUCED: "shown", NOT_REPRODUCED: "not for every language"}
            ),
            [difficulty_table(evidence.difficulty, evidence.names, counted(results, measures.TASK))],
        ),
        Section(
            heading("Which kind of distance", named["ours-D4"], {REPRODUCED: f"{worst} costs most"}), given(*blocks)
        ),
        Section(
            "Every pair",
            [
                pair_figure(
                    outcome[np.ix_(order, order)],
                    [evidence.names[codes[i]] for i in order],
                    method_label(first).lower(),
                )
            ],
        ),
        Section(
            heading(
                "What tells beforehand",
                named["ours-D6"],
                {REPRODUCED: BEFORE[foresight.name.iloc[0]]} if foresight is not None else {},
            ),
            told,
        ),
        Section("Tasks of lm-evaluation-harness", given(harness_table(results.folders))),
        Section("Findings", given(findings_table(findings, bool(results.study["weights"])))),
        Section("Cost and models", given(cost_table(results), model_table(results), notes(results))),
    ]
    kinds = ", ".join(KINDS[kind].lower() for kind in evidence.distances)
    question = (
        f"Real languages that are farther apart also differ in how hard they are. Here {codes[0]} and "
        f"{len(codes) - 1} transforms of it differ in {kinds} and in nothing else: the same meanings in as many "
        "sentences. A base model learnt all of them; a specialist was trained for each, and every pair was "
        f"merged in weight space ({seeds} seed{'s' if seeds != 1 else ''}). Which kind of distance makes "
        "merging fail, and what tells beforehand?" + of_real_text(results.study["corpus"], set(evidence.distances))
    )
    return Document(results.study["title"], question, [s for s in sections if s.blocks], findings)
