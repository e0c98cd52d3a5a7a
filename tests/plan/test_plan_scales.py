"""Every shipped study has its plan at every shipped scale that is made for it; the others are refused with a reason."""

from pathlib import Path

import pytest

from langmerge import config, plan
from langmerge.provenance import InputError

ROOT = Path(__file__).parents[2]
STUDIES = {path.stem: config.read_yaml(path).get("kind", "translation") for path in (ROOT / "config/studies").glob("*")}
SCALES = {path.stem.partition(".")[::2] for path in (ROOT / "config/scales").glob("*.yaml")}
EVERY = sorted(
    (study, scale) for study, kind in STUDIES.items() for scale, of in SCALES if (of or "translation") == kind
)
# Studies of the papers' own languages and sizes, which some scales do not have.
REFUSED = {
    (
        "grow_up_and_merge",
        "cpu",
    ): r"scales/cpu\.growth\.yaml: steps: fr is not among languages.*with the studies growth",
    (
        "grow_up_and_merge",
        "gpu",
    ): r"scales/gpu\.growth\.yaml: steps: fr is not among languages.*with the studies growth",
    ("grow_up_and_merge", "smoke"): r"scales/smoke\.growth\.yaml: steps: fr is not among languages",
    ("grow_up_and_merge", "tatoeba"): r"scales/tatoeba\.growth\.yaml: steps: fr is not among languages",
    ("growth", "paper"): r"scales/paper\.growth\.yaml: steps: sv is not among .* with the studies grow_up_and_merge$",
    ("language_specific_merging", "cpu"): "commonsense: lora is not among answer_tasks",
    ("language_specific_merging", "gpu"): "commonsense: lora is not among answer_tasks",
    ("language_specific_merging", "smoke"): "commonsense: lora is not among answer_tasks",
    ("language_specific_merging", "xed"): "summarization: lora is not among answer_tasks",
    ("mount_doom", "cpu"): "no grammar for the language bn",
    ("mount_doom", "smoke"): "no grammar for the language bn",
}


def planned(study, scale):
    """The plan that `snakemake --config studies=... scale=... data_root=...` has."""
    workflow = config.load_workflow({"studies": [study], "scale": scale, "data_root": "/data"})
    return plan.build(config.load(workflow, study), study)


def test_every_kind_has_studies_and_scales():
    assert set(STUDIES.values()) == set(config.KINDS) == {of or "translation" for _, of in SCALES}
    assert set(REFUSED) < set(EVERY)


@pytest.mark.parametrize(("study", "scale"), [combination for combination in EVERY if combination not in REFUSED])
def test_a_study_has_a_plan_at_a_scale(monkeypatch, study, scale):
    monkeypatch.chdir(ROOT)
    found = planned(study, scale)
    rules = {job.rule for job in found.jobs.values()}
    assert {"prepare_corpus", "train_model", "write_report"} <= rules
    assert found.report.inputs and all(plan.result_folder(path, found.jobs) for path in found.report.inputs.values())


@pytest.mark.parametrize(("study", "scale"), REFUSED)
def test_what_a_scale_is_not_made_for_is_said(monkeypatch, study, scale):
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match=REFUSED[study, scale]):
        planned(study, scale)


def test_minimal_pairs_of_all_languages_of_the_paper_on_growth_come_from_the_hub(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = planned("grow_up_and_merge", "paper")
    tasks = [job for job in found.jobs.values() if job.rule == "prepare_tasks"]
    assert {job.spec["language"] for job in tasks} == {"en", "sv", "fa", "et", "is", "fo"}
    asked = {code: found.study.tasks.tasks["minimal_pairs"].filled(code, "test") for code in ("sv", "fo")}
    assert {code: (source.hub.id, source.hub.config, source.path) for code, source in asked.items()} == {
        "sv": ("jumelet/multiblimp", "swe", None),
        "fo": ("jumelet/multiblimp", "fao", None),
    }
    assert not any(job.files for job in tasks)


def test_data_of_the_study_of_maintenance_come_from_the_hub(monkeypatch):
    """One folder, one configuration or one value of a column per language, each task in all five."""
    monkeypatch.chdir(ROOT)
    found = planned("language_specific_merging", "paper")
    tasks = {job.spec["language"]: job for job in found.jobs.values() if job.rule == "prepare_tasks"}
    assert set(tasks) == {"en", "fr", "ja", "ru", "zh"} and not any(job.files for job in tasks.values())
    section = found.study.tasks
    assert all(section.splits(code) == {name: ["train", "dev", "test"] for name in section.tasks} for code in tasks)
    asked = {task: source.filled("zh", "dev") for task, source in section.tasks.items()}
    assert {task: source.path for task, source in asked.items()} == dict.fromkeys(asked)
    assert {task: (s.hub.id, s.hub.config, s.hub.folder, s.hub.split, s.where) for task, s in asked.items()} == {
        "summarization": ("csebuetnlp/xlsum", None, "chinese_simplified", "validation", {}),
        "commonsense": ("yusuke1997/mCSQA", "zh", None, "validation", {}),
        "sentiment": ("clapAI/MultiLingualSentiment", None, None, "validation", {"language": "zh"}),
    }
