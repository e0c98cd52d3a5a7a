"""A base model with a LoRA adapter, read as if the two had been merged: a source for every merge method."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langmerge.merging.compatibility import INPUT_EMBEDDINGS, OUTPUT_EMBEDDINGS
from langmerge.merging.elements import FLOAT32
from langmerge.merging.lazy import torch
from langmerge.merging.lora.adapter import Adapter, Module
from langmerge.merging.lora.thin import Product, elements
from langmerge.merging.reader import StoredTensor
from langmerge.merging.sources import Source, TensorEntry

if TYPE_CHECKING:
    from torch import Tensor


class AdapterView(Source):
    """base + s B A, computed for just the elements that are read; full weights are never made.

    Adapted tensors are float32 whatever the base's type: the change of a fine-tune is often smaller than a step of
    bfloat16. Their values are base + s B A in float64, rounded once. Tensors that the adapter holds anew
    (modules_to_save, trained biases) come from it as stored, all others from the base as stored. Configuration and
    tokenizer are the base's, except that an adapter's own tokenizer.json is what is compared with other models.

    Where config.json ties the output embedding to the input embedding, a change of the latter reaches both, as in
    peft's merge_and_unload; a warning says so.

    Args:
        base: the model that the adapter was trained on; it is shared, and closed by whoever opened it.
        folder: the adapter's folder, in peft's format.
        name: what messages call this model; default: the folder's name.
        any_base: skip the check of the base's name (an adapter deliberately put on another model).

    Raises what `Adapter` raises, and ValueError if a tensor of the adapter fits nothing in the base, or was trained on
    another base: a different Hub name in its cache folder, or another copy of the embeddings (found on reading them).
    """

    def __init__(self, base: Source, folder: Path, name: str | None = None, *, any_base: bool = False) -> None:
        self.adapter = Adapter(name or Path(folder).name, folder)
        self.name = self.adapter.name
        self.folder = base.folder
        self._base = base
        self._any_base = any_base
        if not any_base:
            self._check_name()
        self.tensors: dict[str, TensorEntry] = dict(base.tensors)
        self._modules: dict[str, tuple[Module, bool]] = {}
        self._biases: dict[str, Module] = {}
        self._replaced: dict[str, StoredTensor] = {}
        self._copies: dict[str, StoredTensor] = {}
        for module in self.adapter.modules.values():
            self._adapt(module)
        for target, entry in self.adapter.replaced.items():
            self._replace(target, entry)
        for target, entry in self.adapter.copies.items():
            self._copies[self._fitting(target, entry.name, entry.shape)] = entry
        self._last: tuple[str, Product] | None = None
        self._warn_of_ties()

    def read(self, tensor: str, start: int, count: int) -> Tensor:
        """Elements start .. start + count - 1 of the flattened tensor, shape (count,)."""
        if tensor in self._replaced:
            return _range(self._replaced[tensor], start, count)
        values = self._base.read(tensor, start, count)
        if tensor in self._copies and not self._any_base:
            self._check_copy(tensor, start, values)
        if tensor in self._modules:
            return elements(self._product(tensor), start, count, values)
        if tensor in self._biases:
            module = self._biases[tensor]
            added = self.adapter.bias(module.name)
            assert added is not None
            exact = values.to(torch.float64) + module.scaling * added[start : start + count].to(torch.float64)
            return exact.to(torch.float32)
        return values

    def file(self, name: str) -> bytes | None:
        """A file of the base, but the adapter's own tokenizer.json if it has one: it is to be the same."""
        path = self.adapter.folder / name
        return path.read_bytes() if name == "tokenizer.json" and path.is_file() else self._base.file(name)

    def json(self, file: str) -> dict[str, Any] | None:
        """The same as JSON."""
        path = self.adapter.folder / file
        if file != "tokenizer.json" or not path.is_file():
            return self._base.json(file)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: not valid JSON ({error})") from None

    def close(self) -> None:
        """Close the adapter's file; the base is not this view's to close."""
        self.adapter.close()
        self._last = None

    def _product(self, tensor: str) -> Product:
        """The factors of a tensor's change in the layout of its weight; those of the last tensor are kept."""
        last = self._last  # another thread may read ahead
        if last is None or last[0] != tensor:
            module, flipped = self._modules[tensor]
            a, b = (factor.to(torch.float64) for factor in self.adapter.factors(module.name))
            left, right = (a.T, b.T) if flipped else (b, a)
            last = self._last = (tensor, (left * module.scaling, right.contiguous()))
        return last[1]

    def _adapt(self, module: Module) -> None:
        name = self._found(f"{module.name}.weight")
        entry = self._base.tensors.get(name)
        if entry is None or not entry.dtype.is_floating_point:
            hint = ""
            if name in OUTPUT_EMBEDDINGS and self._tied():
                hint = (
                    "; config.json ties the output embedding to the input embedding, so it is not stored: save the "
                    "base with tie_word_embeddings false"
                )
            raise ValueError(f"{self._where}: module {module.name!r} fits nothing: no floating tensor {name!r}{hint}")
        flipped = module.flipped(entry.shape, self.adapter.fan_in_fan_out)
        if flipped is None:
            raise ValueError(
                f"{self._where}: module {module.name!r} changes a weight of {module.inputs} inputs and "
                f"{module.outputs} outputs, but {name!r} has shape {list(entry.shape)}; the adapter belongs to another "
                f"model ({self.adapter.base_name or 'unnamed'}), or its vocabulary was resized"
            )
        self._modules[name] = (module, flipped)
        self.tensors[name] = TensorEntry(name, FLOAT32, entry.shape)
        if "bias" in module.tensors:
            key = module.tensors["bias"]
            bias = self._fitting(f"{module.name}.bias", key, (module.outputs,))
            self._biases[bias] = module
            self.tensors[bias] = TensorEntry(bias, FLOAT32, (module.outputs,))

    def _replace(self, target: str, entry: StoredTensor) -> None:
        if target in OUTPUT_EMBEDDINGS and target not in self._base.tensors and self._tied():
            name = target  # its equality with the input embedding is checked as that of any stored twin
        else:
            name = self._fitting(target, entry.name, entry.shape)
        if name in self._modules or name in self._biases:
            raise ValueError(f"{self._where}: tensor {name!r} is both replaced and adapted; expected one of the two")
        self._replaced[name] = entry
        self.tensors[name] = TensorEntry(name, entry.dtype, entry.shape)

    def _fitting(self, target: str, key: str, shape: tuple[int, ...]) -> str:
        """Name of the base's tensor of this shape."""
        name = self._found(target)
        entry = self._base.tensors.get(name)
        if entry is None:
            raise ValueError(f"{self._where}: tensor {key!r} fits nothing: the base has no tensor {target!r}")
        if entry.shape != shape:
            raise ValueError(
                f"{self._where}: tensor {key!r} has shape {list(shape)} but {name!r} has {list(entry.shape)}; the "
                "adapter belongs to another model, or its vocabulary was resized"
            )
        return name

    def _found(self, target: str) -> str:
        """A tensor's name in the base, where a checkpoint may lack the first part ("transformer.")."""
        short = target.partition(".")[2]
        return short if target not in self._base.tensors and short in self._base.tensors else target

    @property
    def _where(self) -> str:
        return f"adapter {self.name!r} on base {self._base.name!r}"

    def _tied(self) -> bool:
        return bool((self._base.json("config.json") or {}).get("tie_word_embeddings"))

    def _warn_of_ties(self) -> None:
        changed = [name for name in (*self._modules, *self._replaced) if name.endswith(INPUT_EMBEDDINGS)]
        if changed and self._tied() and not set(self._replaced) & set(OUTPUT_EMBEDDINGS):
            warnings.warn(
                f"{self._where}: changes {changed[0]!r}, to which config.json ties the output embedding; in the merged "
                "model both change",
                stacklevel=3,
            )

    def _check_name(self) -> None:
        """The base's name where its folder shows it: models--OWNER--NAME in the Hub's cache."""
        cached = re.search(r"models--(.+?)--([^/\\]+)", str(self._base.folder))
        wanted = self.adapter.base_name
        if cached and wanted and re.fullmatch(r"[\w.-]+/[\w.-]+", wanted):
            found = "/".join(cached.groups())
            if found.lower() != wanted.lower():
                raise ValueError(
                    f"{self._where}: was trained on {wanted!r}, but the base is {found!r}; give the base that it was "
                    "trained on, or allow any"
                )

    def _check_copy(self, tensor: str, start: int, values: Tensor) -> None:
        """The adapter's copy of the base's embeddings must be those of this base, up to rounding on saving."""
        copy = _range(self._copies[tensor], start, len(values))
        if not (torch.equal(values.to(copy.dtype), copy) or torch.equal(copy.to(values.dtype), values)):
            raise ValueError(
                f"{self._where}: the adapter holds another copy of {tensor!r} than the base; it was trained on another "
                f"model ({self.adapter.base_name or 'unnamed'})"
            )


def _range(entry: StoredTensor, start: int, count: int) -> Tensor:
    """Elements of a stored tensor, shape (count,), as stored."""
    with entry.path.open("rb") as file:
        file.seek(entry.offset + start * entry.dtype.itemsize)
        data = bytearray(file.read(count * entry.dtype.itemsize))
    dtype = entry.dtype.of_torch
    return torch.frombuffer(data, dtype=dtype) if count else torch.empty(0, dtype=dtype)
