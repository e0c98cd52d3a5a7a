"""Planted tables of the stages that look into weights, losses and layers, in the form that those stages write."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from langmerge.plan.graph import Job

LAYERS = 4
SENTENCES = 32
COST = 0.05  # bits per byte that the average of two specialists loses
RESTORED = 0.6, 0.1  # by the first layer, by the last one
COSINE = 0.3
MEASURES = ("weights.cosine", "representations.cka.target.last", "gradients.cosine_half", "base_loss.gap", "noise")

Row = dict[str, Any]


def _write(folder: Path, **tables: list[Row]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)


def write_weighing(job: Job) -> None:
    """Cosines of :data:`COSINE` in every layer, twice that in the embedding; merges hold more than the null."""
    specialists, merges = job.spec["specialists"], job.spec["merges"]
    scopes: list[Row] = [
        {"scope": "global", "layer": "", "module": ""},
        {"scope": "module", "layer": "", "module": "embed"},
        *({"scope": "layer", "layer": layer, "module": ""} for layer in range(LAYERS)),
    ]
    vectors: list[Row] = []
    pairs: list[Row] = []
    subspaces: list[Row] = []

    def numbers(value: float, null: float | str = "") -> Row:
        chance = {"null": null, "null_n": 0 if null == "" else 9, "null_sd": ""}
        return {"value": value, "low": value - 0.02, "high": value + 0.02, "n": 9, **chance}

    for scope, model in itertools.product(scopes, [*specialists, *merges]):
        for measure, value in (("norm", 12.0), ("drift", 0.2), ("zero_share", 0.0), ("effective_rank", 80.0)):
            vectors.append({"model": model, **scope, "measure": measure, **numbers(value)})
    for scope, (a, b) in itertools.product(scopes, itertools.combinations([*specialists, *merges], 2)):
        if a in merges:
            continue
        who = {"model_a": a, "model_b": b, "relation": "in_merge" if b in merges else "specialists"}
        cosine = COSINE * (1 + (scope["module"] == "embed") + (b in merges))
        pairs.append({**who, **scope, "measure": "cosine", **numbers(cosine, 0.0)})
        pairs.append({**who, **scope, "measure": "sign_conflict", **numbers(0.4, 0.5)})
        for side in ("left", "right"):
            row = {**who, "side": side, **scope, "measure": "sar_minus_null"}
            subspaces.append(row | numbers(0.3, 0.2 if b in merges else 0.0))
            subspaces.append({**row, "measure": "sar"} | numbers(0.7, 0.4))
    for measure in ("interference", "elect_loss"):
        every = {"model_a": "all", "model_b": "all", "relation": "all", **scopes[0]}
        pairs.append({**every, "measure": measure, **numbers(0.25, 0.5)})
    _write(Path(job.folder), task_vectors=vectors, pairs=pairs, subspaces=subspaces)


def loss(step: float, end: float = 0.8) -> float:
    """Loss on the way from a language's specialist (0): convex, so without a barrier."""
    return 0.01 + (end - 0.01) * step**3


def write_landscape(job: Job, languages: list[str]) -> None:
    """Convex lines, a plane with its valley between two specialists, gradients that agree by 0.1."""
    base, specialists = job.spec["base"], job.spec["specialists"]
    own = dict(zip(specialists, languages, strict=True))
    lines: list[Row] = []
    barriers: list[Row] = []
    for a, b in itertools.combinations([base, *specialists], 2):
        for code in [own[m] for m in (a, b) if m in own]:
            for at in np.linspace(0, 1, 5):
                step = float(at) if own.get(a) == code else 1 - float(at)
                value = loss(step, 0.2 if base in (a, b) else 0.8)
                chord = (1 - step) * loss(0) + step * loss(1, 0.2 if base in (a, b) else 0.8)
                row = {"model_a": a, "model_b": b, "language": code, "a": at, "loss": value, "excess": value - chord}
                lines.append(row | {"low": value - chord - 0.01, "high": value - chord + 0.01, "n": SENTENCES})
        if a != base:
            for measure, value in (("barrier", 0.0), ("midpoint", -0.3), ("loss_of_merging", COST)):
                row = {"model_a": a, "model_b": b, "language": "mean", "measure": measure, "value": value}
                barriers.append(row | {"low": value - 0.02, "high": value + 0.02, "at": 0.5, "n": 2 * SENTENCES})
    corners = {base: (0.0, 0.0), specialists[0]: (20.0, 0.0), specialists[1]: (2.0, 20.0)}
    points = [(x, y, "") for x, y in itertools.product(np.linspace(-5, 25, 5), repeat=2)]
    points += [(x, y, model) for model, (x, y) in corners.items()]
    plane = [
        {
            "x": x,
            "y": y,
            "model": model,
            "language": code,
            "loss": 0.05 + 0.001 * ((x - 8) ** 2 + (y - 8) ** 2),
            "n": 64,
        }
        for x, y, model in points
        for code in (*languages[:2], "mean")
    ]
    gradients, fisher = [], []
    for a, b in itertools.combinations_with_replacement(languages, 2):
        pair = {"language_a": a, "language_b": b, "layer": "all"}
        value = 0.5 if a == b else 0.1
        gradients.append(pair | {"measure": "cosine_half", "value": value, "n": 128, "null": 0.0})
        for at in ("own", "base"):
            fisher.append(
                {"at": at, **pair, "measure": "overlap_half", "value": 0.4 + value / 2, "null": 0.25, "n": 32}
            )
    _write(Path(job.folder), line=lines, barriers=barriers, plane=plane, gradients=gradients, fisher=fisher)


