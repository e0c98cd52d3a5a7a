"""A copy of the repository in which the whole study has run once at the smallest scale."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "workflow", "config", "data", "envs", "profiles")
NOT_COPIED = shutil.ignore_patterns("__pycache__", "*.egg-info", "versions")

SMALL = {
    "title": "Smoke",
    "languages": ["es", "it"],
    "directions": ["from_pivot"],  # the other group is a mirror, and every job costs seconds
    "base": {"languages": ["es", "it"]},
    "merging": {
        "all": {"linear": {}, "ties": {"density": [0.5, 1.0]}, "dare_ties": {"density": 0.5}},
        "pairs": {"slerp": {}},
        "layer_patch": {"onto": ["ties"], "layers": 1, "controls": 1},
    },
    "analysis": {"merges": ["ties"]},
}


class Workflow:
    """A working copy with its own package on the path, and what Snakemake says there."""

    def __init__(self, folder: Path, study: str = "small", scale: str = "smoke") -> None:
        self.folder, self.study, self.scale = folder, study, scale
        self.data_root = ""

    def snakemake(self, *arguments: str, check: bool = True) -> str:
        """Call Snakemake; its output."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.folder / "workflow"),
            "OMP_NUM_THREADS": "1",
            "XDG_CACHE_HOME": str(self.folder / ".cache"),
        }
        environment.pop("PYTEST_CURRENT_TEST", None)
        settings = [f"studies={self.study}", f"scale={self.scale}"]
        settings += [f"data_root={self.data_root}"] if self.data_root else []
        command = [sys.executable, "-m", "snakemake", *arguments, "--config", *settings]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        output = done.stdout + done.stderr
        assert not check or done.returncode == 0, output[-6000:]
        return output

    def pending(self) -> set[str]:
        """What a dry run would do: ``rule folder`` with the study's folder left out."""
        output = self.snakemake("--dry-run", "--cores", "2")
        if "Nothing to be done" in output:
            return set()
        found = re.findall(rf"rule (\w+):.*?wildcards: folder=results/{self.study}/(\S+)", output, flags=re.DOTALL)
        assert found, output[-3000:]
        return {f"{rule} {folder}" for rule, folder in found}

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace a text that stands exactly once in a file."""
        path = self.folder / file
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
        path.write_text(text.replace(old, new))

    def edit_yaml(self, file: str, change) -> None:
        """Load, change in place, save: comments and order of keys do not survive."""
        path = self.folder / file
        values = yaml.safe_load(path.read_text())
        change(values)
        path.write_text(yaml.safe_dump(values))


def copy_to(folder: Path) -> Path:
    """A copy of the repository's own files."""
    folder.mkdir()
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=NOT_COPIED)
        else:
            shutil.copy(source, folder)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workflow:
    """The whole DAG of a study of translation, run once."""
    folder = copy_to(tmp_path_factory.mktemp("workflow") / "langmerge")
    (folder / "config/studies/small.yaml").write_text(yaml.safe_dump(SMALL, sort_keys=False))
    workflow = Workflow(folder)
    workflow.snakemake("--cores", "2")
    return workflow


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """``start("growth")``: a copy in which nothing of that study has run, at a scale."""

    def make(study: str, scale: str = "smoke") -> Workflow:
        return Workflow(copy_to(tmp_path_factory.mktemp(study) / "langmerge"), study, scale)

    return make


@pytest.fixture
def restored(tmp_path):
    """``restored(workflow, "config")``: the workflow, whose folders become what they are now when the test ends."""
    copies = {}

    def keep(workflow: Workflow, *parts: str) -> Workflow:
        for number, part in enumerate(parts, start=len(copies)):
            copies[workflow.folder / part] = tmp_path / f"kept{number}"
            shutil.copytree(workflow.folder / part, tmp_path / f"kept{number}", ignore=NOT_COPIED)
        return workflow

    yield keep
    for folder, copy in copies.items():
        shutil.rmtree(folder)
        shutil.copytree(copy, folder)  # copy2 keeps the times, so nothing looks newer


@pytest.fixture
def workflow(finished, restored) -> Workflow:
    """The finished run with its sources as they were, whatever a test edits."""
    return restored(finished, "workflow", "config", "data")
