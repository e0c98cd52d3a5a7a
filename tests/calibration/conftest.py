"""Tiny random Llamas with a byte-level tokenizer, and multi-parallel sentence pairs, as finished results on disk."""

import json

import numpy as np
import pytest

from langmerge import models, provenance

PROMPT = {"template": "<{source_code}> {source} <{target_code}>", "format": "plain"}
WORDS = ["red", "cat", "sleeps", "we", "see", "old", "book", "no", "garden", "é"]


def byte_tokenizer():
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(BPE(vocab={t: i for i, t in enumerate(["<pad>", "<s>", "</s>", *alphabet])}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def llama(seed=0, **changes):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    settings = {
        "vocab_size": 260,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.3,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return LlamaForCausalLM(LlamaConfig(**{**settings, **changes})).eval()


def save(model, folder):
    with provenance.result(folder, {}, "", "") as job:
        models.save_model(model, job.folder)
        byte_tokenizer().save_pretrained(job.folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer():
    return byte_tokenizer()


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
    return {name: save(llama(seed), root / name) for seed, name in enumerate(("en-es", "en-de"))}


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
