"""Figures and tables of language units, redistribution, ablation and similarity show the planted numbers."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from finished_results import Finished
from matplotlib.colors import to_hex
from matplotlib.text import Text
from planted_units import (
    COST,
    GROUPS,
    KEPT,
    LANGUAGES,
    LAYERS,
    LOST,
    MOVED,
    OTHER,
    OWN,
    RANDOM,
    bare,
    planted,
    specialists,
    units_of,
)

from langmerge.reporting.document import compose
from langmerge.reporting.figures import COLUMN, TEXT, Figure, colour, style
from langmerge.reporting.figures_ablation import ablation_figure
from langmerge.reporting.figures_redistribution import redistribution_figure
from langmerge.reporting.figures_similarity import language_figure, similarity_figure
from langmerge.reporting.figures_units import flow_figure, site_figure, units_figure
from langmerge.reporting.load import Results, load
from langmerge.reporting.table import Table
from langmerge.reporting.tables_ablation import ablation_heading, ablation_table
from langmerge.reporting.tables_rankings import ranking_table
from langmerge.reporting.tables_redistribution import (
    redistribution_heading,
    redistribution_table,
    redistribution_words,
    verdicts,
)
from langmerge.reporting.tables_units import embedding_table, unit_table

FIGURES: dict[str, Callable[[Results], Figure | None]] = {
    "units": units_figure,
    "unit_sites": site_figure,
    "flows_from_en": functools.partial(flow_figure, group="from-en"),
    "redistribution": redistribution_figure,
    "similarity": similarity_figure,
    "languages": language_figure,
    "ablation": ablation_figure,
}
TABLES: dict[str, Callable[[Results], Table | None]] = {
    "units": unit_table,
    "embedding_rows": embedding_table,
    "rankings": ranking_table,
    "redistribution": redistribution_table,
    "ablation": ablation_table,
}
MANY = ("es", "it", "de", "tr", "fr", "ru", "hi", "fi")


@pytest.fixture(scope="module")
def results() -> Results:
    return planted(bare())


@pytest.fixture(scope="module")
def drawn(results: Results) -> dict[str, Figure]:
    found = {name: make(results) for name, make in FIGURES.items()}
    return {name: figure for name, figure in found.items() if figure is not None}


@pytest.fixture(scope="module")
def crowded() -> dict[str, Figure]:
    """The figures of eight languages."""
    results = planted(bare(MANY), MANY)
    found = {name: make(results) for name, make in FIGURES.items()}
    return {name: figure for name, figure in found.items() if figure is not None}


def panel(figure: Figure, title: str, place: int = 0):
    return [ax for ax in figure.drawing.axes if ax.get_title() == title and ax.get_visible()][place]


def shade(index: int) -> str:
    with style():
        return to_hex(colour(index))


def points(ax) -> dict[tuple[float, float], str]:
    """Colours of single points by their place."""
    single = [line for line in ax.lines if len(line.get_xdata()) == 1 and line.get_marker() not in ("None", "|", "")]
    return {(float(line.get_xdata()[0]), float(line.get_ydata()[0])): to_hex(line.get_color()) for line in single}


# ---- all figures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["drawn", "crowded"])
def test_figures_fit_the_page_and_can_be_read(which: str, request: pytest.FixtureRequest) -> None:
    figures: dict[str, Figure] = request.getfixturevalue(which)
    assert set(figures) == set(FIGURES)
    for name, figure in figures.items():
        assert figure.name == name
        width, height = figure.drawing.get_size_inches()
        assert COLUMN <= width <= TEXT and height <= 8.5, name
        sizes = [text.get_fontsize() for text in figure.drawing.findobj(Text) if text.get_text()]
        assert 6 <= min(sizes) <= max(sizes) <= 9, name
        figure.drawing.draw_without_rendering()
        shown = [ax for ax in figure.drawing.axes if ax.get_visible()]
        assert all(ax.has_data() for ax in shown), name
        inside = [ax for ax in shown if ax.get_label() != "<colorbar>"]
        assert all(ax.get_title() for ax in inside), name
        boxes = [ax.get_window_extent() for ax in inside]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2)), name
        for legend in figure.drawing.legends:
            box = legend.get_window_extent()
            assert box.x0 >= 0 and box.x1 <= figure.drawing.bbox.width and box.y0 >= 0, name
            assert all(ax.get_tightbbox().y0 >= box.y1 - 0.5 for ax in inside), name


def test_tick_labels_do_not_overlap(drawn: dict[str, Figure]) -> None:
    for name, figure in drawn.items():
        for ax in (ax for ax in figure.drawing.axes if ax.get_visible()):
            low, high = sorted(ax.get_xlim())
            texts = [t for t in ax.get_xticklabels() if t.get_text() and low <= t.get_position()[0] <= high]
            boxes = sorted((t.get_window_extent() for t in texts), key=lambda box: box.x0)
            assert all(a.x1 <= b.x0 + 0.5 for a, b in itertools.pairwise(boxes)), (name, ax.get_title())


def test_captions_name_n_estimator_interval_and_null(drawn: dict[str, Figure]) -> None:
    for name, figure in drawn.items():
        assert "jackknife" in figure.caption and "n = " in figure.caption, name
        assert any(word in figure.caption for word in ("Dotted", "halves", "random")), name


def test_the_report_has_all_of_them(finished: Finished) -> None:
    loaded = load(finished.spec, finished.inputs)
    document = compose(planted(loaded, loaded.languages))
    assert {*FIGURES, "flows_to_en"} <= {figure.name for figure in document.figures}
    assert set(TABLES) <= {table.name for table in document.tables}
    assert {"Language units under fine-tuning", "Switching language units off"} <= {s.name for s in document.sections}
    for blocks in (document.figures, document.tables):  # files are named after them
        assert len({block.name for block in blocks}) == len(blocks)


@pytest.mark.parametrize("make", [*FIGURES.values(), *TABLES.values()])
def test_nothing_measured_nothing_shown(make: Callable[[Results], Figure | Table | None]) -> None:
    assert make(bare()) is None


def test_headings_without_measurements() -> None:
    assert redistribution_heading(bare()) == "Language units under fine-tuning"
    assert ablation_heading(bare()) == "Switching language units off"
    assert redistribution_words(bare()) == []


def test_one_direction_group_and_no_other_site(results: Results) -> None:
    few = results
    for name, table in results.tables.items():
        kept = table[table.group == "to-en"]
        few = few.with_table(name, kept[kept.site == "mlp_gate"] if "site" in kept else kept)
    made = {name: make(few) for name, make in FIGURES.items()}
    assert [name for name, figure in made.items() if figure is None] == ["unit_sites", "flows_from_en"]
    assert flow_figure(few, "to-en") is not None


# ---- units ---------------------------------------------------------------------------------------------------------


def test_units_by_layer_are_those_of_the_languages_own_span(drawn: dict[str, Figure]) -> None:
    for place, group in enumerate(GROUPS):
        for title, own in (("Base", False), ("Specialists,\nown language", True)):
            ax = panel(drawn["units"], title, place)
            lines = {line.get_label(): line for line in ax.lines}
            for k, code in enumerate(LANGUAGES):
                model = next(name for name, of in specialists(group).items() if of == code) if own else "base"
                assert list(lines[code].get_xdata()) == list(range(LAYERS))
                expected = [units_of(model, group, code, layer) for layer in range(LAYERS)]
                assert list(lines[code].get_ydata()) == expected
                assert to_hex(lines[code].get_color()) == shade(k)
                assert lines[code].get_ydata()[0] + 1.5 <= ax.get_ylim()[1]  # the band's end is not cut off
    titles = {ax.get_title() for ax in drawn["units"].drawing.axes if ax.get_visible()}
    assert titles == {"Base", "Specialists,\nown language", "Joint", "Linear", "Task arithmetic"}


def test_even_spread_is_the_mean_count(drawn: dict[str, Figure]) -> None:
    ax = panel(drawn["units"], "Base")
    dotted = next(line for line in ax.lines if line.get_label() == "even spread")
    counts = [units_of("base", "from-en", code, layer) for code in LANGUAGES for layer in range(LAYERS)]
    assert dotted.get_ydata()[0] == pytest.approx(np.mean(counts))


def test_other_sites(drawn: dict[str, Figure]) -> None:
    titles = [ax.get_title() for ax in drawn["unit_sites"].drawing.axes if ax.get_visible()]
    assert titles == ["attention\noutput", "embedding\noutput"] * len(GROUPS)
    ax = panel(drawn["unit_sites"], "embedding\noutput")
    assert [text.get_text() for text in ax.get_xticklabels()] == list(LANGUAGES)
    found = points(ax)
    assert found == {(k, units_of("base", "from-en", code, 0)): shade(k) for k, code in enumerate(LANGUAGES)}


def test_flows_have_the_base_in_the_row(drawn: dict[str, Figure]) -> None:
    figure = drawn["flows_from_en"]
    ax = panel(figure, "en→es")
    values = np.asarray(ax.collections[0].get_array().filled(np.nan))
    a, b, n = 0, 1, len(LANGUAGES)  # units of es go to de
    assert (values[a, a], values[a, b], values[b, a], values[a, n], values[n, a]) == (KEPT, MOVED, 0, LOST, 3)
    assert np.isnan(values[n, n])
    texts = {text.get_position(): text.get_text() for text in ax.texts}
    assert texts[n, n] == "1k" and texts[b, a] == str(MOVED)
    bold = [t.get_text() for t in ax.get_yticklabels() if t.get_fontweight() == "bold"]
    assert bold == ["es"]
    assert "90 % of the base's language units still fire most" in figure.caption  # (KEPT + LOST) of ten
    assert "0.40 [0.30, 0.50]" in figure.caption and "sentences: 0.80" in figure.caption


def test_unit_table(results: Results) -> None:
    table = unit_table(results)
    assert table is not None
    assert [row[1].text for row in table.rows[:3]] == ["MLP gate", "attention output", "embedding output"]
    total = sum(units_of("base", "from-en", "es", layer) for layer in range(LAYERS))
    assert table.rows[0][2].text == f"{total} at 0.40 [0.30, 0.50]"
    assert table.rows[2][2].text == str(units_of("base", "from-en", "es", 0))
    assert "few tokens" in table.caption


def test_rankings_by_thresholds_in_every_model(results: Results) -> None:
    table = ranking_table(results)
    assert table is not None
    head = ["Base", "Joint", "Linear", "Task arithmetic", *LANGUAGES]
    assert table.columns == ["Direction", "Span", "Ranking", "Thresholds", *head]
    assert table.spans == [("All languages", 4), ("Own language, base→specialist", len(LANGUAGES))]
    texts = [[c.text for c in row] for row in table.rows]
    assert [row[1:4] for row in texts[4:8]] == [
        *(
            ["target", ranking, t]
            for ranking in ("mutual information", "LAPE")
            for t in ("of the base", "of each model")
        )
    ]
    assert [texts[i][0] for i in table.rules] == ["en→xx", "xx→en", "xx→en"]

    def total(model: str, *codes: str) -> int:
        return sum(units_of(model, "from-en", code, layer) for code in codes for layer in range(LAYERS))

    frozen = texts[4]
    assert frozen[4:6] == [str(total(model, *LANGUAGES)) for model in ("base", "joint")]
    own = {code: model for model, code in specialists("from-en").items()}
    assert frozen[8:] == [f"{total('base', code)}→{total(own[code], code)}" for code in LANGUAGES]
    assert texts[5][4] == str(900 * LAYERS * len(LANGUAGES))
    units = results.table("measurements/units")
    silent = units.assign(units=units.units.where(units.span == "target", 0))
    shown = ranking_table(results.with_table("measurements/units", silent))
    assert shown is not None and {row[1].text for row in shown.rows} == {"target"}


def test_equal_texts_share_the_rows_of_tokens(results: Results) -> None:
    table = embedding_table(results)
    assert table is not None
    assert [row[0].text for row in table.rows] == ["en→xx, xx→en"] * len(LANGUAGES)
    assert [cell.text for cell in table.rows[1]][2:] == [
        *("1001", "200", "150", "70.0", "[65.0, 75.0]", "0.20", "[0.15, 0.25]")
    ]
    assert "en→xx 2 of 3, xx→en 2 of 3" in table.caption
    rows = results.table("measurements/embedding_rows").copy()
    rows.loc[(rows.group == "to-en") & (rows.language == "de"), "n"] = 5
    other = embedding_table(results.with_table("measurements/embedding_rows", rows))
    assert other is not None and len(other.rows) == 2 * len(LANGUAGES)


# ---- redistribution ------------------------------------------------------------------------------------------------


def test_changes_of_shares_lie_before_their_null(drawn: dict[str, Figure]) -> None:
    figure = drawn["redistribution"]
    ax = panel(figure, "xx→en: shares in own units")
    assert [text.get_text() for text in ax.get_yticklabels()] == [f"{code}→en" for code in LANGUAGES]
    found = points(ax)
    spanish = {round(x, 9) for (x, y), look in found.items() if round(y) == 0 and look == shade(0)}
    assert spanish == {100 * OWN, 0.0, 100 * OTHER}
    turkish = {round(x, 9) for (x, y), look in found.items() if round(y) == 2 and look == shade(2)}
    assert turkish == {100 * OWN, 100 * OTHER}  # no related language
    ends = np.concatenate([band.get_paths()[0].vertices[:, 0] for band in ax.collections if len(band.get_paths()) == 1])
    assert {-0.5, 0.5} <= set(np.round(ends, 9))


def test_crosses_are_the_matched_units_that_were_subtracted(drawn: dict[str, Figure]) -> None:
    figure = drawn["redistribution"]
    for title, matched, roles in (("xx→en: shares in own units", 2.0, 8), ("information in own units", -20.0, 3)):
        crosses = [line for line in panel(figure, title).lines if line.get_marker() == "x"]
        assert [line.get_xdata()[0] for line in crosses] == pytest.approx([matched] * roles)
    assert "crosses: what was subtracted" in figure.caption


def test_information_of_the_own_units_bears_the_verdict(drawn: dict[str, Figure]) -> None:
    ax = panel(drawn["redistribution"], "information in own units", 1)
    found = {(round(y), look): x for (x, y), look in points(ax).items() if look in map(shade, range(3))}
    assert found == pytest.approx({(k, shade(k)): 50 for k in range(len(LANGUAGES))})
    assert [text.get_text() for text in ax.texts] == ["sharpens"] * len(LANGUAGES)
    assert all(text.get_fontweight() == "bold" for text in ax.texts)
    out = panel(drawn["redistribution"], "information in own units")
    assert [text.get_text() for text in out.texts] == ["inconclusive"] * len(LANGUAGES)
    assert all(text.get_fontweight() == "normal" for text in out.texts)


def test_mutual_information_of_every_model_and_the_permuted_floor(drawn: dict[str, Figure]) -> None:
    ax = panel(drawn["redistribution"], "information in all units", 1)
    assert [text.get_text() for text in ax.get_yticklabels()] == [
        *("Base", "es→en", "de→en", "tr→en", "Joint", "Linear", "Task arithmetic")
    ]
    assert {(y, x) for x, y in points(ax)} == {(0, 40), (1, 60), (2, 60), (3, 60), (4, 40), (5, 40), (6, 40)}
    dotted = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert [line.get_xdata()[0] for line in dotted] == [3]


def test_verdicts_in_words_and_numbers(results: Results) -> None:
    assert redistribution_heading(results).endswith(": sharpens in 3, inconclusive in 3 of 6 specialists")
    assert redistribution_words(results) == [
        "xx→en es, de, tr: sharpens, both rise.",
        "en→xx es, de, tr: inconclusive, no more than between sentences.",
    ]
    table = redistribution_table(results)
    assert table is not None
    assert [cell.text for cell in table.rows[3]] == [
        *("xx→en", "es", "sharpens", "50", "+3.0", "[2.0, 4.0]", "+2.0"),
        *("−1.0", "[−2.0, 0.0]", "+50.0", "[49.0, 51.0]"),
    ]
    assert table.rows[3][2].bold and not table.rows[0][2].bold
    assert table.rules == [3]


def test_several_seeds_have_the_verdict_of_the_replication(results: Results) -> None:
    rows = results.table("measurements/verdicts")
    both = results.with_table("measurements/verdicts", pd.concat([rows, rows.assign(seed=2)], ignore_index=True))
    both = Results(**{**vars(both), "spec": {"study": {**results.study, "seeds": [1, 2]}}})
    own = rows[(rows.model == "es-en") & (rows.span == "source")]
    again = own.drop(columns="seed").assign(
        verdict="inconclusive", reason="other seeds differ", information_change=0.25
    )
    both = both.with_table("replication/replication", again.assign(seeds=2, agreeing=0))
    found = verdicts(both).set_index(["group", "model"])
    row = found.loc[("to-en", "es-en")]
    assert (row.verdict, row.information_change, row.seeds, row.agreeing) == ("inconclusive", 0.25, 2, 0)
    assert found.loc[("to-en", "de-en")].verdict == "sharpens"
    table = redistribution_table(both)
    assert table is not None
    assert table.rows[3][2].text == "inconclusive (0/2)" and table.rows[4][2].text == "sharpens (2/2)"
    figure = redistribution_figure(both)
    assert figure is not None and "of all seeds together" in figure.caption
    assert panel(figure, "information in own units", 1).texts[0].get_text() == "inconclusive"


# ---- ablation ------------------------------------------------------------------------------------------------------


def test_costs_of_own_and_other_units(drawn: dict[str, Figure]) -> None:
    ax = panel(drawn["ablation"], "en→xx, Base")
    assert [text.get_text() for text in ax.get_xticklabels()] == [f"{code}\n(12)" for code in LANGUAGES]
    found = points(ax)
    assert len(found) == len(LANGUAGES) ** 2
    for i, j in np.ndindex(len(LANGUAGES), len(LANGUAGES)):
        (cost, look), *more = [(y, look) for (x, y), look in found.items() if round(x) == i and look == shade(j)]
        assert not more and look == shade(j)
        assert cost == pytest.approx(1000 * (COST if i == j else RANDOM))
    filled = [line for line in ax.lines if line.get_fillstyle() == "full" and len(line.get_xdata()) == 1]
    assert {float(line.get_ydata()[0]) for line in filled if line.get_marker() not in ("|", "_")} == {1000 * COST}
    low, high = ax.get_ylim()
    assert low < 0 and high >= 1000 * (COST + 0.005)


def test_a_wide_null_does_not_flatten_the_costs(results: Results) -> None:
    rows = results.table("ablation/ablation").copy()
    rows.loc[rows.index[0], "null_high"] = 50.0
    figure = ablation_figure(results.with_table("ablation/ablation", rows))
    assert figure is not None
    assert panel(figure, "en→xx, Base").get_ylim()[1] < 1000 * 2 * COST


def test_ablation_is_clear_only_beyond_draws_and_sentences(results: Results) -> None:
    table = ablation_table(results)
    assert table is not None
    assert [cell.text for cell in table.rows[0]] == [
        *("en→xx", "Base", "es", "12", "+20.0", "[15.0, 25.0]", "+2.0", "[−8.0, 12.0]", "+18.0", "[13.0, 23.0]"),
        *("0.0", "0 of 2"),
    ]
    bold = [row[4].bold for row in table.rows]
    assert bold == [True] * 6 + [False] * 6  # into the pivot the excess may be 0 in other sentences
    assert ablation_heading(results).endswith(
        ": the language itself loses clearly more than by random units for 6 of 12 sets, another language in 0 of 24 "
        "cases"
    )
    rows = results.table("ablation/ablation")
    none = ablation_heading(results.with_table("ablation/ablation", rows[rows.group == "to-en"]))
    assert "inconclusive" in none


# ---- similarity ----------------------------------------------------------------------------------------------------


def test_similarity_of_models_by_kind_of_pair(drawn: dict[str, Figure]) -> None:
    figure = drawn["similarity"]
    assert [ax.get_title() for ax in figure.drawing.axes] == [
        *("debiased CKA", "ANC", "mutual neighbours", "Procrustes distance")
    ] * len(GROUPS)
    falls = [0.9 - 0.1 * layer for layer in range(LAYERS + 1)]
    for title, null in (("debiased CKA", 0.05), ("ANC", 0.1), ("mutual neighbours", 0.15)):
        lines = {line.get_label(): np.asarray(line.get_ydata()) for line in panel(figure, title).lines}
        np.testing.assert_allclose(lines["specialist–specialist"], falls)
        np.testing.assert_allclose(lines["merge–specialist"], falls)
        np.testing.assert_allclose(lines["base–merge"], 0.99)
        np.testing.assert_allclose(lines["null"], null)
    lines = {line.get_label(): np.asarray(line.get_ydata()) for line in panel(figure, "Procrustes distance").lines}
    assert set(lines) == {"base–specialist", "base–merge", "null"}
    np.testing.assert_allclose(lines["base–merge"], 0.01)
    np.testing.assert_allclose(lines["base–specialist"], 1 - np.array(falls))


def test_bands_of_cka_are_those_of_its_standard_error(drawn: dict[str, Figure], results: Results) -> None:
    ax = panel(drawn["similarity"], "debiased CKA")
    band = ax.collections[0].get_paths()[0].vertices
    at_zero = band[band[:, 0] == 0][:, 1]
    half = 0.01 * float(scipy.stats.t.ppf(0.975, results.study["analysis"]["blocks"] - 1))
    assert (at_zero.min(), at_zero.max()) == pytest.approx((0.9 - half, 0.9 + half))


def test_cka_alone_is_explained_alone(results: Results) -> None:
    figure = similarity_figure(results.with_table("measurements/similarity", pd.DataFrame()))
    assert figure is not None
    assert {ax.get_title() for ax in figure.drawing.axes} == {"debiased CKA"}
    assert "mean absolute correlation" not in figure.caption


def test_similarity_of_languages_is_without_their_lengths_where_all_groups_have_it(results: Results) -> None:
    figure = language_figure(results)
    assert figure is not None and "not regressed out" not in figure.caption
    lines = {line.get_label(): line for line in panel(figure, "ANC").lines}
    assert set(lines) == {"Base", *(f"specialist {c}" for c in LANGUAGES), "Joint", "Linear", "Task arithmetic", "null"}
    np.testing.assert_allclose(lines["Base"].get_ydata(), [0.3 + 0.1 * layer for layer in range(LAYERS + 1)])
    assert to_hex(lines["specialist tr"].get_color()) == shade(2)
    table = results.table("measurements/languages")
    older = table[(table.variant == "raw") | (table.group == "from-en")]
    raw = language_figure(results.with_table("measurements/languages", older))
    assert raw is not None and "not regressed out" in raw.caption
    line = next(line for line in panel(raw, "ANC").lines if line.get_label() == "Base")
    np.testing.assert_allclose(line.get_ydata(), [0.5 + 0.1 * layer for layer in range(LAYERS + 1)])
