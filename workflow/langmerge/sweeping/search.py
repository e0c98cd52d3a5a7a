"""Searches: methods that find an ordinary recipe on dev, which the engine then merges like any other.

A search gets a sweep, its recipe (with the search's parameters) and the directions (or tasks) that tune it; test sets
are out of its reach.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.func import functional_call

from langmerge.evaluation.translation import Request, translate_requests
from langmerge.merging import Recipe
from langmerge.merging.methods.layers import layer_index, part_of
from langmerge.merging.recipe import Rule
from langmerge.prompts import Encoded, Prompt
from langmerge.provenance import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from langmerge.sweeping.sweep import Sweep

Weights = Mapping[str, torch.Tensor]
Group = int | str  # index of a transformer layer, or the part of the model that stands outside of them


@dataclass(frozen=True)
class Found:
    """What a search ended with: a recipe, the dev scores that it looked at, and what else is worth keeping."""

    recipe: Recipe
    trials: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


def search(sweep: Sweep, recipe: Recipe, directions: Sequence[Any]) -> Found:
    """The ordinary recipe that ``recipe`` stands for: itself, unless its method is a search."""
    return SEARCHES[recipe.method](sweep, recipe, directions) if recipe.method in SEARCHES else Found(recipe)


# ---- greedy soup ---------------------------------------------------------------------------------------------------


def greedy_choice(n: int, score: Callable[[list[tuple[int, ...]]], list[float]]) -> tuple[int, ...]:
    """The models of a greedy soup, in the order in which they were added (Wortsman et al. 2022, 2203.05482, recipe 1).

    ``score`` gives the held-out scores of soups, each a tuple of models. The models are ordered by their own score
    (equal ones: as given); each is kept if the score of the soup does not fall. So the soup scores at least as high as
    the best model alone, by 2 n - 1 scored soups.
    """
    own = score([(i,) for i in range(n)])
    first, *others = sorted(range(n), key=lambda i: (-own[i], i))
    chosen: tuple[int, ...] = (first,)
    best = own[first]
    for model in others:
        (value,) = score([(*chosen, model)])
        if value >= best:
            chosen, best = (*chosen, model), value
    return chosen


def _greedy_soup(sweep: Sweep, recipe: Recipe, directions: Sequence[Any]) -> Found:
    trials: list[dict[str, Any]] = []

    def soup(models: Sequence[int]) -> Recipe:
        weights = [float(i in models) for i in range(len(recipe.models))]
        return replace(recipe, method="linear", parameters={"weights": weights})

    def score(soups: list[tuple[int, ...]]) -> list[float]:
        tried = sweep.trials([soup(models) for models in soups], directions)
        trials.extend(tried)
        return [trial["mean"] for trial in tried]

    chosen = greedy_choice(len(recipe.models), score)
    return Found(soup(chosen), trials, {"added": [recipe.models[i] for i in chosen]})


# ---- AdaMerging ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Learnt:
    """Coefficients [groups, models] of task vectors, and the mean entropy (nats) of all contexts before and after."""

    groups: tuple[Group, ...]
    coefficients: torch.Tensor
    entropies: tuple[float, float]
    tokens: int


def group_of(tensor: str) -> Group:
    """The layer of a tensor, or the part of the model that it belongs to if it stands in no layer."""
    layer = layer_index(tensor)
    return part_of(tensor) if layer is None else layer


def mean_entropy(model: PreTrainedModel, weights: Weights, rows: Sequence[Encoded]) -> torch.Tensor:
    """Mean entropy (nats) of the next-token distributions with which answers are predicted, over all their tokens.

    ``model`` is called with ``weights`` in place of its own. Rows are padded on the right, which a causal model's
    earlier positions do not see.
    """
    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([[*row.ids, *[0] * (width - len(row.ids))] for row in rows], device=model.device)
    where = [r * width + t for r, row in enumerate(rows) for t in range(row.prompt_length - 1, len(row.ids) - 1)]
    output = functional_call(model, dict(weights), kwargs={"input_ids": ids, "use_cache": False})
    scores = output.logits.flatten(0, 1)[torch.tensor(where, device=model.device)].float().log_softmax(-1)
    return -(scores.exp() * scores).sum(-1).mean()


def learn_coefficients(
    model: PreTrainedModel,
    base: Weights,
    experts: Sequence[Weights],
    contexts: Sequence[Sequence[Encoded]],
    *,
    init: float,
    learning_rate: float,
    steps: int,
    batch_size: int,
    clamp: bool,
    seed: int,
) -> Learnt:
    """Layer-wise AdaMerging (Yang et al. 2024, arXiv 2310.02575, equations 3 and 5), for a language model.

    Minimises, over lambda [groups, models], the mean over ``contexts`` (one list a direction) of the entropy of the
    next token, with weights base_l + sum_k lambda_lk (expert_k - base)_l. A group is a transformer layer, or a part
    outside of the layers (embeddings, final norm, head). Adam without weight decay; with ``clamp`` every step ends by
    putting lambda back into [0, 1]. Each step takes ``batch_size`` rows (all where there are fewer) of each direction,
    in a new random order every epoch.

    Holds base, task vectors, merged weights and their gradients in float32 on the model's device: n + 3 models.
    Raises :class:`InputError` where the entropy is not finite.
    """
    device = model.device
    names = [name for name, weight in base.items() if weight.is_floating_point()]
    groups = tuple(dict.fromkeys(group_of(name) for name in names))
    row_of = {name: groups.index(group_of(name)) for name in names}
    start = {name: base[name].to(device, torch.float32) for name in names}
    vectors = {name: torch.stack([expert[name].to(start[name]) - start[name] for expert in experts]) for name in names}
    coefficients = torch.full((len(groups), len(experts)), init, device=device, requires_grad=True)
    optimizer = torch.optim.Adam([coefficients], lr=learning_rate)
    streams = [_endless(len(rows), (seed, i)) for i, rows in enumerate(contexts)]

    def merged() -> dict[str, torch.Tensor]:
        return {name: start[name] + torch.tensordot(coefficients[row_of[name]], vectors[name], 1) for name in names}

    def everything() -> float:
        with torch.no_grad():
            weights = merged()
            parts = [rows[i : i + batch_size] for rows in contexts for i in range(0, len(rows), batch_size)]
            answers = [sum(len(row.ids) - row.prompt_length for row in part) for part in parts]
            entropies = [float(mean_entropy(model, weights, part)) for part in parts]
        return float(np.average(entropies, weights=answers))

    before, tokens = everything(), 0
    for step in range(steps):
        batches = [
            [rows[next(stream)] for _ in range(min(batch_size, len(rows)))]
            for rows, stream in zip(contexts, streams, strict=True)
        ]
        weights = merged()
        loss = torch.stack([mean_entropy(model, weights, batch) for batch in batches]).mean()
        if not torch.isfinite(loss):
            raise InputError(f"adamerging: the entropy is not finite at step {step}; lower learning_rate or init")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tokens += sum(len(row.ids) for batch in batches for row in batch)
        if clamp:
            with torch.no_grad():
                coefficients.clamp_(0, 1)
    return Learnt(groups, coefficients.detach().cpu(), (before, everything()), tokens)


def _endless(n: int, key: tuple[int, ...]) -> Iterator[int]:
    """Indices below n in a new random order every epoch."""
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
    while True:
        yield from random.permutation(n).tolist()


def layer_wise_recipe(recipe: Recipe, learnt: Learnt) -> Recipe:
    """Task arithmetic with a rule for each group; its own weights, which no tensor is left for, are the means."""
    rules = []
    for group, row in zip(learnt.groups, learnt.coefficients.tolist(), strict=True):
        weights = {"weights": row}
        if isinstance(group, int):
            rules.append(Rule(layers=(group,), parameters=weights))
        else:
            rules.append(Rule(part=group, parameters=weights))
    # Layers first: a norm inside a layer is also of the part "norms".
    rules.sort(key=lambda rule: rule.layers is None)
    means = learnt.coefficients.mean(0).tolist()
    return replace(recipe, method="task_arithmetic", parameters={"scale": 1.0, "weights": means}, rules=tuple(rules))


def _adamerging(sweep: Sweep, recipe: Recipe, directions: Sequence[Any]) -> Found:
    """Learns on the dev sources and on what the merge at the start translates them to: references are not read.

    The paper's classifiers give one distribution an input; a language model gives one for each token of an answer,
    and needs an answer to be given them.
    """
    settings = dict(recipe.parameters)
    assert recipe.base is not None  # Recipe has checked it
    start = replace(recipe, method="task_arithmetic", parameters={"scale": settings["init"]})
    (first,) = sweep.merged([start])
    sweep.load(first)
    contexts = [_own_answers(sweep, test.sources, test.direction) for test in sweep.dev_sets(directions)]

    def whole(name: str) -> Weights:
        (alone,) = sweep.merged([replace(recipe, method="linear", models=(name,), base=None, parameters={})])
        return alone.state_dict

    experts = [whole(name) for name in recipe.models]
    learnt = learn_coefficients(sweep.model, whole(recipe.base), experts, contexts, **settings)
    sweep.tokens += learnt.tokens
    coefficients = dict(zip(map(str, learnt.groups), learnt.coefficients.tolist(), strict=True))
    notes = {"models": list(recipe.models), "coefficients": coefficients, "entropies": list(learnt.entropies)}
    return Found(layer_wise_recipe(recipe, learnt), notes=notes)


def _own_answers(sweep: Sweep, sources: Sequence[str], direction: tuple[str, str]) -> list[Encoded]:
    """Sources with the greedy translations of the model that is loaded, as sequences."""
    prompt, decode = Prompt(**sweep.spec["prompt"]), sweep.spec["decode"]
    answers = translate_requests(
        sweep.model,
        sweep.tokenizer,
        prompt,
        [Request(source, *direction) for source in sources],
        batch_size=decode["batch_size"],
        max_new_tokens=decode["max_new_tokens"],
        max_length_ratio=decode.get("max_length_ratio"),
        cut=decode.get("cut"),
    )
    sweep.tokens += sum(answer.prompt_tokens + answer.new_tokens for answer in answers)
    return [
        prompt.encode(sweep.tokenizer, source, answer.text, *direction)
        for source, answer in zip(sources, answers, strict=True)
    ]


SEARCHES: dict[str, Callable[[Sweep, Recipe, Sequence[Any]], Found]] = {
    "adamerging": _adamerging,
    "greedy_soup": _greedy_soup,
}
