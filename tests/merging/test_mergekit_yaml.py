"""mergekit's files: parameters resolved by hand, layers stacked by hand, and back into mergekit's format."""

import json
import re

import pytest
import torch
from merge_models import CONFIG, save, weights
from safetensors.torch import load_file

from langmerge.merging import state_dicts
from langmerge.merging.documents import mergekit, ours
from langmerge.merging.documents.from_mergekit import translate
from langmerge.merging.documents.job import Model, Run, Stack
from langmerge.merging.documents.library import Library
from langmerge.merging.documents.mergekit_methods import MERGEKIT
from langmerge.merging.documents.rules import selectors
from langmerge.merging.documents.settings import describe, evaluate
from langmerge.merging.documents.to_mergekit import to_mergekit
from langmerge.merging.documents.yaml_text import dump, load
from langmerge.merging.recipe import Rule

LAYERS = 4
EMBEDDINGS, NORM = "model.embed_tokens.weight", "model.norm.weight"


def up(layer):
    return f"model.layers.{layer}.mlp.up_proj.weight"


def q(layer):
    return f"model.layers.{layer}.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """Folder with the models base, a, b, c of four layers, and their weights."""
    folder = tmp_path_factory.mktemp("deep")
    base = weights(0, layers=LAYERS)
    states = {"base": base, **{name: weights(i, base, 0.01, layers=LAYERS) for i, name in enumerate("abc", 1)}}
    for name, state in states.items():
        save(folder / name, state, {**CONFIG, "num_hidden_layers": LAYERS})
    return folder, states


def translated(folder, text):
    document = mergekit.read(load(text))
    return translate(document, Library(document.models, folder).source, "m", folder)


def merged(job, folder):
    library = Library(job.models, folder)
    sources = {name: library.source(name) for name in job.recipes[0].inputs}
    (result,) = state_dicts(job.recipes, sources)
    return result.state_dict


def parameters(job, tensor):
    """The complete parameters that hold for one tensor."""
    names = list(weights(0, layers=LAYERS))
    return next(region.parameters for region, found in job.recipes[0].regions(names) if tensor in found)


# ---- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "depth", "expected"),
    [
        (0.3, 0.7, 0.3),
        ("5e-1", 0.7, 0.5),
        ([0, 1], 0.0, 0.0),
        ([0, 1], 1.0, 1.0),
        ([0, 1], 0.25, 0.25),
        ([0, 1, 0], 0.25, 0.5),
        ([0, 1, 0], 0.75, 0.5),
        ([0.2], 0.9, 0.2),
        ([{"filter": "mlp", "value": 1}, {"value": 2}], 0.0, 1.0),
        ([{"filter": "attn", "value": 1}, {"value": [2, 4]}], 0.5, 3.0),
        ([{"filter": "attn", "value": 1}], 0.5, None),
        ([{"filter": "*", "value": 5}, {"filter": "mlp", "value": 1}], 0.0, 5.0),
        ({"filter": "layers.1", "value": 7}, 0.0, 7.0),  # a substring: layers.1 is also in layers.12
    ],
)
def test_settings_are_resolved_as_mergekit_does(setting, depth, expected):
    assert evaluate("x", setting, "number", "model.layers.12.mlp.up_proj.weight", depth) == expected


def test_gradients_of_booleans_are_steps():
    found = [evaluate("x", [True, False, True], "boolean", "t", depth) for depth in (0, 0.49, 0.5, 0.99, 1)]
    assert found == [True, True, False, False, True]


@pytest.mark.parametrize(
    "values",
    [
        {up(0): 1, up(1): 1, q(0): 1},
        {up(0): 1, up(1): 1, q(0): 2, q(1): 2, NORM: 3},
        {up(1): 1, up(10): 2, up(11): 3, q(1): 1, q(10): 2, q(11): 3},
        {"norm.weight": 1, "x.norm.weight": 2, "x.y": 2},
        {"b.w": 1, "a.b.w": 2, "c.b.w": 3, "d.w": 1, "e.b.w2": 1, "e.b.w": 1},
    ],
)
def test_described_settings_give_every_tensor_its_value(values):
    setting = describe(values)
    assert {name: evaluate("x", setting, "integer", name, 0) for name in values} == values


def test_selectors_fit_exactly_the_tensors_that_they_are_made_of():
    everything = [EMBEDDINGS, NORM, *(name(layer) for layer in range(12) for name in (q, up))]
    for chosen in (
        {EMBEDDINGS},
        {q(1)},
        {q(layer) for layer in range(12)},
        {q(1), up(1)},
        {q(1), up(1), q(10), NORM},
        {q(0), q(1), up(1), up(11)},
    ):
        rules = [Rule(**each) for each in selectors(sorted(chosen), everything)]
        assert {name for name in everything if any(rule.fits(name, 12) for rule in rules)} == chosen


# ---- resolution, by hand -----------------------------------------------------------------------------------------

GRADIENTS = """
merge_method: task_arithmetic
base_model: base
models:
  - model: a
    parameters: {weight: [0, 0.9]}
  - model: b
    parameters:
      weight:
        - {filter: mlp, value: [1, 4]}
        - {filter: layers.1, value: 7}
