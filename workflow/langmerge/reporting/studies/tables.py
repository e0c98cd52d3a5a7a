"""Tables and paragraphs that the reports of several kinds have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from langmerge.provenance import environment_fingerprint
from langmerge.reporting.document import LIBRARIES
from langmerge.reporting.samples import METHODS, Sample, mean
from langmerge.reporting.studies.results import (
    DECIMALS,
    LOWER_IS_BETTER,
    MAIN,
    METRICS,
    TASKS,
    LanguageResults,
    Samples,
)
from langmerge.reporting.table import Cell, Table, cells, interval, number, si

MEAN = "mean"
Rows = Mapping[str, Mapping[str, Sequence[str]]]  # label -> language -> keys of systems (one a seed)


def counted(results: LanguageResults, task: str) -> str:
    """What a caption says of a test: items, seeds."""
    counts = sorted(set(results.scores[results.scores.task == task].n))
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"
    seeds = "1 seed" if len(results.seeds) == 1 else f"mean of {len(results.seeds)} seeds"
    return f"n = {n} items per language, {seeds}"


def score_table(samples: Samples, name: str, task: str, rows: Rows, caption: str = "", by_seed: bool = False) -> Table:
    """Rows of systems in every language that has the task, and their mean, with intervals; the best mean is bold.

    A row that has no system in a language is empty there; its mean is over the languages that it has, as the caption
    says. ``by_seed``: one more column with the mean of each seed, where there are several.
    """
    results, metric = samples.results, MAIN[task]
    codes = results.languages_of(task)
    seeds = results.seeds if by_seed and len(results.seeds) > 1 else []
    decimals = DECIMALS.get(metric, 1)
    table: list[list[Cell]] = []
    data: list[dict[str, Any]] = []
    means = {label: _row_mean(samples, task, by_language) for label, by_language in rows.items()}
    whole = [label for label, by_language in rows.items() if set(by_language) >= set(codes)]
    order = sorted(whole, key=lambda label: means[label].point * (1 if metric in LOWER_IS_BETTER else -1))
    for label, by_language in rows.items():
        line = [Cell(label)]
        for language in [*codes, MEAN]:
            keys = by_language.get(language, [])
            sample = means[label] if language == MEAN else samples.average(keys, task, [language])
            low, high = sample.interval
            bold = language == MEAN and order[:1] == [label]
            shown = f" {interval(low, high, decimals)}" if language == MEAN and np.isfinite(sample.point) else ""
            line.append(Cell(number(sample.point, decimals) + shown, bold=bold))
            data.append(
                {"system": label, "task": task, "metric": metric, "language": language, "score": sample.point}
                | {"low": low, "high": high}
            )
        if seeds:
            line.append(Cell(", ".join(number(_of_seed(samples, task, by_language, n).point, decimals) for n in seeds)))
        table.append(line)
    direction = "lower is better" if metric in LOWER_IS_BETTER else "higher is better"
    lacking = [
        f"Mean of {label} over {', '.join(found)} only."
        for label, by_language in rows.items()
        if 0 < len(found := [code for code in codes if by_language.get(code)]) < len(codes)
    ]
    if absent := [code for code in results.languages if code not in codes]:
        lacking.append(f"No items in {', '.join(absent)}.")
    text = f"{measure_words(metric)}, {direction}; {counted(results, task)}. In brackets the 95 % bootstrap interval. "
    text += " ".join([caption, *lacking] if caption else lacking)
    columns = ["", *codes, MEAN, *(["each seed"] if seeds else [])]
    return Table(
        name, f"{TASKS[task]}: {METRICS[metric]} by language", text.strip(), columns, table, pd.DataFrame(data)
    )


def measure_words(metric: str) -> str:
    """A metric with its unit, as the beginning of a sentence."""
    unit = "" if metric in DECIMALS else " in %"
    return METRICS[metric][:1].upper() + METRICS[metric][1:] + unit


def _of_seed(samples: Samples, task: str, by_language: Mapping[str, Sequence[str]], seed: int) -> Sample:
    """Mean over languages of the systems of one seed."""
    own = set(samples.results.select(seed=seed).key)
    return _row_mean(samples, task, {code: [key for key in found if key in own] for code, found in by_language.items()})


def _row_mean(samples: Samples, task: str, by_language: Mapping[str, Sequence[str]]) -> Sample:
    return mean(samples.average(keys, task, [language]) for language, keys in by_language.items())


def everywhere(results: LanguageResults, keys: Sequence[str]) -> dict[str, Sequence[str]]:
    """The same systems in every language of the study."""
    return dict.fromkeys(results.languages, keys)


def method_label(method: str) -> str:
    """A merge method in print."""
    return METHODS.get(method, method.replace("_", " ").capitalize())


def cost_table(results: LanguageResults) -> Table | None:
    """Measured cost of every training and growth, means over seeds; energy where a counter is readable.

    ``data`` has a row for each seed.
    """
    if results.costs.empty:
        return None
    shown = {"tokens": "tokens", "flops": "FLOPs", "seconds": "seconds"}
    shown |= {"gpu_joules": "J (GPU)", "cpu_joules": "J (CPU)"}
    data = results.costs.reindex(columns=["name", "seed", *shown]).astype(dict.fromkeys(shown, float))
    read = [name for name in shown if name.endswith("joules") and data[name].notna().any()]
    rows = [
        cells([str(name), si(cost.tokens), si(cost.flops), number(cost.seconds, 1), *(si(cost[each]) for each in read)])
        for name, cost in data.groupby("name", sort=False)[list(shown)].mean().iterrows()
    ]
    caption = "Measured by each job, seconds from its start to its end"
    caption += "; means over the seeds that have the model." if len(results.seeds) > 1 else "."
    caption += "" if read else " No counter of energy was readable."
    columns = ["model", *(title for name, title in shown.items() if not name.endswith("joules") or name in read)]
    return Table("cost", "Cost of training", caption, columns, rows, data)


def model_table(results: LanguageResults) -> Table:
    """Every model of the graph with its recipe and parents."""
    every = pd.DataFrame(results.spec["models"])
    frame = every[every.seed == results.seeds[0]]
    lacking = [name for name in frame.name if (every.name == name).sum() < len(results.seeds)]
    rows = [cells([m["name"], m["kind"], m["recipe"], ", ".join(m["parents"])]) for m in frame.to_dict("records")]
    same = f"the same graph, without {', '.join(lacking)}" if lacking else "the same graph"
    caption = (
        f"Seed {results.seeds[0]}; the other seeds have {same}."
        if len(results.seeds) > 1
        else "Every model with its recipe."
    )
    return Table(
        "models", "Models", caption, ["model", "kind", "recipe", "from"], rows, frame, text_columns=4, stretch=[2, 3]
    )


def notes(results: LanguageResults) -> list[str]:
    """Settings of the statistics, and versions."""
    e = results.study["evaluation"]
    tuned = bool((results.selected.candidates > 1).any())
    return [
        f"Intervals: bootstrap over items, {e['bootstrap_samples']} samples, percentiles 2.5 and 97.5, seed "
        f"{e['seed']}; systems and languages with the same items share their draws. Languages and seeds are fixed, not "
        "resampled.",
        "Parameters of merges were chosen on dev; test was scored once, with the chosen ones."
        if tuned
        else "Parameters of merges are those of the study file: none was chosen on data.",
        f"Seeds of the models: {', '.join(map(str, results.seeds))}.",
        "Environment of this report: " + environment_fingerprint(*LIBRARIES) + ".",
    ]


def words(sample: Sample, metric: str, signed: bool = False) -> str:
    """A score with its interval in running text; ``signed``: a difference, which has points where scores have %."""
    decimals = DECIMALS.get(metric, 1)
    unit = "" if metric in DECIMALS else "points of " if signed else "% "
    return f"{number(sample.point, decimals, signed)} {interval(*sample.interval, decimals)} {unit}{METRICS[metric]}"
