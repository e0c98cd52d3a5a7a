"""Methods that weigh models by what was measured on data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from langmerge.merging.block import Block
from langmerge.merging.gathers import Gather
from langmerge.merging.gram import gram
from langmerge.merging.kernels.base import Context, Kernel, Make
from langmerge.merging.lazy import torch
from langmerge.merging.methods import data_driven
from langmerge.merging.recipe import Recipe
from langmerge.merging.sources import Source

if TYPE_CHECKING:
    from torch import Tensor


class FisherSize(Gather):
    """Euclidean norm and mean entry of a model's Fisher information over all tensors."""

    def __init__(self, source: Source) -> None:
        super().__init__("model")
        self._source = source

    def begin(self) -> None:
        """See the base class."""
        self._sum, self._squares, self._count = 0.0, 0.0, 0

    def update(self, index: int, block: Block) -> None:
        """See the base class; ValueError for entries that are negative or not finite."""
        values = _measured(self._source, block)
        total = float(values.sum(dtype=torch.float64))
        if not math.isfinite(total) or float(values.min()) < 0:
            raise ValueError(
                f"data {self._source.name!r}: tensor {block.tensor!r} has entries that are negative or not finite; "
                "Fisher information is a mean of squares, so measure it again"
            )
        self._sum += total
        self._squares += float(gram([values]))
        self._count += block.count

    @property
    def norm(self) -> float:
        """Euclidean norm."""
        return math.sqrt(self._squares)

    @property
    def mean(self) -> float:
        """Mean entry."""
        return self._sum / self._count


def _measured(source: Source, block: Block) -> Tensor:
    """What was measured of the block's entries, float32 (count,)."""
    return source.read(block.tensor, block.start, block.count).to(block.device, torch.float32)


def _expect(source: Source, tensor: str, shape: tuple[int, ...], what: str) -> None:
    """ValueError unless `source` has `tensor` in this shape."""
    found = source.tensors[tensor].shape if tensor in source.tensors else None
    if found != shape:
        raise ValueError(
            f"data {source.name!r}: expected the {what} of {tensor!r}, shape {list(shape)}, "
            f"found {'no such tensor' if found is None else list(found)}; was it measured of another model?"
        )


def _fisher(recipe: Recipe, context: Context) -> Kernel:
    """Fisher-weighted average; all tensors are treated alike, embeddings and vectors as well."""
    sources = [context.data[model] for model in recipe.models]
    for source in sources:
        for name, shape in context.tensors.items():
            _expect(source, name, shape, "Fisher information")
    sizes = [context.gather(("fisher size", source.name), lambda s=source: FisherSize(s)) for source in sources]  # type: ignore[misc]
    parameters = recipe.parameters

    def merge(block: Block) -> Tensor:
        scales = data_driven.fisher_scales(
            [size.norm for size in sizes], [size.mean for size in sizes], parameters["convention"] == "model"
        )
        informations = [
            block.shared(("fisher", source.name), lambda s=source: _measured(s, block))  # type: ignore[misc]
            for source in sources
        ]
        values = [block.value(model) for model in recipe.models]
        return data_driven.fisher_average(values, informations, recipe.weights, scales, parameters["floor"])

    return Kernel(merge, tuple(sizes))


class _Regression:
    """Gram matrices (float32) and Cholesky factor (float64) of one tensor at a time, on the block's device."""

    def __init__(self, recipe: Recipe, sources: list[Source]) -> None:
        self._recipe, self._sources, self._tensor = recipe, sources, ""

    def solve(self, block: Block) -> Tensor:
        parameters, weights = self._recipe.parameters, self._recipe.weights
        if self._tensor != block.tensor:
            whole = [source.whole(block.tensor).to(block.device, torch.float32) for source in self._sources]
            for source, matrix in zip(self._sources, whole, strict=True):
                if not torch.isfinite(matrix.sum()):
                    raise ValueError(f"data {source.name!r}: tensor {block.tensor!r} has entries that are not finite")
            self._grams = [data_driven.shrunk(matrix, parameters["off_diagonal"]) for matrix in whole]
            self._factor = data_driven.ridge_factor(self._grams, weights, parameters["ridge"])
            self._tensor = block.tensor
        rows = [block.value(model).view(block.matrix) for model in self._recipe.models]
        return data_driven.regression_mean(rows, self._grams, weights, self._factor).flatten()


def _regmean(recipe: Recipe, context: Context) -> Kernel:
    """RegMean of the tensors of which Gram matrices were measured (Linear weights); average of all others."""
    sources = [context.data[model] for model in recipe.models]
    linear_maps = {name for name in context.tensors if any(name in source.tensors for source in sources)}
    for name in linear_maps:
        width = context.tensors[name][-1]
        for source in sources:
            _expect(source, name, (width, width), "Gram matrix")
    regression = _Regression(recipe, sources)

    def merge(block: Block) -> Tensor:
        if block.tensor in linear_maps:
            return regression.solve(block)
        return data_driven.average([block.value(model) for model in recipe.models], recipe.weights)

    return Kernel(merge, notes={"regressed_tensors": len(linear_maps)})


def _search(recipe: Recipe, context: Context) -> Kernel:
    """Searches end in an ordinary recipe before anything is merged."""
    raise ValueError(
        f"recipe {recipe.name!r}: {recipe.method} searches for a recipe on held-out data, so only a study can run it; "
        "put it under merging.all or merging.pairs"
    )


KERNELS: dict[str, Make] = {
    "fisher": _fisher,
    "regmean": _regmean,
    "adamerging": _search,
    "greedy_soup": _search,
}
