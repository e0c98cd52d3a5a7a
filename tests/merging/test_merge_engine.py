"""The engine: streaming, sharing, inputs that are refused, statistics."""

import json
import math
import tracemalloc

import pytest
import torch
from merge_models import CONFIG, TOKENIZER, flat, save, weights
from safetensors.torch import load_file

from langmerge.merging import Merge, Recipe, state_dicts, write_models
from langmerge.merging.pipeline import SPAN

ALL = ("a", "b", "c")

RECIPES = [
    Recipe("mean", "linear", ALL),
    Recipe("circle", "slerp", ("a", "b"), None, {"t": 0.3}),
    Recipe("sum", "task_arithmetic", ALL, "base", {"scale": 0.4}),
    Recipe("ties", "ties", ALL, "base", {"density": 0.3}),
    Recipe("ties2", "ties", ALL, "base", {"density": 0.6}),
    Recipe("pair", "ties", ("a", "c"), "base", {"density": 0.3}),
    Recipe("mergekit", "ties", ALL, "base", {"density": 0.3, "convention": "mergekit"}),
    Recipe("peft", "ties", ALL, "base", {"density": 0.3, "convention": "peft"}),
    Recipe("dare", "dare_linear", ALL, "base", {"density": 0.3}),
    Recipe("dareties", "dare_ties", ALL, "base", {"density": 0.7}),
    Recipe("patched", "layer_patch", ("ties", "b"), None, {"last": 1}),
    Recipe("twice", "ties", ("circle", "ties"), "mean", {"density": 0.5}),
    Recipe("arc", "slerp", ("mergekit", "twice"), None, {"t": 0.5}),
]


def together(sources, **options):
    return {m.recipe.name: m.state_dict for m in state_dicts(RECIPES, sources, together=99, **options)}


@pytest.fixture(scope="module")
def everything(sources):
    return together(sources)


# ---- one result, however it is computed ---------------------------------------------------------------------


@pytest.mark.parametrize("block", [97, 1024])
def test_results_do_not_depend_on_the_block_size(sources, everything, block):
    for name, state in together(sources, block=block).items():
        for tensor in state:
            # Only the angle of slerp, a float64 sum over blocks, may change, by rounding.
            tolerance = 1e-7 if name in ("circle", "twice", "arc") else 0
            torch.testing.assert_close(state[tensor], everything[name][tensor], atol=tolerance, rtol=0, msg=name)


def test_recipes_computed_alone_equal_those_computed_together(sources, everything):
    for merged in state_dicts(RECIPES, sources, together=1):
        assert torch.equal(flat(merged.state_dict), flat(everything[merged.recipe.name])), merged.recipe.name


def test_files_equal_memory(sources, everything, tmp_path):
    write_models(RECIPES, sources, {r.name: tmp_path / r.name for r in RECIPES}, block=333)
    for name, state in everything.items():
        stored = load_file(tmp_path / name / "model.safetensors")
        torch.testing.assert_close(stored, {k: state[k] for k in stored}, atol=1e-7, rtol=0)
        assert set(stored) == set(state)


def test_recipes_nested_in_others_equal_their_merges_from_files(sources, everything, tmp_path):
    """In float32 nothing is lost by writing the inner models, so both ways give the same."""
    inner = RECIPES[:10]
    write_models(inner, sources, {r.name: tmp_path / r.name for r in inner})
    from_files = sources | {r.name: tmp_path / r.name for r in inner}
    for recipe in (RECIPES[10], RECIPES[11]):
        (merged,) = state_dicts([recipe], from_files)
        assert torch.equal(flat(merged.state_dict), flat(everything[recipe.name]))


def test_sharded_models_are_read_and_written_like_single_files(states, sources, everything, tmp_path):
    sharded = {name: save(tmp_path / f"in-{name}", state, shards=3) for name, state in states.items()}
    write_models(RECIPES[3:4], sharded, {"ties": tmp_path / "out"}, shard_bytes=20_000)
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert len(files) > 1
    assert all((tmp_path / "out" / f).stat().st_size < 20_000 + 4_000 for f in files)
    state = {}
    for file in files:
        part = load_file(tmp_path / "out" / file)
        assert all(index["weight_map"][name] == file for name in part)
        state |= part
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in state.values())
    assert torch.equal(flat(state), flat(everything["ties"]))


