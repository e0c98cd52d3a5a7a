"""Merges disturbed from outside: changing sources, places that cannot be written, a full disk. Nothing is left."""

import errno
import os
import shutil
import threading
from pathlib import Path

import broken_disk
import pytest
import torch
from small_merges import MEAN, TIES, contents, open_files, refused, write

from langmerge.merging import Merge, journal, state_dicts, write_models
from langmerge.merging.elements import FLOAT32
from langmerge.merging.journal import resumable_folders
from langmerge.merging.reader import ModelFolder
from langmerge.merging.writer import WeightsWriter

pytestmark = pytest.mark.usefixtures("nothing_left_running")


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
