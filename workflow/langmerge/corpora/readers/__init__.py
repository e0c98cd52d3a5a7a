"""Readers: sentence pairs from local files of several formats and from the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path

from langmerge.config import Source
from langmerge.corpora.cleaning import Pair
from langmerge.corpora.readers import hub, moses, tables, tmx
from langmerge.corpora.readers.columns import Raw, Wanted
from langmerge.corpora.readers.files import check
from langmerge.corpora.readers.portions import within
from langmerge.provenance import InputError

ENDINGS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".tmx": "tmx",
}


def place(source: Source, pivot: str, language: str) -> str:
    """The source as messages name it: the file, or the Hub dataset."""
    filled = source.filled(pivot, language)
    return hub.name(filled.hub) if filled.hub else str(filled.path)


def read(source: Source, split: str, pivot: str, language: str) -> Iterator[Pair]:
    """The rows of a source in their order; a side that is null or missing is empty.

    The id is the column that `columns` names as ``id``, else ``uid`` where there is such a column, else the row's
    number with a hash of split and file name (and of the language, where the path names it): so one row of a file
    with many languages has the same id in each. Of these the ``portion`` of the source, by a hash of the id or, without
    one, of the row's number. Raises :class:`InputError` naming file, line and what was expected.
    """
    stem, seen = _stem(source, split, language), set()
    for number, (identity, first, second) in enumerate(_rows(source, pivot, language)):
        if not within(str(number) if identity is None else identity, source.portion):
            continue
        if identity is None:
            yield Pair(f"{stem}-{number}", first or "", second or "")
        elif identity in seen:
            raise InputError(
                f"{place(source, pivot, language)}, row {number + 1}: the id {identity!r} stands twice; name a column "
                "without repetitions as `id` under `columns`"
            )
        else:
            seen.add(identity)
            yield Pair(identity, first or "", second or "")


def _stem(source: Source, split: str, language: str) -> str:
    """Eight hexadecimal digits that differ between files, but not with the folder they lie in."""
    parts = [source.hub.id, source.hub.config or "", source.hub.split] if source.hub else [source.path or ""]
    own = any(field in part for part in parts for field in ("{language}", "{pair}", "{code}"))
    names = parts if source.hub else [Path(parts[0]).name]
    text = "\n".join([*names, split, language if own else ""])
    return blake2b(text.encode(), digest_size=4).hexdigest()


def _rows(source: Source, pivot: str, language: str) -> Iterable[Raw]:
    where = place(source, pivot, language)
    source = source.filled(pivot, language)
    wanted = Wanted(where, source.columns, pivot, language, source.one_sided)
    if source.hub:
        return hub.rows(source.hub, wanted)
    path = check(Path(wanted.place))
    if source.target_path:
        if source.format not in ("auto", "moses"):
            raise InputError(f"{path}: `target_path` goes with format moses, not {source.format}; remove one of them")
        return moses.rows(path, check(Path(source.target_path)))
    match _format(source, path):
        case "jsonl":
            return tables.jsonl(path, wanted)
        case "tsv":
            return tables.tsv(path, wanted)
        case "parquet":
            return tables.parquet(path, wanted)
        case "tmx":
            return tmx.rows(path, wanted)
    raise InputError(f"{path}: format moses needs the other side's file; name it as `target_path`")


def _format(source: Source, path: Path) -> str:
    if source.format != "auto":
        return source.format
    ending = Path(path.name.removesuffix(".gz")).suffix
    if ending not in ENDINGS:
        raise InputError(
            f"{path}: unknown ending {ending or 'none'!r}; expected {', '.join(ENDINGS)} (all but parquet also with "
            ".gz), or `target_path` for two aligned files; else say `format: tsv` (or jsonl, parquet, tmx)"
        )
    return ENDINGS[ending]
