"""JSON lines, tab-separated values and parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from langmerge.corpora.readers.columns import Raw, Wanted, pairs
from langmerge.corpora.readers.files import lines
from langmerge.provenance import InputError


def jsonl(path: Path, wanted: Wanted) -> Iterator[Raw]:
    """One JSON object a line (also .gz), blank lines skipped."""
    return pairs(objects(path), wanted)


def objects(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The JSON objects of a file with the numbers of their lines from 1, blank lines skipped.

    Raises :class:`InputError` naming file and line for what is no JSON object.
    """
    for number, line in lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path}, line {number}: not valid JSON ({error.msg}, column {error.colno}); expected one object a line"
            ) from None
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}: expected a JSON object, found {line.strip()[:40]!r}")
        yield number, row


def records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows of a table of tab-separated values with a header, with the numbers of their lines, blank ones skipped.

    Quotation marks are text. Raises :class:`InputError` naming file and line where a row is not as wide as the header.
    """
    content = lines(path)
    header = next(content)[1].split("\t")
    for number, line in content:
        cells = line.split("\t")
        if not line.strip():
            continue
        if len(cells) != len(header):
            raise InputError(
                f"{path}, line {number}: expected {len(header)} columns between tabs as in the header, found "
                f"{len(cells)}: {line[:40]!r}"
            )
        yield number, dict(zip(header, cells, strict=True))


def tsv(path: Path, wanted: Wanted) -> Iterator[Raw]:
    """Tab-separated values (also .gz), quotation marks being text; a header, or columns by number from 0.

    A blank line is a row without sentences; a line that ends before a wanted column is an :class:`InputError`.
    """

    content = lines(path)
    first = next(content)
    if wanted.numbered():
        header = [str(i) for i in range(1 + max(map(int, wanted.columns.values())))]
        content = chain([first], content)
    else:
        header = first[1].split("\t")
    found = wanted.sides(header)
    needed = max(header.index(name) for name in found) + 1

    def rows() -> Iterator[tuple[int, Mapping[str, Any]]]:
        for number, line in content:
            cells = line.split("\t")
            if line.strip() and len(cells) < needed:
                raise InputError(
                    f"{path}, line {number}: expected at least {needed} columns between tabs, found {len(cells)}: "
                    f"{line[:40]!r}"
                )
            yield number, dict(zip(header, cells, strict=False))

    yield from pairs(rows(), wanted)


def parquet(path: Path, wanted: Wanted) -> Iterator[Raw]:
    """A parquet file; only the wanted columns are read, batch by batch."""
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        reason = str(error).split(". ")[0]
        raise InputError(f"{path}: not a parquet file ({reason}); name its `format` if it is another") from None
    with file:
        present = file.schema_arrow.names
        found = [wanted.find_id(present), *wanted.sides(present)]
        names = {name if name in present else name.partition(".")[0] for name in found if name}

        def rows() -> Iterator[tuple[int, Mapping[str, Any]]]:
            number = 0
            try:
                for batch in file.iter_batches(batch_size=4096, columns=sorted(names)):
                    yield from enumerate(batch.to_pylist(), number + 1)
                    number += batch.num_rows
            except OSError as error:
                raise InputError(f"{path}, after row {number}: damaged ({error}); fetch it again") from None

        yield from pairs(rows(), wanted)
