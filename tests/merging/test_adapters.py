"""A base with a LoRA adapter as a source: against s B A in float64, and against the merged models written out."""

import json
import math

import pytest
import torch
from lora_models import DOWN, SHAPES, Q, factors, products, save_adapter
from merge_models import CONFIG, HIDDEN, VOCABULARY, save, weights

from langmerge.merging import Recipe, state_dicts
from langmerge.merging.adapters import AdapterView
from langmerge.merging.elements import BFLOAT16, FLOAT32
from langmerge.merging.reader import ModelFolder

EMBED = "model.embed_tokens.weight"


@pytest.fixture
def base(sources):
    with_files = ModelFolder("base", sources["base"])
    yield with_files
    with_files.close()


def expected(state, changes):
    """base + change in float64 for the modules of `changes`."""
    return {name: value.double() + changes.get(name.removesuffix(".weight"), 0) for name, value in state.items()}


def assert_view(view, state, changes, tolerance=1e-7):
    assert list(view.tensors) == list(view._base.tensors)
    for name, exact in expected(state, changes).items():
        values = view.whole(name)
        assert values.dtype == view.tensors[name].dtype.of_torch and values.shape == view.tensors[name].shape
        torch.testing.assert_close(values.double(), exact, atol=tolerance, rtol=0, msg=name)


def test_values_are_base_plus_scaled_product(base, states, tmp_path):
    modules = factors(1)
    view = AdapterView(base, save_adapter(tmp_path / "a", modules))
    assert_view(view, states["base"], products(modules, 8 / 4))
    assert view.name == "a" and view.folder == base.folder


def test_values_are_rounded_once(base, states, tmp_path):
    modules = factors(1)
    view = AdapterView(base, save_adapter(tmp_path / "a", modules))
    for name, exact in expected(states["base"], products(modules, 2.0)).items():
        assert torch.equal(view.whole(name), exact.to(torch.float32)), name


@pytest.mark.parametrize("start, count", [(0, 0), (0, 1), (5, 3), (31, 2), (30, 70), (0, 32 * 48), (32 * 48 - 1, 1)])
def test_any_range_is_that_of_the_whole(base, tmp_path, start, count):
    view = AdapterView(base, save_adapter(tmp_path / "a", factors(1)))
    name = DOWN.format(1) + ".weight"
    assert torch.equal(view.read(name, start, count), view.whole(name).flatten()[start : start + count])


def test_rank_stabilised_scaling_and_patterns(base, states, tmp_path):
    modules = factors(1, rank=4) | {DOWN.format(1): factors(2, rank=2)[DOWN.format(1)]}
    folder = save_adapter(
        tmp_path / "a", modules, use_rslora=True, alpha_pattern={"layers.0.self_attn.q_proj": 3, "q_proj": 5}
    )
    alphas = {Q.format(0): 3, Q.format(1): 5, DOWN.format(0): 8, DOWN.format(1): 8}
    changes = {m: alphas[m] / math.sqrt(len(pair[0])) * products({m: pair}, 1.0)[m] for m, pair in modules.items()}
    assert_view(AdapterView(base, folder), states["base"], changes)


def test_pattern_keys_end_a_name_at_a_dot(base, states, tmp_path):
    modules = {Q.format(0): factors(1)[Q.format(0)]}
    folder = save_adapter(tmp_path / "a", modules, alpha_pattern={"_proj": 100, "k_proj": 100, "self_attn": 100})
    assert_view(AdapterView(base, folder), states["base"], products(modules, 2.0))


def test_fan_in_fan_out_transposes(base, states, tmp_path):
    square = {Q.format(0): factors(1)[Q.format(0)]}
    stored_in_out = factors(2, shapes={DOWN.format(0): (48, 32)})  # the weight (32, 48) is then (in, out)
    folder = save_adapter(tmp_path / "a", square | stored_in_out, fan_in_fan_out=True)
    changes = {module: delta.T for module, delta in products(square | stored_in_out, 2.0).items()}
    assert_view(AdapterView(base, folder), states["base"], changes)


