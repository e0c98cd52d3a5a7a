"""Whatever goes wrong in a merge: a clear error, no half-written folders, no threads or open files left behind."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import broken_disk
import pytest
import torch
from merge_models import CONFIG, save
from safetensors.torch import load_file, save_file

from langmerge.merging import Merge, Recipe, journal, state_dicts, write_models
from langmerge.merging import sinks as sinks_module
from langmerge.merging.elements import FLOAT32
from langmerge.merging.journal import JOURNAL, Journal, entry_of, resumable_folders
from langmerge.merging.reader import ModelFolder, read_header
from langmerge.merging.writer import WeightsWriter

MEAN = Recipe("mean", "linear", ("a", "b"), "base")
TIES = Recipe("ties", "ties", ("a", "b"), "base", {"density": 0.5})


def small(seed):
    """A model of few, small tensors: whole numbers, an empty one, a scalar, two layers."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"embed.weight": (6, 4), "layers.0.w": (5, 4), "layers.1.w": (5, 4), "norm.weight": (4,), "scalar": ()}
    state = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return state | {"positions": torch.arange(3), "void": torch.zeros(0, 4)}


@pytest.fixture
def smalls(tmp_path):
    return {name: save(tmp_path / "in" / name, small(seed)) for seed, name in enumerate(("base", "a", "b"))}


@pytest.fixture(autouse=True)
def nothing_left_running():
    """No thread and no open file may outlive a merge, whether it ended well or not."""
    handles, threads = open_files(), set(threading.enumerate())
    yield
    assert open_files() == handles
    assert set(threading.enumerate()) == threads


def open_files():
    """Files and folders of models that this process has open."""
    targets = []
    for handle in Path("/proc/self/fd").iterdir():
        try:
            targets.append(str(handle.readlink()))
        except OSError:
            continue
    return sorted(target for target in targets if target.endswith((".safetensors", ".partial", ".json", JOURNAL)))


def write(sources, out, recipes=(MEAN, TIES), **options):
    options = {"block": 8, "shard_bytes": 150} | options
    return write_models(recipes, sources, {recipe.name: out / recipe.name for recipe in recipes}, **options)


