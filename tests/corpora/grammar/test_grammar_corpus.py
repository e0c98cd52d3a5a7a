"""Splits by content, held-out combinations, determinism."""

import json
import os
import subprocess
import sys
import time

import pytest

from langmerge.corpora.grammar import corpus
from langmerge.corpora.grammar.corpus import (
    Sizes,
    generate,
    held_out_combinations,
    meanings,
    row,
    rows,
    write_rows,
)
from langmerge.corpora.grammar.language import Language, available
from langmerge.corpora.grammar.meaning import Meaning
from langmerge.corpora.grammar.world import World

WORLD = World.load()
SIZES = Sizes(train=3000, dev=200, test=400)


@pytest.fixture(scope="module")
def splits():
    return meanings(WORLD, SIZES, seed=1)


def test_sizes_are_as_asked_and_meanings_unique(splits):
    assert {name: len(m) for name, m in splits.items()} == {"train": 3000, "dev": 200, "test": 400}
    keys = [m.key() for split in splits.values() for m in split]
    assert len(keys) == len(set(keys))


def test_splits_share_no_content(splits):
    contents = {name: {m.content() for m in split} for name, split in splits.items()}
    assert not contents["train"] & (contents["dev"] | contents["test"])
    assert not contents["dev"] & contents["test"]


@pytest.mark.parametrize("code", available(transforms=True))
def test_splits_share_no_sentence_in_any_language(code):
    # A small world, where sentences of different meanings coincide often.
    small = WORLD.restricted(nouns=3, verbs=4, adjectives=6)
    language = Language.load(code, world=small)
    texts = {
        name: {language.render(m).text for m in split}
        for name, split in meanings(small, Sizes(1500, 150, 150), seed=3).items()
    }
    assert not texts["train"] & (texts["dev"] | texts["test"])
    assert not texts["dev"] & texts["test"]


def test_held_out_combinations_occur_in_test_only(splits):
    barred = held_out_combinations(WORLD, 0.1)
    assert all(not m.combinations() & barred for name in ("train", "dev") for m in splits[name])
    novel = [bool(m.combinations() & barred) for m in splits["test"]]
    assert sum(novel) == 200
    assert 60 < sum(novel[:200]) < 140


def test_held_out_combinations_are_nested_and_leave_every_word_in_training():
    fewer, more = held_out_combinations(WORLD, 0.05), held_out_combinations(WORLD, 0.3)
    assert fewer < more and held_out_combinations(WORLD, 0) == frozenset()
    for verb in WORLD.verb_list:
        assert not verb.object or any((verb.concept, noun) not in more for noun in verb.object)
    total = sum(len(v.object) for v in WORLD.verb_list) + sum(len(a.nouns) for a in WORLD.adjectives.values())
    assert 0.25 < len(more) / total <= 0.3
    with pytest.raises(ValueError, match="held_out"):
        held_out_combinations(WORLD, 1.0)


def test_a_smaller_split_is_the_start_of_a_larger_one_whatever_the_others(splits):
    smaller = meanings(WORLD, Sizes(500, 100, 400), seed=1)
    assert smaller["train"] == splits["train"][:500]
    assert smaller["dev"] == splits["dev"][:100]
    assert smaller["test"] == splits["test"]
    assert meanings(WORLD, Sizes(500, 0, 0), seed=2)["train"] != smaller["train"]


def test_rows_are_parallel_and_independent_of_the_languages_asked():
    english, spanish = Language.load("en"), Language.load("es")
    both = generate(WORLD, [english, spanish], 50, 10, 10, seed=4)
    alone = generate(WORLD, [spanish], 50, 10, 10, seed=4)
    assert both["es"] == alone["es"]
    for name in ("train", "dev", "test"):
        for a, b in zip(both["en"][name], both["es"][name], strict=True):
            assert a["id"] == b["id"] and a["meaning"] == b["meaning"] and a["text"] != b["text"]
    first = both["en"]["train"][0]
    assert english.render(Meaning.from_dict(first["meaning"])).text == first["text"]


def test_a_row_describes_its_sentence(splits):
    barred = held_out_combinations(WORLD, 0.1)
    item = row(Language.load("en"), splits["test"][0], "test-000000", barred)
    assert item["novel"] == bool(splits["test"][0].combinations() & barred)
    for span in item["spans"]:
        assert item["text"][span["start"] : span["end"]].strip()
        assert {"role", "concept", "pos", "features", "clause"} <= set(span)


def test_bytes_are_the_same_in_another_process(tmp_path):
    program = (
        "import sys; from pathlib import Path\n"
        "from langmerge.corpora.grammar.corpus import *\n"
        "w = World.load(); s = meanings(w, Sizes(200, 20, 20), 9)\n"
        "write_rows(rows(Language.load('es-relex50'), s['train'], 'train'), Path(sys.argv[1]))\n"
    )
    for seed in ("0", "12345"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", program, str(tmp_path / seed)], check=True, env=environment)
    one, two = ((tmp_path / seed).read_bytes() for seed in ("0", "12345"))
    assert one == two
    assert len(one.decode().splitlines()) == 200


def test_files_hold_one_json_object_a_line(tmp_path, splits):
    path = tmp_path / "dev.jsonl"
    items = rows(Language.load("en"), splits["dev"][:20], "dev")
    write_rows(items, path)
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == items
    assert list(tmp_path.iterdir()) == [path]


def test_a_world_too_small_says_so(monkeypatch):
    few = meanings(WORLD, Sizes(5, 0, 0), seed=0)["train"]
    monkeypatch.setattr(corpus, "sample", lambda world, rng: rng.choice(few))
    assert len(meanings(WORLD, Sizes(5, 0, 0), seed=0)["train"]) == 5
    with pytest.raises(ValueError, match=r"too few distinct meanings: asked for .*'train': 6.*found .*'train': 5"):
        meanings(WORLD, Sizes(6, 0, 0), seed=0)


def test_generation_is_fast():
    start = time.process_time()
    generate(WORLD, [Language.load("en"), Language.load("es")], 2000, 100, 100, seed=0)
    assert time.process_time() - start < 10
