"""Element types of tensors, and values as they are stored, which need no torch until a tensor is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from langmerge.merging.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class ElementType:
    """Type of a tensor's elements: its name in torch and config.json, and its `label` in safetensors files.

    `holder` is the numpy type that holds its values, or their bits where numpy has no such type. Of each there is only
    one object, in `ELEMENT_TYPES`.
    """

    name: str
    label: str
    holder: str
    is_floating_point: bool = True

    def __str__(self) -> str:
        return self.name

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return np.dtype(self.holder).itemsize

    @property
    def of_torch(self) -> torch.dtype:
        """The same of torch."""
        return getattr(torch, self.name)


FLOAT32 = ElementType("float32", "F32", "float32")
BFLOAT16 = ElementType("bfloat16", "BF16", "uint16")
FLOAT16 = ElementType("float16", "F16", "float16")

ELEMENT_TYPES = {
    kind.label: kind
    for kind in (
        ElementType("float64", "F64", "float64"),
        FLOAT32,
        FLOAT16,
        BFLOAT16,
        ElementType("float8_e4m3fn", "F8_E4M3", "uint8"),
        ElementType("float8_e5m2", "F8_E5M2", "uint8"),
        ElementType("int64", "I64", "int64", False),
        ElementType("int32", "I32", "int32", False),
        ElementType("int16", "I16", "int16", False),
        ElementType("int8", "I8", "int8", False),
        ElementType("uint8", "U8", "uint8", False),
        ElementType("bool", "BOOL", "bool", False),
    )
}
"""By safetensors' name: those that can be read."""

_BY_NAME = {kind.name: kind for kind in ELEMENT_TYPES.values()}


def element_type(dtype: ElementType | torch.dtype | str) -> ElementType:
    """The type of this name, or of a torch.dtype; ValueError for one that models do not have."""
    name = str(dtype).removeprefix("torch.")
    if name not in _BY_NAME:
        raise ValueError(f"{dtype} is no type of a model's elements; expected one of {', '.join(_BY_NAME)}")
    return _BY_NAME[name]


class Elements:
    """Values of one type in a row: a numpy array (of the type's `holder`) or a tensor, whichever is asked for.

    The one shares the other's memory, except that an `array` of a tensor on another device is a copy.
    """

    __slots__ = ("_array", "_tensor", "dtype")

    def __init__(self, dtype: ElementType, array: Array | None = None, tensor: Tensor | None = None) -> None:
        self.dtype = dtype
        self._array = array
        self._tensor = tensor

    @classmethod
    def of(cls, values: Elements | Array | Tensor) -> Elements:
        """Values (count,) of any form; an array is one of numbers, not of bits."""
        if isinstance(values, Elements):
            return values
        if isinstance(values, np.ndarray):
            return cls(FLOAT32 if values.dtype == np.float32 else _BY_NAME[values.dtype.name], array=values)
        return cls(element_type(values.dtype), tensor=values)

    @property
    def array(self) -> Array:
        """As a contiguous numpy array."""
        if self._array is None:
            assert self._tensor is not None
            tensor = self._tensor.detach().contiguous().cpu()
            if self.dtype.holder != self.dtype.name:
                tensor = tensor.view(torch.uint8)
            self._array = tensor.numpy().view(self.dtype.holder)
        return self._array

    @property
    def tensor(self) -> Tensor:
        """As a tensor."""
        if self._tensor is None:
            assert self._array is not None
            array = self._array.view(np.uint8) if self.dtype.holder != self.dtype.name else self._array
            self._tensor = torch.from_numpy(array).view(self.dtype.of_torch)
        return self._tensor

    def __len__(self) -> int:
        return len(self._tensor if self._array is None else self._array)  # type: ignore[arg-type]

    def __getitem__(self, where: slice) -> Elements:
        array, tensor = self._array, self._tensor
        return Elements(self.dtype, None if array is None else array[where], None if tensor is None else tensor[where])

    def float32(self, where: Array | slice = slice(None)) -> Array:
        """Those at `where` as float32 numbers, of a type of at most 32 bits whose values numpy or bits give."""
        chosen = self.array[where]
        if self.dtype == BFLOAT16:
            return (chosen.astype(np.uint32) << 16).view(np.float32)
        return chosen.astype(np.float32, copy=False)


def equal(one: Elements, two: Elements) -> bool:
    """Whether two have the same type and values; -0 equals 0."""
    bits = one.dtype == two.dtype and np.array_equal(one.array, two.array)
    return bits or torch.equal(one.tensor, two.tensor)


def module_of(values: Array | Tensor) -> Any:
    """numpy or torch, of which functions with one name and the same first arguments serve arrays and tensors alike."""
    return np if isinstance(values, np.ndarray | np.generic) else torch


def on_cpu(values: Array | Tensor) -> Array:
    """A few numbers, wherever they are, as a numpy array."""
    return values if isinstance(values, np.ndarray) else values.cpu().numpy()
