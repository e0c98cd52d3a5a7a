"""The multi-task vector that TALL masks and consensus merging cut out of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from langmerge.merging.block import Block
from langmerge.merging.elements import Elements
from langmerge.merging.gathers import Gather
from langmerge.merging.kernels import task_vectors
from langmerge.merging.kernels.base import Context, base_of, task_vectors_of
from langmerge.merging.methods.averages import weighted_sum
from langmerge.merging.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor


def multi_task_vector(recipe: Recipe, context: Context) -> tuple[Callable[[Block], Tensor], tuple[Gather, ...]]:
    """The recipe's multi-task vector (count,) of a block, shared by all who want it, and what it rests on.

    Its parameter `vector` says which: sum is sum_i d_i; ties is TIES as in its paper at `density`, adding up (not
    averaging) the elected entries, as Wang et al. 2024 (arXiv 2405.07813) do.
    """
    base, vectors = base_of(recipe), task_vectors_of(recipe)
    if recipe.parameters["vector"] == "sum":

        def total(block: Block) -> Tensor:
            return weighted_sum([block.delta(vector) for vector in vectors], [1.0] * len(vectors))

        return _shared(("sum", tuple(vectors)), total), ()
    density = recipe.parameters["density"]
    ties = Recipe(recipe.name, "ties", recipe.models, base, {"density": density, "normalize": False})
    kernel = task_vectors.KERNELS["ties"](ties, context)

    def elected(block: Block) -> Tensor:
        return Elements.of(kernel.values(block)).tensor - block.value(base)

    return _shared(("ties", tuple(vectors), density, kernel.gathers), elected), kernel.gathers


def _shared(key: tuple, compute: Callable[[Block], Tensor]) -> Callable[[Block], Tensor]:
    return lambda block: block.shared(("multi-task vector", *key), lambda: compute(block))
