"""Each reader on files of the form that its source gives out."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import real_data

from langmerge.config import Source
from langmerge.corpora import readers
from langmerge.corpora.cleaning import Pair
from langmerge.corpora.readers import tmx
from langmerge.provenance import InputError

DATA = real_data.DATA / "translation"
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real text in {DATA}")

# As OPUS exports it: a header, an external document type, tags with regions, inline codes.
TMX = """<?xml version="1.0" encoding="UTF-8" ?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4">
<header creationdate="Sat Jan 28 2023" srclang="en" adminlang="en" o-tmf="unknown" segtype="sentence"
  creationtool="Uplug" creationtoolversion="unknown" datatype="PlainText" />
  <body>
    <tu tuid="a1">
      <tuv xml:lang="en"><seg>Go &amp; see.</seg></tuv>
      <tuv xml:lang="de"><seg>Geh &amp; sieh.</seg></tuv>
      <tuv xml:lang="es"><seg>Ve a ver.</seg></tuv>
    </tu>
    <tu tuid="a2">
      <tuv xml:lang="en-GB"><seg>The
        <bpt i="1">&lt;b&gt;</bpt>red<ept i="1">&lt;/b&gt;</ept> <hi>colour</hi>.</seg></tuv>
      <tuv xml:lang="DE_AT"><seg>Die rote Farbe.</seg></tuv>
    </tu>
  </body>
</tmx>
"""

RED = "The\n        red colour."  # white space is normalised later


def write(path, text):
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8", newline="")
    return str(path)


def read(pivot="en", language="de", split="train", **source):
    return list(readers.read(Source(**source), split, pivot, language))


def sides(pairs):
    return [(pair.pivot, pair.target) for pair in pairs]


def message(**source):
    with pytest.raises(InputError) as caught:
        read(**source)
    return str(caught.value)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_jsonl_with_uid(tmp_path, name):
    path = write(
        tmp_path / name, '{"uid": "x.0", "en": "Go.", "de": "Geh."}\n\n{"uid": "x.1", "en": "No.", "de": null}\n'
    )
    assert read(path=path) == [Pair("x.0", "Go.", "Geh."), Pair("x.1", "No.", "")]


def test_jsonl_nested_translation_needs_no_columns(tmp_path):
    rows = [{"id": str(i), "translation": {"en": f"e{i}", "de": f"d{i}"}} for i in range(3)]
    path = write(tmp_path / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    plain = [(f"e{i}", f"d{i}") for i in range(3)]
    assert sides(read(path=path)) == plain
    assert sides(read(path=path, columns={"pivot": "translation.en", "language": "translation.{language}"})) == plain
    assert [pair.id for pair in read(path=path, columns={"id": "id"})] == ["0", "1", "2"]


def test_jsonl_rows_may_leave_a_language_out(tmp_path):
    path = write(tmp_path / "rows.jsonl", '{"en": "a", "fr": "b"}\n{"en": "c", "de": "d"}\n')
    assert sides(read(path=path)) == [("a", ""), ("c", "d")]


def test_wmt_tsv_keeps_quotation_marks_and_blank_lines_are_empty(tmp_path):
    text = 'He said "no.\tEr sagte "nein.\n\t\nOne.\tEins.\r\n'
    pairs = read(path=write(tmp_path / "nc.en-de.tsv", text), columns={"en": "0", "de": "1"})
    assert sides(pairs) == [('He said "no.', 'Er sagte "nein.'), ("", ""), ("One.", "Eins.")]


def test_tsv_with_header(tmp_path):
    path = write(tmp_path / "t.tsv.gz", "\ufeffid\tGerman\ten\nk1\tEins.\tOne.\n")
    assert read(path=path, columns={"language": "German", "id": "id"}) == [Pair("k1", "One.", "Eins.")]


def test_tatoeba_manythings_with_attribution(tmp_path):
    text = "".join(f"{e}\t{d}\tCC-BY 2.0 (France) Attribution: tatoeba.org #1 (CM)\n" for e, d in [("Go.", "Geh.")])
    path = write(tmp_path / "deu.txt", text)
    assert sides(read(path=path, format="tsv", columns={"pivot": "0", "language": "1"})) == [("Go.", "Geh.")]
    assert "columns are Go., Geh., CC-BY" in message(path=path, format="tsv")
    assert "unknown ending '.txt'" in message(path=path)


def test_parquet_as_the_hub_caches_it(tmp_path):
    table = pa.table({"translation": [{"de": "Geh.", "en": "Go."}, {"de": None, "en": "No."}], "score": [1.0, 2.0]})
    pq.write_table(table, tmp_path / "0000.parquet")
    assert sides(read(path=str(tmp_path / "0000.parquet"))) == [("Go.", "Geh."), ("No.", "")]


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_moses_only_a_line_feed_ends_a_line(tmp_path, ending):
    source = write(tmp_path / f"x.de-en.en{ending}", "One\u2028still one.\nTwo.\n")
    target = write(tmp_path / f"x.de-en.de{ending}", "Eins\x85.\r\nZwei.")
    pairs = read(path=source.replace("de-en", "{pair}"), target_path=target)
    assert sides(pairs) == [("One\u2028still one.", "Eins\x85."), ("Two.", "Zwei.")]


def test_tmx_as_opus_exports_it(tmp_path):
    path = write(tmp_path / "x.tmx", TMX)
    assert sides(read(path=path)) == [("Go & see.", "Geh & sieh."), (RED, "Die rote Farbe.")]
    assert [pair.id for pair in read(path=path, columns={"id": "tuid"})] == ["a1", "a2"]
    assert sides(read(path=path, language="es")) == [("Go & see.", "Ve a ver."), (RED, "")]
    utf16 = tmp_path / "utf16.tmx"
    utf16.write_bytes(TMX.replace('encoding="UTF-8"', 'encoding="UTF-16"').encode("utf-16"))
    assert sides(read(path=str(utf16))) == sides(read(path=path))


def test_tmx_is_read_as_a_stream(tmp_path, monkeypatch):
    head, _, _ = TMX.partition("<body>")
    unit = '<tu><tuv xml:lang="en"><seg>e{0}</seg></tuv><tuv xml:lang="de"><seg>d{0}</seg></tuv></tu>'
    path = Path(write(tmp_path / "x.tmx", f"{head}<body>{''.join(map(unit.format, range(2000)))}</body></tmx>"))
    monkeypatch.setattr(tmx, "CHUNK", 97)  # cuts tags and words anywhere
    assert [s["en"] for _, s in tmx.units(path)] == [f"e{i}" for i in range(2000)]
    path.write_text(path.read_text()[: len(head) + 5000])
    first = next(tmx.units(path))  # given out although the file's end is missing
    assert first[1] == {"en": "e0", "de": "d0"}


@pytest.mark.parametrize(
    ("tag", "code", "expected"),
    [
        ("en", "en", 1),
        ("EN_us", "en", 1),
        ("en", "en-US", 0),
        ("eng", "en", 0),
        ("pt-br", "pt-BR", 1),
        ("pt-PT", "pt-BR", 0),
    ],
)
def test_language_tags(tag, code, expected):
    assert tmx.matches(tag, code) == bool(expected)


def test_hub_dataset_of_local_parquet(tmp_path):
    pytest.importorskip("datasets")
    folder = tmp_path / "opus" / "de-en"
    folder.mkdir(parents=True)
    rows = [{"de": f"d{i}", "en": f"e{i}"} for i in range(5)]
    pq.write_table(pa.table({"translation": rows}), folder / "train-00000-of-00001.parquet")
    (tmp_path / "opus" / "README.md").write_text(
        "---\nconfigs:\n- config_name: de-en\n  data_files:\n  - split: train\n    path: de-en/train-*\n---\n"
    )
    # In another process, so that the cache and the offline switch are this test's own.
    code = """
