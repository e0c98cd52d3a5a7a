"""Tables of the models: hyper-parameters, selective neurons, representations, costs, data, seeds, recipes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from langmerge.reporting import samples
from langmerge.reporting.load import Results
from langmerge.reporting.samples import METRICS, Scores, arrow, label
from langmerge.reporting.table import EMPTY, Cell, Table, cells, interval, number, si
from langmerge.reporting.tables_scores import signature_of

UPPER = 0.15  # share of the layers that counts as the top


def parameters_text(parameters: dict[str, Any]) -> str:
    """A merge's parameters in print: the numbers that a grid may vary, defaults that say nothing left out."""
    shown = {k: v for k, v in parameters.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return ", ".join(f"{name} {value:g}" for name, value in sorted(shown.items())) or EMPTY


def hyperparameter_table(results: Results) -> Table | None:
    """The parameters that dev chose for each merge, its dev score, and how many candidates there were."""
    merges = results.merges
    merges = merges[merges["sweep"] == "all"] if not merges.empty else merges
    merges = merges[merges.method != "layer_patch"] if not merges.empty else merges
    if merges.empty:
        return None
    body, rules = [], []
    several = len(results.seeds) > 1
    for group in results.groups:
        rules.append(len(body))
        for row in merges[merges.group == group].itertuples():
            parameters = parameters_text(row.parameters)
            seed = [str(row.seed)] if several else []
            texts = [parameters, str(row.candidates), number(row.dev)]
            body.append(cells([arrow(group, results.pivot), label("merge", row.name), *seed, *texts]))
    study = results.study["merging"]
    n = results.study["evaluation"]["dev"]
    data = merges.assign(parameters=[parameters_text(p) for p in merges.parameters]).drop(columns=["statistics", "sweep"])
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


def neuron_counts(results: Results) -> pd.DataFrame:
    """Selective neurons in long form: seed, group, model, span, layer, language, units; sets fitted for each model."""
    table = results.neurons
    if table.empty or table["frozen"].all():
        return table
    return table[~table["frozen"].astype(bool)]


def neuron_table(results: Results) -> Table | None:
    """Selective neurons per language (over all layers), with the share of the model's total; None without measurements."""
    counts = neuron_counts(results)
    if counts.empty:
        return None
    keys = ["group", "span", "model", "language"]
    # Languages of a run are those of its rows: the pivot may be among them.
    summed = counts.groupby(["seed", *keys], sort=False).units.sum().groupby(level=keys, sort=False).mean()
    languages = list(dict.fromkeys(counts.language))
    body, data, rules = [], [], []
    for group, span in dict.fromkeys(zip(counts.group, counts.span, strict=True)):
        rules.append(len(body))
        here = summed.loc[group, span]
        for model in dict.fromkeys(counts[(counts.group == group) & (counts.span == span)].model):
            units = here.loc[model].reindex(languages)
            total = units.sum()
            own = [code for code in languages if model == results.direction(group, code)]
            line = [Cell(arrow(group, results.pivot)), Cell(span), Cell(model_label(model))]
            for code in languages:
                share = units[code] / total if total else float("nan")
                data.append(
                    {"group": group, "span": span, "model": model, "language": code, "units": units[code], "share": share}
                )
                text = f"{number(units[code], 0)} ({number(100 * share, 0)})"
                line.append(Cell(text, bold=code in own))
            body.append([*line, Cell(number(total, 0))])
    ranking = ", ".join(dict.fromkeys(counts.ranking)).replace("_", " ")
    thresholds = "thresholds of the base" if counts["frozen"].all() else "thresholds refitted for each model"
    warnings = list(dict.fromkeys(counts.warning.dropna())) if "warning" in counts else []
    return Table(
        "neurons",
        "Selective neurons per language",
        f"Number of neurons (per cent of the row's total); ranking: {ranking}, {thresholds}. Bold: the language that a "
        f"specialist was trained on.{' Caution: ' + '; '.join(warnings) + '.' if warnings else ''}",
        ["Direction", "Span", "Model", *languages, "all"],
        body,
        pd.DataFrame(data),
        rules=rules[1:],
        text_columns=3,
    )


def turnover_table(results: Results) -> Table | None:
    """Neurons gained and lost against the base, and how far two sets overlap; None without measurements."""
    table = results.turnover
    if table.empty:
        return None
    languages = list(dict.fromkeys(table.language))
    values = ["gained", "lost", "jaccard", "ceiling"]
    mean = table.groupby(["group", "span", "model", "language"], sort=False)[values].mean()
    body, rules = [], []
    for group, span in dict.fromkeys(zip(table.group, table.span, strict=True)):
        rules.append(len(body))
        here = table[(table.group == group) & (table.span == span)]
        for model in dict.fromkeys(here.model):
            line = [Cell(arrow(group, results.pivot)), Cell(span), Cell(model_label(model))]
            for code in languages:
                if (group, span, model, code) not in mean.index:
                    line.append(Cell(EMPTY))
                    continue
                row = mean.loc[(group, span, model, code)]
                own = model == results.direction(group, code)
                text = f"+{row.gained:.0f} −{row.lost:.0f} ({row.jaccard:.2f})"
                line.append(Cell(text, bold=own))
            body.append(line)
    top = f" Two halves of the sentences give the base itself {mean.ceiling.mean():.2f}."
    return Table(
        "turnover",
        "Selective neurons gained and lost",
        f"Against the base: gained, lost, and in brackets the Jaccard overlap of the two sets.{top}",
        ["Direction", "Span", "Model", *languages],
        body,
        table,
        rules=rules[1:],
        text_columns=3,
    )


def model_label(name: str) -> str:
    """A measured model's name in print: directions as arrows, methods by their usual names."""
    if name in samples.METHODS or name in ("base", "joint"):
        return label(name if name in ("base", "joint") else "merge", name)
    return name.replace("-", "→", 1)


def upper_layers(count: int) -> int:
    """How many of ``count`` layers are the top: 15 %, at least one."""
    return max(1, math.ceil(UPPER * count - 1e-9))


def cka_of(results: Results, variant: str = "raw") -> pd.DataFrame:
    """CKA by layer in long form with ``pair`` (specialists, base, merges): which kind of models is compared."""
    table = results.cka
    if table.empty:
        return table
    table = table[table["variant"] == variant]
    trained = {results.direction(group, code) for group in results.groups for code in results.languages}
    a, b = table.model_a.isin(trained), table.model_b.isin(trained)
    base = (table.model_a == "base") | (table.model_b == "base")
    kind = np.select([a & b, base & (a | b), a | b], ["specialist–specialist", "base–specialist", "merge–specialist"], "other")
    return table.assign(pair=kind)


def cka_table(results: Results) -> Table | None:
    """Mean CKA of the upper layers by direction group, span and kind of pair; None without measurements."""
    table = cka_of(results)
    if table.empty:
        return None
    last = table["layers"] - table["layers"].map(upper_layers)
    kinds = ["specialist–specialist", "base–specialist", "merge–specialist"]
    body, data, rules = [], [], []
    for group, span in dict.fromkeys(zip(table.group, table.span, strict=True)):
        here = table[(table.group == group) & (table.span == span)]
        if group not in [row["group"] for row in data]:
            rules.append(len(body))
        for kind in kinds:
            chosen = here[here.pair == kind]
            if chosen.empty:
                continue
            third = chosen[chosen.layer == (chosen.layers / 3).round()]
            top = chosen[chosen.layer > last.loc[chosen.index]]
            final = chosen[chosen.layer == chosen.layer.max()]
            row = {
                "group": group,
                "span": span,
                "pair": kind,
                "third": third.cka.mean(),
                "upper": top.cka.mean(),
                "last": final.cka.mean(),
                "low": final.groupby(["model_a", "model_b"]).cka.mean().min(),
                "high": final.groupby(["model_a", "model_b"]).cka.mean().max(),
                "standard_error": final.standard_error.mean(),
                "null_high": final.null_high.max(),
                "anc": final.anc.mean(),
            }
            data.append(row)
            body.append(
                cells(
                    [
                        arrow(group, results.pivot),
                        span,
                        kind,
                        *(number(row[c], 3) for c in ("third", "upper", "last")),
                        interval(row["low"], row["high"], 3),
                        *(number(row[c], 3) for c in ("standard_error", "null_high", "anc")),
                    ]
                )
            )
    count = int(table["layers"].max())
    return Table(
        "cka",
        "Similarity of representations in the upper layers",
        f"Debiased linear CKA of span means, mean over pairs of models; {upper_layers(count)} of {count} layers are called upper. "
        "Range: over pairs, at the last layer; se: jackknife, mean over pairs; null: 95 % bound under shuffled sentences; "
        f"ANC: mean absolute correlation of equal coordinates. n = {int(table.n.max())} sentences.",
        ["Direction", "Span", "Pair", "1/3 depth", "upper", "last", "range", "se", "null", "ANC"],
        body,
        pd.DataFrame(data),
        rules=rules[1:],
        text_columns=3,
    )


def cost_frame(results: Results) -> pd.DataFrame:
    """Tokens, FLOPs, training and wall seconds of every training and sweep: means over seeds; in the order of the plan."""
    costs = results.costs
    if costs.empty:
        return costs
    wanted = ["tokens", "flops", "training_seconds", "seconds", "gpu_joules", "peak_memory_bytes"]
    costs = costs.reindex(columns=["kind", "name", "device", *wanted])
    return costs.groupby(["kind", "name"], sort=False).agg(dict.fromkeys(wanted, "mean") | {"device": "first"}).reset_index()


def group_costs(results: Results) -> pd.DataFrame:
    """What specialists with merging cost in a direction group, and what the joint model costs.

    Columns: group, specialists and longest (training seconds: the sum, and the longest one alone), selection (seconds of
    the sweep over merges), joint (seconds), tokens and joint_tokens, flops and joint_flops.
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
    body, data = [], []

    def add(name: str, tokens: float, flops: float, seconds: float, device: str) -> None:
        data.append({"what": name, "tokens": tokens, "flops": flops, "seconds": seconds, "device": device})
        body.append(cells([name, si(tokens, 2), si(flops), number(seconds, 1), device]))

    for row in costs[costs.kind == "training"].itertuples():
        add(f"training of {row.name}", row.tokens, row.flops, row.training_seconds, str(row.device))
    rules = [len(body)]
    for row in costs[costs.kind == "sweep"].itertuples():
        add(f"sweep {row.name}", row.tokens, row.flops, row.seconds, str(row.device))
    rules.append(len(body))
    for row in group_costs(results).itertuples():
        to = arrow(row.group, results.pivot)
        add(f"{to}: specialists, sum", row.tokens, row.flops, row.specialists, EMPTY)
        add(f"{to}: specialists, longest one (all at once)", float("nan"), float("nan"), row.longest, EMPTY)
        add(f"{to}: joint", row.joint_tokens, row.joint_flops, row.joint, EMPTY)
    return Table(
        "cost",
        "Cost",
        "Trainings: seconds in the training loop, real tokens, model FLOPs (forward and backward). Sweeps: wall seconds and "
        "decoded tokens, over all candidates of a direction group; needed once to choose and score merges. "
        + ("Means over seeds." if len(results.seeds) > 1 else "One seed."),
        ["", "tokens", "FLOPs", "seconds", "device"],
        body,
        pd.DataFrame(data),
        rules=[r for r in rules if 0 < r < len(body)],
    )


def seed_table(scores: Scores, metric: str = "bleu") -> Table | None:
    """Mean and standard deviation over seeds, per system, of the mean over languages; None for a single seed."""
    r = scores.results
    if len(r.seeds) < 2:
        return None
    body, data, rules = [], [], []
    for group in r.groups:
        rules.append(len(body))
        for row in scores.rows(group):
            by_seed = {}
            for seed in r.seeds:
                values = [
                    scores.of(key, r.direction(group, code), metric).point for (s, code), key in row.keys.items() if s == seed
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
    body = [cells([m.name, m.kind, m.recipe, ", ".join(m.parents) or EMPTY]) for m in first.itertuples()]
    data = models.assign(parents=[", ".join(p) for p in models.parents])
    return Table(
        "models",
        "Models",
        "Every model of the study with its recipe; the same for each seed.",
        ["Model", "kind", "recipe", "made from"],
        body,
        data,
        text_columns=4,
        wide=True,
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
        wide=True,
    )
