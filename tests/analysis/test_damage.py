"""What foretells merge damage: tables to measures, scores to damage, and the command on planted results."""

import csv
import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest

from langmerge import provenance
from langmerge.analysis import predictors
from langmerge.analysis.damage import main, outcomes, retention
from langmerge.evaluation import aggregates
from langmerge.provenance import InputError

LANGUAGES = ["es", "it", "de", "tr", "fi"]
PAIRS = list(itertools.combinations(LANGUAGES, 2))


# ---- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [(40, 60, 20, 3), (70, 60, 20, 3), (10, 60, 20, 3), (25, 26, 20, 3.1), (5, 5, 5, 0)])
def test_retention_is_that_of_the_comparisons(values):
    assert retention(*values) == pytest.approx(float(aggregates.retention(*values)), nan_ok=True)


def test_outcomes_of_a_pair():
    found = outcomes([40, 30], [60, 50], [20, 20], [3, 3])
    assert found == pytest.approx(
        {"retention": (0.5 + 1 / 3) / 2, "worst_retention": 1 / 3, "ratio": (2 / 3 + 0.6) / 2, "loss": 20}
    )
    unclear = outcomes([40, 30], [60, 21], [20, 20], [3, 3])
    assert math.isnan(unclear["retention"])
    assert math.isnan(unclear["worst_retention"])
    assert unclear["loss"] == pytest.approx((20 - 9) / 2)


# ---- predictors ------------------------------------------------------------------------------------------------------

SPECIALISTS = {"es": "en-es", "it": "en-it", "de": "en-de"}
DIRECTIONS = SPECIALISTS


def table(file, prefix):
    (found,) = (t for t in predictors.TABLES if (t.file, t.prefix) == (file, prefix))
    return found


def written(tmp_path, place, file, rows):
    folder = tmp_path / place
    folder.mkdir(exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / f"{file}.csv", index=False)
    return {place: folder}


def long(frame):
    return {(r.language_a, r.language_b, r.measure): r.value for r in frame.itertuples()}


def test_models_become_pairs_of_languages(tmp_path):
    head = {"relation": "specialists", "layer": "", "module": "", "measure": "cosine"}
    rows = [
        {**head, "model_a": "en-de", "model_b": "en-es", "scope": "global", "value": 0.2},  # any order
        {**head, "model_a": "en-es", "model_b": "en-it", "scope": "global", "value": 0.5},
        {**head, "model_a": "en-es", "model_b": "en-it", "scope": "layer", "value": 9.0},
        {**head, "model_a": "en-es", "model_b": "ties", "scope": "global", "value": 9.0},
        {**head, "model_a": "en-it", "model_b": "en-de", "scope": "global", "value": ""},
    ]
    frame, absent = predictors.read(written(tmp_path, "weighing", "pairs", rows), SPECIALISTS, DIRECTIONS)
    assert long(frame) == {("es", "de", "weights.cosine"): 0.2, ("es", "it", "weights.cosine"): 0.5}
    assert absent["weighing/subspaces.csv: subspaces"] == "the results of weighing have no subspaces.csv"
    assert absent["landscape/losses.csv: base_loss"] == "the study has no results of landscape"
    assert "weighing/pairs.csv: weights" not in absent


def test_asymmetric_measures_are_averaged_and_empty_names_leave_no_trace(tmp_path):
    head = {"scope": "global", "model_a": "en-es", "model_b": "en-it"}
    rows = [
        {**head, "side": "left", "measure": "sar", "value": 0.4},
        {**head, "model_a": "en-it", "model_b": "en-es", "side": "left", "measure": "sar", "value": 0.6},
        {**head, "side": "", "measure": "tsv_interference", "value": 3},
    ]
    frame, _ = predictors.read(written(tmp_path, "weighing", "subspaces", rows), SPECIALISTS, DIRECTIONS)
    assert long(frame) == {
        ("es", "it", "subspaces.sar.left"): pytest.approx(0.5),
        ("es", "it", "subspaces.tsv_interference"): 3,
    }


def test_layers_and_directions(tmp_path):
    head = {"span": "target", "layers": 2, "model_a": "en-es", "model_b": "en-it", "anc": 0.1}
    rows = [
        {**head, "direction": direction, "layer": layer, "variant": variant, "cka": worth + layer + shift}
        for direction, worth in (("en-es", 0), ("en-it", 2), ("en-de", 50))
        for layer in (0, 1, 10)
        for variant, shift in (("raw", 0), ("zscore", 100))
    ]
    frame, _ = predictors.read(written(tmp_path, "measurements", "cka", rows), SPECIALISTS, DIRECTIONS)
    found = long(frame)
    assert found["es", "it", "representations.cka.target.mean"] == pytest.approx(1 + 11 / 3)
    assert found["es", "it", "representations.cka.target.last"] == pytest.approx(1 + 10)  # layer 10 follows layer 1
    assert found["es", "it", "representations.anc.target.last"] == pytest.approx(0.1)
    assert len(found) == 4