def test_memory_is_bounded_by_the_block_and_not_by_the_tensor(tmp_path):
    """A tensor of 8 MiB in each of three models, blocks of 64 KiB of which 8 are read at once, and once ahead."""
    state = {"model.layers.0.w": torch.randn(2048, 1024, generator=torch.Generator().manual_seed(0))}
    sources = {name: save(tmp_path / name, state) for name in ("base", "a")}
    sources["b"] = save(tmp_path / "b", {k: v * 1.01 for k, v in state.items()})
    recipe = Recipe("m", "ties", ("a", "b"), "base", {"density": 0.5})
    merge = Merge([recipe], sources, block=1 << 14)
    largest = 0
    for model in merge._models.values():
        read = model.elements

        def counted(tensor, start, count, read=read):
            nonlocal largest
            largest = max(largest, count)
            return read(tensor, start, count)

        model.elements = counted
    tracemalloc.start()
    pieces = [len(piece.values) for piece in merge]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert largest == SPAN["cpu"] << 14
    assert pieces == [1 << 14] * 128
    assert peak < 6 << 20


def test_a_tensor_that_fits_into_a_block_is_read_once_for_all_recipes(sources):
    per_tensor = [r for r in RECIPES if r.name in ("mean", "circle", "sum", "mergekit", "peft", "dare")]
    merge = Merge(per_tensor, sources)
    reads = []
    for model in merge._models.values():
        read = model.read
        model.read = lambda *where, read=read, name=model.name: (reads.append((name, where)), read(*where))[1]
    list(merge)
    assert len(reads) == len(set(reads))


# ---- element types -------------------------------------------------------------------------------------------


def test_bfloat16_outputs_are_the_rounded_float32_results(tmp_path):
    base = weights(0, dtype=torch.bfloat16)
    states = {"base": base} | {n: weights(i, base, 0.01, torch.bfloat16) for i, n in enumerate(ALL, 1)}
    sources = {name: save(tmp_path / name, state) for name, state in states.items()}
    recipes = [Recipe("mean", "linear", ALL), Recipe("sum", "task_arithmetic", ALL, "base", {"scale": 0.5})]
    for merged in state_dicts(recipes, sources, together=2):
        for name, tensor in merged.state_dict.items():
            assert tensor.dtype == torch.bfloat16
            inputs = [states[m][name].double() for m in ALL]
            start = states["base"][name].double()
            exact = sum(inputs) / 3 if merged.recipe.name == "mean" else start + 0.5 * sum(i - start for i in inputs)
            # Half a unit in the last of 8 bits, and float32's own error.
            spacing = torch.pow(2.0, torch.floor(torch.log2(exact.abs().clamp(min=1e-30))) - 7)
            assert ((tensor.double() - exact).abs() <= spacing / 2 + 1e-8).all()


def test_dtype_converts_all_floating_tensors_and_the_config(sources, everything, tmp_path):
    write_models(RECIPES[:1], sources, {"mean": tmp_path / "out"}, dtype=torch.bfloat16)
    stored = load_file(tmp_path / "out/model.safetensors")
    for name, tensor in stored.items():
        assert torch.equal(tensor, everything["mean"][name].to(torch.bfloat16))
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "bfloat16"


def test_output_types_follow_the_base_tensor_by_tensor(states, tmp_path):
    mixed = {n: t.to(torch.bfloat16) if "proj" in n else t for n, t in states["base"].items()}
    sources = {"base": save(tmp_path / "base", mixed), "a": save(tmp_path / "a", states["a"])}
    recipe = Recipe("m", "task_arithmetic", ("a",), "base")
    write_models([recipe], sources, {"m": tmp_path / "out"})
    stored = load_file(tmp_path / "out/model.safetensors")
    assert {n: t.dtype for n, t in stored.items()} == {n: t.dtype for n, t in mixed.items()}
    torch.testing.assert_close(stored, {n: states["a"][n].to(mixed[n].dtype) for n in stored}, atol=2e-9, rtol=2**-8)


def test_values_too_large_for_the_output_type_are_an_error(states, tmp_path):
    large = {n: t + 1e5 for n, t in states["a"].items()}
    sources = {"a": save(tmp_path / "a", large)}
    with pytest.raises(ValueError, match=r"'m'.*does not fit into float16"):
        list(Merge([Recipe("m", "linear", ("a",))], sources, dtype=torch.float16))


