"""Fingerprints that see what matters and nothing else; results that are whole or not there."""

import errno
import itertools
import json
import os
import subprocess
import sys
from modulefinder import ModuleFinder
from pathlib import Path

import pytest

from langmerge import config, plan, provenance
from langmerge.provenance import InputError

ROOT = Path(__file__).parents[1]


# ---- canonical text ------------------------------------------------------------------------------------------------


def test_canonical_is_one_string_per_value():
    one, two = {"b": [1, 2.5], "a": {"y": "ä", "x": None}}, {"a": {"x": None, "y": "ä"}, "b": (1, 2.5)}
    assert provenance.canonical(one) == provenance.canonical(two) == '{"a":{"x":null,"y":"ä"},"b":[1,2.5]}'
    assert json.loads(provenance.canonical(one)) == one
    assert provenance.canonical([1]) != provenance.canonical(["1"])


def test_sha256_of_the_standards_example(tmp_path):
    """FIPS 180-2, appendix B.1."""
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "abc").write_bytes(b"abc")
    assert provenance.sha256_text("abc") == provenance.sha256_file(tmp_path / "abc") == digest


# ---- fingerprints --------------------------------------------------------------------------------------------------

PROJECT = {
    "__init__": "",
    "stage.__init__": "",
    "stage.__main__": "from langmerge.stage.work import work\nwork()\n",
    "stage.work": "from ..shared import FACTOR\nfrom . import helper\ndef work():\n    return FACTOR * helper.two()\n",
    "stage.deep.__init__": "",
    "stage.deep.bottom": "from ..tools import A\nfrom ...outside import B\n",
    "stage.tools": "A = 1\n",
    "outside": "B = 1\n",
    "stage.helper": "import langmerge.stage.deep.bottom\ndef two():\n    from langmerge.lazy import TWO; return TWO\n",
    "shared": "FACTOR = 3\n",
    "lazy": "TWO = 2\n",
    "other": "A = 1\n",
    "config": "A = 1\n",
    "configuration": "A = 1\n",
}


@pytest.fixture
def fingerprint(tmp_path, monkeypatch):
    """Write a small project with some modules' code replaced; the fingerprint of its stage."""
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "langmerge")

    def write(modules=("langmerge.stage",), **changes):
        for name, code in {**PROJECT, **changes}.items():
            path = tmp_path.joinpath("langmerge", *name.split(".")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(code, encoding="utf-8")
        return provenance.code_fingerprint.__wrapped__(*modules)

    return write


def test_comments_docstrings_and_formatting_do_not_count(fingerprint):
    dressed = '"""What it does."""\n\nfrom langmerge.lazy import (  # the number\n    TWO,\n)\n'
    plain = "from langmerge.lazy import TWO\n"
    function = "def two():\n    return TWO\n"
    documented = 'def two( ) :\n    """Two.\n\n    Always.\n    """\n\n    return (TWO)   # not three\n'
    assert fingerprint(**{"stage.helper": plain + function}) == fingerprint(**{"stage.helper": dressed + documented})


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("shared", "FACTOR = 4\n"),
        ("shared", 'FACTOR = "3"\n'),
        ("lazy", "TWO = 2.0\n"),
        ("stage.tools", "A = 2\n"),
        ("outside", "B = 2\n"),
        ("stage.helper", PROJECT["stage.helper"].replace("return TWO", "return -TWO")),
        ("stage.__init__", "import langmerge.other\n"),
        ("stage.__main__", "from langmerge.stage.work import work\n"),
        ("__init__", "A = 1\n"),
    ],
)
def test_a_change_of_what_is_reached_counts(fingerprint, module, code):
    assert fingerprint(**{module: code}) != fingerprint()


