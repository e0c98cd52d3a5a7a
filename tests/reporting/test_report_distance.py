"""The report of a study of distance on planted results: every number and verdict follows from what was planted."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from langmerge import config, plan
from langmerge.reporting.figures import style
from langmerge.reporting.studies import distance, distance_measures, dyads
from langmerge.reporting.studies.distance_claims import find, verdict
from langmerge.reporting.studies.distance_evidence import Evidence
from langmerge.reporting.studies.results import Samples, load
from langmerge.reporting.verdicts import INCONCLUSIVE, NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED

ROOT = Path(__file__).resolve().parents[2]
N = 12  # items
BASE, OWN = 40.0, 30.0  # bits per sentence
SLOPES = {"lexicon": -0.1, "order": -0.2, "script": -0.4, "agreement": -0.15}
TOGETHER, AT_ZERO, TWINS = 0.03, 0.9, 1.1
NOISE = 0.005


def matrices(codes):
    """The kinds of distance by the codes' names, as the report must find them from the grammar's files."""
    parts = [set(code.split("-")[1:]) for code in codes]
    doses = [max([int(p[5:]) / 100 for p in part if p.startswith("relex")], default=0.0) for part in parts]
    found = {"lexicon": np.abs(np.subtract.outer(doses, doses))}
    for kind, name in (("order", "sov"), ("script", "script"), ("agreement", "noagree")):
        has = np.array([name in part for part in parts])
        found[kind] = (has[:, None] != has[None, :]).astype(float)
    return found


def kept(codes, a, b, seed):
    """Planted retention of a pair."""
    if "twin" in (a, b):
        other = ({a, b} - {"twin"}).pop()
        if other == codes[0]:
            return TWINS
        a, b = codes[0], other
    i, j = codes.index(a), codes.index(b)
    by_kind = {kind: matrix[i, j] for kind, matrix in matrices(codes).items()}
    products = sum(x * y for x, y in itertools.combinations(by_kind.values(), 2))
    rng = np.random.default_rng([seed, i, j])
    linear = sum(SLOPES[kind] * value for kind, value in by_kind.items())
    return AT_ZERO + linear + TOGETHER * products + NOISE * rng.normal()


def write_text(folder, planted, harder):
    """Scores of N sentences with the planted bits per sentence; Cyrillic letters take two bytes."""
    (folder / "statistics").mkdir(parents=True)
    scores = {}
    for language, bits in planted.items():
        size = 100.0 if "script" in language else 50.0
        value = bits * (1.2 if language == harder else 1.0)
        noise = 1 + np.linspace(-0.01, 0.01, N)
        array = np.column_stack([value * math.log(2) * noise, np.full(N, size)])
        ids = np.array([f"s{i}" for i in range(N)])
        np.savez(folder / "statistics" / f"test.text.{language}.npz", ids=ids, bits_per_byte=array)
        metric = {"bits_per_byte": {"score": value / size, "signature": ""}}
        scores[f"text.{language}"] = {"task": "text", "language": language, "n": N, "groups": {}, "metrics": metric}
    (folder / "scores.json").write_text(json.dumps({"test": scores}))


def bits(codes, system):
    """Planted bits per sentence of a system, by language."""
    models = system.details["models"]
    if models == ["base"]:
        return dict.fromkeys(codes, BASE)
    languages = [codes[0] if model == "twin" else model for model in models]
    if len(models) == 1:
        return dict.fromkeys(languages, OWN)
    retention = kept(codes, *models, system.seed)
    if system.details["method"] == "ties":
        retention = 2 * retention - 1
    return dict.fromkeys(languages, BASE - retention * (BASE - OWN))


def write_diagnoses(codes, job, seed):
    """A measure that is the retention, one that is its noise, one that says nothing, one of two sides."""
    rng, rows = np.random.default_rng(seed), []
    for a, b in job.spec["pairs"]:
        found = {"cosine": kept(codes, a, b, seed), "sign_conflict": rng.normal(), "norm_ratio": rng.normal()}
        found |= {"cka.a": 0.2, "cka.b": 0.4, "midpoint.mean": -kept(codes, a, b, seed)}
        rows += [{"a": a, "b": b, "measure": name, "value": value} for name, value in found.items()]
    Path(job.folder).mkdir(parents=True)
    pd.DataFrame(rows).to_csv(Path(job.folder) / "pairs.csv", index=False)


def finished(folder, patch, scale="cpu", harder="", **changes):
    """A plan's results as frames; sweeps and diagnoses are written as far as the report reads them."""
    patch.chdir(ROOT)
    patch.setattr(distance_measures, "PERMUTATIONS", 299)
    files = [ROOT / f"config/scales/{scale}.distance.yaml", ROOT / "config/studies/distance.yaml"]
    values = config.merge_defaults(*map(config.read_yaml, files))
    values["evaluation"] |= {"bootstrap_samples": 60}
    built = plan.build(config.Distance.model_validate({**values, **changes}), "distance", str(folder))
    codes = list(built.study.languages)
    for system in built.systems:
        write_text(Path(system.folder), bits(codes, system), harder)
    for job in built.jobs.values():
        if job.rule == "sweep_merges":
            recipes = {e["name"]: {"recipe": e["candidates"][0], "trials": []} for e in job.spec["merges"]}
            (Path(job.folder) / "selection.json").write_text(json.dumps(recipes))
            (Path(job.folder) / "manifest.json").write_text(json.dumps({"spec": job.spec, "outputs": {}}))
        if job.rule == "diagnose_pairs":
            write_diagnoses(codes, job, int(Path(job.folder).parent.name.removeprefix("seed")))
        if job.rule == "train_model":
            Path(job.folder).mkdir(parents=True)
            (Path(job.folder) / "cost.json").write_text(json.dumps({"tokens": 1, "flops": 1.0, "seconds": 1.0}))
    report = built.report
    spec = json.loads(json.dumps(report.spec))
    return load(spec, {name: Path(place) for name, place in report.inputs.items()})


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as one:
        yield one


