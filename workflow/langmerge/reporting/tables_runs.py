"""Tables of the runs: hyper-parameters, costs, seeds, recipes, signatures."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from langmerge.provenance import canonical
from langmerge.reporting.load import Results, each
from langmerge.reporting.samples import METRICS, Scores, arrow, label
from langmerge.reporting.table import EMPTY, Cell, Table, cells, number, si
from langmerge.reporting.tables_scores import signature_of


def parameters_text(parameters: dict[str, Any], named: Collection[str]) -> str:
    """Those of a merge's parameters that the study file names, in print; the others have their defaults."""
    shown = {name: value for name, value in sorted(parameters.items()) if name in named}
    texts = {name: f"{v:g}" if isinstance(v, int | float) else str(v) for name, v in shown.items()}
    return ", ".join(f"{name} {text}" for name, text in texts.items()) or EMPTY


def hyperparameter_table(results: Results) -> Table | None:
    """The parameters that dev chose for each merge, its dev score, and how many candidates there were."""
    merges = results.merges
    merges = merges[merges["sweep"] == "all"] if not merges.empty else merges
    merges = merges[merges.method != "layer_patch"] if not merges.empty else merges
    if merges.empty:
        return None
    body: list[list[Cell]] = []
    rules: list[int] = []
    several = len(results.seeds) > 1
    study = results.study["merging"]
    for group in results.groups:
        rules.append(len(body))
        for row in each(merges[merges.group == group]):
            parameters = parameters_text(row.parameters, study["all"].get(row.name, ()))
            seed = [str(row.seed)] if several else []
            texts = [parameters, str(row.candidates), number(row.dev)]
            body.append(cells([arrow(group, results.pivot), label("merge", row.name), *seed, *texts]))
    n = results.study["evaluation"]["dev"]
    data = merges.assign(parameters=[canonical(p) for p in merges.parameters]).drop(columns=["statistics", "sweep"])
    return Table(
        "hyperparameters",
        "Chosen hyper-parameters",
        f"The candidate with the highest mean {METRICS[study['select_by']]} over the languages of the direction on dev "
        f"({'all' if n is None else f'n = {n}'} sentences per direction). {EMPTY}: nothing to choose, so no dev run.",
        ["Direction", "Merge", *(["seed"] if several else []), "parameters", "candidates", "dev"],
        body,
        data,
        rules=rules[1:],
        text_columns=3 + several,
    )


def cost_frame(results: Results) -> pd.DataFrame:
    """Tokens, FLOPs, training and wall seconds of every training and sweep: means over seeds, in the plan's order."""
    costs = results.costs
    if costs.empty:
        return costs
    wanted = ["tokens", "flops", "training_seconds", "seconds", "gpu_joules", "peak_memory_bytes"]
    costs = costs.reindex(columns=["kind", "name", "device", "machine", *wanted])
    # A training names the processor, all others say "cpu"
    costs["device"] = costs.device.where(costs.device != costs.machine, "cpu")
    return (
        costs.groupby(["kind", "name"], sort=False)
        .agg(dict.fromkeys(wanted, "mean") | {"device": "first"})
        .reset_index()
    )


def group_costs(results: Results) -> pd.DataFrame:
    """What specialists with merging cost in a direction group, and what the joint model costs.

    Columns: group, specialists and longest (training seconds: the sum, and the longest one alone), selection (seconds
    of the sweep over merges), joint (seconds), tokens and joint_tokens, flops and joint_flops.
    """
    costs = cost_frame(results)
    rows = []
    for group in results.groups if not costs.empty else []:
        directions = [results.direction(group, code) for code in results.languages]
        own = costs[(costs.kind == "training") & costs.name.isin(directions)]
        sweep = costs[(costs.kind == "sweep") & (costs.name == f"{group}.all")]
        joint = costs[(costs.kind == "training") & (costs.name == f"joint-{group}")]
        rows.append(
            {
                "group": group,
                "specialists": own.training_seconds.sum(),
                "longest": own.training_seconds.max(),
                "selection": sweep.seconds.sum() if len(sweep) else float("nan"),
                "joint": joint.training_seconds.sum() if len(joint) else float("nan"),
                "tokens": own.tokens.sum(),
                "joint_tokens": joint.tokens.sum() if len(joint) else float("nan"),
                "flops": own.flops.sum(),
                "joint_flops": joint.flops.sum() if len(joint) else float("nan"),
            }
        )
    return pd.DataFrame(rows)


