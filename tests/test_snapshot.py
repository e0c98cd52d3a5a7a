"""Save and restore on a small repository with real git, dvc and snakemake: corpora -> models -> a sweep -> a report."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from langmerge import snapshot

ROOT = Path(__file__).parents[1]
NOTHING = "nothing to be done"

SNAKEFILE = """
import sys

from langmerge.provenance import canonical

configfile: "config/config.yaml"

def text_of(wildcards):
    return f"data/{wildcards.name}.txt"

def corpora_of(wildcards):
    return "results/toy/corpora/" + wildcards.name + "/manifest.json"

def training(wildcards):
    return canonical({"name": wildcards.name, "rate": config["rates"][wildcards.name]})

kept = (lambda path: path) if config["keep_merges"] else temp

JOB = f"{sys.executable} job.py"

rule all:
    input: "results/toy/report/manifest.json"

rule corpus:
    input: text_of
    output: "results/toy/corpora/{name}/manifest.json"
    params: spec="{}"
    shell: JOB + " '{params.spec}' results/toy/corpora/{wildcards.name} {input}"

rule train:
    input: corpora_of
    output: "results/toy/models/{name}/manifest.json", "results/toy/models/{name}/model.safetensors"
    params: spec=training
    shell: JOB + " {params.spec:q} results/toy/models/{wildcards.name} {input}"

rule sweep:
    input:
        manifests=expand("results/toy/models/{name}/manifest.json", name=["de", "tr"]),
        weights=ancient(expand("results/toy/models/{name}/model.safetensors", name=["de", "tr"])),
    output:
        manifest="results/toy/sweeps/all/manifest.json",
        merged=kept(directory("results/toy/sweeps/all/merged")),
    params: spec="{}"
    shell: JOB + " '{params.spec}' results/toy/sweeps/all {input.manifests}"

rule report:
    input: "results/toy/sweeps/all/manifest.json", ancient("results/toy/sweeps/all/merged")
    output: "results/toy/report/manifest.json"
    params: spec="{}"
    shell: JOB + " '{params.spec}' results/toy/report {input[0]}"
"""

JOB = """
import json
import sys
from pathlib import Path

from langmerge.provenance import result, sha256_file

spec, out, *inputs = sys.argv[1:]
with result(Path(out), json.loads(spec), "code", "environment") as job:
    weights = job.folder / ("merged/model.safetensors" if "sweeps" in out else "model.safetensors")
    weights.parent.mkdir(exist_ok=True)
    weights.write_text(json.dumps([spec, *map(sha256_file, map(Path, inputs))]))
"""


def call(folder: Path, *command: str | Path, code: int | None = 0) -> str:
    done = subprocess.run(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert code is None or done.returncode == code, done.stdout
    return done.stdout


def snakemake(folder: Path, *arguments: str) -> str:
    return call(folder, sys.executable, "-m", "snakemake", "--cores", "1", *arguments)


def jobs(folder: Path) -> set[str]:
    """Names of the outputs' folders that a dry run would make again."""
    lines = snakemake(folder, "--dry-run").splitlines()
    made = [line.split("output:")[1] for line in lines if line.strip().startswith("output:")]
    return {str(Path(line.split(",")[0].strip()).parent.relative_to("results/toy")) for line in made}


def save(folder: Path, code: int = 0) -> str:
    return call(folder, sys.executable, "-m", "langmerge.snapshot", "save", code=code)


def restore(folder: Path, *arguments: str, code: int = 0) -> str:
    return call(folder, sys.executable, "-m", "langmerge.snapshot", "restore", *arguments, code=code)


def commit(folder: Path) -> str:
    call(folder, "git", "add", "--all")
    call(folder, "git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "--message", "version")
    return call(folder, "git", "rev-parse", "HEAD").strip()


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def weights(folder: Path, name: str = "models/de/model.safetensors") -> str:
    return (folder / "results/toy" / name).read_text()


def pointers(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "data/versions").rglob("*.dvc")}


@pytest.fixture(scope="module", autouse=True)
def _isolated(tmp_path_factory: pytest.TempPathFactory):
    """DVC's own folders outside of the home directory; no remote from the environment."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LANGMERGE_REMOTE", raising=False)
        patch.setenv("DVC_NO_ANALYTICS", "1")
        for name in ("SYSTEM_CONFIG", "GLOBAL_CONFIG", "SITE_CACHE"):
            patch.setenv(f"DVC_{name}_DIR", str(home / name))
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository after a complete run, before any version."""
    folder = tmp_path_factory.mktemp("built") / "repo"
    for name in ("config", "data", "envs"):
        (folder / name).mkdir(parents=True)
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    shutil.copy(ROOT / ".gitignore", folder)
    (folder / "Snakefile").write_text(SNAKEFILE)
    (folder / "job.py").write_text(JOB)
    (folder / "config/config.yaml").write_text("rates: {de: 1, tr: 2}\nkeep_merges: true\n")
    (folder / "envs/requirements.lock").write_text("torch==2\n")
    for name in ("de", "tr"):
        (folder / f"data/{name}.txt").write_text(f"words of {name}\n")
    call(folder, "git", "init", "--quiet")
    commit(folder)
    snakemake(folder)
    return folder