@pytest.fixture(scope="module")
def evidence(tmp_path_factory, patch):
    return Evidence(Samples(finished(tmp_path_factory.mktemp("distance"), patch, seeds=[1, 2])))


@pytest.fixture(scope="module")
def findings(evidence):
    return {finding.name: finding for finding in find(evidence)}


def test_kinds_are_those_that_the_grammar_declares(evidence):
    expected = matrices(evidence.results.languages)
    assert set(evidence.distances) == set(expected)
    for kind, matrix in expected.items():
        assert evidence.distances[kind] == pytest.approx(matrix), kind
    assert evidence.names["es"] == "es" and evidence.names["es-relex25"] == "W25"
    assert evidence.names["es-relex100-sov-script"] == "W100 O S"


def test_systems_have_the_roles_that_the_plan_gave_them(evidence):
    systems = evidence.results.systems
    assert set(systems[systems.role == "base"].name) == {"base"}
    assert set(systems[systems.role == "specialist"].name) == {*evidence.results.languages, "twin"}
    assert set(systems[systems.role == "pair"].models.map(len)) == {2}
    assert set(systems[systems.name == "twin"].language) == {"es"}


def test_retention_and_loss_are_the_planted_ones(evidence):
    table = evidence.outcomes["linear"]
    codes = evidence.results.languages
    for row in table.sample(20, random_state=1).itertuples():
        expected = kept(codes, row.a, row.b, row.seed)
        assert row.retention == pytest.approx(expected)
        assert row.loss == pytest.approx((1 - expected) * (BASE - OWN))
    n = len(codes) + 1
    assert len(table) == 2 * n * (n - 1) // 2


def test_a_sentence_costs_the_same_bits_in_a_script_of_two_bytes(evidence):
    table = evidence.difficulty.set_index("language")
    assert table.bytes["es-script"] == 2 * table.bytes["es"]
    assert [sample.point for sample in table.specialist] == pytest.approx([OWN] * len(table))
    assert [sample.point for sample in table.gain] == pytest.approx([BASE - OWN] * len(table))


def test_planted_effects_come_back_with_the_interaction(evidence):
    both = {**evidence.distances, "x": distance_measures.interaction(evidence.distances)}
    found = dyads.slopes(evidence.outcome("linear"), both)
    assert found == pytest.approx([AT_ZERO, *SLOPES.values(), TOGETHER], abs=3 * NOISE)
    table = evidence.effects["linear", "retention"].set_index("kind")
    assert table.together[distance_measures.INTERACTION] == pytest.approx(TOGETHER, abs=3 * NOISE)
    assert (table.low < table.together).all() and (table.together < table.high).all()
    by_loss = evidence.effects["linear", "loss"].set_index("kind")
    assert by_loss.together["script"] == pytest.approx(-(BASE - OWN) * table.together["script"])


def test_a_kind_that_switches_another_off_is_found(evidence):
    """Words matter within one script only."""
    kinds = evidence.distances
    outcome = 0.9 - 0.1 * kinds["script"] - 0.5 * kinds["lexicon"] * (1 - kinds["script"])
    assert distance_measures.moderator(outcome, kinds) == "script"
    factors = distance_measures.split(kinds, "script")
    found = dict(zip(factors, dyads.slopes(outcome, factors)[1:], strict=True))
    assert found["lexicon/same"] == pytest.approx(-0.5) and found["script"] == pytest.approx(-0.1)
    assert [found[name] for name in ("lexicon/other", "order/same", "order/other")] == pytest.approx([0, 0, 0])


def test_verdicts_follow_from_what_was_planted(findings):
    expected = dict.fromkeys((f"ours-D{k}" for k in range(1, 11)), REPRODUCED)
    expected["ours-D9"] = NOT_REPRODUCED  # planted: script costs more than what others lose beside it
    expected["ours-D7"] = findings["ours-D7"].verdict  # the noise of the planted retention: see below
    assert {name: finding.verdict for name, finding in findings.items()} == expected
    assert "Script costs most here, word order is next" in findings["ours-D4"].measured
    assert "in 2 of 2 seeds" in findings["ours-D4"].measured
    assert "cosine of task vectors" in findings["ours-D6"].measured
    assert "+1.00" in findings["ours-D2"].measured  # 1.1 of 10 bits against 1.0


