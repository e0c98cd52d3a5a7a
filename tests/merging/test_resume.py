"""A merge that is killed goes on where it stood, and ends with the same bytes."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from merge_models import save

from langmerge.merging import Merge, Recipe, write_models
from langmerge.merging.journal import JOURNAL, Journal, entry_of

SCRIPT = """
import json, sys, time
from pathlib import Path
from langmerge.merging import Recipe, journal, write_models
journal.SECONDS = 0.0
recipes = [Recipe.from_json(row) for row in json.loads(sys.argv[1])]
sources = {name: Path(folder) for name, folder in json.loads(sys.argv[2]).items()}
folders = {recipe.name: Path(sys.argv[3]) / recipe.name for recipe in recipes}
def slowly(count):
    print(count, flush=True)
    time.sleep(0.01)
write_models(recipes, sources, folders, block=500, shard_bytes=20_000, progress=slowly)
"""

RECIPES = [
    Recipe("ties", "ties", ("a", "b", "c"), "base", {"density": 0.4}),
    Recipe("dare", "dare_linear", ("a", "b", "c"), "base", {"density": 0.4, "seed": 3}),
]


def start(sources, out):
    recipes = json.dumps([recipe.to_json() for recipe in RECIPES])
    named = json.dumps({name: str(folder) for name, folder in sources.items()})
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, recipes, named, str(out)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def merge(sources, out):
    write_models(RECIPES, sources, {r.name: out / r.name for r in RECIPES}, block=500, shard_bytes=20_000)


def test_a_killed_merge_ends_with_the_same_bytes(sources, tmp_path):
    merge(sources, tmp_path / "whole")
    chance, kept = random.Random(0), []
    for _ in range(2):
        process = start(sources, tmp_path / "killed")
        for _ in range(chance.randrange(25, 40)):  # pieces that are done before the kill
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "killed" / "ties").exists()
        kept.append(len((tmp_path / "killed" / ".ties.partial" / JOURNAL).read_text().splitlines()))
    assert 1 < kept[0] <= kept[1]
    process = start(sources, tmp_path / "killed")
    pieces = process.communicate()[0].split()
    assert process.returncode == 0
    total = Merge(RECIPES, sources, block=500).elements
    assert sum(map(int, pieces)) < total  # what was done before the kills was not done again
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


def test_a_journal_of_another_merge_is_not_gone_on_with(sources, states, tmp_path):
    process = start(sources, tmp_path / "out")
    for _ in range(60):
        process.stdout.readline()
    process.kill()
    process.wait()
    changed = {name: save(tmp_path / "models" / name, state) for name, state in states.items()}
    merge(changed, tmp_path / "out")
    merge(changed, tmp_path / "whole")
    for recipe in RECIPES:
        assert digests(tmp_path / "out" / recipe.name) == digests(tmp_path / "whole" / recipe.name)


def test_a_journal_that_was_cut_counts_up_to_the_cut(tmp_path):
    journal = Journal(tmp_path, {"x": 1})
    journal.start()
    journal.note(entry_of("a", [1.5]))
    journal.note(entry_of("b", [2.5]))
    journal.write(journal.take())
    assert Journal(tmp_path, {"x": 1}).done == {"a": [1.5], "b": [2.5]}
    assert Journal(tmp_path, {"x": 2}).done == {}
    text = (tmp_path / JOURNAL).read_text()
    (tmp_path / JOURNAL).write_text(text[:-6])
    assert Journal(tmp_path, {"x": 1}).done == {"a": [1.5]}


def test_two_processes_do_not_write_one_folder(sources, tmp_path):
    process = start(sources, tmp_path / "out")
    process.stdout.readline()
    with pytest.raises(BlockingIOError, match="another process"):
        merge(sources, tmp_path / "out")
    process.kill()
    process.wait()
    time.sleep(0.05)
    merge(sources, tmp_path / "out")
