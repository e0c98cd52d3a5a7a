"""Layer swapping, passthrough and the names of layers, run by the engine."""

import subprocess
import sys

import pytest
import torch
from merge_models import CONFIG, save, weights

from langmerge.catalogue import check
from langmerge.merging import Recipe, state_dicts
from langmerge.merging.engine import Merge
from langmerge.merging.methods.layers import layer_index, swapped_layers

LAYERS = 12


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A language and a task expert of 12 untied layers, so that there is a layer 1 and a layer 10 and 11."""
    root = tmp_path_factory.mktemp("deep")
    states = {}
    for number, name in enumerate(("language", "task")):
        states[name] = weights(number, layers=LAYERS)
        states[name]["lm_head.weight"] = states[name]["model.embed_tokens.weight"] + 1
    config = CONFIG | {"num_hidden_layers": LAYERS, "tie_word_embeddings": False}
    return states, {name: save(root / name, state, config) for name, state in states.items()}


def run(sources, method, models, **parameters):
    (merged,) = state_dicts([Recipe("m", method, models, None, parameters)], sources, block=500)
    return merged


def expected(states, shares, embeddings=1.0, head=1.0):
    """s language + (1 - s) task, tensor by tensor."""
    result = {}
    for name, value in states["language"].items():
        parts = name.split(".")
        share = shares[int(parts[2])] if parts[1] == "layers" else embeddings if "embed" in name else head
        result[name] = share * value.double() + (1 - share) * states["task"][name].double()
    return result


def close(one, other):
    assert set(one) == set(other)
    for name in one:
        torch.testing.assert_close(one[name].double(), other[name].double(), atol=2e-7, rtol=0, msg=name)


@pytest.mark.parametrize(
    ("parameters", "shares"),
    [
        ({"bottom": 1, "top": 1}, [1, 0.5] + [0] * 8 + [0.5, 1]),
        ({"bottom": 2, "top": 3, "bottom_transition": 0, "top_transition": 2}, [1] * 2 + [0] * 5 + [0.5] * 2 + [1] * 3),
        ({"bottom": 0, "top": 0, "bottom_transition": 0, "top_transition": 0}, [0] * 12),
        ({"bottom": 12}, [1] * 12),
        ({"bottom": 5, "top": 5, "weight": 0.25}, [1] * 5 + [0.25] * 2 + [1] * 5),
        ({"layers": [1, -1]}, [0, 1] + [0] * 9 + [1]),
        ({"layers": [10], "transition_layers": [1, -1], "weight": 0.75}, [0, 0.75] + [0] * 8 + [1, 0.75]),
        ({"layers": []}, [0] * 12),
    ],
)
def test_layer_swap_takes_the_zones_of_each_expert(deep, parameters, shares):
    states, sources = deep
    merged = run(sources, "layer_swap", ("language", "task"), **parameters)
    close(merged.state_dict, expected(states, shares))
    assert merged.statistics["language_share"] == shares


@pytest.mark.parametrize(("choice", "share"), [("language", 1), ("task", 0), ("mean", 0.3)])
def test_embeddings_and_head_are_chosen_apart(deep, choice, share):
    states, sources = deep
    zones = {"layers": [0], "weight": 0.3}
    merged = run(sources, "layer_swap", ("language", "task"), embeddings=choice, head="task", **zones)
    close(merged.state_dict, expected(states, [1] + [0] * 11, embeddings=share, head=0))
    merged = run(sources, "layer_swap", ("language", "task"), embeddings="task", head=choice, **zones)
    close(merged.state_dict, expected(states, [1] + [0] * 11, embeddings=0, head=share))


def shares(n_layers, **parameters):
    return swapped_layers(check("layer_swap", parameters, 2), n_layers)


def test_the_papers_zones_are_the_default_of_a_model_of_32_layers():
    assert shares(32) == [1] * 5 + [0.5] + [0] * 23 + [0.5] + [1] * 2


@pytest.mark.parametrize(
    ("n_layers", "zones"),
    [
        (1, [1]),
        (2, [1, 1]),
        (3, [1, 0.5, 1]),
        (4, [1, 0.5, 0.5, 1]),
        (6, [1, 0.5, 0, 0, 0.5, 1]),
        (64, [1] * 10 + [0.5] + [0] * 48 + [0.5] + [1] * 4),
    ],
)
def test_other_models_take_the_papers_zones_in_proportion_as_far_as_they_fit(n_layers, zones):
    assert shares(n_layers) == zones


def test_given_zones_go_before_those_that_were_not():
    assert shares(4, bottom_transition=3) == [1, 0.5, 0.5, 0.5]
    assert shares(5, top=4) == [1] * 5
    assert shares(5, top=3, bottom=0) == [0.5, 0.5, 1, 1, 1]


@pytest.mark.parametrize("n_layers", [1, 7, 32])
def test_swapping_the_experts_swaps_the_shares(n_layers):
    middle = [i for i, share in enumerate(shares(n_layers)) if share == 0]
    mixed = [i for i, share in enumerate(shares(n_layers)) if share == 0.5]
    turned = shares(n_layers, layers=middle, transition_layers=mixed)
    assert [a + b for a, b in zip(turned, shares(n_layers), strict=True)] == [1] * n_layers


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"bottom": 10, "top": 3}, "bottom 10, top 3, but only 12 layers"),
        ({"layers": [12]}, r"layer_swap\.layers: \[12\] not in a model of 12 layers"),
        ({"layers": [0], "transition_layers": [-13]}, r"transition_layers: \[-13\] not in a model"),
        ({"layers": [11], "transition_layers": [-1]}, r"layers \[11\] stand in layers and in transition_layers"),
        ({"layers": [1], "top": 2}, "top counts them"),
        ({"transition_layers": [1]}, "goes with layers"),
        ({"bottom": -1}, ">= 0"),
        ({"embeddings": "base"}, "one of language, task, mean"),
        ({"weight": 1.5}, "<= 1"),
    ],
)
def test_zones_that_do_not_fit_are_refused_before_anything_is_read(deep, parameters, message):
    with pytest.raises(ValueError, match=message):
        Merge([Recipe("m", "layer_swap", ("language", "task"), None, parameters)], deep[1])


@pytest.mark.parametrize("scale", [1.0, -0.5, 0.0])
def test_passthrough_scales_a_copy(sources, states, scale):
    merged = run(sources, "passthrough", ("a",), scale=scale).state_dict
    for name, value in states["a"].items():
        assert torch.equal(merged[name], value * scale)


def test_passthrough_needs_one_model_and_no_base(sources):
    with pytest.raises(ValueError, match="needs exactly 1 model"):
        Recipe("m", "passthrough", ("a", "b"))


def test_a_rule_can_pass_a_part_of_the_base_through(sources, states):
    rule = {"part": "mlp", "method": "passthrough", "models": ["base"]}
    (merged,) = state_dicts([Recipe("m", "linear", ("a", "b"), "base", rules=(rule,))], sources)
    for name, value in merged.state_dict.items():
        assert torch.equal(value, states["base"][name]) == ("mlp" in name)


def test_results_are_new_tensors_that_recipes_do_not_share(sources):
    recipes = [Recipe("p", "passthrough", ("a",)), Recipe("q", "layer_patch", ("p", "b"), None, {"last": 1})]
    p, q = (merged.state_dict for merged in state_dicts(recipes, sources))
    before = p["model.norm.weight"].clone()
    q["model.norm.weight"].add_(1)
    assert torch.equal(p["model.norm.weight"], before)


def test_layers_are_numbers_not_substrings():
    assert [layer_index(f"model.layers.{i}.w1.weight") for i in (1, 10, 11)] == [1, 10, 11]
    assert layer_index("model.norm1.weight") is None


def test_naming_layers_imports_no_transformers():
    code = "import langmerge.merging.methods.layers, sys; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
