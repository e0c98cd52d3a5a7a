"""How an axis of a tensor holds several copies, and a matrix as the grid of its blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


@dataclass(frozen=True)
class Copies:
    """An axis of ``groups`` equal parts, each repeated ``number`` times in place: a b -> a a b b for two groups."""

    number: int = 1
    groups: int = 1


def copies(config: Mapping[str, Any], width: int, heads: str) -> dict[str, Copies]:
    """Copies on every axis when a model of ``config`` (the source's) is grown by ``width``.

    With ``heads`` "all", query head i of copy r reads key/value head j of copy r. With "queries" there is one copy of
    the key/value heads, and since consecutive query heads share one of them, queries are repeated within each such
    group, not as a whole.
    """
    whole = Copies(width)
    own = heads == "all"
    groups = config.get("num_key_value_heads") or config["num_attention_heads"]
    return {
        "vocabulary": Copies(),
        "head": Copies(),
        "hidden": whole,
        "intermediate": whole,
        "query": whole if own else Copies(width, groups),
        "key": whole if own else Copies(),
    }


def repeat(vector: Tensor, axis: Copies) -> Tensor:
    """The last dimension, (..., n) -> (..., number n), repeated as ``axis`` says."""
    parts = vector.unflatten(-1, (axis.groups, 1, -1))
    return parts.expand(*parts.shape[:-2], axis.number, parts.shape[-1]).flatten(-3).contiguous()


def assemble(blocks: Tensor, out: Copies, inner: Copies) -> Tensor:
    """The matrix (o O, i I) whose block for copy a of the output and b of the input is ``blocks[a, b]``, (O, I)."""
    parts = blocks.unflatten(-1, (inner.groups, -1)).unflatten(-3, (out.groups, -1))  # a b | group O | group I
    ordered = parts.permute(2, 0, 3, 4, 1, 5)
    return ordered.reshape(blocks.shape[0] * blocks.shape[2], blocks.shape[1] * blocks.shape[3])


def blocks_of(matrix: Tensor, out: Copies, inner: Copies) -> Tensor:
    """The blocks (o, i, O, I) of a matrix (o O, i I): the inverse of :func:`assemble`."""
    parts = matrix.unflatten(-1, (inner.groups, inner.number, -1)).unflatten(0, (out.groups, out.number, -1))
    return parts.permute(1, 4, 0, 2, 3, 5).flatten(-2).flatten(-3, -2)