def write_patches(job: Job, languages: list[str]) -> None:
    """The first layer restores six tenths, the last one a tenth, in BLEU; nothing at all in chrF++."""
    rows: list[Row] = []
    first, last = RESTORED
    sets: list[tuple[str, str, list[int], Any, float, float]] = [
        *(("single", "", [i], "", first + (last - first) * i / (LAYERS - 1), 0.35) for i in range(LAYERS)),
        *(("prefix", "", list(range(k)), "", 0.5 + 0.1 * k, 0.2 * k) for k in range(1, LAYERS + 1)),
        *(("suffix", "", list(range(LAYERS - k, LAYERS)), "", 0.2 * k - 0.1, 0.2 * k) for k in range(1, LAYERS + 1)),
        ("embeddings", "", [], "", 0.3, np.nan),
        ("attention", "attention", list(range(LAYERS)), "", 0.5, np.nan),
        ("last", "", [LAYERS - 1], "", last, first),
        *(("below", "", [0], draw, first, np.nan) for draw in (1, 2)),
    ]
    for metric, code, (kind, part, layers, draw, value, null) in itertools.product(
        ("bleu", "chrf"), [*languages, "mean"], sets
    ):
        shown = value if metric == "bleu" else 0.0
        row = {"onto": job.spec["onto"][0], "direction": "", "metric": metric, "language": code, "kind": kind}
        row |= {"part": part, "layers": " ".join(map(str, layers)), "size": len(layers), "draw": draw}
        row |= {"parameters": 0.2, "score": 50.0, "score_merge": 40.0, "score_specialist": 60.0, "value": shown}
        row |= {"low": shown - 0.05, "high": shown + 0.05, "n": 75 * (len(languages) if code == "mean" else 1)}
        rise = shown - null
        rows.append({**row, "null": null, "excess": rise, "excess_low": rise - 0.1, "excess_high": rise + 0.1})
    _write(Path(job.folder), patches=rows)


def write_damage(job: Job) -> None:
    """The first of :data:`MEASURES` has a corrected p of 0.01, the others of 0.8; the last one is constant."""
    languages, groups = job.spec["languages"], [stratum["group"] for stratum in job.spec["strata"]]
    pairs: list[Row] = []
    for group, (place, (a, b)) in itertools.product(groups, enumerate(itertools.combinations(languages, 2))):
        head = {"seed": 1, "group": group, "language_a": a, "language_b": b, "method": "slerp"}
        head |= {"retention": 0.3 + 0.05 * place, "worst_retention": 0.2, "ratio": 0.8, "loss": 5.0}
        values = (place, -place, place**2 % 5, 3 - place, 1.0)
        pairs += [{**head, "measure": m, "value": v} for m, v in zip(MEASURES, values, strict=True)]
    tests: list[Row] = []
    for scope, (place, measure) in itertools.product(["all", *groups], enumerate(MEASURES[:-1])):
        rho = (0.9, -0.95, 0.3, -0.2)[place] * (1 if scope == "all" else 0.9)
        row = {"scope": scope, "method": "slerp", "outcome": "retention", "measure": measure, "rho": rho}
        row |= {"low": rho - 0.04, "high": rho + 0.04, "p": 0.01, "p_corrected": 0.8 if place else 0.01, "tests": 4}
        row |= {"least_p": 1 / 24, "p_pairs": 0.001, "pairs": 12, "strata": 2, "left_out_low": rho - 0.2}
        tests.append(row | {"left_out_high": rho + 0.02, "left_out": languages[0], "status": ""})
    gone = {"scope": "all", "method": "slerp", "outcome": "retention", "measure": MEASURES[-1], "status": "constant"}
    _write(Path(job.folder), damage=pairs, predictors=[*tests, gone])
