"""Merges that need data or search: which jobs they add, and what those are given."""

import pytest
from pydantic import ValidationError

from langmerge.merging import Recipe
from langmerge.provenance import InputError

ROOT = "results/translation"
ALONE = {"merging.layer_patch": None, "analysis": None}  # which name merges of the shipped study
SPECIALISTS = ("en-es", "en-it", "en-de", "en-tr")


def calibrations(plan):
    return {job.folder.removeprefix(f"{ROOT}/calibrations/"): job for job in plan.jobs.values()
            if job.rule == "calibrate_model"}  # fmt: skip


def test_methods_on_weights_alone_need_no_data(build):
    assert not calibrations(build())
    assert not calibrations(build({**ALONE, "merging.all": {"greedy_soup": {}, "adamerging": {"steps": 5}}}))


def test_every_specialist_is_measured_once_on_its_own_direction(build):
    merges = {"fisher": {"floor": [1e-6, 1e-3]}, "regmean": {}}
    plan = build({**ALONE, "merging.all": merges, "merging.pairs": {"fisher": {}}})
    found = calibrations(plan)
    mine = {f"seed1/{name}.{kind}" for name in SPECIALISTS for kind in ("fisher", "gram")}
    assert {name for name in found if "/en-" in name} == mine
    assert len(found) == 16
    job = found["seed1/en-de.fisher"]
    assert job.inputs == {
        "models/en-de": f"{ROOT}/models/trained/seed1/en-de",
        "pairs/de": f"{ROOT}/corpora/de",
    }
    assert job.spec["directions"] == [{"source": "en", "target": "de"}]
    assert (job.spec["split"], job.spec["sentences"], job.spec["labels"]) == ("train", 128, "target")
    assert job.disk > 0 and found["seed1/en-de.gram"].disk > 0
    assert "labels" not in found["seed1/en-de.gram"].spec


@pytest.mark.parametrize("sweep", ["all", "pairs"])
def test_sweeps_get_the_data_that_their_recipes_name(build, sweep):
    changes = {"merging.all": {"linear": {}, "fisher": {}, "regmean": {}}, "merging.pairs": {"fisher": {}, "slerp": {}}}
    plan = build({**ALONE, **changes})
    job = plan.jobs[f"{ROOT}/sweeps/seed1/from-en.{sweep}"]
    given = {name.removeprefix("data/"): folder for name, folder in job.inputs.items() if name.startswith("data/")}
    recipes = [Recipe.from_json(c) for entry in job.spec["merges"] for c in entry["candidates"]
               if not c["models"][0].startswith("merge:")]  # fmt: skip
    assert {name for recipe in recipes for name in recipe.measured} == set(given)
    assert set(given.values()) <= set(plan.jobs)
    for recipe in recipes:
        assert dict(recipe.data) == (
            {m: f"{m}.{'gram' if recipe.method == 'regmean' else 'fisher'}" for m in recipe.models}
            if recipe.method in ("fisher", "regmean")
            else {}
        )


def test_how_much_is_measured_changes_the_measurements_alone(build):
    """Besides the report; the merges run again by the manifests of what they read."""
    changes = {
        "merging.all": {"linear": {}, "fisher": {}, "regmean": {}},
        "merging.layer_patch": None,
        "analysis": None,
    }
    old = build(changes)
    new = build({**changes, "merging.calibration": {"sentences": 7, "split": "dev", "labels": "model"}})
    changed = {f for f in old.jobs if old.jobs[f].spec != new.jobs[f].spec}
    assert changed == {job.folder for job in calibrations(old).values()} | {f"{ROOT}/report"}


def test_a_test_set_cannot_be_measured_on(build):
    with pytest.raises(ValidationError, match=r"merging\.calibration\.split"):
        build({"merging.calibration.split": "test"})


def test_snapshots_are_measured_too(build):
    plan = build({"merging.drift": {"steps": [2, 4], "method": "fisher"}})
    found = calibrations(plan)
    assert found["seed1/en-es@2.fisher"].inputs["models/en-es@2"] == f"{ROOT}/models/trained/seed1/en-es/step2"
    assert "seed1/en-es.fisher" in found


def test_what_cannot_be_measured_or_tuned_is_refused(build):
    fixed = {"fixed": {"merge": {"method": "fisher", "models": ["en-es", "en-de"]}}}
    with pytest.raises(InputError, match=r"models\.fixed\.merge\.method: fisher needs data"):
        build({"models": fixed})
    for method in ("greedy_soup", "layerwise"):
        with pytest.raises(InputError, match=rf"merging\.drift\.method: {method} is for the specialists as they ended"):
            build({"merging.drift": {"steps": [2], "method": method}})


def test_a_grid_of_a_search_has_a_candidate_for_each_point(build):
    plan = build({"merging.all": {"adamerging": {"steps": [10, 20]}}, **ALONE})
    (entry,) = plan.jobs[f"{ROOT}/sweeps/seed1/from-en.all"].spec["merges"]
    assert [c["parameters"]["steps"] for c in entry["candidates"]] == [10, 20]
    assert entry["keep"] and entry["tune"]


def test_similarity_is_measured_once_of_all_specialists_of_a_group(build):
    plan = build({**ALONE, "merging.all": {"layerwise": {}}, "merging.pairs": {"layerwise": {}}})
    found = calibrations(plan)
    assert set(found) == {f"seed1/{group}-en.similarity" for group in ("from", "to")}
    job = found["seed1/from-en.similarity"]
    assert {name for name in job.inputs if name.startswith("models/")} == {f"models/{name}" for name in SPECIALISTS}
    assert len(job.spec["directions"]) == 4
    for sweep in ("all", "pairs"):
        for entry in plan.jobs[f"{ROOT}/sweeps/seed1/from-en.{sweep}"].spec["merges"]:
            (candidate,) = entry["candidates"]
            assert candidate["data"] == dict.fromkeys(candidate["models"], "from-en.similarity")


def test_tokens_are_counted_in_the_language_that_is_not_the_pivot(build):
    found = calibrations(build({**ALONE, "merging.all": {"embedding_rows": {}}}))
    assert found["seed1/en-tr.token_counts"].spec == {"kind": "token_counts", "language": "tr", "pivot": "en"}
    assert found["seed1/tr-en.token_counts"].spec == {"kind": "token_counts", "language": "tr", "pivot": "en"}
