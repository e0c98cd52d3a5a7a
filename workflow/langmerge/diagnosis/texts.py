"""The sentences that the models read: the same ids in every language, tokenised alike by every model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from langmerge import models, provenance
from langmerge.diagnosis.settings import Settings
from langmerge.pairs import read_column
from langmerge.prompts import Encoded, encode_text
from langmerge.provenance import InputError
from langmerge.sentences import LEAST


@dataclass(frozen=True)
class Texts:
    """n sentences of one language: ``encoded`` with the sentence as target span, ``sizes`` [n] its UTF-8 bytes."""

    language: str
    ids: tuple[str, ...]
    encoded: tuple[Encoded, ...]
    sizes: np.ndarray

    @property
    def tokens(self) -> int:
        """Tokens of all sequences."""
        return sum(len(row.ids) for row in self.encoded)


def read_parallel(settings: Settings, folders: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """By language its first sentences whose ids every language of a pair has, by id and in the same order.

    ``folders`` hold the texts by language (``<split>.jsonl`` with ``id`` and columns of that language and the pivot).
    :class:`InputError` if one is missing or fewer than four ids are common.
    """
    columns = {}
    for code in settings.codes:
        holding = [code] if code in folders else sorted(folders) if code == settings.pivot else []
        if not holding:
            raise InputError(f"languages: no texts of {code!r}; expected the input pairs/{code}")
        columns[code] = read_column(folders[holding[0]] / f"{settings.split}.jsonl", code)
    first, *rest = columns.values()
    ids = [key for key in first if all(key in column for column in rest)][: settings.sentences]
    if len(ids) < LEAST:
        raise InputError(
            f"{settings.split}.jsonl of {', '.join(settings.codes)}: {len(ids)} ids in common; representations are "
            f"compared on parallel sentences, so {LEAST} or more are needed. Use corpora that are parallel by id"
        )
    return {code: {key: column[key] for key in ids} for code, column in columns.items()}


def encode_alike(
    settings: Settings, sentences: Mapping[str, Mapping[str, str]], folders: Mapping[str, Path]
) -> dict[str, Texts]:
    """The sentences as tokens, by language; :class:`InputError` if the models' tokenizers do not agree on them."""
    found: dict[str, tuple[str, dict[str, list[Encoded]]]] = {}
    for name, folder in folders.items():
        files = [folder / file for file in models.TOKENIZER_FILES if (folder / file).is_file()]
        digest = provenance.canonical([[file.name, provenance.sha256_file(file)] for file in files])
        if digest in found:
            continue
        tokenizer = models.load_tokenizer(folder)
        encoded = {
            code: [encode_text(tokenizer, text, code, settings.tag) for text in column.values()]
            for code, column in sentences.items()
        }
        for other, known in found.values():
            if known != encoded:
                raise InputError(
                    f"{folder}: the tokenizer of {name!r} gives other tokens than that of {other!r}; between their "
                    "weights there is no line. Diagnose models that share a tokenizer"
                )
        found[digest] = name, encoded
    _, result = next(iter(found.values()))
    for code, rows in result.items():
        for key, row in zip(sentences[code], rows, strict=True):
            if row.target[0] < 1 or row.target[1] <= row.target[0]:
                raise InputError(
                    f"sentence {key!r} of {code}: no token that another stands before; the tokenizer needs a "
                    "beginning-of-sequence token, or the spec a `tag`"
                )
    sizes = {code: np.array([len(text.encode()) for text in column.values()]) for code, column in sentences.items()}
    return {code: Texts(code, tuple(sentences[code]), tuple(rows), sizes[code]) for code, rows in result.items()}
