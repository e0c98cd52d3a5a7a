"""The jobs that survey the loss between and around the models of a group."""

import pytest
from pydantic import ValidationError

from langmerge.provenance import InputError

ROOT = "results/translation"
KEY = "analysis.landscape"


def surveys(plan):
    return {f.removeprefix(f"{ROOT}/landscape/"): j for f, j in plan.jobs.items() if j.rule == "survey_landscape"}


def test_each_group_and_seed_is_surveyed_once(build):
    plan = build({"seeds": [3, 5], f"{KEY}.plane": ["base", "tr", "es"]})
    found = surveys(plan)
    assert set(found) == {f"seed{seed}/{group}" for seed in (3, 5) for group in ("from-en", "to-en")}
    job = found["seed5/to-en"]
    assert job.spec["specialists"] == ["es-en", "it-en", "de-en", "tr-en"]
    assert job.spec["directions"][3] == {"source": "tr", "target": "en"}
    assert job.spec["plane"] == ["base", "tr-en", "es-en"]
    assert job.inputs["models/base"] == f"{ROOT}/models/trained/seed5/base"
    assert job.inputs["models/de-en"] == f"{ROOT}/models/trained/seed5/de-en"
    assert job.inputs["pairs/it"] == f"{ROOT}/corpora/it"
    assert set(job.inputs.values()) <= set(plan.jobs)
    assert {f"landscape/{name}" for name in found} <= set(plan.report.inputs)


def test_what_is_left_out_leaves_no_survey(build):
    assert not surveys(build({KEY: None}))
    assert not surveys(build({"analysis": None}))


def test_its_settings_change_the_surveys_and_the_report_alone(build):
    one, other = build(), build({f"{KEY}.points": 5})
    assert one.jobs.keys() == other.jobs.keys()
    changed = {one.jobs[f].rule for f in one.jobs if one.jobs[f].spec != other.jobs[f].spec}
    assert changed == {"survey_landscape", "write_report"}


def test_planes_through_nowhere_are_refused(build):
    with pytest.raises(InputError, match=r"analysis\.landscape\.plane: no model fr; expected three of base, es"):
        build({f"{KEY}.plane": ["base", "es", "fr"]})
    with pytest.raises(ValidationError, match="three different names"):
        build({f"{KEY}.plane": ["base", "es"]})
    with pytest.raises(ValidationError, match="fisher: expected 0"):
        build({f"{KEY}.fisher": 1})
