"""The jobs that switch off language units, after the observations that choose them."""

import pytest

from langmerge.provenance import InputError

ROOT = "results/translation"
KEY = "analysis.ablation"


def ablations(plan):
    return {f.removeprefix(f"{ROOT}/ablation/"): job for f, job in plan.jobs.items() if job.rule == "ablate_units"}


def test_each_group_and_seed_once_on_the_base(build):
    plan = build({"seeds": [3, 5]})
    found = ablations(plan)
    assert set(found) == {f"seed{seed}/{group}" for seed in (3, 5) for group in ("from-en", "to-en")}
    job = found["seed5/to-en"]
    assert job.spec["models"] == ["base"] and job.spec["top"] == plan.study.analysis.top
    assert job.inputs["models/base"] == f"{ROOT}/models/trained/seed5/base"
    assert job.inputs["observations/base"] == f"{ROOT}/observations/seed5/to-en/base"
    assert job.inputs["pairs/it"] == f"{ROOT}/corpora/it"
    assert set(job.inputs.values()) <= set(plan.jobs)
    assert {f"ablation/{name}" for name in found} <= set(plan.report.inputs)


def test_specialists_and_merges_by_their_observations(build):
    plan = build({f"{KEY}.models": ["tr", "linear"]})
    job = ablations(plan)["seed1/from-en"]
    assert job.spec["models"] == ["en-tr", "linear"]
    observed = {name for name in job.inputs if name.startswith("observations/")}
    assert observed == {"observations/base", "observations/en-tr", "observations/linear"}
    assert job.inputs["models/linear"] == f"{ROOT}/sweeps/seed1/from-en.all/merged/linear"
    assert "models/base" not in job.inputs


def test_what_is_left_out_and_what_is_refused(build):
    assert not ablations(build({KEY: None}))
    assert not ablations(build({"analysis": None}))
    with pytest.raises(InputError, match=r"analysis.ablation.models: no model fr; expected some of base, es"):
        build({f"{KEY}.models": ["fr"]})


def test_its_settings_change_these_jobs_and_the_report_alone(build):
    one, other = build(), build({f"{KEY}.draws": 3})
    assert one.jobs.keys() == other.jobs.keys()
    changed = {one.jobs[f].rule for f in one.jobs if one.jobs[f].spec != other.jobs[f].spec}
    assert changed == {"ablate_units", "write_report"}
    precise = build({"analysis.neurons": "average_precision", "analysis.histograms": 64})
    assert ablations(precise)["seed1/to-en"].spec["ranking"] == "mutual_information"


def test_seeds_are_compared_where_there_are_several(build):
    assert not [job for job in build().jobs.values() if job.rule == "replicate_measurements"]
    plan = build({"seeds": [3, 5]})
    job = plan.jobs[f"{ROOT}/replication"]
    assert job.inputs["to-en/seed5"] == f"{ROOT}/measurements/seed5/to-en" and len(job.inputs) == 4
    assert set(job.inputs.values()) <= set(plan.jobs)
    assert plan.report.inputs["replication"] == job.folder
