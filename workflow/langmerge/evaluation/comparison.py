"""``python -m langmerge.evaluation.comparison``: which differences are real, and what merges retain.

Reads the cached statistics of finished evaluations; translates and tokenises nothing.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from langmerge import provenance
from langmerge.command import parse
from langmerge.evaluation import aggregates
from langmerge.evaluation.metrics import LOWER_IS_BETTER
from langmerge.evaluation.significance import (
    Differences,
    holm,
    macro_average,
    paired_differences,
    paired_test,
)
from langmerge.evaluation.task_sets import TASK_METRICS, is_task_test, parse_task_test
from langmerge.evaluation.test_sets import parse_direction
from langmerge.provenance import InputError

MEAN = "mean"  # the direction of rows that average over directions or tests
FAMILY_COLUMNS = ("family", "metric", "system", "baseline", "direction")
COLUMNS = [
    "family",
    "system",
    "baseline",
    "direction",
    "metric",
    "score_system",
    "score_baseline",
    "difference",
    "low",
    "high",
    "standard_error",
    "p_bootstrap",
    "p_randomization",
    "p_holm",
    "n_tests",
]
RETENTION_COLUMNS = [
    "system",
    "expert",
    "base",
    "direction",
    "metric",
    "score_system",
    "score_expert",
    "score_base",
    "standard_error",
    "retention",
    "ratio",
    "interference",
]


@dataclass(frozen=True)
class Protocol:
    """How systems are compared: metrics, bootstrap samples, randomization trials, seed and split.

    ``metrics`` are those of directions; tests of tasks ("sentiment.es") are compared in all of their task's.
    """

    metrics: tuple[str, ...] = ("bleu", "chrf")
    samples: int = 1000
    trials: int = 10000
    seed: int = 0
    split: str = "test"

    def metrics_of(self, direction: str) -> tuple[str, ...]:
        """The metrics that a direction or a test of a task is compared in."""
        return TASK_METRICS[parse_task_test(direction).task] if is_task_test(direction) else self.metrics


class Evaluations:
    """Finished evaluations by the systems' names; each file of statistics is read once."""

    def __init__(self, folders: Mapping[str, Path], protocol: Protocol) -> None:
        self.folders = folders
        self.protocol = protocol
        self._read = functools.cache(self._read_file)
        self._compare = functools.cache(self._compare_systems)

    def _read_file(self, name: str, direction: str) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
        """Sentence ids (n) and statistics (n, k) of each metric of one system in one direction."""
        if name not in self.folders:
            raise InputError(
                f"comparisons: no evaluation of {name!r} among the inputs; "
                f"expected one of {', '.join(sorted(self.folders))}"
            )
        path = self.folders[name] / "statistics" / f"{self.protocol.split}.{direction}.npz"
        if not path.is_file():
            raise InputError(
                f"{path}: file not found; was {name} evaluated in {direction} on split {self.protocol.split!r}?"
            )
        with np.load(path, allow_pickle=False) as arrays:
            metrics = self.protocol.metrics_of(direction)
            missing = [metric for metric in metrics if metric not in arrays]
            if missing:
                raise InputError(f"{path}: no statistics of {', '.join(missing)}; add them to the evaluation's metrics")
            return tuple(arrays["ids"].tolist()), {metric: arrays[metric] for metric in metrics}

    def _compare_systems(self, system: str, baseline: str, direction: str) -> dict[str, Differences]:
        ids, statistics = self._read(system, direction)
        other_ids, other = self._read(baseline, direction)
        if ids != other_ids:
            raise InputError(
                f"{direction}, split {self.protocol.split!r}: {system} ({len(ids)} sentences) and {baseline} "
                f"({len(other_ids)}) were not evaluated on the same sentences; "
                "evaluate both with the same pairs, splits and limits"
            )
        # Directions with the same sentence ids (multi-parallel test sets) share their draws: a mean over them
        # resamples meanings and keeps the correlation between the translations of one meaning.
        seed = [self.protocol.seed, zlib.crc32("\n".join(ids).encode())]
        return paired_differences(statistics, other, self.protocol.samples, self.protocol.trials, seed)

    def compare(self, system: str, baseline: str, direction: str) -> dict[str, Differences]:
        """Differences by metric; :class:`InputError` if the two were not evaluated on the same sentences."""
        return self._compare(system, baseline, direction)


def _directions(entry: Mapping[str, Any]) -> list[str]:
    directions = [
        str(parse_task_test(value) if is_task_test(value) else parse_direction(value)) for value in entry["directions"]
    ]
    if not directions:
        raise InputError(f"comparison of {entry['system']!r}: expected at least one direction")
    return directions


def adjust(table: pd.DataFrame, family: Sequence[str]) -> pd.DataFrame:
    """Add ``p_holm`` (Holm over ``p_randomization``) and ``n_tests``, the size of the family.

    Rows that agree in the columns ``family`` are one family of tests; means over directions are families of
    their own.
    """
    unknown = sorted(set(family) - set(FAMILY_COLUMNS))
    if unknown:
        raise InputError(f"family: unknown column {', '.join(unknown)}; expected some of {', '.join(FAMILY_COLUMNS)}")
    keys = [table[column] for column in family] + [table["direction"] == MEAN]
    p_values = table["p_randomization"].groupby(keys)
    return table.assign(p_holm=p_values.transform(lambda p: holm(p.to_numpy())), n_tests=p_values.transform("size"))