def contents(folder):
    """Bytes of all files below a folder, hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(sources, out, message, error=ValueError, **options):
    """The merge fails with this message and leaves nothing behind."""
    with pytest.raises(error, match=message) as caught:
        write(sources, out, **options)
    assert not out.exists() or list(out.iterdir()) == []
    return caught.value


# ---- files that are not what they should be -------------------------------------------------------------------------


def sharded(folder, state, shards=2):
    """A model in several files; tensor i stands in file i modulo `shards`."""
    return save(folder, state, shards=shards)


def test_shards_that_were_exchanged_are_refused(smalls, tmp_path):
    folder = sharded(tmp_path / "in/s", small(1))
    one, two = sorted(folder.glob("model-*.safetensors"))
    one.rename(folder / "x")
    two.rename(one)
    (folder / "x").rename(two)
    refused(
        smalls | {"a": folder},
        tmp_path / "out",
        r"model 'a': tensor 'embed.weight' stands in model-00002.* but in model-00001",
    )


def test_a_shard_of_another_model_is_refused(smalls, tmp_path):
    folder = sharded(tmp_path / "in/s", small(1))
    other = sharded(tmp_path / "in/o", small(1) | {"more": torch.zeros(2)}, shards=3)
    shutil.copy(other / "model-00001-of-00003.safetensors", folder / "model-00001-of-00002.safetensors")
    refused(
        smalls | {"a": folder},
        tmp_path / "out",
        "model 'a': tensor .* (shards were exchanged or belong|stands in two files)",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w: w.update({"layers.0.w": w["embed.weight"]}),
            "'layers.0.w' stands in model-00002.* but in model-00001",
        ),
        (lambda w: w.update({"ghost": w["embed.weight"]}), "'ghost' stands in no file .* but in model-00001"),
        (lambda w: w.pop("layers.0.w"), "'layers.0.w' stands in model-00002.* but nowhere by"),
        (lambda w: w.update({"embed.weight": "../model.safetensors"}), "names missing files"),
        (lambda w: w.update({"embed.weight": 3}), "not a valid shard index"),
        (lambda w: w.update({"embed.weight": None}), "not a valid shard index"),
    ],
)
def test_an_index_that_lies_is_refused(smalls, tmp_path, change, message):
    folder = sharded(tmp_path / "in/s", small(1))
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index["weight_map"])
    path.write_text(json.dumps(index))
    refused(smalls | {"a": folder}, tmp_path / "out", message, error=(ValueError, FileNotFoundError))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"weight_map": 1}', '{"weight_map": [["x", 1]]}', '{"weight_map": {"x": 1}}', "\0"]
)
def test_an_index_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ValueError, match="not a valid shard index"):
        ModelFolder("a", tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    folder = sharded(tmp_path / "in/s", small(1))
    _one, two = sorted(folder.glob("model-*.safetensors"))
    save_file(load_file(two) | {"norm.weight": torch.zeros(4), "embed.weight": torch.zeros(6, 4)}, two)
    with pytest.raises(ValueError, match=r"model 'a': tensor .* stands in two files"):
        ModelFolder("a", folder)


def raw(path, header, data=b""):
    """A safetensors file with just this header text."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def row(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    "header",
    [
        b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b'{"w":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}}',
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        {"w": 1},
        {"w": row(dtype="F4")},
        {"w": row(dtype=["F32"])},
        {"w": row(dtype=None)},
        {"w": row(shape=[-1])},
        {"w": row(shape=[1.0])},
        {"w": row(shape=[True])},
        {"w": row(shape="1")},
        {"w": row(shape=None)},
        {"w": row(shape=[-1, -1])},
        {"w": row(offsets=[0, 4, 8])},
        {"w": row(offsets=[0])},
        {"w": row(offsets=["0", "4"])},
        {"w": row(offsets=[0.0, 4.0])},
        {"w": row(offsets=[-4, 0])},
        {"w": row(offsets=[4, 8])},
        {"w": row(), "v": row()},
        {"w": row(offsets=[0, 10**30])},
        {"w": {"dtype": "F32", "shape": [1]}},
    ],
)
def test_damaged_headers_are_one_clear_error(tmp_path, header):
    path = raw(tmp_path / "model.safetensors", header, b"\0" * 4)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_header(path)


def test_every_truncation_is_found_before_anything_is_written(smalls, tmp_path):
    whole = (smalls["a"] / "model.safetensors").read_bytes()
    for size in range(len(whole)):
        (smalls["a"] / "model.safetensors").write_bytes(whole[:size])
        with pytest.raises(ValueError, match="truncated"):
            Merge([MEAN], smalls)
    (smalls["a"] / "model.safetensors").write_bytes(whole + b"\0")
    refused(smalls, tmp_path / "out", "truncated or damaged")
    (smalls["a"] / "model.safetensors").write_bytes(whole)
    write(smalls, tmp_path / "out")


def test_a_truncated_shard_is_named(smalls, tmp_path):
    folder = sharded(tmp_path / "in/s", small(1), shards=3)
    path = folder / "model-00002-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    refused(smalls | {"b": folder}, tmp_path / "out", re.escape(str(path)))


@pytest.mark.parametrize(
    ("name", "shape"), [("norm.weight", (5,)), ("layers.0.w", (4, 5)), ("scalar", (1,)), ("void", (0, 5))]
)
def test_unequal_shapes_are_refused_before_anything_is_written(smalls, tmp_path, name, shape):
    folder = save(tmp_path / "in/x", small(2) | {name: torch.zeros(shape)})
    refused(
        smalls | {"b": folder}, tmp_path / "out", rf"tensor '{name}' has shape .* in model 'base' but .* in model 'b'"
    )


@pytest.mark.parametrize("name", list(small(0)))
@pytest.mark.parametrize("model", ["base", "a", "b"])
def test_a_missing_tensor_is_refused_before_anything_is_written(smalls, tmp_path, name, model):
    state = {key: value for key, value in small(1).items() if key != name}
    refused(
        smalls | {model: save(tmp_path / "in/x", state)},
        tmp_path / "out",
        f"tensor '{name}' is .*not in model '{model}'",
    )


