"""The report's content in a reader's order: sections of paragraphs, lists, tables and figures."""

from __future__ import annotations

from dataclasses import dataclass, field

from langmerge.provenance import environment_fingerprint
from langmerge.reporting import figures, figures_angles, figures_models, headings, samples
from langmerge.reporting import tables_models as models
from langmerge.reporting import tables_runs as runs
from langmerge.reporting.figures import Figure
from langmerge.reporting.figures_ablation import ablation_figure
from langmerge.reporting.figures_damage import forest_figure, scatter_figure
from langmerge.reporting.figures_landscape import line_figure, matrix_figure, plane_figure
from langmerge.reporting.figures_patches import patch_figure
from langmerge.reporting.figures_redistribution import redistribution_figure
from langmerge.reporting.figures_similarity import language_figure, similarity_figure
from langmerge.reporting.figures_units import flow_figure, site_figure, units_figure
from langmerge.reporting.figures_weights import weight_figure
from langmerge.reporting.findings import find, findings_table, summary
from langmerge.reporting.load import Results
from langmerge.reporting.samples import Scores, arrow
from langmerge.reporting.table import Table
from langmerge.reporting.tables_ablation import ablation_heading, ablation_table
from langmerge.reporting.tables_damage import predictor_table
from langmerge.reporting.tables_data import data_table, example_table, printable
from langmerge.reporting.tables_harness import harness_table
from langmerge.reporting.tables_rankings import ranking_table
from langmerge.reporting.tables_redistribution import (
    redistribution_heading,
    redistribution_table,
    redistribution_words,
)
from langmerge.reporting.tables_scores import (
    SIGNIFICANT,
    further_tables,
    output_table,
    pair_table,
    patch_table,
    retention_table,
    score_table,
)
from langmerge.reporting.tables_units import embedding_table, unit_table
from langmerge.reporting.tables_weights import weight_table
from langmerge.reporting.verdicts import Finding

LIBRARIES = ("numpy", "pandas", "matplotlib", "sacrebleu", "typst", "jinja2")


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it; ``blocks`` are paragraphs, lists of sentences, tables and figures.

    A title may say what was found after a colon: ``name`` is what stands before it.
    """

    title: str
    blocks: list[str | list[str] | Table | Figure] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The title without the finding, as short as links must be."""
        return self.title.partition(": ")[0]


@dataclass(frozen=True)
class Document:
    """A report before it has a format."""

    title: str
    question: str
    sections: list[Section]
    findings: list[Finding]

    @property
    def tables(self) -> list[Table]:
        """All tables in order."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Table)]

    @property
    def figures(self) -> list[Figure]:
        """All figures in order."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Figure)]


def question(results: Results) -> str:
    """What the study asks, in one paragraph."""
    study, pivot = results.study, results.pivot
    languages = ", ".join(results.languages)
    names = dict.fromkeys(results.systems[results.systems.role == "merge"].name)
    merges = ", ".join(samples.label("merge", name) for name in names) or "none"
    seeds = "one seed" if len(results.seeds) == 1 else f"{len(results.seeds)} seeds"
    joint = (
        "; a joint model, trained on all of them at once, is the other way to get one model"
        if study.get("joint")
        else ""
    )
    groups = " and ".join(arrow(group, pivot) for group in results.groups)
    return (
        f"One base model was fine-tuned into a translation specialist for each of {languages} with {pivot} "
        f"({groups}; {seeds}), "
        f"and the specialists of a direction were merged in weight space ({merges}){joint}. How much of what "
        "each specialist "
        "has learnt does the merge keep, and where does it lose it?"
    )


def notes(results: Results) -> list[str]:
    """Significance settings, decoding and versions."""
    e = results.study["evaluation"]
    prompt = results.study["prompt"]
    return [
        f"Intervals: paired bootstrap over sentences, {e['bootstrap_samples']} samples, percentiles 2.5 and "
        f"97.5, seed {e['seed']}; "
        "systems and directions with the same sentences share their draws. Languages and seeds are fixed, not "
        "resampled.",
        f"Tests: approximate randomization, {e['randomization_trials']} trials, two-sided, p = (c + 1) / (n + "
        "1), Holm's correction, "
        f"level {SIGNIFICANT}.",
        f"Decoding: greedy, at most {e['max_new_tokens']} new tokens. Prompt ({prompt['format']}): "
        f"{prompt['template']!r}.",
        f"Seeds of the models: {', '.join(map(str, results.seeds))}. Hyper-parameters were chosen on dev by "
        f"{samples.METRICS[results.study['merging']['select_by']]}; test was scored once, with the chosen ones.",
        "Environment of this report: " + environment_fingerprint(*LIBRARIES) + ".",
    ]


