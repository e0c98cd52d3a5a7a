"""The report of a study of maintenance: what merging saves when a multilingual model is built and kept up to date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from langmerge.reporting.document import Document, Section, given
from langmerge.reporting.samples import Sample, mean
from langmerge.reporting.studies.claims import claims_in_words, claims_table
from langmerge.reporting.studies.maintenance_claims import find
from langmerge.reporting.studies.maintenance_cost_claims import QUIET
from langmerge.reporting.studies.maintenance_costs import (
    COUNTERS,
    INITIAL,
    SCENARIOS,
    WAYS,
    Ledger,
    core_share,
    workers_used,
)
from langmerge.reporting.studies.maintenance_figures import cosine_figure, cost_figure, density_figure, gap_figure
from langmerge.reporting.studies.maintenance_measures import (
    LEAD,
    View,
    adjusted,
    equivalence,
    label,
    narrow,
)
from langmerge.reporting.studies.maintenance_scenarios import addition_tables, update_tables
from langmerge.reporting.studies.results import METRICS, TASKS, LanguageResults, Samples
from langmerge.reporting.studies.tables import cost_table, counted, everywhere, model_table, notes, score_table
from langmerge.reporting.table import EMPTY, Cell, Table, cells, interval, number, p_text, si
from langmerge.reporting.tables_harness import harness_table

SETTINGS = [
    "Adapters are merged as the changes of the weight matrices that they stand for (alpha / rank B A), all tensors at "
    "once, not factor by factor.",
    "Every training sees each of its items about as often: the combined model has as many steps as the specialists of "
    "its items together, going on with replay as many as its new items and the replayed ones need.",
]
SOURCE = (
    "Claims P2 are those of arXiv 2601.16127, but for those marked ours. Intervals of work: what the same trainings "
    "might have taken, by how much the pace of a task's specialists varies (parametric bootstrap)."
)


# ---- quality -------------------------------------------------------------------------------------------------------


def rows(view: View, group: str) -> dict[str, Mapping[str, Sequence[str]]]:
    """T1: base, individual, combined and merged models, by language."""
    results = view.results
    own = {
        code: view.keys(group, role="specialist", language=code, scenario=INITIAL) for code in view.languages
    }  # each in its own language
    found: dict[str, Mapping[str, Sequence[str]]] = {
        "Base": everywhere(results, view.keys(group, role="base")),
        "Individual": own,
        "Combined": everywhere(results, view.keys(group, role="combined", scenario=INITIAL)),
    }
    for method in view.methods(group):
        found[label(method)] = everywhere(results, view.keys(group, role="merge", method=method, scenario=INITIAL))
    clusters = results.select(group=group, role="cluster")
    by_language: dict[str, Sequence[str]] = {}
    for row in clusters.to_dict("records"):
        for code in row["languages"]:
            by_language[code] = [*by_language.get(code, []), row["key"]]
    found[f"{label(LEAD)} of its cluster"] = by_language
    return {name: keys for name, keys in found.items() if any(keys.values())}


def scores(view: View, group: str) -> Table:
    """T1 of one task and tuning."""
    task = view.tasks[group][0]
    table = score_table(view.samples, f"scores_{group.replace('-', '_')}", task, rows(view, group))
    return replace(table, title=f"{view.title(group)}: {METRICS[view.metric(group)]} by language")


def further_table(view: View) -> Table | None:
    """The metrics beside the main one, mean over languages."""
    scored = view.results.scores
    lines, data = [], []
    for group in view.groups:
        task = view.tasks[group][0]
        metrics = [name for name in scored[scored.task == task].metric.unique() if name != view.metric(group)]
        for name, keys in rows(view, group).items() if metrics else []:
            found = {
                metric: mean(view.samples.average(keys.get(code, []), task, [code], metric) for code in view.languages)
                for metric in metrics
            }
            texts = [f"{METRICS[m]} {number(s.point, 1)} {interval(*s.interval)}" for m, s in found.items()]
            lines.append(cells([view.title(group), name, "; ".join(texts)]))
            data += [
                {"group": group, "system": name, "metric": metric, "score": sample.point}
                | {"low": sample.interval[0], "high": sample.interval[1]}
                for metric, sample in found.items()
            ]
    if not lines:
        return None
    caption = "Mean over languages with 95 % bootstrap intervals; items as in the tables of the main metrics."
    return Table(
        "further", "Further metrics", caption, ["task", "system", "scores"], lines, pd.DataFrame(data), text_columns=3
    )


def gap_table(view: View) -> Table | None:
    """Every merge against the combined model and the individual ones, with the test of equivalence."""
    lines, data = [], []
    for group in view.groups:
        individual = view.own(group) - view.average(group, role="combined", scenario=INITIAL)
        found = {"Individual": individual} | {label(m): view.gap(group, m) for m in view.methods(group)}
        corrected = adjusted(found)
        for name, gap in found.items():
            verdict = equivalence(gap, view.margin)
            p = corrected.get(name, float("nan"))
            texts = [view.title(group), name, number(gap.point, 1, True), interval(*gap.interval)]
            lines.append(cells([*texts, interval(*narrow(gap)), p_text(p), verdict]))
            data.append(
                {"group": group, "system": name, "gap": gap.point, "low": gap.interval[0], "high": gap.interval[1]}
                | {"low90": narrow(gap)[0], "high90": narrow(gap)[1], "p_holm": p, "verdict": verdict}
            )
    if not lines:
        return None
    tasks = "; ".join(
        f"{TASKS[t]}: {counted(view.results, t)}" for t in dict.fromkeys(t for t, _ in view.tasks.values())
    )
    caption = (
        f"Score less the combined model's, in points, mean over languages. Equal: the 90 % interval lies within "
        f"±{view.margin:g} points (two one-sided tests at level 0.05); else below or above, where the 95 % interval "
        "leaves out 0; open: neither. p: two-"
        f"sided from the bootstrap, after Holm within a task and tuning. {tasks}."
    )
    columns = ["task", "system", "difference", "95 %", "90 %", "p", "verdict"]
    rules = [i for i, group in enumerate(d["group"] for d in data) if i and data[i - 1]["group"] != group]
    return Table(
        "gaps", "Merged against combined", caption, columns, lines, pd.DataFrame(data), rules=rules, text_columns=2
    )


def density_table(view: View) -> Table | None:
    """T2."""
    densities = sorted(view.results.study["densities"])
    lines, data = [], []
    for group in view.groups:
        for recipe in dict.fromkeys(view.results.select(group=group, role="density").get("recipe", [])):
            found = {d: view.average(group, role="density", recipe=recipe, density=d) for d in densities}
            best = max(found, key=lambda d: found[d].point)
            line = [Cell(f"{number(s.point, 1)} {interval(*s.interval)}", bold=d == best) for d, s in found.items()]
            lines.append([Cell(view.title(group)), Cell(str(recipe)), *line])
            data += [
                {"group": group, "recipe": recipe, "density": d, "score": s.point}
                | {"low": s.interval[0], "high": s.interval[1]}
                for d, s in found.items()
            ]
    if not lines:
        return None
    columns = ["task", "recipe", *(f"{d:g}" for d in densities)]
    spans = [("density", len(densities))]
    caption = (
        "Mean over languages of the task's main metric on test, scale 1, with 95 % bootstrap intervals. The highest "
        "score of a row is bold, whether or not the densities differ."
    )
    return Table("densities", "Density sweep", caption, columns, lines, pd.DataFrame(data), spans=spans, text_columns=2)


def tuning_table(view: View) -> Table | None:
    """Adapters against full fine-tuning, for tasks that have both."""
    both = [task for task, tunings in view.results.study["answer_tasks"].items() if len(tunings) > 1]
    lines, data = [], []
    for task in both:
        groups = [group for group in view.groups if view.tasks[group][0] == task]
        methods = view.methods(groups[0])
        entries: list[tuple[str, list[Sample]]] = [
            ("Individual", [view.own(group) for group in groups]),
            ("Combined", [view.average(group, role="combined", scenario=INITIAL) for group in groups]),
        ]
        entries += [
            (label(m), [view.average(group, role="merge", method=m, scenario=INITIAL) for group in groups])
            for m in methods
        ]
        for name, found in entries:
            texts = [f"{number(s.point, 1)} {interval(*s.interval)}" for s in found]
            lines.append(cells([TASKS[task], name, *texts]))
            data += [
                {"task": task, "system": name, "group": g, "score": s.point}
                | {"low": s.interval[0], "high": s.interval[1]}
                for g, s in zip(groups, found, strict=True)
            ]
    if not lines:
        return None
    columns = [
        "task",
        "system",
        *(view.title(g).partition(", ")[2] for g in view.groups if view.tasks[g][0] == both[0]),
    ]
    caption = "Mean over languages with 95 % bootstrap intervals."
    return Table(
        "tunings", "Adapters and full fine-tuning", caption, columns, lines, pd.DataFrame(data), text_columns=2
    )


def variant_table(view: View) -> Table | None:
    """T5: builds with other adapters or from another model."""
    lines: list[list[Cell]] = []
    data: list[dict[str, Any]] = []
    rules: list[int] = []
    for group, variants in view.variants.items():
        if not variants or LEAD not in view.methods(group):
            continue
        if lines:
            rules.append(len(lines))
        for name, built in {"the study's": group, **variants}.items():
            gap = view.gap(built, LEAD)
            verdict = equivalence(gap, view.margin)
            systems = {
                "base": view.average(built, role="base"),
                "individual": view.own(built),
                "combined": view.average(built, role="combined", scenario=INITIAL),
                "merged": view.average(built, role="merge", method=LEAD, scenario=INITIAL),
            }
            texts = [number(sample.point, 1) for sample in systems.values()]
            shown = f"{number(gap.point, 1, True)} {interval(*gap.interval)}"
            lines.append(cells([view.title(group), name, *texts, shown, verdict]))
            data.append(
                {"group": group, "variant": name, **{key: sample.point for key, sample in systems.items()}}
                | {"gap": gap.point, "low": gap.interval[0], "high": gap.interval[1], "verdict": verdict}
            )
    if not lines:
        return None
    columns = ["task", "build", "base", "individual", "combined", "merged", "difference", "verdict"]
    caption = (
        f"Mean over languages of the task's main metric. Merged: {label(LEAD)}; difference: merged less combined with "
        f"its paired 95 % bootstrap interval; equal: its 90 % interval lies within ±{view.margin:g} points."
    )
    return Table("variants", "Other sizes", caption, columns, lines, pd.DataFrame(data), rules=rules, text_columns=2)


# ---- cost ----------------------------------------------------------------------------------------------------------


def way_table(view: View, costs: pd.DataFrame, ledger: Ledger) -> Table | None:
    """T3: what every way of every scenario took, mean over tasks, tunings and seeds, and the ratio."""
    if costs.empty:
        return None
    lines: list[list[Cell]] = []
    rules: list[int] = []
    energy_known = bool(costs.joules.notna().all())
    for scenario in SCENARIOS:
        here = costs[costs.scenario == scenario]
        if lines and len(here):
            rules.append(len(lines))
        for way in WAYS:
            found = here[here.way == way]
            if found.empty:
                continue
            ratio = [number(found[f"{name}_ratio"].mean(), 2) for name in ("work", "wall", "flops")]
            kept = f"{found.kept.max()}{' + merged' if found.merged.any() else ''}"
            lines.append(
                cells(
                    [SCENARIOS[scenario], WAYS[way], str(len(found)), number(found.work.mean(), 1), ratio[0]]
                    + [
                        number(found.wall.mean(), 1),
                        ratio[1],
                        number(workers_used(found).mean(), 1),
                        si(found.tokens.mean()),
                        si(found.flops.mean()),
                        ratio[2],
                    ]
                    + ([si(found.joules.mean())] if energy_known else [])
                    + [kept, si(found.bytes.mean())]
                )
            )
    columns = ["scenario", "way", "n", "work (s)", "ratio", "wall (s)", "ratio", "used", "tokens", "FLOPs", "ratio"]
    columns += [*(["J"] if energy_known else []), "kept", "bytes"]
    caption = (
        f"Means over n tasks, tunings and seeds; ratios to training all together. Work: CPU seconds (on GPUs: GPU "
        f"seconds). Wall: seconds on {ledger.workers} workers: specialists take one each and are scheduled longest "
        f"first, joint training was measured on {ledger.workers}. Used: workers that joint training kept busy, its "
        "work by its wall-clock. Jobs without the start of the interpreter. Merge: "
        f"{label(LEAD)}, the chosen one alone or with its tuning on dev. Kept: adapters (models) that the next update "
        "needs; bytes: what they take on disk. "
        + (f"J: energy of {' and '.join(COUNTERS[name] for name in ledger.counters)}." if energy_known else "")
        + ("" if energy_known else "No counter of energy was readable.")
    )
    if (share := core_share(view.results)) < QUIET:
        caption = f"{caption.strip()} The machine was shared: a specialist's training had {share:.0%} of a core."
    return Table(
        "costs", "Measured cost of building and updating", caption.strip(), columns, lines, costs, rules=rules,
        text_columns=2,
    )  # fmt: skip


def storage_words(view: View) -> list[str]:
    """What adapters and models take on disk."""
    found: dict[str, list[str]] = {}
    for group in view.groups:
        names = view.results.select(group=group, role="specialist", scenario=INITIAL).name
        rows_ = view.results.costs[view.results.costs.name.isin(names)]
        sizes = rows_.reindex(columns=["adapter_bytes", "model_bytes"]).astype(float).mean()
        parts = {"an adapter": sizes.adapter_bytes, "a model, also a merged one,": sizes.model_bytes}
        texts = [f"{name} takes {si(size)}B" for name, size in parts.items() if size == size]
        if texts:
            found.setdefault(f"{', '.join(texts)}; as fp32.", []).append(group)
    return [f"{'; '.join(map(view.title, groups))}: {text}" for text, groups in found.items()]


def tuned_table(view: View) -> Table | None:
    """Parameters that dev chose."""
    chosen = view.results.selected[view.results.selected.candidates > 1]
    if chosen.empty:
        return None
    lines = []
    for row in chosen.to_dict("records"):
        parameters = row["parameters"]
        shown = [f"{key} {parameters[key]:g}" for key in ("density", "scale") if parameters.get(key) is not None]
        lines.append(
            cells(
                [row["name"], str(row["seed"]), label(row["method"]), str(row["candidates"]), ", ".join(shown) or EMPTY]
            )
        )
    data = chosen.drop(columns=["statistics"])
    caption = "Of all merges with a grid; chosen by the mean of the main metric over languages on dev."
    return Table(
        "tuned", "Chosen parameters", caption, ["merge", "seed", "method", "candidates", "chosen"], lines, data,
        text_columns=5,
    )  # fmt: skip


# ---- the report ----------------------------------------------------------------------------------------------------


def compose(results: LanguageResults) -> Document:
    """The whole report; sections without content are left out."""
    view = View(Samples(results))
    ledger = Ledger(results)
    costs = ledger.table(LEAD)
    findings = find(view, costs, ledger)
    sections = [
        Section("Summary", [claims_in_words(findings)]),
        Section("Scores by task", given(*(scores(view, group) for group in view.groups), gap_table(view))),
        Section("Cost", given(way_table(view, costs, ledger), cost_figure(costs, ledger.workers), storage_words(view))),
        Section("Bringing one language up to date", given(*update_tables(view))),
        Section("Adding a language", given(*addition_tables(view))),
        Section("Density", given(density_figure(view), density_table(view))),
        Section("Language vectors", given(cosine_figure(view), gap_figure(view))),
        Section("Adapters and full fine-tuning", given(tuning_table(view))),
        Section("Size of adapters and models", given(variant_table(view))),
        Section("Tasks of lm-evaluation-harness", given(harness_table(results.folders))),
        Section("Findings", given(claims_table(findings, SOURCE))),
        Section(
            "Models and settings",
            given(
                further_table(view),
                tuned_table(view),
                cost_table(results),
                model_table(results),
                [*SETTINGS, *notes(results)],
            ),
        ),
    ]
    languages = ", ".join(results.languages)
    tasks = "; ".join(view.title(group).lower().replace("lora", "LoRA") for group in view.groups)
    question = (
        f"One base model was fine-tuned for each of {languages} apart, and for all of them together ({tasks}); the "
        "models that were trained apart were merged in weight space. Does the merge score as well as the combined "
        "model, and what does it save when the model is built, when one language's data grow, and when a language is "
        "added?"
    )
    return Document(results.study["title"], question, [s for s in sections if s.blocks], findings)
