"""Distances, task vectors' angles and sign conflicts of pairs of models, from one reading of their weights.

With a base theta_0, tau_k = theta_k - theta_0. All sums are fp64, over all weights as one long vector.

- ``distance`` ||a - b||; ``distance.relative``, the same over the root mean square of ||a|| and ||b||: 0 for equal
  models, sqrt(2) for orthogonal ones of one norm.
- ``cosine`` <tau_a, tau_b> / (||tau_a|| ||tau_b||); ``norm_ratio``, the smaller of the two norms over the larger.
- ``sign_conflict``: of the entries that both changed, the share with opposite signs; ``sign_conflict.magnitude``: the
  same weighed by |tau_a tau_b|. 1/2 for independent task vectors.
- ``elect_loss``: the share of magnitude that TIES' election throws away after its trim (:mod:`langmerge.weighing.sums`;
  arXiv 2306.01708, section 4).
- ``subspace.ratio``: mean subspace alignment ratio of each with the other's leading directions, both sides, over
  matrices (:func:`langmerge.weighing.alignment.alignment_ratio`; arXiv 2502.04959); ``subspace.excess``: over what
  independent matrices give.

NaN where a denominator is 0 (a model that is the base).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from langmerge.diagnosis.settings import Settings
from langmerge.landscape.layers import EMBEDDING, layer_of
from langmerge.provenance import InputError
from langmerge.weighing import alignment, subspaces, sums
from langmerge.weighing.reading import Part, Weights
from langmerge.weighing.trimming import kept_entries, kth_largest
from langmerge.weighing.weigh import EXACT

Places = Sequence[tuple[int, int]]  # pairs, as places in the list of models


@dataclass(frozen=True)
class Weighed:
    """The sums of one part of M models and P pairs.

    ``squares`` [M] and ``apart`` [P]: squared norms of the models and of the pairs' differences. With a base: ``whole``
    and ``trimmed``, the sums over task vectors, and ``aligned`` [P, 2], ratio and excess of a matrix (else NaN).
    """

    name: str
    squares: np.ndarray
    apart: np.ndarray
    whole: sums.Sums | None
    trimmed: sums.Sums | None
    aligned: np.ndarray


def depth(name: str) -> int | None:
    """The layer of a parameter as ``layers.csv`` counts: embedding 0, first block 1; None for what comes after."""
    layer = layer_of(name)
    return int(layer) + 1 if layer.isdecimal() else 0 if layer == EMBEDDING else None


def weigh(settings: Settings, folders: Mapping[str, Path], device: torch.device) -> list[Weighed]:
    """Read all models part by part; ``folders`` by name, the base among them if there is one.

    :class:`InputError` if the models differ in names or shapes, or hold values that are not finite.
    """
    labels, base = settings.models, settings.base
    read = {} if base is None else {f"{base} (the base)": folders[base]}  # it may be in a pair too
    weights = Weights(read | {name: folders[name] for name in labels})
    pairs = [(labels.index(a), labels.index(b)) for a, b in settings.pairs]
    return [_weigh_part(weights, part, pairs, settings, device) for part in weights.parts]


def _weigh_part(weights: Weights, part: Part, pairs: Places, settings: Settings, device: torch.device) -> Weighed:
    based = settings.base is not None

    def flat() -> Iterator[Tensor]:
        for block in weights.blocks(part):
            yield block.to(device).reshape(len(block), -1)

    def deltas() -> Iterator[Tensor]:
        for block in flat():
            yield block[1:] - block[:1]

    squares, apart, whole, trimmed = [], [], [], []
    thresholds = kth_largest(deltas, kept_entries(part.entries, settings.density)) if based else None
    for block in flat():
        models = block[based:].double()
        squares.append(models.square().sum(1).cpu().numpy())
        apart.append([float((models[a] - models[b]).square().sum()) for a, b in pairs])
        if thresholds is not None:
            changes = block[1:] - block[:1]
            whole.append(sums.of_block(block[0], changes, torch.zeros_like(thresholds), len(changes)))
            trimmed.append(sums.of_block(block[0], changes, thresholds, len(changes)))
    if not np.isfinite(np.sum(squares)):
        raise InputError(f"tensor {part.name} of one of {', '.join(weights.labels)} holds NaN or infinite values")
    nothing = np.full((len(pairs), 2), np.nan)
    return Weighed(
        part.name,
        np.sum(squares, axis=0),
        np.sum(apart, axis=0),
        sums.total(whole) if whole else None,
        sums.total(trimmed) if trimmed else None,
        _aligned(weights, part, pairs, settings, device) if based and part.is_matrix else nothing,
    )


def _aligned(weights: Weights, part: Part, pairs: Places, settings: Settings, device: torch.device) -> np.ndarray:
    """Ratio and excess over independence, [P, 2], each a mean over both orders and both sides of one matrix."""

    def blocks() -> Iterable[Tensor]:
        for values in weights.blocks(part):
            values = values.to(device)
            yield values[1:] - values[:1]

    n = len(weights.labels) - 1
    frames: subspaces.Frames
    if min(part.shape) <= EXACT:
        frames = subspaces.Exact(blocks, part.shape, n)
    else:
        frames = subspaces.Sketch(blocks, part.shape, n, seed=settings.seed)
    found = []
    for a, b in pairs:
        every = [alignment.alignment_ratio(frames, side, i, j) for side in subspaces.SIDES for i, j in ((a, b), (b, a))]
        found.append(np.mean([(ratio.value, ratio.value - ratio.null) for ratio in every], axis=0))
    return np.array(found)


# ---- measures ------------------------------------------------------------------------------------------------------


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is not NaN; NaN where nothing is left."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0).sum(0) / known.sum(0))


def measures(parts: Sequence[Weighed], pairs: Places) -> list[dict[str, float]]:
    """All measures of each pair over some parts; those of task vectors only where there is a base."""
    squares, apart = (np.sum([getattr(part, name) for part in parts], axis=0) for name in ("squares", "apart"))
    found: list[dict[str, float]] = []
    for p, (a, b) in enumerate(pairs):
        distance = math.sqrt(apart[p])
        relative = _ratio(distance, math.sqrt((squares[a] + squares[b]) / 2))
        found.append({"distance": distance, "distance.relative": relative})
    if any(part.whole is None for part in parts):
        return found
    whole = sums.total(part.whole for part in parts if part.whole)
    trimmed = sums.total(part.trimmed for part in parts if part.trimmed)
    untrimmed, elected = sums.pair_measures(whole), sums.pair_measures(trimmed)["elect_loss"]
    norms = sums.vector_measures(whole)["norm"].value
    aligned = _mean(np.stack([part.aligned for part in parts]))
    for p, (a, b) in enumerate(pairs):
        i, j = sorted((a, b))  # pair sums are kept on one side of the diagonal
        small, large = sorted((float(norms[a]), float(norms[b])))
        found[p] |= {
            "cosine": float(untrimmed["cosine"].value[i, j]),
            "norm_ratio": _ratio(small, large),
            "sign_conflict": float(untrimmed["sign_conflict"].value[i, j]),
            "sign_conflict.magnitude": float(untrimmed["weighted_conflict"].value[i, j]),
            "elect_loss": float(elected.value[i, j]),
            "subspace.ratio": float(aligned[p, 0]),
            "subspace.excess": float(aligned[p, 1]),
        }
    return found


def by_layer(parts: Sequence[Weighed], pairs: Places) -> dict[int, list[dict[str, float]]]:
    """:func:`measures` of each layer."""
    groups: dict[int, list[Weighed]] = {}
    for part in parts:
        layer = depth(part.name)
        if layer is not None:
            groups.setdefault(layer, []).append(part)
    return {layer: measures(group, pairs) for layer, group in sorted(groups.items())}
