"""Claims of a study put as the sign of a number with its interval, and their verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd

from langmerge.reporting.studies.results import Samples
from langmerge.reporting.table import Table, cells
from langmerge.reporting.verdicts import NOT_TESTABLE, Finding


def by_seed(samples: Samples, claims: Sequence[Callable[[Samples], Finding]]) -> list[Finding]:
    """Every claim over all seeds; where there are several, with how many of them say the same when taken alone."""
    found = [claim(samples) for claim in claims]
    seeds = samples.results.seeds
    if len(seeds) < 2:
        return found
    alone = [[claim(samples.of_seed(seed)).verdict for claim in claims] for seed in seeds]
    counts = [sum(verdicts[place] == one.verdict for verdicts in alone) for place, one in enumerate(found)]
    return [
        replace(one, measured=f"{one.measured} (same verdict in {count} of {len(seeds)} seeds)")
        if one.verdict != NOT_TESTABLE
        else one
        for one, count in zip(found, counts, strict=True)
    ]


def claims_table(findings: list[Finding], source: str) -> Table:
    """All claims, what was measured here, and the verdicts."""
    rows = [[f.name, f.claim, _sentence(f.measured), f.verdict] for f in findings]
    return Table(
        "findings",
        "Findings",
        f"{source} Brackets: 95 % bootstrap intervals. Reproduced: the interval excludes the opposite; not reproduced: "
        "it lies on the other side; inconclusive: neither. Numbers without an interval (counts, identities, costs "
        "measured once or with their range) decide by themselves, a range as a whole.",
        ["", "Claim", "Measured here", "Verdict"],
        [cells(row) for row in rows],
        pd.DataFrame(rows, columns=["id", "claim", "measured", "verdict"]),
        text_columns=4,
        stretch=[1, 2],
    )


def claims_in_words(findings: list[Finding]) -> list[str]:
    """The tested claims as sentences, and one that names the rest."""
    sentences = [
        f"{f.verdict.capitalize()}: {f.claim} {_sentence(f.measured)}" for f in findings if f.verdict != NOT_TESTABLE
    ]
    rest = [f.name for f in findings if f.verdict == NOT_TESTABLE]
    return [*sentences, *([f"{NOT_TESTABLE.capitalize()}: {', '.join(rest)}."] if rest else [])]


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."
