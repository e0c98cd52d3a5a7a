"""What a Llama-type decoder consists of: the axes of every tensor, and a check that a model is one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
"""Architectures that compute what the axes below assume. Others scale embeddings, fuse matrices or add gains."""

EMBEDDING, HEAD, LAST_NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"

_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")

_OUTSIDE: dict[str, tuple[str, ...]] = {
    EMBEDDING: ("vocabulary", "hidden"),
    HEAD: ("vocabulary", "hidden"),
    LAST_NORM: ("hidden",),
}
_INSIDE: dict[str, tuple[str, ...]] = {
    "input_layernorm.weight": ("hidden",),
    "post_attention_layernorm.weight": ("hidden",),
    "self_attn.q_proj.weight": ("query", "hidden"),
    "self_attn.k_proj.weight": ("key", "hidden"),
    "self_attn.v_proj.weight": ("key", "hidden"),
    "self_attn.o_proj.weight": ("hidden", "query"),
    "mlp.gate_proj.weight": ("intermediate", "hidden"),
    "mlp.up_proj.weight": ("intermediate", "hidden"),
    "mlp.down_proj.weight": ("hidden", "intermediate"),
}
_ATTENTION = tuple(f"self_attn.{letter}_proj" for letter in "qkvo")
_FEED_FORWARD = tuple(f"mlp.{part}_proj" for part in ("gate", "up", "down"))
_HEAD_NORMS = ("self_attn.q_norm.weight", "self_attn.k_norm.weight")
_PLAIN = frozenset(_INSIDE)
_INSIDE |= {f"{map_}.bias": _INSIDE[f"{map_}.weight"][:1] for map_ in (*_ATTENTION, *_FEED_FORWARD)}
_INSIDE |= dict.fromkeys(_HEAD_NORMS, ("head",))


def split_name(name: str) -> tuple[int | None, str]:
    """Number of the layer (None outside the layers) and the tensor's name in it."""
    found = _LAYER.fullmatch(name)
    return (int(found[1]), found[2]) if found else (None, name)


def axes(name: str) -> tuple[str, ...]:
    """What a tensor's dimensions run over, output first: ``("query", "hidden")`` for a query projection.

    Raises ValueError for a tensor that a Llama-type decoder does not have.
    """
    layer, inner = split_name(name)
    table = _OUTSIDE if layer is None else _INSIDE
    if inner not in table:
        raise ValueError(
            f"tensor {name!r}: not part of a Llama-type decoder (embeddings, q/k/v/o and gate/up/down projections with "
            "or without biases, norms), so how to grow it is not known"
        )
    return table[inner]


def sizes(config: Mapping[str, Any]) -> dict[str, int]:
    """Length of every axis in a configuration."""
    heads = config["num_attention_heads"]
    groups = config.get("num_key_value_heads") or heads
    head = config.get("head_dim") or config["hidden_size"] // heads
    return {
        "vocabulary": config["vocab_size"],
        "hidden": config["hidden_size"],
        "intermediate": config["intermediate_size"],
        "query": heads * head,
        "key": groups * head,
        "head": head,
    }


def layer_tensors(config: Mapping[str, Any]) -> set[str]:
    """Names of the tensors that every layer of a configuration has: with which biases, and norms of heads or not."""
    kind = config["model_type"]
    biased: tuple[str, ...] = ()
    if kind == "qwen2":
        biased = _ATTENTION[:3]
    elif kind in ("llama", "qwen3") and config.get("attention_bias"):
        biased = _ATTENTION
    if kind == "llama" and config.get("mlp_bias"):
        biased += _FEED_FORWARD
    return {*_PLAIN, *(f"{map_}.bias" for map_ in biased), *(_HEAD_NORMS if kind == "qwen3" else ())}


def check(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """ValueError if the weights are not those of a Llama-type decoder of this configuration.

    Named are: another architecture, an unknown, missing or surplus tensor, a wrong shape, elements that are no
    floating-point numbers (quantized weights).
    """
    if config.get("model_type") not in MODEL_TYPES:
        raise ValueError(
            f"model_type {config.get('model_type')!r} cannot be grown; expected one of {', '.join(MODEL_TYPES)}"
        )
    length = sizes(config)
    for name, weight in weights.items():
        expected = tuple(length[axis] for axis in axes(name))
        if tuple(weight.shape) != expected:
            raise ValueError(f"tensor {name!r}: shape {tuple(weight.shape)}; by the configuration it is {expected}")
        if not weight.is_floating_point() or weight.element_size() < 2:
            raise ValueError(f"tensor {name!r}: {weight.dtype} cannot be grown; take the model before quantization")
    wanted = {EMBEDDING, LAST_NORM} | (set() if config.get("tie_word_embeddings") else {HEAD})
    inner = layer_tensors(config)
    wanted |= {f"model.layers.{layer}.{name}" for layer in range(config["num_hidden_layers"]) for name in inner}
    if missing := sorted(wanted - set(weights)):
        raise ValueError(f"tensor {missing[0]!r} is missing; the configuration asks for it")
    if surplus := sorted(set(weights) - wanted):
        raise ValueError(f"tensor {surplus[0]!r}: the configuration has no such tensor; config.json and weights differ")
