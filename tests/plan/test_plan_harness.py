"""Which models get jobs of lm-evaluation-harness, and what runs them again."""

from pathlib import Path

import pytest

from langmerge import config, plan
from langmerge.provenance import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def build(monkeypatch):
    """``build(kind, {"harness": [...]})``: the plan of a kind's shipped study with these keys of `evaluation`."""
    monkeypatch.chdir(ROOT)

    def make(kind, evaluation):
        suffix = "" if kind == "translation" else f".{kind}"
        paths = (Path(f"config/scales/smoke{suffix}.yaml"), Path(f"config/studies/{kind}.yaml"))
        values = config.merge_defaults(*map(config.read_yaml, paths))
        values["evaluation"] = values["evaluation"] | evaluation
        return plan.build(config.KINDS[kind].model_validate(values), kind)

    return make


def harness_jobs(built):
    return {job.inputs["model"]: job for job in built.jobs.values() if job.rule == "run_harness"}


@pytest.mark.parametrize("kind", ["translation", "pretraining"])
def test_every_model_but_random_weights_is_scored_and_reported(build, kind):
    assert not harness_jobs(build(kind, {}))
    built = build(kind, {"harness": ["blimp", "mgsm"], "harness_limit": 7})
    jobs = harness_jobs(built)
    assert set(jobs) == {model.folder for model in built.models.values() if model.kind != "init"} != set()
    for job in jobs.values():
        assert job.spec == {"tasks": ["blimp", "mgsm"], "limit": 7, "include_path": None}
        assert job.folder in built.report.inputs.values()


def test_files_of_the_users_own_tasks_belong_to_the_jobs(build, tmp_path):
    (tmp_path / "mine.yaml").write_text("task: mine")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.jsonl").write_text("{}")
    built = build("pretraining", {"harness": ["mine"], "harness_include": str(tmp_path)})
    for job in harness_jobs(built).values():
        assert job.spec["include_path"] == str(tmp_path)
        assert job.files == (str(tmp_path / "data" / "rows.jsonl"), str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_folder_without_tasks_is_refused(build, tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=rf"evaluation\.harness_include: .*{name} is no folder with task files"):
        build("pretraining", {"harness": ["mine"], "harness_include": str(tmp_path / name)})
    assert not harness_jobs(build("pretraining", {"harness_include": str(tmp_path / name)}))
