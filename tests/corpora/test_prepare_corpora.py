"""Prepared corpora: embedded and from files, through the command line's entry point."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import real_data

from langmerge.config import EmbeddedCorpus, FilesCorpus
from langmerge.corpora import prepare
from langmerge.corpora.cleaning import fold
from langmerge.corpora.grammar import corpus as grammar
from langmerge.provenance import InputError, read_manifest

ROOT = Path(__file__).resolve().parents[2]
DATA = real_data.DATA / "translation"
SIZES = {"train": 400, "dev": 24, "test": 20}
EMBEDDED = EmbeddedCorpus(
    kind="embedded", **SIZES, nouns=5, verbs=6, adjectives=14, grammar=str(ROOT / "data" / "grammar")
)


def make(corpus, out, language="es"):
    spec = {"corpus": corpus.model_dump(mode="json"), "pivot": "en", "language": language}
    prepare.main(["--spec", json.dumps(spec), "--out", str(out), "--code", "c", "--environment", "e"])
    return out


def rows(folder, split):
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


# ---- embedded ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    root = tmp_path_factory.mktemp("embedded")
    return {language: make(EMBEDDED, root / language, language) for language in ("es", "tr", "hi")}


def test_embedded_ids_mean_the_same_in_every_language(embedded):
    for split, size in SIZES.items():
        english = [{row["id"]: row["en"] for row in rows(folder, split)} for folder in embedded.values()]
        assert english[0] == english[1] == english[2]
        assert len(english[0]) == size


@pytest.mark.parametrize("language", ["es", "tr", "hi"])
def test_embedded_train_holds_no_held_out_sentence(embedded, language):
    train = rows(embedded[language], "train")
    for split in ("dev", "test"):
        for code in ("en", language):
            assert not {fold(row[code]) for row in train} & {fold(row[code]) for row in rows(embedded[language], split)}
    statistics = json.loads((embedded[language] / "statistics.json").read_text())
    none = {"en": 0, language: 0, "either": 0}
    assert statistics["contamination"] == {"dev": none, "test": none}
    assert statistics["splits"]["train"]["words"][language] == sum(len(row[language].split()) for row in train)


@pytest.mark.parametrize("language", ["es", "tr", "hi"])
@pytest.mark.parametrize("split", ["dev", "test"])
def test_spans_cover_the_text(embedded, language, split):
    pairs = {row["id"]: row for row in rows(embedded[language], split)}
    marked = rows(embedded[language], f"spans.{split}")
    assert [row["id"] for row in marked] == list(pairs)
    for row in marked:
        for code in ("en", language):
            text, covered = pairs[row["id"]][code], set()
            for span in row[code]:
                word = text[span["start"] : span["end"]]
                assert word and word == word.strip()
                covered |= set(range(span["start"], span["end"]))
            # What no span covers is spaces and closing marks
            assert not any(c.isalpha() for i, c in enumerate(text) if i not in covered)
        verbs = [span for span in row["en"] if span["role"] == "verb" and span["clause"] == 0]
        assert row["verb"] in {span["concept"] for span in verbs}


def test_embedded_is_deterministic_and_seeded(embedded, tmp_path):
    again = make(EMBEDDED, tmp_path / "again")
    assert read_manifest(again)["outputs"] == read_manifest(embedded["es"])["outputs"]
    other = make(EMBEDDED.model_copy(update={"seed": 2}), tmp_path / "other")
    assert {row["en"] for row in rows(other, "dev")} != {row["en"] for row in rows(again, "dev")}


def test_longer_train_keeps_what_was_there(embedded, tmp_path):
    longer = make(EMBEDDED.model_copy(update={"train": 600}), tmp_path / "longer")
    assert rows(longer, "train")[:400] == rows(embedded["es"], "train")
    assert rows(longer, "test") == rows(embedded["es"], "test")


def test_a_world_that_is_too_small_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(grammar, "PATIENCE", 5)
    small = EMBEDDED.model_copy(update={"nouns": 1, "verbs": 1, "adjectives": 1, "train": 20_000})
    with pytest.raises(InputError, match="too few distinct meanings"):
        make(small, tmp_path / "out")


def test_held_out_combinations_occur_in_test_only(embedded):
    def combinations(split):
        for row in rows(embedded["es"], f"spans.{split}"):
            yield row["novel"]

    assert any(combinations("test")) and not all(combinations("test"))
    assert not any(combinations("dev"))


def test_embedded_errors(tmp_path):
    with pytest.raises(InputError, match=r"xx\.yaml"):
        make(EMBEDDED, tmp_path / "xx", "xx")
    with pytest.raises(InputError, match=r"world\.yaml"):
        make(EMBEDDED.model_copy(update={"grammar": str(tmp_path)}), tmp_path / "none")
    assert not any(path.suffix == ".jsonl" for path in tmp_path.rglob("*"))


# ---- files ---------------------------------------------------------------------------------------------------------


def files(folder, texts, **filters):
    """A corpus of tab-separated files from {split: [(en, es), ...]}."""
    splits = {}
    for split, pairs in texts.items():
        path = folder / f"{split}.tsv"
        path.write_text("en\tes\n" + "".join(f"{a}\t{b}\n" for a, b in pairs), encoding="utf-8")
        splits[split] = {"path": str(path)}
    return FilesCorpus.model_validate({"kind": "files", "splits": splits, "filters": filters})


TEXTS = {
    "train": [
        ("One.", "Uno."),
        ("one", "¡Uno!"),
        ("Two.", "Dos."),
        ("Three.", "Tres."),
        ("Four.", "Cuatro."),
        ("Five", ""),
    ],
    "dev": [("Two!", "Los dos.")] * 2,
    "test": [("The three.", "Tres.")],
    "news": [("Four?", "¿Cuatro?")],
}


def test_files_are_cleaned_and_decontaminated_against_every_other_split(tmp_path):
    folder = make(files(tmp_path, TEXTS), tmp_path / "out")
    assert [(row["en"], row["es"]) for row in rows(folder, "train")] == [("One.", "Uno.")]
    assert [(row["en"], row["es"]) for row in rows(folder, "news")] == TEXTS["news"]
    statistics = json.loads((folder / "statistics.json").read_text())
    assert statistics["contamination"] == {
        "dev": {"en": 1, "es": 0, "either": 1},
        "test": {"en": 0, "es": 1, "either": 1},
        "news": {"en": 1, "es": 1, "either": 1},
    }
    train = statistics["splits"]["train"]
    assert (train["read"], train["kept"]) == (6, 1)
    assert train["dropped"] == {"empty": 1, "duplicate": 1, "contaminated": 3}


def test_files_are_deterministic_wherever_they_lie(tmp_path):
    outputs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        outputs.append(read_manifest(make(files(tmp_path / name, TEXTS), tmp_path / name / "out"))["outputs"])
    assert outputs[0] == outputs[1]


def test_nothing_left_says_which_filter_ate_it(tmp_path):
    same = {**TEXTS, "dev": TEXTS["train"]}
    with pytest.raises(
        InputError, match=r"train\.tsv, split train: nothing left of 6 rows; dropped: 4 by contaminated"
    ):
        make(files(tmp_path, same), tmp_path / "out")
    with pytest.raises(InputError, match=r"5 by max_characters.*loosen corpus\.filters\.max_characters"):
        make(files(tmp_path, {**TEXTS, "dev": TEXTS["train"]}, max_characters=1), tmp_path / "out")
    with pytest.raises(InputError, match="no rows"):
        make(files(tmp_path, {**TEXTS, "test": []}), tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_language_called_id_is_refused(tmp_path):
    with pytest.raises(InputError, match="ind"):
        make(files(tmp_path, TEXTS), tmp_path / "out", "id")


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real text in {DATA}")
def test_real_text(tmp_path):
    splits = {
        "train": {"path": str(DATA / "tatoeba/en-{language}.train.jsonl.gz"), "limit": 3000},
        "dev": {"path": str(DATA / "tatoeba/en-{language}.valid.jsonl.gz"), "limit": 200},
        "test": {"path": str(DATA / "tatoeba/en-{language}.test.jsonl.gz")},
        "ntrex": {"path": str(DATA / "ntrex128.jsonl.gz")},
        "pud": {"path": str(DATA / "ud_pud.jsonl.gz")},
    }
    corpus = FilesCorpus.model_validate({"kind": "files", "splits": splits})
    folders = {language: make(corpus, tmp_path / language, language) for language in ("de", "tr")}
    for language, folder in folders.items():
        train = rows(folder, "train")
        assert len(train) == 3000
        for split in ("dev", "test", "ntrex", "pud"):
            for code in ("en", language):
                assert not {fold(row[code]) for row in train} & {fold(row[code]) for row in rows(folder, split)}
    news = [{row["id"]: row["en"] for row in rows(folder, "ntrex")} for folder in folders.values()]
    assert news[0] == news[1] and len(news[0]) == 1997  # a published test set stays whole


def test_nothing_heavy_is_imported():
    heavy = "{'torch', 'transformers', 'pandas', 'datasets', 'pyarrow', 'numpy'}"
    code = f"import sys, langmerge.corpora.prepare; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
