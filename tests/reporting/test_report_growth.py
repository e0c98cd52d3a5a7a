"""The report of a study of growth on planted results: every number and verdict follows from what was planted."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from langmerge import config, plan
from langmerge.csv_files import write_csv
from langmerge.growth import METHODS
from langmerge.plan import result_folder
from langmerge.reporting.figures import style
from langmerge.reporting.studies import growth, growth_claims
from langmerge.reporting.studies.growth_measures import Measures
from langmerge.reporting.studies.results import Samples, load

ROOT = Path(__file__).resolve().parents[2]
N = 12  # items
STEPS, SNAPSHOTS = 30, [10, 20]
LEARNT = {"1x": {0: 4.0, 10: 3.4, 20: 2.9, 30: 2.5}, "grown": {0: 4.0, 10: 2.3, 20: 2.0, 30: 1.8}}
LITTLE = {"1x": {0: 4.0, 3: 3.6}, "grown": {0: 4.0, 3: 3.5}}  # fr has three steps
PIVOT = {"1x": 2.6, "1x-cloned": 2.3, "2x": 2.2}  # after a language was learnt; 2.0 before
LOST = {"linear": 0.2, "multislerp": 0.25, "ties": 0.3, "dare_ties": 0.5, "fisher": 0.15, "task_arithmetic": 0.2}
WITHOUT_NOISE = 0.15  # what the control loses in its language
COPIES = {True: 0.43, False: 0.0}  # at birth, and so much more after each step:
PARTING = {True: 0.01, False: 1e-5}
GROWN_LOSES: dict[str, float] = {}  # by method what grown models lose in a merge, as a share of what small ones do
FLOPS = {"1x": 1000.0, "grown": 3000.0}  # a token


def scale(setup):
    return "1x" if setup == "1x" else "grown"


def learnt(setup, language, step):
    return (LITTLE if language == "fr" else LEARNT)[scale(setup)][step]


def final(setup, language):
    return learnt(setup, language, 3 if language == "fr" else STEPS)


def bits(system, language):
    """Planted bits per byte."""
    details, setup, role = system.details, system.group, system.role
    if role in ("source", "base", "grown"):
        return (2.0 if role == "source" else 2.2) if language == "en" else 4.0
    if role == "joint":
        return 2.05 if language == "en" else final(setup, language) - 0.1
    if role in ("snapshot", "specialist"):
        return PIVOT[setup] if language == "en" else learnt(setup, language, details["step"])
    if role == "control":
        return 2.35 if language == "en" else final(setup, language) + WITHOUT_NOISE
    assert role == "merge"
    if language == "en":
        return 2.1
    factor = 1.0 if setup == "1x" else GROWN_LOSES.get(details["method"], 0.25)
    return final(setup, language) + factor * LOST[details["method"]] * (details["size"] - 1)


def statistics(task, value):
    """Sufficient statistics of N items whose score is exactly the planted one; items differ, alike for all systems."""
    noise = np.linspace(-0.1, 0.1, N)
    if task == "text":
        return {"bits_per_byte": np.column_stack([value * math.log(2) * 50 * (1 + noise), np.full(N, 50.0)])}
    hits = (np.arange(N) < round(N * (1 - value / 10))).astype(float)
    return {"accuracy": np.column_stack([hits, np.ones(N)])}


def write_system(system, folder, tests):
    (folder / "statistics").mkdir(parents=True)
    scores = {}
    for test in tests:
        task, language = test["task"], test["language"]
        arrays = statistics(task, bits(system, language))
        np.savez(
            folder / "statistics" / f"test.{task}.{language}.npz", ids=np.array([f"s{i}" for i in range(N)]), **arrays
        )
        head = {"task": task, "language": language, "n": N, "groups": {}}
        scores[f"{task}.{language}"] = head | {"metrics": {name: {"score": 0.0, "signature": ""} for name in arrays}}
    (folder / "scores.json").write_text(json.dumps({"test": scores}))


def write_cost(job, folder, setup):
    folder.mkdir(parents=True, exist_ok=True)
    if job.rule == "grow_model":
        method = METHODS[job.spec["method"]]
        facts = {"parameters_before": 1000, "parameters": 3500, "preserves": method.preserves, "symmetry": "none"}
        facts |= {"max_logit_difference": 2e-6, "relative_logit_difference": 1e-6, "kl_divergence": 0.0}
        if method.name == "hyperclone":  # only it lays copies side by side
            facts |= {"symmetry": "broken", "copy_difference": 0.43}
        (folder / "cost.json").write_text(json.dumps(facts))
        return
    tokens = 100 * job.spec["steps"]
    facts = {"tokens": tokens, "flops": FLOPS[scale(setup)] * tokens, "seconds": 1.0}
    (folder / "cost.json").write_text(json.dumps(facts))
    log = [{"step": step, "tokens": 100 * step, "loss": 1.0} for step in range(1, job.spec["steps"] + 1)]
    (folder / "training_log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))


def finished(folder, monkeypatch, **changes):
    """A plan's results as frames; sweeps are written as far as the report reads them."""
    monkeypatch.chdir(ROOT)
    values = config.merge_defaults(
        *(config.read_yaml(ROOT / f"config/{name}.yaml") for name in ("scales/smoke.growth", "studies/growth"))
    )
    values["specialist"]["steps"], values["snapshots"], values["steps"] = STEPS, SNAPSHOTS, {"fr": 3}
    values["evaluation"] |= {"bootstrap_samples": 200}
    built = plan.build(config.Growth.model_validate({**values, **changes}), "growth", str(folder))
    for system in built.systems:
        job = built.jobs[result_folder(system.folder, built.jobs)]
        (entry,) = [e for e in job.spec["merges"] if e["name"] == system.name]
        write_system(system, Path(system.folder), entry["report"])
    for job in built.jobs.values():
        if job.rule in ("train_model", "grow_model"):
            name = job.folder.rpartition("/")[2]
            write_cost(job, Path(job.folder), "2x" if name.startswith(("2x", "1x-cloned")) else "1x")
        if job.rule == "measure_copies":
            rows = [
                row | {"difference": COPIES[row["noise"]] + PARTING[row["noise"]] * row["step"]}
                for row in job.spec["models"]
            ]
            Path(job.folder).mkdir(parents=True)
            write_csv(Path(job.folder) / "copies.csv", rows)
        if job.rule == "sweep_merges":
            recipes = {e["name"]: {"recipe": e["candidates"][0], "trials": []} for e in job.spec["merges"]}
            (Path(job.folder) / "selection.json").write_text(json.dumps(recipes))
            (Path(job.folder) / "manifest.json").write_text(json.dumps({"spec": job.spec, "outputs": {}}))
    spec = json.loads(json.dumps(built.report.spec))
    assert not spec["systems"]
    return load(spec, {name: Path(place) for name, place in built.report.inputs.items()})


