"""Task vectors in numbers: means of languages and merges, and the table of whole models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from langmerge.reporting.load import Results
from langmerge.reporting.samples import arrow
from langmerge.reporting.table import Cell, Table, cells, interval, number
from langmerge.reporting.tables_models import model_label

NUMBERS = ["value", "low", "high", "null"]
NO_NULL = "no null"
VECTOR = ("norm", "drift", "zero_share", "effective_rank")


def language_means(table: pd.DataFrame, model: str, keys: list[str]) -> pd.DataFrame:
    """Means of :data:`NUMBERS` by ``keys`` over the rows of one model; of pairs, over those that it is part of."""
    own = table.model == model if "model" in table else (table.model_a == model) | (table.model_b == model)
    return table[own].groupby(keys)[NUMBERS].mean().reset_index()


def aligned(subspaces: pd.DataFrame) -> pd.DataFrame:
    """Rows of the subspace alignment ratio less that of a random subspace."""
    return subspaces if subspaces.empty else subspaces[subspaces.measure == "sar_minus_null"]


def whole(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of a table of :mod:`langmerge.weighing` that are about all weights."""
    return table if table.empty else table[table.scope == "global"]


def _one(table: pd.DataFrame) -> dict[str, float]:
    """Means of :data:`NUMBERS`, NaN without rows."""
    return {name: float(table[name].mean()) for name in NUMBERS}


def weight_table(results: Results) -> Table | None:
    """Size and agreement of the task vectors of specialists and merges, all weights together; None without them."""
    vectors = whole(results.table("weighing/task_vectors"))
    if vectors.empty:
        return None
    pairs, subspaces = whole(results.table("weighing/pairs")), whole(aligned(results.table("weighing/subspaces")))
    body: list[list[Cell]] = []
    data: list[dict[str, Any]] = []
    rules: list[int] = []
    joint = []
    for group in dict.fromkeys(vectors.group):
        rules.append(len(body))
        own = vectors[vectors.group == group]
        between, within = pairs[pairs.group == group], subspaces[subspaces.group == group]
        trained = [results.direction(group, code) for code in results.languages]
        for model in dict.fromkeys(own.model):
            row: dict[str, Any] = {"group": group, "model": model}
            kind = "specialists" if model in trained else "in_merge"
            for measure in VECTOR:
                row[measure] = _one(own[(own.model == model) & (own.measure == measure)])["value"]
            chosen = between[(between.relation == kind) & ((between.model_a == model) | (between.model_b == model))]
            for measure in ("cosine", "sign_conflict"):
                for name, value in _one(chosen[chosen.measure == measure]).items():
                    row[f"{measure}_{name}"] = value
            inside = within[(within.relation == kind) & (within.model_b == model)]
            row |= {f"alignment_{name}": value for name, value in _one(inside).items()}
            data.append(row)
            body.append(
                cells(
                    [
                        arrow(group, results.pivot),
                        model_label(model),
                        number(row["norm"], 1),
                        number(100 * row["drift"], 1),
                        number(100 * row["zero_share"], 1),
                        number(row["effective_rank"], 0),
                        number(row["cosine_value"], 2),
                        interval(row["cosine_low"], row["cosine_high"], 2),
                        number(100 * row["sign_conflict_value"], 0),
                        number(row["alignment_value"], 2),
                        chance(row),
                    ]
                )
            )
        joint.append(_joint(results, group, between[between.relation == "all"]))
    return Table(
        "task_vectors",
        "Task vectors of whole models",
        "Norm of the change; relative: its share of the norm of the base's weights, unchanged: entries that equal the "
        "base's, both in %; rank: effective rank, mean over matrices. Conflict: entries of opposite signs among those "
        "that TIES' trim keeps of both, in % (chance 50). Cosine and conflict: of a specialist the mean over pairs "
        "with the others, of a merge with all specialists. Alignment: subspace alignment ratio less that of a random "
        "subspace, of the other specialists in this one's subspace or of all in a merge's, mean over matrices; null: "
        "of a merge what the mean of independent specialists gives. Spread: how much tensors differ, as a 95 % "
        "interval over them; the numbers are exact for these weights. "
        f"{' '.join(filter(None, joint))}".strip(),
        ["Direction", "Model", "norm", "relative", "unchanged", "rank", "cosine", "spread", "conflict", "alignment",
         "null"],
        body,
        pd.DataFrame(data),
        rules=rules[1:],
        text_columns=2,
    )  # fmt: skip


def chance(row: dict[str, Any]) -> str:
    """What independent specialists would give in print; :data:`NO_NULL` for an alignment without one."""
    missing = np.isnan(row["alignment_null"]) and not np.isnan(row["alignment_value"])
    return NO_NULL if missing else number(row["alignment_null"], 2)


def _joint(results: Results, group: str, table: pd.DataFrame) -> str:
    """What cancels when all specialists are added, in a sentence."""
    if table.empty:
        return ""
    lost, kept = (_one(table[table.measure == name]) for name in ("elect_loss", "interference"))
    return (
        f"{arrow(group, results.pivot)}, all specialists together: {_percent(kept['value'])} % of the summed magnitude "
        f"survives addition (fair signs: {_percent(kept['null'])}), and TIES' election of signs drops "
        f"{_percent(lost['value'])} % of what its trim keeps (fair signs: {_percent(lost['null'])})."
    )


def _percent(share: float) -> str:
    return number(100 * share, 0)
