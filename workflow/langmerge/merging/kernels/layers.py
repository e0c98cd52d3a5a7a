"""Methods that put whole layers of different models together."""

from torch import Tensor

from langmerge.merging.block import Block
from langmerge.merging.kernels.base import Context, Kernel, Make
from langmerge.merging.methods import layers
from langmerge.merging.recipe import Recipe


def _layer_patch(recipe: Recipe, context: Context) -> Kernel:
    onto, donor = recipe.models
    chosen = layers.chosen_layers(recipe.parameters, layers.number_of_layers(context.tensors))

    def merge(block: Block) -> Tensor:
        return block.value(donor if layers.layer_index(block.tensor) in chosen else onto)

    return Kernel(merge, notes={"layers": list(chosen)})


KERNELS: dict[str, Make] = {"layer_patch": _layer_patch}
