"""What a study of growth measures: curves over tokens and FLOPs, forgetting, and what merges lose, with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from langmerge.reporting.load import read_table
from langmerge.reporting.samples import Sample, mean, retention
from langmerge.reporting.studies.results import MAIN, Samples, gain

TEXT = "text"
SMALL = "1x"
LABELS = {"1x": "1x", "1x-cloned": "1x cloned", "2x": "2x"}


@dataclass(frozen=True)
class Point:
    """A scored step of continued pre-training, means over seeds.

    ``flops`` are those of the continued pre-training, ``total`` counts the source's own training too; ``systems`` are
    the keys of what was scored, one a seed.
    """

    step: int
    tokens: float
    flops: float
    total: float
    systems: tuple[str, ...]


class Measures:
    """Measures of a study of growth over all seeds, or over one (``seed``).

    Losses are positive where something is lost: more bits per byte, or less accuracy.
    """

    def __init__(self, samples: Samples, seed: int | None = None) -> None:
        self.samples, self.results, self.seed = samples, samples.results, seed
        # Looked through hundreds of times: as plain rows that takes a tenth of the time that a frame takes
        rows: Any = self.results.systems.to_dict("records")
        self.systems: list[dict[str, Any]] = [row for row in rows if row["seed"] in self.seeds]

    # ---- systems ---------------------------------------------------------------------------------------------------

    @property
    def seeds(self) -> list[int]:
        """Seeds that are averaged over."""
        return self.results.seeds if self.seed is None else [self.seed]

    @property
    def setups(self) -> list[str]:
        """The study's setups, in its order."""
        return list(self.results.study["setups"])

    @property
    def grown(self) -> list[str]:
        """The setups whose models were grown."""
        return [setup for setup in self.setups if setup != SMALL]

    @property
    def languages(self) -> list[str]:
        """The languages that are learnt."""
        return self.results.languages

    @property
    def pivot(self) -> str:
        """The language of the source, which may be forgotten."""
        return str(self.results.study["pivot"])

    @property
    def methods(self) -> list[str]:
        """Merge methods, in the order in which they were made."""
        return list(dict.fromkeys(row["method"] for row in self.found(role="merge")))

    @property
    def sizes(self) -> list[int]:
        """Numbers of merged models, ascending."""
        return sorted({int(row["size"]) for row in self.found(role="merge")})

    def found(self, **values: Any) -> list[dict[str, Any]]:
        """Systems with these values."""
        return [row for row in self.systems if all(row.get(name) == value for name, value in values.items())]

    def keys(self, **values: Any) -> list[str]:
        """Keys of the systems with these values, one a seed where they name one system."""
        return [row["key"] for row in self.found(**values)]

    def specialist(self, setup: str, language: str) -> list[str]:
        """Keys of a language's specialist."""
        return self.keys(group=setup, role="specialist", language=language)

    def source(self, setup: str) -> list[str]:
        """Keys of what a setup's specialists start from."""
        return self.keys(group=setup, role="source")

    def merges(self, setup: str, method: str, size: int) -> dict[tuple[str, ...], list[str]]:
        """Keys of the merges of so many models, by the languages that are merged."""
        found: dict[tuple[str, ...], list[str]] = {}
        for row in self.found(group=setup, role="merge", method=method, size=size):
            found.setdefault(tuple(row["languages"]), []).append(row["key"])
        return found

    # ---- scores ----------------------------------------------------------------------------------------------------

    def score(self, systems: Sequence[str], languages: Iterable[str], task: str = TEXT) -> Sample:
        """Mean over systems and languages."""
        return self.samples.average(systems, task, languages)

    def loss(self, better: Sample, worse: Sample, task: str = TEXT) -> Sample:
        """By how much the second is worse than the first."""
        return gain(better, worse, MAIN[task])

    def forgetting(self, setup: str, languages: Sequence[str], task: str = TEXT) -> Sample:
        """What specialists of these languages lose in the pivot against their source, mean over languages."""
        before = self.score(self.source(setup), [self.pivot], task)
        after = [self.score(self.specialist(setup, code), [self.pivot], task) for code in languages]
        return mean(self.loss(before, one, task) for one in after)

    # ---- compute ---------------------------------------------------------------------------------------------------

    def cost(self, model: str, column: str) -> float:
        """A measured cost of a model, mean over seeds; NaN where it was not measured."""
        costs = self.results.costs
        if costs.empty or column not in costs:
            return float("nan")
        return float(costs[(costs.name == model) & costs.seed.isin(self.seeds)][column].mean())

    def tokens_at(self, model: str, step: int) -> float:
        """Tokens that a training had read after a step, by its log."""
        logs = self.results.logs
        rows = logs[(logs.name == model) & logs.seed.isin(self.seeds)] if len(logs) else logs
        if not len(rows):
            return float("nan")
        by_step = rows.groupby("step").tokens.mean()
        return float(np.interp(step, [0, *by_step.index], [0, *by_step]))

    def source_flops(self, setup: str) -> float:
        """FLOPs of all trainings that led to a setup's source."""
        models = {m["name"]: m for m in self.results.spec["models"] if m["seed"] == self.seeds[0]}
        name, total = f"{setup}-source", 0.0
        while name in models:
            if models[name]["kind"] == "train":
                total += self.cost(name, "flops")
            name = next(iter(models[name]["parents"]), "")
        return total

    def curve(self, setup: str, language: str) -> list[Point]:
        """The scored steps of a language's specialist, the source first."""
        own = [row for row in self.found(group=setup, language=language) if row["role"] in ("snapshot", "specialist")]
        model = f"{setup}-{language}"
        before, total, flops = self.source_flops(setup), self.cost(model, "tokens"), self.cost(model, "flops")
        points = [Point(0, 0.0, 0.0, before, tuple(self.source(setup)))]
        for step in sorted({int(row["step"]) for row in own}):
            tokens = self.tokens_at(model, step)
            # FLOPs go with tokens: the mixture, and with it the mean length of sequences, is the same all the time
            spent = flops * tokens / total
            points.append(
                Point(step, tokens, spent, before + spent, tuple(row["key"] for row in own if row["step"] == step))
            )
        return points

    def at(self, setup: str, language: str, flops: float, task: str = TEXT) -> Sample:
        """Score in a language after so many FLOPs, on the straight line between the scored steps around them."""
        points = self.curve(setup, language)
        after = next((i for i, point in enumerate(points) if i and point.flops >= flops * (1 - 1e-9)), len(points) - 1)
        low, high = points[after - 1], points[after]
        share = min(1.0, max(0.0, (flops - low.flops) / (high.flops - low.flops)))
        first, second = (self.score(list(point.systems), [language], task) for point in (low, high))
        return Sample(
            (1 - share) * first.point + share * second.point, (1 - share) * first.draws + share * second.draws
        )

    def equal_compute(self, setup: str, language: str, task: str = TEXT, ends: bool = True) -> Sample:
        """What the small model loses to a grown one at the largest FLOPs that both have spent on a language.

        ``ends``: whether the last step counts, at which the learning rate of one of the two has come down; without it
        both are in the middle of their schedules. Not defined without a scored step before the last.
        """
        curves = [self.curve(one, language) for one in (SMALL, setup)]
        if not ends and min(map(len, curves)) < 3:
            return mean([])
        last = [points[-1 if ends else -2].flops for points in curves]
        small, grown = (self.at(one, language, min(last), task) for one in (SMALL, setup))
        return self.loss(grown, small, task)

    def matched(self, setup: str, language: str, task: str = TEXT) -> Sample | None:
        """The same, of a small model that was trained as long as the grown one's FLOPs allow; None without one."""
        longer = self.keys(role="matched", language=language)
        if not longer:
            return None
        grown = self.score(self.specialist(setup, language), [language], task)
        return self.loss(grown, self.score(longer, [language], task), task)

    # ---- copies ----------------------------------------------------------------------------------------------------

    def copies(self) -> pd.DataFrame:
        """How far the copies in the clones with and without noise differ: columns noise, step, difference; or empty.

        ``role`` says which of the two is the study's own (``specialist``) and which the ``control``.
        """
        found = [
            read_table(folder / "copies.csv")
            for place, folder in self.results.folders.items()
            if place.startswith("copies/")
        ]
        if not found:
            return pd.DataFrame(columns=["noise", "step", "difference", "role", "language"])
        table = pd.concat(found, ignore_index=True)
        usual = bool(self.results.study["grow"]["parameters"].get("noise", True))
        return table.assign(role=np.where(table.noise == usual, "specialist", "control"))

    def copied(self, role: str) -> list[str]:
        """Keys of the control, or of the specialist that it is compared with."""
        (control,) = self.found(role="control")
        return self.keys(group=control["group"], role=role, language=control["language"], seed=control["seed"])

    # ---- merges ----------------------------------------------------------------------------------------------------

    def merge_loss(self, setup: str, systems: Sequence[str], languages: Sequence[str], task: str = TEXT) -> Sample:
        """What a merge loses against the specialists that it is made of, each in its language; their mean."""
        return mean(
            self.loss(self.score(self.specialist(setup, code), [code], task), self.score(systems, [code], task), task)
            for code in languages
        )

    def size_loss(self, setup: str, method: str, size: int, task: str = TEXT) -> Sample:
        """:meth:`merge_loss`, averaged over all subsets of a size."""
        found = self.merges(setup, method, size).items()
        return mean(self.merge_loss(setup, systems, languages, task) for languages, systems in found)

    def joint_gap(self, setup: str, systems: Sequence[str], languages: Sequence[str], task: str = TEXT) -> Sample:
        """What a merge loses against the setup's joint model in the languages that are merged; their mean."""
        joint = self.keys(group=setup, role="joint")
        return mean(
            self.loss(self.score(joint, [code], task), self.score(systems, [code], task), task) for code in languages
        )

    def kept(self, setup: str, method: str, task: str = TEXT) -> Sample:
        """Share of what the specialists had learnt, (merge - source) / (specialist - source), in the merge of all.

        Mean over languages; those in which the specialist learnt nothing are left out.
        """
        source = self.source(setup)
        found = []
        for languages, systems in self.merges(setup, method, max(self.sizes)).items():
            for code in languages:
                merged = self.score(systems, [code], task)
                expert = self.score(self.specialist(setup, code), [code], task)
                found.append(retention(merged, expert, self.score(source, [code], task)))
        return mean(found)
