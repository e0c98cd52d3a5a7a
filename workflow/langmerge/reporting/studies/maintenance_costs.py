"""What building and updating cost: measured seconds, tokens, FLOPs and energy of every way, on a number of workers.

A *way* is a set of trainings and, where it merges, a merge of the sweep. Of each job count its seconds from the first
reading of its inputs to the last writing of its outputs, without the start of the interpreter. *Work* is the CPU time
of all threads, or on GPUs the seconds times the GPUs; *wall* is what somebody waits on w workers: trainings of one
worker each are put on w of them longest first, each on the one that is free first (list scheduling by longest
processing time, Graham 1969: at most 4/3 - 1/(3w) of the best schedule); a training that was measured on w workers
itself takes all of them, and a merge follows after the trainings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from langmerge.provenance import COST, read_json
from langmerge.reporting.studies.results import LanguageResults

INITIAL, UPDATE, ADDITION = "initial", "update", "addition"
SCENARIOS = {INITIAL: "Initial build", UPDATE: "Update of one language", ADDITION: "Addition of a language"}
ALL, CONTINUED, APART = "combined", "continued", "apart"
MERGED, TUNED = "merged", "tuned"
WAYS = {
    ALL: "Train all together",
    CONTINUED: "Go on with replay",
    APART: "Specialists, not merged",
    MERGED: "Specialists, merged",
    TUNED: "Specialists, merge tuned",
}
QUANTITIES = ("work", "wall", "tokens", "flops", "joules")


@dataclass(frozen=True)
class Spent:
    """What something took: ``work`` and ``wall`` in seconds, energy in joules (NaN where no counter is readable)."""

    work: float = 0.0
    wall: float = 0.0
    tokens: float = 0.0
    flops: float = 0.0
    joules: float = 0.0

    def __add__(self, later: Spent) -> Spent:
        """One after the other."""
        return Spent(*(getattr(self, name) + getattr(later, name) for name in QUANTITIES))


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Wall-clock of jobs of one worker each on ``workers``, longest first, each to the worker that is free first."""
    free = [0.0] * workers
    for length in sorted(seconds, reverse=True):
        first = free.index(min(free))
        free[first] += length
    return max(free)


def together(jobs: Sequence[Spent], workers: int) -> Spent:
    """Jobs of one worker each, run on ``workers``."""
    total = sum(jobs, Spent())
    return Spent(total.work, makespan([job.wall for job in jobs], workers), total.tokens, total.flops, total.joules)


def of_training(cost: dict[str, Any]) -> Spent:
    """What a training's ``cost.json`` says."""
    wall = float(cost["seconds"])
    on_gpu = cost.get("peak_gpu_memory_bytes") == cost.get("peak_gpu_memory_bytes") and "peak_gpu_memory_bytes" in cost
    work = wall * cost["devices"] if on_gpu else float(cost["cpu_seconds"])
    joules = cost.get("gpu_joules")
    energy = float("nan") if joules is None else float(joules)
    return Spent(work, wall, float(cost["tokens"]), float(cost["flops"]), energy)


def of_merge(cost: dict[str, Any], on_gpu: bool, tuned: bool) -> Spent:
    """What a sweep's ``cost.json`` says of one merge: making the chosen one, with the tuning or without."""
    parts = ("merging", "tuning") if tuned else ("merging",)
    wall = sum(cost[f"{part}_seconds"] for part in parts)
    return Spent(wall if on_gpu else sum(cost[f"{part}_cpu_seconds"] for part in parts), wall)


def core_share(results: LanguageResults) -> float:
    """CPU seconds by seconds of the initial specialists' trainings, which have one thread each: their median.

    About 1 on a machine that does nothing else; below it, wall-clock tells of the machine's other work. NaN on GPUs.
    """
    specialists = results.select(role="specialist", scenario=INITIAL)
    rows = results.costs[results.costs.name.isin(specialists.name)] if len(specialists) else results.costs.iloc[:0]
    if rows.empty or ("peak_gpu_memory_bytes" in rows and rows.peak_gpu_memory_bytes.notna().any()):
        return float("nan")
    return float((rows.cpu_seconds / rows.seconds).median())


