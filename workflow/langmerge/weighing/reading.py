"""Read the same block of the same tensor from several models at once; no more than a block is ever in memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from langmerge import models
from langmerge.provenance import InputError
from langmerge.weighing.names import layer_index, module_type

BLOCK = 1 << 19  # entries of one model
FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")


@dataclass(frozen=True)
class Part:
    """A matrix, vector or scalar of every model: a whole tensor, or one slice of a stack such as a layer's experts.

    ``shape`` has at most two dimensions; ``index`` are the positions in the leading ones of a stack.
    """

    name: str
    shape: tuple[int, ...]
    index: tuple[int, ...] = ()

    @property
    def entries(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    @property
    def is_matrix(self) -> bool:
        """Two dimensions, both above 1: what has singular subspaces."""
        return len(self.shape) == 2 and min(self.shape) > 1

    @property
    def module(self) -> str:
        """Module type."""
        return module_type(self.name)

    @property
    def layer(self) -> int | None:
        """Layer, if it belongs to one."""
        return layer_index(self.name)


class Weights:
    """Several models of one architecture, of which only the headers have been read; the first is the base.

    ``parts`` lists what is weighed, ``skipped`` the tensors that are no floating-point numbers. Raises
    :class:`InputError` naming the file and tensor if the models differ in names or shapes.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self.labels = list(folders)
        self._files: list[dict[str, Path]] = []
        shapes: dict[str, tuple[int, ...]] = {}
        self.skipped: list[str] = []
        for label, folder in folders.items():
            found, files = _headers(folder)
            self._files.append(files)
            if not shapes:
                shapes = {name: shape for name, (shape, kind) in found.items() if kind in FLOATS}
                self.skipped = sorted(found.keys() - shapes.keys())
                base = label
            else:
                _compare(folder, base, shapes, {n: s for n, (s, kind) in found.items() if kind in FLOATS})
        if not shapes:
            raise InputError(f"{next(iter(folders.values()))}: no floating-point tensors; expected a model's weights")
        self.parts = [part for name, shape in shapes.items() for part in _parts(name, shape)]

    def blocks(self, part: Part, entries: int = BLOCK) -> Iterator[Tensor]:
        """All models' values of consecutive blocks of ``part``, fp32 [models, ...].

        A matrix is cut along its longer dimension, so that products over that dimension add up over blocks.
        """
        if not part.shape:
            yield torch.stack([self._read(model, part, ()) for model in range(len(self.labels))])
            return
        axis = part.shape.index(max(part.shape))
        across = part.entries // max(part.shape[axis], 1)
        step = max(1, entries // max(across, 1))
        for start in range(0, part.shape[axis], step):
            cut = tuple(slice(start, start + step) if a == axis else slice(None) for a in range(len(part.shape)))
            yield torch.stack([self._read(model, part, cut) for model in range(len(self.labels))])

    def _read(self, model: int, part: Part, cut: tuple[slice, ...]) -> Tensor:
        # Opened anew each time: pages of a mapped file count as this process's memory until it is closed.
        with safe_open(self._files[model][part.name], framework="pt") as file:
            if not cut:
                return file.get_tensor(part.name).float().reshape(())
            lead = tuple(slice(i, i + 1) for i in part.index)
            values: Tensor = file.get_slice(part.name)[(*lead, *cut)]
            return values.float().reshape(values.shape[len(lead) :])


def _headers(folder: Path) -> tuple[dict[str, tuple[tuple[int, ...], str]], dict[str, Path]]:
    """Shape and stored type of every tensor of a model folder, and the file that holds it."""
    found, files = {}, {}
    for path in models.weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (a file is no mapping)
                    piece = file.get_slice(name)
                    found[name], files[name] = (tuple(piece.get_shape()), piece.get_dtype()), path
        except Exception as error:
            if type(error).__name__ != "SafetensorError":
                raise
            raise InputError(f"{path}: not a readable safetensors file ({error}); make or download it again") from None
    return found, files


def _compare(
    folder: Path, base: str, expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> None:
    mend = f"weigh models that were trained or merged from {base} without a change of architecture or vocabulary"
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise InputError(f"{folder}: no tensor {name}, which {base} has; {mend}")
        if name not in expected:
            raise InputError(f"{folder}: tensor {name} is not in {base}; {mend}")
        if found[name] != expected[name]:
            raise InputError(
                f"{folder}: tensor {name} has shape {list(found[name])}, in {base} it is {list(expected[name])}; {mend}"
            )


def _parts(name: str, shape: tuple[int, ...]) -> Iterator[Part]:
    if not math.prod(shape):
        return
    for index in itertools.product(*map(range, shape[:-2])):
        yield Part(name, shape[-2:], index)
