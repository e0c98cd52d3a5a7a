"""The plan in words and numbers, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from langmerge.host_memory import HOST
from langmerge.plan.graph import Job, Plan


def describe(plan: Plan) -> Iterator[str]:
    """The plan in lines: models with recipe and parents, jobs by rule, predicted tokens, FLOPs, disk, memory, time.

    ``memory`` is what looking inside models holds on the host, of the largest job (empty: not predicted), weights and
    activations not among it; a line warns where that is more than :data:`langmerge.host_memory.HOST`.
    """
    yield f"{plan.name}: {plan.study.title}"
    yield ""
    yield f"{'model':32} {'seed':>4}  {'recipe':44} parents"
    for model in plan.models.values():
        yield f"{model.name:32} {model.seed:>4}  {model.recipe[:44]:44} {', '.join(model.parents)}"
    yield ""
    yield f"{'rule':18} {'jobs':>5} {'tokens':>10} {'FLOPs':>10} {'disk':>10} {'memory':>10} {'time':>10}"
    total: dict[str, float] = {}
    by_rule: dict[str, list[Job]] = {}
    for job in plan.jobs.values():
        by_rule.setdefault(job.rule, []).append(job)
    for rule, jobs in by_rule.items():
        row = predict(plan, jobs)
        total = {key: total.get(key, 0.0) + value for key, value in row.items()}
        yield _row(rule, row, memory(jobs))
    yield _row("total", total, memory(plan.jobs.values()))
    workers = plan.study.hardware.workers
    least = _seconds(total["seconds"] / workers)
    yield f"time is work in one process; with {workers} jobs at once about {least} or more"
    for rule, jobs in by_rule.items():
        if memory(jobs) > HOST:
            yield (
                f"warning: {rule} holds {_si(memory(jobs))}B on the host, more than {_si(HOST)}B; "
                "lower analysis.blocks, or name fewer analysis.sites or languages"
            )


def memory(jobs: Iterable[Job]) -> float:
    """Most bytes that one of the jobs is predicted to hold on the host; 0: not predicted."""
    return max((job.memory for job in jobs), default=0.0)


def predict(plan: Plan, jobs: list[Job]) -> dict[str, float]:
    """Number of jobs and their predicted tokens, FLOPs, bytes on disk and seconds of work."""
    hardware = plan.study.hardware
    flops = sum(job.flops for job in jobs)
    return {
        "jobs": float(len(jobs)),
        "tokens": sum(job.tokens for job in jobs),
        "flops": flops,
        "disk": sum(job.disk for job in jobs),
        "seconds": len(jobs) * hardware.startup_seconds + flops / hardware.flops_per_second,
    }


def _row(name: str, row: dict[str, float], held: float) -> str:
    return (
        f"{name:18} {row['jobs']:>5.0f} {_si(row['tokens']):>10} {_si(row['flops']):>10} {_si(row['disk']) + 'B':>10} "
        f"{_si(held) + 'B' if held else '':>10} {_seconds(row['seconds']):>10}"
    )


def _si(value: float) -> str:
    for factor, unit in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.1f} {unit}"
    return f"{value:.0f} "


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"
