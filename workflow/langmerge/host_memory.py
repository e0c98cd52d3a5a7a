"""Memory that looking inside models takes, from their sizes alone: for plans, and for jobs to be checked against."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langmerge.provenance import read_json

SPANS = 2  # source and target
HOST = 2e9  # bytes of arrays that a job may hold on the host before a plan warns
BLOCK_GRADIENTS = {"cpu": 2**29, "cuda": 2**33}  # bytes of block gradients that are held at once
FISHER = 2**21  # elements that are held at once of each file of Fisher information


@dataclass(frozen=True)
class Sizes:
    """A decoder with gated MLPs: layers, width, units of an MLP, heads x head size, rows of the embedding, all weights.

    ``parameters`` are without norms and biases.
    """

    layers: int
    hidden: int
    inner: int
    attention: int
    vocabulary: int
    parameters: int

    @property
    def largest(self) -> int:
        """Elements of the largest tensor."""
        return self.hidden * max(self.vocabulary, self.inner)

    def sites(self, names: Sequence[str] | None = None) -> dict[str, tuple[int, int]]:
        """Layers and units of the sites (default: all) where an observation watches units."""
        every = {
            "mlp_gate": (self.layers, self.inner),
            "mlp_product": (self.layers, self.inner),
            "attention": (self.layers, self.attention),
            "residual": (self.layers, self.hidden),
            "embedding": (1, self.hidden),
        }
        return every if names is None else {name: every[name] for name in names}


def sizes_of(config: Mapping[str, Any], vocabulary: int | None = None) -> Sizes | None:
    """Sizes from a ``config.json`` in Hugging Face format (``vocabulary`` instead of its own); None where it lacks one.

    Of multimodal models those of their text part.
    """
    config = config.get("text_config") or config
    try:
        layers, hidden, inner = (int(config[key]) for key in ("num_hidden_layers", "hidden_size", "intermediate_size"))
        heads, rows = int(config["num_attention_heads"]), int(vocabulary or config["vocab_size"])
    except (KeyError, TypeError):
        return None
    head = int(config.get("head_dim") or hidden // heads)
    keys = int(config.get("num_key_value_heads") or heads)
    layer = 2 * hidden * head * (heads + keys) + 3 * hidden * inner
    embeddings = rows * hidden * (1 if config.get("tie_word_embeddings", True) else 2)
    return Sizes(layers, hidden, inner, heads * head, rows, layers * layer + embeddings)


def sizes_in(*folders: Path) -> Sizes | None:
    """Sizes by the ``config.json`` of the first of ``folders`` that has one; None where none has."""
    found = next((folder / "config.json" for folder in folders if (folder / "config.json").is_file()), None)
    return sizes_of(read_json(found)) if found else None


# ---- observation ---------------------------------------------------------------------------------------------------


def observation(
    sites: Mapping[str, Sequence[int]], directions: int, blocks: int, bins: int = 0, vocabulary: int = 0
) -> dict[str, int]:
    """Bytes of each part of an observation, and their ``total``, for ``sites`` = {site: (layers, units)}.

    Counts are int32 by direction, span and block, sums fp64 by direction and span, thresholds fp32,
    histograms int16 (written without a copy); ``rows`` are int32 counts of at most ``vocabulary`` tokens. Pooled states
    are not among them: they go through mapped pages of their file (:func:`pooled_states`). On a GPU the counters lie
    there until they are written; weights and activations of one batch come on top.
    """
    units = sum(layers * width for layers, width in sites.values())
    parts = {
        "events": 4 * directions * SPANS * blocks * units,
        "sums": 8 * directions * SPANS * units,
        "thresholds": 4 * units * (3 if bins else 1),
        "histograms": 2 * directions * SPANS * units * bins,
        "rows": 4 * directions * SPANS * blocks * vocabulary,
    }
    return {**parts, "total": sum(parts.values())}


def pooled_states(sentences: int, directions: int, pools: int, layers: int, hidden: int) -> int:
    """Bytes of the pooled states on disk: fp32 [n, d] for each direction, span, pool and layer 0 .. L."""
    return 4 * sentences * directions * SPANS * pools * (layers + 1) * hidden


# ---- landscape -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Needs:
    """Bytes, and passes over the sentences.

    ``device``: the largest of the steps on the device that computes, weights included, activations not. ``host``: what
    the host holds besides when that device is a GPU (files that are mapped, not held, do not count). ``disk``:
    temporary files. ``gradients``: the block gradients among ``device``.
    """

    device: int
    host: int
    disk: int
    passes: int
    gradients: int


def landscape(parameters: int, largest: int, models: int, languages: int, blocks: int, device: str = "cuda") -> Needs:
    """For fp32 models of ``parameters`` elements, the ``largest`` tensor of which has so many.

    On the device: the model, and the largest of: one tensor of every model (distances), four tensors (a combination and
    its parts), block gradients and two tensors (a tied embedding's two gradients), F and two tensors. On the host: one
    tensor on its way to or from the device, or the pieces of all Fisher files. Disk: the halves' Fisher information of
    all languages, at one of the two places where it is measured.
    """
    model, tensor = 4 * parameters, 4 * largest
    capacity = BLOCK_GRADIENTS[device] // (4 * languages * blocks)
    held = 4 * languages * blocks * min(parameters, capacity)
    return Needs(
        device=model + max(max(models, 4) * tensor, held + 2 * tensor, model + 2 * tensor),
        host=max(tensor, 2 * 4 * languages * FISHER),
        disk=2 * languages * model,
        passes=math.ceil(parameters / capacity),
        gradients=held,
    )
