"""Models with different tokenizers: views of them that agree on what each row of the embeddings means.

`union` gives all models the union of the vocabularies (see `langmerge.merging.tokenizer_union`), `body` the
base's vocabulary together with the base's embeddings, so that only the body is merged. Either way the views are
sources like others: what comes out of a merge has the unified tokenizer, and `vocab_size` and the ids of special
tokens in config.json to match.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langmerge.merging.compatibility import INPUT_EMBEDDINGS, OUTPUT_EMBEDDINGS, token_tensors, vocabulary
from langmerge.merging.elements import Elements, element_type
from langmerge.merging.lazy import torch
from langmerge.merging.reader import ModelFolder
from langmerge.merging.recipe import Rule
from langmerge.merging.sources import Source, TensorEntry
from langmerge.merging.tokenizer_union import differing, unite

if TYPE_CHECKING:
    from torch import Tensor

How = Literal["union", "body"]

SUPERSEDED = (
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "added_tokens.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)
"""Other forms of a tokenizer, which a union leaves out: they would still hold the base's vocabulary."""

BRIDGE = 1 << 12
"""Unwanted bytes between two rows that are read along: a read of its own would cost more."""


@dataclass(frozen=True)
class Unified:
    """Views by model name; `rules` to be put before a recipe's own (empty for a union); `notes` for the statistics."""

    sources: dict[str, Source]
    rules: tuple[Rule, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)


def unify(
    sources: Mapping[str, Path | Source], base: str, how: How = "union", *, pad_to_multiple_of: int = 1
) -> Unified:
    """Views of all `sources` with one vocabulary.

    Args:
        sources: name -> folder or source; the order decides that of the tokens which the base lacks.
        base: name of the model whose tokens keep their ids, and whose tokenizer files and special tokens are used.
        how: `union`, or `body` (the base's tokenizer; every view has the base's embeddings and head).
        pad_to_multiple_of: for a union, the number of rows of the embeddings is rounded up to this.

    Rows of the base that no token has (padding) stay; tokens that the base lacks take the ids from the base's
    last token on, padding first.

    Raises ValueError for an unknown base or `how`, a model without tokenizer.json, and what `unite` refuses.
    """
    if base not in sources:
        raise ValueError(f"vocabulary: no model {base!r} to take as base; known: {', '.join(sources)}")
    if how not in ("union", "body"):
        raise ValueError(f"vocabulary: {how!r} is not one of union, body")
    if pad_to_multiple_of < 1:
        raise ValueError(f"vocabulary: pad_to_multiple_of is {pad_to_multiple_of}; expected at least 1")
    opened: dict[str, Source] = {
        name: source if isinstance(source, Source) else ModelFolder(name, source) for name, source in sources.items()
    }
    known = token_tensors(opened[base].tensors)
    if not known:
        raise ValueError(f"model {base!r}: no token embeddings found; known: {', '.join(INPUT_EMBEDDINGS)}")
    rows = _Rows(opened, base) if how == "body" else _united_rows(opened, base, pad_to_multiple_of)
    views: dict[str, Source] = {name: VocabularyView(rows, name) for name in opened}
    notes = {"vocabulary": how, "vocabulary_base": base, **rows.notes}
    if how == "union":
        return Unified(views, (), notes)
    pattern = "|".join(map(re.escape, known))
    return Unified(views, (Rule(tensors=pattern, method="passthrough", models=(base,)),), notes)


