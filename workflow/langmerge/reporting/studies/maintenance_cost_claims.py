"""The claims on what merging costs (P2-5), decided by FLOPs and by measured work together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from langmerge.reporting.samples import mean
from langmerge.reporting.studies.maintenance_costs import (
    ALL,
    CONTINUED,
    INITIAL,
    MERGED,
    TUNED,
    UPDATE,
    break_even,
    break_even_interval,
    ratio_interval,
    workers_used,
)
from langmerge.reporting.studies.maintenance_measures import EQUAL, LEAD, View, equivalence
from langmerge.reporting.table import interval, number
from langmerge.reporting.verdicts import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Finding, untestable

PAPER_UPDATE, PAPER_BUILD = 0.4, 0.65  # the paper saves more than 60 % of an update's and 35 % of a build's time
FEW = 3  # updates until merging has paid off
QUIET = 0.8  # share of a core, or of the workers, from which wall-clock is taken as that of the trainings
ABOUT_EQUAL = (0.8, 1.25)  # ratios of work that count as the same


@dataclass(frozen=True)
class Conditions:
    """What measured seconds are worth.

    ``workers``: how many there are; ``share``: :func:`core_share`; ``noise``: :meth:`Ledger.noise`.
    """

    workers: int = 1
    share: float = float("nan")
    noise: float = float("nan")


def ratios(costs: pd.DataFrame, scenario: str, way: str, quantity: str) -> pd.Series:
    """Ratio to training all together, one a group and seed."""
    return costs[(costs.scenario == scenario) & (costs.way == way)][f"{quantity}_ratio"].dropna()


def spread(values: pd.Series, decimals: int = 2) -> str:
    """Mean and range over tasks, tunings and seeds."""
    least, most = (number(value, decimals) for value in (values.min(), values.max()))
    return number(values.mean(), decimals) + (f" ({least} to {most})" if least != most else "")


def by_work_and_flops(costs: pd.DataFrame, measured: Conditions, scenario: str) -> tuple[str, list[float]]:
    """The two ratios in words, and what decides: those of FLOPs, and both ends of the interval of work.

    FLOPs are counted, so they have no interval; of work there is one measurement of each training, and what the number
    of processes adds to it. A claim holds if it does by both.
    """
    flops, work, tuned = (
        ratios(costs, scenario, way, quantity)
        for way, quantity in ((MERGED, "flops"), (MERGED, "work"), (TUNED, "work"))
    )
    low, high = ratio_interval(costs, measured.noise, scenario, MERGED)
    words = f"ratio of FLOPs {spread(flops)}, of work {spread(work)} {interval(low, high, 2)}"
    words += f", with the merge's tuning {spread(tuned)}" if len(tuned) else ""
    return words, [*flops, low, high]


def same_work(costs: pd.DataFrame, measured: Conditions) -> Finding:
    """P2-5a."""
    claim = "Building by merging takes about the work (CPU or GPU time) of training all together: it saves none."
    if ratios(costs, INITIAL, MERGED, "work").empty:
        return untestable("P2-5a", claim, "merges and combined models")
    words, values = by_work_and_flops(costs, measured, INITIAL)
    least, most = ABOUT_EQUAL
    equal = [least <= value <= most for value in values]
    outside = all(value < least for value in values) or all(value > most for value in values)
    outcome = REPRODUCED if all(equal) else NOT_REPRODUCED if outside else INCONCLUSIVE
    return Finding("P2-5a", claim, f"{words}; about equal means {least:g} to {most:g}{_busy(costs, measured)}", outcome)


def faster_build(costs: pd.DataFrame, measured: Conditions) -> Finding:
    """P2-5b: against joint training measured on the same workers, if it kept them busy."""
    claim = "Building by merging saves 35 % or more of the wall-clock time, if joint training has the same workers."
    wall = ratios(costs, INITIAL, MERGED, "wall")
    if wall.empty:
        return untestable("P2-5b", claim, "merges and combined models")
    outcome = REPRODUCED if wall.max() <= PAPER_BUILD else NOT_REPRODUCED if wall.min() > PAPER_BUILD else INCONCLUSIVE
    words = f"ratio of wall-clock {spread(wall)}, mean (range) over {len(wall)} builds{_busy(costs, measured)}"
    if measured.share < QUIET:
        words += (
            f"; not a measurement: the machine was shared, a specialist's training had {measured.share:.0%} of a core"
        )
    elif _idle(costs, measured):
        words += "; not a comparison of equals"
    else:
        return Finding("P2-5b", claim, words, outcome)
    return Finding("P2-5b", claim, words, INCONCLUSIVE)


def _idle(costs: pd.DataFrame, measured: Conditions) -> bool:
    """Whether some initial joint training left workers idle."""
    used = workers_used(costs[(costs.scenario == INITIAL) & (costs.way == ALL)])
    return bool((used < QUIET * measured.workers).any())


def _busy(costs: pd.DataFrame, measured: Conditions) -> str:
    """``; joint training kept 1.8 of 2 workers busy``."""
    used = workers_used(costs[(costs.scenario == INITIAL) & (costs.way == ALL)])
    return f"; joint training kept {spread(used, 1)} of {measured.workers} workers busy"


def cheap_update(costs: pd.DataFrame, measured: Conditions, scenario: str, name: str, claim: str) -> Finding:
    """P2-5c and P2-5d."""
    if ratios(costs, scenario, MERGED, "work").empty:
        return untestable(name, claim, f"the scenario {scenario}")
    words, values = by_work_and_flops(costs, measured, scenario)
    outcome = (
        REPRODUCED if max(values) < PAPER_UPDATE else NOT_REPRODUCED if min(values) > PAPER_UPDATE else INCONCLUSIVE
    )
    wall = ratios(costs, scenario, MERGED, "wall")
    return Finding(name, claim, f"{words}; of wall-clock {spread(wall)}", outcome)


def against_replay(view: View, costs: pd.DataFrame) -> Finding:
    """P2-5e (ours): the baseline that the paper lacks."""
    claim = "(Ours) Merging is cheaper than going on with joint training on new data and replay, and scores as well."
    groups = [group for group in view.with_scenario(UPDATE) if view.learnt(group)]
    merged, continued = (costs[(costs.scenario == UPDATE) & (costs.way == way)] for way in (MERGED, CONTINUED))
    if not groups or merged.empty or continued.empty:
        return untestable("P2-5e", claim, "an update with continued training in a task that was learnt")
    flops, work = (float(merged[name].mean() / continued[name].mean()) for name in ("flops", "work"))
    gap = mean(
        view.average(g, role="merge", method=LEAD, scenario=UPDATE) - view.average(g, role="continued", scenario=UPDATE)
        for g in groups
    )
    good = equivalence(gap, view.margin) == EQUAL or gap.above
    dear = min(flops, work) >= 1
    outcome = REPRODUCED if max(flops, work) < 1 and good else NOT_REPRODUCED if dear or gap.below else INCONCLUSIVE
    measured = (
        f"merging takes {number(flops, 2)} times the FLOPs and {number(work, 2)} times the work of going on; merged "
        f"minus continued model {number(gap.point, 1, True)} {interval(*gap.interval)} points"
    )
    return Finding("P2-5e", claim, measured, outcome)


def pays_off(costs: pd.DataFrame, measured: Conditions) -> Finding:
    """P2-5f (ours): the break-even number of updates."""
    claim = "(Ours) Merging has cost less than training all together after three updates at most."
    groups = set(costs[(costs.scenario == UPDATE) & (costs.way == MERGED)].group)
    shown = costs[costs.group.isin(groups)]
    flops, work, replay = (
        break_even(shown, quantity, against)
        for quantity, against in (("flops", ALL), ("work", ALL), ("work", CONTINUED))
    )
    if np.isnan(flops) or np.isnan(work):
        return untestable("P2-5f", claim, "an update")
    low, high = break_even_interval(shown, measured.noise)
    values = (flops, low, high)
    outcome = REPRODUCED if max(values) <= FEW else NOT_REPRODUCED if min(values) > FEW else INCONCLUSIVE
    ends = dict.fromkeys((_updates(low), _updates(high)))  # one where both are of the same update
    words = (
        f"cheaper {_updates(flops)} by FLOPs, {_updates(work)} by work (95 % interval: {' to '.join(ends)}); than "
        f"going on with replay {_updates(replay)} by work"
    )
    return Finding("P2-5f", claim, words, outcome)


def _updates(value: float) -> str:
    """From which update on."""
    if not np.isfinite(value):
        return "never" if value == float("inf") else "–"
    count = max(0, int(np.ceil(value)))
    return f"after {count} update{'s' if count > 1 else ''}" if count else "from the build on"
