"""What binds a method to the engine: a kernel, and the context in which it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from langmerge.merging.block import Block, TaskVector
from langmerge.merging.elements import Array, Elements
from langmerge.merging.fused import loops
from langmerge.merging.gathers import AnyGather, Gather, Gathers
from langmerge.merging.lazy import torch
from langmerge.merging.recipe import Recipe
from langmerge.merging.sources import Source

if TYPE_CHECKING:
    from torch import Tensor


def never(tensor: str) -> bool:
    """No tensor is needed whole."""
    return False


class Onto(NamedTuple):
    """base + scale x merged, not added up yet: recipes that differ in scale alone share `merged`, float32 (count,)."""

    base: str
    merged: Array | Tensor
    scale: float

    def values(self, block: Block) -> Array | Tensor:
        """The sum at its block, new float32 (count,)."""
        if loops.usable(block.device):
            return loops.onto(block, self.base, Elements.of(self.merged).array, self.scale)
        return torch.add(block.value(self.base), Elements.of(self.merged).tensor, alpha=self.scale)


@dataclass(frozen=True)
class Kernel:
    """A recipe made ready: `merge` maps a block to float32 values (count,), or tells what they are the sum of.

    `gathers` must be complete before. `whole` tells of a tensor's name whether the method needs it in one
    block, as matrix methods do; others get blocks of whole rows. `notes` are decisions taken for these
    models, kept with the statistics.
    """

    merge: Callable[[Block], Array | Tensor | Onto]
    gathers: tuple[Gather, ...] = ()
    whole: Callable[[str], bool] = never
    notes: Mapping[str, Any] = field(default_factory=dict)

    def values(self, block: Block) -> Array | Tensor:
        """What `merge` gives, added up."""
        made = self.merge(block)
        return made.values(block) if isinstance(made, Onto) else made


@dataclass(frozen=True)
class Context:
    """What a recipe is made ready for.

    `tensors` are the names and shapes of those that this recipe merges (all of the model, or the part that
    one of its rules is for), `names` all names of the model. `data` holds, by model name, the folder with what
    was measured of it.
    """

    tensors: Mapping[str, tuple[int, ...]]
    names: Sequence[str]
    data: Mapping[str, Source]
    gathers: Gathers

    def gather(self, key: tuple, make: Callable[[], AnyGather]) -> AnyGather:
        """The gather known by `key`, made on first use; recipes with the same key share it."""
        return self.gathers.get(key, make, self.tensors)

    def needs_of(self, names: Iterable[str | None]) -> tuple[Gather, ...]:
        """Gathers that must be complete before the values of these sources or recipes can be computed."""
        return self.gathers.needs_of(names)


Make = Callable[[Recipe, Context], Kernel]
"""A method's side of the engine: makes the kernel of a recipe. ValueError if these models do not suit it."""


def base_of(recipe: Recipe) -> str:
    """The base of a recipe whose method needs one."""
    assert recipe.base is not None  # Recipe has checked it
    return recipe.base


def task_vectors_of(recipe: Recipe) -> list[TaskVector]:
    """model - base for each model; after DARE's drop where the method has `seed` and `density`."""
    base, seed = base_of(recipe), recipe.parameters.get("seed")
    density = 1.0 if seed is None else recipe.parameters["density"]
    if density >= 1:  # nothing is dropped: share all work with the undropped method
        return [TaskVector(model, base) for model in recipe.models]
    return [TaskVector(model, base, density, seed) for model in recipe.models]
