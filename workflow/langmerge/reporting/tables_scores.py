"""Tables of translation quality: scores, retention, layer patch, pairs, quality of the outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from langmerge.reporting import samples
from langmerge.reporting.samples import METRICS, Row, Sample, Scores, arrow
from langmerge.reporting.shares import MEAN, pair_shares, patched
from langmerge.reporting.table import EMPTY, Cell, Table, cells, interval, number

SIGNIFICANT = 0.05
ENDS = ("low", "high")
WIDEST = 6  # languages that fit beside each other for two metrics


def test_set(scores: Scores) -> str:
    """What a caption says of the test set: split, sentences, seeds."""
    r = scores.results
    main = r.scores[r.scores.split == r.split]
    counts = sorted(set(main.n))
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"
    seeds = "1 seed" if len(r.seeds) == 1 else f"mean of {len(r.seeds)} seeds"
    return f"Split {r.split}, n = {n} sentences per direction, {seeds}"


def signature_of(scores: Scores, metric: str) -> str:
    """The sacrebleu signature of a metric; that of most targets if they differ."""
    table = scores.results.scores
    found = table[table.metric == metric].signature
    return "" if found.empty else str(found.mode().iloc[0])


def differs(scores: Scores, row: Row, group: str, language: str, metric: str) -> bool:
    """A row differs from the specialists in every seed after Holm's correction, in a language or in the mean."""
    table = scores.results.comparisons
    if table.empty:
        return False
    direction = MEAN if language == MEAN else scores.results.direction(group, language)
    found = table[
        table.system.isin(set(row.keys.values()))
        & table.family.str.endswith(f"/{group}/specialist")
        & (table.direction == direction)
        & (table.metric == metric)
    ]
    return len(found) > 0 and bool((found.p_holm < SIGNIFICANT).all())


def best_is_clear(scores: Scores, group: str, metric: str, score: Callable[[Row], Sample]) -> str | None:
    """Name of the merge that is best in a column, if its interval against the second best and the base excludes 0."""
    ranked = sorted(scores.merges(group), key=lambda row: -score(row).point)
    if not ranked:
        return None
    others = ranked[1:2] + [row for row in [scores.row(group, "base")] if row]
    return ranked[0].name if all((score(ranked[0]) - score(other)).above for other in others) else None


def score_table(scores: Scores, group: str, metrics: tuple[str, ...] = ("bleu", "chrf")) -> Table:
    """Base, specialists, joint model and merges in the languages of a direction group, and their mean."""
    r = scores.results
    rows = scores.rows(group)
    data: list[dict[str, Any]] = []
    texts: dict[tuple[str, str, str], Cell] = {}
    for metric in metrics:
        for language in [*r.languages, MEAN]:

            def value(row: Row, language: str = language, metric: str = metric) -> Sample:
                if language == MEAN:
                    return scores.average(row, group, metric)
                return scores.cell(row, group, language, metric)

            best = best_is_clear(scores, group, metric, value)
            for row in rows:
                sample = value(row)
                low, high = sample.interval
                marked = differs(scores, row, group, language, metric)
                bold = row.role == "merge" and row.name == best
                texts[row.name, metric, language] = Cell(number(sample.point), bold, "†" if marked else "")
                data.append(
                    {
                        "system": row.name,
                        "role": row.role,
                        "metric": metric,
                        "language": language,
                        "score": sample.point,
                        "low": low,
                        "high": high,
                        "differs_from_specialist": marked,
                        "best_merge": bold,
                    }
                )
    columns = [*r.languages, MEAN]
    title = f"Translation quality, {arrow(group, r.pivot)}"
    caption = (
        f"{test_set(scores)}. Specialist: the model of that column's language. Hyper-parameters of merges were "
        "tuned on dev. "
        "† differs from the specialist (approximate randomization, Holm over systems and languages, over "
        f"systems for the mean, p < {SIGNIFICANT} "
        "in every seed). Bold: best merge, where the paired bootstrap interval (95 %) of its lead over the "
        "second merge "
        "and over the base excludes 0. " + " ".join(f"{METRICS[m]}: {signature_of(scores, m)}." for m in metrics)
    )
    name = f"scores_{group.replace('-', '_')}"
    later = {"joint", "merge"}
    first = next((i for i, row in enumerate(rows) if row.role in later), None)
    if len(r.languages) <= WIDEST:
        body = [[Cell(row.label)] + [texts[row.name, m, c] for m in metrics for c in columns] for row in rows]
        spans = [(METRICS[m], len(columns)) for m in metrics]
        rules = [i for i in [first] if i]
        return Table(name, title, caption, ["System", *columns * len(metrics)], body, pd.DataFrame(data), spans, rules)
    body = [
        [Cell(METRICS[m]), Cell(row.label)] + [texts[row.name, m, c] for c in columns] for m in metrics for row in rows
    ]
    rules = [len(rows) * i for i in range(1, len(metrics))]
    return Table(
        name, title, caption, ["Metric", "System", *columns], body, pd.DataFrame(data), rules=rules, text_columns=2
    )


