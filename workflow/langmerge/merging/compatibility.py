"""Can these models be merged entry by entry? Answered from headers, configurations and tokenizers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langmerge.merging.sources import Source

SAME_CONFIG = (
    "model_type",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "tie_word_embeddings",
)
"""Keys of config.json that shapes do not show but that change what a weight means."""

INPUT_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
OUTPUT_EMBEDDINGS = ("lm_head.weight", "embed_out.weight")
OUTPUT_BIASES = ("lm_head.bias", "embed_out.bias")

OPTIONS = (
    "Merge them with vocabulary: union (one tokenizer with the tokens of all, rows matched by token) or "
    "vocabulary: body (tokenizer, embeddings and head of the base, only the body is merged), or train the models "
    "with one tokenizer"
)
"""What can be done about different vocabularies; see `langmerge.merging.vocabulary`."""


def token_tensors(names: Iterable[str]) -> list[str]:
    """Those tensors that have one row for each token: input and output embeddings, and the latter's bias."""
    return [n for n in names if n.endswith(INPUT_EMBEDDINGS) or n in OUTPUT_EMBEDDINGS + OUTPUT_BIASES]


def check_compatible(models: Sequence[Source]) -> dict[str, str]:
    """Check all models against the first; ValueError names the tensor or key, both models and both values.

    Returns the tied tensors that need not be merged: {output embedding: input embedding} where config.json
    ties them though some folder stores both. Their equality is for the caller to check.
    """
    first = models[0]
    tied = _tied(models)
    for model in models:
        _check_unquantised(model)
    for other in models[1:]:
        _check_config(first, other)
        _check_vocabulary(first, other)
        _check_tensors(first, other, set(tied))
    return tied


def _tied(models: Sequence[Source]) -> dict[str, str]:
    if not all((model.json("config.json") or {}).get("tie_word_embeddings") for model in models):
        return {}
    names = models[0].tensors
    inputs = [name for name in names if name.endswith(INPUT_EMBEDDINGS)]
    stored = {name for model in models for name in model.tensors if name in OUTPUT_EMBEDDINGS}
    return dict.fromkeys(stored, inputs[0]) if len(inputs) == 1 else {}


def _check_unquantised(model: Source) -> None:
    if (model.json("config.json") or {}).get("quantization_config"):
        raise ValueError(
            f"config.json: model {model.name!r} has a quantization_config; the scales of quantised weights would be "
            "lost. Merge the models before they are quantised"
        )


def _check_config(first: Source, other: Source) -> None:
    a, b = first.json("config.json") or {}, other.json("config.json") or {}
    for key in SAME_CONFIG:
        if key in a and key in b and a[key] != b[key]:
            raise ValueError(
                f"config.json: {key} is {a[key]!r} in model {first.name!r} but {b[key]!r} in model "
                f"{other.name!r}; models of different architectures cannot be merged"
            )


def _check_tensors(first: Source, other: Source, tied: set[str]) -> None:
    a, b = set(first.tensors) - tied, set(other.tensors) - tied
    for names, has, lacks in ((a - b, first, other), (b - a, other, first)):
        if names:
            raise ValueError(
                f"tensor {min(names)!r} is in model {has.name!r} but not in model {lacks.name!r}"
                f" ({len(names)} such tensor(s)); only models of one architecture can be merged"
            )
    for name in first.tensors:
        if name in tied:
            continue
        one, two = first.tensors[name], other.tensors[name]
        if one.shape != two.shape:
            raise ValueError(
                f"tensor {name!r} has shape {list(one.shape)} in model {first.name!r} but "
                f"{list(two.shape)} in model {other.name!r}"
                + (f". {OPTIONS}" if token_tensors([name]) and one.shape[1:] == two.shape[1:] else "")
            )
        floating = one.dtype.is_floating_point and two.dtype.is_floating_point
        if one.dtype != two.dtype and not floating:
            raise ValueError(
                f"tensor {name!r} is {one.dtype} in model {first.name!r} but {two.dtype} in model {other.name!r}"
            )


def vocabulary(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """Token -> id of a tokenizer.json, added tokens included."""
    model = tokenizer.get("model", {}).get("vocab", {})
    tokens = dict(model) if isinstance(model, dict) else {row[0]: index for index, row in enumerate(model)}
    for row in tokenizer.get("added_tokens") or ():
        tokens[row["content"]] = row["id"]
    return tokens


def _check_vocabulary(first: Source, other: Source) -> None:
    if first.file("tokenizer.json") == other.file("tokenizer.json"):
        return  # the usual case, without parsing both
    one, two = first.json("tokenizer.json"), other.json("tokenizer.json")
    if one is None or two is None:
        return
    a, b = vocabulary(one), vocabulary(two)
    if a == b:
        return
    different = sorted(token for token in a.keys() | b.keys() if a.get(token) != b.get(token))
    token = different[0]
    raise ValueError(
        f"tokenizer.json: {len(different)} tokens differ between model {first.name!r} and model "
        f"{other.name!r}, e.g. {token!r} has id {a.get(token)} in the one and {b.get(token)} in the other; "
        f"rows of the embeddings would not match. {OPTIONS}"
    )
