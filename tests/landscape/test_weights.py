"""Weights that are read from disk tensor by tensor."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_models import tiny_llama

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
