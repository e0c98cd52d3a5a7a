"""Tune each merge of a sweep on dev and score the chosen one on its test sets, without writing weights.

A *merge* of the spec has ``candidates`` (recipes, one for each point of its grid), the directions that ``tune`` it and
those that are in the ``report``. A candidate may name ``merge:<name>``: the chosen candidate of an earlier merge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langmerge.evaluation.scoring import Scored, score_model
from langmerge.evaluation.test_sets import TestSet, read_test_sets
from langmerge.merging import Merged, Recipe, state_dicts, write_models
from langmerge.provenance import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Name of a merge among recipes: a merge may be called like one of its sources (a snapshot that is scored alone).
CHOSEN = "merge:"


@dataclass(frozen=True)
class Tuned:
    """A merge with the candidate that dev chose, its scores on test, and what dev said of every candidate."""

    name: str
    recipe: Recipe
    scored: Scored
    trials: list[dict[str, Any]]  # parameters, score by direction, mean; empty if there was nothing to choose
    statistics: dict[str, Any]
    keep: bool


class Sweep:
    """A sweep over the merges of ``spec``: iterate once to get them tuned and scored, in order.

    ``sources`` maps model names to folders; ``pairs`` languages to corpora. ``model`` is filled with one candidate
    after another.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        sources: Mapping[str, Path],
        pairs: Mapping[str, Path],
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        self.spec, self.sources, self.pairs = spec, sources, pairs
        self.model, self.tokenizer = model, tokenizer
        self.chosen: list[Recipe] = []

    def test_sets(self, directions: Sequence[Any], splits: Mapping[str, int | None]) -> list[TestSet]:
        """The sentences of some directions and splits."""
        return read_test_sets({**self.spec, "directions": directions, "splits": splits}, self.pairs)

    def __iter__(self) -> Iterator[Tuned]:
        for merge in self.spec["merges"]:
            yield self.tune(merge)

    def tune(self, merge: Mapping[str, Any]) -> Tuned:
        """Choose on dev (if there is a choice), then score on test."""
        recipes = [self.recipe(candidate) for candidate in merge["candidates"]]
        trials: list[dict[str, Any]] = []
        if len(recipes) > 1:
            trials = self.trials(recipes, merge["tune"])
        # The first of equally good candidates: the order of the grid decides, not chance.
        best = max(range(len(recipes)), key=lambda i: (trials[i]["mean"] if trials else 0, -i))
        merged = next(self.merged([recipes[best]]))
        self.chosen.append(recipes[best])
        scored = self.score(merged, self.test_sets(merge["report"], self.spec["splits"]), self.spec["metrics"])
        total = {key: value for key, value in merged.statistics.items() if key != "tensors"}
        return Tuned(merge["name"], recipes[best], scored, trials, total, bool(merge["keep"]))

    def trials(self, recipes: list[Recipe], directions: Sequence[Any]) -> list[dict[str, Any]]:
        """The dev score of every candidate: by direction, and their mean."""
        metric = self.spec["select_by"]
        test_sets = self.test_sets(directions, {"dev": self.spec["dev"]})
        numbered = [replace(recipe, name=f"{recipe.name}#{i}") for i, recipe in enumerate(recipes)]
        result = []
        for recipe, merged in zip(recipes, self.merged(numbered), strict=True):
            summaries = self.score(merged, test_sets, [metric]).summaries()["dev"]
            scores = {direction: float(s["metrics"][metric]["score"]) for direction, s in summaries.items()}
            result.append(
                {"parameters": dict(recipe.parameters), "dev": scores, "mean": sum(scores.values()) / len(scores)}
            )
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
            yield from state_dicts([*self.chosen, *recipes], self.sources, outputs=[recipe.name for recipe in recipes])
        except ValueError as error:
            raise InputError(str(error)) from None

    def write(self, tuned: Tuned, folder: Path) -> None:
        """Write the weights of a tuned merge, configuration and tokenizer as a model folder."""
        write_models(self.chosen, self.sources, {tuned.recipe.name: folder}, statistics=False)

    def score(self, merged: Merged, test_sets: list[TestSet], metrics: Sequence[str]) -> Scored:
        """Put merged weights into the model and score it."""
        # A tied head is not among the merged tensors: it is the embedding.
        unexpected = self.model.load_state_dict(merged.state_dict, strict=False).unexpected_keys
        if unexpected:
            raise InputError(f"{merged.recipe.name}: the base's architecture has no tensor {unexpected[0]}")
        return score_model(self.model, self.tokenizer, test_sets, {**self.spec, "metrics": list(metrics)})
