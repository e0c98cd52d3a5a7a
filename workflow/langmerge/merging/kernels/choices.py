"""Methods that choose, entry by entry, whose change counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from langmerge.merging.block import Block, TaskVector
from langmerge.merging.elements import Array
from langmerge.merging.fused import loops
from langmerge.merging.gathers import Gather, Scope
from langmerge.merging.kernels.base import Context, Kernel, Make, Onto, base_of, task_vectors_of
from langmerge.merging.kernels.multi_task import multi_task_vector
from langmerge.merging.kernels.order import OrderStatistics
from langmerge.merging.kernels.variances import Variances
from langmerge.merging.lazy import torch
from langmerge.merging.methods import choices
from langmerge.merging.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor


def _deltas(vectors: Sequence[TaskVector]) -> Callable[[Block], list[Tensor]]:
    return lambda block: [block.delta(vector) for vector in vectors]


# ---- SCE -----------------------------------------------------------------------------------------------------------


def _sce(recipe: Recipe, context: Context) -> Kernel:
    base = base_of(recipe)
    share, convention = recipe.parameters["select_topk"], recipe.parameters["convention"]
    needs = context.needs_of(recipe.inputs)
    variances = context.gather(
        ("variances", recipe.models, base, share), lambda: Variances(needs, recipe.models, base, share)
    )

    def merge(block: Block) -> Array | Tensor:
        weights = choices.sce_weights(variances.mean_squares, convention)
        if loops.usable(block.device) and len(recipe.models) <= 4:  # of more, torch adds up in an order of its own
            vectors = loops.plains(block, recipe.models, base)
            smallest = 1e-6 if convention == "mergekit" else float(np.finfo(np.float32).tiny)
            return loops.sce(block, vectors, weights, *variances.fused(block), smallest)
        models = [block.value(model) for model in recipe.models]
        return choices.sce(block.value(base), models, weights, variances.selected(block), convention)

    return Kernel(merge, (variances,))


# ---- RAM -----------------------------------------------------------------------------------------------------------


class Overlap(Gather):
    """How many entries of each task vector no other model changes, and how many some other does."""

    def __init__(self, scope: Scope, needs: Iterable[Gather], vectors: Sequence[TaskVector], epsilon: float) -> None:
        super().__init__(scope, needs)
        self._vectors = tuple(vectors)
        self._epsilon = epsilon

    def begin(self) -> None:
        """See the base class."""
        self.counts = [(0, 0)] * len(self._vectors)

    def update(self, index: int, block: Block) -> None:
        """See the base class."""
        found = choices.unique_and_shared(_deltas(self._vectors)(block), self._epsilon)
        self.counts = [(u + a, s + b) for (u, s), (a, b) in zip(self.counts, found, strict=True)]


def _ram(recipe: Recipe, context: Context) -> Kernel:
    """RAM; with counts over the model RAM+, over the tensor its tensor-local variant."""
    base, vectors, parameters = base_of(recipe), task_vectors_of(recipe), recipe.parameters
    epsilon = parameters["epsilon"]
    overlap: Overlap | None = None
    if recipe.method != "ram":
        scope: Scope = "tensor" if recipe.method == "ramplus_tl" else "model"
        needs = context.needs_of(recipe.inputs)
        key = ("overlap", scope, tuple(vectors), epsilon)
        overlap = context.gather(key, lambda: Overlap(scope, needs, vectors, epsilon))

    def merge(block: Block) -> Tensor:
        factors = [1.0] * len(vectors)
        if overlap:
            factors = [choices.ram_factor(*counts, parameters["r"], parameters["alpha"]) for counts in overlap.counts]
        return choices.ram(_deltas(vectors)(block), epsilon, factors).add_(block.value(base))

    return Kernel(merge, (overlap,) if overlap else ())


# ---- MagMax, Consensus, NearSwap ------------------------------------------------------------------------------------


def _magmax(recipe: Recipe, context: Context) -> Kernel:
    base, vectors, scale = base_of(recipe), task_vectors_of(recipe), recipe.parameters["scale"]

    def merge(block: Block) -> Onto:
        chosen = block.shared(("magmax", tuple(vectors)), lambda: choices.magmax(_deltas(vectors)(block)))
        return Onto(base, chosen, scale)

    return Kernel(merge)


def _consensus(recipe: Recipe, context: Context) -> Kernel:
    base, vectors, parameters = base_of(recipe), task_vectors_of(recipe), recipe.parameters
    if parameters["k"] > len(vectors):
        raise ValueError(
            f"recipe {recipe.name!r}: consensus.k: {parameters['k']} of only {len(vectors)} models; nothing would stay"
        )
    vector, gathers = multi_task_vector(recipe, context)
    rule = parameters["k"], parameters["mask_scale"], parameters["convention"]

    def merge(block: Block) -> Onto:
        kept = choices.consensus(_deltas(vectors)(block), vector(block), *rule)
        return Onto(base, kept, parameters["scale"])

    return Kernel(merge, gathers)


def _nearswap(recipe: Recipe, context: Context) -> Kernel:
    base, (model,) = base_of(recipe), recipe.models
    return Kernel(lambda block: choices.nearswap(block.value(base), block.value(model), recipe.parameters["t"]))


# ---- Arcee Fusion --------------------------------------------------------------------------------------------------


class RowDivergences(Gather):
    """KL divergence of each row of one tensor, float32 (rows,); a 1-D tensor is one row."""

    def __init__(self, needs: Iterable[Gather], vector: TaskVector) -> None:
        super().__init__("tensor", needs)
        self._vector = vector

    def begin(self) -> None:
        """See the base class."""
        self._parts: list[Tensor] = []

    def update(self, index: int, block: Block) -> None:
        """See the base class."""
        model, base = block.value(self._vector.model), block.value(self._vector.base)
        self._parts.append(choices.row_divergence(model.view(block.matrix), base.view(block.matrix)))

    def end(self, index: int) -> None:
        """See the base class."""
        self._rows = torch.cat(self._parts)

    def importance(self, block: Block) -> Tensor:
        """Importance of the block's entries, float32 (count,)."""
        rows = self._rows[block.row : block.row + block.matrix[0]]
        return choices.importance(block.delta(self._vector).view(block.matrix), rows)


