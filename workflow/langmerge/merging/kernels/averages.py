"""Averages of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from langmerge.merging.block import Block, TaskVector
from langmerge.merging.elements import Array, module_of, on_cpu
from langmerge.merging.fused import loops
from langmerge.merging.gathers import Gather
from langmerge.merging.gram import column_grams, gram, row_grams
from langmerge.merging.kernels.base import Context, Kernel, Make, Onto
from langmerge.merging.lazy import torch
from langmerge.merging.methods import averages
from langmerge.merging.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

Factors = Callable[[Any], Any]
"""From Gram matrices (..., n, n) to the factors (..., n) of a sum of n vectors."""


class Gram(Gather):
    """Dot products of models' tensors, or of their task vectors from `base`, for all recipes that ask.

    `by_column`: of each column (what all dimensions but the first count) for itself; else of the whole tensor.
    """

    def __init__(self, needs: Iterable[Gather], base: str | None, by_column: bool = False) -> None:
        super().__init__("tensor", needs)
        self._base = base
        self._by_column = by_column
        self._rows: dict[str, int] = {}

    def ask(self, models: Sequence[str]) -> None:
        """Announce models; to be called before the first round."""
        for model in models:
            self._rows.setdefault(model, len(self._rows))

    def begin(self) -> None:
        """See the base class."""
        self._grams: Any = None
        self._factors: dict[tuple, Any] = {}

    def update(self, index: int, block: Block) -> None:
        """See the base class."""
        if self._by_column and len(block.shape) < 2:
            return
        if loops.usable(block.device) and not self._by_column:
            part: Any = loops.gram(block, loops.plains(block, tuple(self._rows), self._base))
        else:
            vectors = _vectors(block, list(self._rows), self._base)
            part = column_grams(vectors, _columns(block.shape)) if self._by_column else gram(vectors)
        self._grams = part if self._grams is None else self._grams + part

    def factors(self, models: tuple[str, ...], factors: Factors) -> Any:
        """Factors of these models' vectors in the tensor at hand: array (n,), or by column a tensor (n, columns)."""
        key = (models, factors)
        if key not in self._factors:
            assert self._grams is not None  # gathers are complete before kernels run
            rows = [self._rows[model] for model in models]
            if self._by_column:
                self._factors[key] = factors(self._grams[:, rows][:, :, rows]).to(torch.float32).T
            else:
                # A few dozen numbers: elsewhere than on a CPU each operation on them would cost more than the numbers.
                self._factors[key] = factors(on_cpu(self._grams)[rows][:, rows])
        return self._factors[key]


def _vectors(block: Block, models: Sequence[str], base: str | None) -> list[Tensor]:
    """The models' values of a block, or their task vectors."""
    if base is None:
        return [block.value(model) for model in models]
    return [block.delta(TaskVector(model, base)) for model in models]


def _columns(shape: tuple[int, ...]) -> int:
    return math.prod(shape[1:])


def _linear(recipe: Recipe, context: Context) -> Kernel:
    normalize = recipe.parameters["normalize"]
    divisor = math.fsum(recipe.weights) if normalize else 1.0
    fused = not normalize or abs(divisor) >= 1e-8  # else the reference says what is wrong

    def merge(block: Block) -> Array | Tensor:
        if fused and loops.usable(block.device):
            return loops.weighted_sum(block, loops.plains(block, recipe.models), recipe.weights, divisor)
        values = [block.value(model) for model in recipe.models]
        return averages.linear(values, recipe.weights, normalize)

    return Kernel(merge)


def _gathered(recipe: Recipe, context: Context, base: str | None, by_column: bool = False) -> Gram:
    """The gather of the dot products that a recipe needs, shared by all recipes of the pass."""
    needs = context.needs_of([*recipe.models, base])
    gathered = context.gather(("gram", needs, base, by_column), lambda: Gram(needs, base, by_column))
    gathered.ask(recipe.models)
    return gathered


def _onto(base: str | None, merged: Array | Tensor) -> Array | Tensor | Onto:
    """A merged task vector on the base; without a base, as it is."""
    return merged if base is None else Onto(base, merged, 1.0)


