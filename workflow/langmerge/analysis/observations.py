"""Stored observations: what a model did on the measured sentences, written once by :mod:`langmerge.observation`.

D directions, S spans (source, target), G blocks of sentences. Nothing here runs a model, and only what is asked for is
read from the files, so any number of measures can be taken of one forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from langmerge.pairs import Direction
from langmerge.provenance import InputError, read_json


def _tensor(path: Path, name: str, meant: str) -> torch.Tensor:
    if not path.is_file():
        raise InputError(f"{path}: file not found; expected an observation, as langmerge.observation writes it")
    with safe_open(path, framework="pt") as file:
        if name not in file.keys():  # noqa: SIM118  no mapping
            raise InputError(f"{path}: no {name!r}; {meant}")
        return file.get_tensor(name)


def read_representation(folder: Path, direction: str, span: str, pool: str, layer: int) -> torch.Tensor:
    """Pooled states fp32 [n, d] of ``direction`` (``en-es``), ``span`` (source, target) and ``layer``.

    ``pool`` is ``mean`` (over the span) or ``last`` (its last token). Layer 0 is the embedding's output, L the state
    after the final norm, those between are the residual stream after each block. Rows are the ids of
    :attr:`Summary.ids` in order. :class:`InputError` if that was not observed.
    """
    path = folder / "representations.safetensors"
    return _tensor(path, f"{direction}/{span}/{pool}/{layer}", "it was not observed; see summary.json for what was")


@dataclass(frozen=True)
class Counts:
    """What units of one site did: ``events`` int32 [D, S, G, layer, unit], ``tokens`` int64 [D, S, G].

    An event of site mlp_gate is a positive gate pre-activation, of the others an absolute value above the baseline's
    threshold. ``total`` fp32 [D, S, layer, unit] are the sums of the values.
    """

    events: np.ndarray
    tokens: np.ndarray
    total: np.ndarray


def read_counts(folder: Path, site: str) -> Counts:
    """The counts of one site: mlp_gate, mlp_product, attention, residual or embedding (one layer)."""
    path = folder / "counts.safetensors"
    names = (f"{site}/events", "tokens", f"{site}/sum")
    return Counts(*(_tensor(path, name, "the site was not observed; add it to `sites`").numpy() for name in names))


def read_histogram(folder: Path, site: str) -> np.ndarray:
    """Sentences by mean value, int [D, S, layer, unit, bin]; bins ascend, with edges that the baseline fixed."""
    mend = "set `analysis.histograms` to observe it"
    return _tensor(folder / "counts.safetensors", f"{site}/histogram", mend).numpy()


@dataclass(frozen=True)
class Rows:
    """Tokens by row of the embedding: ``vocabulary`` int64 [V'] ids that occur, ``counts`` int32 [D, S, G, V']."""

    vocabulary: np.ndarray
    counts: np.ndarray


def read_rows(folder: Path) -> Rows:
    """How often each token stands in the spans."""
    path = folder / "counts.safetensors"
    names = ("embedding/vocabulary", "embedding/rows")
    return Rows(*(_tensor(path, name, "the observation is incomplete").numpy() for name in names))


@dataclass(frozen=True)
class Summary:
    """What ``summary.json`` says: the key to the axes of all arrays.

    ``directions`` and ``languages`` [D] name axis D; ``ids[d]`` and ``blocks[d]`` are the sentences of a direction and
    their jackknife blocks in ``range(n_blocks)``; ``layers`` is L, ``layer_names`` are those of 0 .. L; ``width`` is
    that of the hidden states; ``sites`` maps a site to its [layers, units]; ``sequences`` is a hash of all token ids
    that were read.
    """

    directions: tuple[Direction, ...]
    languages: tuple[str, ...]
    ids: tuple[tuple[str, ...], ...]
    blocks: tuple[np.ndarray, ...]
    n_blocks: int
    same_sentences: bool
    align: str
    layers: int
    layer_names: tuple[str, ...]
    width: int
    vocabulary: int
    pools: tuple[str, ...]
    sites: Mapping[str, tuple[int, int]]
    sequences: str


def read_summary(folder: Path) -> Summary:
    """The summary of an observation's folder; :class:`InputError` if it is none."""
    path = folder / "summary.json"
    raw: dict[str, Any] = read_json(path)
    try:
        names = [f"{d['source']}-{d['target']}" for d in raw["directions"]]
        return Summary(
            directions=tuple(Direction(d["source"], d["target"]) for d in raw["directions"]),
            languages=tuple(raw["languages"][name] for name in names),
            ids=tuple(tuple(raw["sentences"][name]) for name in names),
            blocks=tuple(np.array(raw["blocks"][name], dtype=np.int64) for name in names),
            n_blocks=raw["n_blocks"],
            same_sentences=raw["same_sentences"],
            align=raw["align"],
            layers=raw["layers"],
            layer_names=tuple(raw["layer_names"]),
            width=raw["width"],
            vocabulary=raw["vocabulary"],
            pools=tuple(raw["pools"]),
            sites={name: (shape[0], shape[1]) for name, shape in raw["sites"].items()},
            sequences=raw["sequences"],
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: no observation ({error}); expected what langmerge.observation writes") from None
