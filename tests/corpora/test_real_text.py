"""Text of one side, and splits of a set that has one file."""

import gzip
import json
from itertools import chain
from pathlib import Path

import pytest
from pydantic import ValidationError
from real_data import DATA

from langmerge import provenance
from langmerge.config import FilesCorpus, Source
from langmerge.corpora import contamination, prepare, readers
from langmerge.corpora.readers.portions import position, within

SPLITS = {"train": (0.0, 0.8), "dev": (0.8, 0.9), "test": (0.9, 1.0)}


@pytest.fixture
def data() -> Path:
    if not (DATA / "translation").is_dir():
        pytest.skip(f"no real text in {DATA}")
    return DATA


def write(path, rows):
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return str(path)


def corpus(path, filters=None, **source):
    return FilesCorpus.model_validate(
        {
            "kind": "files",
            "splits": {split: {"path": str(path), "portion": portion, **source} for split, portion in SPLITS.items()},
            "filters": filters or {},
        }
    )


def prepared(folder, files, language, pivot="en"):
    folder.mkdir()
    statistics = prepare.prepare(files, pivot, language, folder)
    provenance.write_json(folder / "statistics.json", statistics)
    rows = {s: [json.loads(line) for line in (folder / f"{s}.jsonl").read_text().splitlines()] for s in SPLITS}
    return rows, statistics


def test_positions_are_fixed_and_uniform():
    assert position("a") == position("a") != position("b")
    places = sorted(position(f"row {i}") for i in range(2000))
    assert places[0] >= 0 and places[-1] < 1
    # Kolmogorov-Smirnov: the largest distance from the diagonal is above 1.63/sqrt(n) in one of a hundred samples.
    assert max(abs(place - (i + 0.5) / 2000) for i, place in enumerate(places)) < 1.63 / 2000**0.5
    assert all(sum(within(f"row {i}", part) for part in SPLITS.values()) == 1 for i in range(200))
    assert all(within(f"row {i}", (0.0, 1.0)) for i in range(200))


def test_one_sided_text_is_read_and_has_no_pivot(tmp_path):
    rows = [{"uid": f"p.{i}", "lang": "es", "text": f"Frase número {i} de la historia."} for i in range(200)]
    rows[3]["text"] = None
    path = write(tmp_path / "es.jsonl.gz", rows)
    found, statistics = prepared(tmp_path / "es", corpus(path, one_sided=True, columns={"language": "text"}), "es")
    assert all(set(row) == {"id", "es"} for split in found.values() for row in split)
    assert sum(map(len, found.values())) == 199
    assert sum(split["dropped"].get("empty", 0) for split in statistics["splits"].values()) == 1
    assert statistics["splits"]["train"]["words"]["en"] == 0
    # Training text that stands in a held-out split is found on its side alone.
    assert statistics["contamination"]["test"] == {"en": 0, "es": 0, "either": 0}
    assert contamination.report({"es": tmp_path / "es"}, "en")["across"] == []


def test_one_sided_text_of_the_pivot_itself(tmp_path):
    rows = [{"uid": str(i), "text": f"Sentence {i}."} for i in range(100)]
    found, _ = prepared(
        tmp_path / "en",
        corpus(write(tmp_path / "t.jsonl.gz", rows), one_sided=True, columns={"language": "text"}),
        "en",
    )
    assert all(row["en"] == f"Sentence {row['id']}." for split in found.values() for row in split)


def test_one_sided_repetitions_and_planted_test_sentences_are_dropped(tmp_path):
    rows = [{"uid": str(i), "text": f"Satz {i}."} for i in range(100)]
    test = [row["text"] for row in rows if within(row["uid"], SPLITS["test"])]
    train = [f"new.{i}" for i in range(100) if within(f"new.{i}", SPLITS["train"])]
    rows += [{"uid": train[0], "text": test[0]}, {"uid": train[1], "text": "Neu."}, {"uid": train[2], "text": "neu!"}]
    path = write(tmp_path / "t.jsonl.gz", rows)
    _, statistics = prepared(tmp_path / "de", corpus(path, one_sided=True, columns={"de": "text"}), "de")
    assert statistics["splits"]["train"]["dropped"] == {"contaminated": 1, "duplicate": 1}


