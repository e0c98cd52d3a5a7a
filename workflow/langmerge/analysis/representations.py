"""Pooled representations: span means of hidden states, and the files that keep them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from langmerge.analysis.spans import SPANS


def span_means(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean state of each span, fp32 [B, span, d], from ``states`` [B, T, d] and a 0/1 ``mask`` [B, span, T].

    Summed in fp32 whatever the model's own type. Every span must have a token.
    """
    return torch.bmm(mask, states.to(mask.dtype)) / mask.sum(-1, keepdim=True)


def layer_names(layers: int) -> list[str]:
    """What stands at each layer index of a model with ``layers`` blocks."""
    return ["embedding", *(f"block {i}" for i in range(1, layers)), f"block {layers}, after the final norm"]


def tensor_name(direction: str, span: str, layer: int) -> str:
    """Key of one representation [n, d] in a model's file."""
    return f"{direction}/{span}/{layer}"


def write(path: Path, means: Mapping[str, torch.Tensor]) -> None:
    """Write a model's representations as fp32 safetensors; ``means`` maps directions to [span, layer, n, d]."""
    from safetensors.torch import save_file

    tensors = {
        tensor_name(direction, name, layer): state.contiguous()
        for direction, states in means.items()
        for name, spans in zip(SPANS, states, strict=True)
        for layer, state in enumerate(spans)
    }
    last = next(iter(means.values())).shape[1] - 1
    path.parent.mkdir(parents=True, exist_ok=True)
    # One entry: safetensors writes several in random order
    save_file(tensors, path, metadata={"layers": json.dumps(layer_names(last))})


def read(paths: Sequence[Path], direction: str, span: str, layer: int) -> torch.Tensor:
    """One representation of several models of equal width, fp32 [model, n, d]; reads nothing else of the files."""
    from safetensors import safe_open

    states = []
    for path in paths:
        with safe_open(path, framework="pt") as file:
            states.append(file.get_tensor(tensor_name(direction, span, layer)))
    return torch.stack(states)
