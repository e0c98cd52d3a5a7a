"""Weights of several models: read from disk tensor by tensor, combined in place in one loaded model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from langmerge import models
from langmerge.provenance import InputError

ELEMENTS = 2**22  # of each model multiplied at once, in fp64


class Weights(Mapping[str, torch.Tensor]):
    """The parameters of a model folder by name, each read from its safetensors file when it is asked for.

    ``expected`` are the parameters of the model that they are put into. Where the files call them something else (some
    families are converted on loading), the model is loaded whole and kept. :class:`InputError` naming the first
    parameter that is missing or of another shape.
    """

    def __init__(self, folder: Path, expected: Mapping[str, torch.Tensor]) -> None:
        self._files = ExitStack()
        self._names = list(expected)
        handles = [self._files.enter_context(safe_open(f, framework="pt")) for f in models.weight_files(folder)]
        self._place = {name: handle for handle in handles for name in handle.keys()}  # noqa: SIM118
        self._loaded: dict[str, torch.Tensor] = {}
        if not set(expected) <= set(self._place):
            self._loaded = {name: weight.data for name, weight in models.load_model(folder).named_parameters()}
        for name, weight in expected.items():
            if self._loaded:
                found = list(self._loaded[name].shape) if name in self._loaded else None
            else:
                found = list(self._place[name].get_slice(name).get_shape())
            if found != list(weight.shape):
                raise InputError(
                    f"{folder}: parameter {name} has shape {found}, the base's has {list(weight.shape)}; models on one "
                    "line or plane need equal shapes. Merge or train them from one base"
                )

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._loaded[name] if self._loaded else self._place[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@torch.no_grad()
def blend(model: Any, sources: Sequence[Mapping[str, torch.Tensor]], coefficients: Sequence[float]) -> None:
    """Set every parameter of ``model`` to sum_k c_k theta_k, computed in fp32; the coefficients sum to 1.

    Written as theta_i + sum_{k != i} c_k (theta_k - theta_i) with the first i whose c_i is not 0, so that equal models
    give themselves and a coefficient of 1 gives that model, both to the last bit. One tensor of each model is held at a
    time. ValueError if the coefficients do not sum to 1.
    """
    if abs(sum(coefficients) - 1) > 1e-6:
        raise ValueError(f"coefficients {list(coefficients)} sum to {sum(coefficients)}, not to 1")
    used = [(c, source) for c, source in zip(coefficients, sources, strict=True) if c != 0]
    for name, weight in model.named_parameters():
        anchor = used[0][1][name].to(weight.device, torch.float32)
        total = anchor
        for c, source in used[1:]:
            total = total + c * (source[name].to(weight.device, torch.float32) - anchor)
        weight.copy_(total)


@torch.no_grad()
def distances(sources: Sequence[Mapping[str, torch.Tensor]], device: torch.device) -> torch.Tensor:
    """||theta_i - theta_j||_2 over all parameters, fp64 [M, M] on the CPU.

    From the Gram matrix of the differences from the first model, in fp64. One tensor of each model is on the
    device at a time.
    """
    gram = torch.zeros(len(sources), len(sources), dtype=torch.float64, device=device)
    for name in sources[0]:
        every = [source[name].to(device, torch.float32).flatten() for source in sources]
        for parts in zip(*(each.split(ELEMENTS) for each in every), strict=True):
            exact = torch.stack(parts).double()
            tau = exact - exact[0]
            gram += tau @ tau.T
    square = gram.diagonal()
    return (square[:, None] + square - 2 * gram).clamp(min=0).sqrt().cpu()