def test_tensors_of_whole_numbers_and_empty_ones_are_passed_on(states, tmp_path):
    extra = {"steps": torch.tensor(7), "mask": torch.tensor([True, False]), "none": torch.zeros(0, 3)}
    sources = {m: save(tmp_path / m, states[m] | extra) for m in ("base", "a", "b")}
    recipe = Recipe("m", "ties", ("a", "b"), "base")
    write_models([recipe], sources, {"m": tmp_path / "out"})
    stored = load_file(tmp_path / "out/model.safetensors")
    for name, tensor in extra.items():
        assert torch.equal(stored[name], tensor)
        assert stored[name].dtype == tensor.dtype
    sources["c"] = save(tmp_path / "c", states["c"] | extra | {"steps": torch.tensor(8)})
    with pytest.raises(ValueError, match=r"'steps' \(int64\) differs between model 'base' and model 'c'"):
        list(Merge([Recipe("m", "ties", ("a", "c"), "base")], sources))


# ---- tied embeddings -----------------------------------------------------------------------------------------


def test_tied_embeddings_stay_tied(states, tmp_path):
    """A model that stores the tied head as well merges with one that does not; the head is left out."""
    head = {"lm_head.weight": states["b"]["model.embed_tokens.weight"].clone()}
    sources = {"a": save(tmp_path / "a", states["a"]), "b": save(tmp_path / "b", states["b"] | head)}
    for models in (("a", "b"), ("b", "a")):
        (merged,) = state_dicts([Recipe("m", "linear", models)], sources)
        assert set(merged.state_dict) == set(states["a"])
    broken = save(tmp_path / "c", states["b"] | {"lm_head.weight": head["lm_head.weight"] + 1})
    with pytest.raises(ValueError, match=r"model 'b': config.json ties 'lm_head.weight'"):
        list(Merge([Recipe("m", "linear", ("a", "b"))], sources | {"b": broken}))


def test_untied_heads_are_merged(states, tmp_path):
    config = CONFIG | {"tie_word_embeddings": False}
    heads = {m: torch.full((40, 32), float(i)) for i, m in enumerate("ab")}
    sources = {m: save(tmp_path / m, states[m] | {"lm_head.weight": heads[m]}, config) for m in "ab"}
    (merged,) = state_dicts([Recipe("m", "linear", ("a", "b"))], sources)
    assert torch.equal(merged.state_dict["lm_head.weight"], torch.full((40, 32), 0.5))


# ---- what is refused -----------------------------------------------------------------------------------------


def opening(sources, models=("a", "b")):
    return Merge([Recipe("m", "linear", models)], sources)


def test_a_different_shape_names_tensor_models_and_shapes(states, sources, tmp_path):
    other = save(tmp_path / "b", states["b"] | {"model.norm.weight": torch.zeros(33)})
    message = r"'model.norm.weight' has shape \[32\] in model 'a' but \[33\] in model 'b'"
    with pytest.raises(ValueError, match=message):
        opening(sources | {"b": other})


@pytest.mark.parametrize("models", [("a", "b"), ("b", "a")])
def test_a_missing_tensor_is_named(states, sources, tmp_path, models):
    less = {n: t for n, t in states["b"].items() if n != "model.norm.weight"}
    with pytest.raises(ValueError, match=r"'model.norm.weight' is in model 'a' but not in model 'b'"):
        opening(sources | {"b": save(tmp_path / "b", less)}, models)


def test_a_different_vocabulary_is_refused(states, sources, tmp_path):
    vocabulary = {f"t{i}": i for i in range(40)} | {"t3": 4, "t4": 3}
    other = save(tmp_path / "b", states["b"], tokenizer={"model": {"vocab": vocabulary}})
    with pytest.raises(ValueError, match=r"2 tokens differ between model 'a' and model 'b', e.g. 't3' has id 3 in"):
        opening(sources | {"b": other})
    added = TOKENIZER | {"added_tokens": [{"id": 40, "content": "<new>"}]}
    with pytest.raises(ValueError, match=r"'<new>' has id None"):
        opening(sources | {"b": save(tmp_path / "b2", states["b"], tokenizer=added)})


def test_a_different_architecture_with_equal_shapes_is_refused(states, sources, tmp_path):
    other = save(tmp_path / "b", states["b"], CONFIG | {"num_attention_heads": 8})
    with pytest.raises(ValueError, match=r"num_attention_heads is 4 in model 'a' but 8 in model 'b'"):
        opening(sources | {"b": other})


@pytest.mark.parametrize("cut", [-1, -5000, 100, 4, 0])
def test_truncated_files_are_refused_from_their_header(states, sources, tmp_path, cut):
    folder = save(tmp_path / "b", states["b"])
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"model\.safetensors: .*truncated"):
        opening(sources | {"b": folder})


