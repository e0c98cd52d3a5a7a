"""The workflow keeps a model up to date: new data of one language train that language again, and nothing else.

The study is run once, at the smallest scale, with tasks in files that the tests then edit.
"""

import json

import pytest
import yaml

pytestmark = pytest.mark.slow

SCALE, STUDY = "config/scales/smoke.maintenance.yaml", "config/studies/upkeep.yaml"
UPKEEP = {
    "kind": "maintenance",
    "title": "Upkeep",
    "languages": ["es", "it"],
    "origin": {"languages": ["es", "it"]},
    "answer_tasks": {"causal_choice": ["lora"]},
    "merging": {"all": {"linear": {}}},
    "update": {"tasks": {"causal_choice": ["lora"]}, "language": "es", "before": 0.5},
}
TASKS = {
    "kind": "files",
    "tasks": {
        "causal_choice": {
            "path": "items/{language}.{split}.jsonl",
            "splits": {split: split for split in ("train", "dev", "test")},
        }
    },
}
TRAIN = "train_model models/trained/seed1/"
NAMES = ("es", "it", "combined", "es-updated", "combined-updated", "continued-update")
ALL = {f"{TRAIN}causal_choice-lora-{name}" for name in NAMES}
SPANISH = ALL - {f"{TRAIN}causal_choice-lora-it"}
SCORES = {"sweep_merges sweeps/seed1/causal_choice-lora", "write_report report"}


def items(count, word):
    """Items in which the first of two answers is right for one word and the second for another."""
    rows = (
        {"id": f"{word}{n}", "kind": "choice", "prompt": f"{word} {n % 7} porque", "choices": ["sì", "no"]}
        | {"gold": n % 2, "group": ""}
        for n in range(count)
    )
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def finished_upkeep(start):
    """The whole study, run once."""
    copy = start("upkeep")
    (copy.folder / "items").mkdir()
    for code in ("es", "it"):
        for split, count in (("train", 40), ("dev", 8), ("test", 8)):
            (copy.folder / f"items/{code}.{split}.jsonl").write_text(items(count, f"{code}{split}"))
    (copy.folder / STUDY).write_text(yaml.safe_dump(UPKEEP, sort_keys=False))

    def smallest(scale):
        # the study's own, or none
        for key in ("base_tasks", "answer_tasks", "update", "addition", "densities", "variants"):
            scale.pop(key, None)
        scale |= {"tasks": TASKS, "diagnosis": None}

    copy.edit_yaml(SCALE, smallest)
    copy.snakemake("--cores", "2")
    return copy


@pytest.fixture
def upkeep(finished_upkeep, restored):
    """The finished run with its files as they were, whatever a test edits."""
    return restored(finished_upkeep, "config", "items")


def test_nothing_is_left_to_do(upkeep):
    assert upkeep.pending() == set()
    assert (upkeep.folder / "results/upkeep/report/report.html").stat().st_size > 10_000


def test_joint_trainings_are_measured_on_as_many_processes_as_specialists_are(upkeep):
    """So that the wall-clock of both ways is that of two busy cores."""
    folder = upkeep.folder / "results/upkeep/models/trained/seed1"
    costs = {name: json.loads((folder / f"causal_choice-lora-{name}/cost.json").read_text()) for name in NAMES}
    devices = {name: cost["devices"] for name, cost in costs.items()}
    joint = ("combined", "combined-updated", "continued-update")
    assert devices == {name: 2 if name in joint else 1 for name in NAMES}


def test_new_items_of_a_language_leave_the_others_and_the_base(upkeep):
    with (upkeep.folder / "items/es.train.jsonl").open("a") as file:
        file.write(items(4, "nuevo"))
    assert upkeep.pending() == {"prepare_tasks tasks/es", *SPANISH, *SCORES}


def test_another_share_before_the_update_trains_the_state_before_it(upkeep):
    upkeep.edit_yaml(STUDY, lambda study: study["update"].update(before=0.6))
    before = {f"{TRAIN}causal_choice-lora-{name}" for name in ("es", "combined", "continued-update")}
    assert upkeep.pending() == before | SCORES


def test_a_further_method_trains_nothing(upkeep):
    upkeep.edit_yaml(STUDY, lambda study: study["merging"]["all"].update(ties={"density": 0.5}))
    assert upkeep.pending() == SCORES
