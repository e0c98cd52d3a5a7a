"""Merges that are killed go on to the same bytes, and never with what is not theirs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import broken_disk
import pytest
import torch
from merge_models import CONFIG
from small_merges import MEAN, TIES, contents, refused, write

from langmerge.merging import Merge, journal
from langmerge.merging import sinks as sinks_module
from langmerge.merging.journal import JOURNAL, Journal, entry_of
from langmerge.merging.reader import ModelFolder

pytestmark = pytest.mark.usefixtures("nothing_left_running")

KILLS = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import broken_disk
from small_merges import MEAN, TIES, contents, write
from langmerge import provenance
from langmerge.merging import journal
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
