"""Tiny models and pairs, in memory and as finished results on disk."""

import json

import numpy as np
import pytest
import torch
from toy_models import PROMPT, tiny_llama

from langmerge import models, provenance
from langmerge.landscape.losses import batch_losses, make_batches
from langmerge.prompts import Prompt, encode_pairs

WORDS = ["red", "cat", "we", "see", "old", "no", "é"]
ODD_ONES = [("a cat", "un gato"), ("no", "né"), ("we see it", "lo vemos"), ("so", "y"), ("old", "viejo"), ("x", "zz")]


def sentence(generator):
    return " ".join(generator.choice(WORDS, generator.integers(1, 4)))


@pytest.fixture(scope="session")
def encoded(tokenizer):
    """Six sequences of different lengths."""
    return encode_pairs(Prompt(**PROMPT), tokenizer, ODD_ONES, "en", "es")


@pytest.fixture(scope="session")
def parallel():
    """Rows of 8 sentences in en, es and de."""
    generator = np.random.default_rng(0)
    return [
        {"id": f"s{i}", "en": sentence(generator), "es": sentence(generator), "de": sentence(generator)}
        for i in range(8)
    ]


@pytest.fixture(scope="session")
def pairs(tmp_path_factory, parallel):
    """Folders of the same sentences: es and de with en."""
    root = tmp_path_factory.mktemp("pairs")
    for language in ("es", "de"):
        with provenance.result(root / language, {}, "", "") as job:
            rows = [{key: row[key] for key in ("id", "en", language)} for row in parallel]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (job.folder / "dev.jsonl").write_text(text, encoding="utf-8")
    return {language: root / language for language in ("es", "de")}


@pytest.fixture(scope="session")
def trained(tokenizer, parallel):
    """A model that knows the sentences of both languages almost by heart."""
    model = tiny_llama(1, hidden_size=32, intermediate_size=48)
    rows = [
        row
        for code in ("es", "de")
        for row in encode_pairs(Prompt(**PROMPT), tokenizer, [(r["en"], r[code]) for r in parallel], "en", code)
    ]
    batches = make_batches(rows, range(len(rows)), model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        sum(batch_losses(model, batch).sum() for batch in batches).backward()
        optimizer.step()
    model.zero_grad()
    return model


@pytest.fixture(scope="session")
def save(tmp_path_factory, tokenizer):
    """``save(name, model)``: the folder of a finished result."""
    root = tmp_path_factory.mktemp("models")

    def write(name, model):
        with provenance.result(root / name, {}, "", "") as job:
            models.save_model(model, job.folder)
            tokenizer.save_pretrained(job.folder)
        return root / name

    return write
