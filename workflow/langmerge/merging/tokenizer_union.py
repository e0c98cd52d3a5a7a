"""The union of tokenizers, as data: from the tokenizer.json of several models to one.

The base's tokens keep their ids; the tokens that it lacks follow, model by model in the order of their ids. So:

* BPE: the base's merges come first, the others' after them in their order. A merge of lower rank goes first, hence
  every text is first segmented as by the base, then neighbouring tokens are joined further by merges that only
  others have. Text of the base is segmented as before wherever none of those applies (as in another script), else
  more coarsely, never cut at other places. With `ignore_merges` whole words of the union's vocabulary go first.
* Unigram: a token keeps the score of the first model that has it. Base text changes where a path through new tokens
  scores higher.
* WordLevel: base text changes only where a word was unknown.

Added tokens of every model are matched before all this, as ever, so an ordinary added token of another model also
cuts base text. Normalizer, pre-tokenizer, post-processor and decoder are the base's.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from langmerge.merging.compatibility import vocabulary

KINDS = ("BPE", "Unigram", "WordLevel")
"""Tokenizer models that can be united. WordPiece cannot: its greedy longest match would recut base text."""

PIPELINE = ("normalizer", "pre_tokenizer", "post_processor", "decoder")


def unite(tokenizers: Mapping[str, Mapping[str, Any]], base: str) -> dict[str, Any]:
    """The union tokenizer.json of `tokenizers` (model name -> tokenizer.json), that of `base` first.

    All tokens, added ones too, stand in the model's vocabulary, so that ids do not depend on how a library counts
    added tokens. Ids that no token of the base has stay free (a Unigram list gets placeholders there).

    Raises ValueError if a model is not BPE, Unigram or WordLevel, or if two do not spell text in the same
    symbols (bytes or letters, word-boundary marks, byte fallback): equal strings would not be equal tokens.
    """
    first = tokenizers[base]
    ordered = [first, *(tokenizer for name, tokenizer in tokenizers.items() if name != base)]
    for name, tokenizer in tokenizers.items():
        _check_spelling(base, first, name, tokenizer)
    ids = vocabulary(first)
    free = 1 + max(ids.values(), default=-1)
    for other in ordered[1:]:
        own = vocabulary(other)
        for token in sorted(own, key=own.__getitem__):
            if token not in ids:
                ids[token] = free
                free += 1
    model = dict(first["model"])
    if model["type"] == "Unigram":
        model["vocab"] = _scored(ids, ordered)
    else:
        model["vocab"] = dict(sorted(ids.items(), key=lambda row: row[1]))
    if model["type"] == "BPE":
        model["merges"] = _merges(ordered)
    return {**first, "added_tokens": _added_tokens(ids, ordered), "model": model}


def differing(tokenizers: Mapping[str, Mapping[str, Any]], base: str) -> dict[str, list[str]]:
    """By model: the parts of its pipeline that differ from the base's, which the union uses in their place."""
    rows = {
        name: [part for part in PIPELINE if tokenizer.get(part) != tokenizers[base].get(part)]
        for name, tokenizer in tokenizers.items()
    }
    return {name: parts for name, parts in rows.items() if parts}


def _spelling(tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    """What decides in which symbols a tokenizer writes a text."""
    model = tokenizer["model"]
    steps = json.dumps([tokenizer.get("normalizer"), tokenizer.get("pre_tokenizer")], ensure_ascii=False)
    return {
        "model.type": model.get("type"),
        "byte level": '"ByteLevel"' in steps,
        "word boundary mark": "\u2581" in steps,
        "model.byte_fallback": bool(model.get("byte_fallback")),
        "model.continuing_subword_prefix": model.get("continuing_subword_prefix") or "",
        "model.end_of_word_suffix": model.get("end_of_word_suffix") or "",
    }


def _check_spelling(base: str, first: Mapping[str, Any], name: str, tokenizer: Mapping[str, Any]) -> None:
    kind = (tokenizer.get("model") or {}).get("type")
    if kind not in KINDS:
        raise ValueError(
            f"model {name!r}: tokenizer.json: model.type is {kind!r}; a union is made of {', '.join(KINDS)} "
            "tokenizers. Use vocabulary: body, which keeps the base's tokenizer"
        )
    one, two = _spelling(first), _spelling(tokenizer)
    for key in one:
        if one[key] != two[key]:
            raise ValueError(
                f"tokenizer.json: {key} is {one[key]!r} in model {base!r} but {two[key]!r} in model {name!r}, so "
                "their tokens do not spell text in the same way and have no union. Use vocabulary: body, which "
                "keeps the base's tokenizer"
            )


def _merges(ordered: Iterable[Mapping[str, Any]]) -> list[list[str] | str]:
    """Merges of all, each once, in order; written as the first writes them, or as pairs where a token has a space."""
    pairs: dict[tuple[str, str], None] = {}
    as_text = False
    for number, tokenizer in enumerate(ordered):
        merges = tokenizer["model"].get("merges") or []
        as_text = as_text or (number == 0 and bool(merges) and isinstance(merges[0], str))
        for merge in merges:
            left, right = merge.split(" ") if isinstance(merge, str) else merge
            pairs[left, right] = None
    if as_text and not any(" " in part for pair in pairs for part in pair):
        return [" ".join(pair) for pair in pairs]
    return [list(pair) for pair in pairs]


def _scored(ids: Mapping[str, int], ordered: Iterable[Mapping[str, Any]]) -> list[list[Any]]:
    """Unigram's list [token, score] by id; tokens without a score, and free ids, get the base's lowest."""
    scores: dict[str, float] = {}
    lowest = None
    for tokenizer in ordered:
        rows = tokenizer["model"]["vocab"]
        lowest = min((row[1] for row in rows), default=0.0) if lowest is None else lowest
        for token, score in rows:
            scores.setdefault(token, score)
    rows = [[f"<free_{index}>", lowest] for index in range(1 + max(ids.values(), default=-1))]
    for token, index in ids.items():
        rows[index] = [token, scores.get(token, lowest)]
    return rows


def _added_tokens(ids: Mapping[str, int], ordered: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Added tokens of all by id; an ordinary token of an earlier model becomes added only if it is special."""
    rows: dict[str, dict[str, Any]] = {}
    ordinary: set[str] = set()
    for tokenizer in ordered:
        for row in tokenizer.get("added_tokens") or ():
            if row["content"] not in rows and (row.get("special") or row["content"] not in ordinary):
                rows[row["content"]] = {**row, "id": ids[row["content"]]}
        ordinary |= set(vocabulary(tokenizer)) - set(rows)
    return sorted(rows.values(), key=lambda row: row["id"])
