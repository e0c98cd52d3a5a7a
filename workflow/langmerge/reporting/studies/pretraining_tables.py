"""Tables of a study of pre-training: merges of pairs by every method, and branches by their branch point."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from langmerge.reporting.samples import Sample, mean
from langmerge.reporting.studies.pretraining_measures import METRIC, TEXT_TASK, damage, keys, own_score
from langmerge.reporting.studies.results import METRICS, Samples
from langmerge.reporting.studies.tables import counted, method_label
from langmerge.reporting.table import Cell, Table, cells, interval, number


def pair_table(samples: Samples, labels: Mapping[str, str]) -> Table | None:
    """What merges of two lose against their parents, by method; one row a group of ``labels``. None without pairs.

    ``data`` has a row for each pair.
    """
    results = samples.results
    pairs = results.select(role="pair")
    if not len(pairs):
        return None
    methods = list(dict.fromkeys(pairs.method))
    rows, data = [], []
    for group, label in labels.items():
        own = pairs[pairs.group == group].drop_duplicates("name")
        line = [Cell(label)]
        for method in methods:
            losses = {
                "–".join(one["languages"]): damage(
                    samples, keys(results, role="pair", name=one["name"]), group, one["languages"]
                )
                for one in own[own.method == method].to_dict("records")
            }
            line.append(Cell(_shown(mean(losses.values()))))
            data += [
                {"group": group, "method": method, "pair": pair, "damage": loss.point}
                | dict(zip(("low", "high"), loss.interval, strict=True))
                for pair, loss in losses.items()
            ]
        rows.append(line)
    caption = (
        f"Loss against the two models merged, each in its language ({METRICS[METRIC]}), mean over pairs, with its 95 % "
        f"bootstrap interval. {counted(results, TEXT_TASK)}. Task vectors of branches are counted from their branch "
        "point, all others from the shared random weights, which models of different initialisations never had."
    )
    columns = ["", *map(method_label, methods)]
    return Table("pair_methods", "Merges of two models by method", caption, columns, rows, pd.DataFrame(data))


def branch_table(samples: Samples) -> Table | None:
    """Branches and the merge of all of them by branch point, beside the mixed models; None without branches."""
    results = samples.results
    merged = results.select(role="branch_merge")
    if not len(merged):
        return None
    methods = list(dict.fromkeys(merged.method))
    rows, data = [], []
    for share in sorted(set(merged["share"])):
        group = f"branch-{share:g}" if share else "shared"
        found = {"branches": mean(own_score(samples, group, code) for code in results.languages)}
        for method in methods:
            systems = keys(results, role="branch_merge", share=share, method=method)
            found[method] = samples.average(systems, TEXT_TASK, results.languages)
            found[f"{method} loses"] = damage(samples, systems, group, results.languages)
        rows.append(cells([f"{100 * share:g} %", *map(_shown, found.values())]))
        data += [
            {"share": share, "what": what, "value": sample.point}
            | dict(zip(("low", "high"), sample.interval, strict=True))
            for what, sample in found.items()
        ]
    mixed = {
        kind: samples.average(keys(results, role="mixed", tokens=kind), TEXT_TASK, results.languages)
        for kind in results.study["mixed"]
    }
    beside = {"total": "as many tokens as one model", "each": "as many tokens as all models together"}
    texts = [f"{_shown(sample)} with {beside[kind]}" for kind, sample in mixed.items()]
    caption = (
        f"{METRICS[METRIC][:1].upper()}{METRICS[METRIC][1:]}, mean over languages, with 95 % bootstrap intervals: the "
        "branches each in its own language, the merge of all, and what it loses against them. "
        f"{counted(results, TEXT_TASK)}." + (f" Models of mixed text have {', '.join(texts)}." if texts else "")
    )
    columns = ["mixed before", "branches"]
    for method in methods:
        columns += [method_label(method), "loss"]
    return Table("branches", "Branches and their merges", caption, columns, rows, pd.DataFrame(data))


def _shown(sample: Sample) -> str:
    return f"{number(sample.point, 3)} {interval(*sample.interval, 3)}"
