"""Moses: two text files, one sentence a line, aligned by line number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from langmerge.corpora.readers.columns import Raw
from langmerge.corpora.readers.files import count_lines, lines
from langmerge.provenance import InputError


def rows(pivot: Path, target: Path) -> Iterator[Raw]:
    """The aligned lines (either file may be .gz).

    The lines are counted before any is given out, since a missing one shifts all that follow and a limit might end the
    reading before the files' ends. Raises :class:`InputError` if the counts differ.
    """
    counts = [count_lines(path) for path in (pivot, target)]
    if counts[0] != counts[1]:
        raise InputError(
            f"{pivot} has {counts[0]} lines, {target} has {counts[1]}; expected as many, line by line translations of "
            "each other: fetch both again, from the same release"
        )
    for (_, first), (_, second) in zip(lines(pivot), lines(target), strict=True):
        yield None, first, second
