"""Tiny random Llamas with a byte-level tokenizer, and multi-parallel sentence pairs, as finished results on disk."""

import json

import numpy as np
import pytest
from tiny_llamas import random_llama, save_result

from langmerge import provenance

PROMPT = {"template": "<{source_code}> {source} <{target_code}>", "format": "plain"}
WORDS = ["red", "cat", "sleeps", "we", "see", "old", "book", "no", "garden", "é"]


def llama(seed=0, **changes):
    settings = {"num_hidden_layers": 2, "initializer_range": 0.3, "tie_word_embeddings": True}
    return random_llama(seed, **{**settings, **changes})


@pytest.fixture(scope="session")
def make_llama():
    return llama


@pytest.fixture(scope="session")
def model():
    return llama()


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Model folders by name."""
    root = tmp_path_factory.mktemp("models")
    return {name: save_result(llama(seed), root / name) for seed, name in enumerate(("en-es", "en-de"))}


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """Folders of 20 training and 6 dev pairs of es and de with en."""
    root, generator = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)

    def sentence():
        return " ".join(generator.choice(WORDS, generator.integers(1, 5)))

    for language in ("es", "de"):
        with provenance.result(root / language, {}, "", "") as job:
            for split, n in (("train", 20), ("dev", 6), ("test", 6)):
                rows = [{"id": f"{split}{i}", "en": sentence(), language: sentence()} for i in range(n)]
                text = "".join(json.dumps(row) + "\n" for row in rows)
                (job.folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return {language: root / language for language in ("es", "de")}


@pytest.fixture
def spec():
    return {
        "kind": "fisher",
        "directions": [{"source": "en", "target": "es"}],
        "pivot": "en",
        "split": "train",
        "sentences": 5,
        "seed": 1,
        "prompt": PROMPT,
        "labels": "target",
    }