def test_files_beside_the_code_count(fingerprint, tmp_path):
    before, folder = fingerprint(), tmp_path / "langmerge"
    for place in ("stage/__pycache__/work.pyc", "stage/.work.swp", "template.j2"):
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / place).write_text("a")
    assert fingerprint() == before
    (folder / "stage/templates").mkdir()
    (folder / "stage/templates/report.j2").write_text("a")
    with_template = fingerprint()
    (folder / "stage/templates/report.j2").write_text("b")
    assert len({before, with_template, fingerprint()}) == 3


@pytest.mark.parametrize("module", ["other", "config", "configuration"])
def test_a_change_elsewhere_does_not_count(fingerprint, module):
    assert fingerprint(**{module: "A = 2\n"}) == fingerprint()


def test_only_the_named_modules_are_left_out(fingerprint):
    """`config` is in every spec and left out; a module whose name begins like it is not."""
    uses = {"shared": "from langmerge import config, configuration\nFACTOR = 3\n"}
    before = fingerprint(**uses)
    assert fingerprint(**uses, config="A = 2\n") == before
    assert fingerprint(**uses, configuration="A = 2\n") != before


def test_a_module_that_is_not_there_is_an_error(fingerprint):
    with pytest.raises(ValueError, match=r"langmerge\.nothing"):
        fingerprint(modules=("langmerge.nothing",))


@pytest.fixture
def shipped(monkeypatch):
    monkeypatch.chdir(ROOT)
    return plan.build(
        config.load(config.Workflow(studies=["translation"], scale="smoke"), "translation"), "translation"
    )


# The configuration reads names from them; only these stages (and reports) compute with them.
FOR_THE_SPEC_AND_ONE_STAGE = {
    "langmerge.growth": "langmerge.growing",
    "langmerge.transforms": "langmerge.corpora.prepare",
}


def is_tracked_by_spec(module):
    left_out = (*provenance.NOT_IN_FINGERPRINT, *FOR_THE_SPEC_AND_ONE_STAGE)
    return any(module == name or module.startswith(f"{name}.") for name in left_out)


@pytest.mark.parametrize(("module", "stage"), FOR_THE_SPEC_AND_ONE_STAGE.items())
def test_a_stage_is_fingerprinted_with_what_the_configuration_imports_too(module, stage):
    assert module in provenance.modules_of(stage)
    assert module not in provenance.modules_of("langmerge.training")


def test_fingerprints_cover_every_import_statement(shipped):
    """Python's own module finder, which looks into functions too, reaches no project module that we do not."""
    for modules in {job.modules for job in shipped.jobs.values()}:
        finder = ModuleFinder(path=[str(ROOT / "workflow")])
        for module in modules:
            path = ROOT.joinpath("workflow", *module.split("."))
            finder.run_script(str(path / "__main__.py" if path.is_dir() else path.with_suffix(".py")))
        reached = {
            name for name in finder.modules if name.split(".")[0] == "langmerge" and not is_tracked_by_spec(name)
        }
        assert len(reached) > 2
        assert reached <= set(provenance.modules_of(*modules)), modules


def test_fingerprints_cover_what_a_corpus_imports_as_it_runs(shipped, tmp_path):
    """The languages' modules are imported by name, where no static look at the code finds them."""
    job = shipped.jobs["results/translation/corpora/es"]
    corpus = {**job.spec["corpus"], "train": 4, "dev": 2, "test": 2}
    code = (
        "import json, sys\nfrom langmerge.corpora.prepare import main\n"
        "main(sys.argv[1:])\nprint(json.dumps([m for m in sys.modules if m.startswith('langmerge')]))"
    )
    command = [sys.executable, "-c", code, "--spec", json.dumps({**job.spec, "corpus": corpus})]
    done = subprocess.run([*command, "--out", str(tmp_path / "es")], capture_output=True, text=True, check=True)
    imported = {name for name in json.loads(done.stdout.splitlines()[-1]) if not is_tracked_by_spec(name)}
    assert "langmerge.corpora.grammar.languages.es" in imported
    assert imported <= set(provenance.modules_of(*job.modules))