class Ledger:
    """Costs of a report's ways."""

    def __init__(self, results: LanguageResults) -> None:
        self.results, self.workers = results, int(results.study["workers"])
        self.trainings = {
            (cost["seed"], cost["name"]): {str(key): value for key, value in cost.items()}
            for cost in results.costs.to_dict("records")
        }
        self.sweeps = {
            name.removeprefix("sweeps/"): read_json(folder / COST)
            for name, folder in results.folders.items()
            if name.startswith("sweeps/")
        }

    def training(self, seed: int, name: str) -> Spent:
        """What a training took."""
        return of_training(self.trainings[seed, name])

    def merge(self, seed: int, group: str, name: str, tuned: bool) -> Spent:
        """What a merge took."""
        sweep = self.sweeps[f"seed{seed}/{group}"]
        return of_merge(sweep["merges"][name], str(sweep["device"]).startswith("cuda"), tuned)

    def named(self, seed: int, group: str, **values: Any) -> list[str]:
        """Models of a group, in the study's order."""
        return list(self.results.select(seed=seed, group=group, **values).name)

    def ways(self, seed: int, group: str, method: str) -> pd.DataFrame:
        """One row a scenario and way of a group: QUANTITIES, and how many adapters (or models) are kept."""
        specialists = self.named(seed, group, role="specialist", scenario=INITIAL)
        rows: list[dict[str, Any]] = []

        def add(scenario: str, way: str, spent: Spent, kept: int, merged: bool) -> None:
            head = {"seed": seed, "group": group, "scenario": scenario, "way": way, "kept": kept, "merged": merged}
            rows.append(head | {name: getattr(spent, name) for name in QUANTITIES})

        def add_specialists(scenario: str, trained: list[str], state: str) -> None:
            spent = together([self.training(seed, name) for name in trained], self.workers)
            add(scenario, APART, spent, len(specialists), False)
            for merge in self.named(seed, group, role="merge", method=method, scenario=state):
                for way, tuned in ((MERGED, False), (TUNED, True)):
                    add(scenario, way, spent + self.merge(seed, group, merge, tuned), len(specialists), True)

        for name in self.named(seed, group, role="combined", scenario=INITIAL):
            add(INITIAL, ALL, self.training(seed, name), 1, False)
        add_specialists(INITIAL, specialists, INITIAL)
        for name in self.named(seed, group, role="combined", scenario=UPDATE):
            add(UPDATE, ALL, self.training(seed, name), 1, False)
        for scenario in (UPDATE, ADDITION):
            for name in self.named(seed, group, role="continued", scenario=scenario):
                if scenario == ADDITION:  # all anew is the initial build of all
                    whole = self.named(seed, group, role="combined", scenario=INITIAL)
                    add(ADDITION, ALL, self.training(seed, whole[0]), 1, False)
                add(scenario, CONTINUED, self.training(seed, name), 2 if group.endswith("lora") else 1, False)
        if again := self.named(seed, group, role="specialist", scenario=UPDATE):
            add_specialists(UPDATE, again, UPDATE)
        addition = self.results.study["addition"]
        if addition and self.named(seed, group, role="continued", scenario=ADDITION):
            new = self.named(seed, group, role="specialist", scenario=INITIAL, language=addition["language"])
            add_specialists(ADDITION, new, INITIAL)
        return pd.DataFrame(rows)

    def table(self, method: str) -> pd.DataFrame:
        """All ways of all tasks, tunings and seeds, with the ratio of every quantity to training all together."""
        built = {
            f"{task}-{tuning}" for task, tunings in self.results.study["answer_tasks"].items() for tuning in tunings
        }  # not their variants
        systems = self.results.systems[self.results.systems.group.isin(built)]
        groups = dict.fromkeys(zip(systems.seed, systems.group, strict=True))
        frames = [frame for seed, group in groups if not (frame := self.ways(int(seed), str(group), method)).empty]
        whole = pd.concat(frames, ignore_index=True)
        keys = ["seed", "group", "scenario"]
        against = whole[whole.way == ALL].set_index(keys)
        rows = pd.MultiIndex.from_frame(whole[keys])
        for name in QUANTITIES:
            whole[f"{name}_ratio"] = whole[name].to_numpy() / against[name].reindex(rows).to_numpy()
        return whole


def break_even(costs: pd.DataFrame, quantity: str, against: str = ALL) -> float:
    """Updates after which building and updating by (untuned) merges has cost less than training all together.

    n = (build by merging - build together) / (update of ``against`` - update by merging); 0 where the build is cheaper
    already, infinite where an update is not cheaper. ``costs`` are ways of one group, or means over groups.
    """
    table = costs.groupby(["scenario", "way"])[quantity].mean()
    needed = [(INITIAL, MERGED), (INITIAL, ALL), (UPDATE, MERGED), (UPDATE, against)]
    if any(key not in table.index for key in needed):
        return float("nan")
    more, saved = table[INITIAL, MERGED] - table[INITIAL, ALL], table[UPDATE, against] - table[UPDATE, MERGED]
    if more <= 0 and saved >= 0:
        return 0.0
    return float(more / saved) if saved > 0 else float("inf")
