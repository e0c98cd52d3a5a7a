"""Which transformer layer a tensor belongs to, and which layers a method takes from which model.

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
        raise ValueError(f"this method needs a model with one stack of transformer layers; found: {found}")
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
        return _indices("layer_patch.layers", parameters["layers"], n_layers)
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


def _indices(where: str, given: Iterable[int], n_layers: int) -> tuple[int, ...]:
    """Sorted indices from 0, each once; negative ones count from the end. ValueError if a layer does not exist."""
    given = list(given)
    wrong = [index for index in given if not -n_layers <= index < n_layers]
    if wrong:
        raise ValueError(f"{where}: {wrong} not in a model of {n_layers} layers")
    return tuple(sorted({index % n_layers for index in given}))


SWAPPED = {"bottom": 5, "top": 2, "bottom_transition": 1, "top_transition": 1}
SWAPPED_OF = 32
"""The paper's default zones, for a model of 32 layers (arXiv 2410.01335, section 4.2)."""


def swapped_layers(parameters: Mapping[str, Any], n_layers: int) -> list[float]:
    """Share of the language expert in each of `n_layers` layers for the parameters of `layer_swap`.

    1 in its own layers, `weight` in the layers of a transition, 0 in the task expert's. The zones from below:
    bottom, bottom_transition, task expert, top_transition, top. Zones that are not given take the paper's
    share of the layers (5, 2, 1 and 1 of 32; bottom and top rounded, at least 1, transitions 1), each as far as the
    other zones leave room, in that order. A list of `layers`, `transition_layers` replaces the zones.

    Raises ValueError if a layer does not exist, is listed twice, or the zones have more layers than the model.
    """
    if parameters["layers"] is not None:
        own = _indices("layer_swap.layers", parameters["layers"], n_layers)
        mixed = _indices("layer_swap.transition_layers", parameters["transition_layers"] or (), n_layers)
        if both := sorted(set(own) & set(mixed)):
            raise ValueError(f"layer_swap: layers {both} stand in layers and in transition_layers")
        return [1.0 if i in own else parameters["weight"] if i in mixed else 0.0 for i in range(n_layers)]
    zones = {key: parameters[key] for key in SWAPPED if parameters[key] is not None}
    room = n_layers - sum(zones.values())
    if room < 0:
        raise ValueError(f"layer_swap: {', '.join(f'{k} {v}' for k, v in zones.items())}, but only {n_layers} layers")
    for key, of_32 in SWAPPED.items():
        if key not in zones:
            wanted = 1 if key.endswith("transition") else max(1, round(of_32 * n_layers / SWAPPED_OF))
            zones[key] = min(wanted, room)
            room -= zones[key]
    below, above = zones["bottom"] + zones["bottom_transition"], zones["top"] + zones["top_transition"]
    shares = [0.0] * n_layers
    for index in range(n_layers):
        if index < zones["bottom"] or index >= n_layers - zones["top"]:
            shares[index] = 1.0
        elif index < below or index >= n_layers - above:
            shares[index] = parameters["weight"]
    return shares
