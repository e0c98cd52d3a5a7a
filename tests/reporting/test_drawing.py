"""Figures come out the same, however many processes draw them."""

import numpy as np
import pytest

from langmerge.reporting.drawing import draw
from langmerge.reporting.figures import Figure, arranged, panels, style, used


@pytest.fixture
def figures():
    with style():
        found = []
        for name in ("a", "b", "c"):
            drawing, axes = panels(1, 2, 4, 2)
            for place, ax in enumerate(axes.flat):
                ax.plot(np.arange(5), np.arange(5) ** (place + 1), label=name)
                ax.legend()
            found.append(Figure(name, name, "", drawing))
    return found


def test_files_do_not_depend_on_the_number_of_processes(figures, tmp_path, monkeypatch):
    drawn = {}
    for workers in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", workers)
        folder = tmp_path / workers
        folder.mkdir()
        pages = draw(figures, folder)
        assert list(pages) == ["a", "b", "c"] and all("<svg" in page for page in pages.values())
        drawn[workers] = pages, {path.name: path.read_bytes() for path in folder.iterdir()}
    assert drawn["1"] == drawn["2"]
    assert set(drawn["1"][1]) == {f"{name}.{kind}" for name in "abc" for kind in ("pdf", "png")}


def test_a_figure_that_fails_fails_the_report(figures, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with pytest.raises(FileNotFoundError):
        draw(figures, tmp_path / "absent")


def test_no_figures(tmp_path):
    assert draw([], tmp_path) == {}


@pytest.mark.parametrize("count", range(1, 13))
def test_panels_stand_in_full_rows_of_at_most_three(count):
    rows, columns = arranged(count)
    assert columns <= 3 and rows * columns >= count > (rows - 1) * columns
    with style():
        drawing, axes = panels(rows, columns, 4, 2)
        kept = used(axes, count)
    assert list(kept) == drawing.axes and len(kept) == count, "no empty panel is drawn"