parameters:
  weight: 0.5
  lambda: [{filter: q_proj, value: 2}, {value: [1, 0]}]
dtype: float32
"""


@pytest.mark.parametrize(
    ("tensor", "weights_of_a_and_b", "scale"),
    [
        (EMBEDDINGS, [0.0, 0.5], 1.0),  # embeddings, norm and head stand at depth 0
        (NORM, [0.0, 0.5], 1.0),
        (q(0), [0.0, 0.5], 2.0),
        (q(1), [0.3, 7.0], 2.0),
        (up(1), [0.3, 2.0], 2 / 3),  # the first filter that fits holds
        (up(3), [0.9, 4.0], 0.0),
        (q(3), [0.9, 0.5], 2.0),  # no filter fits: the file's own weight
    ],
)
def test_gradients_filters_and_precedence(deep, tensor, weights_of_a_and_b, scale):
    found = parameters(translated(deep[0], GRADIENTS), tensor)
    assert found["weights"] == pytest.approx(weights_of_a_and_b)
    assert found["scale"] == pytest.approx(scale)


def test_the_weights_of_a_gradient_are_what_is_merged(deep):
    folder, states = deep
    found = merged(translated(folder, GRADIENTS), folder)
    base, a, b = (states[name][up(1)].to(torch.float64) for name in ("base", "a", "b"))
    expected = base + 2 / 3 * (0.3 * (a - base) + 2 * (b - base))
    torch.testing.assert_close(found[up(1)].to(torch.float64), expected, atol=2e-7, rtol=0)


def test_source_comes_before_slice_before_module_before_file(deep):
    text = """
    merge_method: linear
    modules:
      default:
        slices:
          - sources:
              - {model: a, layer_range: [0, 2], parameters: {weight: {filter: mlp, value: 1}}}
              - {model: b, layer_range: [0, 2]}
            parameters: {weight: {filter: attn, value: 2}}
          - sources:
              - {model: a, layer_range: [2, 4]}
              - {model: b, layer_range: [2, 4]}
        parameters: {weight: {filter: norm, value: 3}}
    parameters: {weight: 4, normalize: false}
    """
    job = translated(deep[0], text)
    found = {tensor: parameters(job, tensor)["weights"] for tensor in (up(0), q(0), NORM, EMBEDDINGS, up(2))}
    assert found == {up(0): [1, 4], q(0): [2, 2], NORM: [3, 3], EMBEDDINGS: [4, 4], up(2): [4, 4]}


def test_depth_is_counted_in_each_slice_and_is_one_in_a_slice_of_one_layer(deep):
    text = """
    merge_method: slerp
    base_model: a
    slices:
      - sources: [{model: a, layer_range: [0, 3]}, {model: b, layer_range: [0, 3]}]
      - sources: [{model: a, layer_range: [3, 4]}, {model: b, layer_range: [3, 4]}]
    parameters: {t: [0.2, 0.6]}
    """
    job = translated(deep[0], text)
    found = [parameters(job, tensor)["t"] for tensor in (EMBEDDINGS, up(0), up(1), up(2), up(3), NORM)]
    assert found == pytest.approx([0.2, 0.2, 0.4, 0.6, 0.6, 0.2])


def test_the_base_comes_first_in_slerp_and_its_settings_do_not_count_in_ties(deep):
    job = translated(
        deep[0], "{merge_method: slerp, base_model: b, models: [{model: a}, {model: b}], parameters: {t: 0.1}}"
    )
    assert job.recipes[0].models == ("b", "a")
    text = "{merge_method: ties, base_model: base, models: [{model: base, parameters: {weight: 9}}, {model: a}]}"
    with pytest.raises(ValueError, match=re.escape("models[1]: no weight for tensor")):
        translated(deep[0], text)
    (recipe,) = translated(deep[0], text[:-1] + ", parameters: {weight: 2}}").recipes
    assert (recipe.models, recipe.weights, recipe.parameters["density"]) == (("a",), [2.0], 1.0)
    assert recipe.parameters["convention"] == "mergekit"


def test_linear_takes_the_base_into_the_average(deep):
    text = "{merge_method: linear, base_model: base, models: [{model: a, parameters: {weight: 1}}]}"
    with pytest.raises(ValueError, match=re.escape("base_model: no weight for tensor")):
        translated(deep[0], text)
    (recipe,) = translated(deep[0], text[:-1] + ", parameters: {weight: 2}}").recipes
    assert (recipe.models, recipe.weights, recipe.base) == (("a", "base"), [1.0, 2.0], "base")


# ---- slices --------------------------------------------------------------------------------------------------------

STACK = """
merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 3]}]
  - sources:
      - model: b
        layer_range: [1, 4]
        parameters: {scale: [{filter: layers.1, value: 0}, {filter: up_proj, value: 2}]}
