"""Binds the methods to the engine: one file a family, one function a method, under its name in the catalogue."""

from langmerge.merging.kernels import (
    averages,
    choices,
    data_driven,
    languages,
    layers,
    routed,
    spectral,
    task_vectors,
)
from langmerge.merging.kernels.base import Context, Kernel, Make, Onto
from langmerge.merging.recipe import Recipe

__all__ = ["KERNELS", "Context", "Kernel", "Onto", "make_kernel"]

KERNELS: dict[str, Make] = {
    name: make
    for family in (averages, task_vectors, choices, spectral, data_driven, layers, routed, languages)
    for name, make in family.KERNELS.items()
}


def make_kernel(recipe: Recipe, context: Context) -> Kernel:
    """The kernel of a recipe; its gathers are added to those of the context.

    The kernels of recipes that it uses must have been made before.
    """
    return KERNELS[recipe.method](recipe, context)