def given(*blocks: str | list[str] | Table | Figure | None) -> list[str | list[str] | Table | Figure]:
    """The blocks that there are."""
    return [block for block in blocks if block is not None and block != []]


def compose(results: Results) -> Document:
    """The whole report; sections without content are left out."""
    scores = Scores(results)
    findings = find(scores)
    merged = any(scores.merges(group) for group in results.groups)
    groups = [group for group in results.groups if scores.rows(group)]
    patched = results.table("patches/patches")
    merges = [] if patched.empty else list(dict.fromkeys(patched.onto))
    sections = [
        Section("Summary", [summary(findings)]),
        Section(
            "Translation quality",
            given(
                *(score_table(scores, group) for group in groups),
                figures.retention_figure(scores),
                retention_table(scores, samples.retention) if merged else None,
                retention_table(scores, samples.ratio) if merged else None,
                *(table for group in groups for table in further_tables(scores, group)),
                harness_table(results.folders),
                output_table(scores),
            ),
        ),
        Section("Fine-tuning strength", given(figures.drift_figure(scores))),
        Section("Pairs of languages", given(figures.pair_figure(scores), pair_table(scores))),
        Section(
            headings.damage(results),
            given(forest_figure(results), scatter_figure(results), predictor_table(results)),
        ),
        Section(
            headings.patches(results, merges[0]) if merges else "Where in the model the merge breaks",
            given(*(patch_figure(results, onto) for onto in merges), patch_table(scores)),
        ),
        Section(
            headings.landscape(results),
            given(line_figure(results), plane_figure(results), matrix_figure(results)),
        ),
        Section(headings.weights(results), given(weight_figure(results), weight_table(results))),
        Section(
            "Inside the models",
            given(
                similarity_figure(results),
                models.cka_table(results),
                language_figure(results),
                figures_angles.angle_figure(results),
                figures_angles.map_figure(results),
                units_figure(results),
                site_figure(results),
                unit_table(results),
                figures_models.usage_figure(results),
            ),
        ),
        Section(
            redistribution_heading(results),
            given(
                redistribution_words(results),
                redistribution_figure(results),
                redistribution_table(results),
                *(flow_figure(results, group) for group in groups),
            ),
        ),
        Section(ablation_heading(results), given(ablation_figure(results), ablation_table(results))),
        Section("Tuning of the merges", given(figures.grid_figure(scores), runs.hyperparameter_table(results))),
        Section("Cost and data", given(runs.cost_table(results), figures.training_figure(scores), data_table(results))),
        Section("The paper's claims", given(findings_table(findings))),
        Section("Examples", given(*(example_table(scores, group) for group in groups))),
        Section(
            "Appendix",
            given(
                notes(results),
                runs.signature_table(scores),
                runs.seed_table(scores),
                ranking_table(results),
                models.neuron_table(results),
                models.turnover_table(results),
                embedding_table(results),
                runs.model_table(results),
            ),
        ),
    ]
    return Document(
        results.study["title"], question(results), [section for section in sections if section.blocks], findings
    )


def without_unprintable(table: Table) -> Table | None:
    """An example table for the PDF: without the sentences whose script its fonts lack; None if none is left."""
    from dataclasses import replace

    blocks: list[list[int]] = []
    for index, _ in enumerate(table.rows):
        if index == 0 or index in table.rules:
            blocks.append([])
        blocks[-1].append(index)
    kept = [block for block in blocks if all(printable(table.rows[i][-1].text) for i in block)]
    if len(kept) == len(blocks):
        return table
    if not kept:
        return None
    starts = [sum(len(b) for b in kept[:i]) for i in range(1, len(kept))]
    caption = table.caption + " Sentences in scripts that this file's fonts lack are in the HTML report only."
    return replace(table, rows=[table.rows[i] for block in kept for i in block], rules=starts, caption=caption)
