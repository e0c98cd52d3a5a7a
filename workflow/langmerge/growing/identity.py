"""LLaMA Pro: copies of layers that at first add nothing to the residual stream (arXiv 2401.02415, section 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from langmerge import growth
from langmerge.growing.architecture import split_name
from langmerge.growing.layers import Growth, reorder

_WRITERS = ("self_attn.o_proj.", "mlp.down_proj.")  # weights and biases that write to the residual stream


def identity_order(layers: int, depth: float) -> tuple[list[int], list[int]]:
    """The source's layer at every place, and the places of identity blocks.

    The n layers are N groups of M = n / N; on each group come copies of its last P layers. N is the greatest number
    that divides both n and the added layers N P, so that the blocks are spread as evenly as can be (the paper's 32 + 8
    layers: N = 8, M = 4, P = 1).
    """
    added = growth.grown_layers(layers, depth) - layers
    groups = math.gcd(layers, added)
    size, extra = layers // groups, added // groups
    order: list[int] = []
    blocks: list[int] = []
    for end in range(size, layers + 1, size):
        order += range(end - size, end)
        blocks += range(len(order), len(order) + extra)
        order += range(end - extra, end)
    return order, blocks


def identity(weights: Mapping[str, Tensor], config: Mapping[str, Any], *, depth: float = 2.0) -> Growth:
    """Weights and configuration of a deeper model that computes the same function, exactly.

    In the added blocks the output projections of attention and feed-forward (weights and biases) are zero, so that
    each passes its input on. Their gradients are not zero: the blocks learn.
    """
    order, blocks = identity_order(config["num_hidden_layers"], depth)
    grown, changed = reorder(weights, config, order)
    added = set(blocks)
    for name, weight in grown.items():
        layer, inner = split_name(name)
        if layer in added and inner.startswith(_WRITERS):
            grown[name] = torch.zeros_like(weight)
    return grown, changed
