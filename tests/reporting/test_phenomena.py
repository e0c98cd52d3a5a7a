"""Accuracies by phenomenon are counted as they stand in the files."""

from types import SimpleNamespace

import numpy as np
import pytest

from langmerge.reporting.studies.phenomena import phenomena_table

GROUPS = {"es": ["number", "gender"] * 20, "tr": ["tense"] * 40}


@pytest.fixture
def samples(tmp_path):
    """Two seeds of "mono", which knows number, every second gender, and nothing of tense; "bare" has no groups."""
    folders = {}
    for key in ("s1/mono", "s2/mono", "s1/bare"):
        place = folders[f"systems/{key}"] = tmp_path / key
        (place / "statistics").mkdir(parents=True)
        for language, groups in GROUPS.items():
            right = {"number": lambda i: 1.0, "gender": lambda i: float(i % 4 == 1), "tense": lambda i: 0.0}
            hits = np.array([right[group](i) for i, group in enumerate(groups)])
            if key == "s2/mono":
                hits[:] = 1.0
            own = {} if key == "s1/bare" else {"groups": groups}
            table = np.column_stack([hits, np.ones(len(hits))])
            np.savez(
                place / "statistics" / f"test.minimal_pairs.{language}.npz",
                ids=np.arange(len(hits)).astype(str), **own, accuracy=table, accuracy_norm=1 - table * [1, 0],
            )  # fmt: skip
    results = SimpleNamespace(folders=folders, languages=["es", "tr"], seeds=[1, 2])
    return SimpleNamespace(results=results, seed=0, samples=300)


def test_accuracies_by_phenomenon(samples):
    rows = {"One": {"es": ["s1/mono"], "tr": ["s1/mono"]}, "Both": {"es": ["s1/mono", "s2/mono"]}}
    table = phenomena_table(samples, rows)
    found = table.data.set_index(["system", "language", "phenomenon", "metric"])
    expected = {
        ("One", "es", "number"): 100, ("One", "es", "gender"): 50, ("One", "es", ""): 75, ("One", "tr", "tense"): 0,
        ("One", "tr", ""): 0, ("Both", "es", "number"): 100, ("Both", "es", "gender"): 75, ("Both", "es", ""): 87.5,
    }  # fmt: skip
    assert {key[:3] for key in found.index} == set(expected)
    for key, value in expected.items():
        assert found.score[(*key, "accuracy")] == pytest.approx(value)
    assert found.score["One", "es", "gender", "accuracy_norm"] == pytest.approx(50)
    assert found.score["One", "tr", "", "accuracy_norm"] == pytest.approx(100)
    assert found.n["One", "es", "number", "accuracy"] == 20 and found.n["One", "es", "", "accuracy"] == 40
    gender = found.loc[("One", "es", "gender", "accuracy")]
    assert 25 < gender.low < 40 < 60 < gender.high < 75  # 50 % of 20 pairs: a standard error of 11 points
    assert tuple(found.loc[("One", "es", "number", "accuracy")][["low", "high"]]) == (100, 100)


def test_what_a_language_lacks_is_empty(samples):
    table = phenomena_table(samples, {"One": {"es": ["s1/mono"], "tr": ["s1/mono"]}, "None": {"es": [], "tr": []}})
    assert table.columns == ["", "", "number", "gender", "tense", "all", "all per token"]
    assert [[cell.text for cell in row][:5] for row in table.rows] == [
        ["es", "One", "100.0 [100.0, 100.0]", table.rows[0][3].text, "–"],
        ["tr", "One", "–", "–", "0.0 [0.0, 0.0]"],
    ]
    assert table.rules == [1]


def test_without_groups_there_is_no_table(samples):
    assert phenomena_table(samples, {"Bare": {"es": ["s1/bare"]}, "None": {}}) is None
