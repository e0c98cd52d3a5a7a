"""What is measured of merges against combined models: gaps and their equivalence, spill-over, language vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from langmerge.evaluation.significance import holm
from langmerge.reporting.load import read_statistics
from langmerge.reporting.samples import METHODS, Sample, mean
from langmerge.reporting.studies.maintenance_costs import INITIAL, RETUNED, UPDATE
from langmerge.reporting.studies.results import MAIN, TASKS, Samples

LEAD = "ties"  # the paper's technique: the merge of tables that show one
LABELS = {"linear": "Plain average", "ties": "TIES", "dare_ties": "DARE-TIES", "knots": "KnOTS"}
TUNINGS = {"lora": "LoRA", "full": "full fine-tuning"}
EQUAL, BELOW, ABOVE, OPEN = "equal", "below", "above", "open"
TOST = (0.05, 0.95)  # two one-sided tests at level 0.05: the 90 % interval lies inside the margin
LEVEL = 0.05
PERMUTATIONS = 9999


class View:
    """The parts of a study's results by task and tuning.

    ``groups`` are names such as ``sentiment-lora``, ``variants`` those of further builds (``sentiment-lora-rank4``) by
    the group that they are a variant of, ``tasks`` the task and tuning of both.
    """

    def __init__(self, samples: Samples) -> None:
        self.samples, self.results = samples, samples.results
        self.groups = [name for name, _ in groups_of(self.results.study["answer_tasks"])]
        self.tasks = dict(groups_of(self.results.study["answer_tasks"]))
        self.variants: dict[str, dict[str, str]] = {group: {} for group in self.groups}
        for variant, made in self.results.study.get("variants", {}).items():
            for group, task in groups_of(made["tasks"]):
                self.variants[group][variant] = f"{group}-{variant}"
                self.tasks[f"{group}-{variant}"] = task
        self.margin = float(self.results.study["margin"])

    @property
    def languages(self) -> list[str]:
        """The study's languages."""
        return self.results.languages

    def scored(self, group: str) -> list[str]:
        """The languages that have items of a group's task."""
        return self.results.languages_of(self.tasks[group][0])

    def title(self, group: str) -> str:
        """``Sentiment, LoRA``."""
        task, tuning = self.tasks[group]
        return f"{TASKS[task]}, {TUNINGS[tuning]}"

    def metric(self, group: str) -> str:
        """The main metric of a group's task."""
        return MAIN[self.tasks[group][0]]

    def keys(self, group: str, **values: Any) -> list[str]:
        """Keys of systems of a group, one a seed where the values name one system."""
        return list(self.results.select(group=group, **values).key)

    def score(self, group: str, code: str, **values: Any) -> Sample:
        """Score in a language, mean over seeds."""
        return self.samples.average(self.keys(group, **values), self.tasks[group][0], [code])

    def average(self, group: str, languages: Iterable[str] | None = None, **values: Any) -> Sample:
        """Mean score over languages (default: all)."""
        return mean(self.score(group, code, **values) for code in languages or self.languages)

    def own(self, group: str) -> Sample:
        """Mean over languages of each specialist in its own."""
        return mean(
            self.score(group, code, role="specialist", language=code, scenario=INITIAL) for code in self.languages
        )

    def methods(self, group: str, scenario: str = INITIAL) -> list[str]:
        """Merge methods of a scenario."""
        merges = self.results.select(group=group, role="merge", scenario=scenario)
        return list(dict.fromkeys(merges.method)) if len(merges) else []

    def gap(self, group: str, method: str, language: str | None = None) -> Sample:
        """Merged minus combined, in a language or the mean over all; > 0: the merge is better."""
        codes = self.languages if language is None else [language]
        merged = self.average(group, codes, role="merge", method=method, scenario=INITIAL)
        return merged - self.average(group, codes, role="combined", scenario=INITIAL)

    def learnt(self, group: str) -> bool:
        """Whether the combined model is clearly above the base: else nothing is there that a merge could lose."""
        return (self.average(group, role="combined", scenario=INITIAL) - self.average(group, role="base")).above

    def with_scenario(self, scenario: str) -> list[str]:
        """Groups in which a scenario (update, addition) was run."""
        return [group for group in self.groups if self.keys(group, role="continued", scenario=scenario)]


