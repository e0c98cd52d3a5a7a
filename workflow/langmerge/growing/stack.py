"""G_stack: the whole stack of layers several times (arXiv 2405.15319, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from langmerge.growing.layers import Growth, reorder


def stack_order(layers: int, depth: int) -> list[int]:
    """(0, ..., n - 1) ``depth`` times."""
    return list(range(layers)) * depth


def stack(weights: Mapping[str, Tensor], config: Mapping[str, Any], *, depth: int = 2) -> Growth:
    """Weights and configuration of a model with the source's layers ``depth`` times; another function."""
    return reorder(weights, config, stack_order(config["num_hidden_layers"], depth))