def test_the_environment_is_named_by_release():
    assert provenance.environment_fingerprint("pytest") == f"pytest=={pytest.__version__}"
    two = provenance.environment_fingerprint("torch", "pytest")
    assert two.startswith("pytest==") and " torch==" in two and "+" not in two


# ---- whole results -------------------------------------------------------------------------------------------------


def make(folder, text="one", nested="deep", spec=1, **cost):
    with provenance.result(folder, {"spec": spec}, "code", "environment") as job:
        (job.folder / "weights.safetensors").write_text(text)
        (job.folder / "step2").mkdir()
        (job.folder / "step2/weights.safetensors").write_text(nested)
        job.cost.update(cost)
    return folder


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_result_has_its_files_manifest_and_cost(tmp_path):
    folder = make(tmp_path / "a/b", tokens=7)
    assert set(tree(folder)) == {"weights.safetensors", "step2/weights.safetensors", "manifest.json", "cost.json"}
    manifest = provenance.read_manifest(folder)
    assert manifest["outputs"] == {
        "weights.safetensors": provenance.sha256_text("one"),
        "step2/weights.safetensors": provenance.sha256_text("deep"),
    }
    assert (manifest["spec"], manifest["code"], manifest["environment"]) == ({"spec": 1}, "code", "environment")
    cost = json.loads((folder / "cost.json").read_text())
    assert cost["tokens"] == 7
    assert cost["seconds"] >= 0 and cost["peak_memory_bytes"] > 1 << 20


def test_equal_runs_have_equal_manifests_whatever_they_cost(tmp_path):
    one, two = make(tmp_path / "one", tokens=1), make(tmp_path / "two", tokens=2)
    assert (one / "manifest.json").read_bytes() == (two / "manifest.json").read_bytes()
    assert (one / "cost.json").read_bytes() != (two / "cost.json").read_bytes()
    other = make(tmp_path / "three", nested="deeper")
    assert (one / "manifest.json").read_bytes() != (other / "manifest.json").read_bytes()


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_an_error_leaves_nothing_of_a_first_run(tmp_path, error):
    with pytest.raises(type(error)), provenance.result(tmp_path / "r", {}, "", "") as job:
        (job.folder / "half").write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_the_result_of_an_earlier_run(tmp_path):
    before = tree(make(tmp_path / "r"))
    with pytest.raises(RuntimeError), provenance.result(tmp_path / "r", {}, "", "") as job:
        (job.folder / "weights.safetensors").write_text("two")
        assert tree(tmp_path / "r") == before
        raise RuntimeError
    assert tree(tmp_path / "r") == before
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


@pytest.mark.parametrize("failing", range(1, 3))
def test_a_disk_that_fills_up_while_the_manifest_is_written(tmp_path, monkeypatch, failing):
    """The writes of cost.json and manifest.json fail, one after the other: the old result stands."""
    before = tree(make(tmp_path / "r"))
    write, calls = Path.write_text, itertools.count(1)

    def full(path, *args, **kwargs):
        if path.suffix == ".part" and next(calls) == failing:
            write(path, "{", encoding="utf-8")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        make(tmp_path / "r", text="two")
    assert tree(tmp_path / "r") == before
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_a_new_result_replaces_the_old_one_whole(tmp_path):
    make(tmp_path / "r")
    (tmp_path / "r/left.over").write_text("of an earlier version of the code")
    with provenance.result(tmp_path / "r", {}, "", "") as job:
        (job.folder / "new").write_text("new")
    assert set(tree(tmp_path / "r")) == {"new", "manifest.json", "cost.json"}


def test_what_a_killed_run_left_is_removed_but_not_a_neighbours_work(tmp_path):
    own, neighbour = tmp_path / ".r.123.part", tmp_path / ".r.pairs.123.part"
    for folder in (own, neighbour):
        folder.mkdir()
        (folder / "half").write_text("half")
    make(tmp_path / "r")
    assert not own.exists()
    assert (neighbour / "half").read_text() == "half"


