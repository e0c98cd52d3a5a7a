"""Studies of languages from the study file to the report, at the smallest scale."""

import json

import pytest

from langmerge import config

KINDS = [kind for kind in config.KINDS if kind != "translation"]


def ends_whole(workflow):
    """The report is there, every result has its manifest, nothing is half-written or left to do."""
    results = workflow.folder / "results" / workflow.study
    for name in ("report.html", "report.pdf"):
        assert (results / "report" / name).stat().st_size > 10_000
    assert not list(results.rglob("*.part"))
    assert workflow.pending() == set()


def test_a_study_of_pretraining_runs_and_follows_its_data(start):
    """Two languages, without branches; then one language's tasks change, and only what reads them is left to do."""
    workflow = start("pretraining")

    def smaller(study):
        study |= {"languages": ["es", "it"], "origin": {"languages": ["es", "it"]}, "branches": None}
        study |= {"initialisations": ["shared"], "mixed": ["total"], "merging": {"all": {"linear": {}}}}

    workflow.edit_yaml("config/studies/pretraining.yaml", smaller)
    workflow.snakemake("--cores", "2")
    ends_whole(workflow)
    results = workflow.folder / "results/pretraining"
    scores = json.loads((results / "sweeps/seed1/all/systems/linear/scores.json").read_text())["test"]
    assert set(scores) == {"text.es", "text.it", "minimal_pairs.es", "minimal_pairs.it"}
    assert scores["text.es"]["metrics"]["bits_per_byte"]["score"] > 0
    path = workflow.folder / "data/grammar/tasks/it.yaml"
    path.write_text(path.read_text() + "\n# edited\n")
    assert workflow.pending() == {"prepare_tasks tasks/it", "sweep_merges sweeps/seed1/all", "write_report report"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_runs_from_end_to_end(start, kind):
    workflow = start(kind)
    workflow.snakemake("--cores", "2")
    ends_whole(workflow)
