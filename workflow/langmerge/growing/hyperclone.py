"""HyperCloning: a wider model whose every hidden state is the source's, repeated (arXiv 2409.12903, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from langmerge import growth
from langmerge.growing.architecture import EMBEDDING, LAST_NORM, axes, check
from langmerge.growing.copies import Copies, assemble, copies, repeat
from langmerge.growing.noise import cancelling_noise, generator


def coefficients(out: int, inner: int, form: str) -> Tensor:
    """Factors c (out, inner) of W in the blocks of its clone, with sum_b c[a, b] = 1: W x is the sum of c[a, b] W x.

    ``symmetric``: 1 / inner each. ``diagonal``: the identity matrix; symmetric where it is not square.
    """
    if form == "diagonal" and out == inner:
        return torch.eye(out)
    return torch.full((out, inner), 1.0 / inner)


def clone_matrix(
    weight: Tensor, out: Copies, inner: Copies, form: str, snr_db: float | None, stream: torch.Generator
) -> Tensor:
    """The clone of a linear map W (O, I): blocks c[a, b] W, plus cancelling noise unless ``snr_db`` is None."""
    blocks = coefficients(out.number, inner.number, form)[:, :, None, None] * weight
    if snr_db is not None:
        blocks = blocks + cancelling_noise(blocks, snr_db, stream)
    return assemble(blocks, out, inner)


def hyperclone(
    weights: Mapping[str, Tensor],
    config: Mapping[str, Any],
    *,
    width: int = 2,
    heads: str = "all",
    form: str = "symmetric",
    noise: bool = True,
    snr_db: float = 10.0,
    seed: int = 1,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights (fp32) and configuration of a model ``width`` times as wide that computes the same function.

    Hidden states, heads and feed-forward units are repeated; the size of a head stays, and with it rotary embeddings
    and norms of queries and keys. Look-ups, gains and biases are repeated as they are (the mean square of a repeated
    vector is that of the vector, so RMS norms commute with repetition). Linear maps are divided over the copies of
    their input, see :func:`clone_matrix`. A head tied to the embeddings cannot be divided; the gain of the last norm
    is, by ``width``, and the embeddings stay free of noise.

    Without noise all copies get equal gradients, so that training never tells them apart.

    Parameters and bounds: ``langmerge.growth.METHODS["hyperclone"]``.
    Raises ValueError for models that are no Llama-type decoders, see :func:`langmerge.growing.architecture.check`.
    """
    check(weights, config)
    number = copies(config, width, heads)
    snr = snr_db if noise else None
    grown = {}
    for name, stored in weights.items():
        weight, axis = stored.float(), axes(name)
        if name == EMBEDDING or len(axis) == 1:
            grown[name] = repeat(weight, number[axis[-1]])
        else:
            grown[name] = clone_matrix(weight, number[axis[0]], number[axis[1]], form, snr, generator(seed, name))
    if config.get("tie_word_embeddings"):
        grown[LAST_NORM] = grown[LAST_NORM] / width
    return grown, growth.grown_config(config, "hyperclone", {"width": width, "heads": heads})
