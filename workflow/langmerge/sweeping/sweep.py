"""Tune each merge of a sweep on dev and score the chosen one on its test sets, without writing weights.

A *merge* of the spec has ``candidates`` (recipes, one for each point of its grid), the tests that ``tune`` it and those
that are in the ``report``: directions, and tasks in a language. A candidate may name ``merge:<name>``: the chosen
candidate of an earlier merge. A candidate whose method is a search (:mod:`langmerge.sweeping.search`) stands for the
recipe that it finds. A merge with ``parameters_of``, the name of an earlier one with the same grid, is not tuned: it
takes the candidate at the place of the one that was chosen there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langmerge.energy import meter_of
from langmerge.evaluation.metrics import oriented
from langmerge.evaluation.scoring import Scored, score_model
from langmerge.evaluation.task_sets import TASK_METRICS, TaskSet, is_task_test, read_task_sets
from langmerge.evaluation.test_sets import TestSet, read_test_sets
from langmerge.merging import Merged, Recipe, state_dicts, write_models
from langmerge.provenance import InputError
from langmerge.sweeping.search import search

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Name of a merge among recipes: a merge may be called like one of its sources (a snapshot that is scored alone).
CHOSEN = "merge:"
MEAN = "mean"  # selects by the mean of every test's main metric
DIRECTION_METRIC = "chrf"  # the main metric of a direction


@dataclass(frozen=True)
class Tuned:
    """A merge with the candidate that dev chose, its scores on test, and what dev said of every candidate."""

    name: str
    recipe: Recipe
    scored: Scored
    trials: list[dict[str, Any]]  # parameters, score by test, mean; empty if there was nothing to choose
    statistics: dict[str, Any]
    keep: bool
    notes: dict[str, Any]  # of a search
    cost: dict[str, float]  # wall-clock and CPU seconds and joules of tuning, merging and scoring


class Sweep:
    """A sweep over the merges of ``spec``: iterate once to get them tuned and scored, in order.

    ``sources`` maps model names to folders; ``pairs`` and ``tasks`` languages to corpora and items; ``data`` names to
    what was measured of models. ``model`` is filled with one candidate after another. ``tokens`` counts what was read
    and written so far.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        sources: Mapping[str, Path],
        pairs: Mapping[str, Path],
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        data: Mapping[str, Path] | None = None,
        tasks: Mapping[str, Path] | None = None,
    ) -> None:
        self.spec, self.sources, self.pairs, self.data, self.tasks = spec, sources, pairs, data or {}, tasks or {}
        self.model, self.tokenizer = model, tokenizer
        self.chosen: list[Recipe] = []
        self.places: dict[str, int] = {}  # of the chosen candidates, by merge
        self.tokens = 0
        self.meter = meter_of(model.device)

    def dev_sets(self, directions: Sequence[Any]) -> list[TestSet]:
        """The sentences of some directions on which merges are tuned; tasks among ``directions`` are refused."""
        if task := next(filter(is_task_test, directions), None):
            raise InputError(f"tune: {task} is a task; this search learns from the sentences of directions only")
        return read_test_sets({**self.spec, "directions": directions, "splits": {"dev": self.spec["dev"]}}, self.pairs)

    def read(self, tests: Sequence[Any], splits: Mapping[str, int | None]) -> tuple[list[TestSet], list[TaskSet]]:
        """The sentences of the directions among ``tests``, and the items of the tasks."""
        directions = [test for test in tests if not is_task_test(test)]
        chosen = {**self.spec, "splits": splits, "directions": directions, "tests": list(filter(is_task_test, tests))}
        return read_test_sets(chosen, self.pairs), read_task_sets(chosen, self.pairs, self.tasks)

    def __iter__(self) -> Iterator[Tuned]:
        for merge in self.spec["merges"]:
            yield self.tune(merge)

    def tune(self, merge: Mapping[str, Any]) -> Tuned:
        """Choose on dev (if there is a choice), then score on test."""
        cost: dict[str, float] = {}
        candidates, first = merge["candidates"], 0
        if "parameters_of" in merge:
            first = self.places[merge["parameters_of"]]
            candidates = candidates[first : first + 1]
        with self.timed(cost, "tuning"):
            found = [search(self, self.recipe(candidate), merge["tune"]) for candidate in candidates]
            recipes, trials, best = [each.recipe for each in found], found[0].trials, 0
            if len(recipes) > 1:
                trials = self.trials(recipes, merge["tune"])
                # The first of equally good candidates: the order of the grid decides, not chance.
                best = max(range(len(recipes)), key=lambda i: (trials[i]["mean"], -i))
        with self.timed(cost, "merging"):
            merged = next(self.merged([recipes[best]]))
        self.chosen.append(recipes[best])
        self.places[merge["name"]] = first + best
        with self.timed(cost, "scoring"):
            scored = self.score(merged, *self.read(merge["report"], self.spec["splits"]), self.spec.get("metrics", []))
        total = {key: value for key, value in merged.statistics.items() if key != "tensors"}
        return Tuned(merge["name"], recipes[best], scored, trials, total, bool(merge["keep"]), found[best].notes, cost)

    def trials(self, recipes: list[Recipe], tests: Sequence[Any]) -> list[dict[str, Any]]:
        """The dev score of every candidate: by test, and their mean, in which higher is better.

        With ``select_by: mean`` the score of a test is that of its main metric; scores in which lower is better count
        negative in the mean.
        """
        select = self.spec["select_by"]
        test_sets, task_sets = self.read(tests, {"dev": self.spec["dev"]})
        numbered = [replace(recipe, name=f"{recipe.name}#{i}") for i, recipe in enumerate(recipes)]
        result = []
        for recipe, merged in zip(recipes, self.merged(numbered), strict=True):
            translation = [DIRECTION_METRIC if select == MEAN else select]
            summaries = self.score(merged, test_sets, task_sets, translation).summaries()["dev"]
            chosen = {test: _selected(test, summary, select) for test, summary in summaries.items()}
            gains = [oriented(metric, value) for metric, value in chosen.values()]
            scores = {test: value for test, (_, value) in chosen.items()}
            result.append({"parameters": dict(recipe.parameters), "dev": scores, "mean": sum(gains) / len(gains)})
        return result

    def recipe(self, candidate: Mapping[str, Any]) -> Recipe:
        """A candidate's recipe, named so that later merges can refer to it."""
        known = {recipe.name for recipe in self.chosen}
        for name in candidate["models"]:
            if name.startswith(CHOSEN) and name not in known:
                raise InputError(f"sweep: {candidate['name']} builds on {name}, which does not come before it")
        return Recipe.from_json({**candidate, "name": CHOSEN + candidate["name"]})

    def merged(self, recipes: list[Recipe]) -> Iterator[Merged]:
        """The merged weights of recipes, which may use chosen ones, one after another; :class:`InputError` for NaN."""
        try:
            names = [recipe.name for recipe in recipes]
            yield from state_dicts([*self.chosen, *recipes], self.sources, data=self.data, outputs=names)
        except ValueError as error:
            raise InputError(str(error)) from None

    def write(self, tuned: Tuned, folder: Path) -> None:
        """Write the weights of a tuned merge, configuration and tokenizer as a model folder."""
        write_models(self.chosen, self.sources, {tuned.recipe.name: folder}, data=self.data, statistics=False)

    def load(self, merged: Merged) -> None:
        """Put merged weights into the model."""
        # A tied head is not among the merged tensors: it is the embedding.
        unexpected = self.model.load_state_dict(merged.state_dict, strict=False).unexpected_keys
        if unexpected:
            raise InputError(f"{merged.recipe.name}: the base's architecture has no tensor {unexpected[0]}")

    def score(
        self, merged: Merged, test_sets: list[TestSet], task_sets: list[TaskSet], metrics: Sequence[str]
    ) -> Scored:
        """Put merged weights into the model and score it; ``metrics`` are those of translations."""
        self.load(merged)
        spec = {**self.spec, "metrics": list(metrics)}
        scored = score_model(self.model, self.tokenizer, test_sets, spec, task_sets)
        self.tokens += scored.prompt_tokens + scored.new_tokens
        return scored

    @contextlib.contextmanager
    def timed(self, cost: dict[str, float], name: str) -> Iterator[None]:
        """Note what is used inside: seconds by the clock and of this process's CPU time, joules where counted."""
        started, before = time.perf_counter(), self.meter.used()
        yield
        used = self.meter.used() - before
        cost[f"{name}_seconds"] = round(time.perf_counter() - started, 4)
        cost[f"{name}_cpu_seconds"] = round(used.cpu_seconds, 4)
        cost.update({f"{name}_{kind}": joules for kind, joules in used.known().items()})


def _selected(test: str, summary: Mapping[str, Any], select: str) -> tuple[str, float]:
    """The metric of a test that candidates are selected by, and its score."""
    metrics = summary["metrics"]
    metric = select
    if select == MEAN:
        metric = TASK_METRICS[summary["task"]][0] if "task" in summary else DIRECTION_METRIC
    if metric not in metrics:
        raise InputError(
            f"select_by: {test} has no {metric}, only {', '.join(metrics)}; tasks are selected by {MEAN!r}"
        )
    return metric, float(metrics[metric]["score"])
