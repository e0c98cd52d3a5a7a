"""Diagonal Fisher information of several models or languages, and how far it overlaps.

F = mean over sentences of (grad log p(target | prompt))^2, element by element: the empirical Fisher information of a
sequence, Kirkpatrick et al. 2017 (arXiv 1612.00796). O_ij = <sqrt F_i, sqrt F_j> / (||sqrt F_i|| ||sqrt F_j||) is one
minus the Frechet distance between the trace-normalised diagonals, in [0, 1].

Square roots are positive, so two that have nothing to do with each other overlap as well: ``null`` is the expected O
with the elements of each tensor permuted, what the sizes of tensors alone give. From above sampling sets a limit: from
disjoint halves of its sentences a language overlaps with itself by less than 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from langmerge.host_memory import FISHER as ELEMENTS
from langmerge.landscape.gradients import each_gradient
from langmerge.landscape.layers import ALL, layer_of
from langmerge.landscape.losses import batch_losses, make_batch
from langmerge.prompts import Encoded


def diagonal_fisher(model: Any, encoded: Sequence[Encoded]) -> dict[str, torch.Tensor]:
    """F of each parameter, fp32 of its shape on the model's device; one sentence at a time. ValueError for none.

    Holds D numbers for D parameters besides the model and its largest gradient.
    """
    if not encoded:
        raise ValueError("no sentences; Fisher information needs at least one")
    fisher = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in model.named_parameters()}

    def take(name: str, gradient: torch.Tensor) -> None:
        fisher[name].addcmul_(gradient.float(), gradient.float())

    with each_gradient(model, take):
        for row in range(len(encoded)):
            batch_losses(model, make_batch(encoded, [row], model.device)).sum().backward()
    return {name: total.div_(len(encoded)) for name, total in fisher.items()}


def write_halves(model: Any, encoded: Sequence[Encoded], folder: Path) -> None:
    """Write F of the sentences at even and at odd places into ``folder``, as ``<half>.<parameter>.safetensors``.

    One half after the other, so that one F is in memory, and a file for each tensor, so that the host never holds more
    than one where F is on a GPU. ValueError for fewer than two sentences.
    """
    folder.mkdir(parents=True)
    for half in (0, 1):
        for name, value in diagonal_fisher(model, encoded[half::2]).items():
            save_file({"fisher": value.flatten().cpu()}, _file(folder, half, name))


def _file(folder: Path, half: int, name: str) -> Path:
    return folder / f"{half}.{name}.safetensors"


@dataclass(frozen=True)
class Overlap:
    """Overlaps in one layer, fp64 [K, K] each.

    ``whole`` and its ``null`` use all sentences. ``half`` is the mean of O between one's even and the other's odd
    sentences, on its diagonal the split-half overlap of each with itself; ``half_null`` is its null.
    """

    whole: torch.Tensor
    null: torch.Tensor
    half: torch.Tensor
    half_null: torch.Tensor


def overlaps(folders: Sequence[Path], counts: Sequence[int], device: torch.device) -> dict[str, Overlap]:
    """Overlaps of K diagonals by layer and over ``all`` parameters, from the ``folders`` of :func:`write_halves`.

    ``counts`` [K] are the numbers of sentences, of which the even half has one more where odd. Streams over the files:
    3 K times ``ELEMENTS`` numbers are in memory. NaN where a layer has no gradient at all.
    """
    inner: dict[str, torch.Tensor] = {}
    chance: dict[str, torch.Tensor] = {}
    even = torch.tensor([(count + 1) // 2 / count for count in counts], device=device)[:, None]
    names = sorted(file.name.removeprefix("0.").removesuffix(".safetensors") for file in folders[0].glob("0.*"))
    for name in names:
        product, sums, size = _products([[_file(f, half, name) for f in folders] for half in (0, 1)], even)
        for layer in (layer_of(name), ALL):
            inner[layer] = inner.get(layer, 0) + product
            chance[layer] = chance.get(layer, 0) + torch.outer(sums, sums) / size
    return {layer: _overlap(inner[layer].cpu(), chance[layer].cpu(), len(folders)) for layer in inner}


def _products(files: Sequence[Sequence[Path]], even: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Inner products [3 K, 3 K] and sums [3 K] of square roots of whole, even and odd diagonals, and their length."""
    with ExitStack() as stack:
        halves = [[stack.enter_context(safe_open(f, framework="pt")).get_slice("fisher") for f in h] for h in files]
        size = halves[0][0].get_shape()[0]
        n = 3 * len(even)
        sums = torch.zeros(n, dtype=torch.float64, device=even.device)
        product = torch.zeros(n, n, dtype=torch.float64, device=even.device)
        for start in range(0, size, ELEMENTS):
            parts = [torch.stack([f[start : start + ELEMENTS] for f in half]).to(even.device) for half in halves]
            roots = torch.cat([even * parts[0] + (1 - even) * parts[1], *parts]).sqrt().double()
            product += roots @ roots.T
            sums += roots.sum(1)
    return product, sums, size


def _overlap(inner: torch.Tensor, chance: torch.Tensor, k: int) -> Overlap:
    """From inner products [3 K, 3 K] of the square roots of K whole diagonals, K even halves, K odd halves."""
    length = inner.diagonal().sqrt()
    cosine, null = inner / torch.outer(length, length), chance / torch.outer(length, length)

    def across(table: torch.Tensor) -> torch.Tensor:
        block = table[k : 2 * k, 2 * k :]
        return (block + block.T) / 2

    return Overlap(cosine[:k, :k], null[:k, :k], across(cosine), across(null))


@dataclass(frozen=True)
class Row:
    """An overlap of i and j, its null under permuted elements, and the split-half overlap of each with itself."""

    i: int
    j: int
    measure: str
    value: float
    null: float
    ceiling: float


def rows(found: Overlap) -> Iterator[Row]:
    """``overlap`` (all sentences) and ``overlap_half`` of every two; of each with itself ``overlap_half``.

    The ceiling of ``overlap_half`` is the geometric mean of the two's with themselves; ``overlap`` has none, for it
    uses twice the sentences.
    """
    for i in range(len(found.half)):
        for j in range(i, len(found.half)):
            if i != j:
                yield Row(i, j, "overlap", float(found.whole[i, j]), float(found.null[i, j]), float("nan"))
            ceiling = float((found.half[i, i] * found.half[j, j]).sqrt())
            yield Row(i, j, "overlap_half", float(found.half[i, j]), float(found.half_null[i, j]), ceiling)