def _by_tensor(recipe: Recipe, context: Context, factors: Factors, base: str | None) -> Kernel:
    """A sum whose factors follow from the dot products of whole tensors."""
    gathered = _gathered(recipe, context, base)

    def merge(block: Block) -> Array | Tensor | Onto:
        weights = gathered.factors(recipe.models, factors).tolist()
        if loops.usable(block.device):
            return _onto(base, loops.weighted_sum(block, loops.plains(block, recipe.models, base), weights))
        return _onto(base, averages.weighted_sum(_vectors(block, recipe.models, base), weights))

    return Kernel(merge, (gathered,))


def _by_row(recipe: Recipe, context: Context, factors: Factors, base: str | None) -> Kernel:
    """A sum with factors of its own for each row (1-D tensors are one row)."""
    models = recipe.models

    def merge(block: Block) -> Array | Tensor | Onto:
        rows, columns = block.matrix
        vectors = _vectors(block, models, base)
        grams = block.shared(("row grams", models, base), lambda: row_grams(vectors, columns))
        by_row = factors(grams).to(torch.float32).unbind(-1)
        merged = averages.scaled_sum([vector.view(rows, columns) for vector in vectors], [f[:, None] for f in by_row])
        return _onto(base, merged.view(-1))

    return Kernel(merge)


def _by_column(recipe: Recipe, context: Context, factors: Factors, base: str | None) -> Kernel:
    """A sum with factors of its own for each column; a 1-D tensor is one row and has one factor a model."""
    gathered = _gathered(recipe, context, base, by_column=True)
    of_rows = _by_row(recipe, context, factors, base)

    def merge(block: Block) -> Array | Tensor | Onto:
        if len(block.shape) < 2:
            return of_rows.merge(block)
        matrices = [vector.view(-1, _columns(block.shape)) for vector in _vectors(block, recipe.models, base)]
        by_column = gathered.factors(recipe.models, factors).unbind()
        return _onto(base, averages.scaled_sum(matrices, by_column).view(-1))

    def whole(tensor: str) -> bool:
        """Blocks hold whole rows of the last dimension, which are whole slices of the first only in matrices."""
        return len(context.tensors[tensor]) > 2

    return Kernel(merge, (gathered,), whole)


def _slerp(recipe: Recipe, context: Context) -> Kernel:
    convention = "exact" if recipe.parameters["convention"] == "exact" else "slerp@mergekit"
    factors = partial(averages.slerp_factors, t=recipe.parameters["t"], convention=convention)
    return _by_tensor(recipe, context, factors, None)


def _nuslerp(recipe: Recipe, context: Context) -> Kernel:
    """NuSLERP; with a base, of the task vectors."""
    convention = "exact" if recipe.parameters["convention"] == "exact" else "nuslerp@mergekit"
    t = averages.second_share(recipe.weights)
    factors = partial(averages.slerp_factors, t=t, convention=convention)
    if recipe.parameters["flatten"]:
        return _by_tensor(recipe, context, factors, recipe.base)
    make = _by_column if recipe.parameters["row_wise"] else _by_row
    return make(recipe, context, factors, recipe.base)


def _multislerp(recipe: Recipe, context: Context) -> Kernel:
    """Multi-SLERP; with a base, of the task vectors."""
    normalize, eps = recipe.parameters["normalize"], recipe.parameters["eps"]
    factors = partial(averages.multislerp_factors, weights=recipe.weights, normalize=normalize, eps=eps)
    return _by_tensor(recipe, context, factors, recipe.base)


def _karcher(recipe: Recipe, context: Context) -> Kernel:
    max_iter, tol = recipe.parameters["max_iter"], recipe.parameters["tol"]
    factors = partial(averages.karcher_factors, weights=recipe.weights, max_iter=max_iter, tol=tol)
    return _by_tensor(recipe, context, factors, None)


def _model_stock(recipe: Recipe, context: Context) -> Kernel:
    n = len(recipe.models)

    def factors(grams: Any) -> Any:
        share = averages.model_stock_share(grams, recipe.parameters["convention"])
        return module_of(grams).stack([share / n] * n, -1)

    make = _by_row if recipe.parameters["filter_wise"] else _by_tensor
    return make(recipe, context, factors, recipe.base)


KERNELS: dict[str, Make] = {
    "linear": _linear,
    "slerp": _slerp,
    "nuslerp": _nuslerp,
    "multislerp": _multislerp,
    "karcher": _karcher,
    "model_stock": _model_stock,
}
