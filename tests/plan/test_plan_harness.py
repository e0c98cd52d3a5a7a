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
        if kind == "distance":
            values["merging"]["all"] = {"ties": {}}
        return plan.build(config.KINDS[kind].model_validate(values), kind)

    return make


def harness_jobs(built):
    return {job.inputs["model"]: job for job in built.jobs.values() if job.rule == "run_harness"}


# A merge of all languages of each kind, as the harness's jobs call it.
MERGES = {
    "translation": ["ties-from-en", "ties-to-en"],
    "pretraining": ["ties", "ties-own", "linear@0.5"],
    "maintenance": ["sentiment-lora-ties-initial", "sentiment-lora-ties-update", "sentiment-full-ties-initial"],
    "growth": ["1x.ties.de+tr+fr", "2x.ties.de+tr+fr"],
    "distance": ["merges.ties.all"],
}


@pytest.mark.parametrize("kind", config.KINDS)
def test_every_model_but_random_weights_is_scored_and_reported(build, kind):
    assert not harness_jobs(build(kind, {}))
    built = build(kind, {"harness": ["blimp", "mgsm"], "harness_limit": 7})
    jobs = harness_jobs(built)
    assert set(jobs) == {model.folder for model in built.models.values() if model.kind != "init"} != set()
    for job in jobs.values():
        assert job.spec == {"tasks": ["blimp", "mgsm"], "limit": 7, "include_path": None}
        assert job.folder in built.report.inputs.values()
    scored = {model.name for model in built.models.values() if model.folder in jobs}
    assert scored >= set(MERGES[kind])


@pytest.mark.parametrize("kind", [kind for kind in config.KINDS if kind != "translation"])
def test_merges_are_written_only_to_be_read(build, kind):
    """Those of all languages, where tasks are named; none of some languages."""
    assert not any(model.kind == "merge" for model in build(kind, {}).models.values())
    built = build(kind, {"harness": ["blimp"]})
    kept = [entry for job in built.jobs.values() for entry in job.spec.get("merges", ()) if entry["keep"]]
    assert {len(entry["candidates"][0]["models"]) for entry in kept} == {len(built.study.languages)}


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
