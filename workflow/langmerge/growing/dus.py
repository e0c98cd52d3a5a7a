"""Depth up-scaling: the first layers, then the last, overlapping in the middle (SOLAR, arXiv 2312.15166, section 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from langmerge import growth
from langmerge.growing.layers import Growth, reorder


def dus_order(layers: int, depth: float) -> list[int]:
    """(0, ..., n - m - 1) and then (m, ..., n - 1), with m = n - s / 2 for s = ``depth`` n layers.

    The seam leaves out the last m layers of the first copy and the first m of the second: n = 32, m = 8 makes s = 48.
    Raises ValueError if s is odd: both copies keep equally many layers.
    """
    half = growth.grown_layers(layers, depth, even=True) // 2
    return [*range(half), *range(layers - half, layers)]


def dus(weights: Mapping[str, Tensor], config: Mapping[str, Any], *, depth: float = 1.5) -> Growth:
    """Weights and configuration of the up-scaled model; another function, which the paper repairs by training."""
    return reorder(weights, config, dus_order(config["num_hidden_layers"], depth))
