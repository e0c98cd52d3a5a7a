"""Reading model folders: safetensors headers, and byte ranges inside tensors.

Only safetensors; a pickle checkpoint could run code when loaded and is refused.
"""

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from langmerge.merging.sources import Source, TensorEntry

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""safetensors' names of the element types that can be read."""

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
        for path in _weight_files(name, self.folder):
            for entry in read_header(path):
                if entry.name in self.tensors:
                    raise ValueError(f"model {name!r}: tensor {entry.name!r} stands in two files")
                self.tensors[entry.name] = entry

    def read(self, tensor: str, start: int, count: int) -> Tensor:
        """Elements start .. start + count - 1 of the flattened tensor, shape (count,), as stored."""
        entry = self.tensors[tensor]
        values = torch.empty(count, dtype=entry.dtype)
        target = values.view(torch.uint8).numpy().data
        file = self._files.get(entry.path)
        if file is None:
            file = self._files[entry.path] = entry.path.open("rb", buffering=0)
        # Positioned reads: the thread that reads ahead shares the file.
        position = entry.offset + start * entry.dtype.itemsize
        done = 0
        while done < len(target):
            got = os.preadv(file.fileno(), [target[done:]], position + done)
            if not got:
                raise ValueError(f"{entry.path}: ended while reading {tensor!r}; the file is damaged")
            done += got
        return values

    def identity(self) -> list[Any]:
        """Path, size and time of change of every file."""
        paths = sorted({entry.path for entry in self.tensors.values()})
        return [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]

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
            header = json.loads(file.read(length))
            rows = sorted(
                (tuple(row["data_offsets"]), name, row["dtype"], tuple(row["shape"]))
                for name, row in header.items()
                if name != "__metadata__"
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path}: damaged safetensors header ({error!r})") from None
    entries = []
    position = 0
    for (begin, end), name, dtype, shape in rows:
        if dtype not in DTYPES:
            raise ValueError(f"{path}: tensor {name!r} has element type {dtype}; known: {', '.join(DTYPES)}")
        if begin != position or end - begin != math.prod(shape) * DTYPES[dtype].itemsize:
            raise ValueError(f"{path}: offsets of tensor {name!r} do not fit its shape {list(shape)}")
        entries.append(StoredTensor(name, DTYPES[dtype], shape, path, 8 + length + begin))
        position = end
    if 8 + length + position != size:
        raise ValueError(
            f"{path}: truncated or damaged, {size} bytes where the header describes {8 + length + position}; "
            "download or write the model again"
        )
    return entries


def _weight_files(name: str, folder: Path) -> list[Path]:
    """The safetensors files of a model folder, in order."""
    if not folder.is_dir():
        raise FileNotFoundError(f"model {name!r}: no folder {folder}")
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        try:
            shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError):
            raise ValueError(f"{index}: not a valid shard index") from None
        missing = [shard for shard in shards if Path(shard).name != shard or not (folder / shard).is_file()]
        if missing:
            raise FileNotFoundError(f"model {name!r}: {index.name} names missing files: {missing}")
        return [folder / shard for shard in shards]
    if (folder / "adapter_model.safetensors").is_file():
        raise ValueError(f"model {name!r}: {folder} holds a LoRA adapter; merge it into its base model first")
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ValueError(
            f"model {name!r}: {folder} holds only pickled weights ({', '.join(pickles[:3])}), which "
            "can run code when loaded; convert them to safetensors (save_pretrained with safe_serialization)"
        )
    raise FileNotFoundError(f"model {name!r}: no model.safetensors (nor .index.json of shards) in {folder}")