@pytest.mark.parametrize(
    ("side", "low", "high", "p", "expected"),
    [
        (-1, -0.3, -0.1, 0.0, REPRODUCED),
        (-1, 0.1, 0.3, 0.0, NOT_REPRODUCED),
        (0.4, 0.1, 0.3, 0.049, REPRODUCED),
        (1, 0.1, 0.3, 0.05, INCONCLUSIVE),
        (1, -0.1, 0.3, 0.0, INCONCLUSIVE),
        (1, math.nan, math.nan, 0.0, INCONCLUSIVE),
        (1, 0.1, 0.3, math.nan, INCONCLUSIVE),
    ],
)
def test_a_verdict_needs_interval_and_p_on_one_side(side, low, high, p, expected):
    assert verdict(side, low, high, p) == expected


def test_the_measure_that_is_the_outcome_is_best_and_chance_is_not_significant(evidence):
    table = evidence.foresight.set_index("name")
    assert table.index[0] == "cosine" and table.rho["cosine"] == pytest.approx(1)
    assert table.p_max["cosine"] < 0.05 < table.p_max["norm_ratio"]
    assert table.partial["cosine"] > 0.9  # it knows the interaction and the noise
    assert table.rho["midpoint.mean"] == pytest.approx(-1) and not table.before["midpoint.mean"]
    assert "cka.cross" not in table.index  # constant
    assert table.q2["cosine"] == pytest.approx(1) and table.q2["norm_ratio"] < 0.2


def test_what_the_kinds_do_to_a_measure_is_in_its_standard_deviations(evidence):
    measured = {"cosine": evidence.measured["cosine"], "constant": np.ones_like(evidence.measured["cosine"])}
    table = distance_measures.diagnosed(measured, evidence.distances, 1).set_index("kind")
    spread = dyads.upper(measured["cosine"]).std()
    expected = evidence.effects["linear", "retention"].set_index("kind").together
    for kind in SLOPES:
        assert table.together[kind] == pytest.approx(expected[kind] / spread)
    assert set(table.name) == {"cosine"}
    assert table.r2["script"] == pytest.approx(dyads.explained(evidence.outcome("linear"), evidence.distances))


def test_sides_of_a_measure_are_averaged(evidence):
    assert distance_measures.diagnoses(evidence.results).query("measure == 'cka.cross'").value.unique() == [
        pytest.approx(0.3)
    ]


def test_a_harder_language_is_seen(tmp_path, patch):
    small = finished(tmp_path, patch, scale="smoke", harder="es-sov")
    found = {finding.name: finding for finding in find(Evidence(Samples(small)))}
    assert found["ours-D1"].verdict == NOT_REPRODUCED and "+20.0 %" in found["ours-D1"].measured
    assert found["ours-D1"].measured.endswith("words 0.0 %, word order +20.0 %, script 0.0 %")


def test_the_whole_report_is_composed(evidence):
    with style():
        document = distance.compose(evidence.results)
    assert {table.name for table in document.tables} >= {"difficulty", "effects", "foresight", "diagnoses", "findings"}
    assert [figure.name for figure in document.figures] == [
        "dose",
        "effects",
        "conditional",
        "pairs",
        "foresight",
        "scatter",
    ]
    titles = [section.title for section in document.sections]
    assert "Which kind of distance: script costs most" in titles
    assert "What tells beforehand: cosine of task vectors" in titles
    assert "is script. Where two languages are alike in it, a full difference" in document.sections[0].blocks[0]
    assert "by: word order −0." in document.sections[0].blocks[0]
    pairs = len(evidence.results.languages) * (len(evidence.results.languages) - 1) // 2
    assert f"{pairs} pairs" in next(table.caption for table in document.tables if table.name == "effects")


def test_four_languages_without_twin_and_diagnoses_are_reported_as_far_as_they_go(tmp_path, patch):
    small = finished(tmp_path, patch, scale="smoke", twin=False, diagnosis=None)
    with style():
        document = distance.compose(small)
    verdicts = {finding.name: finding.verdict for finding in document.findings}
    assert verdicts["ours-D2"] == verdicts["ours-D6"] == verdicts["ours-D7"] == NOT_TESTABLE
    assert verdicts["ours-D3"] == INCONCLUSIVE  # three languages' worth of relabelings prove nothing
    assert "foresight" not in {table.name for table in document.tables}


def test_one_seed_says_nothing_of_how_retention_repeats(tmp_path, patch, evidence):
    """A number that there is not stands nowhere; with two seeds it does."""
    one = Evidence(Samples(finished(tmp_path, patch, scale="smoke", seeds=[1])))
    for found, said in ((one, False), (evidence, True)):
        with style():
            document = distance.compose(found.results)
        claim = next(finding.measured for finding in document.findings if finding.name == "ours-D6")
        caption = next(table.caption for table in document.tables if table.name == "foresight")
        assert np.isfinite(found.repeats) == said
        assert ("repeats over seeds" in claim, "Between seeds" in caption) == (said, said)
        assert claim.startswith("Best of")
