"""Which layer a parameter belongs to, by its name."""

from __future__ import annotations

import re
from collections.abc import Iterable

ALL = "all"
EMBEDDING = "embedding"
HEAD = "head"

_EMBEDDING = re.compile(r"embed(?!_out)|(^|\.)w[tp]e\.")


def layer_of(name: str) -> str:
    """``"0"``, ``"1"``, ... for the transformer layers, ``embedding``, or ``head`` for what comes after the layers.

    The layer's index is the first numeric part of the name, so that ``layers.3.mlp.experts.7`` is of layer 3.
    """
    index = next((part for part in name.split(".") if part.isdigit()), None)
    return index or (EMBEDDING if _EMBEDDING.search(name) else HEAD)


def in_order(layers: Iterable[str]) -> list[str]:
    """``all``, ``embedding``, the layers by index, ``head``; of these the ones given."""
    rank = {ALL: -2, EMBEDDING: -1}
    return sorted(
        set(layers), key=lambda layer: (layer == HEAD, rank.get(layer, 0), int(layer) if layer.isdigit() else 0)
    )