def test_units_and_rotations_are_predictors_too(tmp_path):
    head = {"span": "target", "site": "mlp_gate", "ranking": "mutual_information"}
    unit = {**head, "model": "base", "frozen": True, "jaccard": 0.25}
    overlaps = [
        {**unit, "language_a": "it", "language_b": "es"},
        {**unit, "language_a": "es", "language_b": "es", "jaccard": 1.0},
        {**unit, "language_a": "es", "language_b": "it", "frozen": False, "jaccard": 9.0},
        {**unit, "language_a": "es", "language_b": "it", "site": "attention", "jaccard": 9.0},
        {**unit, "language_a": "es", "language_b": "it", "model": "en-es", "jaccard": 9.0},
    ]
    turnovers = [
        {**head, "model": model, "language": language, "jaccard": value}
        for model, language, value in (("en-es", "it", 0.4), ("en-it", "es", 0.6), ("en-es", "es", 9.0))
    ]
    pair = {"model_a": "en-es", "model_b": "en-it", "variant": "raw", "measure": "procrustes", "span": "source"}
    similar = [{**pair, "direction": "en-es", "layer": layer, "value": layer} for layer in (0, 1)]
    folders = {}
    for name, rows in (("overlaps", overlaps), ("turnovers", turnovers), ("similarity", similar)):
        folders |= written(tmp_path, "measurements", name, rows)
    frame, _ = predictors.read(folders, SPECIALISTS, DIRECTIONS)
    assert long(frame) == {
        ("es", "it", "units_in_base.jaccard.target"): 0.25,
        ("es", "it", "units_of_other_language.kept.target"): pytest.approx(0.5),
        ("es", "it", "representations.procrustes.source.mean"): 0.5,
    }


def test_numbers_of_one_language_give_mean_and_gap_and_models_are_tried_on_the_others_language(tmp_path):
    loss = {("base", "es"): 1.0, ("base", "it"): 3.0, ("base", "de"): 2.0}
    loss |= {("en-es", "es"): 0.1, ("en-es", "it"): 5.0, ("en-it", "es"): 7.0, ("en-it", "it"): 0.2}
    rows = [{"model": m, "language": code, "loss": value} for (m, code), value in loss.items()]
    frame, absent = predictors.read(written(tmp_path, "landscape", "losses", rows), SPECIALISTS, DIRECTIONS)
    found = long(frame)
    assert found["es", "it", "base_loss.mean"] == 2
    assert found["es", "it", "base_loss.gap"] == 2
    assert found["es", "de", "base_loss.gap"] == 1
    assert found["es", "it", "loss_on_other_language"] == 6
    assert len(found) == 7
    assert not any("losses" in title for title in absent)


def test_tables_that_are_not_as_expected_are_named(tmp_path):
    found = written(tmp_path, "weighing", "pairs", [{"model_a": "en-es", "value": 1}])
    _, absent = predictors.read(found, SPECIALISTS, DIRECTIONS)
    assert absent["weighing/pairs.csv: weights"] == "pairs.csv has no column model_b, measure, scope"
    row = {"model_a": "x", "model_b": "y", "scope": "global", "measure": "cosine", "value": 1}
    _, absent = predictors.read(written(tmp_path, "weighing", "pairs", [row]), SPECIALISTS, DIRECTIONS)
    assert absent["weighing/pairs.csv: weights"] == "no number for any pair of specialists or languages"
    with pytest.raises(InputError, match=r"pairs\.csv: column value: .*expected numbers"):
        predictors.read(written(tmp_path, "weighing", "pairs", [{**row, "value": "much"}]), SPECIALISTS, DIRECTIONS)
    (tmp_path / "weighing" / "pairs.csv").write_text("")
    with pytest.raises(InputError, match=r"pairs\.csv: not a table"):
        predictors.read({"weighing": tmp_path / "weighing"}, SPECIALISTS, DIRECTIONS)


