"""Tables of the report of a study of distance. Pure: from frames to tables."""

from __future__ import annotations

import numpy as np
import pandas as pd

from langmerge.reporting.samples import Sample
from langmerge.reporting.studies.distance_figures import NAMES
from langmerge.reporting.studies.distance_measures import AFTER, BEFORE
from langmerge.reporting.table import Cell, Table, cells, interval, number, p_text

SIGNIFICANT = 0.05


def estimate(value: float, low: float, high: float, decimals: int = 2) -> str:
    """A number with its interval, where it has one."""
    ends = f" {interval(low, high, decimals)}" if np.isfinite(low) and np.isfinite(high) else ""
    return number(value, decimals) + ends


def difficulty_table(found: pd.DataFrame, names: dict[str, str], counted: str) -> Table:
    """How hard each language is: bits per sentence of base and specialist."""
    rows, data = [], []
    for line in found.to_dict("records"):
        code = line["language"]
        texts = [code, names[code], number(line["bytes"], 1), number(line["specialist"].point / line["bytes"], 3)]
        record = {"language": code, "changes": names[code], "bytes": line["bytes"]}
        for column in ("base", "specialist", "gain", "difference"):
            sample: Sample = line[column]
            signed = column == "difference"
            exact = signed and sample.point == 0
            ends = "" if exact or column == "base" else f" {interval(*sample.interval)}"
            texts.append(number(sample.point, 1, signed) + ends)
            record |= {column: sample.point, f"{column}_low": sample.interval[0], f"{column}_high": sample.interval[1]}
        rows.append(cells(texts))
        data.append(record)
    columns = ["language", "changes", "bytes", "bits/byte", "base", "specialist", "gain", "against the first"]
    return Table(
        "difficulty",
        "Difficulty of the languages",
        f"Bits per sentence (the same test sentences in every language), {counted}, with 95 % bootstrap "
        "intervals over sentences: base, specialist, what the specialist gained, and how its score differs "
        "from the first language's specialist's. Bytes: of a mean sentence; bits/byte: the specialist's.",
        columns,
        rows,
        pd.DataFrame(data),
        text_columns=2,
    )


def effect_table(by_outcome: dict[str, pd.DataFrame], pairs: int, languages: int, seeds: int) -> Table:
    """What each kind of distance does to each outcome."""
    rows: list[list[Cell]] = []
    rules, data = [], []
    for outcome, table in by_outcome.items():
        rules += [len(rows)] if rows else []
        for line_number, line in enumerate(table.to_dict("records")):
            single = np.isfinite(line.get("alone", np.nan))
            alone = estimate(line["alone"], line["alone_low"], line["alone_high"]) if single else "–"
            texts = [
                "" if line_number else outcome,
                NAMES[line["kind"]],
                alone,
                p_text(line["alone_p"]) if single else "–",
                estimate(line["together"], line["low"], line["high"]),
                number(line["partial"], 2),
                p_text(line["p"]),
                p_text(line["p_holm"]),
                number(line["controlled"], 2),
                p_text(line["controlled_p"]),
            ]
            strong = line["p_holm"] < SIGNIFICANT and not line["low"] <= 0 <= line["high"]
            rows.append([Cell(text, bold=strong and place == 4) for place, text in enumerate(texts)])
        data.append(table.assign(outcome=outcome))
    return Table(
        "effects",
        "Effect of each kind of distance",
        f"Slopes over {pairs} pairs of {languages} languages, outcomes averaged over {seeds} seeds (loss in bits per "
        "sentence): change at full distance (all words, another order, script, or agreement in one language only). "
        "Alone: no other regressor; together: beside the other kinds, with partial correlation r. Interaction: sum of "
        "products of every two kinds, beside all kinds. Brackets: 95 % jackknife intervals over languages. p: "
        "permuting languages (QAP; beside others double semi-partialling), two-sided; Holm: over the kinds. With "
        f"gain: also beside the mean gain of the pair's specialists. Bold: p (Holm) < {SIGNIFICANT}, and the "
        "interval excludes 0.",
        ["outcome", "kind", "alone", "p", "together", "r", "p", "Holm", "with gain", "p"],
        rows,
        pd.concat(data, ignore_index=True),
        rules=rules,
        text_columns=2,
    )


def foresight_table(table: pd.DataFrame, kinds_q2: float, repeats: float, split: str | None) -> Table:
    """How well each measure tells what the merge keeps."""
    rows: list[list[Cell]] = []
    alike = f"ρ, {NAMES[split].lower()} alike" if split else ""
    for line in table.to_dict("records"):
        texts = [
            Cell({**BEFORE, **AFTER}[line["name"]]),
            Cell(estimate(line["rho"], line["low"], line["high"]), bold=line["p_max"] < SIGNIFICANT),
            Cell(p_text(line["p_max"])),
        ]
        if split:
            text = estimate(line["alike_rho"], line["alike_low"], line["alike_high"])
            texts += [Cell(text, bold=line["alike_p"] < SIGNIFICANT), Cell(p_text(line["alike_p"]))]
        rest = [number(line["partial"], 2), p_text(line["partial_p"]), number(line["q2"], 2)]
        rows.append([*texts, *map(Cell, rest)])
    by = f" (split by {NAMES[split].lower()})" if split else ""
    within = f"; and over the pairs alike in {NAMES[split].lower()}, permuting within its sides" if split else ""
    after = [place for place, known in enumerate(table.before) if not known][:1]
    seeds = f" Between seeds retention itself correlates with ρ = {number(repeats, 2)}." if np.isfinite(repeats) else ""
    return Table(
        "foresight",
        "What tells beforehand how much a merge keeps",
        "Spearman's ρ with retention of the linear merge over pairs, with 95 % jackknife intervals over languages, "
        f"and p by permuting languages, corrected for all measures taken before merging (greatest of all){within}. "
        f"Beyond kinds: partial correlation of ranks beside the kinds of distance{by}, p by double "
        "semi-partialling, Holm. Q²: variance foretold, from the measure, for the pairs of a language left out; "
        f"the kinds of distance have {number(kinds_q2, 2)}. Below the line: measures that need the merged weights, "
        f"on other sentences. Bold: p < {SIGNIFICANT}.{seeds}",
        ["measure", "ρ", "p", *([alike, "p"] if split else []), "beyond kinds", "p", "Q²"],
        rows,
        table,
        rules=[place for place in after if place],
    )


def diagnosis_table(table: pd.DataFrame) -> Table:
    """What each kind of distance does to each measure."""
    kinds = list(dict.fromkeys(table.kind))
    rows: list[list[Cell]] = []
    for name, lines in table.groupby("name", sort=False):
        row = [Cell({**BEFORE, **AFTER}[str(name)])]
        for line in lines.to_dict("records"):
            row.append(
                Cell(estimate(line["together"], line["low"], line["high"], 1), bold=line["p_holm"] < SIGNIFICANT)
            )
        rows.append([*row, Cell(number(float(lines.r2.iloc[0]), 2))])
    return Table(
        "diagnoses",
        "What each kind of distance does to the measures",
        "Slopes at full distance beside the other kinds, in standard deviations of the measure over pairs, with 95 % "
        f"jackknife intervals over languages; bold: p < {SIGNIFICANT} after Holm over the whole table (QAP, double "
        "semi-partialling). R²: of all kinds together. Slopes alone are in the CSV file.",
        ["measure", *(NAMES[kind].lower() for kind in kinds), "R²"],
        rows,
        table,
    )
