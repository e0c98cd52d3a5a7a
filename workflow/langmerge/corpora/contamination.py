"""``python -m langmerge.corpora.contamination``: does one language's training text hold another's test sentences?

A specialist of A that is merged into a model for B brings what A was trained on. Both have the pivot's side in
common, so a test sentence of B that stands in A's training pairs is leaked even if B's own pairs are clean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from langmerge import provenance
from langmerge.command import parse
from langmerge.corpora.cleaning import fold
from langmerge.pairs import read_rows

NGRAM = 8  # words


def grams(sentence: str, n: int = NGRAM) -> list[str]:
    """All runs of ``n`` words; a shorter sentence is one run, itself."""
    words = sentence.split()
    return [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)] or [sentence]


class Index:
    """Held-out sentences and their runs of words: all that stays in memory, however large the training text is."""

    def __init__(self, sentences: Iterable[str]) -> None:
        """``sentences`` are folded."""
        self.sentences = set(sentences)
        self.grams = {gram for sentence in self.sentences for gram in grams(sentence)}
        self.lengths = sorted({gram.count(" ") + 1 for gram in self.grams})

    def found_in(self, training: Iterable[str]) -> tuple[set[str], set[str]]:
        """The held-out sentences that stand in a text as sentences, and the runs that stand anywhere inside it."""
        sentences, runs = set(), set()
        for sentence in training:
            if sentence in self.sentences:
                sentences.add(sentence)
            words = sentence.split()
            for n in self.lengths:
                for i in range(len(words) - n + 1):
                    gram = " ".join(words[i : i + n])
                    if gram in self.grams:
                        runs.add(gram)
        return sentences, runs


def overlap(
    training: Mapping[str, Iterable[str]], held_out: Mapping[tuple[str, str], Sequence[str]]
) -> list[dict[str, Any]]:
    """One row for each training text and held-out set, both of folded sentences.

    ``training`` goes by language, ``held_out`` by language and split. A row has ``train``, ``held_out``, ``split``,
    ``sentences`` (in the held-out set), ``shared`` and ``sentence_share`` (those that stand in the training text), and
    ``ngram_share``: the share of sentences with a run of 8 words (shorter ones: all their words) inside the text. An
    empty set (one-sided text) has no row.
    """
    index = Index(sentence for sentences in held_out.values() for sentence in sentences)
    rows = []
    for language, text in training.items():
        whole, runs = index.found_in(text)
        for (other, split), sentences in held_out.items():
            if not sentences:
                continue
            shared = sum(sentence in whole for sentence in sentences)
            touched = sum(any(gram in runs for gram in grams(sentence)) for sentence in sentences)
            rows.append(
                {
                    "train": language,
                    "held_out": other,
                    "split": split,
                    "sentences": len(sentences),
                    "shared": shared,
                    "sentence_share": shared / len(sentences),
                    "ngram_share": touched / len(sentences),
                }
            )
    return rows


def pivot_sentences(path: Path, pivot: str) -> Iterator[str]:
    """The folded sentences of the pivot's column of prepared pairs; :class:`InputError` naming file and line.

    Rows of one-sided text, which have no pivot, are passed over.
    """
    return (fold(row[pivot]) for row in read_rows(path, "id") if row.get(pivot))


def report(folders: Mapping[str, Path], pivot: str) -> dict[str, Any]:
    """Contamination across languages and sizes, from folders that ``langmerge.corpora.prepare`` wrote."""
    statistics = {language: provenance.read_json(folder / "statistics.json") for language, folder in folders.items()}
    held_out = {
        (language, split): list(pivot_sentences(folders[language] / f"{split}.jsonl", pivot))
        for language in folders
        for split in statistics[language]["splits"]
        if split != "train"
    }
    training = {language: pivot_sentences(folder / "train.jsonl", pivot) for language, folder in folders.items()}
    return {
        "pivot": pivot,
        "ngram": NGRAM,
        "across": overlap(training, held_out),
        "within": {language: statistics[language]["contamination"] for language in folders},
        "sizes": [
            {
                "language": language,
                "split": split,
                "pairs": counts["kept"],
                "words": counts["words"][language],
                "pivot_words": counts["words"][pivot],
            }
            for language in folders
            for split, counts in statistics[language]["splits"].items()
        ],
    }


def main(arguments: list[str] | None = None) -> None:
    """Write ``contamination.json`` of the corpora in ``inputs`` (``pairs/<language>``) into ``--out``.

    The spec has ``languages`` and ``pivot``.
    """
    command = parse("langmerge.corpora.contamination", __doc__, arguments)
    names = {language: f"pairs/{language}" for language in command.spec["languages"]}
    inputs = {language: command.input(name) for language, name in names.items()}
    with provenance.result(command.out, command.spec, command.code, command.environment) as job:
        folders = {language: job.read(names[language], folder) for language, folder in inputs.items()}
        provenance.write_json(job.folder / "contamination.json", report(folders, command.spec["pivot"]))


if __name__ == "__main__":
    provenance.run(main)
