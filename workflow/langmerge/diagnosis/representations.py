"""Whether two models represent the same sentences alike: CKA and overlap of principal subspaces, layer by layer.

States are means over a sentence's tokens; layer 0 is the embedding's output, l that of block l (the last after the
final norm). Linear CKA is debiased (:mod:`langmerge.analysis.cka`). The overlap is ||U_a' U_b||_F^2 / k, U [d, k] the k
leading principal directions of the centred states: the mean squared cosine of their principal angles, 1 for equal
subspaces and k / d for independent ones. It asks whether the models use the same coordinates, as CKA does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from langmerge import jackknife
from langmerge.analysis.cka import centre, hsic_table
from langmerge.landscape.losses import TOKENS
from langmerge.prompts import Encoded
from langmerge.spans import by_length


@torch.inference_mode()
def pooled_states(model: Any, encoded: Sequence[Encoded]) -> torch.Tensor:
    """Mean state over each sequence's target span, fp32 [L + 1, n, d] on the CPU.

    Nothing is masked: in a causal model what stands on the left does not see the padding on the right.
    """
    found: torch.Tensor | None = None
    for rows in by_length(encoded, range(len(encoded)), TOKENS.get(model.device.type, 1024)):
        ids = torch.zeros(len(rows), max(len(encoded[row].ids) for row in rows), dtype=torch.long)
        share = torch.zeros(ids.shape)
        for i, row in enumerate(rows):
            start, end = encoded[row].target
            ids[i, : len(encoded[row].ids)] = torch.tensor(encoded[row].ids)
            share[i, start:end] = 1 / (end - start)
        output = model.base_model(input_ids=ids.to(model.device), use_cache=False, output_hidden_states=True)
        states = torch.stack(output.hidden_states).float()
        means = torch.einsum("bt,lbtd->lbd", share.to(model.device), states).cpu()
        if found is None:
            found = means.new_empty(len(means), len(encoded), means.shape[-1])
        found[:, rows] = means
    assert found is not None
    return found


def cka(x: torch.Tensor, y: torch.Tensor, blocks: np.ndarray) -> np.ndarray:
    """Debiased linear CKA by layer, fp64 [1 + G, L]: of all sentences, then without each block.

    ``x`` and ``y`` [L, n, d], ``blocks`` [n]. NaN for a constant representation or where fewer than 4 sentences stay.
    """
    found = []
    for layer in zip(x, y, strict=True):
        states = centre(torch.stack(layer))
        table = hsic_table(states @ states.mT, torch.from_numpy(blocks).to(states.device))
        own = table[:, 0, 0] * table[:, 1, 1]
        valid = (table[:, 0, 0] > 0) & (table[:, 1, 1] > 0)
        found.append(torch.where(valid, table[:, 0, 1] / own.abs().sqrt(), torch.nan))
    return torch.stack(found, 1).cpu().numpy()


def principal_directions(x: torch.Tensor, blocks: np.ndarray, k: int) -> torch.Tensor:
    """The k leading principal directions of each layer, fp64 [1 + G, L, d, k]: of all sentences, then without a block.

    ``x`` [L, n, d], ``blocks`` [n]; fewer than k where there are no more of d coordinates or of the sentences that stay
    (of which there must be two).
    """
    member = torch.from_numpy(blocks)
    subsets = [torch.ones(x.shape[1], dtype=torch.bool), *(member != block for block in member.unique())]
    k = min(k, x.shape[2], min(int(keep.sum()) for keep in subsets) - 1)
    found = []
    for keep in subsets:
        states = x[:, keep].double()
        states = states - states.mean(1, keepdim=True)
        found.append(torch.linalg.svd(states, full_matrices=False).Vh[:, :k].mT)
    return torch.stack(found)


def overlap(first: torch.Tensor, second: torch.Tensor) -> np.ndarray:
    """||U_a' U_b||_F^2 / k [...] of orthonormal directions [..., d, k]; see the module."""
    return (first.mT @ second).square().sum((-2, -1)).div(first.shape[-1]).cpu().numpy()


def over_layers(values: np.ndarray) -> tuple[float, float, float]:
    """Mean over layers of [1 + G, L] with its jackknife interval over blocks of sentences."""
    mean = values.mean(1)
    low, high = jackknife.interval(mean[0], mean[1:])
    return float(mean[0]), float(low), float(high)
