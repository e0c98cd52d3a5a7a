"""``python -m langmerge.corpora.prepare``: the sentence pairs of one language with the pivot."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from langmerge import provenance
from langmerge.command import parse
from langmerge.config import EmbeddedCorpus, FilesCorpus
from langmerge.corpora import readers
from langmerge.corpora.cleaning import HeldOut, Pair, Tally, clean
from langmerge.corpora.embedded import WITH_SPANS, Embedded
from langmerge.corpora.transformed import transformed, transformer
from langmerge.provenance import InputError

KEY = "id"  # of every row; so no language may be called that


def prepare(corpus: EmbeddedCorpus | FilesCorpus, pivot: str, language: str, folder: Path) -> dict[str, Any]:
    """Write ``<split>.jsonl`` into ``folder`` and return the statistics.

    Held-out splits come first, because train is compared with them. Raises :class:`InputError` if a source is
    missing or broken, if nothing is left of a split, or if a language is called ``id``.
    """
    if KEY in (pivot, language):
        raise InputError(
            f'languages: the code "{KEY}" is taken by the rows\' identifier; write Indonesian as "ind" and name its '
            f"column under `columns` (language: {KEY})"
        )
    embedded = Embedded(corpus, pivot, language) if isinstance(corpus, EmbeddedCorpus) else None
    change = transformer(corpus, pivot, language) if isinstance(corpus, FilesCorpus) else None
    splits = list(embedded.splits if embedded else corpus.splits)  # type: ignore[union-attr]
    held_out = {split: HeldOut() for split in splits if split != "train"}
    tallies = {split: Tally(pivot, language) for split in splits}
    for split in [*held_out, "train"]:
        others = held_out if split == "train" else None
        if isinstance(corpus, FilesCorpus):
            pairs = noted(read(corpus, split, tallies[split], others), held_out.get(split))
            if change:  # of what is kept: so all transforms have the same sentences
                pairs = transformed(pairs, change[0], tallies[split])
        else:
            assert embedded
            # Taken as they are: normalising could move the words away from their spans.
            pairs = noted(counted(embedded.pairs(split), tallies[split], others), held_out.get(split))
            if split in WITH_SPANS:
                write_rows(embedded.spans(split), folder / f"spans.{split}.jsonl")
        write_pairs(pairs, folder / f"{split}.jsonl", pivot, language)
    return {
        "pivot": pivot,
        "language": language,
        "splits": {split: tallies[split].to_dict() for split in splits},
        "contamination": {split: dict(counts) for split, counts in tallies["train"].contaminated.items()},
    } | ({"transform": change[1]} if change else {})


def counted(pairs: Iterable[Pair], tally: Tally, held_out: dict[str, HeldOut] | None) -> Iterable[Pair]:
    """All pairs, unchanged, counted on their way."""
    for pair in pairs:
        tally.read += 1
        tally.keep(pair)
        if held_out is not None:
            tally.compare(pair, held_out)
        yield pair


def noted(pairs: Iterable[Pair], held_out: HeldOut | None) -> Iterable[Pair]:
    """All pairs, unchanged; those of a held-out split are noted on their way."""
    for pair in pairs:
        if held_out is not None:
            held_out.add(pair)
        yield pair


def read(corpus: FilesCorpus, split: str, tally: Tally, held_out: dict[str, HeldOut] | None) -> Iterable[Pair]:
    """The cleaned pairs of one split, of a transform the base's; :class:`InputError` at the end if none are left."""
    source, pivot, language = corpus.splits[split], tally.pivot, corpus.source_of(tally.language)
    rows = readers.read(source, split, pivot, language)
    yield from clean(rows, corpus.filters, source.limit, tally, held_out, source.one_sided)
    if not tally.kept:
        dropped = ", ".join(f"{count} by {reason}" for reason, count in tally.dropped.most_common())
        (worst, _), *_ = tally.dropped.most_common()
        raise InputError(
            f"{readers.place(source, pivot, language)}, split {split}: nothing left of {tally.read} rows; dropped: "
            f"{dropped}; {MENDING.get(worst, f'loosen corpus.filters.{worst}')}"
        )


MENDING = {
    "empty": "check `columns`: one side is always empty",
    "duplicate": "set corpus.filters.deduplicate to false",
    "contaminated": "let train, dev and test be different sentences (or set corpus.filters.drop_contaminated to false)",
}


def write_pairs(pairs: Iterable[Pair], path: Path, pivot: str, language: str) -> None:
    """Write rows ``{"id", pivot, language}``, of one-sided text ``{"id", language}``."""
    rows = ({KEY: pair.id} | ({pivot: pair.pivot} if pair.pivot else {}) | {language: pair.target} for pair in pairs)
    write_rows(rows, path)


def write_rows(rows: Iterable[dict[str, Any]], path: Path) -> None:
    """Write JSON lines; the folder is a job's own, which appears whole or not at all."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main(arguments: list[str] | None = None) -> None:
    """Write ``train.jsonl``, ``dev.jsonl``, ``test.jsonl``, further splits and ``statistics.json`` into ``--out``.

    The spec has ``corpus`` (a section of the study file), ``pivot`` and ``language``. An embedded corpus also gets
    ``spans.dev.jsonl`` and ``spans.test.jsonl``.
    """
    command = parse("langmerge.corpora.prepare", __doc__, arguments)
    section = command.spec["corpus"]
    kind = EmbeddedCorpus if section.get("kind") == "embedded" else FilesCorpus
    corpus = kind.model_validate(section)
    with provenance.result(command.out, command.spec, command.code, command.environment) as job:
        statistics = prepare(corpus, command.spec["pivot"], command.spec["language"], job.folder)
        provenance.write_json(job.folder / "statistics.json", statistics)


if __name__ == "__main__":
    provenance.run(main)
