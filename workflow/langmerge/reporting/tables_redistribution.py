"""Does fine-tuning sharpen language units or redistribute them? The verdicts in a heading, in sentences and in a table.

Heading: :func:`redistribution_heading`. List of sentences: :func:`redistribution_words`. Table:
:func:`redistribution_table`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd

from langmerge.reporting.load import Results, each
from langmerge.reporting.samples import arrow
from langmerge.reporting.table import Cell, Table, interval, number
from langmerge.reporting.tables_units import in_own_span, sentences_note

TITLE = "Language units under fine-tuning"
INCONCLUSIVE = "inconclusive"
CHANGES = ("supervised", "elsewhere", "information")


def verdicts(results: Results) -> pd.DataFrame:
    """One row a specialist, in the span that is in its language: the changes, verdict and reason of ``verdicts.csv``.

    With several seeds, changes and verdict are those of the replication, where a study has one, and otherwise of the
    first seed. ``seeds`` have the specialist, ``agreeing`` ones have the row's verdict by themselves.
    """
    own = in_own_span(results.table("measurements/verdicts"))
    again = in_own_span(results.table("replication/replication"))
    rows = []
    for (group, model), found in own.groupby(["group", "model"], sort=False) if len(own) else ():
        row = found.iloc[0].to_dict() | {"units": found.units.mean()}
        other = again[(again.group == group) & (again.model == model)] if len(again) else again
        row |= other.iloc[0].to_dict() if len(other) else {}
        rows.append(row | {"seeds": len(found), "agreeing": int((found.verdict == row["verdict"]).sum())})
    return pd.DataFrame(rows)


def redistribution_heading(results: Results) -> str:
    """The title, and after a colon how many specialists got which verdict."""
    found = verdicts(results)
    if found.empty:
        return TITLE
    counts = Counter(found.verdict)
    named = sorted(counts, key=lambda verdict: (verdict == INCONCLUSIVE, -counts[verdict]))
    return f"{TITLE}: {', '.join(f'{verdict} in {counts[verdict]}' for verdict in named)} of {len(found)} specialists"


def redistribution_words(results: Results) -> list[str]:
    """Which specialists got which verdict and why, a sentence for each reason, inconclusive ones last."""
    found = verdicts(results)
    reasons: Any = found.groupby(["verdict", "reason"], sort=False) if len(found) else ()
    sentences = []
    for (verdict, reason), rows in sorted(reasons, key=lambda one: one[0][0] == INCONCLUSIVE):
        groups = [
            f"{arrow(str(group), results.pivot)} {', '.join(here.language)}"
            for group, here in rows.groupby("group", sort=False)
        ]
        sentences.append(f"{'; '.join(groups)}: {verdict}, {reason}.")
    return sentences


def redistribution_table(results: Results) -> Table | None:
    """The changes that each verdict rests on; None without measurements."""
    found = verdicts(results)
    if found.empty:
        return None
    several = bool((found.seeds > 1).any())
    body: list[list[Cell]] = []
    rules: list[int] = []
    for row in each(found):
        if not body or body[-1][0].text != arrow(row.group, results.pivot):
            rules.append(len(body))
        alone = f" ({row.agreeing}/{row.seeds})" if several else ""
        verdict = Cell(f"{row.verdict}{alone}", bold=row.verdict != INCONCLUSIVE)
        line = [Cell(arrow(row.group, results.pivot)), Cell(str(row.language)), verdict, Cell(number(row.units, 0))]
        for name in CHANGES:
            value, low, high = (100 * float(getattr(row, f"{name}_{part}")) for part in ("change", "low", "high"))
            line += [Cell(number(value, 1, signed=True)), Cell(interval(low, high, 1))]
            if name == "supervised":
                line.append(Cell(number(100 * float(row.matched_change), 1, signed=True)))
        body.append(line)
    return Table(
        "redistribution",
        "Sharpened or redistributed language units",
        "Change from the base to the specialist of a language, in the span in that language, of the base's units of "
        "that language: the language's share of their firing, that of unrelated languages (of all others where none is "
        "unrelated), in points, and their mutual information of firing and language, in %. Subtracted is what these "
        "units would have done had they changed as matched ones: in no language's set, of the same layer, nearest in "
        "firing rate (matched: what was subtracted from the share). Units are chosen in one half of the blocks and "
        "measured in the other. Intervals: 95 %, "
        + ("Student's over seeds; in brackets: seeds with the same verdict alone"
           if several else f"delete-one-block jackknife, {sentences_note(results)}")
        + ". A change counts only where its interval lies beyond those between two halves of the base's own sentences.",
        [
            *("Direction", "Language", "Verdict", "units", "share", "95 %", "matched"),
            *("elsewhere", "95 %", "information", "95 %"),
        ],
        body,
        found,
        rules=rules[1:],
        text_columns=3,
    )  # fmt: skip
