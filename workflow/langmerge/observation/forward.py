"""The one streaming pass: hooks pool hidden states, count events and leave nothing else behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from langmerge.observation.meters import Meter
from langmerge.observation.sites import Tap, taps
from langmerge.observation.store import Pooled
from langmerge.observation.windows import window
from langmerge.prompts import Encoded
from langmerge.provenance import InputError
from langmerge.spans import SPANS, Batch, by_length, collate, positions

# Small batches on a CPU stay in its cache
TOKENS_PER_BATCH = {"cpu": 1024, "cuda": 8192}
PILOT = 2000  # span tokens of the first batch, which fixes the baseline's thresholds
LOGITS = 2**25  # elements of the logits held at once (fp32: 128 MiB)


@dataclass(frozen=True)
class Task:
    """What is read: N sequences of D directions one after the other, with direction and jackknife block of each."""

    encoded: Sequence[Encoded]
    directions: np.ndarray  # int64 [N]
    blocks: np.ndarray  # int64 [N]
    n_directions: int
    n_blocks: int
    align: str


def pilot(task: Task, tokens: int = PILOT) -> list[int]:
    """Sequences, in turn of each direction, until their spans have ``tokens`` tokens (or all are taken)."""
    queues = [np.flatnonzero(task.directions == d).tolist() for d in range(task.n_directions)]
    turns = [row for turn in range(max(map(len, queues))) for queue in queues for row in queue[turn : turn + 1]]
    chosen, total = [], 0
    for row in turns:
        if total >= tokens:
            break
        chosen.append(row)
        total += sum(end - start for start, end in positions(task.encoded[row], task.align))
    return chosen


def schedule(task: Task, tokens: int) -> Iterator[list[int]]:
    """The rows of each batch: the pilot first, then all others by length."""
    first = pilot(task)
    rest = np.setdiff1d(np.arange(len(task.encoded)), first).tolist()
    return chain([first], by_length(task.encoded, rest, tokens))


class Watch:
    """Hooks on the taps of a model; a context manager around its forward passes.

    Call :meth:`expect` before each pass; afterwards :attr:`pooled` has the states of layers 0 to L - 1, fp32
    [span, pool, layer, B, d].
    """

    def __init__(self, points: Sequence[Tap], meters: Mapping[str, Meter], task: Task, pools: Sequence[str]) -> None:
        self._points, self._meters, self._pools = points, meters, pools
        self._n_directions, self._n_blocks = task.n_directions, task.n_blocks
        self._layers = 1 + max(point.layer for point in points)
        self._handles: list[Any] = []
        self.pooled: list[torch.Tensor] = []

    def expect(self, batch: Batch, directions: torch.Tensor, blocks: torch.Tensor) -> None:
        """Say what the next forward pass reads; ``directions`` and ``blocks`` [B] belong to its sequences."""
        self._where = window(batch, directions, blocks, self._n_directions, self._n_blocks)
        self._last, self._rows = batch.last, torch.arange(len(batch.ids), device=batch.ids.device)[:, None]
        self.pooled = []

    def __enter__(self) -> Watch:
        for point in self._points:
            self._handles.append(self._hook(point))
        return self

    def __exit__(self, *exception: object) -> None:
        for handle in self._handles:
            handle.remove()

    def pool(self, states: torch.Tensor, sums: torch.Tensor | None = None) -> torch.Tensor:
        """Span means and last tokens of ``states`` [B, T, d] as asked for, fp32 [span, pool, B, d]."""
        found = []
        for pool in self._pools:
            if pool == "mean":
                sums = self._where.sums(states) if sums is None else sums
                found.append((sums / self._where.tokens[:, :, None]).float())
            else:
                found.append(states[self._rows, self._last].float())
        return torch.stack(found).permute(2, 0, 1, 3)

    def _hook(self, point: Tap) -> Any:
        meter = self._meters.get(point.site)
        # The last block's output is pooled after the final norm instead
        pools = point.site == "embedding" or (point.site == "residual" and point.layer < self._layers - 1)

        def look(states: torch.Tensor) -> None:
            sums = None
            if meter is not None:
                sums = self._where.sums(states)
                meter.take(point.layer, states, sums, self._where)
            if pools:
                self.pooled.append(self.pool(states, sums))

        if point.before:
            return point.module.register_forward_pre_hook(
                lambda module, inputs, named: look(inputs[0] if inputs else named["hidden_states"]), with_kwargs=True
            )
        return point.module.register_forward_hook(
            lambda module, inputs, output: look(output if isinstance(output, torch.Tensor) else output[0])
        )


def _logits(model: Any, states: torch.Tensor) -> torch.Tensor:
    """fp32 logits of final hidden states [m, d]."""
    logits = model.get_output_embeddings()(states).float()
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return cap * torch.tanh(logits / cap) if cap else logits


def target_losses(model: Any, states: torch.Tensor, batch: Batch, encoded: Sequence[Encoded]) -> np.ndarray:
    """Summed negative log-likelihood in nats, fp64 [B], of each sequence's target span.

    ``states`` [B, T, d] are the last hidden states. The head multiplies only those that predict a target token.
    """
    spans = [encoded[row].target for row in batch.rows.tolist()]
    row = torch.tensor([i for i, (start, end) in enumerate(spans) for _ in range(start, end)], device=states.device)
    place = torch.tensor([t for start, end in spans for t in range(start, end)], device=states.device)
    size = max(1, LOGITS // model.get_output_embeddings().weight.shape[0])
    total = torch.zeros(len(spans), dtype=torch.float64, device=states.device)
    for r, t in zip(row.split(size), place.split(size), strict=True):
        logits = _logits(model, states[r, t - 1])
        each = functional.cross_entropy(logits, batch.ids[r, t], reduction="none")
        total.index_add_(0, r, each.double())
    return total.cpu().numpy()


def check_head(model: Any) -> None:
    """:class:`InputError` for families that scale their logits outside the head: their losses would be wrong."""
    config = model.config.get_text_config()
    for key in ("logit_scale", "logits_scaling", "lm_head_multiplier"):
        if getattr(config, key, None) not in (None, 1, 1.0):
            raise InputError(f"architecture {type(model).__name__}: {key} scales its logits, which is not supported")


def site_shapes(model: Any, sites: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Layers and units of each site; :class:`InputError` where layers differ in width."""
    config = model.config.get_text_config()
    found = {}
    for site in sites:
        points = [point for point in taps(model, config.num_hidden_layers, sites) if point.site == site]
        units = {_units(point, config.hidden_size) for point in points}
        if len(units) != 1:
            raise InputError(f"{site}: different widths {sorted(units)}; expected the same in all layers")
        found[site] = (len(points), units.pop())
    return found


