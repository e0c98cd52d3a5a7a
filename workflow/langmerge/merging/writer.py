"""Writing model folders: safetensors files filled piece by piece, configuration, tokenizer, statistics."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from langmerge.merging.elements import Elements, ElementType
from langmerge.merging.sources import Source

if TYPE_CHECKING:
    from torch import Tensor

SHARD_BYTES = 5_000_000_000
"""Default size above which the weights are spread over several files."""

COPIED = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    "chat_template.json",
)
"""Files that a merged model takes from its reference; code never."""


class WeightsWriter:
    """The safetensors file(s) of one model, written at their final places as pieces come in.

    `done` are tensors that stand in the files already, from a run that was killed; ValueError if the files do not
    hold them. Use as a context manager; leaving it without an error checks that every element was written. With
    `hashed` files are hashed as they are written, instead of reading them for that; see `hashes`.
    """

    def __init__(
        self,
        folder: Path,
        layout: Sequence[tuple[str, ElementType, tuple[int, ...]]],
        shard_bytes: int = SHARD_BYTES,
        done: Collection[str] = (),
        hashed: bool = False,
    ) -> None:
        self._folder = folder
        self._hashed = hashed
        self._digests: dict[Path, tuple[Any, int]] = {}
        # Wider types first: every tensor is then aligned to its element size, as safetensors asks.
        ordered = sorted(layout, key=lambda row: -row[1].itemsize)
        sizes = {name: math.prod(shape) * dtype.itemsize for name, dtype, shape in ordered}
        shards: list[list[tuple[str, ElementType, tuple[int, ...]]]] = [[]]
        filled = 0
        for row in ordered:
            if shards[-1] and filled + sizes[row[0]] > shard_bytes:
                shards.append([])
                filled = 0
            shards[-1].append(row)
            filled += sizes[row[0]]
        self._places: dict[str, tuple[Path, int]] = {}
        self._missing = dict(sizes)
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        single = len(shards) == 1
        for number, rows in enumerate(shards, 1):
            file = "model.safetensors" if single else f"model-{number:05}-of-{len(shards):05}.safetensors"
            self._start(folder / file, rows, sizes, done)
        for name in done:
            self._missing[name] = 0
        if not single:
            index = {
                "metadata": {"total_size": sum(sizes.values())},
                "weight_map": {name: path.name for name, (path, _) in self._places.items()},
            }
            write_json(folder / "model.safetensors.index.json", index)

    def _start(
        self,
        path: Path,
        rows: Sequence[tuple[str, ElementType, tuple[int, ...]]],
        sizes: Mapping[str, int],
        done: Collection[str],
    ) -> None:
        """Write the header of one file, or keep the file that holds tensors already, and note where they all go."""
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for name, dtype, shape in rows:
            header[name] = {
                "dtype": dtype.label,
                "shape": list(shape),
                "data_offsets": [offset, offset + sizes[name]],
            }
            offset += sizes[name]
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        start = len(text).to_bytes(8, "little") + text
        kept = [header[name]["data_offsets"][1] for name, *_ in rows if name in done]
        if not kept:
            path.write_bytes(start)
            if self._hashed:
                self._digests[path] = hashlib.sha256(start), len(start)
        elif not _begins_with(path, start) or path.stat().st_size < len(start) + max(kept):
            raise ValueError(f"{path} is not as a killed run left it; remove {self._folder} and merge again")
        for name, *_ in rows:
            self._places[name] = (path, 8 + len(text) + header[name]["data_offsets"][0])

    def write(self, tensor: str, start: int, values: Elements | Tensor) -> None:
        """Put contiguous `values` (count,) at element `start` of the flattened tensor."""
        path, offset = self._places[tensor]
        if self._path != path:
            self._close()
            self._file = path.open("r+b")
            self._path = path
        assert self._file is not None
        data = Elements.of(values).array
        position = offset + start * data.itemsize
        self._file.seek(position)
        self._file.write(data.view(np.uint8).data)
        self._missing[tensor] -= data.nbytes
        if path in self._digests:
            digest, end = self._digests.pop(path)
            if position == end:
                digest.update(data)
                self._digests[path] = digest, end + data.nbytes

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 by name of the complete files, of those that were written from their beginning to their end."""
        return {path.name: digest.hexdigest() for path, (digest, _) in self._digests.items()}

    def sync(self) -> None:
        """Wait until what was written is on disk."""
        if self._file:
            self._file.flush()
            os.fsync(self._file.fileno())

    def _close(self) -> None:
        if self._file:
            file, self._file, self._path = self._file, None, None
            with file:
                file.flush()
                os.fsync(file.fileno())

    def __enter__(self) -> WeightsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            if self._file:
                # Closing on a full disk flushes and fails again; the first error is the one to report.
                with suppress(OSError):
                    self._file.close()
            return
        self._close()
        incomplete = [name for name, missing in self._missing.items() if missing]
        if incomplete:
            raise RuntimeError(f"{self._folder}: tensors not written in full: {incomplete[:3]}")


def _begins_with(path: Path, start: bytes) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(start)) == start


def copy_model_files(reference: Source, folder: Path, dtype: ElementType | None) -> None:
    """Configuration (with `dtype`, if the weights were converted to one) and tokenizer of the reference."""
    config = reference.json("config.json")
    if config is not None:
        if dtype is not None:
            config.pop("torch_dtype", None)
            config["dtype"] = dtype.name
        write_json(folder / "config.json", config)
    for name in COPIED:
        if (content := reference.file(name)) is not None:
            (folder / name).write_bytes(content)


def write_json(path: Path, data: Any) -> None:
    """UTF-8 JSON, objects indented down to their third level, with a final newline; NaN is refused."""
    path.write_text(_indented(data, 3) + "\n", encoding="utf-8")


def _indented(value: Any, levels: int, margin: str = "\n") -> str:
    """The first levels of objects with a line for each entry; what is below in one line, which is written faster."""
    if not levels or not isinstance(value, dict) or not value:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    margin += "  "
    rows = (
        f"{json.dumps(key, ensure_ascii=False)}: {_indented(part, levels - 1, margin)}" for key, part in value.items()
    )
    return f"{{{margin}{f',{margin}'.join(rows)}{margin[:-2]}}}"


def read_json(path: Path) -> Any:
    """What `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` that takes its name once the block ends well and is removed otherwise.

    Raises FileExistsError if `folder` exists and is not an empty folder.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists already; remove it or write elsewhere")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f".{folder.name}.partial-{os.getpid()}"
    partial.mkdir()
    try:
        yield partial
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