class _Rows:
    """Which row of which model stands where in the unified embeddings; shared by the views of all models.

    `ids[model]` is an int64 tensor: the model's own id of the token of each row, -1 where it lacks it. Beyond the
    end of `ids` the base has its own rows and the others none. `files` replaces files of the base's folder.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        base: str,
        ids: Mapping[str, Tensor] | None = None,
        tokenizer: Mapping[str, Any] | None = None,
        multiple: int = 1,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        self.sources = sources
        self.base = base
        self.ids = ids or {name: torch.empty(0, dtype=torch.int64) for name in sources}
        self.tokenizer = tokenizer
        self.multiple = multiple
        self.notes = notes or {}
        self._last: tuple[tuple[str, int, int], Tensor] | None = None

    def number(self, tensor: str) -> int:
        """Rows of a tensor: the base's or, if there are more, the tokens; rounded up to the multiple."""
        source = self.sources[self.base]
        stored = source.tensors[stored_name(source, tensor)].shape[0]
        return -(-max(stored, len(self.ids[self.base])) // self.multiple) * self.multiple

    def own(self, name: str, tensor: str, first: int, last: int) -> Tensor:
        """Row in model `name` of each of the rows first .. last - 1, or -1: int64 (last - first,)."""
        rows = self.ids[name][first:last]
        if len(rows) < last - first:
            padding = torch.arange(first + len(rows), last)
            rows = torch.cat([rows, padding if name == self.base else torch.full_like(padding, -1)])
        source = self.sources[name]
        return rows.masked_fill(rows >= source.tensors[stored_name(source, tensor)].shape[0], -1)

    def common(self, tensor: str, first: int, last: int) -> Tensor:
        """What a model without these rows is given: the base's row, else the mean of those who have it, else 0.

        float32 (last - first, columns). The last result is kept, since several models ask for it.
        """
        key, known = (tensor, first, last), self._last
        if known is not None and known[0] == key:
            return known[1]
        source = self.sources[self.base]
        own = self.own(self.base, tensor, first, last)
        result = torch.zeros(last - first, columns_of(source, tensor))
        read_rows(source, tensor, own, result)
        lacking = own < 0
        if lacking.any():
            total, owners = torch.zeros_like(result), torch.zeros(last - first)
            for name, other in self.sources.items():
                rows = self.own(name, tensor, first, last).masked_fill(~lacking, -1)
                if name != self.base and (rows >= 0).any():
                    total += read_rows(other, tensor, rows, torch.zeros_like(result))
                    owners += rows >= 0
            result += total.div_(owners.clamp_(min=1).unsqueeze(1))
        self._last = (key, result)
        return result


class VocabularyView(Source):
    """A model in the row order of a unified vocabulary; made by `unify`.

    Embeddings, output embeddings and their bias have the unified rows: the model's own where it has the token,
    else the base's (its task vector is zero there), else the mean of the models that have it, which for one owner is
    that owner's row. They are read as float32, so that nothing is rounded in between; `tensors` keeps the stored
    types. Everything else is the model's own. Tokenizer files and ids of special tokens are the unified ones.
    """

    def __init__(self, rows: _Rows, name: str) -> None:
        self.name = name
        self._rows = rows
        self._source = rows.sources[name]
        self.folder = rows.sources[rows.base].folder
        self.tensors = dict(self._source.tensors)
        self._tokens = set(token_tensors(self.tensors))
        for tensor in self._tokens:
            entry = self.tensors[tensor]
            self.tensors[tensor] = TensorEntry(tensor, entry.dtype, (rows.number(tensor), *entry.shape[1:]))

    def read(self, tensor: str, start: int, count: int) -> Tensor:
        """Elements start .. start + count - 1 of the flattened tensor, shape (count,); float32 for rows of tokens."""
        if tensor not in self._tokens:
            return self._source.read(tensor, start, count)
        columns = columns_of(self._source, tensor)
        first, last = start // columns, -(-(start + count) // columns)
        own = self._rows.own(self.name, tensor, first, last)
        if len(own) and own[0] >= 0 and (own.diff() == 1).all():
            begin = (int(own[0]) - first) * columns + start
            return self._source.read(stored_name(self._source, tensor), begin, count).to(torch.float32)
        if (own < 0).any() or self.name == self._rows.base:
            values = self._rows.common(tensor, first, last).clone()
        else:
            values = torch.empty(last - first, columns)
        if self.name != self._rows.base:
            read_rows(self._source, tensor, own, values)
        return values.flatten()[start - first * columns :][:count]

    def elements(self, tensor: str, start: int, count: int) -> Elements:
        """See the base class."""
        if tensor in self._tokens:
            return super().elements(tensor, start, count)
        return self._source.elements(tensor, start, count)

    def arranged(self, values: Tensor) -> Tensor:
        """Values (own tokens,) by the model's own ids, e.g. counts, in the unified order; 0 where it lacks a token."""
        tensor = token_tensors(self.tensors)[0]
        own = self._rows.own(self.name, tensor, 0, self.tensors[tensor].shape[0])
        own = own.masked_fill(own >= len(values), -1)
        return torch.where(own < 0, 0, values[own.clamp(min=0)])

    def json(self, file: str) -> dict[str, Any] | None:
        """A JSON file of the model, or None; see `file`."""
        if file == "config.json":
            return self._config()
        if self._rows.tokenizer is not None:
            if file == "tokenizer.json":
                return dict(self._rows.tokenizer)
            if file == "tokenizer_config.json":
                return self._tokenizer_config()
            if file in SUPERSEDED:
                return None
        return self._rows.sources[self._rows.base].json(file)

    def file(self, name: str) -> bytes | None:
        """Content of a file of the model, None if there is none.

        config.json is the model's own but for its vocabulary; the rest is the base's, for a union with the
        unified tokenizer.json and without the SUPERSEDED.
        """
        union = self._rows.tokenizer is not None
        if name == "config.json" or (union and name in ("tokenizer.json", "tokenizer_config.json")):
            data = self.json(name)
            return None if data is None else (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()
        path = self.folder / name
        return path.read_bytes() if path.is_file() and not (union and name in SUPERSEDED) else None

    def identity(self) -> Any:
        """See the base class: the identities of all models and the unified tokenizer."""
        rows = self._rows
        sources = [source.identity() for source in rows.sources.values()]
        if None in sources:
            return None
        tokenizer = json.dumps(rows.tokenizer).encode()
        place = [list(rows.sources).index(name) for name in (self.name, rows.base)]
        return ["vocabulary", place, rows.multiple, hashlib.blake2b(tokenizer, digest_size=16).hexdigest(), sources]

    def _config(self) -> dict[str, Any] | None:
        """config.json with the number of rows and the base's ids of special tokens."""
        config = copy.deepcopy(self._source.json("config.json"))
        if config is None:
            return None
        base = self._rows.sources[self._rows.base].json("config.json") or {}
        rows = self.tensors[token_tensors(self.tensors)[0]].shape[0]
        for part, of_base in ((config, base), (config.get("text_config"), base.get("text_config") or {})):
            if not isinstance(part, dict):
                continue
            if "vocab_size" in part:
                part["vocab_size"] = rows
            for key in [key for key in part if key.endswith("_token_id")]:
                del part[key]
            part |= {key: value for key, value in of_base.items() if key.endswith("_token_id")}
        return config

    def _tokenizer_config(self) -> dict[str, Any] | None:
        """The base's tokenizer_config.json; its table of added tokens, if it has one, with those of the union."""
        config = self._rows.sources[self._rows.base].json("tokenizer_config.json")
        if config is None or self._rows.tokenizer is None or "added_tokens_decoder" not in config:
            return config
        table = dict(config["added_tokens_decoder"])
        for row in self._rows.tokenizer["added_tokens"]:
            table.setdefault(str(row["id"]), {key: value for key, value in row.items() if key != "id"})
        return {**config, "added_tokens_decoder": table}

    def close(self) -> None:
        """Close what was opened, the other models of the vocabulary too; they open again when read."""
        for source in self._rows.sources.values():
            source.close()


def stored_name(source: Source, tensor: str) -> str:
    """Where a source stores a tensor: an output embedding that it does not store is its input embedding if tied.

    Raises ValueError if it has neither.
    """
    if tensor in source.tensors:
        return tensor
    inputs = [name for name in source.tensors if name.endswith(INPUT_EMBEDDINGS)]
    if (
        tensor in OUTPUT_EMBEDDINGS
        and len(inputs) == 1
        and (source.json("config.json") or {}).get("tie_word_embeddings")
    ):
        return inputs[0]
    raise ValueError(f"model {source.name!r}: no tensor {tensor!r}, which other models have")


def columns_of(source: Source, tensor: str) -> int:
    """Elements of a token's row; 1 for a bias."""
    shape = source.tensors[stored_name(source, tensor)].shape
    return shape[1] if len(shape) > 1 else 1


def read_rows(source: Source, tensor: str, rows: Tensor, out: Tensor) -> Tensor:
    """Put row rows[k] of a tensor into out[k] where rows[k] >= 0; `out` (len(rows), columns) is float32.

    The file is read in ascending order, neighbouring rows in one go.
    """
    where = (rows >= 0).nonzero().squeeze(1)
    if not len(where):
        return out
    wanted, order = rows[where].sort()
    name, columns = stored_name(source, tensor), out.shape[1]
    bridged = max(1, BRIDGE // (columns * source.tensors[name].dtype.itemsize))
    breaks = (wanted.diff() > bridged).nonzero().squeeze(1)
    ends = torch.cat([breaks, torch.tensor([len(wanted) - 1])])
    begins = torch.cat([torch.tensor([0]), breaks + 1])
    firsts, lengths = wanted[begins], wanted[ends] - wanted[begins] + 1
    runs = zip(firsts.tolist(), lengths.tolist(), strict=True)
    read = torch.cat([source.read(name, first * columns, length * columns) for first, length in runs])
    # A run that begins at row f of the tensor begins at row r of what was read: its rows move by r - f.
    moved = (lengths.cumsum(0) - lengths - firsts).repeat_interleave(ends - begins + 1)
    out[where[order]] = read.view(-1, columns)[wanted + moved].to(torch.float32)
    return out


def _united_rows(sources: Mapping[str, Source], base: str, multiple: int) -> _Rows:
    """The rows of a union."""
    tokenizers = {}
    for name, source in sources.items():
        tokenizer = source.json("tokenizer.json")
        if tokenizer is None:
            raise ValueError(
                f"model {name!r}: no tokenizer.json in {source.folder}, which a union of vocabularies needs; save it "
                "with a fast tokenizer (AutoTokenizer.from_pretrained(...).save_pretrained(...))"
            )
        tokenizers[name] = tokenizer
    tokenizer = unite(tokenizers, base)
    united, owns = vocabulary(tokenizer), {name: vocabulary(tokens) for name, tokens in tokenizers.items()}
    first = sources[base]
    stored = [first.tensors[tensor].shape[0] for tensor in token_tensors(first.tensors)]
    ids = {name: torch.full((max(*stored, 1 + max(united.values(), default=-1)),), -1) for name in sources}
    taken = torch.zeros(len(ids[base]), dtype=torch.bool)
    for name, own in owns.items():
        places = _column(united[token] for token in own)
        ids[name][places] = _column(own.values())
        taken[places] = True
    ids[base] = torch.where(taken, ids[base], torch.arange(len(taken)))
    notes = {
        "tokens": int(taken.sum()),
        "tokens_by_model": {name: len(own) for name, own in owns.items()},
        "base_pipeline_in_place_of": differing(tokenizers, base),
    }
    return _Rows(sources, base, ids, tokenizer, multiple, notes)


def _column(values: Iterable[int]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.int64)


class ArrangedCounts(Source):
    """Measured `counts` (own tokens,) of a model in the row order of its view; see `VocabularyView.arranged`."""

    def __init__(self, counts: Source, view: VocabularyView) -> None:
        self.name = counts.name
        self.folder = counts.folder
        self._counts = view.arranged(counts.whole("counts"))
        self.tensors = {"counts": TensorEntry("counts", element_type(self._counts.dtype), tuple(self._counts.shape))}

    def read(self, tensor: str, start: int, count: int) -> Tensor:
        """Counts start .. start + count - 1."""
        return self._counts[start : start + count]