def compare(
    evaluations: Evaluations, comparisons: Sequence[Mapping[str, Any]], family: Sequence[str] = ("family", "metric")
) -> pd.DataFrame:
    """One row a comparison, direction and metric, and one with the mean over directions (:data:`COLUMNS`).

    A direction may also be a test of a task, such as "sentiment.es"; the mean of a metric is over all that have it.
    An entry has ``system``, ``baseline``, ``directions`` and optionally ``family``, a label: entries with the same
    one are one family of tests. ``baseline`` is a system, or a mapping of directions to systems (each language's own
    specialist,
    say) with the ``label`` that stands in the table for it.

    Scores and differences in points, p-values two-sided. For TER and bits per byte lower is better: a negative
    difference is a gain.
    """
    rows = []
    for entry in comparisons:
        system, baseline = entry["system"], entry["baseline"]
        directions = _directions(entry)
        against = baseline if isinstance(baseline, Mapping) else dict.fromkeys(directions, baseline)
        if missing := [direction for direction in directions if direction not in against]:
            raise InputError(f"comparison of {system!r}: no baseline for {missing[0]}; name one for each direction")
        results = {direction: evaluations.compare(system, against[direction], direction) for direction in directions}
        metrics = dict.fromkeys(metric for by_metric in results.values() for metric in by_metric)
        results[MEAN] = {
            metric: macro_average([by_metric[metric] for by_metric in results.values() if metric in by_metric])
            for metric in metrics
        }
        for direction, by_metric in results.items():
            for metric, differences in by_metric.items():
                rows.append(
                    {
                        "family": entry.get("family", ""),
                        "system": system,
                        "baseline": baseline if isinstance(baseline, str) else entry["label"],
                        "direction": direction,
                        "metric": metric,
                        "score_system": differences.system,
                        "score_baseline": differences.baseline,
                        **asdict(paired_test(differences)),
                    }
                )
    if not rows:
        return pd.DataFrame(columns=COLUMNS)
    return adjust(pd.DataFrame(rows), family)[COLUMNS]


def retain(evaluations: Evaluations, entries: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Retention, ratio and interference of merges against expert and base (:data:`RETENTION_COLUMNS`).

    Each entry names ``system``, ``expert``, ``base`` and ``directions``; a system may have several (one an
    expert). Rows with direction ``mean`` average a system's defined values over all its entries; ``expert``
    and ``base`` are empty there.
    """
    rows = []
    for entry in entries:
        for direction in _directions(entry):
            gains = evaluations.compare(entry["expert"], entry["base"], direction)
            merged = evaluations.compare(entry["system"], entry["expert"], direction)
            for metric, gain in gains.items():
                error, lower = paired_test(gain).standard_error, metric in LOWER_IS_BETTER
                m, e, b = merged[metric].system, gain.system, gain.baseline
                rows.append(
                    {
                        "system": entry["system"],
                        "expert": entry["expert"],
                        "base": entry["base"],
                        "direction": direction,
                        "metric": metric,
                        "score_system": m,
                        "score_expert": e,
                        "score_base": b,
                        "standard_error": error,
                        "retention": float(aggregates.retention(m, e, b, error)),
                        "ratio": float(aggregates.ratio(m, e, lower)),
                        "interference": float(aggregates.interference(m, e, lower)),
                    }
                )
    table = pd.DataFrame(rows, columns=RETENTION_COLUMNS)
    averaged = ["score_system", "score_expert", "score_base", "retention", "ratio", "interference"]
    means = table.groupby(["system", "metric"], sort=False, as_index=False)[averaged].mean()
    return pd.concat([table, means.assign(direction=MEAN)], ignore_index=True)[RETENTION_COLUMNS]


def main(arguments: list[str] | None = None) -> None:
    """Write ``comparisons.csv`` and, if the spec has ``retention``, ``retention.csv`` into ``--out``.

    The spec has ``comparisons`` and optionally ``retention`` (see :func:`compare`, :func:`retain`),
    ``family`` (columns) and the fields of :class:`Protocol`; the inputs are ``evaluations/<name>``.
    """
    command = parse("langmerge.evaluation.comparison", __doc__, arguments)
    spec = command.spec
    options = {name: spec[name] for name in Protocol.__dataclass_fields__ if name in spec}
    if "metrics" in options:
        options["metrics"] = tuple(options["metrics"])
    with provenance.result(command.out, spec, command.code, command.environment) as job:
        given = command.named("evaluations")
        folders = {name: job.read(f"evaluations/{name}", folder) for name, folder in given.items()}
        evaluations = Evaluations(folders, Protocol(**options))
        table = compare(evaluations, spec["comparisons"], spec.get("family", ["family", "metric"]))
        table.to_csv(job.folder / "comparisons.csv", index=False, float_format="%.10g")
        if spec.get("retention"):
            retained = retain(evaluations, spec["retention"])
            retained.to_csv(job.folder / "retention.csv", index=False, float_format="%.10g")


if __name__ == "__main__":
    provenance.run(main)