def quartile_ranks(entries: int) -> list[int]:
    """Ranks from the largest of the three quartiles: entries floor(q (N - 1)) of the ascending order."""
    return [entries - quarters * (entries - 1) // 4 for quarters in (1, 2, 3)]


def _arcee_fusion(recipe: Recipe, context: Context) -> Kernel:
    """Quartiles are those of the whole tensor; mergekit estimates them from 10^6 unseeded samples of larger ones."""
    base, (vector,) = base_of(recipe), task_vectors_of(recipe)
    needs = context.needs_of(recipe.inputs)
    rows = context.gather(("row divergences", vector), lambda: RowDivergences(needs, vector))
    quartiles = context.gather(
        ("importance quartiles", vector),
        lambda: OrderStatistics("tensor", (rows, *needs), lambda block: [rows.importance(block)], quartile_ranks),
    )

    def merge(block: Block) -> Tensor:
        first, median, third = quartiles.values[0]
        keep = rows.importance(block) >= median + 1.5 * (third - first)
        return block.value(base) + block.delta(vector) * keep

    return Kernel(merge, (rows, quartiles))


# ---- PCB -----------------------------------------------------------------------------------------------------------


class ProductExtremes(Gather):
    """Least and largest product d_i d_j of each pair of task vectors over a model: `pairs` [i][j]."""

    def __init__(self, needs: Iterable[Gather], vectors: Sequence[TaskVector]) -> None:
        super().__init__("model", needs)
        self._vectors = tuple(vectors)

    def begin(self) -> None:
        """See the base class."""
        size = len(self._vectors)
        self.pairs = [[(float("inf"), float("-inf"))] * size for _ in range(size)]

    def update(self, index: int, block: Block) -> None:
        """See the base class."""
        deltas = _deltas(self._vectors)(block)
        for i, one in enumerate(deltas):
            for j, other in enumerate(deltas[i:], i):
                low, high = torch.aminmax(one * other)
                known = self.pairs[i][j]
                self.pairs[i][j] = self.pairs[j][i] = (min(known[0], float(low)), max(known[1], float(high)))


class ProductExponentials(Gather):
    """Means over a model of exp(Norm(d_i d_j)), `means` [i][j], and of exp(n Norm(d_i d_i)), `intra` [i]."""

    def __init__(self, needs: Iterable[Gather], vectors: Sequence[TaskVector], extremes: ProductExtremes) -> None:
        super().__init__("model", (extremes, *needs))
        self._vectors = tuple(vectors)
        self._extremes = extremes

    def begin(self) -> None:
        """See the base class."""
        size = len(self._vectors)
        self._entries = 0
        self.means = [[0.0] * size for _ in range(size)]
        self.intra = [0.0] * size

    def update(self, index: int, block: Block) -> None:
        """See the base class."""
        deltas = _deltas(self._vectors)(block)
        self._entries += block.count
        for i, one in enumerate(deltas):
            for j, other in enumerate(deltas[i:], i):
                product = choices.normalized(one * other, *self._extremes.pairs[i][j])
                if i == j:
                    self.intra[i] += float((product * len(deltas)).exp_().sum(dtype=torch.float64))
                self.means[i][j] += float(product.exp_().sum(dtype=torch.float64))

    def end(self, index: int) -> None:
        """See the base class."""
        size = len(self._vectors)
        self.intra = [total / self._entries for total in self.intra]
        self.means = [[self.means[min(i, j)][max(i, j)] / self._entries for j in range(size)] for i in range(size)]


def ascending_rank(share: float, entries: int) -> int:
    """Rank from the largest of entry int(share N) of the ascending order, within 1 .. N."""
    return entries - min(entries - 1, max(0, int(share * entries)))


def _pcb(recipe: Recipe, context: Context) -> Kernel:
    if recipe.parameters["convention"] != "paper":
        return _released_pcb(recipe, context)
    base, vectors, parameters = base_of(recipe), tuple(task_vectors_of(recipe)), recipe.parameters
    density = parameters["density"]
    needs = context.needs_of(recipe.inputs)
    extremes = context.gather(("product extremes", vectors), lambda: ProductExtremes(needs, vectors))
    means = context.gather(("product exponentials", vectors), lambda: ProductExponentials(needs, vectors, extremes))

    def scores(block: Block) -> list[Tensor]:
        key = ("pcb", vectors, means)
        deltas = _deltas(vectors)(block)
        return block.shared(key, lambda: choices.pcb_scores(deltas, extremes.pairs, means.means, means.intra))

    order = context.gather(
        ("pcb thresholds", vectors, density),
        lambda: OrderStatistics(
            "model", (extremes, means, *needs), scores, lambda entries: [ascending_rank(1 - density, entries)]
        ),
    )

    def merge(block: Block) -> Onto:
        merged = choices.pcb(_deltas(vectors)(block), scores(block), [values[0] for values in order.values])
        return Onto(base, merged, parameters["scale"])

    return Kernel(merge, (extremes, means, order))


def _released_pcb(recipe: Recipe, context: Context) -> Kernel:
    base, vectors, parameters = base_of(recipe), tuple(task_vectors_of(recipe)), recipe.parameters
    density, convention = parameters["density"], parameters["convention"]
    needs = context.needs_of(recipe.inputs)
    cut = 0.0001 if convention == "released" else 0.01

    def limit_ranks(entries: int) -> list[int]:
        return [ascending_rank(cut, entries), entries - min(entries - 1, max(0, int(entries * (1 - cut) - 1)))]

    limits = context.gather(
        ("magnitude limits", vectors, cut),
        lambda: OrderStatistics(
            "model", needs, lambda block: [delta.abs() for delta in _deltas(vectors)(block)], limit_ranks
        ),
    )

    def clamped_and_scores(block: Block) -> tuple[list[Tensor], list[Tensor]]:
        # Of very few entries the quantiles may cross; clamp's upper limit then holds, as in the authors' code.
        ranges = [(min(low, high), high) for low, high in limits.values]
        deltas = _deltas(vectors)(block)
        key = ("released pcb", vectors, convention, limits)
        return block.shared(key, lambda: choices.released_pcb_scores(deltas, ranges, convention))

    order = context.gather(
        ("released pcb thresholds", vectors, convention, density),
        lambda: OrderStatistics(
            "model",
            (limits, *needs),
            lambda block: clamped_and_scores(block)[1],
            lambda entries: [ascending_rank(1 - density, entries), 1],
            signed=True,
        ),
    )

    def merge(block: Block) -> Onto:
        thresholds, largest = zip(*order.values, strict=True)
        merged = choices.released_pcb(*clamped_and_scores(block), thresholds, largest)
        return Onto(base, merged, parameters["scale"])

    return Kernel(merge, (limits, order))


KERNELS: dict[str, Make] = {
    "sce": _sce,
    "ram": _ram,
    "ramplus": _ram,
    "ramplus_tl": _ram,
    "magmax": _magmax,
    "consensus": _consensus,
    "pcb": _pcb,
    "arcee_fusion": _arcee_fusion,
    "nearswap": _nearswap,
}