def test_shape_decides_over_fan_in_fan_out(base, states, tmp_path):
    modules = {DOWN.format(0): factors(1)[DOWN.format(0)]}
    assert_view(
        AdapterView(base, save_adapter(tmp_path / "a", modules, fan_in_fan_out=True)),
        states["base"],
        products(modules, 2.0),
    )


def embedding(seed, rank=3):
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(shape, generator=generator) for shape in ((rank, VOCABULARY), (HIDDEN, rank)))
    name = "model.embed_tokens"
    return (a, b), {f"{name}.lora_embedding_A": a, f"{name}.lora_embedding_B": b}


def untied(tmp_path, states):
    return ModelFolder("base", save(tmp_path / "untied", states["base"], {**CONFIG, "tie_word_embeddings": False}))


def test_embeddings(states, tmp_path):
    (a, b), extra = embedding(3)
    view = AdapterView(untied(tmp_path, states), save_adapter(tmp_path / "a", {}, extra, r=3))
    assert_view(view, states["base"], {"model.embed_tokens": 8 / 3 * (b.double() @ a.double()).T}, 1e-6)


def test_change_of_tied_embeddings_is_pointed_out(base, states, tmp_path):
    _, extra = embedding(3)
    with pytest.warns(UserWarning, match="ties the output embedding"):
        AdapterView(base, save_adapter(tmp_path / "a", {}, extra, r=3))


def test_copy_of_the_embeddings_must_be_those_of_the_base(states, tmp_path):
    _, extra = embedding(3)
    key = "model.embed_tokens.base_layer.weight"
    same = extra | {key: states["base"][EMBED].to(torch.bfloat16)}
    view = AdapterView(untied(tmp_path, states), save_adapter(tmp_path / "same", {}, same, r=3))
    assert view.whole(EMBED).shape == (VOCABULARY, HIDDEN)
    other = extra | {key: states["a"][EMBED]}
    view = AdapterView(view._base, save_adapter(tmp_path / "other", {}, other, r=3))
    with pytest.raises(ValueError, match="another copy of 'model"):
        view.whole(EMBED)
    assert AdapterView(view._base, tmp_path / "other", any_base=True).whole(EMBED).isfinite().all()


def test_replaced_tensors_and_biases(states, tmp_path):
    bias = {Q.format(i) + ".bias": torch.full((HIDDEN,), float(i)) for i in (0, 1)}
    state = states["base"] | bias
    base = ModelFolder("base", save(tmp_path / "base", state))
    modules = factors(1)
    new_norm, new_bias, added = torch.randn(HIDDEN), torch.randn(HIDDEN), torch.randn(HIDDEN)
    extra = {
        "model.norm.weight": new_norm.to(torch.bfloat16),
        Q.format(0) + ".base_layer.bias": new_bias,
        Q.format(1) + ".lora_B.bias": added,
    }
    view = AdapterView(base, save_adapter(tmp_path / "a", modules, extra, bias="lora_only"))
    changes = products(modules, 2.0)
    changed = state | {"model.norm.weight": new_norm.to(torch.bfloat16), Q.format(0) + ".bias": new_bias}
    assert_view(view, changed, changes | {Q.format(1) + ".bias": 2.0 * added.double()}, 1e-6)
    assert view.tensors["model.norm.weight"].dtype == BFLOAT16


def test_checkpoint_without_the_first_part_of_names(states, tmp_path):
    short = {name.removeprefix("model."): value for name, value in states["base"].items()}
    modules = factors(1)
    view = AdapterView(ModelFolder("base", save(tmp_path / "base", short)), save_adapter(tmp_path / "a", modules))
    assert_view(view, short, {m.removeprefix("model."): delta for m, delta in products(modules, 2.0).items()})


