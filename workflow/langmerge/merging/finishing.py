"""From what kernels make of a block to finished elements of the outputs: added onto the base, rounded, counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from langmerge.merging.block import Block
from langmerge.merging.elements import Elements, ElementType
from langmerge.merging.fused import loops
from langmerge.merging.fused.library import KINDS
from langmerge.merging.kernels import Onto
from langmerge.merging.lazy import torch
from langmerge.merging.pipeline import is_finite
from langmerge.merging.statistics import OutputStatistics

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Piece:
    """Finished `elements` (count,) of an output, which belong at `start` of the flattened tensor."""

    recipe: str
    tensor: str
    start: int
    elements: Elements

    @property
    def values(self) -> Tensor:
        """The elements as a tensor."""
        return self.elements.tensor


@dataclass(frozen=True)
class Output:
    """One tensor of the output of `recipe`.

    `make` gives its float32 values at a block, (count,), or what they are the sum of. They are rounded to `dtype` and,
    where there are `statistics`, compared with the source `reference`. `place` is where the tensor's elements are put
    (None: into new memory).
    """

    recipe: str
    make: Callable[[Block], Any]
    dtype: ElementType
    reference: str
    statistics: OutputStatistics | None = None
    place: Elements | None = None

    def at(self, block: Block) -> Elements | None:
        """Where the elements of a block are put."""
        return self.place and self.place[block.start : block.start + block.count]


def finish(block: Block, outputs: Sequence[Output]) -> Iterator[Piece]:
    """The pieces of outputs at a block, in order; ValueError where a value does not fit the output's type.

    Neighbours that differ in what a shared vector is multiplied with alone are finished together by the loops.
    """
    made = ((output, output.make(block)) for output in outputs)
    for _, group in groupby(made, lambda pair: _shared(*pair)):
        together = list(group)
        fused = loops.usable(block.device) and together[0][0].dtype in KINDS
        yield from (_finish_in_loops if fused else _finish)(block, together)


def _shared(output: Output, made: Any) -> tuple:
    """What outputs that are finished together have in common: the vector, its base and with it all else."""
    return (id(made.merged), made.base, output.dtype) if isinstance(made, Onto) else (output.recipe,)


def _finish_in_loops(block: Block, together: Sequence[tuple[Output, Any]]) -> Iterator[Piece]:
    first, made = together[0]
    base, scales = None, [1.0]
    if isinstance(made, Onto):
        base, scales, made = block.stored(made.base), [each.scale for _, each in together], made.merged
    outputs = [output for output, _ in together]
    reference = block.stored(first.reference) if first.statistics else None
    places = [output.at(block) for output in outputs]
    finished, sums = loops.finish(Elements.of(made).array, first.dtype, reference, base, scales, places)
    if len(finished) < len(outputs):
        raise _does_not_fit(outputs[len(finished)], block)
    for number, (output, elements) in enumerate(zip(outputs, finished, strict=True)):
        if output.statistics and sums is not None:
            output.statistics.add_sums(block.tensor, sums[number])
        yield Piece(output.recipe, block.tensor, block.start, elements)


def _finish(block: Block, together: Sequence[tuple[Output, Any]]) -> Iterator[Piece]:
    for output, made in together:
        exact = Elements.of(made.values(block) if isinstance(made, Onto) else made).tensor
        rounded = exact.to(output.dtype.of_torch)
        # float8 has no infinity on some devices: what is too large would be cut off instead
        limit = torch.finfo(rounded.dtype).max if output.dtype.itemsize == 1 else None
        if not is_finite(rounded) or (limit and exact.abs().max() > limit):
            raise _does_not_fit(output, block)
        if output.statistics:
            output.statistics.add(block.tensor, exact, rounded, block.value(output.reference))
        yield Piece(output.recipe, block.tensor, block.start, put(Elements.of(rounded), output.at(block)))


def put(elements: Elements, place: Elements | None) -> Elements:
    """Elements at their place, if there is one."""
    if place is None:
        return elements
    place.tensor.copy_(elements.tensor)
    return place


def _does_not_fit(output: Output, block: Block) -> ValueError:
    return ValueError(
        f"recipe {output.recipe!r}: tensor {block.tensor!r} does not fit into {output.dtype}; choose a wider dtype"
    )
