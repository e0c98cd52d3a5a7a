"""Sums over the spans of a batch, on each device in the way that is fastest there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from langmerge.spans import Batch

EXACT = {torch.bfloat16: 2**8, torch.float16: 2**11}  # largest count that a product in this type holds exactly


@dataclass(frozen=True)
class Window:
    """The positions of a batch that count, and for whom.

    The window are the positions ``low`` to ``high`` (half-open), without the template before the first span and the
    padding after the last; ``mask`` fp32 [B, S, T'] has its T' positions, ``tokens`` [B, S] its sums. ``directions``
    [B], ``members`` one-hot fp32 [D, B] of them, ``cells`` [B] = direction x G + block.

    On a CPU ``bags`` are the places of all span positions, sentence by sentence and span by span, in the batch
    (b T + t) and in the window (b T' + t), and where each span begins among them; elsewhere None.
    """

    low: int
    high: int
    mask: torch.Tensor
    tokens: torch.Tensor
    directions: torch.Tensor
    members: torch.Tensor
    cells: torch.Tensor
    bags: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None

    def view(self, values: torch.Tensor) -> torch.Tensor:
        """The window [B, T', I] of ``values`` [B, T, I]."""
        return values[:, self.low : self.high]

    def inside(self, values: torch.Tensor) -> torch.Tensor:
        """The values [P, I] at the positions of any span, from [B, T, I]."""
        return self.view(values)[self.mask.any(1)]

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """Sums over spans, fp32 (fp64 of fp64) [B, S, I], of ``values`` [B, T, I]."""
        if self.bags is not None and values.dtype == torch.float32:
            places, _, starts = self.bags
            return self._bagged(values, places, starts)
        wide = self.view(values)
        wide = wide if wide.dtype == torch.float64 else wide.float()
        return torch.bmm(self.mask.to(wide.dtype), wide)

    def counts(self, events: torch.Tensor) -> torch.Tensor:
        """Number of ``events`` (0 or 1) [B, T', I] in each span, [B, S, I], whole numbers."""
        if self.bags is not None and events.dtype == torch.float32:
            _, places, starts = self.bags
            return self._bagged(events, places, starts)
        mask, limit = self.mask.to(events.dtype), EXACT.get(events.dtype, 2**24)
        if mask.shape[2] <= limit:
            return torch.bmm(mask, events)
        pieces = zip(mask.split(limit, 2), events.split(limit, 1), strict=True)
        return torch.stack([torch.bmm(m, e).float() for m, e in pieces]).sum(0)

    def _bagged(self, values: torch.Tensor, places: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        # Reads only what is inside: half of what the product with the mask takes
        found = torch.embedding_bag(values.flatten(0, 1), places, starts)[0]
        return found.view(*self.tokens.shape, -1)


def window(batch: Batch, directions: torch.Tensor, blocks: torch.Tensor, n_directions: int, n_blocks: int) -> Window:
    """The :class:`Window` of ``batch``; ``directions`` and ``blocks`` [B] belong to its sequences."""
    b, _, t = batch.mask.nonzero(as_tuple=True)
    low, high = int(t.min()), int(t.max()) + 1
    mask = batch.mask[:, :, low:high]
    tokens = mask.sum(-1)
    bags = None
    if mask.device.type == "cpu":
        ends = tokens.flatten().cumsum(0).long()
        bags = b * batch.mask.shape[2] + t, b * mask.shape[2] + t - low, ends - tokens.flatten().long()
    members = functional.one_hot(directions, n_directions).float().T.contiguous()
    return Window(low, high, mask, tokens, directions, members, directions * n_blocks + blocks, bags)
