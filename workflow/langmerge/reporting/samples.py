"""Scores with their bootstrap draws, so that means, differences, ratios and retention all get intervals.

Sentences are resampled with replacement; systems that were scored on the same sentences see the same draws (paired),
and so do the directions of a multi-parallel test set. Languages and seeds are fixed: averaged, not resampled.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from langmerge.evaluation import aggregates
from langmerge.evaluation.metrics import score
from langmerge.reporting.load import Results, each

LEVEL = (0.025, 0.975)  # of the 95 % interval


@dataclass(frozen=True)
class Sample:
    """A number and what it becomes in each bootstrap draw (samples,)."""

    point: float
    draws: np.ndarray

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % percentile interval; NaN if the number is not defined."""
        if not np.isfinite(self.point) or not np.isfinite(self.draws).any():
            return float("nan"), float("nan")
        low, high = np.nanquantile(self.draws, LEVEL)
        return float(low), float(high)

    @property
    def error(self) -> float:
        """The bootstrap standard error."""
        return float(np.nanstd(self.draws, ddof=1)) if len(self.draws) > 1 else float("nan")

    @property
    def above(self) -> bool:
        """The whole interval lies above 0."""
        return self.interval[0] > 0

    @property
    def below(self) -> bool:
        """The whole interval lies below 0."""
        return self.interval[1] < 0

    def __sub__(self, other: Sample) -> Sample:
        return Sample(self.point - other.point, self.draws - other.draws)


def draw(seed: int, samples: int, ids: str, n: int) -> np.ndarray:
    """How often each of n items is drawn with replacement, (samples, n); equal ids see equal draws."""
    rng = np.random.default_rng([seed, zlib.crc32(ids.encode())])
    return rng.multinomial(n, np.full(n, 1 / n), size=samples).astype(np.float64)


def mean(samples: Iterable[Sample]) -> Sample:
    """The unweighted mean of the defined ones; not defined if none is."""
    defined = [sample for sample in samples if np.isfinite(sample.point)]
    if not defined:
        return Sample(float("nan"), np.full(1, np.nan))
    return Sample(float(np.mean([s.point for s in defined])), np.mean([s.draws for s in defined], axis=0))


def ratio(merged: Sample, expert: Sample) -> Sample:
    """``m / e`` (:func:`langmerge.evaluation.aggregates.ratio`)."""
    return Sample(float(aggregates.ratio(merged.point, expert.point)), aggregates.ratio(merged.draws, expert.draws))


def retention(merged: Sample, expert: Sample, base: Sample) -> Sample:
    """``(m - b) / (e - b)`` (:func:`langmerge.evaluation.aggregates.retention`); NaN where the gain is unclear."""
    point = float(aggregates.retention(merged.point, expert.point, base.point, (expert - base).error))
    return Sample(point, aggregates.retention(merged.draws, expert.draws, base.draws, 0.0))


@dataclass(frozen=True)
class Row:
    """A row of a score table: for each seed and language the system that stands there."""

    label: str
    role: str
    name: str
    keys: Mapping[tuple[int, str], str]


class Scores:
    """Bootstrap samples of the scores of a report's systems, by metric."""

    def __init__(self, results: Results) -> None:
        self.results = results
        evaluation = results.study["evaluation"]
        self.samples, self.seed = int(evaluation["bootstrap_samples"]), int(evaluation["seed"])
        self._counts = functools.cache(self._draw)
        self._of = functools.cache(self._score)
        self._rows = functools.cache(self._make_rows)

    def _draw(self, ids: str, n: int) -> np.ndarray:
        return draw(self.seed, self.samples, ids, n)

    def _score(self, key: str, direction: str, metric: str) -> Sample:
        arrays = self.results.statistics(key, direction)
        statistics = arrays[metric]
        counts = self._counts("\n".join(arrays["ids"].tolist()), len(statistics))
        return Sample(float(score(metric, statistics.sum(0))), score(metric, counts @ statistics))

    def of(self, key: str, direction: str, metric: str) -> Sample:
        """Score of one system in one direction."""
        return self._of(key, direction, metric)

    def cell(self, row: Row, group: str, language: str, metric: str) -> Sample:
        """A row's score in a language's direction, averaged over the seeds."""
        direction = self.results.direction(group, language)
        return mean(self.of(key, direction, metric) for (_, code), key in row.keys.items() if code == language)

    def average(self, row: Row, group: str, metric: str, languages: Sequence[str] | None = None) -> Sample:
        """A row's score averaged over languages (default: all of the study)."""
        codes = self.results.languages if languages is None else languages
        return mean(self.cell(row, group, language, metric) for language in codes)

    def retained(
        self, row: Row, group: str, language: str, metric: str, measure: Callable[..., Sample] = retention
    ) -> Sample:
        """:func:`retention` or :func:`ratio` of a row against specialist (and base) in a language's direction."""
        known = {r.role: r for r in self.rows(group)}
        cells = [self.cell(r, group, language, metric) for r in (row, known["specialist"])]
        if measure is retention:
            cells.append(self.cell(known["base"], group, language, metric))
        return measure(*cells)

    def retained_mean(self, row: Row, group: str, metric: str, measure: Callable[..., Sample] = retention) -> Sample:
        """:meth:`retained`, averaged over the languages in which it is defined."""
        return mean(self.retained(row, group, code, metric, measure) for code in self.results.languages)

    def rows(self, group: str) -> list[Row]:
        """Base, the specialists (each in its own language), joint model, and merges of a direction group."""
        return self._rows(group)

    def _make_rows(self, group: str) -> list[Row]:
        systems, languages = self.results.systems, self.results.languages
        own = {self.results.direction(group, code): code for code in languages}
        rows: dict[tuple[str, str], dict[tuple[int, str], str]] = {}
        for role in ("base", "specialist", "joint", "merge"):
            for s in each(systems[(systems.role == role) & systems.group.isin(["", group])]):
                if role == "specialist" and s.name not in own:
                    continue
                codes = [own[s.name]] if role == "specialist" else languages
                name = s.name if role == "merge" else role
                cells = rows.setdefault((role, name), {})
                cells |= {(s.seed, code): s.key for code in codes}
        return [Row(label(role, name), role, name, cells) for (role, name), cells in rows.items()]

    def row(self, group: str, role: str) -> Row | None:
        """The only row of a role, or None."""
        return next((row for row in self.rows(group) if row.role == role), None)

    def merges(self, group: str) -> list[Row]:
        """The rows of merges over all specialists."""
        return [row for row in self.rows(group) if row.role == "merge"]

    def best_merge(self, group: str, metric: str) -> Row | None:
        """The merge with the highest mean score on test (which favours merging in comparisons with other systems)."""
        return max(self.merges(group), key=lambda row: self.average(row, group, metric).point, default=None)


METRICS = {"bleu": "BLEU", "chrf": "chrF++", "ter": "TER"}
METHODS = {
    "linear": "Linear",
    "task_arithmetic": "Task arithmetic",
    "ties": "TIES",
    "dare_linear": "DARE linear",
    "dare_ties": "DARE-TIES",
    "slerp": "SLERP",
    "sce": "SCE",
    "layer_patch": "Layer patch",
}


def label(role: str, name: str) -> str:
    """A row's name in tables and legends."""
    fixed = {"base": "Base", "specialist": "Specialist (own language)", "joint": "Joint"}
    return fixed.get(role) or METHODS.get(name, name.replace("_", " ").capitalize())


def arrow(group: str, pivot: str) -> str:
    """A direction group in print: ``en→xx``."""
    return f"{pivot}→xx" if group.startswith("from-") else f"xx→{pivot}"
