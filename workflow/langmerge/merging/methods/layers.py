"""Which transformer layer a tensor belongs to, and which layers a patch takes.

Layers are compared as integers, never as substrings: `layers.1` is not `layers.10`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from langmerge.merging.randomness import stream_key


def layer_index(name: str) -> int | None:
    """Index of the layer that a tensor is part of: the first numeric part of its name, or None.

    `model.layers.10.mlp.experts.3.w` -> 10, `transformer.h.0.ln_1.weight` -> 0, `lm_head.weight` -> None.
    """
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


_PARTS = (
    ("norms", re.compile(r"norm|(^|[._])ln_?[0-9f]")),
    ("head", re.compile(r"^(lm_head|embed_out|output\.)")),
    ("embeddings", re.compile(r"embed|(^|\.)w[tp]e\.")),
    ("attention", re.compile(r"attn|attention")),
    ("mlp", re.compile(r"mlp|ffn|feed_forward|expert")),
)


def part_of(name: str) -> str:
    """What a tensor is part of: norms, head, embeddings, attention, mlp or other, from its name.

    Norms come first: `self_attn.q_norm` is a norm; the output embeddings are the head.
    """
    return next((part for part, pattern in _PARTS if pattern.search(name)), "other")


def number_of_layers(names: Iterable[str]) -> int:
    """Number of layers of a model with these tensors.

    Raises ValueError if there are none, two stacks of layers (an encoder and a decoder), or a gap.
    """
    stacks: dict[str, set[int]] = {}
    for name in names:
        index = layer_index(name)
        if index is not None:
            stacks.setdefault(name.split(f".{index}.", 1)[0], set()).add(index)
    if len(stacks) != 1:
        found = ", ".join(sorted(stacks)) or "none"
        raise ValueError(f"layer_patch needs a model with one stack of transformer layers; found: {found}")
    indices = next(iter(stacks.values()))
    if indices != set(range(len(indices))):
        raise ValueError(f"layer indices are not 0..{len(indices) - 1}: {sorted(indices)}")
    return len(indices)


def chosen_layers(parameters: Mapping[str, Any], n_layers: int) -> tuple[int, ...]:
    """Sorted layer indices that the parameters of `layer_patch` name in a model of `n_layers` layers.

    A random choice takes the layers with the smallest random numbers: reproducible from the seed, and
    nested (k layers are among the k + 1 of the same seed). Raises ValueError if a layer does not exist.
    """
    if parameters["layers"] is not None:
        wrong = [index for index in parameters["layers"] if not -n_layers <= index < n_layers]
        if wrong:
            raise ValueError(f"layer_patch.layers: {wrong} not in a model of {n_layers} layers")
        return tuple(sorted({index % n_layers for index in parameters["layers"]}))
    if parameters["last"] is not None:
        if parameters["last"] > n_layers:
            raise ValueError(f"layer_patch.last: {parameters['last']} of only {n_layers} layers")
        return tuple(range(n_layers - parameters["last"], n_layers))
    candidates = range(n_layers - parameters["exclude_last"])
    if parameters["random"] > len(candidates):
        raise ValueError(
            f"layer_patch.random: {parameters['random']} layers asked for, but without the last "
            f"{parameters['exclude_last']} of {n_layers} only {max(0, len(candidates))} are left"
        )
    ranked = sorted(candidates, key=lambda index: stream_key(parameters["seed"], "layer", str(index)))
    return tuple(sorted(ranked[: parameters["random"]]))
