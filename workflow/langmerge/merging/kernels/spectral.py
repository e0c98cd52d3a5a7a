"""Methods on the singular values and vectors of task matrices.

They see the matrices inside the transformer layers whole: tensors of two or more dimensions, leading ones
flattened to rows. Everything else gets a mean of the changes: vectors (norms, biases), matrices outside of
the layers, and, unless the recipe says so, embeddings and head.

A matrix is taken as (outputs, inputs), as torch.nn.Linear stores it. For weights stored the other way round
(GPT-2's Conv1D) TSV-M and Iso-C do the same, but Iso-CTS, KnOTS and WUDI exchange the two sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from langmerge.merging.block import Block, TaskVector
from langmerge.merging.kernels.base import Context, Kernel, Make, Onto, base_of
from langmerge.merging.lazy import torch
from langmerge.merging.methods import spectral, wudi
from langmerge.merging.methods.averages import normalized, weighted_sum
from langmerge.merging.methods.layers import layer_index, part_of
from langmerge.merging.methods.spectra import Spectrum, spectrum
from langmerge.merging.methods.task_vectors import drop_and_rescale
from langmerge.merging.randomness import kept
from langmerge.merging.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

Merged = Callable[[Block], "Tensor"]
DARE_DENSITY = 0.2


def _kernel(recipe: Recipe, context: Context, matrices: Merged, mean: Sequence[float]) -> Kernel:
    """base + scale x `matrices` (the merged task matrix of a block), or x sum_i mean_i d_i for other tensors.

    The merged task matrix is shared by recipes that differ in nothing but `scale`.
    """
    base, parameters = base_of(recipe), recipe.parameters
    decisive = tuple(
        (key, tuple(value) if isinstance(value, list) else value)
        for key, value in sorted(parameters.items())
        if key not in ("scale", "embeddings")
    )
    key = ("merged matrix", recipe.method, recipe.models, base, decisive)

    def whole(tensor: str) -> bool:
        return _takes_part(tensor, context.tensors[tensor], parameters["embeddings"] == "spectral")

    def merge(block: Block) -> Onto:
        if whole(block.tensor):
            merged = block.shared(key, lambda: matrices(block).reshape(-1))
        else:
            merged = weighted_sum([block.delta(TaskVector(model, base)) for model in recipe.models], mean)
        return Onto(base, merged, parameters["scale"])

    return Kernel(merge, whole=whole)


def _takes_part(tensor: str, shape: Sequence[int], embeddings: bool) -> bool:
    """Whether a tensor is merged as a matrix."""
    if len(shape) < 2:
        return False
    return embeddings if part_of(tensor) in ("embeddings", "head") else layer_index(tensor) is not None


def _deltas(recipe: Recipe, block: Block) -> list[Tensor]:
    """The task matrices d_i (rows, columns)."""
    base = base_of(recipe)
    return [block.delta(TaskVector(model, base)).view(block.matrix) for model in recipe.models]


def _spectra(recipe: Recipe, block: Block) -> list[Spectrum]:
    """Their spectra, shared by all recipes that use the same task vector."""
    base, tolerance = base_of(recipe), recipe.parameters["tolerance"]

    def of(vector: TaskVector) -> Spectrum:
        key = ("spectrum", vector, tolerance)
        return block.shared(key, lambda: spectrum(block.delta(vector).view(block.matrix), tolerance))

    return [of(TaskVector(model, base)) for model in recipe.models]


def _mean(recipe: Recipe) -> list[float]:
    """Factors of the mean of task vectors that were first multiplied by their weights."""
    return [weight / len(recipe.models) for weight in recipe.weights]


def _tsv_m(recipe: Recipe, context: Context) -> Kernel:
    tolerance = recipe.parameters["tolerance"]

    def matrices(block: Block) -> Tensor:
        return spectral.tsv_m(_deltas(recipe, block), _spectra(recipe, block), recipe.weights, tolerance)

    return _kernel(recipe, context, matrices, _mean(recipe))


def _total(recipe: Recipe, block: Block) -> tuple[Tensor, Spectrum]:
    """sum_i w_i d_i (rows, columns) with its spectrum, shared by Iso-C and Iso-CTS of the same models."""
    base, tolerance = base_of(recipe), recipe.parameters["tolerance"]

    def compute() -> tuple[Tensor, Spectrum]:
        total = weighted_sum(_deltas(recipe, block), recipe.weights)
        return total, spectrum(total, tolerance)

    return block.shared(("total", recipe.models, base, tuple(recipe.weights), tolerance), compute)


def _iso_c(recipe: Recipe, context: Context) -> Kernel:
    return _kernel(recipe, context, lambda block: spectral.iso_c(*_total(recipe, block)), _mean(recipe))


def _iso_cts(recipe: Recipe, context: Context) -> Kernel:
    fraction, tolerance = recipe.parameters["common_space_fraction"], recipe.parameters["tolerance"]

    def matrices(block: Block) -> Tensor:
        deltas = _deltas(recipe, block)
        weighted = [d if w == 1 else d * w for d, w in zip(deltas, recipe.weights, strict=True)]
        return spectral.iso_cts(weighted, *_total(recipe, block), fraction, tolerance)

    return _kernel(recipe, context, matrices, _mean(recipe))


def _knots(recipe: Recipe, context: Context) -> Kernel:
    base, models, parameters = base_of(recipe), recipe.models, recipe.parameters
    inner, tolerance, normalize = parameters["inner"], parameters["tolerance"], parameters["normalize"]
    density = parameters["density"]

    def parts(block: Block) -> tuple[Tensor, list[Tensor]]:
        deltas = _deltas(recipe, block)
        tall = block.matrix[0] > block.matrix[1]
        basis = spectral.common_basis(deltas, _spectra(recipe, block) if tall else None, tolerance)
        return basis, spectral.aligned(basis, deltas)

    def dropped(block: Block, model: str, part: Tensor) -> Tensor:
        keep_share = DARE_DENSITY if density is None else density
        bits = block.random(parameters["seed"], model)[: part.numel()]
        return drop_and_rescale(part, kept(bits, keep_share).view_as(part), keep_share)

    def matrices(block: Block) -> Tensor:
        basis, common = block.shared(("knots", models, base, tolerance), lambda: parts(block))
        if inner == "dare_ties":
            common = [dropped(block, model, part) for model, part in zip(models, common, strict=True)]
        trim = density if inner == "ties" and density is not None else 1.0
        return spectral.knots(basis, common, inner, trim, recipe.weights, normalize)

    return _kernel(recipe, context, matrices, normalized(recipe.weights) if normalize else recipe.weights)


def _wudi(recipe: Recipe, context: Context) -> Kernel:
    parameters = recipe.parameters

    exact = parameters["solver"] == "exact"

    def matrices(block: Block) -> Tensor:
        deltas = _deltas(recipe, block)
        dtype = torch.float64 if exact else torch.float32
        loss = wudi.quadratic(deltas, _spectra(recipe, block), recipe.weights, dtype)
        start = weighted_sum(deltas, [1.0] * len(deltas))
        if exact:
            return wudi.minimum(start, loss, parameters["tolerance"])
        return wudi.descend(start, loss, parameters["steps"], parameters["learning_rate"])

    return _kernel(recipe, context, matrices, normalized(recipe.weights))


KERNELS: dict[str, Make] = {
    "tsv_m": _tsv_m,
    "iso_c": _iso_c,
    "iso_cts": _iso_cts,
    "knots": _knots,
    "wudi": _wudi,
}
