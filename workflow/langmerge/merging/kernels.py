"""Binds the methods to the engine: which gathers a recipe needs and what it does with a block.

A new method is one function here, registered under its name in the catalogue.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from operator import methodcaller
from typing import Any

from torch import Tensor

from langmerge.merging.block import Block, TaskVector
from langmerge.merging.gathers import Gather, Gathers, MajoritySign, Products, Scope, Selection
from langmerge.merging.methods import averages, layers, task_vectors
from langmerge.merging.recipe import Recipe


@dataclass(frozen=True)
class Kernel:
    """A recipe made ready: `merge` maps a block to new float32 values (count,).

    `gathers` must be complete before. `whole_tensors` asks for blocks that are whole tensors, for methods
    that cannot work entry by entry. `notes` are decisions taken for these models, kept with the statistics.
    """

    merge: Callable[[Block], Tensor]
    gathers: tuple[Gather, ...] = ()
    whole_tensors: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)


def _linear(recipe: Recipe, gathers: Gathers, tensors: list[str]) -> Kernel:
    def merge(block: Block) -> Tensor:
        values = [block.value(model) for model in recipe.models]
        return averages.linear(values, recipe.weights, recipe.parameters["normalize"])

    return Kernel(merge)


def _slerp(recipe: Recipe, gathers: Gathers, tensors: list[str]) -> Kernel:
    first, second = recipe.models
    needs = gathers.needs_of(recipe.models)
    products = gathers.get(("products", first, second), lambda: Products(needs, first, second))

    def merge(block: Block) -> Tensor:
        gram = products.gram.tolist()
        factors = averages.slerp_weights(gram[0][0], gram[1][1], gram[0][1], recipe.parameters["t"])
        return averages.weighted_sum([block.value(first), block.value(second)], factors)

    return Kernel(merge, (products,))


def _task_arithmetic(recipe: Recipe, gathers: Gathers, tensors: list[str]) -> Kernel:
    """Task arithmetic; with a seed (dare_linear) after DARE's drop."""
    base, vectors, parameters = _base(recipe), _task_vectors(recipe), recipe.parameters

    def merge(block: Block) -> Tensor:
        deltas = [block.delta(vector) for vector in vectors]
        return task_vectors.task_arithmetic(
            block.value(base), deltas, recipe.weights, parameters["scale"], parameters["normalize"]
        )

    return Kernel(merge)


def _ties(recipe: Recipe, gathers: Gathers, tensors: list[str]) -> Kernel:
    """TIES; with a seed (dare_ties) after DARE's drop."""
    base, vectors, parameters = _base(recipe), _task_vectors(recipe), recipe.parameters
    convention = parameters["convention"]
    density = parameters["trim"] if recipe.method == "dare_ties" else parameters["density"]
    scope: Scope = "model" if convention == "paper" else "tensor"
    needed: list[Gather] = []
    trims: list[Callable[[Block], Tensor]] = []
    for vector in vectors:
        if density >= 1:
            trims.append(methodcaller("delta", vector))
            continue
        needs = gathers.needs_of([vector.model, vector.base])
        selection = gathers.get(("selection", scope, vector), partial(Selection, scope, needs, vector))
        selection.ask(density, convention)
        needed.append(selection)
        trims.append(partial(selection.trimmed, density=density, convention=convention))

    def trimmed(block: Block) -> list[Tensor]:
        return [each(block) for each in trims]

    majority = None
    if convention == "paper":
        needs = (*needed, *gathers.needs_of(recipe.inputs))
        majority = gathers.get(("majority", density, frozenset(vectors)), lambda: MajoritySign(needs, trimmed))
        needed.append(majority)

    def merge(block: Block) -> Tensor:
        return task_vectors.ties(
            block.value(base),
            trimmed(block),
            recipe.weights,
            parameters["scale"],
            convention,
            parameters["normalize"],
            majority.sign if majority else 1,
        )

    return Kernel(merge, tuple(needed))


def _layer_patch(recipe: Recipe, gathers: Gathers, tensors: list[str]) -> Kernel:
    onto, donor = recipe.models
    chosen = layers.chosen_layers(recipe.parameters, layers.number_of_layers(tensors))

    def merge(block: Block) -> Tensor:
        return block.value(donor if layers.layer_index(block.tensor) in chosen else onto)

    return Kernel(merge, notes={"layers": list(chosen)})


KERNELS: dict[str, Callable[[Recipe, Gathers, list[str]], Kernel]] = {
    "linear": _linear,
    "slerp": _slerp,
    "task_arithmetic": _task_arithmetic,
    "dare_linear": _task_arithmetic,
    "ties": _ties,
    "dare_ties": _ties,
    "layer_patch": _layer_patch,
}


def make_kernel(recipe: Recipe, gathers: Gathers, tensors: list[str]) -> Kernel:
    """The kernel of a recipe for models with these tensor names; its gathers are added to `gathers`.

    The kernels of recipes that it uses must have been made before.
    """
    kernel = KERNELS[recipe.method](recipe, gathers, tensors)
    rests_on = (*kernel.gathers, *gathers.needs_of(recipe.inputs))
    gathers.of_recipe[recipe.name] = tuple(dict.fromkeys(rests_on))
    return kernel


def _base(recipe: Recipe) -> str:
    assert recipe.base is not None  # Recipe has checked it
    return recipe.base


def _task_vectors(recipe: Recipe) -> list[TaskVector]:
    base, seed = _base(recipe), recipe.parameters.get("seed")
    density = 1.0 if seed is None else recipe.parameters["density"]
    if density >= 1:  # nothing is dropped: share all work with the undropped method
        return [TaskVector(model, base) for model in recipe.models]
    return [TaskVector(model, base, density, seed) for model in recipe.models]
