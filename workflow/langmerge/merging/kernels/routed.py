"""One shared body with a small residue for each language.

The parameter `part` chooses the output: the model restored for `serve`, or what it is restored from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from langmerge.merging.block import Block, TaskVector
from langmerge.merging.gathers import Gather
from langmerge.merging.kernels.base import Context, Kernel, Make, base_of, task_vectors_of
from langmerge.merging.kernels.multi_task import multi_task_vector
from langmerge.merging.lazy import torch
from langmerge.merging.methods import choices, routed
from langmerge.merging.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor


class Rescalers(Gather):
    """EMR's rescaler of each model, `values` [i], over the whole model.

    The paper's is a ratio of sums over all entries; `by_tensor` (the authors' code) adds up the tensors' means
    instead, so that small tensors count as much as large ones.
    """

    def __init__(
        self,
        needs: Iterable[Gather],
        vectors: Sequence[TaskVector],
        unified: Callable[[Block], Tensor],
        by_tensor: bool,
    ) -> None:
        super().__init__("model", needs)
        self._vectors = tuple(vectors)
        self._unified = unified
        self._by_tensor = by_tensor
        self.notes: list[dict[str, Any]] = [{} for _ in vectors]

    def begin(self) -> None:
        """See the base class."""
        self._sums = torch.zeros(2, len(self._vectors), dtype=torch.float64)
        self.values: list[float] = []

    def update(self, index: int, block: Block) -> None:
        """See the base class."""
        unified = self._unified(block)
        magnitude = unified.abs()
        sums = torch.tensor(
            [
                [float(block.delta(v).abs().sum(dtype=torch.float64)) for v in self._vectors],
                [
                    float((magnitude * routed.agreeing(block.delta(v), unified)).sum(dtype=torch.float64))
                    for v in self._vectors
                ],
            ],
            dtype=torch.float64,
        )
        self._sums += sums / torch.Size(block.shape).numel() if self._by_tensor else sums

    def end(self, index: int) -> None:
        """See the base class."""
        self.values = [routed.rescaler(*pair) for pair in self._sums.T.tolist()]
        for notes, value in zip(self.notes, self.values, strict=True):
            notes["rescaler"] = value


def _emr(recipe: Recipe, context: Context) -> Kernel:
    vectors = tuple(task_vectors_of(recipe))
    released = recipe.parameters["convention"] == "released"

    def unified(block: Block) -> Tensor:
        key = ("elected", vectors, released)
        return block.shared(
            key, lambda: routed.elect([block.delta(vector) for vector in vectors], -1 if released else 0)
        )

    needs = context.needs_of(recipe.inputs)
    key = ("rescalers", vectors, released)
    rescalers = context.gather(key, lambda: Rescalers(needs, vectors, unified, released))

    def mask(block: Block, number: int) -> Tensor:
        return routed.agreeing(block.delta(vectors[number]), unified(block))

    number = _served(recipe)
    notes = rescalers.notes[number] if number is not None else {}
    return Kernel(_part(recipe, unified, mask, lambda number: rescalers.values[number]), (rescalers,), notes=notes)


def _tall_mask(recipe: Recipe, context: Context) -> Kernel:
    vectors = task_vectors_of(recipe)
    vector, gathers = multi_task_vector(recipe, context)
    rule = recipe.parameters["mask_scale"], recipe.parameters["convention"]

    def mask(block: Block, number: int) -> Tensor:
        return choices.tall_mask(block.delta(vectors[number]), vector(block), *rule).to(torch.float32)

    return Kernel(_part(recipe, vector, mask, lambda number: 1.0), gathers)


def _served(recipe: Recipe) -> int | None:
    """Index of the model to serve; None if only the shared vector is wanted. ValueError if it is no model of these."""
    serve = recipe.parameters["serve"]
    if serve in recipe.models:
        return recipe.models.index(serve)
    if serve is None and recipe.parameters["part"] == "vector":
        return None
    raise ValueError(
        f"recipe {recipe.name!r}: {recipe.method}.serve: {serve!r} is not among the models; "
        f"expected one of {', '.join(recipe.models)}"
    )


def _part(
    recipe: Recipe,
    vector: Callable[[Block], Tensor],
    mask: Callable[[Block, int], Tensor],
    scale: Callable[[int], float],
) -> Callable[[Block], Tensor]:
    """What the recipe gives of a block: the restored model, the shared vector or the mask."""
    number, base = _served(recipe), base_of(recipe)

    def merge(block: Block) -> Tensor:
        if recipe.parameters["part"] == "vector" or number is None:
            return vector(block).clone()
        if recipe.parameters["part"] == "mask":
            return mask(block, number)
        return routed.served(block.value(base), vector(block), mask(block, number), scale(number))

    return merge


KERNELS: dict[str, Make] = {"emr": _emr, "tall_mask": _tall_mask}
