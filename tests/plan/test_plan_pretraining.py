"""The graph of a study of pre-training: who starts where, for how long, and on which text."""

import re
from pathlib import Path

import pytest
from graph_facts import changed

from langmerge import config, plan

ROOT = Path(__file__).parents[2]
STEPS = 20


@pytest.fixture
def build(monkeypatch):
    """``build({"branches": None})``: the plan of the shipped study at smoke scale, with these keys changed."""
    monkeypatch.chdir(ROOT)

    def make(changes=None):
        paths = (Path("config/scales/smoke.pretraining.yaml"), Path("config/studies/pretraining.yaml"))
        values = config.merge_defaults(*map(config.read_yaml, paths))
        known = {"run.steps": STEPS, "branches.shares": [0.0, 0.25, 0.5], **(changes or {})}
        for path, new in known.items():
            values = changed(values, path, new)
        return plan.build(config.Pretraining.model_validate(values), "p")

    return make


def trainings(built):
    return {folder.rpartition("/")[2]: job for folder, job in built.jobs.items() if job.rule == "train_model"}


def languages_of(job):
    return {part["language"] for part in job.spec["data"]}


def test_monolingual_models_read_one_language_and_share_the_start_or_have_their_own(build):
    built = build()
    runs = trainings(built)
    for language in ("es", "it", "tr"):
        for name, start in ((f"mono-{language}", "origin"), (f"mono-{language}-own", f"origin-{language}")):
            assert languages_of(runs[name]) == {language}
            assert {key for key in runs[name].inputs if key.startswith("pairs/")} == {f"pairs/{language}"}
            assert runs[name].inputs["model"].endswith(f"/{start}")
            assert runs[name].spec["steps"] == STEPS
    starts = [job.spec for job in built.jobs.values() if job.rule == "init_model"]
    assert len({spec["seed"] for spec in starts}) == len(starts) == 4
    assert len({str({**spec, "seed": 0}) for spec in starts}) == 1  # one tokenizer, so that weights can be averaged


def test_mixed_models_have_the_tokens_of_one_or_of_each(build):
    runs = trainings(build())
    assert (runs["mixed-total"].spec["steps"], runs["mixed-each"].spec["steps"]) == (STEPS, 3 * STEPS)
    for name in ("mixed-total", "mixed-each", "mixed-trunk"):
        assert languages_of(runs[name]) == {"es", "it", "tr"}
        assert {part["weight"] for part in runs[name].spec["data"]} == {1.0}


def test_branches_leave_one_trunk_and_end_after_as_many_steps_as_a_monolingual_model(build):
    runs = trainings(build())
    trunk = runs["mixed-trunk"]
    assert (trunk.spec["steps"], trunk.spec["snapshots"], trunk.spec["schedule"]) == (10, [5, 10], "constant")
    for share, start in ((0.25, 5), (0.5, 10)):
        for language in ("es", "it", "tr"):
            branch = runs[f"branch-{share}-{language}"]
            assert branch.inputs["model"].startswith(trunk.folder)
            assert branch.inputs["model"].endswith(f"/step{start}" if start < 10 else "mixed-trunk")
            assert branch.spec["steps"] == STEPS - start
            assert languages_of(branch) == {language}


def test_one_sweep_scores_every_model_and_merges_what_shares_a_start(build):
    built = build()
    (sweep,) = [job for job in built.jobs.values() if job.rule == "sweep_merges"]
    scored = {entry["name"]: entry for entry in sweep.spec["merges"]}
    assert set(trainings(built)) - {"mixed-trunk"} <= set(scored)
    for name, entry in scored.items():
        assert len({re.sub("-(es|it|tr)", "", model) for model in entry["details"]["models"]}) == 1, name
    assert scored["linear@0"]["details"]["models"] == ["mono-es", "mono-it", "mono-tr"]
    pairs = {tuple(entry["details"]["languages"]) for entry in scored.values() if entry["role"] == "pair"}
    assert pairs == {("es", "it"), ("es", "tr"), ("it", "tr")}


def test_without_branches_there_is_no_trunk(build):
    assert not {name for name in trainings(build({"branches": None})) if "branch" in name or "trunk" in name}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"initialisations": ["different"]}, "they start from shared weights"),
        ({"branches.shares": [0.0, 0.01]}, r"0\.01 of 20 steps is less than one step"),
        ({"origin": {"import": {"source": "x"}}}, "pre-training starts from random weights"),
    ],
)
def test_what_cannot_be_is_explained(build, changes, message):
    with pytest.raises(ValueError, match=message):
        build(changes)