def test_headers_that_lie_about_offsets_are_refused(states, sources, tmp_path):
    folder = save(tmp_path / "b", states["b"])
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"shape":[32,32]', b'"shape":[32,31]', 1))
    with pytest.raises(ValueError, match=r"do not fit its shape \[32, 31\]"):
        opening(sources | {"b": folder})


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.pt"])
def test_pickles_are_refused_with_advice(sources, tmp_path, file):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / file).write_bytes(b"\x80\x04.")
    with pytest.raises(ValueError, match=r"model 'b'.*pickled weights.*convert them to safetensors"):
        opening(sources | {"b": tmp_path / "b"})


def test_missing_folders_shards_and_adapters_are_named(states, sources, tmp_path):
    with pytest.raises(FileNotFoundError, match="model 'b': no folder"):
        opening(sources | {"b": tmp_path / "none"})
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora/adapter_model.safetensors").touch()
    with pytest.raises(ValueError, match="LoRA adapter; merge it into its base"):
        opening(sources | {"b": tmp_path / "lora"})
    folder = save(tmp_path / "b", states["b"], shards=2)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"missing files: \['model-00002-of-00002"):
        opening(sources | {"b": folder})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("method", ["linear", "ties"])
def test_values_that_are_not_finite_name_model_and_tensor(states, sources, tmp_path, value, method):
    bad = {n: t.clone() for n, t in states["b"].items()}
    bad["model.norm.weight"][5] = value
    merge = Merge([Recipe("m", method, ("a", "b"), "base")], sources | {"b": save(tmp_path / "b", bad)})
    with pytest.raises(ValueError, match=r"model 'b': tensor 'model.norm.weight' contains NaN or infinite"):
        list(merge)


def test_large_finite_values_whose_sum_overflows_are_accepted(tmp_path):
    state = {"w": torch.full((100,), 3e38)}
    sources = {m: save(tmp_path / m, state) for m in "ab"}
    (merged,) = state_dicts([Recipe("m", "linear", ("a",))], sources)
    assert torch.equal(merged.state_dict["w"], state["w"])


@pytest.mark.parametrize(
    ("recipes", "message"),
    [
        ([("m", "linear", ("a", "d"))], "recipe 'm': no source or recipe 'd'; known: a, b, base, c, m"),
        ([("m", "linear", ("n",)), ("n", "linear", ("m",))], "in a circle"),
        ([("m", "linear", ("a",)), ("m", "linear", ("b",))], r"names used twice.*\['m'\]"),
        ([("a", "linear", ("b",))], r"names used twice.*\['a'\]"),
        ([], "no recipe"),
    ],
)
def test_recipes_that_make_no_sense_together(sources, recipes, message):
    with pytest.raises(ValueError, match=message):
        Merge([Recipe(*recipe) for recipe in recipes], sources)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("m", "ties", ("a", "b")), "'m': ties needs a base"),
        (("m", "ties", ("a", "base"), "base"), "'base' is also among the models"),
        (("m", "linear", ("a", "a")), r"\['a'\] named twice"),
        (("m", "ties", ("a",), "base", {"densty": 1}), "recipe 'm': ties: unknown parameter 'densty'; did you mean"),
    ],
)
def test_recipes_that_make_no_sense_alone(arguments, message):
    with pytest.raises(ValueError, match=message):
        Recipe(*arguments)


def test_recipes_survive_json():
    for recipe in RECIPES:
        assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    with pytest.raises(ValueError, match=r"missing keys \['models'\], unknown keys \['model'\]"):
        Recipe.from_json({"name": "m", "method": "linear", "model": ["a"]})


# ---- layer patches -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """Models of 12 layers, so that there is a layer 1 and a layer 10 and 11."""
    root = tmp_path_factory.mktemp("deep")
    states = {m: weights(i, layers=12) for i, m in enumerate(("onto", "donor"))}
    return states, {m: save(root / m, state) for m, state in states.items()}


def patched(deep, **parameters):
    """The layers that came from the donor, and the statistics; everything else must be the other model's."""
    states, sources = deep
    (merged,) = state_dicts([Recipe("m", "layer_patch", ("onto", "donor"), None, parameters)], sources)
    came = set()
    for name, tensor in merged.state_dict.items():
        if torch.equal(tensor, states["donor"][name]):
            came.add(int(name.split(".")[2]))
        else:
            assert torch.equal(tensor, states["onto"][name])
    return came, merged.statistics


def test_layer_patches_take_exactly_the_named_layers(deep):
    assert patched(deep, layers=[1])[0] == {1}
    assert patched(deep, layers=[0, -1, 10])[0] == {0, 10, 11}
    came, statistics = patched(deep, last=5)
    assert came == {7, 8, 9, 10, 11}
    assert statistics["layers"] == [7, 8, 9, 10, 11]


