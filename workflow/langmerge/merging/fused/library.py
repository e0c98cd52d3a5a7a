"""The C library of the inner loops: compiled on first use for the machine at hand and kept in the user's cache.

Nothing needs it: without a C compiler, or with LANGMERGE_FUSED=0, torch does the same work.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from langmerge.merging.elements import BFLOAT16, FLOAT16, FLOAT32

SOURCES = tuple(sorted(Path(__file__).parent.glob("*.[ch]")))
FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden")
"""No -ffast-math, and no contraction: results are those of the operations as they are written."""

KINDS = {FLOAT32: 0, BFLOAT16: 1, FLOAT16: 2}
"""Element types that the loops read and write."""


class Values(ctypes.Structure):
    """`values_t`: entries as stored; no data: all 0."""

    _fields_ = (("data", ctypes.c_void_p), ("kind", ctypes.c_int64))


class Vector(ctypes.Structure):
    """`vector_t`: a task vector and what a method does to it; see vectors.h."""

    _fields_ = (
        ("model", Values),
        ("base", Values),
        ("keys", ctypes.c_void_p),
        ("ranks", ctypes.c_void_p),
        ("mask", ctypes.c_void_p),
        ("drop", ctypes.c_int64),
        ("rescale", ctypes.c_int64),
        ("cuts", ctypes.c_int64),
        ("last", ctypes.c_int64 * 2),
        ("first", ctypes.c_int64 * 2),
        ("limit", ctypes.c_uint32),
        ("slope", ctypes.c_float),
        ("offset", ctypes.c_float),
        ("factor", ctypes.c_float),
        ("match", ctypes.c_float),
        ("rematch", ctypes.c_float),
        ("threshold", ctypes.c_float * 2),
    )
    kept_alive: Any


_POINTER, _INDEX, _FLOAT, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int

_FUNCTIONS = {
    "all_finite": (_INT, Values, _INDEX),
    "onto": (None, Values, _POINTER, _FLOAT, _INDEX, _POINTER),
    "weighted": (None, _POINTER, _INDEX, _POINTER, _FLOAT, _INDEX, _INDEX, _POINTER),
    "elect": (
        *(_INT, _POINTER, _INDEX, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER),
        *(_INDEX, _FLOAT, _INDEX, _INDEX, _POINTER),
    ),
    "majority": (_INDEX, _POINTER, _INDEX, _INDEX, _INDEX),
    "sample": (_INDEX, _POINTER, _INDEX, _INDEX, _INDEX, _INDEX, _POINTER),
    "count_inside": (
        *(None, _POINTER, _INDEX, _INDEX, _INDEX),
        *(_POINTER, _POINTER, _POINTER, _POINTER, _POINTER),
    ),
    "find_equal": (_INDEX, _POINTER, _INDEX, _INDEX, _INDEX, _FLOAT, _INDEX),
    "absolute_sum": (ctypes.c_double, _POINTER, _INDEX, _INDEX),
    "dots": (_INT, _POINTER, _INDEX, _INDEX, _POINTER),
    "describe": (_INT, _POINTER, _INDEX, _INDEX, _POINTER, _POINTER),
    "finish": (_INDEX, Values, _POINTER, _POINTER, _INDEX, _INDEX, _POINTER, _INDEX, Values, _POINTER),
    "deviations": (None, _POINTER, _INDEX, _INDEX, _POINTER, _POINTER, _INDEX),
    "squares_above": (_INDEX, _POINTER, _INDEX, _POINTER, _FLOAT, _FLOAT, _INDEX, _POINTER, _POINTER),
    "sce": (_INT, _POINTER, _INDEX, _POINTER, _FLOAT, _POINTER, _FLOAT, _INDEX, _INDEX, _POINTER),
    "row_ranks": (_INT, _POINTER, _INDEX, _INDEX, _POINTER),
    "pack_by_share": (None, _POINTER, _INDEX, _INDEX, _POINTER),
    "pack_by_rank": (_INT, _POINTER, _INDEX, _INDEX, _INDEX, _POINTER),
}
"""Result and arguments of each function; it holds no lock of Python's while it runs."""


@cache
def library() -> ctypes.CDLL | None:
    """The loops, or None where they cannot be had: no compiler, a CPU without fused multiply-add, no cache folder."""
    if os.environ.get("LANGMERGE_FUSED") == "0":
        return None
    try:
        loaded = ctypes.CDLL(str(_compiled()))
    except (OSError, subprocess.SubprocessError):
        return None
    for name, (result, *arguments) in _FUNCTIONS.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


def _compiled() -> Path:
    """The shared library for this source, compiler flags and CPU; OSError or SubprocessError if it cannot be made."""
    source = b"".join(path.read_bytes() for path in SOURCES)
    digest = hashlib.blake2b(source + "\0".join((*FLAGS, _cpu())).encode(), digest_size=12).hexdigest()
    place = _cache() / f"fused-{digest}.so"
    if place.is_file():
        return place
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        raise FileNotFoundError("no C compiler")
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        made = Path(folder) / "made.so"
        files = [str(path) for path in SOURCES if path.suffix == ".c"]
        command = [compiler, *FLAGS, "-shared", "-fPIC", "-o", str(made), *files, "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        made.replace(place)  # whole or not at all, whoever else compiles
    return place


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "langmerge"


def _cpu() -> str:
    """What tells machines apart on which compiled code may differ: a home folder can be shared by many."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return f"{platform.machine()} {line}"
    return f"{platform.node()} {platform.machine()} {platform.processor()}"
