"""Energy counters: NVML's, and those of a made-up powercap tree that go round."""

import math
import sys
import time
from typing import ClassVar

import pytest

from langmerge import energy
from langmerge.energy import Meter, Used

ROUND = 1000  # microjoules after which a counter starts at 0 again: 0 to 999


class Driver:
    """A stand-in for NVML: the counter runs 2.5 J further at each reading."""

    def __init__(self):
        self.millijoules = 1e6

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        self.millijoules += 2500
        return self.millijoules


class Machine:
    """Zones of two packages with memory and cores, the board's, and /proc/stat."""

    ZONES: ClassVar = {"0": "package-0", "0:0": "core", "0:1": "dram", "1": "package-1", "2": "psys"}

    def __init__(self, root):
        self.powercap, self.stat = root / "powercap", root / "stat"
        for zone, name in self.ZONES.items():
            folder = self.powercap / f"intel-rapl:{zone}"
            folder.mkdir(parents=True)
            (folder / "name").write_text(f"{name}\n")
            (folder / "max_energy_range_uj").write_text(f"{ROUND - 1}\n")
            self.set(zone, 900)
        self.work(0)

    def set(self, zone, microjoules):
        (self.powercap / f"intel-rapl:{zone}" / "energy_uj").write_text(f"{microjoules}\n")

    def work(self, ticks):
        # user nice system idle iowait irq softirq steal guest guest_nice: guests are counted in user and nice already.
        self.stat.write_text(f"cpu  {100 + ticks} 10 20 5000 300 1 2 3 50 5\ncpu0 1 1 1 1 1 1 1 1 1 1\n")

    def meter(self):
        return Meter(powercap=self.powercap, stat=self.stat)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with a hundred ticks a second, and this process's CPU time in the hand of the test."""
    monkeypatch.setattr(energy.os, "sysconf", lambda name: 100)
    made = Machine(tmp_path)
    made.cpu = 5.0
    monkeypatch.setattr(time, "process_time", lambda: made.cpu)
    return made


def test_packages_and_memory_are_counted_and_go_round(machine):
    meter = machine.meter()
    machine.cpu, ticks = 7.0, 200  # this process did all that the machine did
    machine.work(ticks)
    machine.set("0", 950)  # 50
    machine.set("0:1", 100)  # 900 to 999, 0, 100: 200
    machine.set("1", 899)  # all but a round: 999
    machine.set("0:0", 990)  # in the package already
    machine.set("2", 990)  # of the board
    assert meter.used().cpu_joules == pytest.approx((50 + 200 + 999) / 1e6)
    machine.set("0", 0)
    assert meter.used().cpu_joules == pytest.approx((50 + 50 + 200 + 999) / 1e6)  # a further round, by the next reading


def test_a_process_is_charged_with_its_share_of_the_machines_work(machine):
    meter = machine.meter()
    machine.cpu = 6.0  # 1 s of its own
    machine.work(400)  # of 4 s that the machine worked
    machine.set("0", 980)
    used = meter.used()
    assert used.cpu_seconds == 1 and used.cpu_joules == pytest.approx(80e-6 / 4)


def test_energy_of_the_gpu_is_its_counters_difference(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", Driver())
    meter = Meter("GPU-1")
    assert meter.used().gpu_joules == 2.5
    assert meter.used().gpu_joules == 5.0


@pytest.mark.parametrize("spoil", ["no tree", "unreadable", "no number"])
def test_what_cannot_be_read_is_unknown(machine, monkeypatch, spoil):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    file = machine.powercap / "intel-rapl:1" / "energy_uj"
    if spoil == "no tree":
        machine.powercap = machine.powercap / "none"
    elif spoil == "unreadable":
        file.unlink()
    else:
        file.write_text("")
    used = Meter("GPU-1", machine.powercap, machine.stat).used()
    assert math.isnan(used.cpu_joules) and math.isnan(used.gpu_joules) and used.cpu_seconds == 0
    assert used.known() == {}


def test_what_is_unknown_anywhere_is_unknown_in_the_sum():
    whole = Used(1.0, 2.0, math.nan) + Used(3.0, 4.0, 5.0)
    assert whole.known() == {"gpu_joules": 6.0} and whole.cpu_seconds == 4
    assert (whole - Used(1.0, 2.0)).gpu_joules == 4
