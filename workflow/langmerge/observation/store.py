"""The files of an observation: safetensors that are filled in place, so that they need not fit into memory."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from langmerge.spans import SPANS

ALIGNMENT = 8  # bytes: where safetensors wants its data to begin
TYPES = {"F32": np.float32, "F64": np.float64, "I16": np.int16, "I32": np.int32, "I64": np.int64}
NAMES = {np.dtype(kind): name for name, kind in TYPES.items()}


def _create(path: Path, header: dict[str, object], size: int) -> int:
    """Write the header and room for ``size`` bytes; where the data begin."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + size)
    return 8 + len(text)


class Pooled:
    """``representations.safetensors``: fp32 [n, d] by ``<direction>/<span>/<pool>/<layer>``, written row by row.

    ``sizes`` maps directions to their number of sentences; rows are counted through all directions in that order. The
    pages are the system's to write back, so resident memory does not grow with the sentences.
    """

    def __init__(self, path: Path, sizes: Mapping[str, int], pools: Sequence[str], layers: int, width: int) -> None:
        shape = (len(SPANS), len(pools), layers + 1, sum(sizes.values()), width)
        header: dict[str, object] = {}
        start = 0
        for span in SPANS:
            for pool in pools:
                for layer in range(layers + 1):
                    for direction, n in sizes.items():
                        end = start + 4 * n * width
                        header[f"{direction}/{span}/{pool}/{layer}"] = {
                            "dtype": "F32",
                            "shape": [n, width],
                            "data_offsets": [start, end],
                        }
                        start = end
        offset = _create(path, header, start)
        self._array = np.memmap(path, np.float32, "r+", offset, shape)

    def put(self, rows: torch.Tensor, states: torch.Tensor) -> None:
        """Write ``states`` [span, pool, layer, B, d] of the sentences ``rows`` [B]."""
        self._array[:, :, :, rows.cpu().numpy()] = states.cpu().numpy()

    def close(self) -> None:
        """Write all pages back."""
        self._array.flush()


def write_tensors(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays, of any strides, as safetensors in the order of their names; copies none of them in memory."""
    header: dict[str, object] = {}
    start = 0
    for name, array in sorted(arrays.items()):
        end = start + math.prod(array.shape) * array.itemsize
        header[name] = {"dtype": NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [start, end]}
        start = end
    offset = _create(path, header, start)
    for _, array in sorted(arrays.items()):
        if array.size:
            slot = np.memmap(path, array.dtype, "r+", offset, array.shape)
            slot[...] = array
            slot.flush()
        offset += array.size * array.itemsize
