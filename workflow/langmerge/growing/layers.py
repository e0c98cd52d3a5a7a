"""A model with the layers of another in a given order: what all growth in depth comes down to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from langmerge.growing.architecture import check, split_name

Growth = tuple[dict[str, Tensor], dict[str, Any]]


def reorder(weights: Mapping[str, Tensor], config: Mapping[str, Any], order: Sequence[int]) -> Growth:
    """Weights (fp32) and configuration of the model whose layer i is layer ``order[i]`` of the source.

    What the configuration says of each layer (``layer_types``) goes with it. Copies share no memory.
    Raises ValueError for models that are no Llama-type decoders.
    """
    check(weights, config)
    grown: dict[str, Tensor] = {}
    places: dict[int, list[int]] = {}
    for place, source in enumerate(order):
        places.setdefault(source, []).append(place)
    for name, weight in weights.items():
        layer, inner = split_name(name)
        if layer is None:
            grown[name] = weight.float()
        else:
            grown |= {f"model.layers.{place}.{inner}": weight.float().clone() for place in places.get(layer, [])}
    changed = dict(config) | {"num_hidden_layers": len(order)}
    if config.get("layer_types"):
        changed["layer_types"] = [config["layer_types"][layer] for layer in order]
    return grown, changed
