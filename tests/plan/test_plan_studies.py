"""What the plans of all studies of languages have in common, at the smallest scale."""

from pathlib import Path

import pytest
from graph_facts import changed

from langmerge import config, plan
from langmerge.provenance import InputError

ROOT = Path(__file__).parents[2]
KINDS = [kind for kind in config.KINDS if kind != "translation"]


@pytest.fixture
def build(monkeypatch):
    """``build(kind, {"seeds": [1, 2]})``: the plan of a kind's shipped study with these keys changed."""
    monkeypatch.chdir(ROOT)

    def make(kind, changes=None):
        paths = (Path(f"config/scales/smoke.{kind}.yaml"), Path(f"config/studies/{kind}.yaml"))
        values = config.merge_defaults(*map(config.read_yaml, paths))
        for path, new in (changes or {}).items():
            values = changed(values, path, new)
        return plan.build(config.KINDS[kind].model_validate(values), kind)

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_every_input_is_made_by_a_job_or_lies_in_a_result(build, kind):
    jobs = build(kind).jobs
    for job in jobs.values():
        for folder in job.inputs.values():
            assert plan.result_folder(folder, jobs) in jobs


@pytest.mark.parametrize("kind", KINDS)
def test_snapshots_that_are_read_are_kept(build, kind):
    jobs = build(kind).jobs
    for job in jobs.values():
        for folder in job.inputs.values():
            head, _, last = folder.rpartition("/")
            if last.startswith("step") and head in jobs:
                assert int(last.removeprefix("step")) in jobs[head].spec["snapshots"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_reads_every_system_and_every_training(build, kind):
    found = build(kind)
    report = found.report
    read = set(report.inputs.values())
    assert {plan.result_folder(system.folder, found.jobs) for system in found.systems} <= read
    assert {job.folder for job in found.jobs.values() if job.rule == "train_model"} <= read


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_systems_tell_them_apart(build, kind):
    systems = build(kind).systems
    assert len({system.key for system in systems}) == len(systems)


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_seed_repeats_the_graph_and_leaves_the_first_as_it_was(build, kind):
    one, two = build(kind, {"seeds": [1]}), build(kind, {"seeds": [1, 7]})
    own = {folder: job for folder, job in two.jobs.items() if "seed7" in folder}
    mirrored = {folder.replace("seed7", "seed1") for folder in own}
    # The control of growth, copies without noise, is trained with the first seed alone.
    once = {folder for folder in one.jobs if "-control" in folder or "/copies/" in folder}
    assert bool(once) == (kind == "growth")
    assert mirrored == {folder for folder in one.jobs if "seed1" in folder} - once
    for folder, job in one.jobs.items():
        if job.rule != "write_report":
            assert two.jobs[folder] == job
    reruns = {folder for folder, job in own.items() if job.rule in ("train_model", "init_model")}
    for folder in reruns:
        assert own[folder].spec != one.jobs[folder.replace("seed7", "seed1")].spec


@pytest.mark.parametrize("kind", KINDS)
def test_what_decides_speed_alone_changes_no_spec(build, kind):
    before = build(kind)
    after = build(kind, {"hardware.workers": 7})
    assert {f: j.spec for f, j in before.jobs.items()} == {f: j.spec for f, j in after.jobs.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_merges_weigh_only_models_of_one_seed_and_their_common_ancestor(build, kind):
    found = build(kind, {"seeds": [1, 2]})
    for job in found.jobs.values():
        if job.rule == "sweep_merges":
            seeds = {part for folder in job.inputs.values() for part in folder.split("/") if part.startswith("seed")}
            assert len(seeds) == 1


def test_an_unknown_kind_names_the_known_ones(tmp_path):
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies/x.yaml").write_text("kind: pretrainning\n")
    workflow = config.load_workflow({"studies": ["x"], "scale": "smoke"})
    with pytest.raises(InputError, match=r"x\.yaml: kind: expected one of translation, .*found 'pretrainning'"):
        config.load(workflow, "x", tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mistake_names_the_file_it_stands_in(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(ROOT)
    for folder, name in (("studies", kind), ("scales", f"smoke.{kind}")):
        (tmp_path / folder).mkdir()
        text = (ROOT / f"config/{folder}/{name}.yaml").read_text()
        (tmp_path / folder / f"{name}.yaml").write_text(text + ("" if folder == "studies" else "hardwar: {}\n"))
    workflow = config.load_workflow({"studies": [kind], "scale": "smoke"})
    with pytest.raises(InputError, match=rf"smoke\.{kind}\.yaml: hardwar: unknown key; did you mean hardware\?"):
        config.load(workflow, kind, tmp_path)
