"""Tune each merge of a sweep on dev and score the chosen one on its test sets, without writing weights.

A *merge* of the spec has ``candidates`` (recipes, one for each point of its grid), the directions that ``tune`` it and those that
are in the ``report``. A candidate may name ``merge:<name>``: the chosen candidate of an earlier merge of the same sweep.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langmerge.evaluation.scoring import Scored, score_model
from langmerge.evaluation.test_sets import TestSet, read_test_sets
from langmerge.merging import Merged, Recipe, state_dicts
from langmerge.provenance import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CHOSEN = "merge:"  # prefix of a name that stands for the chosen candidate of another merge


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

    ``sources`` maps model names to folders; ``pairs`` languages to corpora. ``model`` is filled with one candidate after another.
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
        self.chosen: dict[str, Recipe] = {}

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
        chosen = replace(recipes[best], name=merge["name"])
        self.chosen[merge["name"]] = chosen
        merged = next(iter(self.merged([chosen])))
        scored = self.score(merged, self.test_sets(merge["report"], self.spec["splits"]), self.spec["metrics"])
        total = {key: value for key, value in merged.statistics.items() if key != "tensors"}
        return Tuned(merge["name"], chosen, scored, trials, total, bool(merge["keep"]))

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
        """A candidate's recipe, with references to chosen merges left as names of their recipes."""
        models = [name.removeprefix(CHOSEN) for name in candidate["models"]]
        for name in candidate["models"]:
            if name.startswith(CHOSEN) and name.removeprefix(CHOSEN) not in self.chosen:
                raise InputError(f"sweep: {candidate['name']} builds on {name}, which does not come before it")
        return Recipe.from_json({**candidate, "models": models})

    def merged(self, recipes: list[Recipe]) -> Iterator[Merged]:
        """The merged weights of recipes, which may use chosen ones, one after another."""
        names = [recipe.name for recipe in recipes]
        used = self.used(recipes)
        return state_dicts([*used, *recipes], self.sources, outputs=names)

    def used(self, recipes: Sequence[Recipe]) -> list[Recipe]:
        """The chosen recipes that ``recipes`` are built on."""
        names = dict.fromkeys(name for recipe in recipes for name in recipe.inputs if name in self.chosen)
        own = {recipe.name for recipe in recipes}
        return [self.chosen[name] for name in names if name not in own]

    def score(self, merged: Merged, test_sets: list[TestSet], metrics: Sequence[str]) -> Scored:
        """Put merged weights into the model and score it."""
        # A tied head is not among the merged tensors: it is the embedding.
        unexpected = self.model.load_state_dict(merged.state_dict, strict=False).unexpected_keys
        if unexpected:
            raise InputError(f"{merged.recipe.name}: the base's architecture has no tensor {unexpected[0]}")
        return score_model(self.model, self.tokenizer, test_sets, {**self.spec, "metrics": list(metrics)})
