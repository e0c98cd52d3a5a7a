"""What building and updating cost: measured seconds, tokens, FLOPs and energy of every way, on a number of workers.

A *way* is a set of trainings and, where it merges, a merge of the sweep. Of each job count its seconds from the first
reading of its inputs to the last writing of its outputs, without the start of the interpreter. *Work* is the CPU time
of all threads, or on GPUs the seconds times the GPUs; *wall* is what somebody waits on w workers: trainings of one
worker each are put on w of them longest first, each on the one that is free first (list scheduling by longest
processing time, Graham 1969: at most 4/3 - 1/(3w) of the best schedule); a training that was measured on w workers
itself takes all of them, and a merge follows after the trainings. How many of them it kept busy is its work by its
wall-clock; where that is far below w, neither is a fair price of training all together, and FLOPs alone are.

A training is measured once, and seconds vary where FLOPs do not. How much, the specialists of a task tell, which do
the same in several languages: see :func:`noise`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from langmerge.provenance import COST, read_json
from langmerge.reporting.studies.results import LanguageResults

INITIAL, UPDATE, ADDITION = "initial", "update", "addition"
RETUNED = "retuned"  # merges of the update whose parameters were tuned anew
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
COUNTERS = {"gpu_joules": "GPU", "cpu_joules": "CPU"}
DRAWS, SEED = 4000, 1


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


def of_training(cost: dict[str, Any], counters: Iterable[str] = ()) -> Spent:
    """What a training's ``cost.json`` says; its energy is that of the named counters together."""
    wall = float(cost["seconds"])
    on_gpu = cost.get("peak_gpu_memory_bytes") == cost.get("peak_gpu_memory_bytes") and "peak_gpu_memory_bytes" in cost
    work = wall * cost["devices"] if on_gpu else float(cost["cpu_seconds"])
    return Spent(work, wall, float(cost["tokens"]), float(cost["flops"]), _energy(cost, counters))


def of_merge(cost: dict[str, Any], on_gpu: bool, tuned: bool, counters: Iterable[str] = ()) -> Spent:
    """What a sweep's ``cost.json`` says of one merge: making the chosen one, with the tuning or without."""
    parts = ("merging", "tuning") if tuned else ("merging",)
    wall = sum(cost[f"{part}_seconds"] for part in parts)
    work = wall if on_gpu else sum(cost[f"{part}_cpu_seconds"] for part in parts)
    return Spent(work, wall, joules=_energy(cost, [f"{part}_{name}" for part in parts for name in counters]))


def _energy(cost: dict[str, Any], names: Iterable[str]) -> float:
    """Sum of the named counters; NaN where none is named, or one of them was not read."""
    found = [float(cost.get(name, "nan")) for name in names]
    return sum(found) if found else float("nan")


def workers_used(costs: pd.DataFrame) -> pd.Series:
    """Work by wall-clock of the ways that are one training on all workers: how many of them it kept busy; else NaN."""
    return (costs.work / costs.wall).where(costs.way.isin([ALL, CONTINUED]))


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
        costs = results.costs
        self.counters = [name for name in COUNTERS if name in costs and costs[name].notna().all()]
        self.sweeps = {
            name.removeprefix("sweeps/"): read_json(folder / COST)
            for name, folder in results.folders.items()
            if name.startswith("sweeps/")
        }

    def training(self, seed: int, name: str) -> Spent:
        """What a training took."""
        return of_training(self.trainings[seed, name], self.counters)

    def merge(self, seed: int, group: str, name: str, tuned: bool) -> Spent:
        """What a merge took."""
        sweep = self.sweeps[f"seed{seed}/{group}"]
        return of_merge(sweep["merges"][name], str(sweep["device"]).startswith("cuda"), tuned, self.counters)

    def named(self, seed: int, group: str, **values: Any) -> list[str]:
        """Models of a group, in the study's order."""
        return list(self.results.select(seed=seed, group=group, **values).name)

    def ways(self, seed: int, group: str, method: str) -> pd.DataFrame:
        """One row a scenario and way of a group: QUANTITIES, how many trainings they are the sum of, what is kept.

        ``kept`` counts the adapters (or models) that the next update needs, ``merged`` says whether a merge is kept
        too, ``bytes`` is what both take on disk (NaN where no training says it).
        """
        own = self.trainings
        specialists = self.named(seed, group, role="specialist", scenario=INITIAL)
        rows: list[dict[str, Any]] = []

        def size(key: str) -> float:
            found = [own[seed, name].get(key) for name in specialists]
            return float(np.mean([float("nan") if value is None else value for value in found]))

        model = size("model_bytes")
        single = size("adapter_bytes") if group.endswith("lora") else model

        def add(scenario: str, way: str, spent: Spent, kept: int, merged: bool, trainings: int = 1) -> None:
            head = {"seed": seed, "group": group, "scenario": scenario, "way": way, "trainings": trainings}
            head |= {"kept": kept, "merged": merged, "bytes": kept * single + (model if merged else 0)}
            rows.append(head | {name: getattr(spent, name) for name in QUANTITIES})

        def add_specialists(scenario: str, trained: list[str], state: str) -> None:
            spent = together([self.training(seed, name) for name in trained], self.workers)
            add(scenario, APART, spent, len(specialists), False, len(trained))
            anew = RETUNED if scenario == UPDATE else state
            for way, of_state in ((MERGED, state), (TUNED, anew)):
                for merge in self.named(seed, group, role="merge", method=method, scenario=of_state):
                    both = spent + self.merge(seed, group, merge, way == TUNED)
                    add(scenario, way, both, len(specialists), True, len(trained))

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

    def noise(self) -> float:
        """Standard deviation of the logarithm of a training's work for each FLOP, within tasks and tunings.

        From the initial specialists, which do the same in several languages; NaN with less than two anywhere.
        """
        systems = self.results.select(role="specialist", scenario=INITIAL)
        spread, freedom = 0.0, 0
        for _, rows in systems.groupby(["seed", "group"]) if len(systems) else []:
            spent = [self.training(row["seed"], row["name"]) for row in rows.to_dict("records")]
            paces = np.log([one.work / one.flops for one in spent])
            spread, freedom = spread + float(((paces - paces.mean()) ** 2).sum()), freedom + len(paces) - 1
        return float(np.sqrt(spread / freedom)) if freedom else float("nan")


