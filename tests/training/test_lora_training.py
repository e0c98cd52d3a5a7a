import json
import os
import random
import subprocess
import sys

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

from langmerge.merging.adapters import AdapterView
from langmerge.merging.reader import ModelFolder
from langmerge.models import load_model, training_flops_per_token
from langmerge.provenance import InputError, canonical, read_manifest, sha256_file
from langmerge.training import loop
from langmerge.training.job import prepare
from langmerge.training.loop import Run
from langmerge.training.lora import adapt, flops_per_token
from langmerge.training.settings import LowRank, Settings, check

RANK, ALPHA = 3, 12.0
WEIGHTS = "model.safetensors"


@pytest.fixture
def lora(recipe):
    return {**recipe, "lora": {"rank": RANK, "alpha": ALPHA, "dropout": 0.1}}


@pytest.fixture(scope="module")
def trained(inputs, train, tmp_path_factory):
    """Recipe -> the finished model of a run that nothing disturbed."""
    known = {}

    def run(recipe):
        key = canonical(recipe)
        if key not in known:
            known[key] = train(recipe, inputs, tmp_path_factory.mktemp("lora") / "m")
        return known[key]

    return run


def test_the_model_is_the_parent_and_scaled_products(inputs, lora, trained):
    for folder in (trained(lora), trained(lora) / "step5"):
        parent, model = load_file(inputs["model"] / WEIGHTS), load_file(folder / WEIGHTS)
        factors = load_file(folder / "adapter" / "adapter_model.safetensors")
        changed = 0
        for name, weight in parent.items():
            a = factors.get(f"base_model.model.{name.removesuffix('.weight')}.lora_A.weight")
            if a is None:
                assert torch.equal(model[name], weight), name
                assert "norm" in name or "embed" in name, name
                continue
            b = factors[f"base_model.model.{name.removesuffix('.weight')}.lora_B.weight"]
            assert a.shape[0] == b.shape[1] == RANK
            expected = weight.double() + ALPHA / RANK * b.double() @ a.double()
            torch.testing.assert_close(model[name].double(), expected, rtol=1e-7, atol=1e-8)
            changed += not torch.equal(model[name], weight)
        assert changed == 2 * 7 == len(factors) // 2


def test_peft_and_the_merges_read_the_adapter(inputs, lora, trained):
    folder = trained(lora)
    merged, ids = load_model(folder), torch.arange(3, 30)[None]
    adapted = PeftModel.from_pretrained(load_model(inputs["model"]), folder / "adapter").eval()
    torch.testing.assert_close(adapted(ids).logits, merged(ids).logits, rtol=1e-4, atol=1e-4)
    base = ModelFolder("parent", inputs["model"])
    view = AdapterView(base, folder / "adapter")
    weights = load_file(folder / WEIGHTS)
    assert view.tensors.keys() == weights.keys()
    for name, weight in weights.items():
        assert torch.equal(view.read(name, 0, weight.numel()), weight.flatten()), name
    view.close()
    base.close()


def test_adapters_start_at_the_parent(inputs, lora, train, tmp_path):
    folder = train({**lora, "steps": 1, "snapshots": [0]}, inputs, tmp_path / "m")
    assert sha256_file(folder / "step0" / WEIGHTS) == sha256_file(inputs["model"] / WEIGHTS)


def test_nothing_of_this_machine_is_in_the_adapter(lora, trained):
    files = {path.name for path in (trained(lora) / "adapter").iterdir()}
    assert files == {"adapter_config.json", "adapter_model.safetensors"}
    config = json.loads((trained(lora) / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] is None
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (RANK, ALPHA, 0.1)


def test_another_process_writes_the_same_bytes(inputs, lora, trained, tmp_path):
    command = [sys.executable, "-m", "langmerge.training", "--spec", canonical(lora), "--out", str(tmp_path / "m"),
               "--inputs", canonical({name: str(folder) for name, folder in inputs.items()})]  # fmt: skip
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "7"})
    assert read_manifest(tmp_path / "m")["outputs"] == read_manifest(trained(lora))["outputs"]


@pytest.mark.parametrize("change", [{}, {"precision": "bf16", "accumulation": 2, "gradient_checkpointing": True}])
def test_a_run_that_dies_anywhere_ends_with_the_same_bytes(lora, inputs, train, trained, tmp_path, change, monkeypatch):
    recipe = {**lora, **change, "checkpoint_seconds": 1e-9}
    expected = read_manifest(trained(recipe))["outputs"]
    step, deaths = Run._step, sorted(random.Random(str(change)).sample(range(12), 3))

    def dying(self, number):
        if deaths and number >= deaths[0]:
            deaths.pop(0)
            raise ZeroDivisionError
        return step(self, number)

    monkeypatch.setattr(loop, "SPACING", 0.0)
    monkeypatch.setattr(Run, "_step", dying)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            train(recipe, inputs, tmp_path / "m")
    folder = train(recipe, inputs, tmp_path / "m")
    assert json.loads((folder / "cost.json").read_text())["resumed"] is True
    assert read_manifest(folder)["outputs"] == expected