def test_a_model_without_tensors_is_refused(smalls, tmp_path):
    empty = tmp_path / "in/x"
    empty.mkdir()
    raw(empty / "model.safetensors", {})
    message = refused(dict.fromkeys(smalls, empty), tmp_path / "out", "holds no tensors")
    assert str(empty) in str(message)
    (empty / "model.safetensors").unlink()
    (empty / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    refused(dict.fromkeys(smalls, empty), tmp_path / "out", "holds no tensors")


def test_models_of_empty_and_whole_number_tensors_only_are_passed_on(tmp_path):
    state = {"void": torch.zeros(0, 4), "nothing": torch.zeros(3, 0), "ids": torch.arange(4)}
    sources = {name: save(tmp_path / "in" / name, state) for name in ("base", "a", "b")}
    write(sources, tmp_path / "out")
    for recipe in ("mean", "ties"):
        stored = {}
        for path in (tmp_path / "out" / recipe).glob("*.safetensors"):
            stored |= load_file(path)
        assert stored.keys() == state.keys()
        assert all(torch.equal(stored[name], state[name]) and stored[name].shape == state[name].shape for name in state)


# ---- values that are not finite -------------------------------------------------------------------------------------


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_one_bad_element_anywhere_in_any_model_is_found(states, sources, tmp_path, statistics, value):
    generator = torch.Generator().manual_seed(5)
    names = list(states["base"])
    for number, model in enumerate(("base", "a", "b") * 4):
        name = names[int(torch.randint(len(names), (), generator=generator))]
        flat = states[model][name].clone().view(-1)
        flat[int(torch.randint(flat.numel(), (), generator=generator))] = value
        folder = save(tmp_path / "in" / str(number), states[model] | {name: flat.view(states[model][name].shape)})
        refused(
            sources | {model: folder},
            tmp_path / "out",
            f"model '{model}': tensor '{name}' contains NaN or infinite",
            block=(64, 1 << 17)[number % 2],
            statistics=statistics,
            shard_bytes=1 << 20,
        )


@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "ties", "dare_linear", "slerp"])
@pytest.mark.parametrize("place", [0, 50_000, 99_999])
def test_a_bad_element_amid_a_long_tensor_is_found(tmp_path, method, place):
    models = ("a", "b")
    base = None if method in ("linear", "slerp") else "base"
    state = {"w": torch.ones(1000, 100)}
    sources = {name: save(tmp_path / "in" / name, state, config={}, tokenizer=None) for name in ("base", "a")}
    flat = torch.ones(100_000)
    flat[place] = torch.nan
    sources["b"] = save(tmp_path / "in/b", {"w": flat.view(1000, 100)}, config={}, tokenizer=None)
    refused(
        sources,
        tmp_path / "out",
        "model 'b': tensor 'w' contains NaN",
        recipes=[Recipe("m", method, models, base)],
        block=1000,
        statistics=False,
        shard_bytes=1 << 30,
    )


def test_a_model_of_weight_zero_must_be_finite_as_well(smalls, tmp_path):
    state = small(2)
    state["layers.1.w"][2, 2] = torch.inf
    recipe = Recipe("m", "linear", ("a", "b"), None, {"weights": [1, 0]})
    refused(smalls | {"b": save(tmp_path / "in/x", state)}, tmp_path / "out", "model 'b'", recipes=[recipe])


def test_large_finite_values_have_statistics_too(tmp_path):
    states = {name: {"w": torch.full((4, 4), value)} for name, value in (("base", 0.0), ("a", 1e30), ("b", -1e30))}
    sources = {name: save(tmp_path / "in" / name, state, config={}, tokenizer=None) for name, state in states.items()}
    result = write(sources, tmp_path / "out", recipes=[Recipe("m", "linear", ("a", "b"), "base", {"weights": [3, 1]})])
    total = result["m"]["total"]
    assert total["delta_norms"]["a"] == pytest.approx(4e30)
    assert total["cosines"][0][1] == pytest.approx(-1)
    assert total["change_norm"] == pytest.approx(2e30)
    assert total["vanished"] == 0


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_float8_models_are_merged(tmp_path, dtype):
    values = {"a": [1.0, 2.0, 0.5, -4.0], "b": [3.0, 2.0, 1.5, -2.0]}
    sources = {
        name: save(tmp_path / "in" / name, {"w": torch.tensor(row).to(dtype)}, config={}, tokenizer=None)
        for name, row in values.items()
    }
    (merged,) = state_dicts([Recipe("m", "linear", ("a", "b"))], sources)
    assert merged.state_dict["w"].dtype == dtype
    assert merged.state_dict["w"].to(torch.float32).tolist() == [2.0, 2.0, 1.0, -3.0]


