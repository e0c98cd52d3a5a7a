"""What a merge will cost, before it is run: bytes, memory, time.

Nothing is read of the models but their headers. The real engine merges small made-up models of the same tensors, in
which a tensor of each kind has the size of some blocks: how often it was read and how long it took is carried over to
the real sizes. Memory is counted: what the engine holds of each source, and what methods hold of a block.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langmerge.merging.documents.prepare import Prepared
from langmerge.merging.elements import ElementType
from langmerge.merging.engine import BLOCK, Merge
from langmerge.merging.gathers import Gathers, Selection
from langmerge.merging.kernels import Context, make_kernel
from langmerge.merging.lazy import device_type, torch
from langmerge.merging.pipeline import SPAN
from langmerge.merging.reader import ModelFolder, rows_of_about
from langmerge.merging.recipe import in_order
from langmerge.merging.selection import KEPT, SAMPLE
from langmerge.merging.sources import Source, TensorEntry

if TYPE_CHECKING:
    from torch import Tensor

SMALL = 16
"""Largest dimension of tensors that are not being measured."""

MATRIX = 384
"""Largest dimension of a matrix that a method needs whole, when its time is measured."""

KINDS = 3
"""Kinds of tensors that are measured, the largest first; the others are taken to be like the last of them."""

TEMPORARIES = 6
"""Blocks in float32 that a method holds at a time besides its inputs and their task vectors."""


@dataclass(frozen=True)
class Estimate:
    """Bytes and seconds; `seconds` is None, with the reason in `unmeasured`, if the trial could not be run.

    By model: `parameters` (elements), `dtypes`, `sizes` (bytes). `read`: bytes in all, `sweeps` times all models.
    `written`: bytes by output. `memory`: bytes held at a time, the libraries not counted.
    """

    parameters: Mapping[str, int]
    dtypes: Mapping[str, tuple[str, ...]]
    sizes: Mapping[str, int]
    read: int
    sweeps: float
    written: Mapping[str, int]
    memory: int
    seconds: float | None
    unmeasured: str = ""


@dataclass(frozen=True)
class Part:
    """A merged tensor: whether some method needs it whole, and which parts of the recipes it is of."""

    entry: TensorEntry
    whole: bool
    regions: tuple[int, ...]

    @property
    def kind(self) -> tuple[Any, ...]:
        """Tensors of one kind are gone about in the same way."""
        return self.regions, self.whole, len(self.entry.shape) > 1

    def cost(self, shape: Sequence[int]) -> float:
        """What its time goes with: elements; for methods on whole matrices m n min(m, n)."""
        numel = math.prod(shape)
        return float(numel * min(shape[0], numel // shape[0])) if self.whole and len(shape) > 1 else float(numel)


def estimate(prepared: Prepared, *, block: int | None = None, device: str = "cpu") -> Estimate:
    """The cost of a job; `block` and `device` as for `Merge`. ValueError for what cannot be merged."""
    kind = device_type(device)
    block = block or BLOCK.get(kind, BLOCK["cpu"])
    span = block * SPAN.get(kind, 1)
    merge = prepared.merge(block=block, device=device)
    parts, kept = parts_of(prepared, merge)
    entries = {name: list(source.tensors.values()) for name, source in prepared.sources.items()}
    sizes = {name: sum(entry.numel * entry.dtype.itemsize for entry in found) for name, found in entries.items()}
    merged = dict.fromkeys(sizes, 0)
    seconds: float | None = None
    sweeps, unmeasured = {part.entry.name: 1.0 for part in parts}, ""
    try:
        sweeps, seconds = _measured(prepared, parts, block, span, device)
    except (ValueError, RuntimeError, KeyError) as error:
        unmeasured = str(error)
    for name, source in prepared.sources.items():
        for tensor, times in sweeps.items():
            entry = source.tensors[tensor]
            merged[name] += int(times * entry.numel * entry.dtype.itemsize)
    read = sum(merged.values())
    return Estimate(
        parameters={name: sum(entry.numel for entry in found) for name, found in entries.items()},
        dtypes={name: tuple(dict.fromkeys(entry.dtype.name for entry in found)) for name, found in entries.items()},
        sizes=sizes,
        read=read,
        sweeps=read / max(1, sum(sizes.values())),
        written={
            name: sum(dtype.itemsize * math.prod(shape) for _, dtype, shape in merge.layout(name))
            for name in merge.outputs
        },
        memory=kept + _memory(prepared, parts, block, span),
        seconds=seconds,
        unmeasured=unmeasured,
    )


def parts_of(prepared: Prepared, merge: Merge) -> tuple[list[Part], int]:
    """The merged tensors with what the recipes make of them, and the bytes that methods keep of whole models."""
    layout = merge.layout(merge.outputs[0])
    entries = {name: TensorEntry(name, dtype, shape) for name, dtype, shape in layout}
    floating = [name for name, entry in entries.items() if entry.dtype.is_floating_point and entry.numel]
    gathers = Gathers()
    whole = dict.fromkeys(floating, False)
    regions: dict[str, tuple[int, ...]] = dict.fromkeys(floating, ())
    used = {recipe.name for recipe in merge.recipes}
    data = {name: ModelFolder(name, folder) for name, folder in prepared.data.items()}
    for recipe in in_order(prepared.recipes, prepared.sources):
        if recipe.name not in used:
            continue
        for number, (region, names) in enumerate(recipe.regions(floating)):
            measured = {model: data[name] for model, name in region.data.items()}
            shapes = {name: entries[name].shape for name in names}
            kernel = make_kernel(region, Context(shapes, list(shapes), measured, gathers))
            for name in names:
                whole[name] = whole[name] or kernel.whole(name)
                regions[name] = (*regions[name], number)
    for folder in data.values():
        folder.close()
    kept = 0
    for gather in gathers:
        if isinstance(gather, Selection) and gather.scope == "model":
            numel = sum(entries[name].numel for name in gather.tensors)
            # A sample with what sorting it takes, and the entries near the thresholds.
            kept += 4 * (3 * min(numel, SAMPLE) + min(numel, KEPT))
    return [Part(entries[name], whole[name], regions[name]) for name in floating], kept


def _memory(prepared: Prepared, parts: Sequence[Part], block: int, span: int) -> int:
    """Bytes held at a time: two spans of each source, blocks and task vectors, outputs that wait to be written."""
    n, outputs = len(prepared.sources), len(prepared.job.outputs)
    most = 0
    for part in parts:
        numel = part.entry.numel
        piece = numel if part.whole else min(numel, rows_of_about(part.entry.shape, block))
        stretch = numel if part.whole else min(numel, max(span, piece))
        most = max(most, 4 * (2 * n * stretch + (n + TEMPORARIES + outputs + 8) * piece))
    return most


# ---- the trial -------------------------------------------------------------------------------------------------------


@dataclass
class _Trial:
    """Seconds of a merge of made-up models, and the elements read of each tensor (of all models together)."""

    seconds: float = 0.0
    read: dict[str, int] = field(default_factory=dict)


def _measured(
    prepared: Prepared, parts: Sequence[Part], block: int, span: int, device: str
) -> tuple[dict[str, float], float]:
    """(sweeps over each tensor, seconds of reading from memory and arithmetic in all)."""
    _trial(prepared, {}, block, device)  # the first run pays for what is loaded late
    small = _best([_trial(prepared, {}, block, device) for _ in range(2)])
    kinds: dict[tuple[Any, ...], list[Part]] = {}
    for part in parts:
        kinds.setdefault(part.kind, []).append(part)
    ordered = sorted(kinds.values(), key=lambda found: -sum(part.cost(part.entry.shape) for part in found))
    n = len(prepared.sources)
    sweeps: dict[str, float] = {}
    trial, made, seconds, rate, times = small, dict[str, tuple[int, ...]](), small.seconds, 0.0, 1.0
    for number, found in enumerate(ordered):
        largest = max(found, key=lambda part: part.entry.numel)
        name = largest.entry.name
        if number < KINDS:
            shape = _probe(largest, 2 * span)
            trial = _best([_trial(prepared, {name: shape}, block, device) for _ in range(2)])
            times = trial.read[name] / (n * math.prod(shape))
            rate = max(trial.seconds - small.seconds, 0.0) / largest.cost(shape)
            made = {name: shape}
        for part in found:
            stays = part.whole or part.entry.numel <= span  # read once for all rounds over the tensor itself
            own = made.get(part.entry.name, _reduced(part.entry.shape))
            sweeps[part.entry.name] = trial.read[part.entry.name] / (n * math.prod(own)) if stays else times
            seconds += rate * part.cost(part.entry.shape)
    return sweeps, seconds


def _best(trials: Sequence[_Trial]) -> _Trial:
    return min(trials, key=lambda trial: trial.seconds)


def _probe(part: Part, elements: int) -> tuple[int, ...]:
    """The shape in which a tensor is measured: its own columns, and rows to make up about so many elements."""
    shape = part.entry.shape
    if part.whole and len(shape) > 1:
        return tuple(min(size, MATRIX) for size in shape)
    if len(shape) < 2:
        return shape
    columns = math.prod(shape[1:])
    return (max(1, min(shape[0], -(-elements // columns))), *shape[1:])


def _reduced(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(min(size, SMALL) for size in shape)


def _trial(prepared: Prepared, large: Mapping[str, tuple[int, ...]], block: int, device: str) -> _Trial:
    """Merge made-up models in which only the tensors in `large` have more than a few elements."""
    result = _Trial()
    sources = {name: _Made(i, source, large, result.read) for i, (name, source) in enumerate(prepared.sources.items())}
    data = {
        name: _Made(0, ModelFolder(name, folder), _like(large, prepared), {}) for name, folder in prepared.data.items()
    }
    merge = Merge(
        prepared.recipes,
        sources,
        data=data,
        outputs=prepared.job.outputs,
        dtype=prepared.dtype,
        block=block,
        device=device,
    )
    started = time.perf_counter()
    for _ in merge:
        pass
    if device_type(device) == "cuda":
        torch.cuda.synchronize()
    result.seconds = time.perf_counter() - started
    return result


def _like(large: Mapping[str, tuple[int, ...]], prepared: Prepared) -> dict[str, tuple[int, ...]]:
    """The shapes in `large` for measured data, which has the size of the tensor or of its columns squared."""
    result = dict(large)
    for folder in prepared.data.values():
        source = ModelFolder(folder.name, folder)
        for name, shape in large.items():
            entry = source.tensors.get(name)
            if entry is not None and len(shape) == 2 and len(set(entry.shape)) == 1:
                result[name] = (shape[1], shape[1])
        source.close()
    return result


class _Made(Source):
    """A model of the same tensors, smaller: random numbers of spread 0.02, between models different by 0.001.

    `read_elements` counts what is read of each tensor.
    """

    def __init__(
        self, number: int, source: Source, large: Mapping[str, tuple[int, ...]], read_elements: dict[str, int]
    ) -> None:
        self.name = source.name
        self.folder = source.folder
        self._source = source
        self._read = read_elements
        self.tensors = {
            name: TensorEntry(name, entry.dtype, large.get(name, _reduced(entry.shape)))
            for name, entry in source.tensors.items()
        }
        most = max((entry.numel for entry in self.tensors.values()), default=0)
        values = torch.randn(most, generator=torch.Generator().manual_seed(0)) * 0.02
        values += torch.randn(most, generator=torch.Generator().manual_seed(1 + number)) * 0.001
        self._values: dict[ElementType, Tensor] = {
            dtype: values.to(dtype.of_torch) if dtype.is_floating_point else torch.zeros(most, dtype=dtype.of_torch)
            for dtype in {entry.dtype for entry in self.tensors.values()}
        }

    def read(self, tensor: str, start: int, count: int) -> Tensor:
        """Random numbers, the same at every call."""
        self._read[tensor] = self._read.get(tensor, 0) + count
        return self._values[self.tensors[tensor].dtype][start : start + count].clone()

    def json(self, file: str) -> dict[str, Any] | None:
        """config.json of the source; the tokenizers were compared before."""
        return self._source.json(file) if file == "config.json" else None
