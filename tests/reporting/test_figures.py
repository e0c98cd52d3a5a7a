"""Figures: labelled, as large as they are printed, equal bytes for equal results."""

from __future__ import annotations

import io
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from finished_results import Finished

from langmerge.reporting import figures, figures_angles, figures_models, figures_similarity
from langmerge.reporting.document import Document
from langmerge.reporting.figures import COLUMN, TEXT, Figure, style
from langmerge.reporting.load import Results, load
from langmerge.reporting.samples import Scores
from langmerge.reporting.shares import pair_shares


@pytest.fixture(scope="module")
def drawn(document: Document) -> dict[str, Figure]:
    return {figure.name: figure for figure in document.figures}


def test_the_whole_study_has_all_figures(drawn: dict[str, Figure]) -> None:
    assert set(drawn) == {
        "retention", "drift", "pairs", "similarity", "angles", "maps", "usage", "units", "grid",
        "training", "predictors", "damage", "patches_task_arithmetic", "lines", "plane", "pairs_inside", "task_vectors",
    }  # fmt: skip


def test_outer_axes_are_labelled_and_nothing_is_empty(drawn: dict[str, Figure]) -> None:
    for name, figure in drawn.items():
        axes = [ax for ax in figure.drawing.axes if ax.get_visible()]
        panels = [ax for ax in axes if ax.get_subplotspec() and ax.get_label() != "<colorbar>"]
        for ax in axes:
            assert ax.has_data(), name
        for ax in (ax for ax in axes if ax.get_label() == "<colorbar>"):
            assert ax.get_ylabel() or ax.get_xlabel(), name
        by_column: dict[int, list] = {}
        by_row: dict[int, list] = {}
        for ax in panels:
            by_column.setdefault(ax.get_subplotspec().colspan.start, []).append(ax)
            by_row.setdefault(ax.get_subplotspec().rowspan.start, []).append(ax)
        for column in by_column.values():
            assert max(column, key=lambda ax: ax.get_subplotspec().rowspan.start).get_xlabel(), name
        for row in by_row.values():
            assert min(row, key=lambda ax: ax.get_subplotspec().colspan.start).get_ylabel() or name == "training", name
        assert all(ax.get_title() for ax in panels), name


def test_sizes_fit_the_page(drawn: dict[str, Figure]) -> None:
    for name, figure in drawn.items():
        width, height = figure.drawing.get_size_inches()
        assert COLUMN <= width <= TEXT, name
        assert height <= 8.5, name


def test_text_is_readable_in_print(drawn: dict[str, Figure]) -> None:
    from matplotlib.text import Text

    for name, figure in drawn.items():
        sizes = [text.get_fontsize() for text in figure.drawing.findobj(Text) if text.get_text()]
        assert 6 <= min(sizes) <= max(sizes) <= 9, name


def test_tick_labels_do_not_overlap(drawn: dict[str, Figure]) -> None:
    for name, figure in drawn.items():
        figure.drawing.draw_without_rendering()
        for ax in (ax for ax in figure.drawing.axes if ax.get_visible()):
            low, high = sorted(ax.get_xlim())
            labels = [
                t
                for t in ax.get_xticklabels()
                if t.get_text() and t.get_visible() and low <= t.get_position()[0] <= high
            ]
            boxes = sorted((t.get_window_extent() for t in labels), key=lambda box: box.x0)
            for left, right in itertools.pairwise(boxes):
                assert left.x1 <= right.x0 + 0.5, (name, ax.get_title())


@pytest.mark.parametrize("format", ["pdf", "svg", "png"])
def test_equal_results_give_equal_bytes(results: Results, format: str) -> None:
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}[format]

    def draw() -> bytes:
        file = io.BytesIO()
        with style():
            figure = figures.pair_figure(Scores(results))
            assert figure is not None
            figure.drawing.savefig(file, format=format, metadata=metadata)
        return file.getvalue()

    assert draw() == draw()


def test_the_users_own_style_changes_nothing(results: Results) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 20, "axes.labelsize": 20}):
        figure = figures.drift_figure(Scores(results))
        assert figure is not None
        assert figure.drawing.axes[0].xaxis.label.get_fontsize() == 7.5
        assert mpl.rcParams["font.size"] == 20


def test_bars_are_as_high_as_the_kept_share(results: Results) -> None:
    from langmerge.reporting import samples

    scores = Scores(results)
    figure = figures.retention_figure(scores)
    assert figure is not None
    heights = [patch.get_height() for patch in figure.drawing.axes[0].patches][:4]
    row = scores.merges("from-en")[0]
    expected = [scores.retained(row, "from-en", code, "bleu", samples.ratio).point for code in results.languages]
    np.testing.assert_allclose(heights, expected)


def test_the_matrix_of_pairs_has_the_scored_language_in_the_row(results: Results) -> None:
    scores = Scores(results)
    figure = figures.pair_figure(scores)
    assert figure is not None
    image = np.asarray(figure.drawing.axes[0].collections[0].get_array().filled(np.nan))
    share = pair_shares(scores).query("group == 'from-en' and language == 'ru' and other == 'es'").value.item()
    assert image[results.languages.index("ru"), results.languages.index("es")] == pytest.approx(share)
    assert np.isnan(np.diag(image)).all()


