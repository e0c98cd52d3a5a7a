"""Tables as LaTeX fragments in the style of booktabs, to be put into a paper with ``\\input``."""

from __future__ import annotations

import re

from langmerge.reporting.table import Cell, Table

ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "≈": r"$\approx$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "λ": r"$\lambda$",
    "†": r"\textdagger{}",
    "–": "--",
    "…": r"\ldots{}",
    "\N{NO-BREAK SPACE}": "~",
}
_SPECIAL = re.compile("|".join(map(re.escape, ESCAPES)))


def escape(text: str) -> str:
    """``text`` with every character that LaTeX would take as a command escaped."""
    return _SPECIAL.sub(lambda match: ESCAPES[match[0]], text)


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if cell.bold:
        text = rf"\textbf{{{text}}}"
    return text + (rf"\textsuperscript{{{escape(cell.mark)}}}" if cell.mark else "")


def render(table: Table) -> str:
    """A ``table`` environment with caption and label; needs the packages booktabs and, for text, tabularx."""
    count, text = len(table.columns), table.text_columns
    if table.stretch:
        sides = "".join("X" if i in table.stretch else "l" for i in range(count))
        begin, end = rf"\begin{{tabularx}}{{\textwidth}}{{@{{}}{sides}@{{}}}}", r"\end{tabularx}"
    else:
        begin, end = rf"\begin{{tabular}}{{@{{}}{'l' * text}{'r' * (count - text)}@{{}}}}", r"\end{tabular}"
    lines = [r"\begin{table*}[t]", r"\centering\small", begin, r"\toprule"]
    if table.spans:
        titles, rules, column = [""] * text, [], text + 1
        for title, width in table.spans:
            titles.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(title)}}}")
            if title:
                rules.append(rf"\cmidrule(lr){{{column}-{column + width - 1}}}")
            column += width
        lines += [" & ".join(titles) + r" \\", "".join(rules)]
    lines += [" & ".join(map(escape, table.columns)) + r" \\", r"\midrule"]
    for index, row in enumerate(table.rows):
        if index in table.rules:
            lines.append(r"\midrule")
        lines.append(" & ".join(map(_cell, row)) + r" \\")
    lines += [r"\bottomrule", end, rf"\caption{{\textbf{{{escape(table.title)}.}} {escape(table.caption)}}}"]
    lines += [rf"\label{{tab:{table.name}}}", r"\end{table*}", ""]
    return "\n".join(lines)
