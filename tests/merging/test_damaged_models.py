"""Models that are not what they should be: one clear error before anything is written, and nothing left behind."""

import json
import re
import shutil

import pytest
import torch
from merge_models import save
from safetensors.torch import load_file, save_file
from small_merges import MEAN, refused, sharded, small, write

from langmerge.merging import Merge, Recipe, state_dicts
from langmerge.merging.reader import ModelFolder, read_header

pytestmark = pytest.mark.usefixtures("nothing_left_running")


# ---- files that are not what they should be -------------------------------------------------------------------------


def test_shards_that_were_exchanged_are_refused(smalls, tmp_path):
    folder = sharded(tmp_path / "in/s", small(1))
    one, two = sorted(folder.glob("model-*.safetensors"))
    one.rename(folder / "x")
    two.rename(one)
    (folder / "x").rename(two)
    refused(
        smalls | {"a": folder},
        tmp_path / "out",
        r"model 'a': tensor 'embed.weight' stands in model-00002.* but in model-00001",
    )


def test_a_shard_of_another_model_is_refused(smalls, tmp_path):
    folder = sharded(tmp_path / "in/s", small(1))
    other = sharded(tmp_path / "in/o", small(1) | {"more": torch.zeros(2)}, shards=3)
    shutil.copy(other / "model-00001-of-00003.safetensors", folder / "model-00001-of-00002.safetensors")
    refused(
        smalls | {"a": folder},
        tmp_path / "out",
        "model 'a': tensor .* (shards were exchanged or belong|stands in two files)",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w: w.update({"layers.0.w": w["embed.weight"]}),
            "'layers.0.w' stands in model-00002.* but in model-00001",
        ),
        (lambda w: w.update({"ghost": w["embed.weight"]}), "'ghost' stands in no file .* but in model-00001"),
        (lambda w: w.pop("layers.0.w"), "'layers.0.w' stands in model-00002.* but nowhere by"),
        (lambda w: w.update({"embed.weight": "../model.safetensors"}), "names missing files"),
        (lambda w: w.update({"embed.weight": 3}), "not a valid shard index"),
        (lambda w: w.update({"embed.weight": None}), "not a valid shard index"),
    ],
)
def test_an_index_that_lies_is_refused(smalls, tmp_path, change, message):
    folder = sharded(tmp_path / "in/s", small(1))
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index["weight_map"])
    path.write_text(json.dumps(index))
    refused(smalls | {"a": folder}, tmp_path / "out", message, error=(ValueError, FileNotFoundError))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"weight_map": 1}', '{"weight_map": [["x", 1]]}', '{"weight_map": {"x": 1}}', "\0"]
)
def test_an_index_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ValueError, match="not a valid shard index"):
        ModelFolder("a", tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    folder = sharded(tmp_path / "in/s", small(1))
    _one, two = sorted(folder.glob("model-*.safetensors"))
    save_file(load_file(two) | {"norm.weight": torch.zeros(4), "embed.weight": torch.zeros(6, 4)}, two)
    with pytest.raises(ValueError, match=r"model 'a': tensor .* stands in two files"):
        ModelFolder("a", folder)


def raw(path, header, data=b""):
    """A safetensors file with just this header text."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def row(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    "header",
    [
        b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b'{"w":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}}',
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        {"w": 1},
        {"w": row(dtype="F4")},
        {"w": row(dtype=["F32"])},
        {"w": row(dtype=None)},
        {"w": row(shape=[-1])},
        {"w": row(shape=[1.0])},
        {"w": row(shape=[True])},
        {"w": row(shape="1")},
        {"w": row(shape=None)},
        {"w": row(shape=[-1, -1])},
        {"w": row(offsets=[0, 4, 8])},
        {"w": row(offsets=[0])},
        {"w": row(offsets=["0", "4"])},
        {"w": row(offsets=[0.0, 4.0])},
        {"w": row(offsets=[-4, 0])},
        {"w": row(offsets=[4, 8])},
        {"w": row(), "v": row()},
        {"w": row(offsets=[0, 10**30])},
        {"w": {"dtype": "F32", "shape": [1]}},
    ],
)
def test_damaged_headers_are_one_clear_error(tmp_path, header):
    path = raw(tmp_path / "model.safetensors", header, b"\0" * 4)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_header(path)


def test_every_truncation_is_found_before_anything_is_written(smalls, tmp_path):
    whole = (smalls["a"] / "model.safetensors").read_bytes()
    for size in range(len(whole)):
        (smalls["a"] / "model.safetensors").write_bytes(whole[:size])
        with pytest.raises(ValueError, match="truncated"):
            Merge([MEAN], smalls)
    (smalls["a"] / "model.safetensors").write_bytes(whole + b"\0")
    refused(smalls, tmp_path / "out", "truncated or damaged")
    (smalls["a"] / "model.safetensors").write_bytes(whole)
    write(smalls, tmp_path / "out")


def test_a_truncated_shard_is_named(smalls, tmp_path):
    folder = sharded(tmp_path / "in/s", small(1), shards=3)
    path = folder / "model-00002-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    refused(smalls | {"b": folder}, tmp_path / "out", re.escape(str(path)))


@pytest.mark.parametrize(
    ("name", "shape"), [("norm.weight", (5,)), ("layers.0.w", (4, 5)), ("scalar", (1,)), ("void", (0, 5))]
)
def test_unequal_shapes_are_refused_before_anything_is_written(smalls, tmp_path, name, shape):
    folder = save(tmp_path / "in/x", small(2) | {name: torch.zeros(shape)})
    refused(
        smalls | {"b": folder}, tmp_path / "out", rf"tensor '{name}' has shape .* in model 'base' but .* in model 'b'"
    )


@pytest.mark.parametrize("name", list(small(0)))
@pytest.mark.parametrize("model", ["base", "a", "b"])
def test_a_missing_tensor_is_refused_before_anything_is_written(smalls, tmp_path, name, model):
    state = {key: value for key, value in small(1).items() if key != name}
    refused(
        smalls | {model: save(tmp_path / "in/x", state)},
        tmp_path / "out",
        f"tensor '{name}' is .*not in model '{model}'",
    )


def test_a_model_without_tensors_is_refused(smalls, tmp_path):
    empty = tmp_path / "in/x"
    empty.mkdir()
    raw(empty / "model.safetensors", {})
    message = refused(dict.fromkeys(smalls, empty), tmp_path / "out", "holds no tensors")
    assert str(empty) in str(message)
    (empty / "model.safetensors").unlink()
    (empty / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    refused(dict.fromkeys(smalls, empty), tmp_path / "out", "holds no tensors")


def test_models_of_empty_and_whole_number_tensors_only_are_passed_on(tmp_path):
    state = {"void": torch.zeros(0, 4), "nothing": torch.zeros(3, 0), "ids": torch.arange(4)}
    sources = {name: save(tmp_path / "in" / name, state) for name in ("base", "a", "b")}
    write(sources, tmp_path / "out")
    for recipe in ("mean", "ties"):
        stored = {}
        for path in (tmp_path / "out" / recipe).glob("*.safetensors"):
            stored |= load_file(path)
        assert stored.keys() == state.keys()
        assert all(torch.equal(stored[name], state[name]) and stored[name].shape == state[name].shape for name in state)


# ---- values that are not finite -------------------------------------------------------------------------------------


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_one_bad_element_anywhere_in_any_model_is_found(states, sources, tmp_path, statistics, value):
    generator = torch.Generator().manual_seed(5)
    names = list(states["base"])
    for number, model in enumerate(("base", "a", "b") * 4):
        name = names[int(torch.randint(len(names), (), generator=generator))]
        flat = states[model][name].clone().view(-1)
        flat[int(torch.randint(flat.numel(), (), generator=generator))] = value
        folder = save(tmp_path / "in" / str(number), states[model] | {name: flat.view(states[model][name].shape)})
        refused(
            sources | {model: folder},
            tmp_path / "out",
            f"model '{model}': tensor '{name}' contains NaN or infinite",
            block=(64, 1 << 17)[number % 2],
            statistics=statistics,
            shard_bytes=1 << 20,
        )


@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "ties", "dare_linear", "slerp"])
@pytest.mark.parametrize("place", [0, 50_000, 99_999])
def test_a_bad_element_amid_a_long_tensor_is_found(tmp_path, method, place):
    models = ("a", "b")
    base = None if method in ("linear", "slerp") else "base"
    state = {"w": torch.ones(1000, 100)}
    sources = {name: save(tmp_path / "in" / name, state, config={}, tokenizer=None) for name in ("base", "a")}
    flat = torch.ones(100_000)
    flat[place] = torch.nan
    sources["b"] = save(tmp_path / "in/b", {"w": flat.view(1000, 100)}, config={}, tokenizer=None)
    refused(
        sources,
        tmp_path / "out",
        "model 'b': tensor 'w' contains NaN",
        recipes=[Recipe("m", method, models, base)],
        block=1000,
        statistics=False,
        shard_bytes=1 << 30,
    )


def test_a_model_of_weight_zero_must_be_finite_as_well(smalls, tmp_path):
    state = small(2)
    state["layers.1.w"][2, 2] = torch.inf
    recipe = Recipe("m", "linear", ("a", "b"), None, {"weights": [1, 0]})
    refused(smalls | {"b": save(tmp_path / "in/x", state)}, tmp_path / "out", "model 'b'", recipes=[recipe])


def test_large_finite_values_have_statistics_too(tmp_path):
    states = {name: {"w": torch.full((4, 4), value)} for name, value in (("base", 0.0), ("a", 1e30), ("b", -1e30))}
    sources = {name: save(tmp_path / "in" / name, state, config={}, tokenizer=None) for name, state in states.items()}
    result = write(sources, tmp_path / "out", recipes=[Recipe("m", "linear", ("a", "b"), "base", {"weights": [3, 1]})])
    total = result["m"]["total"]
    assert total["delta_norms"]["a"] == pytest.approx(4e30)
    assert total["cosines"][0][1] == pytest.approx(-1)
    assert total["change_norm"] == pytest.approx(2e30)
    assert total["vanished"] == 0


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_float8_models_are_merged(tmp_path, dtype):
    values = {"a": [1.0, 2.0, 0.5, -4.0], "b": [3.0, 2.0, 1.5, -2.0]}
    sources = {
        name: save(tmp_path / "in" / name, {"w": torch.tensor(row).to(dtype)}, config={}, tokenizer=None)
        for name, row in values.items()
    }
    (merged,) = state_dicts([Recipe("m", "linear", ("a", "b"))], sources)
    assert merged.state_dict["w"].dtype == dtype
    assert merged.state_dict["w"].to(torch.float32).tolist() == [2.0, 2.0, 1.0, -3.0]
