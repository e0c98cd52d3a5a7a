"""Samples: scores, retention and intervals against independent computations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from finished_results import QUALITY, Finished

from langmerge.reporting import samples
from langmerge.reporting.load import load
from langmerge.reporting.samples import Sample, Scores


def test_points_are_the_scores_that_the_evaluation_wrote(scores: Scores) -> None:
    table = scores.results.scores.set_index(["key", "direction", "metric"]).score
    checked = 0
    for (key, direction, metric), value in table.iloc[::37].items():
        assert scores.of(key, direction, metric).point == pytest.approx(value, abs=1e-9)
        checked += 1
    assert checked > 10


def test_a_row_has_base_everywhere_and_each_specialist_in_its_own_language(scores: Scores) -> None:
    rows = {row.name: row for row in scores.rows("to-en")}
    assert list(rows) == ["base", "specialist", "joint", "linear", "task_arithmetic", "ties"]
    assert set(rows["base"].keys.values()) == {"seed1//base"}
    assert rows["specialist"].keys == {(1, code): f"seed1/to-en/{code}-en" for code in ("es", "de", "ru", "hi")}


def test_retention_of_the_specialist_is_one_and_of_the_base_zero(scores: Scores) -> None:
    rows = {row.name: row for row in scores.rows("from-en")}
    assert scores.retained(rows["specialist"], "from-en", "es", "bleu").point == pytest.approx(1)
    assert scores.retained(rows["base"], "from-en", "es", "bleu").point == pytest.approx(0)
    assert scores.retained(rows["specialist"], "from-en", "es", "bleu").interval == pytest.approx((1, 1))


def test_retention_agrees_with_the_comparison_stage(scores: Scores, finished: Finished) -> None:
    table = pd.read_csv(finished.inputs["comparisons"] / "retention.csv")
    table = table[(table.direction == "en-de") & (table.metric == "chrf")].set_index("system")
    for row in scores.merges("from-en"):
        expected = table.loc[f"seed1/from-en/{row.name}"]
        assert scores.retained(row, "from-en", "de", "chrf").point == pytest.approx(expected.retention)
        assert scores.retained(row, "from-en", "de", "chrf", samples.ratio).point == pytest.approx(expected.ratio)


def test_retention_is_undefined_where_the_specialist_gained_nothing_clear() -> None:
    rng = np.random.default_rng(0)
    base, noise = Sample(50, 50 + rng.normal(0, 5, 1000)), rng.normal(0, 5, 1000)
    expert = Sample(51, 51 + noise)
    kept = samples.retention(expert, expert, base)
    assert np.isnan(kept.point)
    assert np.isnan(kept.interval).all()


def test_means_leave_out_what_is_undefined() -> None:
    nothing = Sample(float("nan"), np.full(3, np.nan))
    one, two = Sample(1, np.array([0.0, 1, 2])), Sample(3, np.array([2.0, 3, 4]))
    assert samples.mean([one, nothing, two]).point == 2
    np.testing.assert_allclose(samples.mean([one, nothing, two]).draws, [1, 2, 3])
    assert np.isnan(samples.mean([nothing]).point)


def test_interval_of_ter_is_that_of_a_plain_bootstrap(scores: Scores) -> None:
    """TER is edits over reference words: a ratio of sums that is bootstrapped here sentence by sentence."""
    key, direction = "seed1/from-en/linear", "en-es"
    edits, words = scores.results.statistics(key, direction)["ter"].T
    rng = np.random.default_rng(5)
    drawn = rng.integers(len(edits), size=(20000, len(edits)))
    plain = np.quantile(100 * edits[drawn].sum(1) / words[drawn].sum(1), [0.025, 0.975])
    many = Scores(scores.results)
    many.samples = 20000
    assert many.of(key, direction, "ter").interval == pytest.approx(tuple(plain), abs=0.6)


def test_systems_on_the_same_sentences_share_their_draws(scores: Scores) -> None:
    a, again = (scores.of("seed1/from-en/linear", "en-es", "bleu") for _ in range(2))
    assert (a - again).interval == (0, 0)
    # The planted gap between specialist and base is far larger than its paired noise
    assert (scores.of("seed1/from-en/en-es", "en-es", "bleu") - scores.of("seed1//base", "en-es", "bleu")).above
    assert QUALITY["specialist"] > QUALITY["base"]


def test_seeds_are_averaged(small: Finished) -> None:
    results = load(small.spec, small.inputs)
    both = Scores(results)
    row = both.merges("from-en")[0]
    single = [both.of(f"seed{seed}/from-en/linear", "en-es", "bleu").point for seed in (1, 2)]
    assert single[0] != single[1]
    assert both.cell(row, "from-en", "es", "bleu").point == pytest.approx(sum(single) / 2)