def meters_of(
    shapes: Mapping[str, tuple[int, int]], task: Task, bins: int, device: torch.device,
    frozen: Mapping[str, torch.Tensor] | None = None,
) -> dict[str, Meter]:  # fmt: skip
    """A meter for each site; ``frozen`` holds the baseline's ``<site>/tau`` and ``<site>/scale``."""
    found = {}
    for site, shape in shapes.items():
        tau, scale = (frozen.get(f"{site}/{name}") if frozen else None for name in ("tau", "scale"))
        found[site] = Meter(site, *shape, len(SPANS), task.n_directions, task.n_blocks, bins, device, tau, scale)
    return found


def _units(point: Tap, width: int) -> int:
    weight = getattr(point.module, "weight", None)
    return width if weight is None else int(weight.shape[1 if point.before else 0])


@torch.inference_mode()
def passes(
    model: Any, task: Task, meters: Mapping[str, Meter], pools: Sequence[str], out: Pooled | None,
    tokens_per_batch: int | None = None,
) -> Iterator[tuple[list[int], np.ndarray]]:  # fmt: skip
    """Read ``task`` once with a causal language model, on the device where it lies, batch by batch.

    Fills ``meters`` and ``out``; gives the rows of each batch and the summed nats of their targets, fp64 [B].
    :class:`InputError` for architectures without gated MLPs.
    """
    check_head(model)
    device, layers = model.device, model.config.get_text_config().num_hidden_layers
    directions, blocks = (torch.from_numpy(values).to(device) for values in (task.directions, task.blocks))
    budget = tokens_per_batch or TOKENS_PER_BATCH.get(device.type, 1024)
    with Watch(taps(model, layers, list(meters)), meters, task, pools) as watch:
        for rows in schedule(task, budget):
            batch = collate(task.encoded, rows, task.align, device)
            watch.expect(batch, directions[batch.rows], blocks[batch.rows])
            # Without the head: few positions need logits
            states = model.base_model(
                input_ids=batch.ids, attention_mask=batch.attention, use_cache=False
            ).last_hidden_state
            if out is not None:
                out.put(batch.rows, torch.stack([*watch.pooled, watch.pool(states)], 2))
            yield rows, target_losses(model, states, batch, task.encoded)


def observe(
    model: Any, task: Task, meters: Mapping[str, Meter], pools: Sequence[str], out: Pooled | None,
    tokens_per_batch: int | None = None,
) -> np.ndarray:  # fmt: skip
    """All :func:`passes` of a model over ``task``; the summed nats of each target, fp64 [N]."""
    losses = np.zeros(len(task.encoded))
    for rows, nats in passes(model, task, meters, pools, out, tokens_per_batch):
        losses[rows] = nats
    return losses
