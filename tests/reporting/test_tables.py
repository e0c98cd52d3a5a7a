"""Tables against numbers worked out by hand from the planted results."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
from finished_results import DRIFT, MERGED, PATCHED, Finished

from langmerge.reporting import samples, tables_data, tables_models, tables_runs, tables_scores
from langmerge.reporting.document import Document
from langmerge.reporting.load import Results, load
from langmerge.reporting.samples import Scores
from langmerge.reporting.shares import drift_curve, pair_shares
from langmerge.reporting.table import EMPTY, Cell, Table, interval, number, si


def cell(table: Table, row: str, column: str, occurrence: int = 0) -> Cell:
    """The cell in the row whose first text cells hold ``row``, under the n-th column of that name."""
    columns = [i for i, name in enumerate(table.columns) if name == column]
    found = next(line for line in table.rows if row in [c.text for c in line[: table.text_columns]])
    return found[columns[occurrence]]


def test_score_table_shows_the_scores_and_their_mean(scores: Scores) -> None:
    table = tables_scores.score_table(scores, "from-en")
    written = scores.results.scores.set_index(["key", "direction", "metric"]).score
    languages = scores.results.languages
    expected = [written["seed1/from-en/ties", f"en-{code}", "bleu"] for code in languages]
    for code, value in zip(languages, expected, strict=True):
        assert cell(table, "TIES", code).text == f"{value:.1f}"
    assert cell(table, "TIES", "mean").text == f"{np.mean(expected):.1f}"
    assert cell(table, "TIES", "es", 1).text == f"{written['seed1/from-en/ties', 'en-es', 'chrf']:.1f}"
    diagonal = written["seed1/from-en/en-hi", "en-hi", "bleu"]
    assert cell(table, "Specialist (own language)", "hi").text == f"{diagonal:.1f}"
    assert table.spans == [("BLEU", 5), ("chrF++", 5)]


def test_a_further_test_set_has_a_table_of_its_own(results: Results) -> None:
    """Its scores, planted one point above the main set's, and their mean."""
    main = results.scores[results.scores.split == results.split]
    news = main.assign(split="news", score=main.score + 1)
    both = Scores(dataclasses.replace(results, scores=pd.concat([results.scores, news], ignore_index=True)))
    group = results.groups[0]
    assert tables_scores.further_tables(Scores(results), group) == []
    (table,) = tables_scores.further_tables(both, group)
    assert table.name == f"scores_news_{group.replace('-', '_')}"
    expected = tables_scores.score_table(both, group).data.set_index(["system", "metric", "language"]).score + 1
    found = table.data.set_index(["system", "metric", "language"]).score
    pd.testing.assert_series_equal(found.sort_index(), expected.sort_index())


def test_daggers_are_the_comparisons_verdicts(scores: Scores) -> None:
    table = tables_scores.score_table(scores, "from-en")
    comparisons = scores.results.comparisons
    found = comparisons[(comparisons.family == "seed1/from-en/specialist") & (comparisons.metric == "bleu")].set_index(
        ["system", "direction"]
    )
    seen = set()
    for row, name in (("Linear", "linear"), ("TIES", "ties"), ("Joint", "joint-from-en")):
        for column in [*scores.results.languages, "mean"]:
            direction = column if column == "mean" else f"en-{column}"
            significant = found.loc[(f"seed1/from-en/{name}", direction), "p_holm"] < 0.05
            assert (cell(table, row, column).mark == "†") == significant
            seen.add(bool(significant))
    assert seen == {True, False}  # the planted study has both
    assert cell(table, "Base", "es").mark == ""


def test_only_a_clear_lead_is_bold(scores: Scores) -> None:
    table = tables_scores.score_table(scores, "to-en")
    bold = [c for row in table.rows for c in row if c.bold]
    merges = {row.label: row for row in scores.merges("to-en")}
    ranked = sorted(merges.values(), key=lambda row: -scores.average(row, "to-en", "bleu").point)
    lead = scores.average(ranked[0], "to-en", "bleu") - scores.average(ranked[1], "to-en", "bleu")
    assert cell(table, ranked[0].label, "mean").bold == (lead.interval[0] > 0)
    assert not cell(table, ranked[1].label, "mean").bold
    assert all(any(c in row for row in table.rows if row[0].text in merges) for c in bold)


def test_many_languages_put_the_metrics_below_each_other(scores: Scores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables_scores, "WIDEST", 3)
    table = tables_scores.score_table(scores, "from-en")
    assert table.columns == ["Metric", "System", "es", "de", "ru", "hi", "mean"]
    assert [row[0].text for row in table.rows].count("chrF++") == len(table.rows) / 2


