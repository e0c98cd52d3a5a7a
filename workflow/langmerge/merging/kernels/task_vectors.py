"""Methods on task vectors that sparsify each, then add them or elect a sign.

Each method is a chain: a task vector, made sparse by a drop, a trim, a band or DELLA's ranks, perhaps rescaled;
then a weighted sum or TIES' election. What several recipes share of a block (a random mask, the merged vector
before its scale) is computed once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from langmerge.catalogue.task_vectors import of_each
from langmerge.merging.block import Block, TaskVector
from langmerge.merging.elements import Array
from langmerge.merging.fused import loops
from langmerge.merging.fused.library import Vector
from langmerge.merging.gathers import Gather, MajoritySign, Scope, Selection
from langmerge.merging.kernels.base import Context, Kernel, Make, Onto, base_of
from langmerge.merging.lazy import torch
from langmerge.merging.methods import task_vectors
from langmerge.merging.methods.averages import normalized, weighted_sum
from langmerge.merging.randomness import below
from langmerge.merging.ranks import row_ranks
from langmerge.merging.recipe import Recipe
from langmerge.merging.shares import BandEdge, Share, Trim

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Sparse:
    """A task vector as a method takes it: `values` of a block, float32 (count,), shared; never change them.

    Equal keys mean equal values. `fused` gives the same to the loops. `gathers` must be complete before. `sample` gives
    the values at a slice of a block, where they cost less than all.
    """

    key: tuple
    values: Callable[[Block], Tensor]
    fused: loops.Make
    gathers: tuple[Gather, ...] = ()
    sample: Callable[[Block, slice], Tensor] | None = None


class AbsoluteSums(Gather):
    """Sums of magnitudes of two vectors over a tensor, in float64; `ratio` is the first divided by the second."""

    def __init__(self, before: Sparse, after: Sparse) -> None:
        super().__init__("tensor", after.gathers)
        self._vectors = (before, after)

    def begin(self) -> None:
        """See the base class."""
        self._sums = [0.0, 0.0]

    def update(self, index: int, block: Block) -> None:
        """See the base class."""
        for number, vector in enumerate(self._vectors):
            if loops.usable(block.device):
                self._sums[number] += loops.absolute_sum(block, vector.fused(block))
                continue
            self._sums[number] += float(vector.values(block).abs().sum(dtype=torch.float64))

    @property
    def ratio(self) -> float:
        """The factor that gives the second vector the first one's sum; 1 where either is below 1e-7."""
        before, after = self._sums
        return before / after if min(before, after) >= 1e-7 else 1.0


class Masks:
    """Masks of random drops that are needed twice, one bit an entry, from the first time to the second.

    Held for one tensor at a time. One of more than `most` entries has its masks computed twice instead, as all have
    on other devices than CPUs.
    """

    def __init__(self, most: int = 1 << 26) -> None:
        self._most = most
        self._held: dict[tuple[str, int, int], Array] = {}

    def get(self, block: Block, compute: Callable[[], Tensor]) -> Tensor:
        """The int32 mask of a block (see `below`), as computed now or the time before."""
        place = (block.tensor, block.start, block.count)
        if place in self._held:
            bits = np.unpackbits(self._held.pop(place), count=block.count)
            return torch.from_numpy(bits).to(torch.int32).neg_()
        if any(tensor != block.tensor for tensor, _, _ in self._held):
            self._held.clear()
        mask = compute()
        if block.device == "cpu" and math.prod(block.shape) <= self._most:
            self._held[place] = np.packbits(mask.numpy() < 0)
        return mask


class PackedMasks:
    """The same for the loops, in their form."""

    def __init__(self, most: int = 1 << 26) -> None:
        self._most = most
        self._held: dict[tuple[str, int, int], Array] = {}

    def get(self, block: Block, vector: Vector) -> Vector:
        """`vector` with its mask instead of what decides it."""
        place = (block.tensor, block.start, block.count)
        mask = self._held.get(place)
        if mask is None:
            if any(tensor != block.tensor for tensor, _, _ in self._held):
                self._held.clear()
            mask = loops.mask_of(block, vector)
            if math.prod(block.shape) <= self._most:
                self._held[place] = mask
        return loops.marked(vector, mask)


# ---- one task vector -----------------------------------------------------------------------------------------------


def _plain(model: str, base: str, context: Context) -> Sparse:
    """The task vector itself."""
    vector = TaskVector(model, base)
    return Sparse(
        ("delta", model, base),
        lambda block: block.delta(vector),
        lambda block: loops.plain(block, model, base),
        context.needs_of([model, base]),
        lambda block, where: block.value(model)[where] - block.value(base)[where],
    )


