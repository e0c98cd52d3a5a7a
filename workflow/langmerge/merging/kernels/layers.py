"""Methods that put whole layers of different models together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langmerge.merging.block import Block
from langmerge.merging.kernels.base import Context, Kernel, Make
from langmerge.merging.methods import layers
from langmerge.merging.methods.averages import weighted_sum
from langmerge.merging.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor


def _layer_patch(recipe: Recipe, context: Context) -> Kernel:
    onto, donor = recipe.models
    chosen = layers.chosen_layers(recipe.parameters, layers.number_of_layers(context.names))

    def merge(block: Block) -> Tensor:
        return block.value(donor if layers.layer_index(block.tensor) in chosen else onto).clone()

    return Kernel(merge, notes={"layers": list(chosen)})


def _layer_swap(recipe: Recipe, context: Context) -> Kernel:
    """s l + (1 - s) t, l the language and t the task expert, s the language expert's share of the layer."""
    language, task = recipe.models
    parameters = recipe.parameters
    in_layers = layers.swapped_layers(parameters, layers.number_of_layers(context.names))
    outside = {"language": 1.0, "task": 0.0, "mean": parameters["weight"]}

    def share(tensor: str) -> float:
        index = layers.layer_index(tensor)
        if index is not None:
            return in_layers[index]
        return outside[parameters["embeddings" if layers.part_of(tensor) == "embeddings" else "head"]]

    shares = {tensor: share(tensor) for tensor in context.tensors}

    def merge(block: Block) -> Tensor:
        part = shares[block.tensor]
        if part in (0.0, 1.0):
            return block.value(language if part else task).clone()
        return weighted_sum([block.value(language), block.value(task)], [part, 1.0 - part])

    return Kernel(merge, notes={"language_share": in_layers})


def _passthrough(recipe: Recipe, context: Context) -> Kernel:
    (model,) = recipe.models
    return Kernel(lambda block: block.value(model) * recipe.parameters["scale"])


KERNELS: dict[str, Make] = {"layer_patch": _layer_patch, "layer_swap": _layer_swap, "passthrough": _passthrough}