def test_adapted_tensors_are_float32_and_outputs_take_the_type_of_the_base(states, tmp_path):
    state = {name: value.to(torch.bfloat16) for name, value in states["base"].items()}
    folder = save(tmp_path / "base", state)
    base = ModelFolder("base", folder)
    modules = factors(1, spread=0.001)
    view = AdapterView(base, save_adapter(tmp_path / "a", modules))
    assert_view(view, state, products(modules, 2.0))
    name = Q.format(0) + ".weight"
    assert view.tensors[name].dtype == FLOAT32 and view.tensors[EMBED].dtype == BFLOAT16
    assert not torch.equal(view.whole(name), view.whole(name).to(torch.bfloat16).float())
    recipe = Recipe("merged", "task_arithmetic", ("a",), "base", {"scale": 1.0})
    (merged,) = state_dicts([recipe], {"base": folder, "a": view})
    assert {value.dtype for value in merged.state_dict.values()} == {torch.bfloat16}
    exact = expected(state, products(modules, 2.0))[name]
    assert torch.equal(merged.state_dict[name], exact.to(torch.float32).to(torch.bfloat16))


@pytest.mark.parametrize(
    "method, parameters",
    [
        ("linear", {"weights": [1.0, 2.0]}),
        ("task_arithmetic", {"scale": 0.7}),
        ("ties", {"density": 0.1, "convention": "paper"}),
        ("ties", {"density": 0.3, "convention": "mergekit"}),
        ("dare_ties", {"density": 0.5, "seed": 3}),
        ("slerp", {"t": 0.3}),
    ],
)
@pytest.mark.parametrize("block", [100, 1 << 20])
def test_every_method_merges_views_as_it_merges_models(base, sources, tmp_path, method, parameters, block):
    views = {
        "a": AdapterView(base, save_adapter(tmp_path / "a", factors(1))),
        "b": AdapterView(base, save_adapter(tmp_path / "b", factors(2, rank=7), use_rslora=True)),
    }
    models = {
        name: save(tmp_path / f"{name}-model", {tensor: view.whole(tensor) for tensor in view.tensors})
        for name, view in views.items()
    }
    recipe = Recipe("merged", method, ("a", "b"), "base", parameters)
    (of_views,) = state_dicts([recipe], {"base": sources["base"], **views}, block=block)
    (of_models,) = state_dicts([recipe], {"base": sources["base"], **models}, block=block)
    for name, values in of_models.state_dict.items():
        assert torch.equal(of_views.state_dict[name], values), name
    assert of_views.statistics["total"] == of_models.statistics["total"]


def test_tokenizer_of_the_adapter_is_compared(base, sources, tmp_path):
    folder = save_adapter(tmp_path / "a", factors(1))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"other": 0}}, "added_tokens": []}))
    recipe = Recipe("merged", "task_arithmetic", ("a",), "base")
    with pytest.raises(ValueError, match=r"tokenizer\.json: .* tokens differ"):
        list(state_dicts([recipe], {"base": sources["base"], "a": AdapterView(base, folder)}))


# ---- refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config, message",
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; only LORA"),
        ({"peft_type": None}, "only LORA"),
        ({"use_dora": True}, "use_dora is True, but DoRA"),
        ({"target_parameters": ["experts.w"]}, "target_parameters"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa', which changes the base"),
        ({"init_lora_weights": "pissa_niter_16"}, "changes the base"),
        ({"init_lora_weights": "olora"}, "changes the base"),
        ({"r": 5}, "rank 4 in adapter_model.safetensors but 5 in adapter_config.json"),
        ({"lora_alpha": "8"}, "lora_alpha is '8'"),
        ({"lora_alpha": None}, "lora_alpha is None"),
    ],
)
def test_configurations_that_are_no_plain_lora(base, tmp_path, config, message):
    with pytest.raises(ValueError, match=message):
        AdapterView(base, save_adapter(tmp_path / "a", factors(1), **config))