@pytest.fixture(scope="module")
def monkeymodule():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def results(tmp_path_factory, monkeymodule):
    return finished(tmp_path_factory.mktemp("growth"), monkeymodule, seeds=[1, 2])


@pytest.fixture(scope="module")
def measures(results):
    return measured(results)


@pytest.fixture(scope="module")
def document(results):
    with style():
        return growth.compose(results)


def measured(results):
    return Measures(Samples(results))


def close(sample, value):
    return sample.point == pytest.approx(value, abs=1e-9)


def test_costs_are_means_over_seeds(document, results):
    table = next(one for one in document.tables if one.name == "cost")
    assert [row[0].text for row in table.rows] == list(dict.fromkeys(results.costs.name))
    assert len(table.data) == len(results.costs) and "joules" not in table.columns
    assert "No counter of energy" in table.caption


def test_scores_say_their_unit_and_titles_differ(document):
    captions = {table.name: table.caption for table in document.tables}
    assert captions["final_minimal_pairs"].startswith("Accuracy in %")
    assert captions["final_text"].startswith("Bits/byte, lower")
    titles = [table.title for table in document.tables]
    assert len(set(titles)) == len(titles)


def test_curves_have_tokens_and_flops(measures):
    points = measures.curve("2x", "de")
    assert [(p.step, p.tokens, p.flops) for p in points] == [
        (0, 0, 0), (10, 1000, 3e6), (20, 2000, 6e6), (30, 3000, 9e6),
    ]  # fmt: skip
    # base: 6 steps small; finish: 2 steps, small or grown; growing itself costs nothing
    before = {"1x": 600e3 + 200e3, "1x-cloned": 600e3 + 200e3, "2x": 600e3 + 3 * 200e3}
    assert {setup: measures.source_flops(setup) for setup in before} == before
    assert points[1].total == before["2x"] + 3e6
    assert len(points[0].systems) == 2, "one a seed"


def test_scores_are_read_between_steps(measures):
    assert close(measures.at("1x", "de", 1e6), 3.4)
    assert close(measures.at("1x", "de", 1.5e6), (3.4 + 2.9) / 2)
    assert close(measures.at("1x", "de", 5e5), (4.0 + 3.4) / 2)
    assert close(measures.at("1x", "de", 9e9), 2.5), "not beyond the last step"


