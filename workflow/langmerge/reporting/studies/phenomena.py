"""The table of accuracies on minimal pairs by phenomenon."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from langmerge.evaluation.metrics import score
from langmerge.reporting.load import read_statistics
from langmerge.reporting.samples import Sample, draw, mean
from langmerge.reporting.studies.growth_measures import LABELS, Measures
from langmerge.reporting.studies.results import Samples
from langmerge.reporting.studies.tables import everywhere
from langmerge.reporting.table import Cell, Table, cells, interval, number

TASK = "minimal_pairs"
METRICS = {"accuracy": "", "accuracy_norm": "per token"}
MOST = 8  # phenomena that are columns; where there are more, the file has them
Rows = Mapping[str, Mapping[str, Sequence[str]]]  # label -> language -> keys of systems (one a seed)


def phenomena_table(samples: Samples, rows: Rows) -> Table | None:
    """Accuracy on minimal pairs of each row in each language, by phenomenon, with bootstrap intervals.

    Rows are those of :func:`langmerge.reporting.studies.tables.score_table`. Means over seeds; items are drawn with
    replacement over all phenomena, so that those of a table share their draws. ``data`` has also the accuracy of
    log-probabilities per token, and the number of pairs. None where nothing was scored on minimal pairs with groups.
    """
    pairs = _Pairs(samples)
    languages = dict.fromkeys(
        [*samples.results.languages, *(code for by_language in rows.values() for code in by_language)]
    )
    found = [
        {"system": label, "language": language, "phenomenon": group, "metric": metric, "n": n}
        | {"score": sample.point, "low": sample.interval[0], "high": sample.interval[1]}
        for language in languages
        for label, by_language in rows.items()
        for group, n in pairs.sizes(by_language.get(language, ()), language).items()
        for metric in METRICS
        for sample in [pairs.average(by_language[language], language, group, metric)]
    ]
    if not found:
        return None
    data = pd.DataFrame(found)
    names = [name for name in dict.fromkeys(data.phenomenon) if name]
    shown = names if len(names) <= MOST else []
    table: list[list[Cell]] = []
    rules: list[int] = []
    for language, of_language in data.groupby("language", sort=False):
        rules += [len(table)] if table else []
        for label, own in of_language.groupby("system", sort=False):
            by = own.set_index(["phenomenon", "metric"])
            values = [by.loc[key] if (key := (name, "accuracy")) in by.index else None for name in shown]
            values += [by.loc["", metric] for metric in METRICS]
            texts = [f"{number(v.score)} {interval(v.low, v.high)}" if v is not None else number(None) for v in values]
            table.append([*cells([str(language), str(label)]), *map(Cell, texts)])
    counts = data[data.phenomenon != ""].n
    size = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()}–{counts.max()}"
    seeds = len(samples.results.seeds)
    caption = (
        f"Accuracy on minimal pairs in %, {size} of each phenomenon and language, "
        f"{f'mean of {seeds} seeds' if seeds > 1 else '1 seed'}; in brackets the 95 % bootstrap interval. Guessing has "
        "50 %. All: by summed log-probabilities, and by log-probabilities per token."
    )
    heads = [name.replace("_", " ") for name in shown]
    columns = ["", "", *heads, *(f"all {words}".strip() for words in METRICS.values())]
    return Table(
        "phenomena", "Minimal pairs: accuracy by phenomenon", caption, columns, table, data, rules=rules, text_columns=2
    )


def rows_of_growth(measures: Measures) -> Rows:
    """Each setup's source, specialists (each in its own language) and joint model, also in the language of the base."""
    results, rows = measures.results, dict[str, Mapping[str, Sequence[str]]]()
    for setup in measures.setups:
        name, source = LABELS[setup], measures.source(setup)
        joint = measures.keys(group=setup, role="joint")
        rows[f"{name}, source"] = {**everywhere(results, source), measures.pivot: source}
        rows[f"{name}, specialists"] = {code: measures.specialist(setup, code) for code in measures.languages}
        rows[f"{name}, joint"] = {**everywhere(results, joint), measures.pivot: joint}
    return {label: by_language for label, by_language in rows.items() if any(by_language.values())}


class _Pairs:
    """Accuracies of groups of minimal pairs, in the draws that a report shares; "" is the group of all."""

    def __init__(self, samples: Samples) -> None:
        self.folders = samples.results.folders
        self.arrays = functools.cache(self._read)
        self.draws = functools.cache(lambda ids: draw(samples.seed, samples.samples, "\n".join(ids), len(ids)))

    def _read(self, key: str, language: str) -> dict[str, np.ndarray]:
        path = self.folders[f"systems/{key}"] / "statistics" / f"test.{TASK}.{language}.npz"
        found = read_statistics(path) if path.is_file() else {}
        return found if "groups" in found else {}

    def sizes(self, keys: Sequence[str], language: str) -> dict[str, int]:
        """Number of pairs of each group, in the order in which they come, and of all; empty where none was scored."""
        for key in keys:
            if found := self.arrays(key, language):
                groups = found["groups"].tolist()
                return {**Counter(groups), "": len(groups)}
        return {}

    def average(self, keys: Sequence[str], language: str, group: str, metric: str) -> Sample:
        """Mean over systems of the accuracy in a group."""
        found = [arrays for key in keys if (arrays := self.arrays(key, language))]
        return mean(self._accuracy(arrays, group, metric) for arrays in found)

    def _accuracy(self, arrays: Mapping[str, np.ndarray], group: str, metric: str) -> Sample:
        chosen = (arrays["groups"] == group) if group else np.ones(len(arrays["ids"]), dtype=bool)
        statistics = arrays[metric][chosen]
        counts = self.draws(tuple(arrays["ids"].tolist()))[:, chosen]
        with np.errstate(invalid="ignore"):  # a draw without any item of a small group is left out of its interval
            return Sample(float(score(metric, statistics.sum(0))), score(metric, counts @ statistics))
