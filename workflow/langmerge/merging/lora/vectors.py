"""Running the merge engine on matrices that exist only as factors: every block is a product of a few of their rows."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from langmerge.merging.elements import FLOAT32
from langmerge.merging.engine import Merge
from langmerge.merging.lora.thin import Product, elements
from langmerge.merging.recipe import Recipe
from langmerge.merging.sources import Source, TensorEntry

ZERO, MERGED = "(zero)", "(merged)"
"""Names of the base, which is zero, and of the recipe."""

IN_MEMORY = 1 << 28
"""Elements of the largest merged matrix that is kept in memory; a larger one goes into a temporary file."""

Values = Callable[[str], Product | Tensor | None]
"""What a tensor's values are: a product, a matrix, or None for zero."""


class Vectors(Source):
    """Matrices of given shapes as a source of float32 tensors; the values of the last one are kept."""

    def __init__(self, name: str, shapes: Mapping[str, tuple[int, ...]], values: Values = lambda tensor: None) -> None:
        self.name = name
        self.folder = Path()
        self.tensors = {tensor: TensorEntry(tensor, FLOAT32, shape) for tensor, shape in shapes.items()}
        self._values = values
        self._last: tuple[str, Product | Tensor | None] | None = None

    def read(self, tensor: str, start: int, count: int) -> Tensor:
        """Elements start .. start + count - 1 of the flattened matrix, float32 (count,)."""
        last = self._last  # another thread may read ahead
        if last is None or last[0] != tensor:
            last = self._last = (tensor, self._values(tensor))
        if last[1] is None:
            return torch.zeros(count)
        if isinstance(last[1], Tensor):
            return last[1].reshape(-1)[start : start + count].to(torch.float32)
        return elements(last[1], start, count)

    def json(self, file: str) -> None:
        """There are no files."""
        return


def merged_matrices(
    recipe: Recipe, shapes: Mapping[str, tuple[int, ...]], values: Mapping[str, Values]
) -> Iterator[tuple[str, Tensor]]:
    """(tensor, merged float32 matrix) of a recipe, one after another.

    The recipe merges the keys of `values` with the base ZERO. One merged matrix lies in memory at a time (or, above
    IN_MEMORY elements, in a temporary file), the inputs never.
    """
    sources: dict[str, Path | Source] = {name: Vectors(name, shapes, load) for name, load in values.items()}
    sources[ZERO] = Vectors(ZERO, shapes)
    matrix, filled = torch.empty(0), 0
    for piece in Merge([recipe], sources, statistics=False):
        if filled == 0:
            matrix = _empty(shapes[piece.tensor])
        matrix.view(-1)[piece.start : piece.start + len(piece.values)] = piece.values
        filled += len(piece.values)
        if filled == matrix.numel():
            yield piece.tensor, matrix
            filled = 0


def _empty(shape: tuple[int, ...]) -> Tensor:
    numel = torch.Size(shape).numel()
    if numel <= IN_MEMORY:
        return torch.empty(shape)
    with tempfile.NamedTemporaryFile() as file:  # the mapping outlives the name
        file.truncate(4 * numel)
        return torch.from_file(file.name, shared=True, size=numel).view(shape)
