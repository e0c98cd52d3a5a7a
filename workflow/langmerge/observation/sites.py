"""Where in a decoder units are watched.

``mlp_gate``: pre-activations of the gated MLP; a unit fires where they are positive, since SiLU and GELU keep the sign
(arXiv 2402.16438, 2604.02881). ``mlp_product``: gate times up, the input of the down projection. ``attention``: heads'
outputs, the input of the output projection. ``residual``: the stream after each block. ``embedding``: what enters the
first block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from langmerge.provenance import InputError

GATE = "mlp.gate_proj"
GATED = "mlp_gate"  # the site whose events need no threshold


@dataclass(frozen=True)
class Tap:
    """The input (``before``) or output of a module, watched as ``layer`` of ``site``."""

    site: str
    layer: int
    module: nn.Module
    before: bool


def decoder_blocks(model: nn.Module, layers: int) -> list[nn.Module]:
    """The ``layers`` blocks of a decoder with gated MLPs, in order; :class:`InputError` for other architectures."""
    names = [name for name, _ in model.named_modules() if name.endswith(GATE)]
    if len(names) != layers:
        raise InputError(
            f"architecture {type(model).__name__}: {len(names)} modules named *.{GATE} for {layers} layers; units "
            "are watched in models with one gated MLP a layer, such as Llama, Qwen, Mistral and Gemma"
        )
    return [model.get_submodule(name.removesuffix(f".{GATE}")) for name in names]


def _part(model: nn.Module, block: nn.Module, layer: int, name: str, site: str) -> nn.Module:
    try:
        return block.get_submodule(name)
    except AttributeError:
        raise InputError(
            f"architecture {type(model).__name__}: block {layer} has no {name}; leave {site} out of `sites`"
        ) from None


def taps(model: nn.Module, layers: int, sites: Sequence[str]) -> list[Tap]:
    """What to hook for ``sites``; embedding and residual stream always, since they are pooled."""
    blocks = decoder_blocks(model, layers)
    found = [Tap("embedding", 0, blocks[0], before=True)]
    parts = {
        "mlp_gate": (GATE, False),
        "mlp_product": ("mlp.down_proj", True),
        "attention": ("self_attn.o_proj", True),
    }
    for layer, block in enumerate(blocks):
        for site, (name, before) in parts.items():
            if site in sites:
                found.append(Tap(site, layer, _part(model, block, layer, name, site), before))
        found.append(Tap("residual", layer, block, before=False))
    return found
