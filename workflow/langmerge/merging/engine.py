"""Computes any number of merges of the same models in one streamed pass.

Memory is bounded by the block size, not by the largest tensor. Arithmetic is in float32 (sums over tensors or
models in float64); an output is rounded once. Order: gathers over the whole model, level by level, each round
one sweep; then, tensor by tensor, gathers over that tensor and the merge of its blocks. A tensor that fits in
one block is read once for all rounds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from langmerge.merging.block import Block
from langmerge.merging.compatibility import check_compatible
from langmerge.merging.elements import Array, Elements, ElementType, element_type, equal
from langmerge.merging.finishing import Output, Piece, finish, put
from langmerge.merging.fused import loops
from langmerge.merging.fused.library import SOURCES
from langmerge.merging.gathers import Gather, Gathers
from langmerge.merging.kernels import Context, Kernel, make_kernel
from langmerge.merging.lazy import device_type, torch
from langmerge.merging.pipeline import SPAN, ReadAhead, Walk
from langmerge.merging.reader import ModelFolder, blocks, rows_of_about
from langmerge.merging.recipe import Recipe, in_order
from langmerge.merging.sources import Source, TensorEntry
from langmerge.merging.statistics import DeltaStatistics, OutputStatistics
from langmerge.merging.sweeps import Sweeps, complete

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = {"cpu": 1 << 17, "cuda": 1 << 24}
"""Default elements of a block by device: what stays in a core's cache (times the threads), what keeps a GPU busy."""


FUSED_BLOCK = 1 << 18
"""The same with the loops of `langmerge.merging.fused`, which need fewer values at a time, in one thread."""

KEPT = 1 << 27
"""Bytes of values and task vectors, in float32, up to which those of a tensor are kept between looks at it."""


Layout = list[tuple[str, ElementType, tuple[int, ...]]]
"""(name, element type, shape) of each tensor."""

Places = Mapping[str, Mapping[str, Elements]] | None
"""Output -> tensor -> where its elements are put."""