# ---- sources that change while they are merged ----------------------------------------------------------------------


def grow(path):
    with path.open("ab") as file:
        file.write(b" ")


def rewrite(path):
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b" ")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def swap(path):
    shutil.copy(path, path.with_name("new"))
    os.utime(path.with_name("new"), ns=(1, 1))
    path.with_name("new").replace(path)


@pytest.mark.parametrize("change", [grow, rewrite, swap, Path.unlink])
@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("model", ["base", "b"])
def test_a_source_that_changes_meanwhile_is_an_error(smalls, tmp_path, change, file, model):
    done = []

    def progress(count):
        done.append(count)
        if len(done) == 9:
            change(smalls[model] / file)

    refused(
        smalls, tmp_path / "out", rf"model '{model}': .*{file} changed while it was being merged", progress=progress
    )


def test_a_source_that_changes_is_an_error_in_memory_too(smalls):
    merged = state_dicts([MEAN], smalls, progress=lambda count: grow(smalls["a"] / "model.safetensors"), block=10**6)
    with pytest.raises(ValueError, match=r"model 'a': .* changed while"):
        next(merged)


def test_a_source_that_shrinks_is_an_error_at_once(smalls, tmp_path):
    path = smalls["b"] / "model.safetensors"
    size = path.stat().st_size

    def shrink(count):
        os.truncate(path, size - 200)

    refused(
        smalls,
        tmp_path / "out",
        "model 'b': tensor .* cannot be read: .*ended while reading|changed while",
        progress=shrink,
    )


def test_a_source_that_changed_between_opening_and_merging_is_an_error(smalls, tmp_path):
    folder = ModelFolder("a", smalls["a"])
    rewrite(smalls["a"] / "model.safetensors")
    refused(smalls | {"a": folder}, tmp_path / "out", "model 'a': .* changed while")


# ---- places that cannot be written ----------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["mean", "ties"])
def test_an_output_that_is_a_file_or_not_empty_is_left_alone(smalls, tmp_path, which):
    out = tmp_path / "out"
    out.mkdir()
    (out / which).write_text("mine")
    with pytest.raises(FileExistsError, match=f"{which} exists already; remove it or write elsewhere"):
        write(smalls, out)
    assert contents(out) == {which: b"mine"}
    (out / which).unlink()
    (out / which).mkdir()
    (out / which / "mine").write_text("mine")
    with pytest.raises(FileExistsError, match=f"{which} exists already"):
        write(smalls, out)
    assert contents(out) == {f"{which}/mine": b"mine"}
    assert [path.name for path in out.iterdir()] == [which]