def test_portions_are_the_same_rows_in_every_language_and_skip_null_cells(tmp_path):
    rows = [{"uid": f"n.{i}", "en": f"Line {i}", "de": f"Zeile {i}", "fi": f"Rivi {i}"} for i in range(300)]
    for row in rows[::3]:
        row["fi"] = None
    files = corpus(write(tmp_path / "mp.jsonl.gz", rows))
    german, finnish = (prepared(tmp_path / code, files, code)[0] for code in ("de", "fi"))
    for split in SPLITS:
        ids = [row["id"] for row in german[split]]
        assert [row["id"] for row in finnish[split]] == [i for i in ids if int(i.split(".")[1]) % 3]
    assert sum(map(len, german.values())) == 300


def test_rows_without_an_id_are_split_by_number(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("".join(f"Line {i}\tZeile {i}\n" for i in range(100)))
    columns = {"en": "0", "de": "1"}
    parts = [
        [pair.pivot for pair in readers.read(Source(path=str(path), columns=columns, portion=p), split, "en", "de")]
        for split, p in SPLITS.items()
    ]
    assert sorted(chain.from_iterable(parts)) == sorted(f"Line {i}" for i in range(100))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"path": "a", "portion": (0.5, 0.5)}, "start < end"),
        ({"path": "a", "target_path": "b", "one_sided": True}, "one_sided"),
    ],
)
def test_wrong_sources(source, message):
    with pytest.raises(ValidationError, match=message):
        Source.model_validate(source)


def test_one_sided_tmx_and_parquet(tmp_path):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"text": ["Uno.", "Dos."]}), tmp_path / "t.parquet")
    tmx = "<tmx><body><tu><tuv xml:lang='es'><seg>Uno.</seg></tuv></tu></body></tmx>"
    (tmp_path / "t.tmx").write_text(tmx)
    for name, columns, expected in [("t.parquet", {"language": "text"}, ["Uno.", "Dos."]), ("t.tmx", {}, ["Uno."])]:
        source = Source(path=str(tmp_path / name), one_sided=True, columns=columns)
        assert [(p.pivot, p.target) for p in readers.read(source, "train", "en", "es")] == [("", t) for t in expected]


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "languages", "count"),
    [
        ("ntrex128", ("de", "fi", "tr", "zh", "sw"), 1997),
        ("ud_pud", ("de", "ru", "hi", "zh"), 1000),
        ("bible_nt", ("zh", "uk", "eu"), 7929),
    ],
)
def test_real_parallel_text_is_split_alike(data, name, languages, count):
    def ids(language, split, portion):
        source = Source(path=str(data / f"translation/{name}.jsonl.gz"), portion=portion)
        return [pair.id for pair in readers.read(source, split, "en", language)]

    for language in languages:
        parts = [ids(language, split, portion) for split, portion in SPLITS.items()]
        assert sum(map(len, parts)) == count == len(set(chain.from_iterable(parts)))
        assert parts == [ids(languages[0], split, portion) for split, portion in SPLITS.items()]


@pytest.mark.real
@pytest.mark.parametrize(("name", "language", "count"), [("gutenberg", "es", 4968), ("gutenberg", "fr", 3142)])
def test_real_monolingual_text(data, tmp_path, name, language, count):
    path = data / f"monolingual/{name}.{{language}}.jsonl.gz"
    files = corpus(path, filters={"max_characters": 100_000}, one_sided=True, columns={"language": "text"})
    found, statistics = prepared(tmp_path / language, files, language)
    assert sum(split["read"] for split in statistics["splits"].values()) == count
    dropped = sum(sum(split["dropped"].values()) for split in statistics["splits"].values())
    assert sum(map(len, found.values())) == count - dropped
    assert set(statistics["splits"]["train"]["dropped"]) <= {"duplicate", "contaminated"}


@pytest.mark.real
def test_real_null_cells_are_left_out(data, tmp_path):
    path = data / "translation/tatoeba_multiparallel/train.jsonl.gz"
    files = corpus(path, filters={"deduplicate": False, "drop_contaminated": False, "max_length_ratio": 1e9})
    found, _ = prepared(tmp_path / "ko", files, "ko")
    assert sum(map(len, found.values())) == 8513 - 7945  # 7,945 of the 8,513 rows have no Korean
