"""Tune each merge of a sweep on dev and score the chosen one on its test sets, without writing weights.

A *merge* of the spec has ``candidates`` (recipes, one for each point of its grid), the directions that ``tune`` it and
those that are in the ``report``. A candidate may name ``merge:<name>``: the chosen candidate of an earlier merge. A
candidate whose method is a search (:mod:`langmerge.sweeping.search`) stands for the recipe that it finds.
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
from langmerge.sweeping.search import search

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
    notes: dict[str, Any]  # of a search


class Sweep:
    """A sweep over the merges of ``spec``: iterate once to get them tuned and scored, in order.

    ``sources`` maps model names to folders; ``pairs`` languages to corpora; ``data`` names to what was measured of
    models. ``model`` is filled with one candidate after another. ``tokens`` counts what was read and written so far.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        sources: Mapping[str, Path],
        pairs: Mapping[str, Path],
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        data: Mapping[str, Path] | None = None,
    ) -> None:
        self.spec, self.sources, self.pairs, self.data = spec, sources, pairs, data or {}
        self.model, self.tokenizer = model, tokenizer
        self.chosen: list[Recipe] = []
        self.tokens = 0

    def test_sets(self, directions: Sequence[Any], splits: Mapping[str, int | None]) -> list[TestSet]:
        """The sentences of some directions and splits."""
        return read_test_sets({**self.spec, "directions": directions, "splits": splits}, self.pairs)

    def dev_sets(self, directions: Sequence[Any]) -> list[TestSet]:
        """The sentences of some directions on which merges are tuned."""
        return self.test_sets(directions, {"dev": self.spec["dev"]})

    def __iter__(self) -> Iterator[Tuned]:
        for merge in self.spec["merges"]:
            yield self.tune(merge)

    def tune(self, merge: Mapping[str, Any]) -> Tuned:
        """Choose on dev (if there is a choice), then score on test."""
        found = [search(self, self.recipe(candidate), merge["tune"]) for candidate in merge["candidates"]]
        recipes, trials, best = [each.recipe for each in found], found[0].trials, 0
        if len(recipes) > 1:
            trials = self.trials(recipes, merge["tune"])
            # The first of equally good candidates: the order of the grid decides, not chance.
            best = max(range(len(recipes)), key=lambda i: (trials[i]["mean"], -i))
        merged = next(self.merged([recipes[best]]))
        self.chosen.append(recipes[best])
        scored = self.score(merged, self.test_sets(merge["report"], self.spec["splits"]), self.spec["metrics"])
        total = {key: value for key, value in merged.statistics.items() if key != "tensors"}
        return Tuned(merge["name"], recipes[best], scored, trials, total, bool(merge["keep"]), found[best].notes)

    def trials(self, recipes: list[Recipe], directions: Sequence[Any]) -> list[dict[str, Any]]:
        """The dev score of every candidate: by direction, and their mean."""
        metric = self.spec["select_by"]
        test_sets = self.dev_sets(directions)
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

    def score(self, merged: Merged, test_sets: list[TestSet], metrics: Sequence[str]) -> Scored:
        """Put merged weights into the model and score it."""
        self.load(merged)
        scored = score_model(self.model, self.tokenizer, test_sets, {**self.spec, "metrics": list(metrics)})
        self.tokens += scored.prompt_tokens + scored.new_tokens
        return scored
