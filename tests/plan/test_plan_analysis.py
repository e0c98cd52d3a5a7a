"""Observations: one job a model, which only what it reads can change."""

import pytest

ROOT = "results/translation"


def jobs(plan, rule):
    return {folder: job for folder, job in plan.jobs.items() if job.rule == rule}


def changed(old, new, rule):
    """Folders of a rule's jobs that are in both plans and differ."""
    before, after = jobs(old, rule), jobs(new, rule)
    return {
        f
        for f in before.keys() & after.keys()
        if (before[f].spec, before[f].inputs) != (after[f].spec, after[f].inputs)
    }


def test_every_model_of_a_group_is_observed_alone_by_the_baselines_thresholds(build):
    plan = build()
    observed = jobs(plan, "observe_model")
    for group, pair in (("from-en", "en-es"), ("to-en", "es-en")):
        root = f"{ROOT}/observations/seed1/{group}"
        compared = plan.jobs[f"{ROOT}/measurements/seed1/{group}"]
        assert {f"{root}/{label}" for label in compared.spec["models"]} == set(compared.inputs.values())
        assert set(compared.inputs.values()) == {folder for folder in observed if group in folder}
        for folder in compared.inputs.values():
            inputs = observed[folder].inputs
            assert inputs.get("thresholds") == (None if folder.endswith("/base") else f"{root}/base")
            assert not any(name.startswith("models/") for name in inputs)
        assert observed[f"{root}/{pair}"].inputs["model"] == f"{ROOT}/models/trained/seed1/{pair}"
        assert observed[f"{root}/ties"].inputs["model"] == f"{ROOT}/sweeps/seed1/{group}.all/merged/ties"
        assert compared.spec["directions"] == observed[f"{root}/base"].spec["directions"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("neurons", "lape"),
        ("rankings", ["exclusivity"]),
        ("top", 0.5),
        ("permutations", 1),
        ("seed", 99),
    ],
)
def test_another_measure_observes_nothing_again(build, key, value):
    old, new = build(), build({f"analysis.{key}": value})
    assert not changed(old, new, "observe_model")
    assert changed(old, new, "measure_models") == set(jobs(old, "measure_models"))


@pytest.mark.parametrize(
    ("key", "value"),
    [("sentences", 9), ("align", "predict"), ("blocks", 3), ("sites", ["mlp_gate"]), ("pools", ["mean"])],
)
def test_what_is_read_changes_every_observation(build, key, value):
    old, new = build(), build({f"analysis.{key}": value})
    assert changed(old, new, "observe_model") == set(jobs(old, "observe_model"))
    assert not changed(old, new, "measure_models")


def test_histograms_alone_decide_the_bins(build):
    """So that a further ranking, average precision among them, observes nothing again."""
    assert {job.spec["bins"] for job in jobs(build(), "observe_model").values()} == {0}
    kept = {"analysis.histograms": 32}
    old, new = build(kept), build({**kept, "analysis.rankings": ["average_precision"]})
    assert {job.spec["bins"] for job in jobs(old, "observe_model").values()} == {32}
    assert not changed(old, new, "observe_model")
    assert changed(old, new, "measure_models") == set(jobs(old, "measure_models"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rankings": ["lape", "average_precision"]}, "rankings: average_precision .* set `histograms`"),
        ({"neurons": "average_precision"}, "neurons: average_precision .* set `histograms`"),
        ({"histograms": 1}, "histograms: expected 0"),
    ],
)
def test_histograms_that_are_missing_are_named(build, changes, message):
    with pytest.raises(ValueError, match=message):
        build({f"analysis.{key}": value for key, value in changes.items()})


def test_a_further_model_is_observed_alone(build):
    old, new = build({"analysis.merges": ["linear"]}), build({"analysis.merges": ["linear", "ties"]})
    added = jobs(new, "observe_model").keys() - jobs(old, "observe_model").keys()
    assert added == {f"{ROOT}/observations/seed1/{group}/ties" for group in ("from-en", "to-en")}
    assert not changed(old, new, "observe_model")


@pytest.mark.parametrize(("key", "value"), [("sites", ["residual"]), ("pools", ["last"]), ("sites", ["mlp_gate"] * 2)])
def test_what_every_measure_needs_cannot_be_left_out(build, key, value):
    with pytest.raises(ValueError, match=f"{key}: expected"):
        build({f"analysis.{key}": value})
