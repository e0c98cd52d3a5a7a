"""Read the results that a report is made of into tidy frames; nothing is computed here."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from langmerge.provenance import COST, InputError, canonical, read_json

SYSTEM_COLUMNS = (
    "key",
    "name",
    "role",
    "group",
    "seed",
    "method",
    "step",
    "onto",
    "place",
    "language",
    "languages",
)
SCORE_COLUMNS = ("key", "seed", "split", "direction", "source", "target", "n", "metric", "score", "signature")
RATES = (
    "off_target",
    "off_target_floor",
    "source_language",
    "copy",
    "empty",
    "length_ratio",
    "identified",
    "too_short",
)
# Tables by place: the folder of a stage's results in the study, for each seed and direction group unless in WHOLE.
TABLES = {
    "measurements": (
        *("cka", "angles", "mds", "similarity", "languages"),
        *("neurons", "turnover", "usage", "units", "layers", "overlaps", "flows", "turnovers"),
        *("embedding_rows", "embedding_tokens", "redistribution", "verdicts"),
    ),
    "weighing": ("task_vectors", "pairs", "subspaces"),
    "landscape": ("losses", "line", "barriers", "plane", "fisher", "gradients"),
    "patches": ("patches",),
    "ablation": ("ablation",),
    "damage": ("damage", "predictors"),
    "replication": ("replication",),
}
WHOLE = ("damage", "replication")  # one for the whole study; their rows name seed and group where they have them


@dataclass(frozen=True)
class Planned:
    """What the plan says of a report: ``spec``; and where its results are: ``folders`` by name of the input."""

    spec: dict[str, Any]
    folders: dict[str, Path]

    @property
    def study(self) -> dict[str, Any]:
        """The study as the plan wrote it."""
        return dict(self.spec["study"])

    @property
    def languages(self) -> list[str]:
        """Codes of the languages with specialists, in the study's order."""
        return list(self.study["languages"])

    @property
    def seeds(self) -> list[int]:
        """Seeds of the study's replicates."""
        return list(self.study["seeds"])


@dataclass(frozen=True)
class Results(Planned):
    """Everything that a report says, as frames in long form.

    ``systems``: one row a scored system (:data:`SYSTEM_COLUMNS`). ``scores``: one a system, split, direction and
    metric. ``rates``: one a system, split and direction (:data:`RATES`). ``trials``: one a candidate of a tuned merge,
    split in directions. ``merges``: one a chosen merge. ``costs``: one a training, sweep or calibration. ``logs``: one
    a logged training step. ``comparisons`` and ``tables`` (see :meth:`table`): as their stages write them. Frames of
    what the study does not have are empty.
    """

    systems: pd.DataFrame
    scores: pd.DataFrame
    rates: pd.DataFrame
    comparisons: pd.DataFrame = field(default_factory=pd.DataFrame)
    trials: pd.DataFrame = field(default_factory=pd.DataFrame)
    merges: pd.DataFrame = field(default_factory=pd.DataFrame)
    costs: pd.DataFrame = field(default_factory=pd.DataFrame)
    logs: pd.DataFrame = field(default_factory=pd.DataFrame)
    contamination: dict[str, Any] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def table(self, name: str) -> pd.DataFrame:
        """A table of :data:`TABLES` such as ``weighing/pairs``; empty, without columns, where the study has no row.

        All seeds and direction groups, told apart by ``seed`` and ``group`` (but for :data:`WHOLE`). Only empty cells
        are NaN. :class:`KeyError` for a name that no stage has.
        """
        place, _, file = name.partition("/")
        if file not in TABLES.get(place, ()):
            raise KeyError(f"no table {name}; expected <place>/<file> of TABLES")
        return self.tables.get(name, pd.DataFrame())

    def with_table(self, name: str, table: pd.DataFrame) -> Results:
        """The same results with another table in the place of ``name``."""
        return replace(self, tables={**self.tables, name: table})

    @property
    def pivot(self) -> str:
        """Code of the language that all pairs share."""
        return str(self.study["pivot"])

    @property
    def groups(self) -> list[str]:
        """Names of the direction groups, such as ``from-en`` and ``to-en``."""
        return [f"{group.partition('_')[0]}-{self.pivot}" for group in self.study["directions"]]

    @property
    def split(self) -> str:
        """The main test set."""
        return str(self.study["evaluation"]["splits"][0])

    def direction(self, group: str, language: str) -> str:
        """The direction of a group that belongs to a language, such as ``en-es``."""
        return f"{self.pivot}-{language}" if group.startswith("from-") else f"{language}-{self.pivot}"

    def statistics(self, key: str, direction: str) -> dict[str, np.ndarray]:
        """Sentence ids (n,) and sufficient statistics (n, k) by metric of a system in a direction."""
        return read_statistics(self.folders[f"systems/{key}"] / "statistics" / f"{self.split}.{direction}.npz")

    def predictions(self, key: str, direction: str) -> list[dict[str, str]]:
        """Sentences with ``id``, ``source``, ``reference`` and ``hypothesis``; empty if the system has no such file."""
        path = self.folders[f"systems/{key}"] / "predictions" / f"{self.split}.{direction}.jsonl"
        return read_lines(path) if path.is_file() else []


