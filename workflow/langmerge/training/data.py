"""From sentence pairs, texts and examples of tasks on disk to token sequences in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from langmerge.pairs import read_rows
from langmerge.prompts import Encoded, Prompt, encode_pairs, encode_texts
from langmerge.provenance import InputError
from langmerge.tasks import encode, file_of, read_items
from langmerge.training.settings import Component

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Sequences:
    """n token sequences in one flat array.

    ``tokens`` [N] holds all ids, sequence i is ``tokens[offsets[i]:offsets[i + 1]]``, and ``first[i]`` >= 1 is its
    first token that the model is asked to predict (all later ones are asked for too).
    """

    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    first: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.first)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per sequence [n]."""
        return np.diff(self.offsets)


def flatten(ids: Sequence[Sequence[int]], first: Sequence[int]) -> Sequences:
    """Sequences from lists of ids and the first predicted token of each."""
    lengths = np.fromiter((len(row) for row in ids), np.int64, len(ids))
    tokens = np.fromiter((token for row in ids for token in row), np.int32, int(lengths.sum()))
    return Sequences(tokens, np.concatenate([[0], np.cumsum(lengths)]), np.asarray(first, np.int32))


def concatenate(parts: Sequence[Sequences]) -> Sequences:
    """All sequences of ``parts``, in order."""
    lengths = np.concatenate([part.lengths for part in parts])
    return Sequences(
        np.concatenate([part.tokens for part in parts]),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.concatenate([part.first for part in parts]),
    )


# ---- rows ----------------------------------------------------------------------------------------------------------


Row = TypeVar("Row")


def _portion(rows: list[Row], part: Component, file: Path) -> list[Row]:
    start, end = (round(share * len(rows)) for share in part.portion)
    if start >= end:
        raise InputError(f"{file}: portion {list(part.portion)} of its {len(rows)} rows is empty; widen the portion")
    return rows[start:end]


class Corpora:
    """The train splits of the folders in ``inputs`` (``pairs/<lang>``, ``tasks/<lang>``); files of pairs are kept."""

    def __init__(self, inputs: Mapping[str, Path]) -> None:
        self._files = {
            name.removeprefix("pairs/"): Path(folder) / "train.jsonl"
            for name, folder in inputs.items()
            if name.startswith("pairs/")
        }
        self._tasks = {
            name.removeprefix("tasks/"): Path(folder) for name, folder in inputs.items() if name.startswith("tasks/")
        }
        self._rows: dict[Path, list[dict[str, str]]] = {}
        if not self._files and not self._tasks:
            raise InputError(
                'the inputs name no corpus; expected at least one "pairs/<language>" or "tasks/<language>" folder'
            )

    def rows(self, file: Path) -> list[dict[str, str]]:
        """All rows of a file; :class:`InputError` if it has none."""
        if file not in self._rows:
            self._rows[file] = list(read_rows(file))
            if not self._rows[file]:
                raise InputError(f"{file}: the train split is empty; check the corpus and its split sizes")
        return self._rows[file]

    def _holding(self, *languages: str) -> Path | None:
        """The first file that has the columns of all ``languages``: their own, else any."""
        own = [self._files[code] for code in reversed(languages) if code in self._files]
        others = [file for _, file in sorted(self._files.items())]
        for file in [*own, *others]:
            if all(code in self.rows(file)[0] for code in languages):
                return file
        return None

    def texts(self, part: Component) -> list[str]:
        """The sentences of a `text` part."""
        assert part.language is not None
        file = self._holding(part.language)
        if file is None:
            raise self._missing(part.language)
        return [row[part.language] for row in _portion(self.rows(file), part, file)]

    def pairs(self, part: Component) -> list[tuple[str, str]]:
        """The (source, target) pairs of a `translate` part; languages that share no file are joined on ``id``."""
        assert part.source is not None and part.target is not None
        file = self._holding(part.source, part.target)
        if file is not None:
            rows = _portion(self.rows(file), part, file)
            return [(row[part.source], row[part.target]) for row in rows]
        sides = [(code, self._holding(code)) for code in (part.source, part.target)]
        for code, side in sides:
            if side is None:
                raise self._missing(code)
        (_, left), (_, right) = sides
        assert left is not None and right is not None
        targets = {row["id"]: row[part.target] for row in self.rows(right) if "id" in row}
        joined = [
            row | {part.target: targets[row["id"]]} for row in self.rows(left) if "id" in row and row["id"] in targets
        ]
        if not joined:
            raise InputError(
                f"{left} and {right} share no `id`, so {part.label} has no sentence pairs; "
                "train on directions with the pivot, or use a multi-parallel corpus"
            )
        return [(row[part.source], row[part.target]) for row in _portion(joined, part, left)]

    def examples(self, part: Component) -> list[tuple[str, str]]:
        """The (prompt, answer) pairs of an `examples` part; the answer of a choice is its gold one."""
        assert part.language is not None and part.name is not None
        if part.language not in self._tasks:
            raise InputError(
                f"data part {part.label}: the inputs hold no tasks of {part.language!r}; add tasks/{part.language}"
            )
        file = file_of(self._tasks[part.language], part.name, "train")
        items = read_items(file)
        if not items:
            raise InputError(f"{file}: the train split is empty; check the task and its split sizes")
        return [(item.prompt, item.answer) for item in _portion(items, part, file)]

    def _missing(self, code: str) -> InputError:
        held = ", ".join(str(file) for file in self._files.values())
        return InputError(f"no corpus has the column {code!r} (looked in {held}); add pairs/{code} to the inputs")


# ---- tokens --------------------------------------------------------------------------------------------------------


def cut_texts(texts: Sequence[Encoded], loss: str, context: int) -> tuple[list[tuple[int, ...]], list[int]]:
    """Ids and first predicted token of texts; those longer than ``context`` tokens are cut into pieces."""
    ids, first = [], []
    for text in texts:
        for start in range(0, len(text.ids), context):
            piece = text.ids[start : start + context]
            if len(piece) > 1:  # a token alone has nothing to be predicted from
                ids.append(piece)
                first.append(max(1, text.prompt_length) if loss == "target" and start == 0 else 1)
    return ids, first


def encode_part(
    corpora: Corpora, tokenizer: PreTrainedTokenizerBase, part: Component, prompt: Prompt, tag: str, context: int
) -> tuple[Sequences, int]:
    """The sequences of one part and how many were left out because they are longer than ``context`` tokens.

    Texts are cut into pieces instead; pairs and examples would lose their prompt or their answer.
    """
    if part.task == "text":
        assert part.language is not None
        texts = encode_texts(tokenizer, corpora.texts(part), part.language, tag)
        return flatten(*cut_texts(texts, part.loss, context)), 0
    sequences: list[tuple[Sequence[int], int]]
    if part.task == "examples":
        sequences = [encode(tokenizer, question, answer) for question, answer in corpora.examples(part)]
    else:
        assert part.source is not None and part.target is not None
        rows = encode_pairs(prompt, tokenizer, corpora.pairs(part), part.source, part.target)
        sequences = [(row.ids, row.prompt_length) for row in rows]
    kept = [(ids, 1 if part.loss == "all" else max(1, start)) for ids, start in sequences if len(ids) <= context]
    if not kept:
        raise InputError(
            f"data part {part.label}: every one of its {len(sequences)} sequences is longer than context_length "
            f"{context} (shortest {min(len(ids) for ids, _ in sequences)} tokens); raise context_length"
        )
    return flatten([ids for ids, _ in kept], [first for _, first in kept]), len(sequences) - len(kept)
