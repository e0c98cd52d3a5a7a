"""Figures and tables of weights, losses, layers and predictors show the planted numbers in the right places."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from finished_results import Finished
from matplotlib.colors import to_hex
from planted_tables import COSINE, COST, LAYERS, RESTORED, loss

from langmerge.provenance import InputError
from langmerge.reporting import figures, tables_runs
from langmerge.reporting.figures_damage import forest_figure, scatter_figure
from langmerge.reporting.figures_landscape import MATRICES, line_figure, matrix_figure, plane_figure, square
from langmerge.reporting.figures_patches import patch_figure
from langmerge.reporting.figures_weights import weight_figure
from langmerge.reporting.load import Results, load
from langmerge.reporting.tables_damage import predictor_table, ranked
from langmerge.reporting.tables_weights import language_means, weight_table

ONTO = "task_arithmetic"


def without(results: Results, place: str) -> Results:
    for name in results.tables:
        if name.startswith(f"{place}/"):
            results = results.with_table(name, pd.DataFrame())
    return results


def panel(figure: figures.Figure, title: str):
    return next(ax for ax in figure.drawing.axes if ax.get_title() == title)


# ---- weights -------------------------------------------------------------------------------------------------------


def test_task_vectors_by_layer(results: Results) -> None:
    figure = weight_figure(results)
    assert figure is not None
    ax = panel(figure, "cosine with others")
    with figures.style():
        lines = [line for line in ax.lines if to_hex(line.get_color()) == to_hex(figures.colour(0))]
    layers, embedding = sorted(lines, key=lambda line: -len(line.get_xdata()))
    assert list(layers.get_xdata()) == list(range(LAYERS))
    assert layers.get_ydata() == pytest.approx([COSINE] * LAYERS)
    assert embedding.get_ydata() == pytest.approx([2 * COSINE])
    aligned = panel(figure, "alignment beyond null")
    assert set(aligned.get_legend_handles_labels()[1]) == {
        "Linear",
        "Task arithmetic",
        "TIES",
        "chance",
    }


def test_a_language_is_the_mean_over_its_pairs() -> None:
    rows = [("a", "b", 1.0), ("c", "a", 3.0), ("b", "c", 100.0)]
    numbers = [{"model_a": a, "model_b": b, "layer": 0, "value": v, "low": v, "high": v, "null": 0} for a, b, v in rows]
    assert language_means(pd.DataFrame(numbers), "a", ["layer"]).value.tolist() == [2.0]


def test_the_table_of_task_vectors(results: Results) -> None:
    table = weight_table(results)
    assert table is not None
    data = table.data.set_index(["group", "model"])
    assert data.loc[("from-en", "en-es"), "cosine_value"] == pytest.approx(COSINE)  # all weights, not single layers
    assert data.loc[("from-en", "ties"), "cosine_value"] == pytest.approx(2 * COSINE)
    assert data.loc[("to-en", "ties"), "alignment_null"] == pytest.approx(0.2)
    assert len(table.rows) == 2 * (4 + 3)
    assert "25 % of the summed magnitude survives addition (fair signs: 50)" in table.caption


def test_an_alignment_without_a_null_says_so(results: Results) -> None:
    subspaces = results.table("weighing/subspaces")
    for lost, said in ((subspaces.scope != "", "no null was drawn"), (subspaces.layer == 1, "no null in some layers")):
        some = results.with_table("weighing/subspaces", subspaces.assign(null=subspaces.null.mask(lost)))
        figure, table = weight_figure(some), weight_table(some)
        assert figure is not None and table is not None
        assert said in figure.caption
        last = {row[-1].text for row in table.rows}
        assert ("no null" in last) == bool(lost.all()) and ("0.20" in last) != bool(lost.all())
    whole = weight_figure(results)
    assert whole is not None and "no null" not in whole.caption


# ---- landscape -----------------------------------------------------------------------------------------------------


def test_lines_start_at_the_own_specialist(results: Results) -> None:
    """Whichever of two models a row names first, the way leads from the language's specialist to the other one."""
    figure = line_figure(results)
    assert figure is not None
    for code in results.languages:
        for group in ("en→xx", "xx→en"):
            ax = panel(figure, f"loss in {code}, {group}")
            assert len(ax.lines) == len(results.languages)  # the other languages and the base
            for line in ax.lines:
                end = 0.2 if line.get_linestyle() == "--" else 0.8
                assert line.get_ydata() == pytest.approx([loss(step, end) for step in line.get_xdata()])
                assert list(line.get_xdata()) == sorted(line.get_xdata())


def test_the_plane_marks_its_models(results: Results) -> None:
    figure = plane_figure(results)
    assert figure is not None
    (left, *_) = figure.drawing.axes
    marks = {(line.get_xdata()[0], line.get_ydata()[0]) for line in left.lines}
    assert marks == {(0, 0), (20, 0), (2, 20), (11, 10)}  # base, two specialists, their average
    assert any("Base 0.18" in text.get_text() for text in left.texts)


def test_matrices_are_symmetric_and_in_the_order_of_the_languages(results: Results) -> None:
    cost, gradients = (square(results, matrix, "from-en") for matrix in MATRICES[:2])
    assert np.isnan(np.diag(cost)).all()
    assert cost[~np.eye(4, dtype=bool)] == pytest.approx(COST)  # the base is no language
    assert np.diag(gradients) == pytest.approx(0.5)
    table = results.table("landscape/gradients").copy()
    table.loc[(table.language_a == "es") & (table.language_b == "ru"), "value"] = 0.9
    turned = square(results.with_table("landscape/gradients", table), MATRICES[1], "to-en")
    assert turned[0, 2] == turned[2, 0] == 0.9
    assert (turned == 0.9).sum() == 2


