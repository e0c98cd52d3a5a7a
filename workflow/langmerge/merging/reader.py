"""Reading model folders: safetensors headers, and byte ranges inside tensors.

Only safetensors; a pickle checkpoint could run code when loaded and is refused.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from langmerge.merging.elements import ELEMENT_TYPES, Elements
from langmerge.merging.sources import Source, TensorEntry

if TYPE_CHECKING:
    from torch import Tensor

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class StoredTensor(TensorEntry):
    """A tensor of a file: `offset` is its first byte in `path`."""

    path: Path
    offset: int


class ModelFolder(Source):
    """A model in Hugging Face format, of which only the headers have been read.

    `tensors` maps names to entries in the order of the files. Use as a context manager or call `close`.
    Raises FileNotFoundError without safetensors, ValueError for pickles, adapters and damaged files.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = Path(folder)
        self._files: dict[Path, BinaryIO] = {}
        self.tensors: dict[str, StoredTensor] = {}
        paths, index = _weight_files(name, self.folder)
        config = self.folder / "config.json"  # it decides which tensors are tied
        self._stamps = {path: _stamp(path) for path in (*paths, *([config] if config.is_file() else []))}
        for path in paths:
            for entry in read_header(path):
                if entry.name in self.tensors:
                    raise ValueError(f"model {name!r}: tensor {entry.name!r} stands in two files")
                self.tensors[entry.name] = entry
        if index is not None:
            _check_index(name, self.folder, index, self.tensors)
        if not self.tensors:
            raise ValueError(f"model {name!r}: {self.folder} holds no tensors")

    def read(self, tensor: str, start: int, count: int) -> Tensor:
        """Elements start .. start + count - 1 of the flattened tensor, shape (count,), as stored."""
        return self.elements(tensor, start, count).tensor

    def elements(self, tensor: str, start: int, count: int) -> Elements:
        """See the base class."""
        entry = self.tensors[tensor]
        values = np.empty(count, entry.dtype.holder)
        target = values.view(np.uint8).data
        file = self._files.get(entry.path)
        if file is None:
            file = self._files[entry.path] = entry.path.open("rb", buffering=0)
        # Positioned reads: the thread that reads ahead shares the file.
        position = entry.offset + start * entry.dtype.itemsize
        done = 0
        while done < len(target):
            got = os.preadv(file.fileno(), [target[done:]], position + done)
            if not got:
                raise ValueError(f"{entry.path}: ended while reading {tensor!r}; the file is damaged or was changed")
            done += got
        return Elements(entry.dtype, values)

    def identity(self) -> list[Any]:
        """Path, size and time of change of every file of weights and of config.json.

        Raises ValueError if one is no longer what it was when the headers were read.
        """
        for path, stamp in self._stamps.items():
            if not path.is_file() or _stamp(path) != stamp:
                raise ValueError(
                    f"model {self.name!r}: {path} changed while it was being merged; "
                    "merge again when nothing writes it any more"
                )
        return [stamp for _, stamp in sorted(self._stamps.items())]

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
        self._files.clear()