@pytest.fixture(scope="module")
def saved(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository after its first version was saved and committed; its remote stands beside it."""
    folder = tmp_path_factory.mktemp("saved") / "repo"
    shutil.copytree(built, folder)
    output = save(folder)
    assert "git add data/versions .dvc .dvcignore" in output
    commit(folder)
    return folder


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path], Path]:
    """A copy of a repository together with what stands beside it."""

    def copy(folder: Path) -> Path:
        shutil.copytree(folder.parent, tmp_path / "here")
        return tmp_path / "here" / folder.name

    return copy


@pytest.fixture
def clone(copied: Callable[[Path], Path], saved: Path) -> Path:
    """A fresh clone of the saved repository, beside it: no results, no records, no cache; all files are new."""
    repository = copied(saved)
    folder = repository.with_name("clone")
    time.sleep(1.1)  # so that the clone's files are newer than the time of saving, which counts in seconds
    call(folder.parent, "git", "clone", "--quiet", repository, folder)
    return folder


def test_the_first_version_holds_results_and_provenance_and_no_scratch(saved: Path) -> None:
    assert set(pointers(saved)) == {"corpora.dvc", "models.dvc", "sweeps.dvc", "report.dvc", "provenance.dvc"}
    tracked = call(saved, "git", "ls-files").splitlines()
    assert "data/versions/toy/models.dvc" in tracked
    assert not [name for name in tracked if name.startswith("results/")]
    versions = json.loads((saved / "results/provenance/versions.json").read_text())
    assert versions["commit"] == call(saved, "git", "rev-parse", "HEAD~1").strip()
    assert versions["dirty"] is False
    assert versions["libraries"]["dvc"]
    listed = call(saved, sys.executable, "-m", "dvc", "ls", "--recursive", "--dvc-only", ".", "results").splitlines()
    assert "toy/models/de/model.safetensors" in listed
    assert not [name for name in listed if ".snakemake_timestamp" in name or ".part" in name]


def test_a_second_save_changes_nothing(copied: Callable[[Path], Path], saved: Path) -> None:
    folder = copied(saved)
    before = pointers(folder)
    assert "already names these results" in save(folder)
    assert pointers(folder) == before
    assert call(folder, "git", "status", "--porcelain") == ""
    assert "Nothing to be done" in snakemake(folder, "--dry-run")


def test_a_clone_is_complete_and_still_notices_every_edit(clone: Path) -> None:
    """Parameters, an edited input that is older than the download, and code are all noticed; fresh dates are not."""
    assert NOTHING in restore(clone)
    assert "Nothing to be done" in snakemake(clone, "--dry-run")
    edit(clone / "config/config.yaml", "de: 1", "de: 9")
    assert jobs(clone) == {"models/de", "sweeps/all", "report"}
    edit(clone / "config/config.yaml", "de: 9", "de: 1")
    edit(clone / "data/tr.txt", "words", "other words")
    assert jobs(clone) == {"corpora/tr", "models/tr", "sweeps/all", "report"}
    commit(clone)
    for name in ("results", ".snakemake", ".dvc/cache"):
        shutil.rmtree(clone / name)
    assert "train" in restore(clone)  # the edit is older than the download, yet it is seen
    assert jobs(clone) == {"corpora/tr", "models/tr", "sweeps/all", "report"}


def test_versions_can_be_changed_back_and_forth(copied: Callable[[Path], Path], saved: Path) -> None:
    folder = copied(saved)
    first, old = call(folder, "git", "rev-parse", "HEAD").strip(), weights(folder)
    edit(folder / "config/config.yaml", "de: 1", "de: 5")
    snakemake(folder)
    new = weights(folder)
    assert new != old
    assert "config/config.yaml" in save(folder)  # named, since a clone of the pointers alone would not fit
    second = commit(folder)
    assert "already names" not in save(folder)  # the version was saved from a dirty tree; now its commit is clean
    second = commit(folder)

    call(folder, "git", "checkout", "--quiet", first)
    assert NOTHING in restore(folder)
    assert weights(folder) == old
    assert NOTHING in restore(folder, second)
    assert call(folder, "git", "rev-parse", "HEAD").strip() == second
    assert weights(folder) == new
    assert "Nothing to be done" in snakemake(folder, "--dry-run")

    # Results of one version under the records of another: Snakemake alone would accept them.
    call(folder, "git", "checkout", "--quiet", first, "--", "data/versions")
    call(folder, sys.executable, "-m", "dvc", "checkout", "--quiet", "--force")
    assert weights(folder) == old
    assert "Nothing to be done" in snakemake(folder, "--dry-run")
    assert "other parameters than Snakemake has on record" in save(folder, code=1)


def test_parallel_saves_leave_one_whole_version(copied: Callable[[Path], Path], built: Path) -> None:
    folder = copied(built)
    command = [sys.executable, "-m", "langmerge.snapshot", "save"]
    processes = [
        subprocess.Popen(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(3)
    ]
    outputs = [process.communicate()[0] for process in processes]
    codes = [process.returncode for process in processes]
    assert 0 in codes, outputs
    for code, output in zip(codes, outputs, strict=True):
        assert code == 0 or "another save or restore is running" in output
    assert all("md5:" in text for text in pointers(folder).values())
    before = pointers(folder)
    save(folder)
    assert pointers(folder) == before


def test_save_refuses_what_is_not_whole(copied: Callable[[Path], Path], built: Path) -> None:
    folder = copied(built)
    lock = folder / ".snakemake/locks/0.output.lock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text("results/toy/report/manifest.json\n")
    assert "Snakemake is running" in save(folder, code=1)
    lock.unlink()

    path = folder / "results/toy/models/tr/model.safetensors"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"!")
    output = save(folder, code=1)
    assert "models/tr/model.safetensors" in output
    assert "changed since it was made" in output
    assert not (folder / "data/versions").exists()
    path.write_bytes(good)

    edit(folder / "config/config.yaml", "tr: 2", "tr: 3")
    output = save(folder, code=1)
    assert "not complete" in output
    assert "train" in output


def test_merges_that_were_not_kept_are_not_missed(copied: Callable[[Path], Path], built: Path) -> None:
    folder = copied(built)
    edit(folder / "config/config.yaml", "keep_merges: true", "keep_merges: false")
    snakemake(folder, "--forcerun", "sweep")
    assert not (folder / "results/toy/sweeps/all/merged").exists()
    save(folder)
    commit(folder)
    shutil.rmtree(folder / "results")
    assert NOTHING in restore(folder)


def test_restore_gives_up_no_unsaved_result(copied: Callable[[Path], Path], saved: Path) -> None:
    folder = copied(saved)
    edit(folder / "config/config.yaml", "de: 1", "de: 7")
    assert "config/config.yaml: not committed" in restore(folder, code=1)
    assert "config/config.yaml: changed" in restore(folder, "HEAD~1", code=1)
    commit(folder)
    snakemake(folder)
    new = weights(folder)
    assert "in no version" in restore(folder, code=1)
    assert weights(folder) == new
    assert "train" in restore(folder, "--force")
    assert weights(folder) != new
    edit(folder / "data/versions/toy/models.dvc", "wdir", "# edited\nwdir")
    assert "models.dvc: not committed" in restore(folder, code=1)
    assert "names no saved results" in restore(clean(folder), "HEAD~2", code=1)


def clean(folder: Path) -> Path:
    call(folder, "git", "checkout", "--quiet", "--", ".")
    return folder


def test_a_missing_remote_is_named_and_can_be_replaced(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, elsewhere = clone.with_name("repo-dvc-store"), clone.with_name("elsewhere")
    store.rename(elsewhere)
    output = restore(clone, code=1)
    assert "repo-dvc-store does not exist" in output
    assert "LANGMERGE_REMOTE" in output
    assert not (clone / "results").exists()
    monkeypatch.setenv("LANGMERGE_REMOTE", "../elsewhere")
    assert NOTHING in restore(clone)
    assert call(clone, "git", "status", "--porcelain") == ""


def test_a_damaged_or_incomplete_store_is_refused(clone: Path) -> None:
    model = (clone.with_name("repo") / "results/toy/models/tr/model.safetensors").read_bytes()
    store = clone.with_name("repo-dvc-store")
    (stored,) = (path for path in store.rglob("*") if path.is_file() and path.read_bytes() == model)
    stored.unlink()
    restore(clone, code=1)
    assert not (clone / "results").exists()
    stored.write_bytes(model[:-1] + b"!")
    output = restore(clone, code=1)
    assert "models/tr/model.safetensors" in output
    assert "stored copy is damaged" in output


def test_an_interrupted_restore_keeps_snakemake_away(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone)

    def killed() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "_replace_records", killed)
        with pytest.raises(KeyboardInterrupt):
            snapshot.restore()
    assert "cannot be locked" in call(clone, sys.executable, "-m", "snakemake", "--cores", "1", code=1)
    assert "call `make restore` again" in save(clone, code=1)
    assert NOTHING in restore(clone)
    assert "Nothing to be done" in snakemake(clone)


def test_records_are_read_by_the_path_that_they_stand_for(tmp_path: Path) -> None:
    """Snakemake cuts names of more than 254 characters into folders."""
    name = "results/" + "a" * 300 + "/manifest.json"
    text = urlsafe_b64encode(name.encode()).decode()
    path = tmp_path / f"@{text[:254]}" / text[254:]
    path.parent.mkdir()
    path.write_text('{"params": []}')
    assert snapshot.records(tmp_path) == {name: {"params": []}}
