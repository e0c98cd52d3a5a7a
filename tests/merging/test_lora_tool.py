"""The command that merges adapters into one adapter."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from lora_models import factors, save_adapter
from safetensors.torch import load_file

from langmerge.merging.lora import merge_adapters
from langmerge.merging.lora.__main__ import main
from langmerge.provenance import InputError


@pytest.fixture
def folder(tmp_path):
    for seed, name in enumerate("ab", 1):
        save_adapter(tmp_path / name, factors(seed))
    return tmp_path


def written(folder, **recipe):
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"adapters": {"a": "a", "b": "./b"}, **recipe}))
    main([str(path), str(folder / "out")])
    return folder / "out"


def test_the_file_gives_what_the_function_gives(folder):
    out = written(folder, method="ties", parameters={"density": 0.5, "weights": {"b": 0.4, "a": 0.6}})
    adapters = {name: folder / name for name in "ab"}
    expected = merge_adapters("ties", adapters, {"density": 0.5, "weights": [0.6, 0.4]})
    stored = load_file(out / "adapter_model.safetensors")
    assert set(stored) == set(expected.tensors)
    assert all(torch.equal(stored[name], expected.tensors[name]) for name in stored)
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "acme/base"


def test_factors_have_the_type_that_is_asked_for(folder):
    stored = load_file(written(folder, method="cat", dtype="bfloat16") / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"method": "tie"}, "did you mean 'ties'"),
        ({"methd": "ties"}, "unknown key 'methd'"),
        ({}, "method: expected a text"),
        ({"method": "cat", "dtype": "int8"}, "dtype: 'int8' is not one of float32"),
        ({"method": "cat", "parameters": {"weights": {"a": 1}}}, r"\['a'\] are not the names of adapters"),
        ({"method": "cat", "adapters": {"a": "nowhere"}}, "nowhere"),
    ],
)
def test_what_is_wrong_is_said_with_the_file(folder, recipe, message):
    with pytest.raises(InputError, match=message) as error:
        written(folder, **recipe)
    assert str(error.value).startswith(str(folder / "recipe.yaml"))
    assert not Path(folder / "out").exists()
