"""Noise that tells copies apart and leaves the function as it is."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def generator(seed: int, name: str) -> torch.Generator:
    """A random stream of its own for every tensor, whatever the order in which they are grown."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def cancelling_noise(blocks: Tensor, snr_db: float, stream: torch.Generator) -> Tensor:
    """Noise N of the shape of ``blocks`` (o, i, O, I) with sum over the i copies of the input = 0.

    Inputs that are the same in every copy then meet no noise: sum_b N[a, b] x = 0. Gaussian, less its mean over b
    (for two copies +E and -E), and scaled so that 10 log10(mean(blocks^2) / mean(N^2)) is ``snr_db`` decibels.
    Every copy of the output has noise of its own. Zero for a single copy of the input and for blocks of zeros.

    The paper adds +E and -E to halves of the input (HyperCloning, arXiv 2409.12903, noisy expansions); for three and
    more copies this is the same projection.
    """
    if blocks.shape[1] == 1:
        return torch.zeros_like(blocks)
    noise = torch.randn(blocks.shape, generator=stream)
    noise -= noise.mean(1, keepdim=True)
    power = blocks.double().square().mean() / 10 ** (snr_db / 10)
    return noise * (power / noise.double().square().mean()).sqrt().float()