def rows_of_about(shape: Sequence[int], elements: int) -> int:
    """Elements of whole rows of a tensor, at least one row, together about `elements`.

    A row is what the last dimension counts; blocks never cut it, so that methods may look at rows.
    """
    row = max(1, shape[-1] if shape else 1)
    return max(row, elements // row * row)


def blocks(shape: Sequence[int], block: int) -> Iterator[tuple[int, int]]:
    """(start, count) of consecutive pieces of a flattened tensor: whole rows, about `block` elements each."""
    numel, step = math.prod(shape), rows_of_about(shape, block)
    for start in range(0, numel, step):
        yield start, min(step, numel - start)


def read_header(path: Path) -> list[StoredTensor]:
    """The tensors of one safetensors file, by position.

    Raises ValueError if the header does not fit the file: not safetensors, truncated, overlapping or with
    gaps, unknown element type.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise ValueError(f"{path}: not a safetensors file, or truncated inside its header ({size} bytes)")
        try:
            header = json.loads(file.read(length), object_pairs_hook=_unique)
            rows = sorted(
                (_whole(row["data_offsets"], 2), name, str(row["dtype"]), _whole(row["shape"]))
                for name, row in header.items()
                if name != "__metadata__"
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path}: damaged safetensors header ({error!r})") from None
    entries = []
    position = 0
    for (begin, end), name, dtype, shape in rows:
        if dtype not in ELEMENT_TYPES:
            raise ValueError(f"{path}: tensor {name!r} has element type {dtype}; known: {', '.join(ELEMENT_TYPES)}")
        if begin != position or end - begin != math.prod(shape) * ELEMENT_TYPES[dtype].itemsize:
            raise ValueError(f"{path}: offsets of tensor {name!r} do not fit its shape {list(shape)}")
        entries.append(StoredTensor(name, ELEMENT_TYPES[dtype], shape, path, 8 + length + begin))
        position = end
    if 8 + length + position != size:
        raise ValueError(
            f"{path}: truncated or damaged, {size} bytes where the header describes {8 + length + position}; "
            "download or write the model again"
        )
    return entries


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, in which no name may stand twice."""
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{sorted({name for name in names if names.count(name) > 1})} stand twice")
    return result


def _whole(numbers: Any, size: int | None = None) -> tuple[int, ...]:
    """A list of whole numbers >= 0, of the given length."""
    if not isinstance(numbers, list) or (size is not None and len(numbers) != size):
        raise ValueError(f"{numbers!r} is not a list of {size or 'whole'} numbers")
    if any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError(f"{numbers!r} are not whole numbers from 0")
    return tuple(numbers)


def _stamp(path: Path) -> list[Any]:
    """Path, size and time of change of a file."""
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def _check_index(name: str, folder: Path, index: dict[str, str], tensors: Mapping[str, StoredTensor]) -> None:
    """Does every tensor stand in the file that the index names? Shards may have been exchanged, or be another's."""
    for tensor in sorted(index.keys() | tensors.keys()):
        found = tensors[tensor].path.name if tensor in tensors else None
        if found != index.get(tensor):
            said = f"in {index[tensor]}" if tensor in index else "nowhere"
            raise ValueError(
                f"model {name!r}: tensor {tensor!r} stands {f'in {found}' if found else 'in no file'} of {folder} but "
                f"{said} by model.safetensors.index.json; shards were exchanged or belong to different models: "
                "download or write the model again"
            )


def _weight_files(name: str, folder: Path) -> tuple[list[Path], dict[str, str] | None]:
    """The safetensors files of a model folder, in order, and which of them its index says to hold each tensor."""
    if not folder.is_dir():
        raise FileNotFoundError(f"model {name!r}: no folder {folder}")
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single], None
    if index.is_file():
        try:
            places = dict(json.loads(index.read_text(encoding="utf-8"), object_pairs_hook=_unique)["weight_map"])
            shards = sorted(set(places.values()))
            missing = [shard for shard in shards if Path(shard).name != shard or not (folder / shard).is_file()]
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"{index}: not a valid shard index ({error!r})") from None
        if missing:
            raise FileNotFoundError(f"model {name!r}: {index.name} names missing files: {missing}")
        return [folder / shard for shard in shards], places
    if (folder / "adapter_model.safetensors").is_file():
        raise ValueError(f"model {name!r}: {folder} holds a LoRA adapter; merge it into its base model first")
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ValueError(
            f"model {name!r}: {folder} holds only pickled weights ({', '.join(pickles[:3])}), which "
            "can run code when loaded; convert them to safetensors (save_pretrained with safe_serialization)"
        )
    raise FileNotFoundError(f"model {name!r}: no model.safetensors (nor .index.json of shards) in {folder}")