# ---- patches -------------------------------------------------------------------------------------------------------


def test_patches_by_layer(results: Results) -> None:
    figure = patch_figure(results, ONTO)
    assert figure is not None
    first, last = RESTORED
    mean = next(line for line in panel(figure, "one layer").lines if line.get_label() == "mean")
    assert list(mean.get_xdata()) == list(range(LAYERS))
    assert mean.get_ydata()[[0, -1]] == pytest.approx([first, last])  # BLEU, not averaged with chrF++
    suffix = panel(figure, "the last layers")
    assert {"last (paper)", "random below (paper)"} <= set(suffix.get_legend_handles_labels()[1])
    points = {bar.get_label(): bar.lines[0].get_ydata() for bar in suffix.containers}
    assert points["last (paper)"] == pytest.approx([last])
    assert points["random below (paper)"] == pytest.approx([first])
    assert patch_figure(results, "ties") is None


def test_a_language_without_a_loss_has_no_line(results: Results) -> None:
    table = results.table("patches/patches").copy()
    table.loc[table.language == "de", ["value", "low", "high"]] = np.nan
    figure = patch_figure(results.with_table("patches/patches", table), ONTO)
    assert figure is not None
    assert "de" not in {line.get_label() for line in panel(figure, "one layer").lines}


# ---- damage --------------------------------------------------------------------------------------------------------


def test_predictors_by_strength(results: Results) -> None:
    found = ranked(results)
    assert found.rho.tolist() == [-0.95, 0.9, 0.3, -0.2]  # of all strata, without the constant one
    assert set(found.scope) == {"all"}
    table = predictor_table(results)
    assert table is not None
    assert [cell.text for cell in table.rows[1]][:5] == ["weights: cosine", "0.90", "[0.86, 0.94]", "0.81", "0.81"]
    assert "12 pair merges (2 strata of the same 4 languages); 4 tests" in table.caption
    assert "at least 0.042 whatever the agreement" in table.caption
    assert "Constant or not measured: 1 more" in table.caption


def test_the_forest_fills_what_is_significant(results: Results) -> None:
    figure = forest_figure(results)
    assert figure is not None
    (ax,) = figure.drawing.axes
    points = [bar.lines[0] for bar in ax.containers]
    assert [float(p.get_xdata()[0]) for p in points] == [-0.95, 0.9, 0.3, -0.2]
    assert [to_hex(p.get_markerfacecolor()) for p in points] == ["#ffffff", "#000000", "#ffffff", "#ffffff"]
    (segment,) = ax.containers[1].lines[2][0].get_segments()
    assert segment[:, 0] == pytest.approx([0.86, 0.94])


def test_pairs_have_the_colours_of_their_languages(results: Results) -> None:
    figure = scatter_figure(results)
    assert figure is not None
    assert len(figure.drawing.axes) == 2 * 4
    points = figure.drawing.axes[0].lines
    assert len(points) == 6
    with figures.style():
        looks = {to_hex(figures.colour(i)) for i in range(4)}
    both = {(to_hex(p.get_color()), to_hex(p.get_markerfacecoloralt())) for p in points}
    assert len(both) == 6
    assert {one for pair in both for one in pair} == looks


# ---- what is missing, and costs ------------------------------------------------------------------------------------


def test_nothing_without_tables(results: Results) -> None:
    assert weight_figure(without(results, "weighing")) is weight_table(without(results, "weighing")) is None
    bare = without(results, "landscape")
    assert line_figure(bare) is plane_figure(bare) is matrix_figure(bare) is None
    bare = without(results, "damage")
    assert forest_figure(bare) is scatter_figure(bare) is predictor_table(bare) is None
    assert patch_figure(without(results, "patches"), ONTO) is None


def test_a_broken_table_is_named(finished: Finished, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("")
    with pytest.raises(InputError, match=r"pairs\.csv: not a table"):
        load(finished.spec, {**finished.inputs, "weighing/seed1/from-en": tmp_path})


def test_names_that_look_like_missing_numbers_stay(finished: Finished, tmp_path: Path) -> None:
    """``nan`` is the code of Southern Min."""
    (tmp_path / "losses.csv").write_text("model,language,loss\nbase,nan,\n")
    found = load(finished.spec, {**finished.inputs, "landscape/seed1/from-en": tmp_path}).table("landscape/losses")
    assert found.language.tolist() == ["nan"]
    assert found.loss.isna().all()


def test_calibrations_are_in_the_cost_table(finished: Finished, tmp_path: Path) -> None:
    (tmp_path / "cost.json").write_text(json.dumps({"seconds": 12.5, "tokens": 3000, "device": "cpu"}))
    measured = load(finished.spec, {**finished.inputs, "calibrations/seed1/en-es": tmp_path})
    table, plain = tables_runs.cost_table(measured), tables_runs.cost_table(load(finished.spec, finished.inputs))
    assert table is not None
    assert plain is not None
    row = next(row for row in table.rows if row[0].text == "calibration en-es")
    assert [cell.text for cell in row] == ["calibration en-es", "3.0 k", "–", "12.5", "cpu"]
    assert "Calibrations" in table.caption
    assert "Calibrations" not in plain.caption
