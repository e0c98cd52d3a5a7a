"""Weights that are read from disk tensor by tensor."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_models import tiny_llama

from langmerge.landscape.memory import needs
from langmerge.landscape.weights import Weights, blend
from langmerge.provenance import InputError


def test_weights_are_those_of_the_folder(save):
    model = tiny_llama(8)
    expected = dict(model.named_parameters())
    found = Weights(save("plain", model), expected)
    assert list(found) == list(expected) and len(found) == len(expected)
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_names_that_change_on_loading_are_understood(save):
    """Files of the bare decoder, without the prefix `model.`"""
    model = tiny_llama(9)
    folder = save("bare", model)
    file = folder / "model.safetensors"
    save_file({k.removeprefix("model."): v for k, v in load_file(file).items()}, file, metadata={"format": "pt"})
    other = tiny_llama(10)
    blend(other, [Weights(folder, dict(other.named_parameters()))], [1.0])
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_models_of_other_shapes_are_refused(save):
    folder = save("wide", tiny_llama(0, intermediate_size=40))
    with pytest.raises(InputError, match=r"mlp.gate_proj.weight has shape \[40, 16\], the base's has \[24, 16\]"):
        Weights(folder, dict(tiny_llama().named_parameters()))


def test_a_3b_model_needs_less_than_two_gigabytes_of_host_memory():
    """Qwen2.5-3B (36 layers, width 2048, MLP 11008, 151936 tied embeddings), five languages."""
    embedding = 151936 * 2048
    layer = 2048 * (2048 + 2 * 256) + 2048 + 2 * 256 + 2048 * 2048 + 3 * 2048 * 11008 + 2 * 2048
    parameters = embedding + 36 * layer + 2048
    assert parameters == pytest.approx(3.09e9, rel=0.01)
    found = needs(parameters, embedding, models=6, languages=5, blocks=16)
    assert found.host < 2e9
    assert found.device < 40e9
    assert found.passes == -(-4 * 80 * parameters // 2**33)
    assert found.disk == 2 * 5 * 4 * parameters


def test_the_models_of_the_cpu_scale_take_one_pass():
    assert needs(1_000_000, 262_144, models=5, languages=4, blocks=16, device="cpu").passes == 1
