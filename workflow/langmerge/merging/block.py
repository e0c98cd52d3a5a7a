"""A run of consecutive elements of one tensor, with what is known of it: values, task vectors, random bits.

All recipes of a pass look at the same block, so whatever two of them need is read and computed once.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from langmerge.merging.methods.task_vectors import drop_and_rescale
from langmerge.merging.randomness import kept, random_bits, stream_key


@dataclass(frozen=True)
class TaskVector:
    """model - base; with a `seed`, after DARE's drop and rescale at `density`."""

    model: str
    base: str
    density: float = 1.0
    seed: int | None = None


class Block:
    """Elements `start` .. `start + count - 1` of the flattened tensor `tensor` of shape `shape`.

    `compute(block, name)` gives the float32 values, shape (count,), of a source or recipe. What is returned
    by the methods is shared: never change it in place.
    """

    def __init__(
        self,
        tensor: str,
        shape: tuple[int, ...],
        start: int,
        count: int,
        compute: "Callable[[Block, str], Tensor]",
    ) -> None:
        self.tensor = tensor
        self.shape = shape
        self.start = start
        self.count = count
        self._compute = compute
        self._values: dict[str, Tensor] = {}
        self._deltas: dict[tuple[str, str], Tensor] = {}
        self._bits: dict[tuple[int, str], Tensor] = {}

    def value(self, name: str) -> Tensor:
        """Values of a source or recipe, float32 (count,)."""
        if name not in self._values:
            self._values[name] = self._compute(self, name)
        return self._values[name]

    def delta(self, vector: TaskVector) -> Tensor:
        """The task vector's values, float32 (count,)."""
        key = (vector.model, vector.base)
        if key not in self._deltas:
            self._deltas[key] = self.value(vector.model) - self.value(vector.base)
        delta = self._deltas[key]
        if vector.seed is None or vector.density >= 1:
            return delta
        keep = kept(self._random(vector.seed, vector.model), vector.density)
        return drop_and_rescale(delta, keep, vector.density)

    def _random(self, seed: int, model: str) -> Tensor:
        if (seed, model) not in self._bits:
            key = stream_key(seed, model, self.tensor)
            self._bits[seed, model] = random_bits(key, self.start, self.count)
        return self._bits[seed, model]
