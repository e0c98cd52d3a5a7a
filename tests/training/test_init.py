import json
import os
import subprocess
import sys

import pytest
import torch

from langmerge.models import load_model, load_tokenizer
from langmerge.provenance import InputError, canonical, read_manifest
from langmerge.training.data import Corpora
from langmerge.training.init import InitSettings, initialise
from langmerge.training.settings import Component, check


@pytest.fixture
def spec(inputs):
    return read_manifest(inputs["model"])["spec"]


@pytest.fixture
def corpora(inputs):
    return {name: folder for name, folder in inputs.items() if name != "model"}


def test_another_process_writes_the_same_bytes(inputs, corpora, spec, tmp_path):
    command = [sys.executable, "-m", "langmerge.training.init", "--spec", canonical(spec), "--out", str(tmp_path / "m"),
               "--inputs", canonical({name: str(folder) for name, folder in corpora.items()})]  # fmt: skip
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "7"})
    assert (tmp_path / "m" / "manifest.json").read_bytes() == (inputs["model"] / "manifest.json").read_bytes()
    assert {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"} <= set(
        read_manifest(tmp_path / "m")["outputs"])  # fmt: skip


def test_seeds_change_the_weights_and_nothing_else(inputs, corpora, spec, tmp_path):
    initialise(check(InitSettings, {**spec, "seed": 4}, "init"), corpora, tmp_path)
    for name in ("config.json", "tokenizer.json"):
        assert (tmp_path / name).read_bytes() == (inputs["model"] / name).read_bytes()
    assert (tmp_path / "model.safetensors").read_bytes() != (inputs["model"] / "model.safetensors").read_bytes()


def test_a_tokenizer_without_pivot_knows_the_languages_alone(inputs, corpora, spec, tmp_path):
    initialise(check(InitSettings, {**spec, "pivot": None, "vocabulary_size": 1000}, "init"), corpora, tmp_path)
    tokenizer = load_tokenizer(tmp_path)

    def single(code):
        words = {word for text in Corpora(inputs).texts(Component(task="text", language=code)) for word in text.split()}
        return [len(tokenizer(word, add_special_tokens=False)["input_ids"]) == 1 for word in words]

    assert all(single("es")) and all(single("de"))
    assert sum(single("en")) < 0.2 * len(single("en"))  # a made-up word or two are of several languages


def test_text_survives_the_tokenizer(inputs, tokenizer):
    for text in [*Corpora(inputs).texts(Component(task="text", language="es"))[:50], "Ğüş çay, naïve 日本語!", "a  b"]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == text


def test_words_of_the_corpus_are_one_token_wherever_they_stand(inputs, corpora, spec, tmp_path):
    initialise(check(InitSettings, {**spec, "vocabulary_size": 1000}, "init"), corpora, tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    texts = Corpora(inputs).texts(Component(task="text", language="es"))
    for word in {word for text in texts for word in text.split()}:
        first, again = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (word, f"{word} {word}"))
        assert len(first) == 1 and again == first * 2
    # There is nothing more to merge once every word is one token, so the vocabulary stays smaller than asked for.
    assert len(tokenizer) < 1000 and load_model(tmp_path).config.vocab_size == len(tokenizer)


def test_tags_are_never_split(tokenizer):
    ids = tokenizer("<en>bada<es>", add_special_tokens=False)["input_ids"]
    assert ids[0] == tokenizer.convert_tokens_to_ids("<en>") and ids[-1] == tokenizer.convert_tokens_to_ids("<es>")
    assert "<en>" in tokenizer.all_special_tokens
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<s>", "</s>", "<pad>")


def test_the_model_is_the_one_asked_for(inputs, spec):
    model = load_model(inputs["model"])
    d, layers, ff, kv, v = 32, 2, 64, 16, model.config.vocab_size
    expected = v * d + layers * (2 * d * d + 2 * d * kv + 3 * d * ff + 2 * d) + d  # tied head, grouped queries
    assert sum(weight.numel() for weight in model.parameters()) == expected
    assert json.loads((inputs["model"] / "cost.json").read_text())["parameters"] == expected
    assert model.config.vocab_size == spec["vocabulary_size"] == 400
    assert (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id) == (0, 1, 2)
    assert all(weight.dtype == torch.float32 for weight in model.parameters())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vocabulary_size": 100}, ["vocabulary_size"]),
        ({"languages": []}, ["languages"]),
        ({"architecture": {"hidden_sise": 32}}, ["hidden_sise", "llama"]),
        ({"architecture": {"model_type": "lama"}}, ["lama"]),
        ({"architecture": {"hidden_size": 30, "num_attention_heads": 4}}, ["hidden"]),
        ({"languages": ["tr"]}, ["'tr'"]),
    ],
)
def test_wrong_recipes_are_named(corpora, spec, tmp_path, change, words):
    with pytest.raises(InputError) as error:
        initialise(check(InitSettings, {**spec, **change}, "init"), corpora, tmp_path)
    assert all(word in str(error.value) for word in words)
