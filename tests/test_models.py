"""Model folders that are refused, models that come back as they were saved, and an independent count of FLOPs."""

import json
import subprocess
import sys

import pytest
import torch

from langmerge import models
from langmerge.provenance import InputError


def llama(**changes):
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = {
        "vocab_size": 50,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "attn_implementation": "eager",
    }
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**{**settings, **changes})).eval()


# ---- folders -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "model.pth", "last.ckpt"])
def test_a_pickle_is_refused_with_advice(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"pickle.*can run code.*safe_serialization=True") as error:
        models.load_model(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_a_folder_without_weights_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"model\.safetensors: file not found"):
        models.load_model(tmp_path)


def sharded(folder, *names):
    index = {"weight_map": {f"tensor{i}": name for i, name in enumerate(names)}}
    (folder / models.WEIGHTS_INDEX).write_text(json.dumps(index))


def test_the_missing_shard_is_named(tmp_path):
    sharded(tmp_path, "a.safetensors", "b.safetensors", "a.safetensors")
    (tmp_path / "a.safetensors").touch()
    (tmp_path / "pytorch_model.bin").touch()  # as many folders of the Hub hold besides
    with pytest.raises(InputError, match=r"b\.safetensors: file not found"):
        models.weight_files(tmp_path)
    (tmp_path / "b.safetensors").touch()
    assert models.weight_files(tmp_path) == [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]


def test_a_broken_index_is_explained(tmp_path):
    (tmp_path / models.WEIGHTS_INDEX).write_text("{")
    with pytest.raises(InputError, match=r"index\.json: not valid JSON"):
        models.weight_files(tmp_path)


def test_one_file_goes_before_shards(tmp_path):
    """As transformers and the merges read them."""
    sharded(tmp_path, "a.safetensors")
    (tmp_path / models.WEIGHTS).touch()
    assert models.weight_files(tmp_path) == [tmp_path / models.WEIGHTS]


@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_model_comes_back(tmp_path, tied):
    model = llama(tie_word_embeddings=tied)
    models.save_model(model, tmp_path)
    loaded = models.load_model(tmp_path)
    assert loaded.dtype == torch.float32
    assert not loaded.config.use_cache
    ids = torch.arange(8)[None]
    with torch.inference_mode():
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits, rtol=0, atol=1e-6)
    assert models.load_model(tmp_path, torch.bfloat16).dtype == torch.bfloat16


def test_a_tokenizer_is_copied_byte_by_byte(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    for name in ("tokenizer.json", "chat_template.jinja", "own_code.py", "model.safetensors"):
        (source / name).write_text(f"  {name}\r\n", newline="")
    models.copy_tokenizer(source, target)
    copied = {path.name: path.read_bytes() for path in target.iterdir()}
    assert copied == {name: (source / name).read_bytes() for name in ("tokenizer.json", "chat_template.jinja")}


# ---- threads and FLOPs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "expected"), [("3", 3), (None, 1)])
def test_threads_are_those_of_the_job(monkeypatch, given, expected):
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    try:
        models.set_threads()
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_key_value_heads": 2},
        {"head_dim": 8},
        {"tie_word_embeddings": True},
        {"num_hidden_layers": 1, "vocab_size": 300, "intermediate_size": 40},
    ],
    ids=lambda c: ",".join(c) or "plain",
)
@pytest.mark.parametrize("context", [1, 7, 32])
def test_flops_are_three_times_the_forward_pass_that_torch_counts(changes, context):
    """The backward pass of a matrix product is two of the same size; torch counts matrix products only."""
    from torch.utils.flop_counter import FlopCounterMode

    model, rows = llama(**changes), 2
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        model(torch.zeros(rows, context, dtype=torch.long))
    # The rotary embedding's outer product of positions and frequencies is no matrix product of the model.
    rotary = counter.get_flop_counts().get("LlamaForCausalLM.model.rotary_emb", {})
    forward = counter.get_total_flops() - sum(rotary.values())
    assert models.training_flops_per_token(model.config, context) * rows * context == 3 * forward


def test_flops_are_dominated_by_six_per_weight():
    """The rule of thumb, where the context is short and the head small: 6 FLOPs per weight and token."""
    config = llama(hidden_size=64, intermediate_size=256, num_hidden_layers=2).config
    weights = 2 * (4 * 64 * 64 + 3 * 64 * 256) + 50 * 64
    assert models.training_flops_per_token(config, 0) == 6 * weights


def test_importing_models_does_not_import_torch():
    code = "import sys, langmerge.models, langmerge.prompts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
