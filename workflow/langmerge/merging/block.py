"""A run of consecutive elements of one tensor, with what is known of it: values, task vectors, random bits.

All recipes of a pass look at the same block, so whatever two of them need is read and computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from langmerge.merging.elements import Array, Elements
from langmerge.merging.fused.library import KINDS
from langmerge.merging.lazy import torch
from langmerge.merging.methods.task_vectors import drop_and_rescale
from langmerge.merging.randomness import kept, random_bits, stream_key

if TYPE_CHECKING:
    from torch import Tensor

Result = TypeVar("Result")


@dataclass(frozen=True)
class TaskVector:
    """model - base; with a `seed`, after DARE's drop and rescale at `density`."""

    model: str
    base: str
    density: float = 1.0
    seed: int | None = None


class Block:
    """Elements `start` .. `start + count - 1` of the flattened tensor `tensor` of shape `shape`.

    `compute(block, name)` gives the values, shape (count,), of a source (as they are stored, or in float32) or of a
    recipe. What is returned by the methods is shared: never change it in place.
    """

    def __init__(
        self,
        tensor: str,
        shape: tuple[int, ...],
        start: int,
        count: int,
        compute: Callable[[Block, str], Elements | Array | Tensor],
        device: str = "cpu",
    ) -> None:
        self.tensor = tensor
        self.shape = shape
        self.start = start
        self.count = count
        self.device = device
        self._compute = compute
        self._shared: dict[tuple, Any] = {}

    @property
    def matrix(self) -> tuple[int, int]:
        """(rows, columns) of this block: it holds whole rows, a row being what the last dimension counts."""
        columns = max(1, self.shape[-1] if self.shape else 1)
        return self.count // columns, columns

    @property
    def row(self) -> int:
        """Index of the block's first row in the tensor."""
        return self.start // self.matrix[1]

    def shared(self, key: tuple, compute: Callable[[], Result]) -> Result:
        """What several recipes need of this block: computed by the first that asks for `key`, never changed."""
        if key not in self._shared:
            self._shared[key] = compute()
        return self._shared[key]

    def stored(self, name: str) -> Elements:
        """Values of a source or recipe as the loops of `langmerge.merging.fused` read them, (count,)."""

        def compute() -> Elements:
            values = Elements.of(self._compute(self, name))
            return values if values.dtype in KINDS else Elements.of(values.tensor.to(torch.float32))

        return self.shared(("stored", name), compute)

    def value(self, name: str) -> Tensor:
        """Values of a source or recipe, float32 (count,)."""
        return self.shared(("value", name), lambda: self.stored(name).tensor.to(torch.float32))

    def delta(self, vector: TaskVector) -> Tensor:
        """The task vector's values, float32 (count,)."""
        model, base = vector.model, vector.base
        delta = self.shared(("delta", model, base), lambda: self.value(model) - self.value(base))
        if vector.seed is None or vector.density >= 1:
            return delta
        keep = kept(self.random(vector.seed, model), vector.density)
        return drop_and_rescale(delta, keep, vector.density)

    def random(self, seed: int, model: str) -> Tensor:
        """int32 (count,), uniform in [0, 2^31): the random stream of (seed, model) at these elements."""
        key = stream_key(seed, model, self.tensor)
        return self.shared(("random", seed, model), lambda: random_bits(key, self.start, self.count, self.device))