def further_tables(scores: Scores, group: str, metrics: tuple[str, ...] = ("bleu", "chrf")) -> list[Table]:
    """The same rows on each further test set of the study: scores averaged over seeds, without tests."""
    r = scores.results
    found = r.scores.set_index(["split", "key", "direction", "metric"]).score
    tables = []
    for split in [split for split in r.scores.split.unique() if split != r.split]:
        body, data = [], []
        for row in scores.rows(group):
            texts = []
            for metric in metrics:
                by_language = {
                    code: float(
                        np.mean(
                            [
                                found.get((split, key, r.direction(group, code), metric), np.nan)
                                for (_, language), key in row.keys.items()
                                if language == code
                            ]
                        )
                    )
                    for code in r.languages
                }
                by_language[MEAN] = float(np.mean(list(by_language.values())))
                texts += [number(value) for value in by_language.values()]
                data += [
                    {"system": row.name, "metric": metric, "language": code, "score": value}
                    for code, value in by_language.items()
                ]
            body.append(cells([row.label, *texts]))
        columns = [*r.languages, MEAN]
        sentences = int(r.scores[r.scores.split == split].n.max())
        tables.append(
            Table(
                f"scores_{split}_{group.replace('-', '_')}",
                f"Translation quality on {split}, {arrow(group, r.pivot)}",
                f"A further test set, never tuned on; at most {sentences} sentences per direction, mean over seeds.",
                ["System", *columns * len(metrics)],
                body,
                pd.DataFrame(data),
                [(METRICS[metric], len(columns)) for metric in metrics],
            )
        )
    return tables


def retention_table(scores: Scores, measure: Callable[..., Sample], metric: str = "bleu") -> Table:
    """Retention or ratio of joint model and merges, per direction group and language."""
    r = scores.results
    body: list[list[Cell]] = []
    data: list[dict[str, Any]] = []
    rules: list[int] = []
    for group in r.groups:
        rules.append(len(body))
        for row in (row for row in scores.rows(group) if row.role in ("joint", "merge")):
            found = {code: scores.retained(row, group, code, metric, measure) for code in r.languages}
            found[MEAN] = scores.retained_mean(row, group, metric, measure)
            for code, sample in found.items():
                low, high = sample.interval
                data.append(
                    {"group": group, "system": row.name, "metric": metric, "language": code}
                    | {"value": sample.point, "low": low, "high": high}
                )
            texts = [number(found[code].point, 2) for code in [*r.languages, MEAN]]
            body.append(cells([arrow(group, r.pivot), row.label, *texts, interval(*found[MEAN].interval, 2)]))
    if measure is samples.retention:
        name, title = "retention", "Retention of the specialists' gain"
        meaning = (
            "R = (merge − base) / (specialist − base): 1 is the specialist, 0 the base, negative worse than "
            "the base; – where the "
            "specialist's gain is below two standard errors"
        )
    else:
        name, title = "ratio", "Share of the specialists' score"
        meaning = "merge / specialist"
    caption = f"{METRICS[metric]}; {meaning}. Interval: 95 % bootstrap of the mean over languages. {test_set(scores)}."
    columns = ["Direction", "System", *r.languages, MEAN, "95 % interval"]
    return Table(name, title, caption, columns, body, pd.DataFrame(data), rules=rules[1:], text_columns=2)


def output_table(scores: Scores) -> Table:
    """What the outputs look like: off-target, copies, empty ones, length, TER; means over languages and seeds."""
    r = scores.results
    rates = r.rates[r.rates.split == r.split].set_index(["key", "direction"])
    columns = ["off_target", "off_target_floor", "source_language", "copy", "empty"]
    body: list[list[Cell]] = []
    data: list[dict[str, Any]] = []
    rules: list[int] = []
    for group in r.groups:
        rules.append(len(body))
        for row in scores.rows(group):
            index = [(key, r.direction(group, code)) for (_, code), key in row.keys.items()]
            found = rates.loc[index].apply(pd.to_numeric, errors="coerce").mean(numeric_only=True)
            ter = scores.average(row, group, "ter").point if _has(scores, "ter") else float("nan")
            data.append({"group": group, "system": row.name, **found[[*columns, "length_ratio"]], "ter": ter})
            percent = [number(100 * found[c]) for c in columns]
            body.append(
                cells([arrow(group, r.pivot), row.label, *percent, number(found["length_ratio"], 2), number(ter)])
            )
    return Table(
        "outputs",
        "What the outputs look like",
        "Means over languages. Off-target: identified outputs in another language than asked for; floor: the "
        "same for the "
        "references, which is the error of language identification; source: in the source language; copy: the "
        "source repeated; "
        f"empty: no text; all in %. Length: characters over the reference's. TER: lower is better. {test_set(scores)}.",
        ["Direction", "System", "off-target", "floor", "source", "copy", "empty", "length", "TER"],
        body,
        pd.DataFrame(data),
        rules=rules[1:],
        text_columns=2,
    )


