"""Claims of a study put as the sign of a number with its interval, and their verdicts."""

from __future__ import annotations

import pandas as pd

from langmerge.reporting.findings import NOT_TESTABLE, Finding
from langmerge.reporting.table import Table, cells


def untestable(name: str, claim: str, missing: str) -> Finding:
    """A claim that the study has not measured."""
    return Finding(name, claim, f"Needs {missing}, which the study does not have", NOT_TESTABLE)


def claims_table(findings: list[Finding], source: str) -> Table:
    """All claims, what was measured here, and the verdicts."""
    rows = [[f.name, f.claim, f.measured + ".", f.verdict] for f in findings]
    return Table(
        "findings",
        "Findings",
        f"{source} Brackets: 95 % bootstrap intervals. Reproduced: the interval excludes the opposite; not reproduced: "
        "it lies on the other side; inconclusive: neither.",
        ["", "Claim", "Measured here", "Verdict"],
        [cells(row) for row in rows],
        pd.DataFrame(rows, columns=["id", "claim", "measured", "verdict"]),
        text_columns=4,
        stretch=[1, 2],
    )


def claims_in_words(findings: list[Finding]) -> list[str]:
    """The tested claims as sentences, and one that names the rest."""
    sentences = [f"{f.verdict.capitalize()}: {f.claim} {f.measured}." for f in findings if f.verdict != NOT_TESTABLE]
    rest = [f.name for f in findings if f.verdict == NOT_TESTABLE]
    return [*sentences, *([f"{NOT_TESTABLE.capitalize()}: {', '.join(rest)}."] if rest else [])]
