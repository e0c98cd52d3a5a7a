"""Results of a study of languages as tidy frames, and its scores with their bootstrap draws.

Items are resampled with replacement; systems scored on the same items see the same draws (paired), and so do languages
whose items are parallel. Languages and seeds are fixed: averaged, not resampled.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from langmerge.evaluation.metrics import score
from langmerge.provenance import COST, InputError, read_json, read_manifest
from langmerge.reporting.load import Planned, each, read_lines, read_statistics, read_table
from langmerge.reporting.samples import Sample, draw, mean

MAIN = {
    "text": "bits_per_byte",
    "minimal_pairs": "accuracy",
    "sentiment": "macro_f1",
    "summarization": "rouge_l",
    "causal_choice": "accuracy",
    "commonsense": "accuracy",
    "arithmetic": "exact_match",
    "question_answering": "token_f1",
}
METRICS = {
    "bits_per_byte": "bits/byte",
    "accuracy": "accuracy",
    "accuracy_norm": "accuracy (per token)",
    "macro_f1": "macro-F1",
    "exact_match": "exact match",
    "token_f1": "token F1",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
}
TASKS = {
    "text": "Text",
    "minimal_pairs": "Minimal pairs",
    "sentiment": "Sentiment",
    "summarization": "Summarization",
    "causal_choice": "Causal choice",
    "commonsense": "Commonsense",
    "arithmetic": "Arithmetic",
    "question_answering": "Question answering",
}
LOWER_IS_BETTER = ("bits_per_byte",)
DECIMALS = {"bits_per_byte": 3}  # all others are percentages with one
DIAGNOSES = ("pairs", "layers", "curve")


@dataclass(frozen=True)
class LanguageResults(Planned):
    """Everything that the report of a study of languages says, as frames in long form.

    ``systems``: one row a scored system (key, name, role, group, seed and the plan's details). ``scores``: one a
    system, test (task, language) and metric. ``groups``: one a system, test and group of items. ``selected``: one a
    merge of a sweep. ``trials``: one a candidate of a tuned merge. ``costs``: one a training or growth. ``logs``: one
    a logged training step. ``diagnoses``: by name the tables of :data:`DIAGNOSES` with ``seed`` and ``group``.
    """

    systems: pd.DataFrame
    scores: pd.DataFrame
    groups: pd.DataFrame
    selected: pd.DataFrame
    trials: pd.DataFrame
    costs: pd.DataFrame
    logs: pd.DataFrame
    diagnoses: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def tasks(self) -> list[str]:
        """Tasks that were scored, in one order."""
        return [task for task in MAIN if (self.scores.task == task).any()]

    def languages_of(self, task: str) -> list[str]:
        """The study's languages that have items of a task, in its order."""
        there = set(self.scores[self.scores.task == task].language)
        return [code for code in self.languages if code in there]

    def select(self, **values: Any) -> pd.DataFrame:
        """Systems with these values in their columns (a list: any of them)."""
        rows = self.systems
        for column, value in values.items():
            wanted = value if isinstance(value, list) else [value]
            rows = rows[rows[column].isin(wanted)] if column in rows else rows.iloc[:0]
        return rows


class Samples:
    """Bootstrap samples of the scores of a report's systems."""

    def __init__(self, results: LanguageResults) -> None:
        self.results = results
        evaluation = results.study["evaluation"]
        self.samples, self.seed = int(evaluation["bootstrap_samples"]), int(evaluation["seed"])
        self._counts = functools.cache(self._draw)
        self.of = functools.cache(self._score)

    def _draw(self, ids: str, n: int) -> np.ndarray:
        return draw(self.seed, self.samples, ids, n)

    def _score(self, key: str, task: str, language: str, metric: str = "") -> Sample:
        """Score of a system in a test; ``metric`` is the task's main one when empty. Not defined where not scored."""
        path = self.results.folders[f"systems/{key}"] / "statistics" / f"test.{task}.{language}.npz"
        if not path.is_file():
            return Sample(float("nan"), np.full(self.samples, np.nan))
        arrays, name = read_statistics(path), metric or MAIN[task]
        statistics = arrays[name]
        counts = self._counts("\n".join(arrays["ids"].tolist()), len(statistics))
        return Sample(float(score(name, statistics.sum(0))), score(name, counts @ statistics))

    def of_seed(self, seed: int) -> Samples:
        """The same draws where only the systems and diagnoses of one seed are to be seen."""
        found = self.results
        diagnoses = {name: table[table.seed == seed] for name, table in found.diagnoses.items()}
        view = copy.copy(self)
        view.results = replace(found, systems=found.systems[found.systems.seed == seed], diagnoses=diagnoses)
        return view

    def average(self, keys: Iterable[str], task: str, languages: Iterable[str], metric: str = "") -> Sample:
        """Mean over systems (the seeds of one) and languages in which it is defined."""
        codes = list(languages)
        return mean(self.of(key, task, code, metric) for key in keys for code in codes)


def gain(better: Sample, worse: Sample, metric: str) -> Sample:
    """How much better the first is, positive whatever the direction of the metric."""
    return worse - better if metric in LOWER_IS_BETTER else better - worse


# ---- reading -------------------------------------------------------------------------------------------------------


def load(spec: dict[str, Any], inputs: Mapping[str, Path]) -> LanguageResults:
    """Read all results that ``inputs`` names; :class:`InputError` naming the file that is missing or broken."""
    folders = {name: Path(folder) for name, folder in inputs.items()}

    def under(prefix: str) -> dict[str, Path]:
        return {name.removeprefix(prefix): path for name, path in folders.items() if name.startswith(prefix)}

    rows = [s for s in spec["systems"] if f"systems/{s['key']}" in folders]
    if not spec["systems"]:  # too many for a command line: all that the sweeps made
        found = _swept(under("sweeps/"))
        rows = [system for system, _ in found]
        folders |= {f"systems/{system['key']}": folder for system, folder in found}
    systems = pd.DataFrame(rows)
    if systems.empty:
        raise InputError('--inputs: no "systems/..." of the spec is among them; a report needs at least one system')
    scores, groups = _scores(systems, folders)
    trials, selected = _sweeps(under("sweeps/"))
    costs, logs = _costs(under("costs/"))
    return LanguageResults(
        spec, folders, systems, scores, groups, selected, trials, costs, logs, _diagnoses(under("diagnoses/"))
    )


def _swept(places: Mapping[str, Path]) -> list[tuple[dict[str, Any], Path]]:
    """Systems of the sweeps with the roles and details that the plan gave them, and their folders.

    The sweeps' own specs say them, as their manifests keep them. A sweep is called after the group of its systems, its
    further pieces ``<group>.<number>``.
    """
    found: list[tuple[dict[str, Any], Path]] = []
    for place, folder in places.items():
        seed, _, title = place.partition("/")
        for entry in read_manifest(folder)["spec"]["merges"]:
            head = {"key": f"{place}/{entry['name']}", "name": entry["name"], "role": entry["role"]}
            head |= {"group": title.partition(".")[0], "seed": int(seed.removeprefix("seed"))}
            found.append((head | entry["details"], folder / "systems" / entry["name"]))
    return found


def _scores(systems: pd.DataFrame, folders: Mapping[str, Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows: list[dict[str, Any]] = []
    groups: list[dict[str, Any]] = []
    for system in each(systems):
        for split, tests in read_json(folders[f"systems/{system.key}"] / "scores.json").items():
            for summary in tests.values():
                head = {"key": system.key, "split": split, "task": summary["task"], "language": summary["language"]}
                rows += [
                    {**head, "n": summary["n"], "metric": metric, "score": value["score"]}
                    for metric, value in summary["metrics"].items()
                ]
                groups += [
                    {**head, "items": name, "n": value["n"], "score": value["score"]}
                    for name, value in (summary.get("groups") or {}).items()
                ]
    return (
        pd.DataFrame(rows, columns=["key", "split", "task", "language", "n", "metric", "score"]),
        pd.DataFrame(groups, columns=["key", "split", "task", "language", "items", "n", "score"]),
    )


def _sweeps(places: Mapping[str, Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials (a candidate a row) and chosen merges, of all sweeps."""
    trials: list[dict[str, Any]] = []
    selected: list[dict[str, Any]] = []
    for place, folder in places.items():
        seed, _, group = place.partition("/")
        for name, found in read_json(folder / "selection.json").items():
            recipe = found["recipe"]
            head = {"seed": int(seed.removeprefix("seed")), "sweep": group, "name": name, "method": recipe["method"]}
            chosen, statistics = dict(recipe["parameters"]), found.get("statistics") or {}
            candidates = max(1, len(found["trials"]))
            selected.append(head | {"parameters": chosen, "candidates": candidates, "statistics": statistics})
            trials += [head | {"parameters": t["parameters"], "dev": t["mean"]} for t in found["trials"]]
    return (
        pd.DataFrame(trials, columns=["seed", "sweep", "name", "method", "parameters", "dev"]),
        pd.DataFrame(selected, columns=["seed", "sweep", "name", "method", "parameters", "candidates", "statistics"]),
    )


def _costs(places: Mapping[str, Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Costs of all trainings and growths, and the logs of trainings."""
    costs: list[dict[str, Any]] = []
    logs: list[pd.DataFrame] = []
    for place, folder in places.items():
        seed, _, name = place.partition("/")
        head: dict[str, Any] = {"seed": int(seed.removeprefix("seed")), "name": name}
        costs.append(head | read_json(folder / COST))
        log = folder / "training_log.jsonl"
        if log.is_file():
            logs.append(pd.DataFrame(read_lines(log)).assign(**head))
    return pd.DataFrame(costs), pd.concat(logs, ignore_index=True) if logs else pd.DataFrame()


def _diagnoses(places: Mapping[str, Path]) -> dict[str, pd.DataFrame]:
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in DIAGNOSES}
    for place, folder in places.items():
        seed, _, group = place.partition("/")
        for name in DIAGNOSES:
            if (folder / f"{name}.csv").is_file():
                table = read_table(folder / f"{name}.csv")
                found[name].append(table.assign(seed=int(seed.removeprefix("seed")), group=group))
    return {name: pd.concat(tables, ignore_index=True) for name, tables in found.items() if tables}