def groups_of(tasks: Mapping[str, Sequence[str]]) -> list[tuple[str, tuple[str, str]]]:
    """Name of every group, with its task and tuning, from tunings by task."""
    return [(f"{task}-{tuning}", (task, tuning)) for task, tunings in tasks.items() for tuning in tunings]


def label(method: str) -> str:
    """A merge method in print."""
    return LABELS.get(method, METHODS.get(method, method))


# ---- equivalence ---------------------------------------------------------------------------------------------------


def narrow(sample: Sample) -> tuple[float, float]:
    """The 90 % percentile interval, that of two one-sided tests at level 0.05."""
    if not np.isfinite(sample.point):
        return float("nan"), float("nan")
    low, high = np.nanquantile(sample.draws, TOST)
    return float(low), float(high)


def equivalence(difference: Sample, margin: float) -> str:
    """EQUAL: the 90 % interval within +-margin; else BELOW or ABOVE where the 95 % one leaves out 0; else OPEN."""
    low, high = narrow(difference)
    if -margin < low and high < margin:
        return EQUAL
    return BELOW if difference.below else ABOVE if difference.above else OPEN


def p_value(difference: Sample) -> float:
    """Two-sided p of a difference: 2 Phi(-|d| / s), s the bootstrap standard error (Wald's test).

    Not the share of draws on the other side, whose smallest value, 2 / (draws + 1), Holm's correction would multiply.
    1 for a difference of exactly 0; NaN for what is not defined.
    """
    if not np.isfinite(difference.point) or difference.point == 0:
        return 1.0 if difference.point == 0 else float("nan")
    error = float(np.nanstd(difference.draws, ddof=1))
    return float(2 * stats.norm.sf(abs(difference.point) / error)) if error else 0.0


def adjusted(differences: Mapping[Any, Sample]) -> dict[Any, float]:
    """Holm-corrected p of the defined ones."""
    known = {key: p_value(sample) for key, sample in differences.items() if np.isfinite(sample.point)}
    return dict(zip(known, holm(list(known.values())).tolist(), strict=True)) if known else {}


# ---- spill-over ----------------------------------------------------------------------------------------------------


def changed_answers(view: View, group: str, before: Sequence[str], after: Sequence[str], language: str) -> float:
    """Share of a language's test items whose statistics of the main metric differ between two systems, over seeds."""
    task, metric = view.tasks[group][0], view.metric(group)
    shares = []
    for old, new in zip(before, after, strict=True):
        name = f"statistics/test.{task}.{language}.npz"
        arrays = [read_statistics(view.results.folders[f"systems/{key}"] / name)[metric] for key in (old, new)]
        shares.append(float((arrays[0] != arrays[1]).any(axis=1).mean()))
    return float(np.mean(shares)) if shares else float("nan")


def update_ways(view: View, group: str, method: str = LEAD) -> dict[str, tuple[list[str], list[str]]]:
    """Way to bring a model up to date -> keys of the systems before and after it."""
    combined = view.keys(group, role="combined", scenario=INITIAL)
    ways = {
        "All anew": (combined, view.keys(group, role="combined", scenario=UPDATE)),
        "Go on with replay": (combined, view.keys(group, role="continued", scenario=UPDATE)),
    }
    for name in view.methods(group, UPDATE):
        before, after, tuned = (
            view.keys(group, role="merge", method=name, scenario=state) for state in (INITIAL, UPDATE, RETUNED)
        )
        ways[f"Merge again, {label(name)}"] = (before, after)
        ways[f"Tune and merge again, {label(name)}"] = (before, tuned)
    return {way: systems for way, systems in ways.items() if all(systems)}


