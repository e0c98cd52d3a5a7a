"""Counters of what units do, filled by forward hooks; all sums are matrix products with the spans' masks.

Values a [B, T, I] of a batch meet masks M [B, S, T] of 0 and 1: events M [|a| > tau] and sums M a, both
[B, S, I], are added up: events by direction and block of sentences, exact integers; sums by direction, in fp64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from langmerge.observation.sites import GATED

QUANTILE = 0.95  # of |a| in the baseline's pilot: the threshold of an event where 0 is no natural one
EXACT = {torch.bfloat16: 2**8, torch.float16: 2**11}  # largest count that a product in this type holds exactly


@dataclass(frozen=True)
class Where:
    """Which positions of a batch count, and for whom.

    ``mask`` fp32 [B, S, T], ``tokens`` [B, S] its sums, ``directions`` [B], ``members`` one-hot [B, D] of them,
    ``cells`` [B] = direction x G + block.
    """

    mask: torch.Tensor
    tokens: torch.Tensor
    directions: torch.Tensor
    members: torch.Tensor
    cells: torch.Tensor


def span_sums(mask: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Sums over spans, fp32 [B, S, I], of ``values`` [B, T, I] under the fp32 ``mask`` [B, S, T]."""
    wide = values if values.dtype == torch.float64 else values.float()
    return torch.bmm(mask.to(wide.dtype), wide)


def threshold(values: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """95th percentile [I] of |a| over the positions ``inside`` [B, T]: the smallest value that 95 % do not exceed."""
    sample = values[inside].abs().float().T.contiguous()  # [I, P]
    place = math.ceil(QUANTILE * sample.shape[1]) - 1
    if sample.device.type == "cpu":  # numpy's selection is twice as fast
        return torch.from_numpy(np.partition(sample.numpy(), place, axis=1)[:, place].copy())
    return sample.topk(sample.shape[1] - place, sorted=False).values.amin(1)


def edges(means: torch.Tensor, bins: int) -> torch.Tensor:
    """Ascending edges [I, bins - 1] that cut sentence means [m, I] into ``bins`` equally full bins."""
    order = means.sort(0).values
    places = (torch.arange(1, bins, device=means.device) * len(means)).div(bins, rounding_mode="floor")
    return order[places].T.contiguous()


class Meter:
    """Counters of one site with ``layers`` x ``units``: ``directions`` D, ``blocks`` G, S spans.

    ``tau`` [layer, unit] and ``cuts`` [layer, unit, bins - 1] are frozen if given, else found in the first batch that
    each layer sees. Arrays: ``events`` int32 [S, D G, layer, unit], ``total`` fp64 [D, S, layer, unit],
    ``histogram`` int16 [D, S, layer, unit, bins] (None without bins).
    """

    def __init__(
        self, site: str, layers: int, units: int, spans: int, directions: int, blocks: int, bins: int,
        device: torch.device, tau: torch.Tensor | None = None, cuts: torch.Tensor | None = None,
    ) -> None:  # fmt: skip
        self.site, self.directions, self.blocks, self.bins = site, directions, blocks, bins
        self.gated = site == GATED
        self.events = torch.zeros(spans, directions * blocks, layers, units, dtype=torch.int32, device=device)
        self.total = torch.zeros(directions, spans, layers, units, dtype=torch.float64, device=device)
        self.learns, self.learns_cuts = tau is None and not self.gated, cuts is None
        self.tau = torch.zeros(layers, units, device=device) if tau is None else tau.to(device)
        self.histogram = self.cuts = None
        if bins:
            self.histogram = torch.zeros(directions, spans, layers, units, bins, dtype=torch.int16, device=device)
            blank = torch.zeros(layers, units, bins - 1, device=device)
            self.cuts = blank if cuts is None else cuts.to(device)
        self._rooms: dict[torch.dtype, torch.Tensor] = {}
        self._started: set[int] = set()

    def take(self, layer: int, values: torch.Tensor, sums: torch.Tensor, where: Where) -> None:
        """Count one batch of a layer; ``sums`` [B, S, I] are those of ``values`` [B, T, I]."""
        first = layer not in self._started
        self._started.add(layer)
        if first and self.learns:
            self.tau[layer] = threshold(values, where.mask.any(1))
        counts = self._events(layer, values, where.mask)
        self.events[:, :, layer].index_add_(1, where.cells, counts.transpose(0, 1).int())
        # Within a batch in the sums' own type, between batches in fp64
        by_direction = where.members.to(sums.dtype).T @ sums.flatten(1)
        self.total[:, :, layer] += by_direction.view(self.directions, *sums.shape[1:])
        if self.histogram is not None and self.cuts is not None:
            means = (sums / where.tokens[:, :, None]).float()
            if first and self.learns_cuts:
                self.cuts[layer] = edges(means.flatten(0, 1), self.bins)
            self._sort_in(layer, means, where)

    def _events(self, layer: int, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Number of events in each sentence and span, [B, S, I], whole numbers."""
        events = self._room(values)
        if self.gated:
            torch.gt(values, 0, out=events)
        else:
            torch.gt(torch.abs(values, out=events), self.tau[layer].to(values.dtype), out=events)
        mask = mask.to(values.dtype)
        limit = EXACT.get(values.dtype, 2**24)
        pieces = zip(mask.split(limit, 2), events.split(limit, 1), strict=True)
        return sum((torch.bmm(m, e).float() for m, e in pieces), start=torch.zeros((), device=values.device))

    def _room(self, values: torch.Tensor) -> torch.Tensor:
        """Memory in the shape of ``values``, kept between batches: fresh pages cost more than the arithmetic."""
        room = self._rooms.get(values.dtype)
        if room is None or room.numel() < values.numel():
            room = self._rooms[values.dtype] = torch.empty(values.numel(), dtype=values.dtype, device=values.device)
        return room[: values.numel()].view(values.shape)

    def _sort_in(self, layer: int, means: torch.Tensor, where: Where) -> None:
        assert self.histogram is not None and self.cuts is not None
        bins = torch.searchsorted(self.cuts[layer], means.permute(2, 0, 1).flatten(1).contiguous(), right=True)
        bins = bins.view(means.shape[2], *means.shape[:2])  # [I, B, S]
        for direction in where.directions.unique().tolist():
            here = bins[:, where.directions == direction].permute(2, 0, 1)  # [S, I, B]
            self.histogram[direction, :, layer].scatter_add_(2, here, torch.ones_like(here, dtype=torch.int16))