def test_an_empty_output_folder_is_used(smalls, tmp_path):
    (tmp_path / "out/mean").mkdir(parents=True)
    write(smalls, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["mean", "ties"]


def test_a_place_below_a_file_is_refused(smalls, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="file"):
        write(smalls, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("which", ["mean", "ties"])
def test_a_read_only_place_leaves_nothing(smalls, tmp_path, monkeypatch, which):
    mkdir = Path.mkdir

    def refuse(path, *arguments, **named):
        if which in path.name:  # root may write everywhere, so that modes would not do
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        mkdir(path, *arguments, **named)

    monkeypatch.setattr(Path, "mkdir", refuse)
    refused(smalls, tmp_path / "out", f"Permission denied: .*{which}", error=PermissionError)


def test_two_outputs_in_one_folder_are_refused(smalls, tmp_path):
    with pytest.raises(ValueError, match=r"outputs 'mean' and 'ties' both go to .*one"):
        write_models([MEAN, TIES], smalls, {"mean": tmp_path / "one", "ties": tmp_path / "two" / ".." / "one"})
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_second_writer_is_refused_and_the_first_is_not_disturbed(smalls, tmp_path):
    write(smalls, tmp_path / "whole")
    refusals = []

    def meanwhile(count):
        if not refusals:
            for recipes in ((MEAN, TIES), (TIES, MEAN), (TIES,)):
                with pytest.raises(BlockingIOError, match="another process is writing it right now") as caught:
                    write(smalls, tmp_path / "out", recipes=recipes)
                refusals.append(caught.value)

    write(smalls, tmp_path / "out", progress=meanwhile)
    assert len(refusals) == 3
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_folder_that_appears_meanwhile_is_left_alone_and_nothing_else_appears(smalls, tmp_path):
    for which in ("mean", "ties"):
        out = tmp_path / f"out-{which}"

        def progress(count, out=out, which=which):
            (out / which).mkdir(exist_ok=True)
            (out / which / "mine").write_text("mine")

        with pytest.raises(OSError, match="not empty"):
            write(smalls, out, progress=progress)
        assert contents(out) == {f"{which}/mine": b"mine"}
        assert [path.name for path in out.iterdir()] == [which]


@pytest.mark.parametrize("failing", ["progress", "statistics", "layout"])
def test_an_error_anywhere_leaves_nothing(smalls, tmp_path, monkeypatch, failing):
    def fail(*arguments, **named):
        raise ArithmeticError("planted")

    if failing != "progress":
        monkeypatch.setattr(Merge, failing, fail)
    progress = fail if failing == "progress" else None
    refused(smalls, tmp_path / "out", "planted", error=ArithmeticError, progress=progress)


# ---- a disk that is full --------------------------------------------------------------------------------------------


def test_a_disk_full_at_any_operation_leaves_nothing(smalls, tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "SECONDS", 0.0)
    out = tmp_path / "out"
    out.mkdir()
    with broken_disk.disk() as disk:
        write(smalls, out)
    whole = contents(out)
    operations = len(disk.seen)
    assert {operation.split()[0] for operation in disk.seen} >= {
        "mkdir",
        "open",
        "write",
        "flush",
        "fsync",
        "rename",
    }
    for name in ("mean", "ties"):
        shutil.rmtree(out / name)
    for number in range(operations):
        with (
            pytest.raises(OSError, match="No space left on device"),
            broken_disk.disk(number),
        ):
            write(smalls, out)
        assert list(out.iterdir()) == [], disk.seen[number]
        assert open_files() == []
        assert not [thread for thread in threading.enumerate() if thread.name in ("write-behind", "read-ahead_0")]
    write(smalls, out)
    assert contents(out) == whole


# ---- a process that is killed ---------------------------------------------------------------------------------------

KILLS = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import broken_disk
from test_faults import MEAN, TIES, contents, journal, write
from langmerge import provenance
provenance.code_fingerprint("langmerge.merging.engine")  # kept for the children
journal.SECONDS = float(sys.argv[4])
root = Path(sys.argv[2])
sources = {name: root / "in" / name for name in ("base", "a", "b")}
whole = contents(root / "whole")

def child(out, number):
    process = os.fork()
    if not process:
        try:
            with broken_disk.disk(number, broken_disk.kill):
                write(sources, out)
            os._exit(0)
        except FileExistsError:
            os._exit(17)
        except BaseException as error:
            print("number", number, repr(error), flush=True)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

def check(out, *before):
    status = child(out, -1)
    # All was there already if the kill came after the last folder was complete.
    complete = status == 17 and contents(out) == whole
    if not (status == 0 or complete) or contents(out) != whole or any(p.name.startswith(".") for p in out.iterdir()):
        print("after", before, "ended with", status, sorted(set(contents(out)) ^ set(whole)), flush=True)
        sys.exit(1)

number = 0
while True:
    out = root / f"killed-{number}"
    status = child(out, number)
    if status == 0:
        break
    for name in ("mean", "ties"):  # what has its name is complete
        found = {p.name: p.read_bytes() for p in (out / name).glob("[!.]*")}
        expected = {p[len(name) + 1:]: data for p, data in whole.items() if p.startswith(name + "/")}
        if found and found != expected:
            sys.exit(f"{number}: {name} is not complete")
    if number % 3 == 2:  # and killed once more
        again = (7 * number) % int(sys.argv[3])
        child(out, again)
        check(out, number, again)
    else:
        check(out, number)
    number += int(sys.argv[5])
print(number)
"""


@pytest.mark.parametrize(
    ("seconds", "step"),
    [
        (0.0, 3),
        (1e9, 7),
        pytest.param(0.0, 1, marks=pytest.mark.slow),
        pytest.param(1e9, 1, marks=pytest.mark.slow),
    ],
)
def test_a_merge_killed_at_any_operation_goes_on_to_the_same_bytes(smalls, tmp_path, monkeypatch, seconds, step):
    monkeypatch.setattr(journal, "SECONDS", seconds)
    with broken_disk.disk() as disk:
        write(smalls, tmp_path / "whole")
    arguments = [str(Path(__file__).parent), str(tmp_path), str(len(disk.seen)), str(seconds), str(step)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", KILLS, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) >= len(disk.seen)


class Killed(BaseException):
    """Ends a merge as a kill does, as far as the disk is concerned."""


def killed_at(monkeypatch, sources, out, operation, number, **options):
    """A merge that ends before the `number`-th (from 0) operation of this kind; what was on disk stays."""
    monkeypatch.setattr(journal, "SECONDS", 0.0)
    with broken_disk.disk() as trial:
        write(sources, out.with_name("trial"), **options)
    shutil.rmtree(out.with_name("trial"))
    places = [place for place, seen in enumerate(trial.seen) if seen.startswith(operation)]

    def end():
        raise Killed

    with pytest.raises(Killed), broken_disk.disk(places[number], end):
        write(sources, out, **options)


def test_a_kill_while_outputs_take_their_names_is_made_good_without_merging_anew(smalls, tmp_path, monkeypatch):
    statistics = write(smalls, tmp_path / "whole")
    for number in (0, 1):
        out = tmp_path / f"out{number}"
        killed_at(monkeypatch, smalls, out, "rename", number)
        assert sum(path.name.startswith(".") for path in out.iterdir()) == 2 - number
        with monkeypatch.context() as without:
            without.setattr(sinks_module, "write_into", None)  # to call it would be an error
            assert write(smalls, out) == json.loads(json.dumps(statistics))
        assert contents(out) == contents(tmp_path / "whole")
        with pytest.raises(FileExistsError, match="exists already"):
            write(smalls, out)


def test_after_a_kill_while_outputs_take_their_names_other_merges_are_refused(smalls, tmp_path, monkeypatch):
    out = tmp_path / "out"
    killed_at(monkeypatch, smalls, out, "rename", 1)
    before = contents(out)
    for options in ({"dtype": torch.bfloat16}, {"recipes": (MEAN,)}, {"block": 99}):
        with pytest.raises(FileExistsError, match="mean exists already; remove it"):
            write(smalls, out, **options)
    assert contents(out) == before
    shutil.rmtree(out / ".ties.partial")  # somebody tidied up
    with pytest.raises(FileExistsError, match=r"of the same run is missing; remove .*mean and merge again"):
        write(smalls, out)
    shutil.rmtree(out / "mean")
    write(smalls, out)
    write(smalls, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_a_foreign_folder_is_not_taken_for_part_of_a_killed_run(smalls, tmp_path, monkeypatch):
    out = tmp_path / "out"
    killed_at(monkeypatch, smalls, out, "rename", 1)
    (out / "ties").mkdir()
    (out / "ties/mine").write_text("mine")
    with pytest.raises(FileExistsError, match="ties exists already"):
        write(smalls, out)
    assert (out / "ties/mine").read_text() == "mine"


def test_an_interrupt_keeps_what_was_done_and_an_error_does_not(smalls, tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "SECONDS", 0.0)
    write(smalls, tmp_path / "whole")
    out, counts = tmp_path / "out", []

    def interrupt(count):
        counts.append(count)
        if len(counts) == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(smalls, out, progress=interrupt)
    assert sorted(path.name for path in out.iterdir()) == [".mean.partial", ".ties.partial"]
    rest = []
    write(smalls, out, progress=rest.append)
    assert sum(rest) < Merge([MEAN, TIES], smalls).elements
    assert contents(out) == contents(tmp_path / "whole")


def test_a_second_kill_loses_nothing_of_what_was_done_after_a_line_was_cut(tmp_path):
    first = Journal(tmp_path, "x")
    first.start()
    first.note(entry_of("a", [1.0]))
    first.note(entry_of("b", [2.0]))
    first.write(first.take())
    path = tmp_path / JOURNAL
    path.write_text(path.read_text()[:-5])
    second = Journal(tmp_path, "x")
    assert second.done == {"a": [1.0]}
    second.start()
    second.note(entry_of("c", [3.0]))
    second.write(second.take())
    assert Journal(tmp_path, "x").done == {"a": [1.0], "c": [3.0]}


def test_tensors_that_only_one_output_noted_are_forgotten_by_its_journal(smalls, tmp_path, monkeypatch):
    """Else, after one more kill, they would count as written although this run had begun their files anew."""
    out = tmp_path / "out"
    killed_at(monkeypatch, smalls, out, "fsync", 9)
    path = out / ".ties.partial" / JOURNAL
    head, *_ = path.read_text().splitlines()
    path.write_text(head + "\n")
    assert len((out / ".mean.partial" / JOURNAL).read_text().splitlines()) > 1

    def end(count):
        raise Killed

    with pytest.raises(Killed):
        write(smalls, out, progress=end)
    assert len((out / ".mean.partial" / JOURNAL).read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "harm", [lambda p: p.unlink(), lambda p: os.truncate(p, 100), lambda p: p.write_bytes(b"\1" * p.stat().st_size)]
)
def test_files_that_are_not_as_the_journal_says_are_not_gone_on_with(smalls, tmp_path, monkeypatch, harm):
    out = tmp_path / "out"
    killed_at(monkeypatch, smalls, out, "rename", 0)
    for name in ("mean", "ties"):
        path = out / f".{name}.partial" / JOURNAL
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))  # not yet complete
    (shard, *_) = sorted((out / ".ties.partial").glob("model-*.safetensors"))
    harm(shard)
    refused(smalls, out, "is not as a killed run left it")
    write(smalls, out)
    write(smalls, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_a_change_of_the_configuration_begins_anew(smalls, tmp_path, monkeypatch):
    """It may tie the output embeddings, whereby the files have other tensors."""
    out = tmp_path / "out"
    killed_at(monkeypatch, smalls, out, "fsync", 12)
    for folder in smalls.values():
        (folder / "config.json").write_text(json.dumps(CONFIG | {"rope_theta": 5.0}))
    pieces = []
    write(smalls, out, progress=pieces.append)
    assert sum(pieces) == Merge([MEAN, TIES], smalls).elements
    assert json.loads((out / "mean/config.json").read_text())["rope_theta"] == 5.0


def test_sources_without_identity_are_merged_but_not_resumed(smalls, tmp_path, monkeypatch):
    class Nameless(ModelFolder):
        def identity(self):
            return None

    write(smalls, tmp_path / "whole")
    views = {name: Nameless(name, folder) for name, folder in smalls.items()}
    out = tmp_path / "out"

    def end(count):
        raise Killed

    with pytest.raises(Killed):
        write(views, out, progress=end)
    assert not list(out.rglob(JOURNAL))
    write(views, out)
    assert contents(out) == contents(tmp_path / "whole")


# ---- the writer by itself -------------------------------------------------------------------------------------------


def test_a_writer_that_fails_to_close_leaves_no_open_file(tmp_path, monkeypatch):
    writer = WeightsWriter(tmp_path, [("w", FLOAT32, (4,))])
    monkeypatch.setattr(os, "fsync", lambda handle: broken_disk.no_space())
    with pytest.raises(OSError, match="No space"), writer:
        writer.write("w", 0, torch.zeros(4))
    assert not [target for target in open_files() if str(tmp_path) in target]


def test_folders_without_a_journal_are_named_together(tmp_path):
    places = {name: tmp_path / name for name in "xyz"}
    with resumable_folders(places, None) as (parts, journals):
        assert not any(journal.complete or journal.done for journal in journals.values())
        for name, part in parts.items():
            (part / "file").write_text(name)
        assert not any(place.exists() for place in places.values())
    assert contents(tmp_path) == {f"{name}/file": name.encode() for name in "xyz"}
