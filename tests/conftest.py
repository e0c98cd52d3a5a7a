"""Tiny random Llamas with a byte-level tokenizer, and multi-parallel sentence pairs, as finished results on disk."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_llamas import byte_tokenizer, random_llama

ALPHABET = list("abcdefghij ")
LONG = ("test_reruns.py", "test_snapshot.py", "test_task_items.py", "test_report.py", "test_studies.py")


def pytest_collection_modifyitems(items):
    """Files that take minutes first, so that workers who get whole files end at about the same time."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(scope="session")
def make_model():
    return random_llama


@pytest.fixture(scope="session")
def tokenizer():
    return byte_tokenizer()


def finish(folder: Path) -> Path:
    """Give a folder the manifest of a finished result."""
    from langmerge.provenance import sha256_file, write_json

    files = [path for path in folder.iterdir() if path.is_file() and path.name != "manifest.json"]
    write_json(folder / "manifest.json", {"outputs": {path.name: sha256_file(path) for path in files}})
    return folder


@pytest.fixture
def save_model(tmp_path, tokenizer):
    def save(name, model, tokenizer=tokenizer):
        folder = tmp_path / "models" / name
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)
        return finish(folder)

    return save


def sentence(generator, low=4, high=20):
    return "x" + "".join(generator.choice(ALPHABET, generator.integers(low, high)))


@pytest.fixture
def pairs(tmp_path):
    """Folders of 24 pairs of es and de with en, multi-parallel."""
    generator = np.random.default_rng(0)
    english = [sentence(generator) for _ in range(24)]
    folders = {}
    for language in ("es", "de"):
        folder = tmp_path / "pairs" / language
        folder.mkdir(parents=True)
        rows = [{"id": f"s{i}", "en": en, language: sentence(generator)} for i, en in enumerate(english)]
        (folder / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        folders[language] = finish(folder)
    return folders
