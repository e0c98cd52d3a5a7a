"""Published task sets as items of the workflow (:mod:`langmerge.tasks`), read in the columns that they come in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from langmerge.config import HubDataset
from langmerge.corpora.readers import hub, tables
from langmerge.corpora.readers.files import check
from langmerge.corpora.readers.portions import WHOLE, within
from langmerge.corpora.readers.tasks.cells import Cells
from langmerge.corpora.readers.tasks.items import items
from langmerge.corpora.readers.tasks.labelled import labelled
from langmerge.corpora.readers.tasks.minimal_pairs import identical, multiblimp, repeated, sentences
from langmerge.corpora.readers.tasks.reasoning import commonsense_qa, mgsm, xcopa, xquad
from langmerge.corpora.readers.tasks.summaries import summaries
from langmerge.provenance import InputError

__all__ = ["FORMATS", "identical", "read_task", "repeated"]

Item = dict[str, Any]
Table = Iterator[tuple[int, Mapping[str, Any]]]  # rows with their numbers
# A row's cells and its name by number -> what its split is chosen by, and the item; None where it is left out.
Build = Callable[[Cells, str], tuple[str, Item] | None]

SENTENCES = ("sentence_good", "sentence_bad")
# Format to: its prompt where the source gives none, and (prompt, language, words) -> the builder of its items.
FORMATS: dict[str, tuple[str, Callable[[str, str, Mapping[str, str]], Build]]] = {
    "items": ("", lambda *_: items),
    "blimp": ("", lambda *_: sentences(*SENTENCES, group="phenomenon")),
    "sling": ("", lambda *_: sentences(*SENTENCES, group="phenomenon")),
    "turblimp": ("", lambda *_: sentences(*SENTENCES, group="phenomenon")),
    "clams": ("", lambda *_: sentences(*SENTENCES, group="paradigm")),
    "multiblimp": ("", lambda *_: multiblimp),
    "mgsm": ("{question}", lambda prompt, *_: mgsm(prompt)),
    "xcopa": ("{premise} {connector}", xcopa),
    "xquad": ("{context} {question}", lambda prompt, *_: xquad(prompt)),
    "commonsense_qa": ("Question: {question}\n{options}\nAnswer:", lambda prompt, *_: commonsense_qa(prompt)),
    "afrisenti": ("{text}", lambda prompt, _, words: labelled("afrisenti", "label", prompt, words)),
    "xed": ("{text}", lambda prompt, _, words: labelled("xed", "polarity", prompt, words)),
    "labelled": ("{text}", lambda prompt, _, words: labelled("labelled", "label", prompt, words)),
    "klexikon": ("{text}", lambda prompt, *_: summaries(prompt)),
    "scitldr": ("{text}", lambda prompt, *_: summaries(prompt)),
    "ntrex_headline": ("{text}", lambda prompt, *_: summaries(prompt)),
    "summaries": ("{text}", lambda prompt, *_: summaries(prompt)),
}


def read_task(source: Mapping[str, Any], language: str, split: str) -> list[Item]:
    """The items of one language and split, in the order of the file.

    ``source`` has ``format`` (of :data:`FORMATS`) and either ``path`` (``.jsonl`` or ``.tsv`` with a header, also
    ``.gz``; ``{language}`` and ``{split}`` are filled in) or ``hub`` (a Hub dataset: ``id`` and optionally ``config``,
    ``folder``, ``split``, ``revision``), and optionally

    * ``splits``: {split: what fills ``{split}``},
    * ``portions``: {split: [start, end]}, the share of the file's rows that a split takes, by a hash of the id
      (:mod:`langmerge.corpora.readers.portions`); all where not named,
    * ``columns``: {the format's name: the file's}, with ``id`` and ``group``,
    * ``where``: {the file's column: value}, rows with other values are left out,
    * ``prompts``: {language: text with ``{column}``}, else the format's own,
    * ``codes``: {language: how the source writes it},
    * ``words``: {language: {label or question: word}},
    * ``max_characters``: rows whose prompt and longest choice or answer together are longer are left out,
    * ``limit``: at most so many items, the first.

    Raises ValueError naming file, row and column for what is missing or broken (no gzip, no such column, empty text, a
    label that the set has not, a row in another language, an id that stands twice), and where nothing is left.
    """
    name = str(source["format"])
    if name not in FORMATS:
        raise ValueError(f"unknown format {name!r}; expected one of {', '.join(FORMATS)}")
    own, make = FORMATS[name]
    prompt = (source.get("prompts") or {}).get(language, own)
    words = (source.get("words") or {}).get(language) or {}
    start, end = (source.get("portions") or {}).get(split) or WHOLE
    longest, limit = source.get("max_characters"), source.get("limit")
    found: dict[str, Item] = {}
    read = 0
    try:
        build = make(prompt, language, words)
        place, table = _table(source, language, split)
        for read, cells in enumerate(_rows(place, table, language, source), 1):
            built = build(cells, f"{name}.{read - 1}")
            if built is None or not within(built[0], (start, end)) or (longest and _length(built[1]) > longest):
                continue
            identity = built[1]["id"]
            if identity in found:
                raise ValueError(f"{cells.place}: the id {identity!r} stands twice; name another as `columns`: id")
            found[identity] = built[1]
            if len(found) == limit:
                break
    except InputError as error:
        raise ValueError(str(error)) from None
    if not found:
        raise ValueError(
            f"{place}: nothing left of {read} rows for split {split}; check `where`, `portions`, `words` and "
            "`max_characters`"
        )
    return list(found.values())


def _table(source: Mapping[str, Any], language: str, split: str) -> tuple[str, Table]:
    """The source as messages name it, and its rows."""
    if source.get("hub"):
        dataset = HubDataset.model_validate(source["hub"])
        return hub.name(dataset), hub.records(dataset)
    named = (source.get("splits") or {}).get(split, split)
    path = Path(str(source["path"]).replace("{language}", language).replace("{split}", named))
    tsv = Path(path.name.removesuffix(".gz")).suffix in (".tsv", ".tab")
    return str(path), (tables.records if tsv else tables.objects)(check(path))


def _rows(place: str, table: Table, language: str, source: Mapping[str, Any]) -> Iterator[Cells]:
    """The rows that are asked for; a column ``lang`` must say ``language``, or the source's code for it, in each."""
    codes = (language, (source.get("codes") or {}).get(language, language))
    where = source.get("where") or {}
    for number, row in table:
        if where and not _matches(f"{place}, row {number}", row, where):
            continue
        cells = Cells(f"{place}, row {number}", row, source.get("columns") or {})
        if cells.has("lang") and cells.value("lang") not in codes:
            raise cells.wrong("lang", f"the language {language}", cells.value("lang"))
        yield cells


def _matches(place: str, row: Mapping[str, Any], where: Mapping[str, str]) -> bool:
    """Whether a row has the values that are asked for; ValueError for a column that there is not."""
    if missing := [column for column in where if column not in row]:
        raise ValueError(f"{place}: no column {missing[0]!r}, which `where` names; the columns are {', '.join(row)}")
    return all(str(row[column]) == value for column, value in where.items())


def _length(item: Item) -> int:
    return len(item["prompt"]) + max(map(len, item.get("choices") or [item["answer"]]))
