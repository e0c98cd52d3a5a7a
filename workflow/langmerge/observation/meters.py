"""Counters of what units do, filled by forward hooks.

Values a [B, T, I] of a batch meet masks M [B, S, T] of 0 and 1: events M [|a| > tau] and sums M a, both
[B, S, I], are added up: events by direction and block of sentences, exact integers; sums by direction, in fp64.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from langmerge.observation.sites import GATED
from langmerge.observation.windows import Window

QUANTILE = 0.95  # of |a| in the baseline's pilot: the threshold of an event where 0 is no natural one


def threshold(values: torch.Tensor) -> torch.Tensor:
    """95th percentile [I] of |a| over ``values`` [P, I]: the smallest value that 95 % do not exceed."""
    sample = values.abs().float().T.contiguous()  # [I, P]
    place = math.ceil(QUANTILE * sample.shape[1]) - 1
    if sample.device.type == "cpu":  # numpy's selection is twice as fast, and whole numbers order as positive floats do
        order = sample.numpy().view(np.int32)
        order.partition(place, axis=1)
        return sample[:, place].clone()
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

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (self.events, self.total, self.tau, self.cuts, self.histogram)
        return sum(array.nbytes for array in arrays if array is not None)

    def take(self, layer: int, values: torch.Tensor, sums: torch.Tensor, where: Window) -> None:
        """Count one batch of a layer; ``sums`` [B, S, I] are those of ``values`` [B, T, I]."""
        first = layer not in self._started
        self._started.add(layer)
        seen = where.view(values)
        if first and self.learns:
            self.tau[layer] = threshold(where.inside(values))
        counts = where.counts(self._events(layer, seen))
        self.events[:, :, layer].index_add_(1, where.cells, counts.transpose(0, 1).int())
        # Within a batch in the sums' own type, between batches in fp64
        by_direction = where.members.to(sums.dtype) @ sums.flatten(1)
        self.total[:, :, layer].add_(by_direction.view(self.directions, *sums.shape[1:]))
        if self.histogram is not None and self.cuts is not None:
            means = (sums / where.tokens[:, :, None]).float()
            if first and self.learns_cuts:
                self.cuts[layer] = edges(means.flatten(0, 1), self.bins)
            self._sort_in(layer, means, where)

    def _events(self, layer: int, values: torch.Tensor) -> torch.Tensor:
        """1 where a unit fires, else 0, in the type of ``values`` [B, T', I]."""
        events = self._room(values)
        if self.gated:
            return torch.gt(values, 0, out=events)
        return torch.gt(torch.abs(values, out=events), self.tau[layer].to(values.dtype), out=events)

    def _room(self, values: torch.Tensor) -> torch.Tensor:
        """Memory in the shape of ``values``, kept between batches: fresh pages cost more than the arithmetic."""
        room = self._rooms.get(values.dtype)
        if room is None or room.numel() < values.numel():
            room = self._rooms[values.dtype] = torch.empty(values.numel(), dtype=values.dtype, device=values.device)
        return room[: values.numel()].view(values.shape)

    def _sort_in(self, layer: int, means: torch.Tensor, where: Window) -> None:
        assert self.histogram is not None and self.cuts is not None
        bins = torch.searchsorted(self.cuts[layer], means.permute(2, 0, 1).flatten(1).contiguous(), right=True)
        bins = bins.view(means.shape[2], *means.shape[:2])  # [I, B, S]
        for direction in where.directions.unique().tolist():
            here = bins[:, where.directions == direction].permute(2, 0, 1)  # [S, I, B]
            self.histogram[direction, :, layer].scatter_add_(2, here, torch.ones_like(here, dtype=torch.int16))
