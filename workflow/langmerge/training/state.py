"""The resume state of a run: weights, optimizer and log after some step, in one safetensors file (never a pickle).

Frozen weights, those of a parent beneath adapters, are not kept: they are as they were.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file

from langmerge.provenance import atomic_file

FILE = "state.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")


def _trained(model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]


def save(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, meta: dict[str, Any]) -> None:
    """Write the state after ``meta["step"]`` steps, atomically: a kill leaves the old file or the new one, whole."""
    tensors = {}
    for name, weight in _trained(model):
        tensors[f"model.{name}"] = weight.detach().contiguous()
        for moment in MOMENTS:
            tensors[f"{moment}.{name}"] = optimizer.state[weight][moment].contiguous()
    for leftover in folder.glob(f".{FILE}.*.part"):
        leftover.unlink()  # of a run that was killed while it wrote
    with atomic_file(folder / FILE) as temporary:
        save_file(tensors, temporary, metadata={"state": json.dumps(meta)})


def read(folder: Path, identity: str) -> dict[str, Any] | None:
    """The ``meta`` of the saved state, or None: there is no state, or (with a message) it is broken or of another run.

    ``identity`` is the hash of recipe, inputs and code that ``meta["identity"]`` must equal.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            meta: dict[str, Any] = json.loads(file.metadata()["state"])
    except (safetensors.SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        print(f"{path}: not readable ({error}); training starts anew", file=sys.stderr)
        return None
    if meta.get("identity") != identity:
        print(f"{path}: belongs to another recipe, data or code; training starts anew", file=sys.stderr)
        return None
    return meta


def restore(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Put the saved weights and moments, those after ``step`` steps, into model and optimizer."""
    with safetensors.safe_open(folder / FILE, framework="pt") as file, torch.no_grad():
        for name, weight in _trained(model):
            weight.copy_(file.get_tensor(f"model.{name}"))
            # All of it on the weight's device, as the fused kernel holds it.
            optimizer.state[weight] = {
                "step": torch.tensor(float(step), device=weight.device),
                **{moment: file.get_tensor(f"{moment}.{name}").to(weight.device) for moment in MOMENTS},
            }