def test_dropout_acts_and_targets_choose(lora, trained):
    plain = {**lora, "lora": {"rank": RANK, "alpha": ALPHA}}
    assert sha256_file(trained(plain) / WEIGHTS) != sha256_file(trained(lora) / WEIGHTS)
    few = trained({**lora, "lora": {"rank": RANK, "alpha": ALPHA, "targets": ["q_proj", "down_proj"]}})
    modules = {name.split(".")[-3] for name in load_file(few / "adapter" / "adapter_model.safetensors")}
    assert modules == {"q_proj", "down_proj"}


def test_the_first_step_follows_the_gradient_of_the_factors(inputs, recipe, tmp_path):
    """With B at zero, dL/dB = s G A^T and dL/dA = 0, where G is the gradient of the whole weight."""
    plain, _ = prepare(check(Settings, {**recipe, "clip": 1e9}, "train"), inputs, tmp_path / "full", "")
    spec = {**recipe, "clip": 1e9, "lora": {"rank": RANK, "alpha": ALPHA}}
    low, _ = prepare(check(Settings, spec, "train"), inputs, tmp_path / "low", "")
    for run in (plain, low):
        run.optimizer.step = lambda: None
        run.optimizer.zero_grad = lambda set_to_none: None
        run._step(0)
    gradient = plain.model.get_submodule("model.layers.1.mlp.up_proj").weight.grad
    layer = low.model.get_submodule("model.layers.1.mlp.up_proj")
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    torch.testing.assert_close(b.grad, ALPHA / RANK * gradient @ a.T, rtol=1e-4, atol=1e-6)
    assert float(a.grad.abs().max()) == 0.0 < float(b.grad.abs().max())
    assert layer.base_layer.weight.grad is None


def test_cost_counts_what_is_trained(lora, recipe, trained):
    cost = json.loads((trained(lora) / "cost.json").read_text())
    adapter = trained(lora) / "adapter" / "adapter_model.safetensors"
    assert cost["trainable_parameters"] == sum(value.numel() for value in load_file(adapter).values())
    assert cost["adapter_bytes"] == adapter.stat().st_size
    assert cost["flops"] < 0.8 * json.loads((trained(recipe) / "cost.json").read_text())["flops"]
    full = json.loads((trained(recipe) / "cost.json").read_text())
    assert full["trainable_parameters"] == sum(weight.numel() for weight in load_model(trained(recipe)).parameters())
    assert "adapter_bytes" not in full
    assert full["tokens"] == cost["tokens"]


@pytest.mark.parametrize("low", [False, True])
def test_flops_are_those_that_torch_counts(inputs, low):
    model, ids = load_model(inputs["model"]), torch.arange(3, 303).view(10, 30)
    expected, adapters = training_flops_per_token(model.config, 0), 0
    if low:
        adapted = adapt(model, LowRank(rank=RANK, alpha=ALPHA), seed=0)
        adapters = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
        assert adapters > 3000
        expected = flops_per_token(expected, adapters)
        # Nothing is trained below the first layer's projections, so autograd spares their inputs' gradients.
        first = [getattr(model.model.layers[0].self_attn, name) for name in ("q_proj", "k_proj", "v_proj")]
        expected -= 2 * sum(p.base_layer.weight.numel() + p.lora_A["default"].weight.numel() for p in first)
    with FlopCounterMode(display=False) as counter:
        model(ids).logits.sum().backward()
    counts = counter.get_flop_counts()["Global"]
    counted = sum(number for kernel, number in counts.items() if "attention" not in str(kernel))
    assert counted == pytest.approx(ids.numel() * expected, rel=1e-3)


def test_targets_that_cannot_be_adapted_are_named(lora, inputs, train, tmp_path):
    for target in ("lm_head", "embed_tokens", "c_attn"):  # the head of this model is its embedding
        spec = {**lora, "lora": {"rank": 2, "targets": ["q_proj", target]}}
        with pytest.raises(InputError, match=rf"lora\.targets: {target} .*down_proj.*v_proj"):
            train(spec, inputs, tmp_path / target)


def test_examples_are_learnt_by_an_adapter(task_inputs, train, tmp_path):
    text = {"data": [{"task": "text", "language": "es", "loss": "all"}], "text_tag": "", "context_length": 64}
    parent = train(text | {"steps": 80, "batch_tokens": 600, "learning_rate": 0.02}, task_inputs, tmp_path / "parent")
    examples = [{"task": "examples", "name": "sentiment", "language": "es"}]
    spec = {"data": examples, "steps": 60, "batch_tokens": 300, "context_length": 64, "learning_rate": 0.02,
            "lora": {"rank": 8, "alpha": 32}}  # fmt: skip
    folder = train(spec, {**task_inputs, "model": parent}, tmp_path / "m")
    rows = [json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
