"""Gate events of the MLPs, counted while a model reads.

A unit of a gated MLP fires at a position when its gate pre-activation is positive: SiLU and GELU keep the sign, so the
sign of ``gate_proj``'s output says it (One Model to Translate Them All, arXiv 2604.02881; Language Activation
Probability Entropy, arXiv 2402.16438).
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import nn

from langmerge.analysis.spans import SPANS, Batch
from langmerge.provenance import InputError

GATE = "mlp.gate_proj"


def gate_projections(model: nn.Module, layers: int) -> list[nn.Module]:
    """The ``gate_proj`` of each of the ``layers`` MLPs, in order; :class:`InputError` for other architectures."""
    gates = [module for name, module in model.named_modules() if name.endswith(GATE)]
    if len(gates) != layers:
        raise InputError(
            f"architecture {type(model).__name__}: {len(gates)} modules named *.{GATE} for {layers} layers; neurons "
            "are counted in models with one gated MLP a layer, such as Llama, Qwen, Mistral and Gemma"
        )
    return gates


class GateCounter:
    """Counts gate events per span, block, layer and unit; a context manager around forward passes.

    Call :meth:`expect` before each pass. ``counts`` is int64 [span, block, layer, unit], exact: sums over one sentence
    stay far below 2^24 and are added up as integers.
    """

    def __init__(self, gates: list[nn.Module], n_blocks: int) -> None:
        self._gates = gates
        widths = {int(gate.weight.shape[0]) for gate in gates}  # type: ignore[index]
        if len(widths) != 1:
            raise InputError(f"MLPs of different widths {sorted(widths)}; expected the same in all layers")
        shape = (len(SPANS), n_blocks, len(gates), widths.pop())
        self.counts = torch.zeros(shape, dtype=torch.int64, device=next(gates[0].parameters()).device)
        self._handles: list[Any] = []

    def expect(self, batch: Batch, blocks: torch.Tensor) -> None:
        """Say what the next forward pass reads; ``blocks`` [B] is the block of each of its sequences."""
        self._mask, self._blocks = batch.mask, blocks

    def __enter__(self) -> GateCounter:
        for layer, gate in enumerate(self._gates):
            self._handles.append(gate.register_forward_hook(self._hook(layer)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, layer: int) -> Any:
        counts = self.counts[:, :, layer]  # [span, block, unit], a view

        def count(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            events = (output > 0).to(self._mask.dtype)
            sums = torch.bmm(self._mask, events)  # [B, span, unit]: one GEMM for both spans
            counts.index_add_(1, self._blocks, sums.transpose(0, 1).long())

        return count
