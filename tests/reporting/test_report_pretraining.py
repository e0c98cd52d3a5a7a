"""The report of a study of pre-training on planted results: every number and verdict follows from what was planted."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from langmerge import config, plan
from langmerge.reporting.figures import style
from langmerge.reporting.studies import pretraining
from langmerge.reporting.studies import pretraining_measures as measures
from langmerge.reporting.studies import pretraining_tables as tables
from langmerge.reporting.studies.results import Samples, load
from langmerge.reporting.verdicts import INCONCLUSIVE, NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED

ROOT = Path(__file__).resolve().parents[2]
N, BYTES = 40, 50.0
LANGUAGES = ["es", "it", "tr"]
OWN = {"es": 1.0, "it": 1.1, "tr": 1.3}  # bits per byte of monolingual models in their language
ORIGIN = 1.9  # of random weights
COLLAPSE = {"shared": 2.0, "different": 3.0}  # what merges of all lose
SHIFTS: dict[tuple[int, str], float] = {}  # by which the merges of a seed and a group differ from these
BRANCHES = {0.0: 2.0, 0.1: 0.5, 0.5: 0.1}  # what merges of branches lose
PAIRS = {"es–it": 0.5, "es–tr": 1.5, "it–tr": 1.0}


def bits(system, language):
    """Planted bits per byte of a system."""
    role, details = system.role, system.details
    own = OWN[language]
    if role == "origin":
        return ORIGIN
    if role in ("monolingual", "branch"):
        return own if details["language"] == language else own + 2.5
    if role == "mixed":
        return own + (0.2 if details["tokens"] == "each" else 0.6)
    if role == "pair":
        return own + PAIRS["–".join(details["languages"])] * (2.5 if system.group == "different" else 1)
    if role == "merge":
        shift = SHIFTS.get((system.seed, system.group), 0.0)
        return own + COLLAPSE[system.group] + shift + (0.1 if details["method"] == "ties" else 0.0)
    return own + BRANCHES[details["share"]]


def write(folder, system, noise):
    """Scores of N sentences, whose bits are exact in the mean."""
    (folder / "statistics").mkdir(parents=True)
    tests = {}
    for language in system.details.get("languages") or LANGUAGES:
        value = bits(system, language)
        # Merges find hard what models find easy, so that a difference of two is as noisy as it can be.
        sign = -1 if system.role in ("merge", "pair", "branch_merge") else 1
        nats = value * math.log(2) * BYTES * (1 + sign * noise * np.linspace(-1, 1, N))
        arrays = {"bits_per_byte": np.column_stack([nats, np.full(N, BYTES)])}
        np.savez(folder / "statistics" / f"test.text.{language}.npz", ids=np.arange(N).astype(str), **arrays)
        metrics = {"bits_per_byte": {"score": value, "signature": "planted"}}
        tests[f"text.{language}"] = {"task": "text", "language": language, "n": N, "metrics": metrics, "groups": {}}
    (folder / "scores.json").write_text(json.dumps({"test": tests}))


@pytest.fixture
def make(tmp_path, monkeypatch):
    """``make({...})``: the results of the shipped study at smoke scale with these keys, as planted above."""
    monkeypatch.chdir(ROOT)

    def build(noise=0.01, **keys):
        paths = (Path("config/scales/smoke.pretraining.yaml"), Path("config/studies/pretraining.yaml"))
        values = config.merge_defaults(*map(config.read_yaml, paths)) | {
            "tasks": None,
            "merging": {"all": {"linear": {}, "ties": {}}, "pairs": {"linear": {}}},
            "branches": {"shares": list(BRANCHES)},
            "run": {"steps": 10, "learning_rate": 0.1},
        }
        values["evaluation"] = {"bootstrap_samples": 200}
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        planned = plan.build(config.Pretraining.model_validate(values | keys), "p", str(root))
        inputs = {}
        for name, folder in planned.report.inputs.items():
            inputs[name] = Path(folder)
            inputs[name].mkdir(parents=True, exist_ok=True)
            if name.startswith("costs/"):
                (inputs[name] / "cost.json").write_text(json.dumps({"tokens": 10, "flops": 20, "seconds": 1.5}))
            if name.startswith("sweeps/"):
                (inputs[name] / "selection.json").write_text("{}")
            if name.startswith("diagnoses/"):
                diagnose(inputs[name], planned, name)
        for system in planned.systems:
            write(Path(system.folder), system, noise)
        return load(planned.report.spec, inputs)

    return build


def diagnose(folder, planned, name):
    """CKA falls exactly as pair damage rises."""
    job = next(job for job in planned.jobs.values() if job.folder == str(folder))
    spoken = job.spec["languages"]
    pairs = [(a, b, "–".join([spoken[a], spoken[b]])) for a, b in job.spec["pairs"]]
    factor = 2.5 if "different" in name else 1
    rows = [
        {"a": a, "b": b, "measure": f"cka.{side}", "value": 1 - PAIRS[pair] * factor / 10 + 0.01 * sign}
        for a, b, pair in pairs
        for side, sign in (("a", 1), ("b", -1))
    ]
    pd.DataFrame(rows).assign(low=np.nan, high=np.nan).to_csv(folder / "pairs.csv", index=False)
    pd.DataFrame(
        [{"a": a, "b": b, "measure": "cka.a", "layer": n, "value": 0.5} for a, b, _ in pairs for n in (0, 1)]
    ).to_csv(folder / "layers.csv", index=False)
    pd.DataFrame(
        [
            {"a": a, "b": b, "language": spoken[a], "alpha": x, "bits_per_byte": 1 + x * (1 - x)}
            for a, b, _ in pairs
            for x in (0, 0.5, 1)
        ]
    ).to_csv(folder / "curve.csv", index=False)


def verdicts(results):
    return {finding.name: finding for finding in pretraining.find(Samples(results))}


def test_damage_is_what_was_planted(make):
    samples = Samples(make())
    points = measures.branch_points(samples)
    assert {share: pytest.approx(found["linear"].point, abs=1e-9) for share, found in points.items()} == BRANCHES
    table = measures.pair_damage(samples)
    shared = table[table.group == "shared"].set_index("pair").damage
    assert dict(shared) == {pair: pytest.approx(loss, abs=1e-9) for pair, loss in PAIRS.items()}
    assert dict(table[table.group == "different"].set_index("pair").damage) == {
        pair: pytest.approx(2.5 * loss, abs=1e-9) for pair, loss in PAIRS.items()
    }


def test_verdicts_follow_the_planted_numbers(make):
    found = verdicts(make())
    expected = dict.fromkeys(["P1-1", "P1-2", "P1-3", "P1-4", "P1-5", "P1-5b", "P1-6"], REPRODUCED)
    assert {name: finding.verdict for name, finding in found.items()} == expected
    # two groups of (two methods of all, three pairs)
    assert "of 10 merges" in found["P1-2"].measured and "Linear of es+it, shared" in found["P1-2"].measured
    # what Spanish and Italian had learnt: 1.9 less 1.05
    assert "0.500" in found["P1-2"].measured and f"{0.5 / 0.85:.0%}".rstrip("%") in found["P1-2"].measured
    assert "1.800" in found["P1-4"].measured  # 2.0 of the best merge less 0.2 of the mixed model
    assert "+0.200" in found["P1-1"].measured
    assert "1.900" in found["P1-5"].measured
    assert "+1.000" in found["P1-6"].measured
    assert not any("alone" in finding.measured for finding in found.values())


def test_seeds_are_counted_that_say_the_same_when_taken_alone(make, monkeypatch):
    results = make(seeds=[1, 2])
    for finding in verdicts(results).values():
        assert finding.verdict == REPRODUCED and finding.measured.endswith("(same verdict in 2 of 2 seeds)")
    # in the second seed merges from different weights lose less, by less than they lose more in the first
    monkeypatch.setitem(SHIFTS, (2, "different"), COLLAPSE["shared"] - COLLAPSE["different"] - 0.2)
    found = verdicts(make(seeds=[1, 2]))["P1-6"]
    assert found.verdict == REPRODUCED and "+0.400" in found.measured
    assert found.measured.endswith("(same verdict in 1 of 2 seeds)")


def test_the_opposite_is_not_reproduced(make, monkeypatch):
    monkeypatch.setitem(COLLAPSE, "shared", -0.5)
    monkeypatch.setitem(COLLAPSE, "different", -0.7)
    found = verdicts(make())
    for name in ("P1-2", "P1-3", "P1-4", "P1-6"):
        assert found[name].verdict == NOT_REPRODUCED, name


def learnt(*languages):
    return ORIGIN - float(np.mean([OWN[code] for code in languages]))


def test_merges_that_lose_half_of_what_was_learnt_are_inconclusive(make, monkeypatch):
    """Half is where a collapse begins; less is none, however sure the loss."""
    for share, verdict in ((0.5, INCONCLUSIVE), (0.2, NOT_REPRODUCED), (0.8, REPRODUCED)):
        for group in COLLAPSE:
            monkeypatch.setitem(COLLAPSE, group, share * learnt(*LANGUAGES))
        for pair in PAIRS:
            monkeypatch.setitem(PAIRS, pair, share * learnt(*pair.split("–")))
        results = make(noise=0.2, initialisations=["shared"])
        assert verdicts(results)["P1-2"].verdict == verdict
        gap = measures.damage(Samples(results), [results.select(role="merge").key.iloc[0]], "shared", LANGUAGES)
        assert gap.interval[0] <= gap.point <= gap.interval[1]


def test_merges_worse_than_random_weights_are_named(make, monkeypatch):
    assert "worse than random weights" in verdicts(make())["P1-6"].measured
    monkeypatch.setitem(COLLAPSE, "shared", 0.1)
    measured = verdicts(make())["P1-6"].measured
    assert "the merge from different initialisations" in measured and "from shared initialisation" not in measured


def test_a_branch_point_that_loses_more_than_the_first_is_named(make, monkeypatch):
    assert "not everywhere" not in verdicts(make())["P1-5"].measured
    monkeypatch.setitem(BRANCHES, 0.1, 2.4)
    measured = verdicts(make())["P1-5"].measured
    assert "not everywhere: most is lost at 10 %, 2.400" in measured


def test_tables_of_pairs_and_branches_hold_what_was_planted(make):
    samples = Samples(make(seeds=[1, 2]))
    pairs = tables.pair_table(samples, {"shared": "shared", "different": "different"})
    losses = pairs.data.set_index(["group", "method", "pair"]).damage
    assert losses["shared", "linear", "es–tr"] == pytest.approx(PAIRS["es–tr"])
    assert losses["different", "linear", "it–tr"] == pytest.approx(2.5 * PAIRS["it–tr"])
    assert pairs.rows[0][1].text.startswith(f"{np.mean(list(PAIRS.values())):.3f} [")
    branches = tables.branch_table(samples)
    values = branches.data.set_index(["share", "what"]).value
    assert dict(values[:, "linear loses"]) == {share: pytest.approx(loss) for share, loss in BRANCHES.items()}
    assert values[0.5, "branches"] == pytest.approx(np.mean(list(OWN.values())))
    assert f"{np.mean(list(OWN.values())) + 0.6:.3f}" in branches.caption
    assert tables.branch_table(Samples(make(branches=None))) is None


def test_what_the_study_lacks_is_not_testable(make):
    found = verdicts(make(initialisations=["shared"], mixed=[], branches=None))
    for name in ("P1-1", "P1-4", "P1-5", "P1-6"):
        assert found[name].verdict == NOT_TESTABLE, name


def test_similarity_that_foretells_damage_is_seen(make):
    table = measures.pair_damage(Samples(make(seeds=[1, 2])))
    assert measures.association(table, measures.SAME) == pytest.approx((-1, -1, -1))
    assert all(map(math.isnan, measures.association(table.assign(same=1.0), "same")))


def test_the_interval_of_an_association_leaves_out_groups_of_pairs():
    """By the formula, group by group; and copies of the pairs of a group make nothing surer."""
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"seed": 1, "group": np.repeat(list("abcdef"), 3), "cka": rng.normal(size=18)})
    table["damage"] = rng.normal(size=18) - table.cka
    rho, low, high = measures.association(table, "cka")
    found = np.array(
        [stats.spearmanr(rest.cka, rest.damage).statistic for rest in (table[table.group != g] for g in "abcdef")]
    )
    error = math.sqrt(5 / 6 * ((found - found.mean()) ** 2).sum())
    assert rho == pytest.approx(stats.spearmanr(table.cka, table.damage).statistic)
    assert high - rho == pytest.approx(stats.t.ppf(0.975, 5) * error)
    assert measures.association(pd.concat([table] * 10), "cka") == pytest.approx((rho, low, high))
    few = measures.association(table[table.group < "d"], "cka")
    assert math.isfinite(few[0]) and all(map(math.isnan, few[1:]))


def test_the_document_has_its_tables_and_figures(make):
    with style():
        document = pretraining.compose(make(seeds=[1, 2]))
    assert {figure.name for figure in document.figures} >= {"pairs", "branches", "barriers", "layers", "similarity"}
    assert {table.name for table in document.tables} >= {"scores_text", "findings", "cost", "models"}
    scores = next(table for table in document.tables if table.name == "scores_text").data
    own = scores[(scores.system == "Monolingual, shared initialisation") & (scores.language == "tr")]
    assert own.score.iloc[0] == pytest.approx(OWN["tr"])
    table = next(table for table in document.tables if table.name == "scores_text")
    average = np.mean(list(OWN.values()))
    assert (table.columns[-1], table.rows[1][-1].text) == ("each seed", f"{average:.3f}, {average:.3f}")
    branches = next(figure for figure in document.figures if figure.name == "branches")
    assert "each seed" in branches.caption