def test_retention_and_ratio_by_hand(scores: Scores) -> None:
    written = scores.results.scores.set_index(["key", "direction", "metric"]).score
    m, e, b = (written[key, "ru-en", "bleu"] for key in ("seed1/to-en/linear", "seed1/to-en/ru-en", "seed1//base"))
    data = tables_scores.retention_table(scores, samples.retention).data
    row = data[(data.group == "to-en") & (data.system == "linear") & (data.language == "ru")].iloc[0]
    assert row.value == pytest.approx((m - b) / (e - b))
    assert row.low < row.value < row.high
    data = tables_scores.retention_table(scores, samples.ratio).data
    here = data[(data.group == "to-en") & (data.system == "linear")].set_index("language").value
    assert here["ru"] == pytest.approx(m / e)
    assert here["mean"] == pytest.approx(here.drop("mean").mean())


def test_patch_table_finds_the_planted_gain(scores: Scores) -> None:
    table = tables_scores.patch_table(scores)
    assert table is not None
    here = table.data[(table.data.group == "from-en") & (table.data.language == "mean")].set_index("layers")
    assert here.loc["last − random", "value"] == pytest.approx(
        here.loc["last 1", "value"] - here.loc["random 1 below", "value"]
    )
    assert PATCHED["last"] > PATCHED["random"]
    assert here.loc["last − random", "low"] > 0


def test_pair_shares_are_each_languages_own_ratio(scores: Scores) -> None:
    written = scores.results.scores.set_index(["key", "direction", "metric"]).score
    shares = pair_shares(scores).set_index(["group", "pair", "language"]).value.sort_index()
    m, e = written["seed1/from-en/slerp.es+ru", "en-ru", "bleu"], written["seed1/from-en/en-ru", "en-ru", "bleu"]
    assert shares["from-en", "es+ru", "ru"] == pytest.approx(m / e)
    both = shares["from-en", "es+ru"]
    assert both["mean"] == pytest.approx((both["es"] + both["ru"]) / 2)
    table = tables_scores.pair_table(scores)
    assert table is not None
    assert len(table.rows) == 6


def test_drift_compares_with_the_snapshot_of_the_same_step(scores: Scores) -> None:
    written = scores.results.scores.set_index(["key", "direction", "metric"]).score
    curve = drift_curve(scores).set_index(["group", "step", "language"])
    m = written["seed1/from-en/linear@30", "en-de", "bleu"]
    assert curve.loc[("from-en", 30, "de"), "value"] == pytest.approx(
        m / written["seed1/from-en/en-de@30", "en-de", "bleu"]
    )
    last = written["seed1/from-en/linear@120", "en-de", "bleu"] / written["seed1/from-en/en-de", "en-de", "bleu"]
    assert curve.loc[("from-en", 120, "de"), "value"] == pytest.approx(last)
    means = curve.xs("mean", level="language").loc["from-en"].value
    assert list(means.index) == sorted(DRIFT)
    assert means.is_monotonic_decreasing  # as planted
    assert (curve.norm == 1.5).all()


def test_chosen_hyper_parameters(results: Results) -> None:
    table = tables_runs.hyperparameter_table(results)
    assert table is not None
    assert [c.text for c in table.rows[0]] == ["en→xx", "Linear", EMPTY, "1", EMPTY]
    # The planted dev score peaks at 0.6 for the third candidate: 60 - 0 - 0.2
    assert [c.text for c in table.rows[1]] == ["en→xx", "Task arithmetic", "scale 0.6", "5", "59.8"]
    assert len(table.rows) == 2 * len(MERGED)


def test_neurons_are_summed_over_layers(results: Results) -> None:
    table = tables_models.neuron_table(results)
    assert table is not None
    base = table.data[(table.data.model == "base") & (table.data.span == "target") & (table.data.group == "from-en")]
    assert list(base.units) == [22, 22, 22, 22]  # 10 + 1 + 1 + 10
    assert list(base.share) == [0.25] * 4
    own = cell(table, "en→ru", "ru")
    assert own.bold
    assert own.text.startswith("20 ")  # two fewer in the first layer
    assert not cell(table, "en→ru", "es").bold


def test_turnover_shows_gained_lost_and_overlap(results: Results) -> None:
    table = tables_models.turnover_table(results)
    assert table is not None
    assert cell(table, "en→es", "es").text == "+8 −10 (0.40)"
    assert "0.70" in table.caption


def test_cka_table_takes_the_right_layers_and_pairs(results: Results) -> None:
    table = tables_models.cka_table(results)
    assert table is not None
    row = table.data.query("group == 'from-en' and span == 'target' and pair == 'specialist–specialist'").iloc[0]
    assert row["last"] == pytest.approx(1 - 0.12 * 16 / 4, abs=0.01)
    assert row.third == pytest.approx(1 - 0.12 / 4, abs=0.01)
    assert (row.drop_sink - row["last"], row.zscore - row["last"]) == pytest.approx((0.02, 0.04), abs=0.005)
    assert row.biased == pytest.approx(0.99)
    # Specialists come second to fifth among the models, the last layer has 40 more
    assert row.effective_rank == pytest.approx(40 + 2.5)
    assert [c.text for c in table.rows[0]][-5::4] == ["0.990", "42.5"]
    without = tables_models.cka_table(results.with_table("measurements/similarity", pd.DataFrame()))
    assert without is not None and {row[-1].text for row in without.rows} == {EMPTY}
    kinds = tables_models.cka_of(results).groupby("pair").size()
    assert set(kinds.index) == {"specialist–specialist", "base–specialist", "merge–specialist", "other"}


