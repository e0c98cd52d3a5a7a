"""What an edit of the study makes run again, read off the specs: the jobs it bears on and no others."""

import pytest

ROOT = "results/translation"


def parts(job):
    """All that decides what a job does: its prediction of FLOPs is no part of it."""
    return job.spec, job.inputs, job.files, job.modules


def specs_changed(old, new):
    """Folders of both plans whose jobs have another spec, inputs, files or modules."""
    return {
        folder for folder in old.jobs.keys() & new.jobs.keys() if parts(old.jobs[folder]) != parts(new.jobs[folder])
    }


def rules(plan, folders):
    return {plan.jobs[folder].rule for folder in folders}


def folders(plan, rule, contains=""):
    return {folder for folder, job in plan.jobs.items() if job.rule == rule and contains in folder}


def test_a_further_language_leaves_corpora_base_and_specialists_alone(build):
    """A language that the base was trained on gets specialists. Anew: whatever speaks of all the study's languages,
    that is joint models, evaluations (every model is scored on all directions), merges and what reads them."""
    three, four = build({"languages": ["es", "it", "de"]}), build({"languages": ["es", "it", "de", "tr"]})
    changed = specs_changed(three, four)
    assert three.jobs.keys() <= four.jobs.keys()
    added = {f"{ROOT}/{kind}/seed1/{name}" for kind in ("models/trained", "evaluations") for name in ("en-tr", "tr-en")}
    added |= {f"{ROOT}/observations/seed1/{name}" for name in ("from-en/en-tr", "to-en/tr-en")}
    assert four.jobs.keys() - three.jobs.keys() == added
    assert changed == {
        *folders(three, "train_model", "joint-"),
        *folders(three, "evaluate_model"),
        *folders(three, "sweep_merges"),
        *(f for rule in ("observe_model", "measure_models", "survey_landscape") for f in folders(three, rule)),
        *(f for rule in ("sweep_patches", "weigh_models", "ablate_units") for f in folders(three, rule)),
        f"{ROOT}/comparisons",
        f"{ROOT}/damage",
        f"{ROOT}/report",
    }


def test_a_language_that_is_new_to_the_base_leaves_corpora_base_and_specialists_alone_too(build):
    four, five = build(), build({"languages": ["es", "it", "de", "tr", "fi"]})
    changed = specs_changed(four, five)
    assert not rules(four, changed) & {"prepare_corpus", "init_model"}
    assert {f for f in changed if four.jobs[f].rule == "train_model"} == folders(four, "train_model", "joint-")
    assert f"{ROOT}/corpora_check" in changed
    assert f"{ROOT}/corpora/fi" in five.jobs


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ties", {"density": [0.3], "scale": [1.0]}),
        ("task_arithmetic", {"scale": [0.5]}),
        ("linear", {"weights": [1, 2, 3, 4]}),
    ],
)
def test_a_parameter_of_a_merge_changes_its_sweep_alone(build, key, value):
    """Besides the report, which says what the study is. What reads merges runs again only if their bytes change."""
    old, new = build(), build({f"merging.all.{key}": value})
    assert old.jobs.keys() == new.jobs.keys()
    assert specs_changed(old, new) == {f"{ROOT}/sweeps/seed1/{g}-en.all" for g in ("from", "to")} | {f"{ROOT}/report"}


def test_a_parameter_of_pairs_changes_the_sweep_over_pairs_alone(build):
    old, new = build(), build({"merging.pairs": {"slerp": {"t": 0.25}}})
    assert specs_changed(old, new) == {f"{ROOT}/sweeps/seed1/{g}-en.pairs" for g in ("from", "to")} | {f"{ROOT}/report"}


def test_the_specialists_learning_rate_changes_their_trainings_alone(build):
    old, new = build(), build({"specialist.learning_rate": 0.5})
    specialists = {f"{ROOT}/models/trained/seed1/{s.name}" for s in old.systems if s.role == "specialist"}
    assert len(specialists) == 8
    assert specs_changed(old, new) == specialists | {f"{ROOT}/report"}


def test_the_bases_training_changes_its_job_alone(build):
    """Descendants run again by their input's manifest, not by their spec."""
    assert specs_changed(build(), build({"base.train.steps": 7})) == {
        f"{ROOT}/models/trained/seed1/base",
        f"{ROOT}/report",
    }


def test_a_snapshot_more_changes_the_specialists_and_the_drift_curve(build):
    old, new = build(), build({"merging.drift.steps": [1, 2, 4]})
    changed = specs_changed(old, new) - {f"{ROOT}/report"}
    assert rules(old, changed) == {"train_model", "sweep_merges"}
    assert {f for f in changed if "sweeps" in f} == {f"{ROOT}/sweeps/seed1/{g}-en.drift" for g in ("from", "to")}


@pytest.mark.parametrize(
    "changes",
    [{"hardware.flops_per_second": 1e15}, {"hardware.workers": 9}],
)
def test_what_is_assumed_about_the_machine_changes_nothing(build, changes):
    old, new = build(), build(changes)
    assert old.jobs.keys() == new.jobs.keys()
    assert not specs_changed(old, new)


@pytest.mark.parametrize("key", ["specialist.threads", "specialist.gpus", "base.train.threads"])
def test_threads_and_gpus_train_nothing_anew(build, key):
    changed = specs_changed(build(), build({key: 2}))
    assert changed <= {f"{ROOT}/report"}


def test_the_order_of_the_bases_languages_does_not_matter_to_other_corpora(build):
    old, new = build(), build({"base.languages": ["tr", "de", "it", "es"]})
    assert not rules(old, specs_changed(old, new)) & {"prepare_corpus", "check_corpora", "evaluate_model"}


def test_one_languages_grammar_is_read_by_its_own_corpus(build):
    for folder in folders(build(), "prepare_corpus"):
        job, code = build().jobs[folder], folder.rpartition("/")[2]
        languages = {file for file in job.files if "languages/" in file}
        assert languages == {f"data/grammar/languages/{name}.yaml" for name in ("en", code)}
        assert {m.rpartition(".")[2] for m in job.modules if ".languages." in m} == {"en", code}


def test_a_transform_reads_its_parents_grammar(build, tmp_path):
    """Discovered from the shipped grammars: a transformed language depends on the language that it transforms."""
    from pathlib import Path

    import yaml

    found = {}
    for path in sorted(Path("data/grammar/languages").glob("*.yaml")):
        parent = yaml.safe_load(path.read_text())["language"].get("transform_of")
        if parent:
            found[path.stem] = parent
    for code, parent in found.items():
        plan = build({"languages": ["es", code]})
        assert f"data/grammar/languages/{parent}.yaml" in plan.jobs[f"{ROOT}/corpora/{code}"].files
    assert all((Path("data/grammar/languages") / f"{parent}.yaml").is_file() for parent in found.values())