def test_grid_marks_the_best_candidate(results: Results) -> None:
    figure = figures.grid_figure(Scores(results))
    assert figure is not None
    ax = next(ax for ax in figure.drawing.axes if ax.get_title() == "Task arithmetic, en→xx")
    ring = ax.lines[-1]
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == pytest.approx((0.6, 59.8))


@pytest.mark.parametrize("make", [figures.drift_figure, figures.grid_figure, figures.pair_figure])
def test_what_a_study_does_not_have_is_not_drawn(small: Finished, make: Callable[[Scores], Figure | None]) -> None:
    assert make(Scores(load(small.spec, small.inputs))) is None


MEASURED = [
    figures_similarity.similarity_figure,
    figures_models.usage_figure,
    figures_angles.angle_figure,
    figures_angles.map_figure,
]


@pytest.mark.parametrize("make", MEASURED)
def test_no_measurements_no_figure(small: Finished, make: Callable[[Results], Figure | None]) -> None:
    assert make(load(small.spec, small.inputs)) is None


def test_results_from_before_the_angles_were_measured(finished: Finished, tmp_path: Path) -> None:
    """A measurement without angles.csv and mds.csv has the other figures."""
    inputs = dict(finished.inputs)
    for name in [name for name in inputs if name.startswith("measurements/")]:
        old = shutil.copytree(inputs[name], tmp_path / name)
        for table in ("angles", "mds"):
            (old / f"{table}.csv").unlink()
        inputs[name] = old
    results = load(finished.spec, inputs)
    assert [figure is None for figure in (make(results) for make in MEASURED)] == [False, False, True, True]


def test_angles_are_those_of_the_table(results: Results) -> None:
    figure = figures_angles.angle_figure(results)
    assert figure is not None
    ax = next(ax for ax in figure.drawing.axes if ax.get_title() == "en→xx, target span")
    lines = {line.get_label(): np.asarray(line.get_ydata()) for line in ax.lines}
    trained = [results.direction("from-en", code) for code in results.languages]
    table = results.table("measurements/angles").query("group == 'from-en' and span == 'target'")
    pairs = table[table.model_a.isin(trained) & table.model_b.isin(trained)]
    np.testing.assert_allclose(lines["specialist–specialist"], pairs.groupby("layer").median_degrees.mean())
    np.testing.assert_allclose(lines["random subspaces"], 60)
    np.testing.assert_allclose(lines["floor, specialist–specialist"], 5)
    assert {label for label in lines if str(label).startswith("floor")} == {
        "floor, specialist–specialist", "floor, base–specialist", "floor, merge–specialist"
    }  # fmt: skip
    band = ax.collections[0].get_paths()[0].vertices
    ends = band[band[:, 0] == 0][:, 1]
    half = 0.5 * float(scipy.stats.t.ppf(0.975, 8 - 1))  # of eight half-samples
    assert ends.max() - ends.min() == pytest.approx(2 * half)
    assert "16 leading" in figure.caption and "n = 64 sentences" in figure.caption


def test_maps_show_every_model_once_and_keep_distances(results: Results) -> None:
    figure = figures_angles.map_figure(results)
    assert figure is not None
    assert len(figure.drawing.axes) == 2 * 4  # direction groups, layers
    for ax in figure.drawing.axes:
        assert ax.get_aspect() == 1
        assert ax.get_xlim() == figure.drawing.axes[0].get_xlim()
    table = results.table("measurements/mds").query(
        "group == 'to-en' and span == 'target' and direction == 'all' and layer == 0"
    )
    table = table[table.seed == table.seed.min()]
    ax = next(ax for ax in figure.drawing.axes if ax.get_title() == "xx→en, layer 0")
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines]
    np.testing.assert_allclose(points, table[["x", "y"]])
    looks = {(line.get_marker(), line.get_color(), line.get_markerfacecolor()) for line in ax.lines}
    assert len(looks) == len(table)  # told apart
    names = [text.get_text() for text in figure.drawing.legends[0].get_texts()]
    assert len(names) == len(set(names)) >= len(table)
    assert {"Base", *(f"specialist {code}" for code in results.languages)} <= set(names)


def test_legends_fit_and_do_not_overlap_panels(drawn: dict[str, Figure]) -> None:
    for name in ("angles", "maps"):
        drawing = drawn[name].drawing
        drawing.draw_without_rendering()
        box = drawing.legends[0].get_window_extent()
        assert box.x0 >= 0 and box.x1 <= drawing.bbox.width, name
        boxes = [ax.get_tightbbox() for ax in drawing.axes]
        assert all(b.y0 >= box.y1 - 0.5 and b.y1 <= drawing.bbox.height for b in boxes), name
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2)), name
        texts = [text.get_window_extent() for text in drawing.legends[0].get_texts()]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(texts, 2)), name


def test_nothing_lies_outside_its_axes(drawn: dict[str, Figure]) -> None:
    """Panels that share an axis must not cut off each other's data."""
    for name, figure in drawn.items():
        for ax in (ax for ax in figure.drawing.axes if ax.get_visible() and ax.get_label() != "<colorbar>"):
            low, high = ax.get_ylim()
            tops = [patch.get_height() for patch in ax.patches]
            values = [v for line in ax.lines for v in np.asarray(line.get_ydata(), dtype=float)]
            assert all(min(low, high) <= v <= max(low, high) for v in [*tops, *values] if np.isfinite(v)), (
                name,
                ax.get_title(),
            )
