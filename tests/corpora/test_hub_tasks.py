"""Tasks from a dataset on the Hub, here one of this machine's."""

import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from langmerge.config import FileTasks

LABELS = {"negative": "negative", "positive": "positive"}
PAIRS = {"id": "{folder}", "config": "{code}", "split": "train"}
# Run in another process, so that the cache and the offline switch are this test's own.
CODE = """
import json, sys
from langmerge.config import FileTasks
from langmerge.corpora.tasks import file_items
for section in json.loads(sys.argv[1]):
    try:
        found = [[task, split, list(rows)] for task, split, rows in file_items(FileTasks(**section), "sv")]
        print(json.dumps(found))
    except ValueError as error:
        print(json.dumps(str(error)))
"""


def section(**source):
    return {"kind": "files", "tasks": {"minimal_pairs": {"format": "multiblimp", "splits": {"test": "x"}, **source}}}


def found_of(sections, cache):
    """What ``CODE`` prints of each section."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(sections)], capture_output=True, text=True, env=environment, check=True
    )
    return list(map(json.loads, done.stdout.splitlines()))


def test_minimal_pairs_of_a_hub_dataset(tmp_path):
    pytest.importorskip("datasets")
    folder = tmp_path / "multiblimp"
    (folder / "swe").mkdir(parents=True)
    rows = [
        {"sen": f"Hon {i} är", "wrong_sen": f"Hon {i} äro", "prefix": f"Hon {i}", "phenomenon": "SV-#", "lang": "swe"}
        for i in range(3)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "swe" / "train.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: swe\n  data_files:\n  - split: train\n    path: swe/train.parquet\n---\n"
    )
    hub = PAIRS | {"id": str(folder)}
    asked = [
        section(hub=hub, codes={"sv": "swe"}),
        section(hub=hub | {"split": "{split}"}, codes={"sv": "swe"}, splits={"test": "train"}, limit=2),
        section(hub=hub),
        section(hub={"id": "some-one/not-{language}"}),
    ]
    every, two, unknown, offline = found_of(asked, tmp_path / "cache")
    ((task, split, found),) = every
    assert (task, split) == ("minimal_pairs", "test")
    assert [row["choices"] for row in found] == [[row["sen"], row["wrong_sen"]] for row in rows]
    assert {row["group"] for row in found} == {"SV-#"}
    assert two[0][2] == found[:2]
    assert "config sv" in unknown and "swe" in unknown
    assert "Hub dataset some-one/not-sv" in offline and "HF_HUB_OFFLINE" in offline


def test_the_hubs_own_conversion_of_a_script(tmp_path):
    """Its layout, <configuration>/<split>/0000.parquet, without a list of configurations; also rows of one language."""
    pytest.importorskip("datasets")
    for folder, code in (("swedish", "sv"), ("finnish", "fi")):
        for split in ("train", "validation"):
            (tmp_path / "set" / folder / split).mkdir(parents=True)
            rows = [
                {"text": f"{folder} {split} {i}", "label": "positive", "language": code if i % 2 else "xx"}
                for i in range(4)
            ]
            pq.write_table(pa.Table.from_pylist(rows), tmp_path / "set" / folder / split / "0000.parquet")
    source = {
        "hub": {"id": str(tmp_path / "set"), "folder": "{code}", "split": "{split}"},
        "codes": {"sv": "swedish"},
        "format": "labelled",
        "splits": {"dev": "validation"},
        "words": {"sv": LABELS},
    }
    asked = [
        {"kind": "files", "tasks": {"sentiment": source | extra}}
        for extra in ({}, {"where": {"language": "{language}"}}, {"codes": {"sv": "danish"}})
    ]
    ((every,), (own,), wrong) = found_of(asked, tmp_path / "cache")
    assert every[:2] == ["sentiment", "dev"]
    assert [row["prompt"] for row in every[2]] == [f"swedish validation {i}" for i in range(4)]
    assert [row["prompt"] for row in own[2]] == ["swedish validation 1", "swedish validation 3"]
    assert "folder danish, split validation" in wrong


@pytest.mark.parametrize("source", [{}, {"hub": {"id": "a/b"}, "path": "x.jsonl"}])
def test_a_source_has_one_place(source):
    with pytest.raises(ValidationError, match="give either `path` or `hub`"):
        FileTasks.model_validate(section(**source))


def test_a_language_may_have_another_place():
    tasks = FileTasks.model_validate(section(hub={"id": "a/b"}, by_language={"en": {"path": "{code}.jsonl"}}))
    source = tasks.tasks["minimal_pairs"]
    assert (source.filled("en", "test").path, source.filled("en", "test").hub) == ("en.jsonl", None)
    assert source.filled("sv", "test").hub.id == "a/b"