"""


def test_layers_are_stacked(deep):
    folder, states = deep
    job = translated(folder, STACK)
    assert job.models["a+b"] == Stack((Run("a", 0, 3), Run("b", 1, 4)))
    found = merged(job, folder)
    assert torch.equal(found[EMBEDDINGS], states["a"][EMBEDDINGS])
    assert torch.equal(found[NORM], states["b"][NORM])
    for layer, (name, origin) in enumerate([("a", 0), ("a", 1), ("a", 2), ("b", 1), ("b", 2), ("b", 3)]):
        factor = 0 if (name, origin) == ("b", 1) else 1
        assert torch.equal(found[q(layer)], states[name][q(origin)] * factor)
        factor = {"a": 1, "b": 2}[name] * factor
        assert torch.equal(found[up(layer)], states[name][up(origin)] * factor)
    assert len(found) == 2 + 6 * 9
    source = Library(job.models, folder).source("a+b")
    assert source.json("config.json")["num_hidden_layers"] == 6


def test_layers_in_their_own_places_need_no_stack(deep):
    folder, states = deep
    text = """
    merge_method: passthrough
    slices:
      - sources: [{model: a, layer_range: [0, 1]}]
      - sources: [{model: b, layer_range: [1, 4]}]
    """
    job = translated(folder, text)
    assert set(job.models) == {"a", "b"}
    found = merged(job, folder)
    assert torch.equal(found[q(0)], states["a"][q(0)])
    assert torch.equal(found[q(1)], states["b"][q(1)])
    assert torch.equal(found[EMBEDDINGS], states["a"][EMBEDDINGS])
    assert torch.equal(found[NORM], states["b"][NORM])


def test_slices_may_have_different_numbers_of_sources(deep):
    folder, states = deep
    text = """
    merge_method: linear
    slices:
      - sources: [{model: a, layer_range: [0, 2]}, {model: b, layer_range: [2, 4]}, {model: c, layer_range: [0, 2]}]
      - sources: [{model: b, layer_range: [0, 1]}]
    parameters: {weight: 1}
    """
    found = merged(translated(folder, text), folder)
    mean = (states["a"][q(1)].double() + states["b"][q(3)].double() + states["c"][q(1)].double()) / 3
    torch.testing.assert_close(found[q(1)].double(), mean, atol=1e-8, rtol=1e-6)
    assert torch.equal(found[q(2)], states["b"][q(0)])
    assert torch.equal(found[NORM], states["b"][NORM])


# ---- back again ----------------------------------------------------------------------------------------------------

SLERP = """
merge_method: slerp
base_model: b
slices:
  - sources: [{model: a, layer_range: [0, 3]}, {model: b, layer_range: [1, 4]}]
    parameters: {t: [0, 1]}
  - sources: [{model: b, layer_range: [2, 4]}, {model: a, layer_range: [0, 2]}]
