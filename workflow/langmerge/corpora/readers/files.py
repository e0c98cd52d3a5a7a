"""Opening files: what is missing, empty, cut off or not UTF-8 is said with file and line."""

from __future__ import annotations

import difflib
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from langmerge.provenance import InputError


def check(path: Path) -> Path:
    """``path`` if it is a file with something in it; else :class:`InputError` with the nearest name in its folder."""
    if not path.is_file():
        if not path.parent.is_dir():
            raise InputError(f"{path}: file not found; there is no folder {path.parent}")
        names = sorted(item.name for item in path.parent.iterdir() if item.is_file())
        near = difflib.get_close_matches(path.name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"{path.parent} holds {', '.join(names[:8]) or 'no file'}"
        raise InputError(f"{path}: file not found; {hint}")
    if not path.stat().st_size:
        raise _empty(path)
    return path


def _empty(path: Path) -> InputError:
    return InputError(f"{path}: the file is empty; expected sentence pairs")


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked where it ends in .gz; a broken archive is an :class:`InputError`."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            yield cast(BinaryIO, file)
    except gzip.BadGzipFile as error:
        raise InputError(f"{path}: not a gzip file ({error}); rename it if it is not packed") from None
    except (EOFError, zlib.error) as error:
        raise InputError(f"{path}: the gzip file is cut off or damaged ({error}); fetch it again") from None


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers from 1, without their ends.

    Only a line feed ends a line: other separators that Unicode knows occur inside sentences and would shift one side
    of an aligned pair of files.
    """
    number = 0
    with opened(path) as file:
        for number, raw in enumerate(file, 1):
            try:
                text = raw.decode()
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path}, line {number}, byte {error.start + 1}: not UTF-8 (0x{raw[error.start]:02x}); convert the "
                    "file with `iconv -f ENCODING -t UTF-8`"
                ) from None
            yield number, (text.removeprefix("\ufeff") if number == 1 else text).rstrip("\r\n")
    if not number:
        raise _empty(path)


def count_lines(path: Path) -> int:
    """How many lines :func:`lines` gives; the last need not end in a line feed."""
    total, last = 0, b"\n"
    with opened(path) as file:
        while chunk := file.read(1 << 20):
            total += chunk.count(b"\n")
            last = chunk[-1:]
    return total + (last != b"\n")