def drawn(costs: pd.DataFrame, noise: float) -> np.ndarray:
    """Work of every way as it might have been measured as well: [draws, rows].

    A parametric bootstrap: the work of n trainings together varies by exp(``noise`` z / sqrt(n)), z standard normal;
    ways that are the same trainings (merged or not) vary alike. Nothing varies where ``noise`` is NaN.
    """
    kinds = costs.way.replace({MERGED: APART, TUNED: APART})
    # All anew of the addition is the initial build of all, measured once.
    places = costs.scenario.where((costs.way != ALL) | (costs.scenario != ADDITION), INITIAL)
    measured = pd.MultiIndex.from_arrays([costs.seed, costs.group, places, kinds]).factorize()[0]
    normal = np.random.default_rng(SEED).standard_normal((DRAWS, measured.max() + 1))[:, measured]
    return costs.work.to_numpy() * np.exp(np.nan_to_num(noise) / np.sqrt(costs.trainings.to_numpy()) * normal)


def ratio_interval(costs: pd.DataFrame, noise: float, scenario: str, way: str) -> tuple[float, float]:
    """95 % interval of the mean ratio of work to training all together, over groups and seeds; see :func:`drawn`."""
    draws = drawn(costs, noise)
    keys = ["seed", "group"]
    here = costs.reset_index(drop=True).reset_index()
    here = here[here.scenario == scenario]
    places = [here[here.way == name].set_index(keys)["index"] for name in (way, ALL)]
    both = pd.concat(places, axis=1, join="inner").to_numpy()
    if not len(both):
        return float("nan"), float("nan")
    low, high = np.quantile((draws[:, both[:, 0]] / draws[:, both[:, 1]]).mean(1), [0.025, 0.975])
    return float(low), float(high)


def break_even(costs: pd.DataFrame, quantity: str, against: str = ALL) -> float:
    """Updates after which building and updating by (untuned) merges has cost less than training all together.

    n = (build by merging - build together) / (update of ``against`` - update by merging); 0 where the build is cheaper
    already, infinite where an update is not cheaper. ``costs`` are ways of one group, or means over groups.
    """
    return float(_break_even(costs, costs[quantity].to_numpy()[None], against)[0])


def break_even_interval(costs: pd.DataFrame, noise: float, against: str = ALL) -> tuple[float, float]:
    """95 % interval of :func:`break_even` by work; see :func:`drawn`."""
    found = _break_even(costs, drawn(costs, noise), against)
    # No interpolation: between a number and infinity there is none.
    low, high = np.quantile(found, [0.025, 0.975], method="nearest")
    return float(low), float(high)


def _break_even(costs: pd.DataFrame, values: np.ndarray, against: str) -> np.ndarray:
    """:func:`break_even` of every row of ``values`` [draws, ways]."""

    def average(scenario: str, way: str) -> np.ndarray:
        found = ((costs.scenario == scenario) & (costs.way == way)).to_numpy()
        return values[:, found].mean(1) if found.any() else np.full(len(values), np.nan)

    more = average(INITIAL, MERGED) - average(INITIAL, ALL)
    saved = average(UPDATE, against) - average(UPDATE, MERGED)
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.where(saved > 0, more / saved, np.inf)
    needed[(more <= 0) & (saved >= 0)] = 0.0
    needed[np.isnan(more) | np.isnan(saved)] = np.nan
    return needed
