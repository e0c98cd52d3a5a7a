"""Overlap across languages, against overlaps that were planted and against a direct count."""

import json
import random

import pytest

from langmerge import provenance
from langmerge.config import FilesCorpus
from langmerge.corpora import contamination, prepare
from langmerge.provenance import InputError

LONG = "one two three four five six seven eight nine ten"


def test_grams():
    assert contamination.grams("a b c", 2) == ["a b", "b c"]
    assert contamination.grams("a b", 2) == ["a b"]
    assert contamination.grams("a", 2) == ["a"]
    assert len(contamination.grams(LONG)) == 3


def test_planted_sentences_and_runs():
    held_out = {
        ("de", "test"): ["a cat sleeps", "a dog sleeps", LONG, "a bird sings"],
        ("es", "dev"): ["a dog sleeps"],
    }
    training = {
        "de": ["a cat sleeps here", "a dog sleeps"],  # one as part of another sentence, one whole
        "es": ["zero " + " ".join(LONG.split()[1:9])],  # eight of its words in a row
        "tr": [" ".join(LONG.split()[1:8]), "a cat", "sleeps a"],  # seven words are too few
    }
    found = {
        (row["train"], row["held_out"], row["split"]): (row["shared"], row["sentence_share"], row["ngram_share"])
        for row in contamination.overlap(training, held_out)
    }
    assert found == {
        ("de", "de", "test"): (1, 0.25, 0.5),
        ("de", "es", "dev"): (1, 1.0, 1.0),
        ("es", "de", "test"): (0, 0.0, 0.25),
        ("es", "es", "dev"): (0, 0.0, 0.0),
        ("tr", "de", "test"): (0, 0.0, 0.0),
        ("tr", "es", "dev"): (0, 0.0, 0.0),
    }


def test_equals_a_direct_count():
    rng = random.Random(3)

    def sentences(n):
        return [" ".join(rng.choices("abc", k=rng.randint(1, 11))) for _ in range(n)]

    train, test = sentences(60), sentences(40)
    (row,) = contamination.overlap({"x": train}, {("x", "test"): test})
    assert row["shared"] == sum(sentence in train for sentence in test)
    text = [f" {sentence} " for sentence in train]

    def stands(sentence):
        words = sentence.split()
        n = min(8, len(words))
        runs = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
        return any(f" {run} " in line for run in runs for line in text)

    assert row["ngram_share"] == sum(map(stands, test)) / len(test)


@pytest.fixture
def corpora(tmp_path):
    """German's test sentence "Go home now" stands in Spanish training text only."""
    texts = {
        "de": {"train": [("Stop.", "Halt.")], "dev": [("Yes.", "Ja.")], "test": [("Go home now!", "Geh jetzt heim!")]},
        "es": {"train": [("go home now", "vete a casa")], "dev": [("No.", "No.")], "test": [("Come in.", "Pasa.")]},
    }
    folders = {}
    for language, splits in texts.items():
        sources = {}
        for split, pairs in splits.items():
            path = tmp_path / f"{language}.{split}.tsv"
            path.write_text(f"en\t{language}\n" + "".join(f"{a}\t{b}\n" for a, b in pairs), encoding="utf-8")
            sources[split] = {"path": str(path)}
        corpus = FilesCorpus.model_validate({"kind": "files", "splits": sources}).model_dump(mode="json")
        spec = json.dumps({"corpus": corpus, "pivot": "en", "language": language})
        folders[f"pairs/{language}"] = str(tmp_path / language)
        prepare.main(["--spec", spec, "--out", folders[f"pairs/{language}"]])
    return folders


def test_command(corpora, tmp_path):
    spec = json.dumps({"languages": ["de", "es"], "pivot": "en"})
    contamination.main(["--spec", spec, "--inputs", json.dumps(corpora), "--out", str(tmp_path / "check")])
    report = provenance.read_json(tmp_path / "check" / "contamination.json")
    dirty = [row for row in report["across"] if row["shared"]]
    assert [(row["train"], row["held_out"], row["split"], row["sentence_share"]) for row in dirty] == [
        ("es", "de", "test", 1.0)
    ]
    assert len(report["across"]) == 2 * 2 * 2  # train of each x (dev, test) of each
    sizes = {(row["language"], row["split"]): row for row in report["sizes"]}
    assert sizes["de", "test"] == {"language": "de", "split": "test", "pairs": 1, "words": 3, "pivot_words": 3}
    assert set(provenance.read_manifest(tmp_path / "check")["inputs"]) == {"pairs/de", "pairs/es"}


def test_missing_input(tmp_path):
    with pytest.raises(InputError, match="pairs/de"):
        contamination.main(["--spec", '{"languages": ["de"], "pivot": "en"}', "--inputs", "{}", "--out", str(tmp_path)])
