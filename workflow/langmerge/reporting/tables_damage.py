"""What foretells merge damage: the tests in order of strength, in words and as a table."""

from __future__ import annotations

from typing import Any

import pandas as pd

from langmerge.reporting.load import Results, each
from langmerge.reporting.samples import METRICS, arrow, label
from langmerge.reporting.table import Cell, Table, cells, interval, number

SHOWN = 12  # measures in print
NAMES = {"cka": "CKA", "anc": "ANC", "fisher": "Fisher", "tsv": "TSV", "sar": "SAR", "nua": "NUA"}
ALL = "all"  # the scope of all direction groups and seeds
OUTCOMES = {
    "retention": "retention of the gain",
    "worst_retention": "retention, worse language",
    "ratio": "share of the specialists' score",
    "loss": "points lost",
}


def measure_label(measure: str) -> str:
    """A measure's name in print: ``representations: CKA target last``."""
    place, _, rest = measure.partition(".")
    words = (part.replace("_", " ").replace(".", " ").split() for part in (place, rest) if part)
    return ": ".join(" ".join(NAMES.get(word, word) for word in part) for part in words)


def scope_of(results: Results) -> str:
    """The scope of most strata: all of them, or the only direction group; empty without tests."""
    tests = results.table("damage/predictors")
    if tests.empty:
        return ""
    scopes = list(dict.fromkeys(tests.scope.dropna()))
    return ALL if ALL in scopes else scopes[0] if scopes else ""


def ranked(results: Results) -> pd.DataFrame:
    """The tests of :func:`scope_of` where a correlation is defined, the strongest first, ties in their own order."""
    tests = results.table("damage/predictors")
    if tests.empty:
        return tests
    found = tests[(tests.scope == scope_of(results)) & tests.rho.notna()]
    return found.sort_values("rho", key=lambda rho: -rho.abs(), kind="stable", ignore_index=True)


def outcome_label(results: Results) -> str:
    """What damage is measured by, in print."""
    tests = results.table("damage/predictors")
    return OUTCOMES.get(str(tests.outcome.dropna().iloc[0]), "") if len(tests) else ""


def tested(results: Results) -> str:
    """How many pairs and languages the tests rest on, and the least p they could reach: a part of captions."""
    found = ranked(results)
    if found.empty:
        return ""
    best = found.iloc[0]
    strata = f"{best.pairs:.0f} pair merges ({best.strata:.0f} strata of the same {len(results.languages)} languages)"
    return (
        f"n = {strata}; {best.tests:.0f} tests. p: languages permuted, at least {number(best.least_p, 3)} whatever the "
        f"agreement; corrected for all tests (step-down maximum statistic)"
    )


def predictor_table(results: Results) -> Table | None:
    """The strongest predictors with what makes them doubtful; None without tests. All tests are in its data."""
    found = ranked(results)
    if found.empty:
        return None
    tests = results.table("damage/predictors")
    groups = [group for group in results.groups if (tests.scope == group).any() and scope_of(results) == ALL]
    several = found.method.nunique() > 1
    body: list[list[Cell]] = []
    for row in each(found.head(SHOWN)):
        name = measure_label(row.measure) + (f" ({label('merge', row.method)})" if several else "")
        body.append(
            cells(
                [
                    name,
                    number(row.rho, 2),
                    interval(row.low, row.high, 2),
                    *(number(correlation(results, group, row), 2) for group in groups),
                    f"{interval(row.left_out_low, row.left_out_high, 2)} {row.left_out}",
                    number(row.p, 3),
                    number(row.p_pairs, 3),
                    number(row.p_corrected, 2),
                ]
            )
        )
    absent = tests[tests.rho.isna()].drop_duplicates("measure")
    missing = f" Constant or not measured: {len(absent)} more." if len(absent) else ""
    return Table(
        "predictors",
        "What foretells merge damage",
        f"Spearman's rank correlation of each measure of a pair with the {outcome_label(results)} "
        f"({METRICS[results.study['merging']['select_by']]}) of its merge, mean over strata; the {len(body)} strongest "
        f"of {len(found)}. 95 %: languages drawn with replacement; one left out: range without one language, and the "
        f"one that changes most. {tested(results)}; p (pairs) permutes pairs as if they shared no language, and is too "
        f"small.{missing}",
        ["Measure", "ρ", "95 %", *(arrow(group, results.pivot) for group in groups), "one left out", "p", "p (pairs)",
         "p corrected"],
        body,
        tests,
    )  # fmt: skip


def correlation(results: Results, scope: str, row: Any) -> float:
    """The correlation of a test's measure and method in another scope; NaN where there is none."""
    tests = results.table("damage/predictors")
    found = tests[(tests.scope == scope) & (tests.method == row.method) & (tests.measure == row.measure)].rho
    return float(found.iloc[0]) if len(found) else float("nan")
