"""What an observation holds in host memory, computed before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from langmerge.spans import SPANS


def host_bytes(
    sites: Mapping[str, Sequence[int]], directions: int, blocks: int, bins: int = 0, vocabulary: int = 0
) -> dict[str, int]:
    """Bytes of each part, and their ``total``, for ``sites`` = {site: (layers, units)}.

    Counts are int32 by direction, span and block, sums fp64 by direction and span, thresholds fp32,
    histograms int16 (written without a copy); ``rows`` are int32 counts of at most ``vocabulary`` tokens. Pooled states
    are not among them: they go through mapped pages of their file, 4 n d bytes for each direction, span, pool and
    layer. On a GPU the counters lie there until they are written; weights and activations of one batch come on top.
    """
    spans = len(SPANS)
    units = sum(layers * width for layers, width in sites.values())
    parts = {
        "events": 4 * directions * spans * blocks * units,
        "sums": 8 * directions * spans * units,
        "thresholds": 4 * units * (1 + max(0, bins - 1)),
        "histograms": 2 * directions * spans * units * bins,
        "rows": 4 * directions * spans * blocks * vocabulary,
    }
    return {**parts, "total": sum(parts.values())}


def decoder_sites(layers: int, hidden: int, inner: int, attention: int | None = None) -> dict[str, tuple[int, int]]:
    """Layers and units of all sites of a decoder; ``attention`` is heads x head size, if that is not ``hidden``."""
    return {
        "mlp_gate": (layers, inner),
        "mlp_product": (layers, inner),
        "attention": (layers, attention or hidden),
        "residual": (layers, hidden),
        "embedding": (1, hidden),
    }


def disk_bytes(sentences: int, directions: int, pools: int, layers: int, hidden: int) -> int:
    """Bytes of the pooled states on disk: fp32 [n, d] for each direction, span, pool and layer 0 .. L."""
    return 4 * sentences * directions * len(SPANS) * pools * (layers + 1) * hidden