import json, sys
from langmerge.config import Source
from langmerge.corpora import readers
from langmerge.provenance import InputError
for hub in json.loads(sys.argv[1]):
    try:
        print(json.dumps(list(readers.read(Source(hub=hub), "train", "en", "de"))))
    except InputError as error:
        print(json.dumps(str(error)))
"""
    local = {"id": str(tmp_path / "opus"), "config": "{pair}"}
    asked = [
        {**local, "split": "train[1:3]"},
        {**local, "config": "{pivot}-{language}"},
        {**local, "split": "dev"},
        {"id": "some-one/not-{language}"},
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(asked)], capture_output=True, text=True, env=environment, check=True
    )
    good, config, split, offline = map(json.loads, done.stdout.splitlines())
    assert [row[1:] for row in good] == [["e1", "d1"], ["e2", "d2"]]
    assert "en-de" in config and "de-en" in config
    assert "split dev" in split
    assert "some-one/not-de" in offline and "HF_HUB_OFFLINE" in offline


def test_ids_are_the_same_over_languages_of_one_file_only(tmp_path):
    rows = [{"en": f"e{i}", "de": f"d{i}", "es": f"s{i}" if i % 2 else None} for i in range(6)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path = write(tmp_path / "all.jsonl", text)
    german = {pair.pivot: pair.id for pair in read(path=path)}
    spanish = {pair.pivot: pair.id for pair in read(path=path, language="es")}
    assert german == spanish and len(set(german.values())) == 6
    assert not set(german.values()) & {pair.id for pair in read(path=path, split="test")}
    # Files of their own hold other sentences at the same place
    for language in ("de", "es"):
        write(tmp_path / f"{language}.jsonl", text)
    own = [{p.id for p in read(path=str(tmp_path / "{language}.jsonl"), language=x)} for x in ("de", "es")]
    assert not own[0] & own[1]
    # and moving the data does not change an id.
    (tmp_path / "elsewhere").mkdir()
    moved = write(tmp_path / "elsewhere" / "all.jsonl", text)
    assert read(path=moved) == read(path=path)


def test_aligned_files_with_one_pivot_file_share_ids(tmp_path):
    pivot = write(tmp_path / "flores.en", "a\nb\n")
    for language in ("de", "es"):
        write(tmp_path / f"flores.{language}", "x\ny\n")
    ids = [
        [p.id for p in read(path=pivot, target_path=f"{tmp_path}/flores.{{language}}", language=x)]
        for x in ("de", "es")
    ]
    assert ids[0] == ids[1]


# ---- what is said about broken input -------------------------------------------------------------------------------


def test_missing_file_names_the_nearest(tmp_path):
    write(tmp_path / "train.jsonl", "{}\n")
    assert "did you mean train.jsonl?" in message(path=str(tmp_path / "trian.jsonl"))
    assert "no folder" in message(path=str(tmp_path / "nowhere" / "train.jsonl"))


def test_broken_text(tmp_path):
    assert "empty" in message(path=write(tmp_path / "e.jsonl", ""))
    assert "empty" in message(path=write(tmp_path / "e.jsonl.gz", ""))
    latin = tmp_path / "l.tsv"
    latin.write_bytes(b"en\tde\nShe\tna\xefve\n")
    assert "line 2, byte 7: not UTF-8 (0xef)" in message(path=str(latin))
    broken = write(tmp_path / "b.jsonl", '{"en": "a", "de": "b"}\n{"en": "a",\n')
    assert "line 2: not valid JSON" in message(path=broken)
    assert "line 1: expected a JSON object" in message(path=write(tmp_path / "a.jsonl", "[1, 2]\n"))
    packed = tmp_path / "p.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"en": "a", "de": "b"}\n' * 1000)[:-20])
    assert "cut off or damaged" in message(path=str(packed))
    packed.write_bytes(b'{"en": "a"}')
    assert "not a gzip file" in message(path=str(packed))


def test_wrong_columns_name_those_present(tmp_path):
    path = write(tmp_path / "c.jsonl", '{"en": "a", "deu": "b", "n": 3, "t": {"xx": "b"}}\n')
    assert "no column 'de' for the language de; the columns are en, deu, n, t" in message(path=path)
    assert "no column 'id'" in message(path=path, columns={"id": "id", "de": "deu"})
    assert "expected a sentence, found int 3" in message(path=path, columns={"de": "n"})
    assert "t holds xx" in message(path=path, columns={"de": "t.de"})
    short = write(tmp_path / "s.tsv", "a\tb\nc\n")
    assert "line 2: expected at least 2 columns" in message(path=short, columns={"en": "0", "de": "1"})
    table = tmp_path / "c.parquet"
    pq.write_table(pa.table({"en": ["a"], "ger": ["b"]}), table)
    assert "the columns are en, ger" in message(path=str(table))
    twice = write(tmp_path / "t.jsonl", '{"uid": 1, "en": "a", "de": "b"}\n' * 2)
    assert "row 2: the id '1' stands twice" in message(path=twice)


def test_wrong_formats(tmp_path):
    assert "not a parquet file" in message(path=write(tmp_path / "x.parquet", "en\tde\n"))
    assert "unknown ending '.zip'" in message(path=write(tmp_path / "x.zip", "PK"))
    first, second = write(tmp_path / "x.en", "a\nb\nc\n"), write(tmp_path / "x.de", "a\nb\n")
    assert "has 3 lines" in (text := message(path=first, target_path=second)) and "has 2" in text
    assert "target_path" in message(path=first, format="moses")
    assert "goes with format moses" in message(path=first, target_path=second, format="tsv")


def test_broken_tmx(tmp_path):
    path = tmp_path / "x.tmx"
    assert "the languages are DE_AT, de, en, en-GB, es" in message(path=write(path, TMX), language="tr")
    bomb = TMX.replace('SYSTEM "tmx14.dtd"', '[<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]')
    assert "declares the entity 'a'" in message(path=write(path, bomb))
    leak = TMX.replace('SYSTEM "tmx14.dtd"', '[<!ENTITY x SYSTEM "file:///etc/hostname">]').replace("see", "&x;")
    assert "declares the entity 'x'" in message(path=write(path, leak))
    assert "unknown entity &nbsp;" in message(path=write(path, TMX.replace("&amp;", "&nbsp;")))
    assert "not well-formed XML" in message(path=write(path, TMX[:-20]))


# ---- real text -----------------------------------------------------------------------------------------------------


@real
def test_real_tatoeba():
    rows = read(path=str(DATA / "tatoeba" / "{pivot}-{language}.test.jsonl.gz"))
    assert rows[0] == Pair("en-de.test.0", "Tom drove Mary to the hospital.", "Tom fuhr Maria zum Krankenhaus.")
    assert all(pair.pivot and pair.target for pair in rows)


@real
@pytest.mark.parametrize(("name", "count"), [("ntrex128", 1997), ("ud_pud", 1000)])
def test_real_multi_parallel_files(name, count):
    source = {"path": str(DATA / f"{name}.jsonl.gz")}
    by_language = {language: read(language=language, **source) for language in ("de", "es", "hi")}
    ids = [[pair.id for pair in rows] for rows in by_language.values()]
    assert ids[0] == ids[1] == ids[2] and len(set(ids[0])) == count
    pivots = [[pair.pivot for pair in rows] for rows in by_language.values()]
    assert pivots[0] == pivots[1] == pivots[2]
