"""Comparisons and retention over tests of tasks, with metrics in which lower is better."""

import json

import numpy as np
import pandas as pd
import pytest

from langmerge.evaluation import aggregates
from langmerge.evaluation.comparison import MEAN, main
from langmerge.evaluation.metrics import score

N = 80
SHARES = {"base": 0.4, "expert": 0.9, "merge": 0.7}  # of right answers; texts get the shorter the better


def evaluate(folder, share):
    (folder / "statistics").mkdir(parents=True)
    ids = np.array([f"i{i}" for i in range(N)])
    draw = np.random.default_rng(1).random(N)
    hits = np.column_stack([draw < share, np.ones(N)]).astype(float)
    confusion = np.zeros((N, 4))
    confusion[np.arange(N), np.where(hits[:, 0] == 1, 0, 1)] = 1
    for language, shift in (("es", 0.0), ("it", 0.1)):
        nats = np.column_stack([20 * (2 + shift - share) + draw, np.full(N, 10.0)])
        np.savez(folder / "statistics" / f"test.text.{language}.npz", ids=ids, bits_per_byte=nats)
    np.savez(folder / "statistics" / "test.sentiment.es.npz", ids=ids, macro_f1=confusion, accuracy=hits)
    (folder / "manifest.json").write_text('{"outputs": {}}')
    return str(folder)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    root = tmp_path_factory.mktemp("tasks")
    inputs = {f"evaluations/{name}": evaluate(root / name, share) for name, share in SHARES.items()}
    tests = ["text.es", {"task": "text", "language": "it"}, "sentiment.es"]
    spec = {
        "comparisons": [
            {"system": "merge", "baseline": "base", "directions": tests},
            {"system": "merge", "baseline": {"text.es": "expert"}, "label": "own", "directions": ["text.es"]},
        ],
        "retention": [{"system": "merge", "expert": "expert", "base": "base", "directions": tests}],
        "samples": 400,
        "trials": 300,
    }
    out = root / "out"
    main(["--spec", json.dumps(spec), "--inputs", json.dumps(inputs), "--out", str(out)])
    return pd.read_csv(out / "comparisons.csv"), pd.read_csv(out / "retention.csv")


def test_every_test_is_compared_in_the_metrics_of_its_task(tables):
    table = tables[0].query("baseline == 'base'").set_index(["direction", "metric"])
    assert set(table.index) == {
        ("text.es", "bits_per_byte"), ("text.it", "bits_per_byte"), (MEAN, "bits_per_byte"),
        ("sentiment.es", "macro_f1"), ("sentiment.es", "accuracy"), (MEAN, "macro_f1"), (MEAN, "accuracy"),
    }  # fmt: skip
    expected = -20 * (0.7 - 0.4) / 10 / np.log(2)
    assert table.difference["text.es", "bits_per_byte"] == pytest.approx(expected)
    assert table.difference[MEAN, "bits_per_byte"] == pytest.approx(expected)
    assert table.difference[MEAN, "accuracy"] == table.difference["sentiment.es", "accuracy"] > 0
    assert (table.p_randomization < 0.05).all()
    assert tables[0].query("baseline == 'own'").difference.iloc[0] == pytest.approx(0.4 / np.log(2))


def test_retention_is_oriented(tables):
    table = tables[1].set_index(["direction", "metric"])
    text, sentiment = table.loc["text.es", "bits_per_byte"], table.loc["sentiment.es", "accuracy"]
    assert text.retention == pytest.approx((0.7 - 0.4) / (0.9 - 0.4))
    # a cost is positive and a ratio below 1 in both: the merge is worse than its expert
    assert text.interference == pytest.approx(0.4 / np.log(2)) and sentiment.interference > 0
    assert text.ratio == pytest.approx(text.score_expert / text.score_system)
    assert 0 < text.ratio < 1 and 0 < sentiment.ratio < 1 and 0 < sentiment.retention < 1
    assert table.loc[MEAN, "bits_per_byte"].retention == pytest.approx(text.retention)


def test_ratio_and_interference_where_lower_is_better():
    assert aggregates.ratio(2.0, 1.0, True) == 0.5 and aggregates.ratio(2.0, 1.0) == 2
    assert aggregates.interference(2.0, 1.0, True) == 1 and aggregates.interference(2.0, 1.0) == -1
    assert np.isnan(aggregates.ratio(0.0, 1.0, True))
    assert float(score("bits_per_byte", np.array([np.log(2) * 3, 2]))) == pytest.approx(1.5)
