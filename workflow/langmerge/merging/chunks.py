"""Work on long vectors in pieces that stay in a core's cache, so that a chain of operations costs little traffic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from langmerge.merging.lazy import device_type

if TYPE_CHECKING:
    import torch

CHUNK = 1 << 16
"""Elements of a piece on a CPU: 256 KiB in float32, so that a few of them fit into a core's second-level cache."""

_DEVICE_CHUNK = 1 << 24
"""The same on other devices, where starting an operation costs more than memory."""


def pieces(count: int, device: torch.device | str, chunk: int = CHUNK) -> Iterator[slice]:
    """Slices that cover 0 .. count - 1 in order; of `chunk` elements on a CPU, longer ones elsewhere."""
    step = chunk if device_type(device) == "cpu" else max(chunk, _DEVICE_CHUNK)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