def test_inputs_are_known_by_their_content(tmp_path):
    source = make(tmp_path / "source")

    def digest(folder):
        with provenance.result(tmp_path / "reader", {}, "", "") as job:
            assert job.read("model", folder) == folder
        return provenance.read_manifest(tmp_path / "reader")["inputs"]["model"]

    whole, snapshot = digest(source), digest(source / "step2")
    assert whole != snapshot
    make(source, text="two", tokens=3)
    assert digest(source / "step2") == snapshot, "a snapshot is its own files only"
    assert digest(source) != whole
    make(source, tokens=4)
    assert digest(source) == whole, "the same bytes, whatever they cost"


def test_hashes_of_a_folder_inside_a_result(tmp_path):
    with provenance.result(tmp_path / "sweep", {}, "", "") as job:
        for name in ("ties", "ties2"):
            (job.folder / "merged" / name).mkdir(parents=True)
            (job.folder / "merged" / name / "model.safetensors").write_text(name)
    digest = provenance.sha256_text("ties")
    assert provenance.hashes(tmp_path / "sweep/merged/ties") == {"model.safetensors": digest}
    with pytest.raises(InputError, match=r"merged/dare.*manifest\.json.*run again"):
        provenance.hashes(tmp_path / "sweep/merged/dare")
    with pytest.raises(InputError, match=r"nowhere.*no manifest\.json"):
        provenance.hashes(tmp_path / "nowhere")


@pytest.mark.parametrize("place", ["weights.safetensors", "step2/weights.safetensors"])
@pytest.mark.parametrize("damage", ["flipped", "missing", "cut"])
def test_a_changed_file_is_found(tmp_path, place, damage):
    folder = make(tmp_path / "r")
    provenance.verify(folder)
    path = folder / place
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(bytes([data[0] ^ 1, *data[1:]]) if damage == "flipped" else data[:-1])
    for checked in (folder, path.parent):
        with pytest.raises(InputError) as error:
            provenance.verify(checked)
        assert str(path) in str(error.value)
    provenance.verify(folder, suffixes=(".json",))


def test_broken_json_is_explained(tmp_path):
    with pytest.raises(InputError, match="file not found"):
        provenance.read_json(tmp_path / "a.json")
    for content in (b'{"a": ', b"\xff\xfe"):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(InputError, match=r"a\.json: not valid JSON"):
            provenance.read_json(tmp_path / "a.json")


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x/value.json"
    provenance.write_json(path, {"b": "ä", "a": 1})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": 1, "b": "ä"}
    with pytest.raises(TypeError):
        provenance.write_json(path, {"a": object()})
    with pytest.raises(RuntimeError), provenance.atomic_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [p.name for p in path.parent.iterdir()] == ["value.json"]
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": 1, "b": "ä"}


# ---- command lines -------------------------------------------------------------------------------------------------


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InputError("study.yaml: languages: wrong"), "error: study.yaml: languages: wrong"),
        (
            OSError(errno.ENOSPC, "No space left on device", "out.bin"),
            "no space left on the device while writing out.bin",
        ),
        (OSError(errno.EDQUOT, "Quota"), "no space left on the device"),
        # What safetensors raises is no OSError.
        (Exception("I/O error: No space left on device (os error 28)"), "no space left on the device"),
    ],
)
def test_what_the_user_can_mend_is_one_line(error, expected):
    with pytest.raises(SystemExit) as stop:
        provenance.run(raising(error))
    assert expected in stop.value.code
    assert "\n" not in stop.value.code


def test_the_line_goes_to_stderr_with_exit_status_1():
    code = "from langmerge.provenance import *\ndef main(): raise InputError('a.yaml: wrong')\nrun(main)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "error: a.yaml: wrong\n")


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(errno.EACCES, "Permission denied")])
def test_a_bug_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        provenance.run(raising(error))