def each(table: pd.DataFrame) -> Iterator[Any]:
    """The rows of a frame, with the columns as attributes."""
    return iter(table.itertuples())


@functools.lru_cache(maxsize=4096)
def read_statistics(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a statistics file by name; :class:`InputError` if it is missing."""
    if not path.is_file():
        raise InputError(f"{path}: file not found; remove {path.parents[1]} and run snakemake again")
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines; :class:`InputError` naming the line that is none."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number}: not valid JSON ({error}); remove it and run again") from None
    return rows


def _scores(systems: pd.DataFrame, folders: Mapping[str, Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    scores: list[dict[str, Any]] = []
    rates: list[dict[str, Any]] = []
    for system in each(systems):
        table = read_json(folders[f"systems/{system.key}"] / "scores.json")
        for split, directions in table.items():
            for direction, summary in directions.items():
                head = {"key": system.key, "seed": system.seed, "split": split, "direction": direction}
                head |= {name: summary[name] for name in ("source", "target", "n")}
                scores += [{**head, "metric": metric, **value} for metric, value in summary["metrics"].items()]
                rates.append(head | {name: summary.get(name) for name in RATES})
    return pd.DataFrame(scores, columns=list(SCORE_COLUMNS)), pd.DataFrame(
        rates, columns=["key", "seed", "split", "direction", "source", "target", "n", *RATES]
    )


def _sweeps(places: Mapping[str, Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials (a candidate and direction a row) and chosen merges, of all sweeps."""
    trials: list[dict[str, Any]] = []
    merges: list[dict[str, Any]] = []
    for place, folder in places.items():
        seed, _, rest = place.partition("/")
        group, _, kind = rest.rpartition(".")
        for name, entry in read_json(folder / "selection.json").items():
            recipe = entry["recipe"]
            head = {"seed": int(seed.removeprefix("seed")), "group": group, "name": name, "method": recipe["method"]}
            chosen = dict(recipe["parameters"])
            found = [t["mean"] for t in entry["trials"] if canonical(t["parameters"]) == canonical(chosen)]
            merges.append(
                {
                    **head,
                    "sweep": kind,
                    "parameters": chosen,
                    "candidates": max(1, len(entry["trials"])),
                    "dev": found[0] if found else np.nan,
                    "statistics": entry.get("statistics") or {},
                }
            )
            trials += [
                {**head, "trial": number, "parameters": t["parameters"], "mean": t["mean"], "direction": d, "dev": s}
                for number, t in enumerate(entry["trials"])
                for d, s in t["dev"].items()
            ]
    return pd.DataFrame(trials), pd.DataFrame(merges)


def _in_order(table: pd.DataFrame, systems: pd.DataFrame) -> pd.DataFrame:
    """Rows with ``name`` in the order of the study's systems (JSON files are sorted by key)."""
    if table.empty:
        return table
    places = {name: place for place, name in reversed(list(enumerate(systems.name)))}
    return table.sort_values("name", key=lambda names: names.map(places), kind="stable", ignore_index=True)


def _tables(folders: Mapping[str, Path]) -> dict[str, pd.DataFrame]:
    """The tables of :data:`TABLES` that have rows, by ``<place>/<file>``."""
    found: dict[str, list[pd.DataFrame]] = {}
    for name, folder in folders.items():
        place, _, rest = name.partition("/")
        for file in TABLES.get(place, ()):
            path = folder / f"{file}.csv"
            if not path.is_file():
                continue
            table = read_table(path)
            if place not in WHOLE:
                seed, _, group = rest.partition("/")
                table = table.assign(seed=int(seed.removeprefix("seed")), group=group)
            if len(table):
                found.setdefault(f"{place}/{file}", []).append(table)
    return {name: pd.concat(tables, ignore_index=True) for name, tables in found.items()}


def read_table(path: Path) -> pd.DataFrame:
    """A table of a stage. "nan" and the like may be names of languages: only empty cells are missing numbers."""
    try:
        return pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        place = path.parent
        raise InputError(f"{path}: not a table ({error}); remove {place} and run snakemake again") from None


def _costs(jobs: Mapping[str, Mapping[str, Path]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Costs of all jobs and logs of trainings; ``jobs`` maps kinds to folders by ``seed<n>/<name>``."""
    costs: list[dict[str, Any]] = []
    logs: list[pd.DataFrame] = []
    for kind, places in jobs.items():
        for place, folder in places.items():
            seed, _, name = place.partition("/")
            head: dict[str, Any] = {"kind": kind, "seed": int(seed.removeprefix("seed")), "name": name}
            costs.append(head | read_json(folder / COST))
            log = folder / "training_log.jsonl"
            if log.is_file():
                logs.append(pd.DataFrame(read_lines(log)).assign(seed=head["seed"], name=name))
    return pd.DataFrame(costs), pd.concat(logs, ignore_index=True) if logs else pd.DataFrame()


def load(spec: dict[str, Any], inputs: Mapping[str, Path]) -> Results:
    """Read all results that ``inputs`` names; :class:`InputError` naming the file that is missing or broken."""
    folders = {name: Path(folder) for name, folder in inputs.items()}

    def under(prefix: str) -> dict[str, Path]:
        return {name.removeprefix(prefix): path for name, path in folders.items() if name.startswith(prefix)}

    systems = pd.DataFrame([s for s in spec["systems"] if f"systems/{s['key']}" in folders])
    systems = systems.reindex(columns=list(SYSTEM_COLUMNS)).fillna({"group": "", "method": ""})
    if systems.empty:
        raise InputError('--inputs: no "systems/..." of the spec is among them; a report needs at least one system')
    scores, rates = _scores(systems, folders)
    trials, merges = (_in_order(table, systems) for table in _sweeps(under("sweeps/")))
    costs, logs = _costs(
        {"training": under("costs/"), "sweep": under("sweeps/"), "calibration": under("calibrations/")}
    )
    comparisons = folders.get("comparisons")
    contamination = folders.get("corpora_check")
    return Results(
        spec=spec,
        folders=folders,
        systems=systems,
        scores=scores,
        rates=rates,
        comparisons=pd.read_csv(comparisons / "comparisons.csv") if comparisons else pd.DataFrame(),
        trials=trials,
        merges=merges,
        costs=costs,
        logs=logs,
        contamination=read_json(contamination / "contamination.json") if contamination else {},
        tables=_tables(folders),
    )
