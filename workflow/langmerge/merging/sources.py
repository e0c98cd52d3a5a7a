"""What the engine can merge: anything that names tensors and reads ranges of their elements.

A model folder is one (`langmerge.merging.reader`); views on folders are others: renumbered layers, rows by
token, a base with a LoRA adapter. Values are always float, never pickles or code.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langmerge.merging.elements import Elements, ElementType

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TensorEntry:
    """A tensor's name, element type and shape."""

    name: str
    dtype: ElementType
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class Source(ABC):
    """A model that is read piece by piece.

    `name` is what messages call it, `tensors` its entries by name in order, `folder` where configuration and
    tokenizer files stand.
    """

    name: str
    folder: Path
    tensors: Mapping[str, TensorEntry]

    @abstractmethod
    def read(self, tensor: str, start: int, count: int) -> Tensor:
        """Elements start .. start + count - 1 of the flattened tensor, shape (count,), as stored."""

    def elements(self, tensor: str, start: int, count: int) -> Elements:
        """The same values, without torch where the source has them as they are stored."""
        return Elements.of(self.read(tensor, start, count))

    def whole(self, tensor: str) -> Tensor:
        """A whole tensor in its shape, as stored."""
        entry = self.tensors[tensor]
        return self.read(tensor, 0, entry.numel).view(entry.shape)

    def file(self, name: str) -> bytes | None:
        """A file of the model beside its weights, or None if it has none of this name."""
        path = self.folder / name
        return path.read_bytes() if path.is_file() else None

    def json(self, file: str) -> dict[str, Any] | None:
        """A JSON file of the model (config.json, tokenizer.json), or None; ValueError if it is not JSON."""
        path = self.folder / file
        if not path.is_file():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: not valid JSON ({error})") from None

    def identity(self) -> Any:
        """Plain data that changes whenever the values may have, or None: merges of it start anew after a kill."""
        return None

    def close(self) -> None:  # noqa: B027 (most views have nothing to close)
        """Close what was opened."""