@pytest.mark.parametrize(("layers", "expected"), [(4, 1), (20, 3), (36, 6), (1, 1)])
def test_upper_layers_are_fifteen_per_cent(layers: int, expected: int) -> None:
    assert tables_models.upper_layers(layers) == expected


def test_costs_add_up(results: Results) -> None:
    table = tables_runs.cost_table(results)
    assert table is not None
    data = table.data.set_index("what")
    assert data.loc["en→xx: specialists, sum", "tokens"] == 4 * 120 * 2000
    assert data.loc["en→xx: specialists, sum", "seconds"] == pytest.approx(4 * 24)
    assert data.loc["en→xx: specialists, longest one (all at once)", "seconds"] == pytest.approx(24)
    assert data.loc["xx→en: joint", "flops"] == pytest.approx(240 * 2.4e10)


def test_data_table(results: Results) -> None:
    table = tables_data.data_table(results)
    assert table is not None
    assert [c.text for c in table.rows[0]] == ["es", "8,000", "128", "100", "56,000", "1", "2", "2", "3.0"]
    assert sum(width for _, width in table.spans) == len(table.columns) - 1


def test_examples_show_source_reference_and_every_system(scores: Scores) -> None:
    table = tables_data.example_table(scores, "from-en")
    assert table is not None
    kinds = ["Source", "Reference", "Base", "Specialist (own language)", "Joint", "Linear", "Task arithmetic", "TIES"]
    starts = [0, *table.rules, len(table.rows)]
    assert len(starts) - 1 == tables_data.EXAMPLES * 4
    written = table.data.groupby(["direction", "id"], sort=False)
    for (start, end), ((direction, _), texts) in zip(itertools.pairwise(starts), written, strict=True):
        block = table.rows[start:end]
        assert [row[0].text for row in block] == [direction, *[""] * (end - start - 1)]
        shown = {kind: row[2].text for row in block for kind in row[1].text.split(", ")}
        assert shown == dict(zip(texts.system, texts.text, strict=True))
        assert sorted(shown) == sorted(kinds)
        assert len({row[2].text for row in block}) == len(block)  # equal outputs share a row


@pytest.mark.parametrize(("text", "shown"), [("Größe, año 3!", True), ("старая", True), ("औरत", False)])
def test_scripts_of_the_pdf(text: str, shown: bool) -> None:
    assert tables_data.printable(text) is shown


def test_seed_table(small: Finished, scores: Scores) -> None:
    assert tables_runs.seed_table(scores) is None
    two = Scores(load(small.spec, small.inputs))
    table = tables_runs.seed_table(two)
    assert table is not None
    row = table.data.set_index("system").loc["linear"]
    assert row["sd"] == pytest.approx(abs(row[1] - row[2]) / np.sqrt(2))
    assert row["mean"] == pytest.approx((row[1] + row[2]) / 2)


def test_all_rows_are_as_long_as_the_head(document: Document) -> None:
    assert len(document.tables) > 12
    for table in document.tables:
        assert {len(row) for row in table.rows} == {len(table.columns)}, table.name
        if table.spans:
            assert sum(width for _, width in table.spans) == len(table.columns) - table.text_columns, table.name
        assert table.caption.strip().endswith("."), table.name
        assert not table.data.empty, table.name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (number(-0.04), "0.0"),
        (number(-1.25), "−1.2"),
        (number(2.0, 1, signed=True), "+2.0"),
        (number(float("nan")), EMPTY),
        (number(None), EMPTY),
        (interval(-1, 2.5), "[−1.0, 2.5]"),
        (interval(float("nan"), 1), EMPTY),
        (si(1_234_000), "1.2 M"),
        (si(12), "12"),
    ],
)
def test_numbers_in_print(text: str, expected: str) -> None:
    assert text == expected


def test_markdown_carries_spans_and_marks() -> None:
    table = Table("t", "T", "C.", ["x", "a"], [[Cell("r|s"), Cell("1", True, "†")]], pd.DataFrame(), [("S", 1)])
    assert table.markdown().splitlines()[:3] == ["| x | S a |", "| --- | ---: |", "| r\\|s | **1**† |"]


def test_kinds_of_pairs(results: Results) -> None:
    pairs = [("en-es", "en-de"), ("base", "en-es"), ("en-es", "ties"), ("en-es", "joint"), ("base", "ties")]
    table = pd.DataFrame(pairs, columns=["model_a", "model_b"])
    assert list(tables_models.pair_kinds(results, table)) == [*tables_models.KINDS, "other", "other"]