parameters: {t: [{filter: self_attn, value: [0.1, 0.9]}, {value: 0.25}]}
"""
SWAP = """
merge_method: linear
slices:
  - sources: [{model: a, layer_range: [0, 2]}]
    parameters: {weight: 1}
  - sources: [{model: a, layer_range: [2, 4], parameters: {weight: 2}}, {model: c, layer_range: [2, 4]}]
parameters: {weight: [1, 3]}
"""


@pytest.mark.parametrize("text", [GRADIENTS, STACK, SLERP, SWAP], ids=["gradients", "stack", "slerp", "swap"])
def test_round_trips(deep, text):
    folder, _ = deep
    job = translated(folder, text)
    state = merged(job, folder)
    places = {name: str(model) for name, model in job.models.items()}
    again = translated(folder, dump(to_mergekit(job, "m", list(state), places, "float32")))
    assert again.recipes == job.recipes
    assert again.models == job.models
    ours_again = ours.read(load(dump(ours.write(job, "m"))), folder)
    assert ours_again.recipes == job.recipes
    assert ours_again.models == job.models


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"parameters": {"density": 0.5}}, "convention: mergekit knows only its own, not 'paper'"),
        ({"rules": [{"part": "norms", "method": "linear"}]}, "several methods (task_arithmetic, linear)"),
        ({"method": "layer_patch", "parameters": {"last": 1}}, "mergekit has no method layer_patch"),
        ({"vocabulary": "body"}, "vocabulary: body has no counterpart"),
        ({"method": "karcher"}, "would take the base into the average"),
    ],
)
def test_what_mergekit_cannot_say_has_a_reason(change, reason):
    data = {"models": {"base": "x", "a": "y", "b": "z"}, "base": "base", "method": "task_arithmetic"}
    if "density" in change.get("parameters", {}):
        data["method"] = "ties"
    job = ours.read({**data, **change})
    with pytest.raises(ValueError, match=re.escape(reason)):
        to_mergekit(job, "merged", [EMBEDDINGS, q(0), NORM], {"base": "x", "a": "y", "b": "z"}, None)


# ---- what is refused -------------------------------------------------------------------------------------------------

LINEAR = {"merge_method": "linear", "models": [{"model": "a"}, {"model": "b"}], "parameters": {"weight": 1}}
STOCK = {"merge_method": "ties", "base_model": "base", "models": [{"model": "a"}, {"model": "b"}]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (LINEAR | {"merge_methd": 1}, "unknown key 'merge_methd'; did you mean 'merge_method'?"),
        (LINEAR | {"merge_method": "linaer"}, "merge_method: unknown method 'linaer'; did you mean 'linear'?"),
        (
            STOCK | {"parameters": {"weight": 1, "densty": 0.5}},
            "parameters: unknown key 'densty'; did you mean 'density'",
        ),
        (STOCK | {"parameters": {"weight": "much"}}, "parameters.weight: 'much' is not allowed; expected a number"),
        (STOCK | {"parameters": {"weight": [1, [2]]}}, "parameters.weight: expected one value, a list of values"),
        (
            STOCK | {"parameters": {"weight": [{"filter": "mlp", "valu": 1}]}},
            "parameters.weight[0]: unknown key 'valu'; did you mean 'value'?",
        ),
        (
            STOCK | {"models": [{"model": "a", "parameters": {"lambda": 2}}]},
            "models[0].parameters.lambda: belongs to the whole merge",
        ),
        (LINEAR | {"slices": [{"sources": []}]}, "exactly one of models, slices, modules, found models and slices"),
        (LINEAR | {"dtype": "float64"}, "dtype: 'float64' cannot be honoured"),
        (LINEAR | {"chat_template": "chatml"}, "chat_template: 'chatml' is neither auto nor a template"),
        (LINEAR | {"tokenizer_source": "base"}, "tokenizer_source: base asks for a base_model"),
        (LINEAR | {"tokenizer": {"tokens": {"<s>": {"source": "a"}}}}, "tokenizer.tokens: cannot be honoured"),
        (LINEAR | {"modules": {"x": {}, "y": {}}, "models": None}, "models of several modules (towers)"),
        (LINEAR | {"models": [{"model": "a+b+c"}]}, "models[0].model: 'a+b+c' is not a model"),
        (LINEAR | {"models": [{"model": "a"}, {"model": "a"}]}, "models: a is named twice"),
        (STOCK | {"base_model": None}, "ties needs a base; base_model is missing"),
        (LINEAR | {"merge_method": "slerp", "parameters": {"t": 1}}, "slerp needs a base; base_model is missing"),
        (
            {"merge_method": "passthrough", "slices": [{"sources": [{"model": "a", "layer_range": [2, 5]}]}]},
            "slices[0].sources[0].layer_range: layer 4 of a, which has only 4",
        ),
        (
            {"merge_method": "passthrough", "slices": [{"sources": [{"model": "a", "layer_range": [2]}]}]},
            "slices[0].sources[0].layer_range: expected [START, STOP]",
        ),
        (
            {
                "merge_method": "linear",
                "parameters": {"weight": 1},
                "slices": [{"sources": [{"model": m, "layer_range": [0, n]} for m, n in (("a", 2), ("b", 3))]}],
            },
            "slices[0]: the sources have different numbers of layers: {'a': 2, 'b': 3}",
        ),
    ],
)
def test_errors_name_the_key_and_what_was_expected(deep, data, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        translated(deep[0], json.dumps({key: value for key, value in data.items() if value is not None}))


def test_unused_filters_are_noted(deep):
    job = translated(
        deep[0], json.dumps(LINEAR | {"parameters": {"weight": [{"filter": "mpl", "value": 2}, {"value": 1}]}})
    )
    assert "The filter 'mpl' fits no tensor." in job.notes


def test_models_with_adapters_revisions_and_equal_names():
    models = [
        {"model": "x/m@v1+y/lora"},
        {"model": "z/m"},
        {"model": {"model": {"path": "x/m"}, "lora": {"path": "y/lora"}}},
    ]
    document = mergekit.read(LINEAR | {"models": models})
    assert document.models == {
        "m+lora": Model("x/m", "v1", "y/lora"),
        "m": Model("z/m"),
        "m+lora-2": Model("x/m", None, "y/lora"),
    }


def test_the_output_type_is_out_dtype_or_else_dtype():
    found = [
        mergekit.read(LINEAR | more).dtype
        for more in ({}, {"dtype": "bfloat16"}, {"dtype": "float32", "out_dtype": "float16"})
    ]
    assert found == [None, "bfloat16", "float16"]


def test_all_of_mergekits_methods_are_known():
    assert len(MERGEKIT) == 20
    assert {name for name, entry in MERGEKIT.items() if entry.base == "ignored"} == {"linear", "karcher", "passthrough"}


def test_weights_of_a_stack_are_read_from_the_files(deep):
    folder, _ = deep
    stack = Library({"a": Model("a"), "s": Stack((Run("a", 2, 4), Run("a", 0, 1)))}, folder).source("s")
    stored = load_file(folder / "a/model.safetensors")
    assert torch.equal(stack.whole(q(0)), stored[q(2)])
    assert torch.equal(stack.whole(q(2)), stored[q(0)])
    assert torch.equal(stack.read(q(1), 5, 7), stored[q(3)].flatten()[5:12])
