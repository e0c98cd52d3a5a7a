"""Averages of weights."""

from torch import Tensor

from langmerge.merging.block import Block
from langmerge.merging.gathers import Products
from langmerge.merging.kernels.base import Context, Kernel, Make
from langmerge.merging.methods import averages
from langmerge.merging.recipe import Recipe


def _linear(recipe: Recipe, context: Context) -> Kernel:
    def merge(block: Block) -> Tensor:
        values = [block.value(model) for model in recipe.models]
        return averages.linear(values, recipe.weights, recipe.parameters["normalize"])

    return Kernel(merge)


def _slerp(recipe: Recipe, context: Context) -> Kernel:
    first, second = recipe.models
    needs = context.needs_of(recipe.models)
    products = context.gather(("products", first, second), lambda: Products(needs, first, second))

    def merge(block: Block) -> Tensor:
        gram = products.gram.tolist()
        factors = averages.slerp_weights(gram[0][0], gram[1][1], gram[0][1], recipe.parameters["t"])
        return averages.weighted_sum([block.value(first), block.value(second)], factors)

    return Kernel(merge, (products,))


KERNELS: dict[str, Make] = {"linear": _linear, "slerp": _slerp}