@pytest.mark.parametrize(
    "extra, message",
    [
        ({Q.format(0) + ".lora_magnitude_vector": torch.ones(32)}, "DoRA"),
        ({Q.format(0) + ".lora_E": torch.ones(32)}, "no part of a plain LoRA"),
        ({"model.embed_tokens.token_adapter.trainable_tokens_delta": torch.ones(2, 32)}, "no part of a plain LoRA"),
        ({"score.weight": torch.ones(2, 32)}, "fits nothing: the base has no tensor 'score.weight'"),
        ({"model.norm.weight": torch.ones(31)}, r"has shape \[31\] but 'model.norm.weight' has \[32\]"),
        ({Q.format(0) + ".weight": torch.ones(32, 32)}, "both replaced and adapted"),
        ({"lm_head.lora_A.weight": torch.ones(4, 32), "lm_head.lora_B.weight": torch.ones(40, 4)}, "ties the output"),
        ({"other.lora_A.weight": torch.ones(4, 32), "other.lora_B.weight": torch.ones(40, 4)}, "'other' fits nothing"),
        ({"other.lora_A.weight": torch.ones(4, 32)}, "has A only; expected both"),
        ({"other.lora_A.weight": torch.ones(4, 32), "other.lora_B.weight": torch.ones(40, 5)}, "no factors"),
        ({"o.lora_A.weight": torch.ones(4, 3, 1, 1), "o.lora_B.weight": torch.ones(8, 4, 1, 1)}, "a convolution"),
        ({"o.lora_A.weight": torch.ones(0), "o.lora_B.weight": torch.ones(0)}, "shards were perhaps not gathered"),
    ],
)
def test_tensors_that_do_not_fit(base, tmp_path, extra, message):
    with pytest.raises(ValueError, match=message):
        AdapterView(base, save_adapter(tmp_path / "a", factors(1), extra))


def test_base_of_another_shape(base, tmp_path):
    wider = factors(1, shapes={module: (rows, columns + 1) for module, (rows, columns) in SHAPES.items()})
    with pytest.raises(ValueError, match=r"has shape \[32, 48\]; the adapter belongs to another model \(acme/base\)"):
        AdapterView(base, save_adapter(tmp_path / "a", wider))


def test_base_of_another_name_in_the_cache_of_the_hub(states, tmp_path):
    adapter = save_adapter(tmp_path / "a", factors(1))
    cached = tmp_path / "hub/models--{}/snapshots/0f"
    other = ModelFolder("base", save(tmp_path / str(cached).format("acme--other"), states["base"]))
    with pytest.raises(ValueError, match="was trained on 'acme/base', but the base is 'acme/other'"):
        AdapterView(other, adapter)
    assert AdapterView(other, adapter, any_base=True).tensors
    right = ModelFolder("base", save(tmp_path / str(cached).format("acme--base"), states["base"]))
    assert AdapterView(right, adapter).tensors


def test_missing_and_pickled_files(base, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        AdapterView(base, tmp_path / "none")
    folder = save_adapter(tmp_path / "a", factors(1))
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ValueError, match=r"only the pickle adapter_model\.bin"):
        AdapterView(base, folder)
    (folder / "adapter_model.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"no adapter_model\.safetensors"):
        AdapterView(base, folder)
    (folder / "adapter_config.json").write_text("{")
    (folder / "adapter_model.safetensors").touch()
    with pytest.raises(ValueError, match="not valid JSON"):
        AdapterView(base, folder)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(FileNotFoundError, match="expected an adapter saved by peft"):
        AdapterView(base, folder)


def test_values_that_are_not_finite(base, tmp_path):
    modules = factors(1)
    modules[Q.format(0)][0][1, 2] = math.nan
    view = AdapterView(base, save_adapter(tmp_path / "a", modules))
    with pytest.raises(ValueError, match=r"q_proj\.lora_A\.weight' contains NaN"):
        view.whole(Q.format(0) + ".weight")


def test_no_factors_at_all(base, tmp_path):
    with pytest.raises(ValueError, match="holds no LoRA factors"):
        AdapterView(base, save_adapter(tmp_path / "a", {}, {"model.norm.weight": torch.ones(32)}))


def test_other_weights_of_the_same_shapes_give_other_values(base, tmp_path):
    """The view reads its base, not a copy of another."""
    adapter = save_adapter(tmp_path / "a", factors(1))
    other_state = weights(9)
    other = ModelFolder("other", save(tmp_path / "other", other_state))
    name = Q.format(0) + ".weight"
    difference = AdapterView(other, adapter).whole(name) - AdapterView(base, adapter).whole(name)
    torch.testing.assert_close(difference, other_state[name] - base.whole(name), atol=1e-6, rtol=0)
