"""What the name of a tensor says: the layer that it belongs to, and its module type."""

from __future__ import annotations

ATTENTION = ("q", "k", "v", "qkv", "o")
MLP = ("gate", "up", "gate_up", "down", "router")
MODULES = ("embed", *ATTENTION, *MLP, "norm", "head", "other")
"""Module types in the order of tables."""

_TYPES = {
    **dict.fromkeys(("q_proj", "query", "q"), "q"),
    **dict.fromkeys(("k_proj", "key", "k"), "k"),
    **dict.fromkeys(("v_proj", "value", "v"), "v"),
    **dict.fromkeys(("qkv_proj", "c_attn", "query_key_value", "Wqkv", "qkv"), "qkv"),
    **dict.fromkeys(("o_proj", "out_proj", "o"), "o"),
    **dict.fromkeys(("gate_proj", "w1"), "gate"),
    **dict.fromkeys(("up_proj", "c_fc", "fc1", "dense_h_to_4h", "w3"), "up"),
    **dict.fromkeys(("gate_up_proj",), "gate_up"),
    **dict.fromkeys(("down_proj", "fc2", "dense_4h_to_h", "w2"), "down"),
    **dict.fromkeys(("gate", "router"), "router"),
    **dict.fromkeys(("embed_tokens", "wte", "wpe", "embed_in", "embed_positions", "word_embeddings"), "embed"),
    **dict.fromkeys(("lm_head", "embed_out"), "head"),
}
_BY_PLACE = ("c_proj", "dense")  # the last matrix of attention and of the MLP bear one name in some families
_PARAMETERS = ("weight", "bias")


def module_type(name: str) -> str:
    """One of :data:`MODULES` for a tensor's name; a bias counts to its module, ``other`` is what no family is known by.

    ``model.layers.3.self_attn.q_proj.weight`` is ``q``; fused matrices are ``qkv`` and ``gate_up``.
    """
    parts = [part for part in name.split(".") if part not in _PARAMETERS]
    leaf = parts[-1] if parts else ""
    if leaf in _TYPES:
        return _TYPES[leaf]
    if leaf in _BY_PLACE:
        return "down" if any("mlp" in part for part in parts) else "o"
    if "norm" in leaf.lower() or leaf.startswith("ln_"):
        return "norm"
    return "other"


def layer_index(name: str) -> int | None:
    """The layer as a whole number, the first in the name: 10 follows 9. None for embedding, last norm and head."""
    return next((int(part) for part in name.split(".") if part.isdecimal()), None)
