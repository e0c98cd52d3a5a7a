"""The report as a PDF, set by typst: no TeX, no fonts of the machine, equal bytes for equal content."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import typst

from langmerge.reporting.document import Document, without_unprintable
from langmerge.reporting.figures import Figure
from langmerge.reporting.html import TEMPLATES
from langmerge.reporting.lines import unbroken
from langmerge.reporting.table import Table
from langmerge.reporting.verdicts import VERDICTS


def _block(block: str | list[str] | Table | Figure) -> dict[str, Any] | None:
    if isinstance(block, Figure):
        width = float(block.drawing.get_figwidth())
        return {
            "kind": "figure",
            "file": f"figures/{block.name}.pdf",
            "width": width,
            "title": block.title,
            "caption": block.caption,
        }
    if isinstance(block, Table):
        table = without_unprintable(block) if block.name.startswith("examples") else block
        if table is None:
            return {
                "kind": "str",
                "text": f"{block.title}: in scripts that this file's fonts lack; see the HTML report.",
            }
        return {
            "kind": "table",
            "title": table.title,
            "caption": table.caption,
            "columns": table.columns,
            "spans": table.spans,
            "rules": table.rules,
            "text_columns": table.text_columns,
            "stretch": table.stretch,
            "rows": [[asdict(cell) for cell in row] for row in table.rows],
        }
    return {"kind": "list", "items": block} if isinstance(block, list) else {"kind": "str", "text": block}


def content(document: Document) -> dict[str, Any]:
    """The document as plain data, for the typst template."""
    return _unbroken(
        {
            "title": document.title,
            "question": document.question,
            "verdicts": [verdict.capitalize() for verdict in VERDICTS],
            "sections": [{"title": s.title, "blocks": [_block(b) for b in s.blocks]} for s in document.sections],
        }
    )


def _unbroken(value: Any) -> Any:
    """:func:`unbroken` of every string in plain data."""
    if isinstance(value, dict):
        return {key: _unbroken(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_unbroken(inner) for inner in value]
    return unbroken(value) if isinstance(value, str) else value


def render(document: Document, figures: Path) -> bytes:
    """The PDF's bytes; ``figures`` is the folder that holds the figures as PDF files."""
    fonts = Path(mpl.get_data_path()) / "fonts" / "ttf"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shutil.copy(TEMPLATES / "report.typ", folder)
        shutil.copytree(figures, folder / "figures")
        (folder / "content.json").write_text(json.dumps(content(document), ensure_ascii=False), encoding="utf-8")
        return bytes(
            typst.compile(
                str(folder / "report.typ"),
                root=str(folder),
                font_paths=[str(fonts)],
                ignore_system_fonts=True,
                timestamp=0,
            )
        )
