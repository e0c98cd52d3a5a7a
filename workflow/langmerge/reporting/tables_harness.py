"""The table of scores by lm-evaluation-harness."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from langmerge.provenance import read_json
from langmerge.reporting.table import EMPTY, Table, cells, number

PLACE = "harness/"
NORMAL = 1.96  # standard errors of a 95 % interval


def harness_table(folders: Mapping[str, Path]) -> Table | None:
    """Main metric of every task for every model, mean over seeds, with 1.96 standard errors; None without scores."""
    data: list[dict[str, Any]] = []
    for name, folder in folders.items():
        if name.startswith(PLACE):
            seed, _, model = name.removeprefix(PLACE).partition("/")
            for task, found in read_json(folder / "scores.json")["test"].items():
                metric, value = next(iter(found["metrics"].items()))
                head = {"model": model, "seed": int(seed.removeprefix("seed")), "task": task, "metric": metric}
                data.append(head | {"n": found["n"], "score": value["score"], "error": value["standard_error"]})
    if not data:
        return None
    frame = pd.DataFrame(data)
    tasks = list(dict.fromkeys(frame.task))
    rows = []
    for model in dict.fromkeys(frame.model):
        row = [str(model)]
        for task in tasks:
            found = frame[(frame.model == model) & (frame.task == task)]
            error = NORMAL * (found.error.astype(float) ** 2).sum() ** 0.5 / max(1, len(found))
            row.append(f"{number(found.score.mean())} ± {number(error)}" if len(found) else EMPTY)
        rows.append(cells(row))
    metrics = ", ".join(f"{task}: {frame[frame.task == task].metric.iloc[0]}" for task in tasks)
    caption = f"Scores and 1.96 standard errors as lm-evaluation-harness gives them ({metrics}). Means over seeds."
    return Table("harness", "Tasks of lm-evaluation-harness", caption, ["model", *tasks], rows, frame)