def _dropped(vector: Sparse, model: str, density: float, seed: int, rescale: str) -> Sparse:
    """DARE: entries kept with probability `density`, divided by it where `rescale` is expectation."""
    if density >= 1:
        return vector
    key = ("dare", vector.key, density, seed, rescale)
    masks, packed = (Masks(), PackedMasks()) if rescale == "l1" else (None, None)

    def fused(block: Block) -> Vector:
        factor = 1 / density if rescale == "expectation" else None
        drop = loops.dropped(vector.fused(block), block, seed, model, density, factor)
        return packed.get(block, drop) if packed else drop

    def compute(block: Block) -> Tensor:
        def mask() -> Tensor:
            return below(block.random(seed, model), density)

        kept = task_vectors.masked(vector.values(block), masks.get(block, mask) if masks else mask())
        return kept.mul_(1 / density) if rescale == "expectation" else kept

    return Sparse(key, lambda block: block.shared(key, partial(compute, block)), fused, vector.gathers)


def _ranked(
    vector: Sparse, model: str, density: float, seed: int, epsilon: float, convention: str, rescale: str
) -> Sparse:
    """DELLA: entries kept by the rank of their magnitude in the row, divided by its probability for expectation."""
    if density >= 1:
        return vector
    key = ("della", vector.key, density, seed, epsilon, convention, rescale)
    masks, packed = (Masks(), PackedMasks()) if rescale == "l1" else (None, None)

    def fused(block: Block) -> Vector:
        line = _keep_line(block.matrix[1], density, epsilon, convention)
        if packed:
            return packed.get(block, loops.ranked(vector.fused(block), block, seed, model, line, None))
        ranks = block.shared(("ranks", vector.key), lambda: loops.row_ranks(block, vector.fused(block)))
        ranked = loops.ranked(vector.fused(block), block, seed, model, line, ranks)
        if rescale != "expectation":
            ranked.rescale = 0
        return ranked

    def probability(block: Block) -> Tensor:
        # Several densities share the ranks.
        matrix = vector.values(block).view(block.matrix)
        ranks = block.shared(("ranks", vector.key), lambda: row_ranks(matrix).view(-1))
        return task_vectors.keep_probability(ranks, block.matrix[1], density, epsilon, convention)

    def compute(block: Block) -> Tensor:
        bits = partial(block.random, seed, model)
        if masks:
            return task_vectors.masked(
                vector.values(block), masks.get(block, lambda: below(bits(), probability(block)))
            )
        keep = probability(block)
        kept = task_vectors.masked(vector.values(block), below(bits(), keep))
        return kept.div_(keep) if rescale == "expectation" else kept

    return Sparse(key, lambda block: block.shared(key, partial(compute, block)), fused, vector.gathers)


def _keep_line(columns: int, density: float, epsilon: float, convention: str) -> tuple[float, float]:
    """(slope, offset) of `keep_probability` in the rank."""
    if columns == 1:
        return 0.0, density
    if convention == "paper":
        step = epsilon / columns
        return step, density + epsilon / 2 - step * (columns - 1)
    return 2 * epsilon / (columns - 1), density - epsilon


def _selection(vector: Sparse, scope: Scope, context: Context, shares: Iterable[Share]) -> Selection:
    """The gather that finds these shares of a vector's largest entries."""
    numel = sum(math.prod(shape) for shape in context.tensors.values()) if scope == "model" else None
    make = partial(Selection, scope, vector.gathers, vector.values, numel, vector.sample, vector.fused)
    selection = context.gather(("selection", scope, vector.key), make)
    for share in shares:
        selection.ask(share)
    return selection


def _trimmed(vector: Sparse, density: float, convention: str, context: Context) -> Sparse:
    """The largest entries: of the model in the paper's convention, else of each tensor."""
    if density >= 1:
        return vector
    share = Trim(density, convention)
    selection = _selection(vector, "model" if convention == "paper" else "tensor", context, [share])
    return Sparse(
        ("trim", vector.key, share, selection),
        lambda block: selection.above(block, share),
        lambda block: loops.cut(vector.fused(block), block, selection.cuts[share]),
        (selection, *vector.gathers),
    )


def _band(vector: Sparse, density: float, gamma: float, convention: str, context: Context) -> Sparse:
    """Breadcrumbs: entries of each tensor that are neither among the largest nor among the smallest."""
    if density >= 1:
        return vector
    lower, upper = (BandEdge(density, gamma, convention, upper) for upper in (False, True))
    selection = _selection(vector, "tensor", context, [lower, upper])

    def values(block: Block) -> Tensor:
        # What lies above both edges cancels exactly.
        return selection.above(block, lower).sub_(selection.above(block, upper))

    def fused(block: Block) -> Vector:
        return loops.cut(vector.fused(block), block, selection.cuts[lower], selection.cuts[upper])

    return Sparse(("band", vector.key, lower), values, fused, (selection, *vector.gathers))