def test_equal_compute_compares_what_both_have_spent(measures):
    assert close(measures.equal_compute("1x-cloned", "de"), 2.5 - 2.3)
    assert close(measures.equal_compute("2x", "fr"), 3.6 - (4.0 + (3.5 - 4.0) / 3))
    assert measures.matched("2x", "de") is None


def test_losses_and_kept_shares(measures):
    assert close(measures.forgetting("1x", ["de", "fr"]), 0.6)
    assert close(measures.size_loss("1x", "ties", 3), 0.6)
    assert close(measures.size_loss("2x", "ties", 2), 0.3 / 4)
    (systems,) = measures.merges("1x", "linear", 3).values()
    assert close(measures.joint_gap("1x", systems, ["de", "tr"]), 0.4 + 0.1)
    shares = [(4.0 - (final("1x", code) + 0.4)) / (4.0 - final("1x", code)) for code in ("de", "tr", "fr")]
    assert close(measures.kept("1x", "linear"), np.mean(shares))


def test_verdicts_follow_from_what_was_planted(document):
    verdicts = {finding.name: finding.verdict for finding in document.findings}
    assert verdicts == {
        "P3-1": "reproduced",
        "P3-2": "reproduced",
        "P3-2b": "reproduced",
        "P3-3": "reproduced",
        "P3-4": "reproduced",
        "P3-5": "reproduced",
        "P3-6": "reproduced",
        "P3-7": "reproduced",
        "G1": "reproduced",
    }
    measured = {finding.name: finding.measured for finding in document.findings}
    assert "1x cloned: de +0.200" in measured["P3-2"] and "fr" not in measured["P3-2"]
    assert "fr −0.233" in measured["P3-2b"]
    assert "1x +0.600" in measured["P3-3"] and "same sign in 2 of 2 seeds" in measured["P3-3"]
    assert "Fisher of" in measured["P3-4"] or "fisher" in measured["P3-4"].lower()
    assert "0.0003 without noise (0 before), 0.73 with (0.43 before)" in measured["G1"]
    assert "de without noise minus with +0.150" in measured["G1"]
    assert "Linear" not in measured["P3-7"] and "DARE-TIES" in measured["P3-7"]


def test_what_points_the_other_way_is_not_reproduced(tmp_path, monkeypatch):
    """Grown models that forget more, and a clone that is not its source."""
    monkeypatch.setitem(PIVOT, "1x", 2.1)
    found = finished(tmp_path, monkeypatch, merging={})
    assert growth_claims.growth_forgets_less(measured(found)).verdict == "not reproduced"
    assert growth_claims.clone_is_equal(measured(found)).verdict == "reproduced"
    broken = replace(found, costs=found.costs.assign(relative_logit_difference=0.5))
    assert growth_claims.clone_is_equal(measured(broken)).verdict == "not reproduced"


def test_a_mean_over_methods_hides_none_that_points_the_other_way(tmp_path, monkeypatch):
    monkeypatch.setitem(GROWN_LOSES, "linear", 2.0)
    measures = measured(finished(tmp_path, monkeypatch))
    finding = growth_claims.grown_merges_better(measures)
    worse = measures.kept("2x", "linear").point - measures.kept("1x", "linear").point
    assert worse < 0 and finding.verdict == "reproduced"
    by_method = dict(part.split(" ", 1) for part in re.split(r"(?<=\]), ", finding.measured.rpartition("grown: ")[2]))
    assert by_method["Linear"].startswith(f"−{-100 * worse:.1f} ")
    assert set(by_method) == {"Linear", "Multislerp", "TIES", "DARE-TIES", "Fisher"}
    assert all(text.startswith("+") for name, text in by_method.items() if name != "Linear")


