"""Figures as files: PDF and PNG for papers and slides, SVG for the page."""

from __future__ import annotations

import io
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from langmerge.reporting.figures import Figure, style

_held: tuple[Sequence[Figure], Path] | None = None  # of a forked process


def draw(figures: Sequence[Figure], folder: Path) -> Mapping[str, str]:
    """Write ``<name>.pdf`` and ``<name>.png`` of every figure into ``folder``; the SVG documents by name.

    On as many processes as the job has threads (``OMP_NUM_THREADS``): half of a report's time is this.
    """
    workers = min(len(figures), int(os.environ.get("OMP_NUM_THREADS", "1")))
    if workers < 2:
        return {figure.name: _draw(figure, folder) for figure in figures}
    # Forks have the figures already; to send them would take as long as to draw them.
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, context, initializer=_hold, initargs=(figures, folder)) as pool:
        drawn = pool.map(_draw_held, range(len(figures)))
        return dict(zip((figure.name for figure in figures), drawn, strict=True))


def _hold(figures: Sequence[Figure], folder: Path) -> None:
    global _held
    _held = figures, folder


def _draw_held(place: int) -> str:
    assert _held is not None
    figures, folder = _held
    return _draw(figures[place], folder)


def _draw(figure: Figure, folder: Path) -> str:
    path = folder / figure.name
    page = io.StringIO()
    with style():
        if layout := figure.drawing.get_layout_engine():  # once, so that every format gets the same picture
            layout.execute(figure.drawing)
            figure.drawing.set_layout_engine("none")
        figure.drawing.savefig(f"{path}.pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})
        figure.drawing.savefig(f"{path}.png", metadata={"Software": None})
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.drawing.savefig(page, format="svg", metadata=nothing)
    return page.getvalue()