def _matched(before: Sparse, after: Sparse, context: Context) -> Sparse:
    """`after` times what gives it the sum of magnitudes of `before`, tensor by tensor."""
    if before is after:
        return after
    sums = context.gather(("absolute sums", before.key, after.key), partial(AbsoluteSums, before, after))
    key = ("matched", before.key, after.key)
    return Sparse(
        key,
        lambda block: after.values(block) * sums.ratio,
        lambda block: loops.matched(after.fused(block), sums.ratio),
        (sums, *after.gathers),
    )


def _sparse(recipe: Recipe, context: Context) -> list[Sparse]:
    """The recipe's task vectors, each after what its method does to it."""
    method, p = recipe.method, recipe.parameters
    result = []

    def each(name: str, plural: str) -> list[float]:
        return of_each(p, name, plural, len(recipe.models)) if name in p else [1.0] * len(recipe.models)

    settings = zip(each("density", "densities"), each("epsilon", "epsilons"), each("gamma", "gammas"), strict=True)
    for model, (density, epsilon, gamma) in zip(recipe.models, settings, strict=True):
        plain = vector = _plain(model, base_of(recipe), context)
        rescale = p.get("rescale", "none")
        if method.startswith("dare"):
            vector = _dropped(plain, model, density, p["seed"], rescale)
        elif method.startswith("della"):
            vector = _ranked(plain, model, density, p["seed"], epsilon, p["convention"], rescale)
        elif method.startswith("breadcrumbs"):
            vector = _band(plain, density, gamma, p["convention"], context)
        elif method in ("ties", "magnitude_prune"):
            vector = _trimmed(plain, density, p["convention"], context)
        if rescale == "l1":
            vector = _matched(plain, vector, context)
        if method == "dare_ties":
            vector = _trimmed(vector, p["trim"], p["convention"], context)
        result.append(vector)
    return result


# ---- all task vectors ----------------------------------------------------------------------------------------------


def _kernel(
    recipe: Recipe, key: tuple, vectors: list[Sparse], gathers: tuple[Gather, ...], merged: Callable[[Block], Any]
) -> Kernel:
    """base + scale x merged; recipes that differ in scale alone share `merged`."""
    base, scale = base_of(recipe), recipe.parameters["scale"]
    shared = (*key, tuple(vector.key for vector in vectors), tuple(recipe.weights))

    def merge(block: Block) -> Onto:
        return Onto(base, block.shared(shared, partial(merged, block)), scale)

    return Kernel(merge, tuple(dict.fromkeys((*(g for vector in vectors for g in vector.gathers), *gathers))))


def _sum(recipe: Recipe, context: Context) -> Kernel:
    """Methods that add the sparse task vectors up."""
    vectors, normalize = _sparse(recipe, context), recipe.parameters["normalize"]
    weights = normalized(recipe.weights) if normalize else recipe.weights

    def merged(block: Block) -> Array | Tensor:
        if loops.usable(block.device):
            return loops.weighted_sum(block, [vector.fused(block) for vector in vectors], weights)
        return weighted_sum([vector.values(block) for vector in vectors], weights)

    return _kernel(recipe, ("sum", normalize), vectors, (), merged)


def _elect(recipe: Recipe, context: Context) -> Kernel:
    """Methods that elect a sign for each entry of the sparse task vectors."""
    parameters = recipe.parameters
    vectors, normalize, convention = _sparse(recipe, context), parameters["normalize"], parameters["convention"]

    def values(block: Block) -> list[Tensor]:
        return [vector.values(block) for vector in vectors]

    def fused(block: Block) -> list[Vector]:
        return [vector.fused(block) for vector in vectors]

    majority = None
    # Only TIES itself resolves zero sums over the model. They do not occur in one vector.
    if convention == "paper" and recipe.method in ("ties", "dare_ties") and len(vectors) > 1:
        needs = tuple(dict.fromkeys(gather for vector in vectors for gather in vector.gathers))
        of_all = ("majority", frozenset(vector.key for vector in vectors))
        majority = context.gather(of_all, lambda: MajoritySign(needs, values, fused))

    def merged(block: Block) -> Array | Tensor:
        sign = majority.sign if majority else 1
        if loops.usable(block.device):
            return loops.disjoint_mean(block, fused(block), recipe.weights, convention, normalize, sign)
        return task_vectors.disjoint_mean(values(block), recipe.weights, convention, normalize, sign)

    key = ("elect", convention, normalize, majority)
    return _kernel(recipe, key, vectors, (majority,) if majority else (), merged)


KERNELS: dict[str, Make] = {
    "task_arithmetic": _sum,
    "magnitude_prune": _sum,
    "ties": _elect,
    "dare_linear": _sum,
    "dare_ties": _elect,
    "breadcrumbs": _sum,
    "breadcrumbs_ties": _elect,
    "della_linear": _sum,
    "della": _elect,
}
