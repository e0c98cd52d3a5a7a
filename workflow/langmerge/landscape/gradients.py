"""Gradients of a language model's loss: taken parameter by parameter, kept as Gram matrices of blocks of sentences."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from langmerge.host_memory import BLOCK_GRADIENTS as BUDGET
from langmerge.landscape.layers import ALL, layer_of
from langmerge.landscape.losses import Batch, batch_losses

COLUMNS = 2**16  # of the block gradients that are multiplied at once, in fp64


@contextmanager
def each_gradient(
    model: Any, take: Callable[[str, torch.Tensor], None], names: Collection[str] | None = None
) -> Iterator[None]:
    """Within it, ``backward`` hands the gradient of each of the parameters ``names`` (all) to ``take`` and drops it.

    Only one gradient is held at a time. The others are not computed. Tied parameters are one. No dropout.
    """
    parameters = dict(model.named_parameters())
    needed = {name: weight.requires_grad for name, weight in parameters.items()}
    training = model.training
    hooks = []

    def hand_over(name: str, weight: torch.Tensor) -> None:
        assert weight.grad is not None
        take(name, weight.grad)
        weight.grad = None

    model.eval()
    for name, weight in parameters.items():
        weight.requires_grad_(names is None or name in names)
        if weight.requires_grad:
            # The default argument binds the name of each parameter to its own hook.
            hooks.append(weight.register_post_accumulate_grad_hook(lambda w, n=name: hand_over(n, w)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for name, weight in parameters.items():
            weight.requires_grad_(needed[name])
        model.train(training)


Piece = tuple[str, int, int]  # parameter, half-open range of its flattened elements


def passes(sizes: Mapping[str, int], capacity: int) -> list[list[Piece]]:
    """All elements of parameters of these ``sizes``, in order, in groups of at most ``capacity`` elements."""
    groups: list[list[Piece]] = [[]]
    room = max(1, capacity)
    for name, size in sizes.items():
        start = 0
        while start < size:
            if room == 0:
                groups.append([])
                room = max(1, capacity)
            taken = min(room, size - start)
            groups[-1].append((name, start, start + taken))
            start, room = start + taken, room - taken
    return groups


def rounds(model: Any, blocks: int, budget: int | None = None) -> list[list[Piece]]:
    """The :func:`passes` of a model: as many elements as ``budget`` bytes (default: ``BUDGET``) hold of ``blocks``."""
    capacity = (budget or BUDGET.get(model.device.type, BUDGET["cpu"])) // (4 * blocks)
    return passes({name: weight.numel() for name, weight in model.named_parameters()}, capacity)


def block_grams(model: Any, blocks: Sequence[Sequence[Batch]], budget: int | None = None) -> dict[str, torch.Tensor]:
    """Inner products of the gradients of blocks, fp64 [N, N] on the CPU, by layer and for ``all`` parameters.

    ``blocks`` are N lists of batches; a block's gradient is that of its summed loss in nats. The gradients themselves
    are held for as many parameters as fit ``budget`` bytes (4 N for each element; default: ``BUDGET``), and the passes
    over the sentences are repeated until all parameters have had their turn: ceil(4 N D / budget) passes for D
    parameters, in fp32, multiplied and summed in fp64.
    """
    zeros = torch.zeros(len(blocks), len(blocks), dtype=torch.float64, device=model.device)
    grams = {layer: zeros.clone() for layer in dict.fromkeys(layer_of(name) for name, _ in model.named_parameters())}
    for pieces in rounds(model, len(blocks), budget):
        width = sum(stop - start for _, start, stop in pieces)
        held = torch.zeros(len(blocks), width, device=model.device)
        _fill(model, blocks, pieces, held)
        offset = 0
        for name, start, stop in pieces:
            for part in held[:, offset : offset + stop - start].split(COLUMNS, dim=1):
                exact = part.double()
                grams[layer_of(name)] += exact @ exact.T
            offset += stop - start
    grams[ALL] = torch.stack(list(grams.values())).sum(0)
    return {layer: gram.cpu() for layer, gram in grams.items()}


def _fill(model: Any, blocks: Sequence[Sequence[Batch]], pieces: Sequence[Piece], held: torch.Tensor) -> None:
    """Write the gradients of ``pieces`` side by side into ``held`` [N, width], a row for each block."""
    columns: dict[str, list[tuple[int, int, int]]] = {}
    offset = 0
    for name, start, stop in pieces:
        columns.setdefault(name, []).append((start, stop, offset))
        offset += stop - start
    row = 0

    def take(name: str, gradient: torch.Tensor) -> None:
        flat = gradient.flatten()
        for start, stop, column in columns[name]:
            held[row, column : column + stop - start] += flat[start:stop]

    with each_gradient(model, take, columns.keys()):
        for row, batches in enumerate(blocks):  # noqa: B007 (read by `take`)
            for batch in batches:
                batch_losses(model, batch).sum().backward()
