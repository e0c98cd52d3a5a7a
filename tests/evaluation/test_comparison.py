"""The comparison command on planted systems."""

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from langmerge.evaluation.comparison import COLUMNS, MEAN, adjust, main
from langmerge.evaluation.scoring import Scored, score_outputs, write
from langmerge.evaluation.significance import holm
from langmerge.evaluation.test_sets import Direction, TestSet
from langmerge.provenance import InputError, read_json

WORDS = ["el", "la", "gato", "perro", "casa", "jardín", "rojo", "vieja", "duerme", "lee", "nunca", "hoy"]
DIRECTIONS = [Direction("en", "es"), Direction("en", "it")]
NOISE = {"base": 0.6, "expert": 0.1, "merge": 0.35, "twin": 0.35}


def evaluate(folder, noise, n=60, seed=0, metrics=("bleu", "chrf")):
    """The evaluation of a system that replaces a share ``noise`` of the references' words."""
    outputs = []
    for direction in DIRECTIONS:
        rng = np.random.default_rng([1, n])  # the references are the same for every system
        references = [" ".join(rng.choice(WORDS, size=rng.integers(5, 11))) for _ in range(n)]
        rng = np.random.default_rng([seed, int(100 * noise), DIRECTIONS.index(direction)])
        hypotheses = [
            " ".join(rng.choice(WORDS) if rng.random() < noise else word for word in reference.split())
            for reference in references
        ]
        ids = tuple(f"s{i}" for i in range(n))
        test_set = TestSet("test", direction, ids, tuple(references), tuple(references))
        outputs.append(score_outputs(hypotheses, test_set, metrics, ["en", "es", "it"]))
    write(Scored(outputs), folder)
    (folder / "manifest.json").write_text('{"outputs": {}}')
    return str(folder)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluations")
    return {f"evaluations/{name}": evaluate(root / name, noise) for name, noise in NOISE.items()}


def run(spec, inputs, out):
    main(["--spec", json.dumps(spec), "--inputs", json.dumps(inputs), "--out", str(out)])
    return pd.read_csv(out / "comparisons.csv")


def entry(system, baseline):
    return {"system": system, "baseline": baseline, "directions": ["en-es", {"source": "en", "target": "it"}]}


def test_table(inputs, tmp_path):
    spec = {
        "comparisons": [entry("expert", "base"), entry("merge", "expert"), entry("merge", "twin")],
        "metrics": ["bleu", "chrf"],
        "samples": 300,
        "trials": 500,
        "seed": 1,
    }
    table = run(spec, inputs, tmp_path / "out")
    assert list(table.columns) == COLUMNS
    assert len(table) == 3 * 3 * 2  # comparisons x (2 directions + mean) x metrics
    np.testing.assert_allclose(table.score_system - table.score_baseline, table.difference, atol=1e-6)

    scores = read_json(Path(inputs["evaluations/expert"]) / "scores.json")
    row = table.query("system == 'expert' and direction == 'en-it' and metric == 'chrf'").iloc[0]
    assert row.score_system == pytest.approx(scores["test"]["en-it"]["metrics"]["chrf"]["score"])

    for metric in ("bleu", "chrf"):
        rows = table[(table.system == "expert") & (table.metric == metric)].set_index("direction")
        directions, mean = rows.drop(index=MEAN), rows.loc[MEAN]
        assert mean.difference == pytest.approx(directions.difference.mean())
        assert (rows.low > 0).all() and np.allclose(rows.p_randomization, 1 / 501)
        assert mean.standard_error < directions.standard_error.max()

    # twin writes the same as merge: no difference, whatever the correction
    twins = table[table.baseline == "twin"]
    assert (twins.difference == 0).all() and (twins.p_holm == 1).all()

    # one family a metric, the means apart
    for (_, is_mean), rows in table.groupby([table.metric, table.direction == MEAN]):
        assert (rows.n_tests == len(rows)).all() and len(rows) == (3 if is_mean else 6)
        np.testing.assert_allclose(rows.p_holm, holm(rows.p_randomization))


def test_retention(inputs, tmp_path):
    spec = {
        "comparisons": [],
        "metrics": ["chrf"],
        "samples": 300,
        "trials": 10,
        "retention": [
            {"system": "merge", "expert": "expert", "base": "base", "directions": ["en-es", "en-it"]},
            {"system": "base", "expert": "expert", "base": "base", "directions": ["en-es"]},
            {"system": "merge", "expert": "twin", "base": "merge", "directions": ["en-es"]},
        ],
    }
    assert run(spec, inputs, tmp_path).empty
    table = pd.read_csv(tmp_path / "retention.csv")
    first, second, base, undefined = (table.iloc[i] for i in range(4))
    for row in (first, second):
        expected = (row.score_system - row.score_base) / (row.score_expert - row.score_base)
        assert 0.2 < row.retention < 0.8
        assert row.retention == pytest.approx(expected)
        assert row.interference == pytest.approx(row.score_expert - row.score_system)
    assert base.retention == 0.0
    assert np.isnan(undefined.retention) and undefined.ratio == 1.0  # an expert equal to its base
    means = table[table.direction == MEAN].set_index("system")
    assert means.loc["merge"].retention == pytest.approx((first.retention + second.retention) / 2)
    assert len(table) == 4 + 2


def test_family_of_tests(inputs, tmp_path):
    spec = {
        "comparisons": [entry("expert", "base"), entry("merge", "base")],
        "samples": 20,
        "trials": 20,
        "family": ["metric", "system"],
    }
    table = run(spec, inputs, tmp_path)
    assert set(table[table.direction != MEAN].n_tests) == {2}
    with pytest.raises(InputError, match="family: unknown column colour"):
        adjust(table, ["colour"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"comparisons": [entry("expert", "nobody")]}, "no evaluation of 'nobody'.*base, expert, merge"),
        ({"split": "dev"}, "dev.en-es.npz: file not found"),
        ({"metrics": ["ter"]}, "no statistics of ter"),
        ({"comparisons": [{**entry("expert", "base"), "directions": []}]}, "at least one direction"),
        ({"comparisons": [entry("expert", "other")]}, r"expert \(60 sentences\) and other \(61\)"),
    ],
)
def test_bad_input_is_named(inputs, tmp_path, change, message):
    spec = {"comparisons": [entry("expert", "base")], "samples": 10, "trials": 10, **change}
    folders = {**inputs, "evaluations/other": evaluate(tmp_path / "other", 0.3, n=61)}
    with pytest.raises(InputError, match=message):
        run(spec, folders, tmp_path / "out")
    assert not (tmp_path / "out" / "comparisons.csv").exists()


def test_fast(tmp_path):
    """100 tests on 150 sentences at full size take seconds: nothing is tokenised again."""
    names = [f"m{i}" for i in range(5)]
    folders = {f"evaluations/{name}": evaluate(tmp_path / name, 0.1 * i + 0.1, n=150) for i, name in enumerate(names)}
    spec = {
        "comparisons": [entry(a, b) for a in names for b in names if a != b],
        "samples": 1000,
        "trials": 10000,
    }
    started = time.process_time()
    table = run(spec, folders, tmp_path / "out")
    assert len(table) == 20 * 3 * 2
    assert time.process_time() - started < 20
