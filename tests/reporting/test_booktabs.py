"""LaTeX fragments: structure that a TeX run would check."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from langmerge.reporting import booktabs
from langmerge.reporting.document import Document
from langmerge.reporting.table import Cell, Table


@pytest.fixture(scope="module")
def fragments(document: Document) -> dict[str, tuple[Table, str]]:
    return {t.name: (t, booktabs.render(t)) for t in document.tables}


def test_every_special_character_is_escaped() -> None:
    assert booktabs.escape("50 % & a_b #1 $x {y} ~ ^ \\") == (
        r"50 \% \& a\_b \#1 \$x \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )
    assert booktabs.escape("−1 en→xx †") == r"$-$1 en$\rightarrow$xx \textdagger{}"


def test_a_small_table_in_full() -> None:
    table = Table(
        "t",
        "Scores",
        "All in %.",
        ["System", "es", "de"],
        [[Cell("A&B"), Cell("1.0", bold=True), Cell("−2.0", mark="†")], [Cell("C"), Cell("3.0"), Cell("–")]],
        pd.DataFrame(),
        [("BLEU", 2)],
        [1],
    )
    assert booktabs.render(table).splitlines() == [
        r"\begin{table*}[t]",
        r"\centering\small",
        r"\begin{tabular}{@{}lrr@{}}",
        r"\toprule",
        r" & \multicolumn{2}{c}{BLEU} \\",
        r"\cmidrule(lr){2-3}",
        r"System & es & de \\",
        r"\midrule",
        r"A\&B & \textbf{1.0} & $-$2.0\textsuperscript{\textdagger{}} \\",
        r"\midrule",
        r"C & 3.0 & -- \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\caption{\textbf{Scores.} All in \%.}",
        r"\label{tab:t}",
        r"\end{table*}",
    ]


def test_fragments_are_balanced(fragments: dict[str, tuple[Table, str]]) -> None:
    for name, (_, text) in fragments.items():
        bare = re.sub(r"\\[\\{}%&#$_]", "", text)
        assert bare.count("{") == bare.count("}"), name
        assert bare.count("$") % 2 == 0, name
        assert "%" not in bare, name  # would hide the rest of its line
        assert re.findall(r"\\begin\{(.*?)\}", text) == re.findall(r"\\end\{(.*?)\}", text)[::-1], name


def test_rows_have_as_many_cells_as_columns(fragments: dict[str, tuple[Table, str]]) -> None:
    for name, (table, text) in fragments.items():
        rows = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert len(rows) == len(table.rows) + 1, name
        for row in rows:
            assert len(re.findall(r"(?<!\\)&", row)) == len(table.columns) - 1, (name, row)
        letters = re.search(r"\{@\{\}([lrX]+)@\{\}\}", text)
        assert letters, name
        assert len(letters[1]) == len(table.columns), name