def test_random_layers_exclude_the_last_and_are_reproducible_and_nested(deep):
    five = patched(deep, random=5, exclude_last=5, seed=42)[0]
    assert len(five) == 5
    assert max(five) < 7
    assert patched(deep, random=3, exclude_last=5, seed=42)[0] < five
    draws = {frozenset(patched(deep, random=5, exclude_last=5, seed=seed)[0]) for seed in range(4)}
    assert len(draws) > 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"layers": [12]}, r"\[12\] not in a model of 12 layers"),
        ({"last": 13}, "13 of only 12"),
        ({"random": 8, "exclude_last": 5}, "only 7 are left"),
    ],
)
def test_layers_that_do_not_exist_are_refused_before_anything_is_read(deep, parameters, message):
    with pytest.raises(ValueError, match=message):
        Merge([Recipe("m", "layer_patch", ("onto", "donor"), None, parameters)], deep[1])


def test_an_encoder_decoder_is_not_patched(tmp_path):
    state = {f"{part}.layers.0.w": torch.zeros(2) for part in ("encoder", "decoder")}
    sources = {m: save(tmp_path / m, state) for m in "ab"}
    with pytest.raises(ValueError, match=r"one stack of transformer layers; found: decoder\.layers, encoder\.layers"):
        Merge([Recipe("m", "layer_patch", ("a", "b"), None, {"last": 1})], sources)


# ---- statistics ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [100, 10**6])
def test_statistics_follow_their_definitions(sources, states, block):
    recipe = Recipe("m", "task_arithmetic", ALL, "base")
    (merged,) = state_dicts([recipe], sources, block=block, dtype=torch.bfloat16)
    base = flat(states["base"])
    deltas = torch.stack([(flat(states[m]).float() - base.float()).double() for m in ALL])
    total = merged.statistics["total"]
    norms = deltas.norm(dim=1)
    assert list(total["delta_norms"].values()) == pytest.approx(norms.tolist(), rel=1e-6)
    cosines = (deltas @ deltas.T / norms[:, None] / norms).flatten().tolist()
    assert [c for row in total["cosines"] for c in row] == pytest.approx(cosines, abs=1e-6)
    conflict = ((deltas > 0).any(0) & (deltas < 0).any(0)).double().sum() / (deltas != 0).any(0).double().sum()
    assert total["sign_conflict_rate"] == pytest.approx(float(conflict), rel=1e-6)
    exact = base + deltas.sum(0)
    rounded = flat(merged.state_dict)
    change = exact - base
    assert total["change_norm"] == pytest.approx(float(change.norm()), rel=1e-5)
    assert total["rounding_loss"] == pytest.approx(float((rounded - exact).abs().sum() / change.abs().sum()), rel=1e-4)
    assert set(merged.statistics["tensors"]) == set(states["base"])
    one = merged.statistics["tensors"]["model.norm.weight"]
    delta = (states["a"]["model.norm.weight"] - states["base"]["model.norm.weight"]).double()
    assert one["delta_norms"]["a"] == pytest.approx(float(delta.norm()), rel=1e-6)
    json.dumps(merged.statistics, allow_nan=False)


def test_vanished_and_unchanged_are_counted(tmp_path):
    """bfloat16 near 1 has steps of 1/128: a change of 1/1024 vanishes, one of 1/64 stays."""
    base = {"w": torch.ones(4), "v": torch.ones(4), "u": torch.ones(2)}
    model = {
        "w": 1 + torch.tensor([1 / 1024, 1 / 1024, 1 / 64, 0]),
        "v": torch.full((4,), 1 + 1 / 1024),
        "u": torch.ones(2),
    }
    sources = {m: save(tmp_path / m, state) for m, state in (("base", base), ("a", model))}
    recipe = Recipe("m", "task_arithmetic", ("a",), "base")
    (merged,) = state_dicts([recipe], sources, dtype=torch.bfloat16)
    statistics = merged.statistics
    assert statistics["tensors"]["w"]["vanished"] == pytest.approx(2 / 3)
    assert statistics["tensors"]["w"]["rounding_loss"] == pytest.approx((2 / 1024) / (2 / 1024 + 1 / 64))
    assert statistics["tensors"]["u"]["rounding_loss"] == 0
    assert statistics["total"]["unchanged_tensors"] == ["u", "v"]
    assert statistics["tensors"]["u"]["cosines"] == [[None]]


def test_statistics_can_be_left_out(sources):
    (merged,) = state_dicts(RECIPES[:1], sources, statistics=False)
    assert set(merged.statistics) == {"recipe", "reference"}