def cost_table(results: Results) -> Table | None:
    """Tokens, FLOPs and seconds of every training, and of merging against joint training; None without costs."""
    costs = cost_frame(results)
    if costs.empty:
        return None
    body: list[list[Cell]] = []
    data: list[dict[str, Any]] = []

    def add(name: str, tokens: float, flops: float, seconds: float, device: str) -> None:
        data.append({"what": name, "tokens": tokens, "flops": flops, "seconds": seconds, "device": device})
        body.append(cells([name, si(tokens), si(flops), number(seconds, 1), device]))

    for row in each(costs[costs.kind == "training"]):
        add(f"training of {row.name}", row.tokens, row.flops, row.training_seconds, str(row.device))
    rules = [len(body)]
    for row in each(costs[costs.kind == "sweep"]):
        add(f"sweep {row.name}", row.tokens, row.flops, row.seconds, str(row.device))
    rules.append(len(body))
    for row in each(costs[costs.kind == "calibration"]):
        add(f"calibration {row.name}", row.tokens, row.flops, row.seconds, str(row.device))
    rules.append(len(body))
    for row in each(group_costs(results)):
        to = arrow(row.group, results.pivot)
        add(f"{to}: specialists, sum", row.tokens, row.flops, row.specialists, EMPTY)
        add(f"{to}: specialists, longest one (all at once)", float("nan"), float("nan"), row.longest, EMPTY)
        add(f"{to}: joint", row.joint_tokens, row.joint_flops, row.joint, EMPTY)
    return Table(
        "cost",
        "Cost",
        "Trainings: seconds in the training loop, real tokens, model FLOPs (forward and backward). Sweeps: "
        "wall seconds and "
        "decoded tokens, over all candidates of a direction group; needed once to choose and score merges. "
        + (
            "Calibrations: wall seconds and tokens of what data-driven merges measure in a model beforehand. "
            if (costs.kind == "calibration").any()
            else ""
        )
        + ("Means over seeds." if len(results.seeds) > 1 else "One seed."),
        ["", "tokens", "FLOPs", "seconds", "device"],
        body,
        pd.DataFrame(data),
        rules=[r for r in dict.fromkeys(rules) if 0 < r < len(body)],
    )


def seed_table(scores: Scores, metric: str = "bleu") -> Table | None:
    """Mean and standard deviation over seeds, per system, of the mean over languages; None for a single seed."""
    r = scores.results
    if len(r.seeds) < 2:
        return None
    body: list[list[Cell]] = []
    data: list[dict[str, Any]] = []
    rules: list[int] = []
    for group in r.groups:
        rules.append(len(body))
        for row in scores.rows(group):
            by_seed: dict[Any, float] = {}
            for seed in r.seeds:
                values = [
                    scores.of(key, r.direction(group, code), metric).point
                    for (s, code), key in row.keys.items()
                    if s == seed
                ]
                by_seed[seed] = float(np.mean(values)) if values else float("nan")
            values = list(by_seed.values())
            head = {"group": group, "system": row.name, "metric": metric}
            data.append({**head, "mean": np.mean(values), "sd": np.std(values, ddof=1), **by_seed})
            texts = [number(v) for v in values]
            spread = number(float(np.std(values, ddof=1)), 2)
            body.append(cells([arrow(group, r.pivot), row.label, *texts, number(float(np.mean(values))), spread]))
    return Table(
        "seeds",
        "Variation over seeds",
        f"{METRICS[metric]}, mean over languages; sd: sample standard deviation over {len(r.seeds)} seeds.",
        ["Direction", "System", *(f"seed {seed}" for seed in r.seeds), "mean", "sd"],
        body,
        pd.DataFrame(data),
        rules=rules[1:],
        text_columns=2,
    )


def model_table(results: Results) -> Table:
    """All models with kind, recipe and parents (of the first seed)."""
    models = pd.DataFrame(results.spec["models"])
    first = models[models.seed == results.seeds[0]]
    body = [cells([m.name, m.kind, m.recipe, ", ".join(m.parents) or EMPTY]) for m in each(first)]
    data = models.assign(parents=[", ".join(p) for p in models.parents])
    return Table(
        "models",
        "Models",
        "Every model of the study with its recipe; the same for each seed.",
        ["Model", "kind", "recipe", "made from"],
        body,
        data,
        text_columns=4,
        stretch=[2, 3],
    )


def signature_table(scores: Scores) -> Table:
    """The sacrebleu signatures of the metrics."""
    names = list(dict.fromkeys(scores.results.scores.metric))
    rows = [[METRICS.get(name, name), signature_of(scores, name)] for name in names]
    data = scores.results.scores[["metric", "target", "signature"]].drop_duplicates()
    return Table(
        "signatures",
        "Signatures of the metrics",
        "As sacrebleu prints them.",
        ["Metric", "signature"],
        [cells(row) for row in rows],
        data,
        text_columns=2,
        stretch=[1],
    )