def test_tables_hold_the_planted_numbers(document):
    tables = {table.name: table for table in document.tables}
    frame = tables["final_text"].data.set_index(["system", "language"]).score
    assert frame["2x, specialists", "de"] == pytest.approx(1.8)
    assert frame["1x, joint", "fr"] == pytest.approx(3.5)
    before = tables["forgetting_text"].data.set_index(["setup", "after"]).score
    assert before["2x", "before"] == pytest.approx(2.0) and before["2x", "tr"] == pytest.approx(2.2)
    assert before["2x", "loss"] == pytest.approx(0.2)
    sizes = tables["sizes_text"].data.dropna(subset=["size"]).set_index(["setup", "method", "size"]).loss
    assert sizes["1x", "fisher", 3] == pytest.approx(0.3)
    merged = tables["merges_text"].data.set_index(["system", "language"]).score
    assert merged["1x, DARE-TIES", "de"] == pytest.approx(2.5 + 1.0)
    grown = tables["growth"]
    assert len(grown.rows) == 5 and grown.rows[0][-1].text == "broken, 0.43"
    subsets = tables["subsets_text"].data.set_index(["setup", "languages", "method"]).loss
    assert len(subsets) == 3 * 4 * 5 and subsets["1x", "de+tr+fr", "fisher"] == pytest.approx(0.3)
    assert len(tables["subsets_text"].rows) == 12
    assert all(table.markdown() for table in document.tables), "headings span all columns"
    assert {"final_minimal_pairs", "merges_minimal_pairs", "forgetting_minimal_pairs"} <= set(tables)


def test_copies_of_the_control_are_told_beside_the_others(document, tmp_path, monkeypatch):
    (table,) = [table for table in document.tables if table.name == "copies"]
    assert table.columns == ["clone", "0", "10", "20", "30", "de", "en"]
    noisy, plain = ([cell.text for cell in row] for row in table.rows)
    assert noisy[:5] == ["with noise", "0.43", "0.53", "0.63", "0.73"] and noisy[5].startswith("1.800 [")
    assert plain[:5] == ["without", "0", "0.0001", "0.0002", "0.0003"] and plain[6].startswith("2.350 [")
    (models,) = [table for table in document.tables if table.name == "models"]
    assert models.caption == (
        "Seed 1; the other seeds have the same graph, without 1x-cloned-control, 1x-cloned-control-de."
    )
    monkeypatch.setitem(PARTING, False, 0.01)
    grow = {"method": "hyperclone", "parameters": {"width": 2, "noise": False}}
    found = growth_claims.copies_stay_copies(measured(finished(tmp_path, monkeypatch, merging={}, grow=grow)))
    assert found.verdict == "not reproduced" and "de without noise minus with −0.150" in found.measured, (
        "control has the noise here"
    )


def test_figures_are_drawn(document):
    figures = {figure.name: figure for figure in document.figures}
    assert set(figures) == {"curves", "forgetting", "number", "subsets"}
    axes = figures["curves"].drawing.axes
    assert len([ax for ax in axes if ax.lines]) == 9, "three languages over tokens, FLOPs, all FLOPs"
    de = axes[0].lines[0]
    assert list(de.get_xdata()) == [1000, 2000, 3000] and list(de.get_ydata()) == pytest.approx([3.4, 2.9, 2.5])
    number = figures["number"].drawing.axes
    assert [ax.get_title() for ax in number] == ["1x", "1x cloned", "2x"]
    assert list(number[0].lines[0].get_ydata()) == pytest.approx([0.2, 0.4])


def test_normalised_arithmetic_is_compared_where_both_are_made(tmp_path, monkeypatch):
    found = finished(tmp_path, monkeypatch, merging={"all": {"linear": {}, "task_arithmetic": {"normalize": True}}})
    finding = growth_claims.linear_is_arithmetic(measured(found))
    assert finding.verdict == "reproduced" and "of 12 merges" in finding.measured


@pytest.mark.parametrize(("method", "promised"), [("stack", "no"), ("dus", "no"), ("identity", "yes")])
def test_ways_of_growing_without_copies_have_a_report(tmp_path, monkeypatch, method, promised):
    """What promises nothing is not blamed for what it does not keep."""
    grow = {"method": method, "parameters": {"depth": 2}}
    results = finished(tmp_path, monkeypatch, merging={}, grow=grow, control=None)
    assert "copy_difference" not in results.costs
    with style():
        document = growth.compose(results)
    (table,) = [table for table in document.tables if table.name == "growth"]
    assert [cell.text for cell in table.rows[0][-2:]] == [promised, "none"]
    verdict = {finding.name: finding.verdict for finding in document.findings}["P3-1"]
    assert verdict == ("reproduced" if promised == "yes" else "not testable here")


def test_a_small_study_has_a_report_too(tmp_path, monkeypatch):
    """No merges, no snapshots, no tasks, one setup: what is not measured is said to be not testable."""
    changes = {"merging": {}, "snapshots": [], "tasks": None, "setups": ["1x"], "steps": {}, "languages": ["de", "tr"]}
    changes["control"] = None
    with style():
        document = growth.compose(finished(tmp_path, monkeypatch, **changes))
    assert {finding.verdict for finding in document.findings} == {"not testable here"}
    assert not document.figures
    assert "Merges" not in [section.title for section in document.sections]