def test_the_mapping_names_columns_that_the_stages_write():
    """One place maps columns; the writers' own lists of columns are the truth."""
    from langmerge.analysis import representations
    from langmerge.landscape import tables as landscape

    for found in predictors.TABLES:
        if found.place == "landscape":
            assert set(found.needed) <= set(landscape.COLUMNS[found.file]), found.title
    values = ("value", "low", "high", "n", "null")
    assert set(table("similarity", "representations").needed) <= {*representations.SIMILARITY, *values}
    assert set(table("languages", "languages_in_base").needed) <= {*representations.LANGUAGES, *values}


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path):
    """Results in which the cosine of two task vectors orders the retention of their merge, and drift does not."""
    rng = np.random.default_rng(0)
    kept = dict(zip(PAIRS, rng.permutation(np.linspace(0.1, 0.9, len(PAIRS))), strict=True))
    inputs = {}

    def result(name):
        folder = tmp_path / "results" / name
        inputs[name] = str(folder)
        return provenance.result(folder, {}, "", "")

    def system(key, scores):
        with result(f"systems/{key}") as job:
            table = {f"en-{code}": {"metrics": {"bleu": {"score": score}}} for code, score in scores.items()}
            provenance.write_json(job.folder / "scores.json", {"test": table})

    system("base", dict.fromkeys(LANGUAGES, 20.0))
    for code in LANGUAGES:
        system(f"en-{code}", {code: 60.0})
    pairs = []
    for (a, b), share in kept.items():
        key = f"slerp.{a}+{b}"
        system(key, {a: 20 + 40 * (share - 0.05), b: 20 + 40 * (share + 0.05)})
        pairs.append({"key": key, "method": "slerp", "languages": [b, a]})
    with result("comparisons") as job:
        head = {"baseline": "base", "metric": "bleu", "standard_error": 2.0}
        rows = [{"system": f"en-{code}", "direction": f"en-{code}", **head} for code in LANGUAGES]
        pd.DataFrame(rows).to_csv(job.folder / "comparisons.csv", index=False)
    with result("weighing/seed1/from-en") as job:
        rows = [
            {"model_a": f"en-{a}", "model_b": f"en-{b}", "scope": "global", "measure": measure, "value": value}
            for (a, b), share in kept.items()
            for measure, value in (("cosine", math.log(share)), ("drift", rng.normal()), ("flat", 1.0))
        ]
        pd.DataFrame(rows).to_csv(job.folder / "pairs.csv", index=False)
    ways = {code: f"en-{code}" for code in LANGUAGES}
    stratum = {"seed": 1, "group": "from-en", "base": "base", "directions": ways, "specialists": ways, "labels": ways}
    spec = {
        "languages": LANGUAGES, "strata": [{**stratum, "pairs": pairs}], "outcome": "retention", "metric": "bleu",
        "split": "test", "permutations": 500, "samples": 100, "seed": 1,
    }  # fmt: skip
    return spec, inputs, kept


def run(spec, inputs, out):
    main(["--spec", json.dumps(spec), "--inputs", json.dumps(inputs), "--out", str(out)])


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_planted_predictor_is_found(study, tmp_path):
    spec, inputs, kept = study
    run(spec, inputs, tmp_path / "out")
    rows = {row["measure"]: row for row in read(tmp_path / "out" / "predictors.csv")}
    cosine, drift, flat = (rows[f"weights.{name}"] for name in ("cosine", "drift", "flat"))
    assert float(cosine["rho"]) == pytest.approx(1)
    assert float(cosine["p"]) == pytest.approx(1 / 120) == float(cosine["least_p"])
    assert float(cosine["p_corrected"]) <= 2 / 120 + 1e-9
    assert (cosine["scope"], cosine["method"], cosine["pairs"], cosine["tests"]) == ("from-en", "slerp", "10", "2")
    assert float(cosine["left_out_low"]) == pytest.approx(1)
    assert float(drift["p"]) > 0.05
    assert (flat["status"], flat["p"]) == ("constant", "")
    missing = rows["landscape/gradients.csv: gradients"]
    assert missing["status"] == "absent: the study has no results of landscape"
    damage = read(tmp_path / "out" / "damage.csv")
    assert len(damage) == len(PAIRS) * 3
    for row in damage:
        assert float(row["retention"]) == pytest.approx(kept[row["language_a"], row["language_b"]])
    summary = provenance.read_json(tmp_path / "out" / "summary.json")
    assert summary["measures"] == ["weights.cosine", "weights.drift", "weights.flat"]
    assert "all permutations" in summary["p"]


def test_without_any_table_the_damage_is_still_written(study, tmp_path):
    spec, inputs, _ = study
    run(spec, {name: folder for name, folder in inputs.items() if "weighing" not in name}, tmp_path / "out")
    assert len(read(tmp_path / "out" / "damage.csv")) == len(PAIRS)
    assert all(row["status"].startswith("absent") for row in read(tmp_path / "out" / "predictors.csv"))


def test_a_pair_whose_specialist_gained_nothing_is_left_out(study, tmp_path):
    spec, inputs, _ = study
    path = tmp_path / "results/systems/en-tr/scores.json"
    path.write_text(path.read_text().replace("60.0", "21.0"))
    run(spec, inputs, tmp_path / "out")
    row = next(r for r in read(tmp_path / "out" / "predictors.csv") if r["measure"] == "weights.cosine")
    assert row["pairs"] == "6"
    assert float(row["rho"]) == pytest.approx(1)


def test_errors_name_what_is_missing(study, tmp_path):
    spec, inputs, _ = study
    fewer = {name: folder for name, folder in inputs.items() if name != "systems/slerp.es+it"}
    with pytest.raises(InputError, match=r"no systems/slerp\.es\+it"):
        run(spec, fewer, tmp_path / "out")
    with pytest.raises(InputError, match="split dev, direction en-es"):
        run({**spec, "split": "dev"}, inputs, tmp_path / "out")
    with pytest.raises(InputError, match="outcome: expected one of retention"):
        run({**spec, "outcome": "ruin"}, inputs, tmp_path / "out")
    path = tmp_path / "results/comparisons/comparisons.csv"
    path.write_text(
        "".join(line for line in path.read_text().splitlines(keepends=True) if not line.startswith("en-it"))
    )
    with pytest.raises(InputError, match="no row of en-it against base"):
        run(spec, inputs, tmp_path / "out")
