"""Jobs that sweep over layer patches, and the one that asks what foretells merge damage."""

import pytest

from langmerge.provenance import InputError


def jobs(plan, rule):
    return {folder.partition("translation/")[2]: job for folder, job in plan.jobs.items() if job.rule == rule}


def test_patches_are_of_the_tuned_merge_and_every_specialist(build):
    found = jobs(build(), "sweep_patches")
    assert list(found) == ["patches/seed1/from-en", "patches/seed1/to-en"]
    job = found["patches/seed1/to-en"]
    assert job.inputs["models/task_arithmetic"].endswith("sweeps/seed1/to-en.all/merged/task_arithmetic")
    assert [m["model"] for m in job.spec["members"]] == ["es-en", "it-en", "de-en", "tr-en"]
    assert job.spec["members"][0]["direction"] == {"source": "es", "target": "en"}
    assert {f"models/{m['model']}" for m in job.spec["members"]} < set(job.inputs)


def test_some_languages_fewer_sentences_or_no_sweep(build):
    patch = {"onto": ["ties"], "layers": 1, "sets": ["single"], "languages": ["tr"], "sentences": 5}
    (job,) = jobs(build({"merging.layer_patch": patch, "directions": ["from_pivot"]}), "sweep_patches").values()
    assert [m["language"] for m in job.spec["members"]] == ["tr"]
    assert job.spec["sentences"] == 5
    assert "models/en-es" not in job.inputs
    assert not jobs(build({"merging.layer_patch": {"onto": ["ties"], "layers": 1}}), "sweep_patches")
    assert not jobs(build({"merging.layer_patch": None}), "sweep_patches")


def test_a_patch_sweep_does_not_touch_the_tuning(build):
    """Other layer sets rerun no merge: the tuned one is read from its folder."""
    before, after = build(), build({"merging.layer_patch.sets": ["mlp.prefix"]})
    changed = {f for f in before.jobs if before.jobs[f].spec != after.jobs[f].spec}
    assert {before.jobs[f].rule for f in changed} == {"sweep_patches", "write_report"}


def test_wrong_layer_sets_and_languages_are_named(build):
    def error(changes):
        with pytest.raises((ValueError, InputError)) as caught:
            build({f"merging.layer_patch.{key}": value for key, value in changes.items()})
        return str(caught.value)

    assert "fi has no specialist" in error({"languages": ["fi"]})
    for wrong in ("singles", "mlp.", "head.single", "last"):
        assert "merging.layer_patch.sets.0" in error({"sets": [wrong]}), wrong


def test_damage_reads_scores_and_measures_of_all_seeds_and_groups(build):
    plan = build({"seeds": [1, 2]})
    (job,) = jobs(plan, "predict_damage").values()
    assert [(s["seed"], s["group"]) for s in job.spec["strata"]] == [
        (1, "from-en"), (1, "to-en"), (2, "from-en"), (2, "to-en"),
    ]  # fmt: skip
    for place in ("weighing", "measurements", "landscape"):
        for seed in (1, 2):
            assert f"{place}/seed{seed}/to-en" in job.inputs
    for stratum in job.spec["strata"]:
        assert len(stratum["pairs"]) == 6
        named = [stratum["base"], *stratum["specialists"].values(), *(p["key"] for p in stratum["pairs"])]
        assert all(f"systems/{key}" in job.inputs for key in named)
    assert plan.report.inputs["damage"] == "results/translation/damage"
    assert not [name for name in job.inputs if name.startswith("models/")]


@pytest.mark.parametrize(
    "changes",
    [
        {"analysis.damage": None},
        {"analysis": None},
        {"merging.pairs": {}},
        {"languages": ["es", "it"], "base.languages": ["es", "it"]},
    ],
    ids=str,
)
def test_no_damage_without_pairs_measures_or_enough_languages(build, changes):
    assert not jobs(build(changes), "predict_damage")
