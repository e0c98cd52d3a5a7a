"""Methods on task vectors that sparsify each, then add them or elect a sign."""

from collections.abc import Callable
from functools import partial
from operator import methodcaller

from torch import Tensor

from langmerge.merging.block import Block
from langmerge.merging.gathers import Gather, MajoritySign, Scope, Selection
from langmerge.merging.kernels.base import Context, Kernel, Make, base_of, task_vectors_of
from langmerge.merging.methods import task_vectors
from langmerge.merging.recipe import Recipe


def _task_arithmetic(recipe: Recipe, context: Context) -> Kernel:
    """Task arithmetic; with a seed (dare_linear) after DARE's drop."""
    base, vectors, parameters = base_of(recipe), task_vectors_of(recipe), recipe.parameters

    def merge(block: Block) -> Tensor:
        deltas = [block.delta(vector) for vector in vectors]
        return task_vectors.task_arithmetic(
            block.value(base), deltas, recipe.weights, parameters["scale"], parameters["normalize"]
        )

    return Kernel(merge)


def _ties(recipe: Recipe, context: Context) -> Kernel:
    """TIES; with a seed (dare_ties) after DARE's drop."""
    base, vectors, parameters = base_of(recipe), task_vectors_of(recipe), recipe.parameters
    convention = parameters["convention"]
    density = parameters["trim"] if recipe.method == "dare_ties" else parameters["density"]
    scope: Scope = "model" if convention == "paper" else "tensor"
    needed: list[Gather] = []
    trims: list[Callable[[Block], Tensor]] = []
    for vector in vectors:
        if density >= 1:
            trims.append(methodcaller("delta", vector))
            continue
        needs = context.needs_of([vector.model, vector.base])
        selection = context.gather(("selection", scope, vector), partial(Selection, scope, needs, vector))
        selection.ask(density, convention)
        needed.append(selection)
        trims.append(partial(selection.trimmed, density=density, convention=convention))

    def trimmed(block: Block) -> list[Tensor]:
        return [each(block) for each in trims]

    majority = None
    if convention == "paper":
        needs = (*needed, *context.needs_of(recipe.inputs))
        majority = context.gather(("majority", density, frozenset(vectors)), lambda: MajoritySign(needs, trimmed))
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


KERNELS: dict[str, Make] = {
    "task_arithmetic": _task_arithmetic,
    "dare_linear": _task_arithmetic,
    "ties": _ties,
    "dare_ties": _ties,
}
