"""The workflow keeps a model up to date: new data of one language train that language again, and nothing else.

The study is run once, at the smallest scale, with tasks in files that the tests then edit.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("workflow")]

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "workflow", "config", "data", "envs", "profiles")
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


class Upkeep:
    """A working copy with its own package on the path."""

    def __init__(self, folder):
        self.folder = folder

    def snakemake(self, *arguments):
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "workflow"), "OMP_NUM_THREADS": "1"}
        environment |= {"XDG_CACHE_HOME": str(self.folder / ".cache")}
        environment.pop("PYTEST_CURRENT_TEST", None)
        command = [sys.executable, "-m", "snakemake", *arguments, "--config", "studies=upkeep", "scale=smoke"]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
        return done.stdout + done.stderr

    def pending(self):
        """What a dry run would do: ``rule folder`` with the study's folder left out."""
        output = self.snakemake("--dry-run", "--cores", "2")
        found = re.findall(r"rule (\w+):.*?wildcards: folder=results/upkeep/(\S+)", output, flags=re.DOTALL)
        assert found or "Nothing to be done" in output, output[-3000:]
        return {f"{rule} {folder}" for rule, folder in found}

    def edit(self, file, change):
        """Load a YAML file, change it in place, save it."""
        path = self.folder / file
        values = yaml.safe_load(path.read_text())
        change(values)
        path.write_text(yaml.safe_dump(values))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The whole study, run once."""
    folder = tmp_path_factory.mktemp("upkeep") / "langmerge"
    folder.mkdir()
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(
                source, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "versions")
            )
        else:
            shutil.copy(source, folder)
    (folder / "items").mkdir()
    for code in ("es", "it"):
        for split, count in (("train", 40), ("dev", 8), ("test", 8)):
            (folder / f"items/{code}.{split}.jsonl").write_text(items(count, f"{code}{split}"))
    copy = Upkeep(folder)
    (folder / STUDY).write_text(yaml.safe_dump(UPKEEP, sort_keys=False))

    def smallest(scale):
        for key in ("base_tasks", "answer_tasks", "update", "addition", "densities"):  # the study's own, or none
            del scale[key]
        scale |= {"tasks": TASKS, "diagnosis": None}

    copy.edit(SCALE, smallest)
    copy.snakemake("--cores", "2")
    return copy


@pytest.fixture
def upkeep(finished, tmp_path):
    """The finished run with its files as they were, whatever a test edits."""
    for part in ("config", "items"):
        shutil.copytree(finished.folder / part, tmp_path / part)
    yield finished
    for part in ("config", "items"):
        shutil.rmtree(finished.folder / part)
        shutil.copytree(tmp_path / part, finished.folder / part)  # copy2 keeps the times, so nothing looks newer


def test_nothing_is_left_to_do(upkeep):
    assert upkeep.pending() == set()
    assert (upkeep.folder / "results/upkeep/report/report.html").stat().st_size > 10_000


def test_new_items_of_a_language_leave_the_others_and_the_base(upkeep):
    with (upkeep.folder / "items/es.train.jsonl").open("a") as file:
        file.write(items(4, "nuevo"))
    assert upkeep.pending() == {"prepare_tasks tasks/es", *SPANISH, *SCORES}


def test_another_share_before_the_update_trains_the_state_before_it(upkeep):
    upkeep.edit(STUDY, lambda study: study["update"].update(before=0.6))
    before = {f"{TRAIN}causal_choice-lora-{name}" for name in ("es", "combined", "continued-update")}
    assert upkeep.pending() == before | SCORES


def test_a_further_method_trains_nothing(upkeep):
    upkeep.edit(STUDY, lambda study: study["merging"]["all"].update(ties={"density": 0.5}))
    assert upkeep.pending() == SCORES
