"""What a process has used so far: CPU seconds, and energy where the machine has counters of it.

Energy of GPUs is NVML's counter of one device. Energy of CPUs is that of Linux' powercap tree (RAPL: packages and
their memory), which counts the whole machine: a process is charged with its share of the machine's busy CPU time, so
that processes side by side are not charged twice, and idle power is shared by those that work.

Many machines let only root read RAPL's counters; what cannot be read is NaN, never 0.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

POWERCAP = Path("/sys/class/powercap")
STAT = Path("/proc/stat")
IDLE = (3, 4, 8, 9)  # columns of /proc/stat that are no work, or counted in another one: idle, iowait, guests
UNKNOWN = float("nan")


@dataclass(frozen=True)
class Used:
    """CPU seconds of a process and joules of its GPU and CPU; NaN where there is no counter.

    ``+`` and ``-`` are by component.
    """

    cpu_seconds: float = 0.0
    gpu_joules: float = 0.0
    cpu_joules: float = 0.0

    def __add__(self, other: Used) -> Used:
        return Used(*(a + b for a, b in zip(self.values(), other.values(), strict=True)))

    def __sub__(self, other: Used) -> Used:
        return Used(*(a - b for a, b in zip(self.values(), other.values(), strict=True)))

    def values(self) -> tuple[float, float, float]:
        """The three, in order."""
        return self.cpu_seconds, self.gpu_joules, self.cpu_joules

    def known(self) -> dict[str, float]:
        """Joules by name, those that were counted, as ``cost.json`` has them."""
        joules = {"gpu_joules": self.gpu_joules, "cpu_joules": self.cpu_joules}
        return {name: round(value, 3) for name, value in joules.items() if value == value}


class Meter:
    """Counts what this process uses from now on.

    Read it more often than a counter goes round, which takes RAPL's some minutes: a counter that went round twice
    between two readings loses a round.
    """

    def __init__(self, gpu: str | None = None, powercap: Path = POWERCAP, stat: Path = STAT) -> None:
        """``gpu``: UUID of the CUDA device that is this process's, if any."""
        self._cpu, self._stat = time.process_time(), stat
        self._gpu = _gpu_counter(gpu)
        self._gpu_start = self._gpu() if self._gpu else UNKNOWN
        self._zones = _zones(powercap)
        self._last = {zone: _number(zone / "energy_uj") for zone in self._zones}
        self._counted = 0.0  # microjoules of all zones
        self._busy = _busy(stat)

    def used(self) -> Used:
        """What was used since the start."""
        cpu = time.process_time() - self._cpu
        gpu = self._gpu() - self._gpu_start if self._gpu else UNKNOWN
        return Used(cpu, gpu, self._cpu_joules(cpu))

    def _cpu_joules(self, cpu: float) -> float:
        if not self._zones:
            return UNKNOWN
        for zone, span in self._zones.items():
            now = _number(zone / "energy_uj")
            self._counted += (now - self._last[zone]) % span
            self._last[zone] = now
        busy = _busy(self._stat) - self._busy
        share = min(1.0, cpu / busy) if busy > 0 else 1.0  # /proc/stat counts hundredths of a second
        return share * self._counted / 1e6


def meter_of(device: torch.device) -> Meter:
    """A meter of this process and of the device that it computes on."""
    if device.type != "cuda":
        return Meter()
    import torch

    return Meter(f"GPU-{torch.cuda.get_device_properties(device).uuid}")


def _gpu_counter(uuid: str | None) -> Any:
    """A function that reads NVML's energy counter of a device (joules since the driver was loaded), or None."""
    if uuid is None:
        return None
    try:
        import pynvml

        pynvml.nvmlInit()
        # By UUID: indices of CUDA and NVML differ under CUDA_VISIBLE_DEVICES.
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:
        return None  # no pynvml, no driver, or a device without counter (before Volta)
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000.0


def _zones(powercap: Path) -> dict[Path, float]:
    """Folders of the zones that count packages or their memory, with the span after which each starts again at 0.

    Cores and graphics are part of a package, and ``psys`` of the whole board: they would count twice. No zone where
    one of them cannot be read.
    """
    found: dict[Path, float] = {}
    try:
        for folder in sorted(powercap.glob("intel-rapl:*")):
            if (folder / "name").read_text().strip().startswith(("package", "dram")):
                found[folder] = _number(folder / "max_energy_range_uj") + 1
                _number(folder / "energy_uj")
    except (OSError, ValueError):
        return {}
    return found


def _number(path: Path) -> float:
    return float(path.read_text())


def _busy(stat: Path) -> float:
    """CPU seconds that the whole machine has worked, or NaN where the system does not tell."""
    try:
        columns = stat.read_text().splitlines()[0].split()[1:]
    except (OSError, IndexError):
        return UNKNOWN
    ticks = sum(int(value) for place, value in enumerate(columns) if place not in IDLE)
    return ticks / os.sysconf("SC_CLK_TCK")
