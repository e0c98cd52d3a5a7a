"""Which arithmetic a training computes in: bf16 where the device has instructions for it, else fp32."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Choice = Literal["auto", "fp32", "bf16"]
Precision = Literal["fp32", "bf16"]

CPU = Path("/proc/cpuinfo")
INSTRUCTIONS = {"avx512_bf16", "amx_bf16", "bf16"}  # as Linux names them; the last one is Arm's


def has_bf16(device: torch.device, cpu: Path = CPU) -> bool:
    """Whether ``device`` multiplies matrices in bf16 itself.

    A CPU that does not computes them one number at a time in torch: a training of 0.9 M parameters took 16 times as
    long as in fp32 (``benchmarks/training.py``, AVX2 alone, torch 2.13). ``cpu``: what Linux says of the processor;
    where it says nothing, there is no bf16.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_capability(device) >= (8, 0)
    lines = cpu.read_text(encoding="utf-8").splitlines() if cpu.is_file() else []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return not INSTRUCTIONS.isdisjoint(features.split())


def resolve(choice: Choice, device: torch.device, cpu: Path = CPU) -> Precision:
    """``choice``, or what "auto" means on ``device``."""
    if choice != "auto":
        return choice
    return "bf16" if has_bf16(device, cpu) else "fp32"
