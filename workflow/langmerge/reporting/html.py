"""The report as one HTML page that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from langmerge.reporting.document import Document
from langmerge.reporting.figures import Figure
from langmerge.reporting.lines import unbroken
from langmerge.reporting.table import Table
from langmerge.reporting.verdicts import VERDICTS

TEMPLATES = Path(__file__).with_name("templates")


def svg(figure: Figure, text: str) -> str:
    """A figure's SVG document as an element that scales with the page.

    Its ids start with its name, so that a page can hold many.
    """
    text = text[text.index("<svg") :]
    text = re.sub(r'\bid="', f'id="{figure.name}-', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{figure.name}-", text)
    # The size stands in viewBox; width and height would stop the figure from shrinking on a phone.
    head, _, rest = text.partition(">")
    width = re.search(r'width="([\d.]+)pt"', head)
    head = re.sub(r'\s(width|height)="[\d.]+pt"', "", head)
    limit = f' style="max-width:{float(width[1]) * 1.7:.0f}px"' if width else ""
    return f'{head} role="img" aria-label="{figure.title}"{limit}>{rest}'


def render(document: Document, drawings: Mapping[str, str]) -> str:
    """The page as a string; ``drawings`` are the SVG documents of its figures by name."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: unbroken(value) if type(value) is str else value,
    )

    def kind(block: Any) -> str:
        return "table" if isinstance(block, Table) else "figure" if isinstance(block, Figure) else type(block).__name__

    environment.filters["kind"] = kind
    environment.filters["svg"] = lambda figure: Markup(svg(figure, drawings[figure.name]))
    numbers = {id(block): n for blocks in (document.tables, document.figures) for n, block in enumerate(blocks, 1)}
    environment.filters["number"] = lambda block: numbers[id(block)]
    return environment.get_template("report.html.j2").render(document=document, verdicts=VERDICTS)
