"""The energy that the GPU took, where its driver tells."""

from __future__ import annotations

from typing import Any


class Energy:
    """NVML's total-energy counter of one CUDA device (millijoules since the driver was loaded; Volta and later)."""

    def __init__(self, uuid: str | None) -> None:
        self._handle: Any = None
        if uuid is None:
            return
        try:
            import pynvml

            pynvml.nvmlInit()
            # By UUID: indices of CUDA and NVML differ under CUDA_VISIBLE_DEVICES.
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            self._nvml = pynvml
            self._start = self._read()
        except Exception:
            self._handle = None  # no pynvml, no driver, or a device without counter: energy is then not reported

    def _read(self) -> float:
        return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1000.0

    def joules(self) -> float | None:
        """Energy since the start, or None where it cannot be read."""
        return None if self._handle is None else self._read() - self._start