def change(view: View, group: str, before: Sequence[str], after: Sequence[str], language: str) -> Sample:
    """Score after less before, in a language, mean over seeds."""
    task = view.tasks[group][0]
    return view.samples.average(after, task, [language]) - view.samples.average(before, task, [language])


def spill_over(view: View, group: str, language: str) -> pd.DataFrame:
    """One row a way and language: change of the score with interval, Holm's p over all of them, changed answers."""
    ways = update_ways(view, group)
    changes = {
        (way, code): change(view, group, before, after, code)
        for way, (before, after) in ways.items()
        for code in view.scored(group)
    }
    corrected = adjusted({key: sample for key, sample in changes.items() if key[1] != language})
    return pd.DataFrame(
        [
            {"group": group, "way": way, "language": code, "updated": code == language, "change": sample.point}
            | {"low": sample.interval[0], "high": sample.interval[1]}
            | {"p": p_value(sample), "p_holm": corrected.get((way, code), float("nan"))}
            | {"changed": changed_answers(view, group, *ways[way], code)}
            for (way, code), sample in changes.items()
        ]
    )


# ---- language vectors ----------------------------------------------------------------------------------------------


def cosines(view: View) -> dict[str, pd.DataFrame]:
    """Cosines of the specialists' changes of the base by group, mean over seeds: language x language."""
    pairs = view.results.diagnoses.get("pairs", pd.DataFrame())
    found = {}
    for group in view.groups if len(pairs) else []:
        rows = pairs[(pairs.group == group) & (pairs.measure == "cosine")]
        own = np.where(np.eye(len(view.languages), dtype=bool), 1.0, np.nan)
        matrix = pd.DataFrame(own, index=view.languages, columns=view.languages)
        for (a, b), values in rows.groupby(["a", "b"]).value:
            one, other = (str(name).removeprefix(f"{group}-") for name in (a, b))
            matrix.loc[one, other] = matrix.loc[other, one] = values.mean()
        if len(rows):
            found[group] = matrix
    return found


def off_diagonal(matrix: pd.DataFrame) -> np.ndarray:
    """The cosines of different languages, each pair once; those that the group has."""
    values = matrix.to_numpy()[np.triu_indices(len(matrix), 1)]
    return values[np.isfinite(values)]


def vector_table(view: View, method: str = LEAD) -> pd.DataFrame:
    """One row a group and language: mean cosine of its vector with the others', and merged minus combined there."""
    rows = []
    for group, matrix in cosines(view).items():
        if method not in view.methods(group):
            continue
        for code in view.languages:
            others = [other for other in view.languages if other != code]
            gap = view.gap(group, method, code)
            if not np.isfinite(gap.point):  # the task has no items in this language
                continue
            rows.append(
                {"group": group, "language": code, "cosine": matrix.loc[code, others].mean(), "gap": gap.point}
                | {"low": gap.interval[0], "high": gap.interval[1]}
            )
    return pd.DataFrame(rows, columns=["group", "language", "cosine", "gap", "low", "high"])


def association(table: pd.DataFrame) -> tuple[float, float]:
    """Spearman's correlation of cosine and gap within groups (ranks within each, pooled), and its permutation p.

    Languages are permuted within their groups, so that differences between tasks are not taken for an association;
    p = (c + 1) / (n + 1), two-sided. NaN with fewer than two points that differ.
    """
    ranks = [
        (stats.rankdata(rows.cosine) - (len(rows) + 1) / 2, stats.rankdata(rows.gap) - (len(rows) + 1) / 2)
        for _, rows in table.groupby("group", sort=False)
    ]

    size = float(np.sqrt(sum(x @ x for x, _ in ranks) * sum(y @ y for _, y in ranks)))
    if not size:
        return float("nan"), float("nan")
    rng = np.random.default_rng(1)
    drawn = sum(rng.permuted(np.tile(y, (PERMUTATIONS, 1)), axis=1) @ x for x, y in ranks) / size
    found = float(sum(x @ y for x, y in ranks)) / size
    return found, float((np.sum(np.abs(drawn) >= abs(found) - 1e-12) + 1) / (PERMUTATIONS + 1))