def _has(scores: Scores, metric: str) -> bool:
    return bool((scores.results.scores.metric == metric).any())


def patch_table(scores: Scores, metric: str = "bleu") -> Table | None:
    """The layer patch: last layers of the specialist in the merge, against random lower ones; None without patches."""
    r = scores.results
    patches = r.systems[r.systems.role == "patch"]
    if patches.empty:
        return None
    study = r.study["merging"]["layer_patch"]
    body: list[list[Cell]] = []
    data: list[dict[str, Any]] = []
    rules: list[int] = []
    for group in r.groups:
        by_name = {row.name: row for row in scores.merges(group)}
        for onto in dict.fromkeys(patches[patches.group == group].onto):
            rules.append(len(body))
            merge = by_name[onto]
            last = {c: patched(scores, group, onto, "last", c, metric) for c in r.languages}
            drawn = {c: patched(scores, group, onto, "random", c, metric) for c in r.languages}
            plain = {c: scores.cell(merge, group, c, metric) for c in r.languages}
            lines = {
                "no patch": plain,
                f"last {study['layers']}": last,
                f"random {study['layers']} below": drawn,
                "gain of last": {c: last[c] - plain[c] for c in r.languages},
                "last − random": {c: last[c] - drawn[c] for c in r.languages},
            }
            for name, values in lines.items():
                values = {**values, MEAN: samples.mean(values.values())}
                signed = "gain" in name or "−" in name
                for code, sample in values.items():
                    low, high = sample.interval
                    head = {"group": group, "onto": onto, "layers": name, "metric": metric, "language": code}
                    data.append({**head, "value": sample.point, "low": low, "high": high})
                texts = [number(s.point, 1, signed) for s in values.values()]
                head_cells = [arrow(group, r.pivot), merge.label, name]
                body.append(cells([*head_cells, *texts, interval(*values[MEAN].interval)]))
    return Table(
        "layer_patch",
        "Layer patch",
        f"{METRICS[metric]} after the specialist's layers replace the merge's in the direction of that "
        "specialist: the last "
        f"{study['layers']}, or as many drawn at random below them (mean of {study['controls']} draws). "
        "Interval: 95 % bootstrap "
        f"of the mean over languages. {test_set(scores)}.",
        ["Direction", "Merge", "Layers", *r.languages, MEAN, "95 % interval"],
        body,
        pd.DataFrame(data),
        rules=rules[1:],
        text_columns=3,
    )


def pair_table(scores: Scores, metric: str = "bleu") -> Table | None:
    """Kept share per pair of languages and direction group; None if the study merges no pairs."""
    shares = pair_shares(scores, metric)
    if shares.empty:
        return None
    r = scores.results
    body: list[list[Cell]] = []
    keys = list(dict.fromkeys(zip(shares.method, shares.pair, strict=True)))
    indexed = shares.set_index(["method", "pair", "group", "language"])
    for method, pair in keys:
        line = [pair, samples.label("merge", method)]
        for group in r.groups:
            for code in [*pair.split("+"), MEAN]:
                known = (method, pair, group, code) in indexed.index
                line.append(number(indexed.loc[(method, pair, group, code), "value"], 2) if known else EMPTY)
            known = (method, pair, group, MEAN) in indexed.index
            low, high = (indexed.loc[(method, pair, group, MEAN), end] if known else float("nan") for end in ENDS)
            line.append(interval(low, high, 2))
        body.append(cells(line))
    columns = ["first", "second", MEAN, "95 % interval"]
    return Table(
        "pairs",
        "Merges of two specialists",
        f"Kept share of the specialists' {METRICS[metric]} (merge / specialist) in the first and the second "
        "language of a pair. "
        f"{test_set(scores)}.",
        ["Pair", "Method", *columns * len(r.groups)],
        body,
        shares,
        [(arrow(group, r.pivot), len(columns)) for group in r.groups],
        text_columns=2,
    )