class Merge:
    """A pass over `sources` that computes `recipes`; iterate once over it to get the pieces, in order.

    Args:
        recipes: the merges; they may use one another by name.
        sources: name -> folder or view of each model that the recipes use (others are not opened).
        data: name -> folder of what was measured of models, where recipes name it.
        outputs: names of the recipes whose pieces are wanted; default: all.
        dtype: element type of all floating outputs; default: tensor by tensor that of the reference.
        block: elements of a block; default: by device.
        statistics: whether to gather them.
        device: where the arithmetic runs; outputs are on it too.

    Opening reads headers only and raises ValueError or FileNotFoundError for whatever cannot be merged.
    Iterating raises ValueError for values that are not finite and for unequal tensors that are not floating.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        sources: Mapping[str, Path | Source],
        *,
        data: Mapping[str, Path | Source] | None = None,
        outputs: Iterable[str] | None = None,
        dtype: ElementType | torch.dtype | None = None,
        block: int | None = None,
        statistics: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        if not recipes:
            raise ValueError("no recipe to merge")
        self._device = str(device)
        self._fused = loops.usable(device)
        if block is None:
            elsewhere = device_type(device) != "cpu"
            block = (
                FUSED_BLOCK if self._fused else BLOCK["cuda"] if elsewhere else BLOCK["cpu"] * torch.get_num_threads()
            )
        if block < 1:
            raise ValueError(f"block: {block} elements; expected at least 1")
        self.dtype = None if dtype is None else element_type(dtype)
        if self.dtype and not self.dtype.is_floating_point:
            raise ValueError(f"dtype: {dtype} is not a floating point type")
        data = data or {}
        ordered = in_order(recipes, sources)
        wanted = {recipe.name for recipe in recipes} if outputs is None else set(outputs)
        self.recipes = _used(ordered, wanted)
        self.outputs = [recipe.name for recipe in recipes if recipe.name in wanted]
        self._block = block
        self._by_name = {recipe.name: recipe for recipe in self.recipes}
        used = dict.fromkeys(name for recipe in self.recipes for name in recipe.inputs)
        with ExitStack() as stack:
            self._models: dict[str, Source] = {}
            for name in used:
                if name not in self._by_name:
                    self._models[name] = _opened(name, sources, stack)
            self._data = {
                name: _opened(name, data, stack)
                for name in dict.fromkeys(name for recipe in self.recipes for name in recipe.measured)
            }
            self._reader = ReadAhead(self._models, self._device)
            stack.callback(self._reader.close)
            self._tied = check_compatible(list(self._models.values()))
            first = next(iter(self._models.values()))
            self._entries = first.tensors
            self._names = [name for name in first.tensors if name not in self._tied]
            self._floating = [
                name for name in self._names if self._entry(name).dtype.is_floating_point and self._entry(name).numel
            ]
            """Names of the tensors that are merged; those of whole numbers and empty ones are passed on."""
            self._gathers = Gathers()
            self._kernels = {recipe.name: self._make_kernels(recipe) for recipe in self.recipes}
            self._walks = self._walk()
            self._stack = stack.pop_all()
        self._done: set[str] = set()
        self._statistics = statistics
        self._inner = set(used) & set(self._by_name)
        self._output_statistics = {name: OutputStatistics() for name in self.outputs} if statistics else {}
        groups = {name: self._group(name) for name in self.outputs} if statistics else {}
        shared = {group: DeltaStatistics(*group) for group in dict.fromkeys(groups.values()) if group}
        self._delta_statistics = {name: shared[group] for name, group in groups.items() if group}
        self._shared_statistics = list(shared.values())

    def reference(self, recipe: str) -> Source:
        """The base or first model of a recipe: gives element types, configuration and tokenizer."""
        name = recipe
        while name in self._by_name:
            name = self._by_name[name].base or self._by_name[name].models[0]
        return self._models[name]

    def layout(self, recipe: str) -> Layout:
        """(name, element type, shape) of each tensor of an output."""
        entries = self.reference(recipe).tensors
        return [(name, self._output_dtype(entries[name]), entries[name].shape) for name in self._names]

    @property
    def elements(self) -> int:
        """Elements of all output tensors together, for progress: the pieces add up to it."""
        return sum(self._entries[name].numel for name in self._names) * len(self.outputs)

    def __iter__(self) -> Iterator[Piece]:
        return self.pieces()

    def pieces(self, into: Places = None) -> Generator[Piece, None, None]:
        """The pieces; with `into` their elements are put into its tensors (flattened), by output and name."""
        with self._stack:
            self._check_tied()
            self._gather_models()
            for name in self._names:
                if name in self._done:
                    continue
                entry = self._entry(name)
                if entry.dtype.is_floating_point and entry.numel:
                    yield from self._merge_tensor(entry, into)
                else:
                    yield from self._copy_tensor(entry, into)

    def identity(self) -> Any:
        """Plain data that is equal only for merges that give the same bytes, or None if a source has no identity."""
        sources = {name: source.identity() for name, source in (self._models | self._data).items()}
        if None in sources.values():
            return None
        recipes = [recipe.to_json() for recipe in self.recipes]
        code = code_hash()
        return [recipes, self.outputs, sources, str(self.dtype), self._block, self._device, code, self._statistics]

    def state(self, tensor: str) -> Any:
        """The statistics of one finished tensor, as plain data for `leave_out`."""
        return [
            [statistics.state(tensor) for statistics in self._shared_statistics],
            {name: statistics.state(tensor) for name, statistics in self._output_statistics.items()},
        ]

    def leave_out(self, done: Mapping[str, Any]) -> None:
        """Do not compute these tensors again; `done` has the `state` of each."""
        self._done = set(done)
        for tensor, (shared, outputs) in done.items():
            for statistics, state in zip(self._shared_statistics, shared, strict=True):
                statistics.restore(tensor, state)
            for name, state in outputs.items():
                self._output_statistics[name].restore(tensor, state)

    def statistics(self, recipe: str) -> dict[str, Any]:
        """Statistics of an output as plain data, complete once the pass is (see the module `statistics`)."""
        result: dict[str, Any] = {
            "recipe": self._by_name[recipe].to_json(),
            "reference": self.reference(recipe).name,
            **{key: value for kernel in self._kernels[recipe].values() for key, value in kernel.notes.items()},
        }
        if recipe not in self._output_statistics:
            return result
        parts: list[OutputStatistics | DeltaStatistics] = [self._output_statistics[recipe]]
        if recipe in self._delta_statistics:
            parts.append(self._delta_statistics[recipe])
            result["models"] = self._delta_statistics[recipe].models
        result["total"] = {key: value for part in parts for key, value in part.total().items()}
        result["tensors"] = {
            name: {key: value for part in parts for key, value in part.tensor(name).items()} for name in self._floating
        }
        return result

    def _group(self, recipe: str) -> tuple[tuple[str, ...], str] | None:
        """(models, base) whose task vectors a recipe's statistics describe."""
        chosen = self._by_name[recipe]
        models = tuple(model for model in chosen.models if model != chosen.base)
        return (models, chosen.base) if chosen.base and models else None

    def _entry(self, name: str) -> TensorEntry:
        return self._entries[name]

    def _output_dtype(self, entry: TensorEntry) -> ElementType:
        return self.dtype if self.dtype and entry.dtype.is_floating_point else entry.dtype

    def _value(self, block: Block, name: str, walk: Walk, last: bool) -> Elements | Array | Tensor:
        """Values of a block of a source or recipe."""
        if name in self._by_name:
            return self._kernels[name][block.tensor].values(block)
        return self._reader.read(name, walk, block.start, block.count, last)

    def _blocks(self, entry: TensorEntry) -> Sweeps:
        whole = any(kernels[entry.name].whole(entry.name) for kernels in self._kernels.values())
        block = entry.numel if whole else rows_of_about(entry.shape, self._block)
        keep = 8 * entry.numel * len(self._models) <= KEPT
        return Sweeps(entry, block, keep, self._walks[entry.name], self._value, self._device)

    def _walk(self) -> dict[str, Walk]:
        """How each tensor is read; a span is some whole blocks."""
        walks: dict[str, Walk] = {}
        following = None
        span = SPAN.get(device_type(self._device), 1)
        for name in reversed(self._floating):
            entry = self._entry(name)
            if any(kernels[name].whole(name) for kernels in self._kernels.values()):
                elements = entry.numel
            else:
                block = rows_of_about(entry.shape, self._block)
                elements = block * span
            following = walks[name] = Walk(name, entry.numel, elements, following)
        return walks

    def _make_kernels(self, recipe: Recipe) -> dict[str, Kernel]:
        """The kernel of each tensor: one for the recipe and one for each of its rules."""
        kernels: dict[str, Kernel] = {}
        rests_on: dict[Gather, None] = {}
        for region, names in recipe.regions(self._floating):
            tensors = {name: self._entry(name).shape for name in names}
            measured = {model: self._data[name] for model, name in region.data.items()}
            kernel = make_kernel(region, Context(tensors, self._names, measured, self._gathers))
            rests_on |= dict.fromkeys((*kernel.gathers, *self._gathers.needs_of(region.inputs)))
            kernels |= dict.fromkeys(names, kernel)
        self._gathers.of_recipe[recipe.name] = tuple(rests_on)
        return kernels

    def _gather_models(self) -> None:
        """Complete the gathers over whole models, level by level."""
        waiting = [gather for gather in self._gathers if gather.scope == "model"]
        for level in sorted({gather.level for gather in waiting}):
            now = [gather for gather in waiting if gather.level == level]
            below = set().union(*(gather.all_needs() for gather in now))
            for gather in now:
                gather.begin()
            for index in range(max(gather.rounds for gather in now)):
                active = [gather for gather in now if index < gather.rounds]
                for name in self._floating:
                    looking = [gather for gather in active if name in gather.tensors]
                    if not looking:
                        continue
                    sweeps = self._blocks(self._entry(name))
                    complete(below, name, sweeps)
                    sweeps.last = True
                    for block in sweeps:
                        for gather in looking:
                            gather.update(index, block)
                for gather in active:
                    gather.end(index)

    def _merge_tensor(self, entry: TensorEntry, into: Places) -> Iterator[Piece]:
        sweeps = self._blocks(entry)
        complete(self._gathers, entry.name, sweeps)
        sweeps.last = True
        outputs = [self._output(name, entry.name, into) for name in self.outputs]
        for block in sweeps:
            for statistics in self._shared_statistics:
                statistics.add(block)
            yield from finish(block, outputs)

    def _output(self, name: str, tensor: str, into: Places) -> Output:
        # Only what other recipes use as well is kept with the block.
        make = partial(Block.stored, name=name) if name in self._inner else self._kernels[name][tensor].merge
        reference = self.reference(name)
        dtype = self._output_dtype(reference.tensors[tensor])
        place = into[name][tensor] if into else None
        return Output(name, make, dtype, reference.name, self._output_statistics.get(name), place)

    def _copy_tensor(self, entry: TensorEntry, into: Places) -> Iterator[Piece]:
        """Tensors of whole numbers (and empty ones) must be the same everywhere and are passed on."""
        first, *others = self._models.values()
        for start, count in list(blocks(entry.shape, self._block)) or [(0, 0)]:
            values = first.elements(entry.name, start, count)
            for other in others:
                if count and not np.array_equal(values.array, other.elements(entry.name, start, count).array):
                    raise ValueError(
                        f"tensor {entry.name!r} ({entry.dtype}) differs between model {first.name!r} and "
                        f"model {other.name!r}; only floating tensors can be merged"
                    )
            for name in self.outputs:
                dtype = self._output_dtype(self.reference(name).tensors[entry.name])
                # Of another type there are only empty ones.
                found = values if count else Elements(dtype, np.empty(0, dtype.holder))
                place = into[name][entry.name][start : start + count] if into else None
                yield Piece(name, entry.name, start, put(found, place))

    def _check_tied(self) -> None:
        """A stored output embedding that config.json ties must equal the input embedding: it is left out."""
        for model in self._models.values():
            for name, twin in self._tied.items():
                if name not in model.tensors:
                    continue
                same = model.tensors[name].shape == model.tensors[twin].shape
                for part in blocks(model.tensors[twin].shape, self._block):
                    same = same and equal(*(model.elements(tensor, *part) for tensor in (name, twin)))
                if not same:
                    raise ValueError(
                        f"model {model.name!r}: config.json ties {name!r} to {twin!r} but their values "
                        "differ; set tie_word_embeddings to false or remove the one that is not used"
                    )


@cache
def code_hash() -> str:
    """Hash of this package's files; cheaper than a fingerprint of their meaning, and stricter."""
    files = [*sorted(Path(__file__).parent.rglob("*.py")), *SOURCES]
    return hashlib.blake2b(b"".join(file.read_bytes() for file in files), digest_size=16).hexdigest()


def _opened(name: str, folders: Mapping[str, Path | Source], stack: ExitStack) -> Source:
    """The source of this name, to be closed with `stack`."""
    if name not in folders:
        raise ValueError(f"no measured data named {name!r}; known: {', '.join(sorted(folders)) or 'none'}")
    known = folders[name]
    source = known if isinstance(known, Source) else ModelFolder(name, Path(known))
    stack.callback(source.close)
    return source


def _used(ordered: Sequence[Recipe], wanted: set[str]) -> list[Recipe]:
    """The wanted recipes and those they use, in the given order; ValueError for an unknown name."""
    unknown = wanted - {recipe.name for recipe in ordered}
    if unknown:
        raise ValueError(f"outputs: no recipes named {sorted(unknown)}")
    needed = set(wanted)
    for recipe in reversed(ordered):
        if recipe.name in needed:
            needed.update(recipe.inputs)
    return [recipe for recipe in ordered if recipe.name in needed]
