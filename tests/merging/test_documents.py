"""Our merge files: what they say, grids, where models are found, stacked layers."""

import re
import shutil

import pytest
import torch
from lora_models import factors, products, save_adapter
from merge_models import CONFIG, save, weights

from langmerge.catalogue import METHODS
from langmerge.merging.documents import ours
from langmerge.merging.documents.grids import combinations
from langmerge.merging.documents.job import Model, Run, Stack
from langmerge.merging.documents.library import Library, find
from langmerge.merging.documents.prepare import prepare, read_job
from langmerge.merging.documents.yaml_text import dump, load
from langmerge.merging.reader import ModelFolder
from langmerge.merging.recipe import Recipe, Rule
from langmerge.merging.views import Layer, LayerView

MODELS = {"base": "org/base", "de": "./de", "fr": {"base": "org/base@v1", "adapter": "fr-lora"}}
TIES = {"models": MODELS, "base": "base", "method": "ties", "parameters": {"density": 0.4}}


def test_a_file_makes_a_recipe_of_all_models_but_the_base():
    job = ours.read(
        TIES | {"parameters": {"weights": {"fr": 0.3, "de": 0.7}}, "rules": [{"part": "norms", "models": ["de"]}]}
    )
    (recipe,) = job.recipes
    assert recipe == Recipe(
        "merged", "ties", ("de", "fr"), "base", {"weights": [0.7, 0.3]}, rules=(Rule(part="norms", models=("de",)),)
    )
    assert job.models["fr"] == Model("org/base", "v1", "fr-lora")
    assert (job.outputs, job.single) == (("merged",), True)


def test_several_merges_share_models_and_may_use_one_another():
    merges = {
        "one": {"method": "linear"},
        "two": {"method": "linear", "models": ["de", "one"], "base": "fr", "parameters": {"weights": [1, 2]}},
    }
    job = ours.read({"models": MODELS, "base": "base", "merges": merges, "outputs": ["two"]})
    assert job.recipe("one").models == ("de", "fr")
    assert job.recipe("two").inputs == ("fr", "de", "one")
    assert (job.outputs, job.single) == (("two",), False)


def test_a_grid_makes_a_recipe_for_each_combination():
    grid = {"density": [0.2, 0.5], "weights": [[1, 0.5], {"de": 2, "fr": 1}], "convention": "mergekit"}
    job = ours.read(TIES | {"parameters": grid})
    assert list(job.outputs) == [
        "merged-density0.2-weights1_0.5",
        "merged-density0.2-weights2_1",
        "merged-density0.5-weights1_0.5",
        "merged-density0.5-weights2_1",
    ]
    last = job.recipe("merged-density0.5-weights2_1")
    assert (last.weights, last.parameters["density"]) == ([2, 1], 0.5)


def test_lists_that_a_parameter_takes_are_no_grid():
    assert combinations("linear", {"weights": [1, 2]}) == [("", {"weights": [1, 2]})]
    assert [label for label, _ in combinations("linear", {"normalize": [True, False]})] == [
        "normalizetrue",
        "normalizefalse",
    ]
    with pytest.raises(ValueError, match=r"parameters.density: a grid needs different values, found \[0.5, 0.5\]"):
        combinations("ties", {"density": [0.5, 0.5]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metod": "ties"}, "the recipe: unknown key 'metod'; did you mean 'method'?"),
        ({"method": "tise"}, "merges.merged.method: unknown merge method 'tise'; did you mean 'ties'?"),
        ({"method": None}, "merges.merged.method: no method"),
        ({"parameters": {"densty": 1}}, "merges.merged.parameters: unknown key 'densty'; did you mean 'density'?"),
        ({"parameters": {"density": 2}}, "ties.density: 2 is not allowed; expected a number > 0 and <= 1"),
        (
            {"parameters": {"weights": {"de": 1}}},
            "parameters.weights: values for ['de'], but the models are ['de', 'fr']",
        ),
        ({"models": {"de": 3}}, "models.de: expected a mapping of keys to values, found 3"),
        ({"models": {"de": {"pth": "x"}}}, "models.de: unknown key 'pth'; did you mean 'path'?"),
        ({"models": {"de": "a@b@c"}}, "models.de: 'a@b@c' is not a model; expected PATH"),
        (
            {"models": MODELS | {"s": {"layers": [{"model": "x", "range": [0, 1]}]}}},
            "models.s: 'x' is not a model with a path",
        ),
        ({"models": {"s": {"layers": [{"model": "x", "range": [1, 1]}]}}}, "models.s.layers[0].range: expected"),
        ({"rules": {"part": "norms"}}, "merges.merged.rules: expected a list of rules"),
        ({"rules": [{"prt": "norms"}]}, "merges.merged.rules[1]: unknown key 'prt'; did you mean 'part'?"),
        ({"merges": {}}, "method: stands beside merges; give each of the merges its own"),
        ({"outputs": ["merged"]}, "outputs: only means something together with merges"),
        ({"dtype": "float8"}, "dtype: 'float8' is not one of float32, bfloat16, float16"),
        ({"vocabulary": "onion"}, "vocabulary: 'onion' is not one of error, union, body"),
        ({"tokenizer": "es"}, "tokenizer: no model 'es'; known: base, de, fr"),
        ({"base": "es"}, "no source or recipe 'es'; known: base, de, fr"),
        ({"data": "x"}, "data: expected a mapping of names to folders"),
    ],
)
def test_errors_name_the_key_and_what_was_expected(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ours.read(TIES | change)


def test_what_is_written_makes_the_same_recipes_again():
    models = MODELS | {"stack": {"layers": [{"model": "de", "range": [0, 2]}, {"model": "de", "range": [1, 3]}]}}
    merges = {
        "inner": {"method": "ties", "models": ["fr", "stack"], "parameters": {"density": [0.2, 0.3]}},
        "outer": {
            "method": "linear",
            "models": ["inner-density0.3", "fr"],
            "rules": [{"layers": [0, -1], "base": "fr"}],
        },
        "unused": {"method": "slerp", "models": ["fr", "base"]},
    }
    job = ours.read({"models": models, "base": "base", "merges": merges, "dtype": "bfloat16", "tokenizer": "de"})
    again = ours.read(load(dump(ours.write(job, "outer"))))
    assert {recipe.name for recipe in again.recipes} == {"inner-density0.3", "outer"}
    assert all(recipe == job.recipe(recipe.name) for recipe in again.recipes)
    assert again.models == job.models
    assert (again.outputs, again.dtype, again.tokenizer) == (("outer",), "bfloat16", "de")
    simple = ours.read(TIES)
    assert ours.read(load(dump(ours.write(simple, "merged")))) == simple


def test_a_seed_reaches_recipes_and_rules_that_have_one():
    job = ours.read(
        TIES
        | {
            "method": "dare_ties",
            "rules": [{"part": "norms", "method": "linear"}, {"part": "mlp", "method": "dare_linear"}],
        }
    )
    (recipe,) = ours.with_seed(job, 7).recipes
    assert [recipe.parameters["seed"], recipe.under(1).parameters["seed"]] == [7, 7]
    assert "seed" not in METHODS["linear"].parameters
    assert recipe.under(0).parameters == job.recipes[0].under(0).parameters


def test_doubled_keys_are_errors_and_1e_5_is_a_number():
    assert load("{a: 1e-5, b: [1E3, 1.5e+2], c: '1e-5'}") == {"a": 1e-5, "b": [1000.0, 150.0], "c": "1e-5"}
    with pytest.raises(ValueError, match="not valid YAML: the key 'a' stands here twice"):
        load("a: 1\nb: 2\na: 3\n")
    with pytest.raises(ValueError, match="not valid YAML"):
        load("a: [1\n")


# ---- where models are ------------------------------------------------------------------------------------------------


def hub_cache(root, folder, commit="0123abc", hub_id="org/model"):
    """A cache of the Hub that holds one snapshot with the files of `folder` and a pickle."""
    place = root / f"models--{hub_id.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs/main").write_text(commit)
    return place


def test_a_path_is_relative_to_the_file_or_to_the_current_folder(sources, tmp_path, monkeypatch):
    shutil.copytree(sources["a"], tmp_path / "here/a")
    assert find("a", None, tmp_path / "here") == tmp_path / "here/a"
    monkeypatch.chdir(tmp_path / "here")
    assert find("./a") == tmp_path / "here/a"
    with pytest.raises(ValueError, match=r"no folder './b' in .*; expected a model folder or a Hub id like org/name"):
        find("./b")


def test_a_hub_id_is_found_in_the_cache_without_a_network(sources, tmp_path, monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    constants = pytest.importorskip("huggingface_hub.constants")
    hub_cache(tmp_path, sources["a"])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    real, asked = huggingface_hub.snapshot_download, {}

    def download(hub_id, **options):
        asked.update(options)
        return real(hub_id, cache_dir=tmp_path, **options)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    library = Library({"m": Model("org/model"), "n": Model("org/other")})
    assert torch.equal(
        library.source("m").whole("model.norm.weight"), ModelFolder("a", sources["a"]).whole("model.norm.weight")
    )
    assert library.folders["m"] == tmp_path / "models--org--model/snapshots/0123abc"
    assert not any(pattern.endswith((".bin", ".py", ".pt", "*")) for pattern in asked["allow_patterns"])
    with pytest.raises(ValueError, match=r"models.n: org/other is not in the cache and the Hub cannot be reached"):
        library.source("n")


def test_a_folder_of_the_cache_stands_for_its_snapshot(sources, tmp_path):
    place = hub_cache(tmp_path, sources["a"])
    assert find(str(place)) == place / "snapshots/0123abc"
    with pytest.raises(ValueError, match=r"revision 'v2' is not in this cache; it holds \['0123abc'\]"):
        find(str(place), "v2")


def test_a_base_with_an_adapter_is_a_model(states, sources, tmp_path):
    modules = factors(1)
    save_adapter(tmp_path / "lora", modules, base_model_name_or_path=str(sources["base"]))
    text = f"""
    models: {{base: {sources["base"]}, de: {{base: {sources["base"]}, adapter: ./lora}}}}
    base: base
    method: task_arithmetic
    parameters: {{scale: 0.5}}
    """
    (tmp_path / "recipe.yaml").write_text(text)
    prepared = prepare(*read_job(tmp_path / "recipe.yaml"))
    found = {}
    for piece in prepared.merge():
        found.setdefault(piece.tensor, []).append(piece.values)
    for module, change in products(modules, 2.0).items():
        expected = states["base"][f"{module}.weight"].double() + 0.5 * change
        torch.testing.assert_close(torch.cat(found[f"{module}.weight"]).double(), expected.flatten(), atol=1e-6, rtol=0)
    assert prepared.library.adapters == {"de": tmp_path / "lora"}


# ---- vocabularies ----------------------------------------------------------------------------------------------------


def other_vocabulary(states, folder):
    tokens = {f"t{i}" if i < 39 else "new": i for i in range(40)}
    return save(
        folder, states["b"], tokenizer={"model": {"type": "BPE", "vocab": tokens, "merges": []}, "added_tokens": []}
    )


def test_vocabularies_that_differ_are_an_error_unless_only_the_body_is_merged(states, sources, tmp_path):
    other_vocabulary(states, tmp_path / "b")
    text = f"models: {{a: {sources['a']}, b: {tmp_path / 'b'}}}\nmethod: linear\n"
    (tmp_path / "error.yaml").write_text(text)
    with pytest.raises(ValueError, match="tokens differ"):
        prepare(*read_job(tmp_path / "error.yaml")).merge()
    (tmp_path / "body.yaml").write_text(text + "vocabulary: body\n")
    prepared = prepare(*read_job(tmp_path / "body.yaml"))
    found = {}
    for piece in prepared.merge():
        found.setdefault(piece.tensor, []).append(piece.values)
    assert torch.equal(
        torch.cat(found["model.embed_tokens.weight"]), states["a"]["model.embed_tokens.weight"].flatten()
    )
    mean = (states["a"]["model.norm.weight"] + states["b"]["model.norm.weight"]) / 2
    torch.testing.assert_close(torch.cat(found["model.norm.weight"]), mean)


# ---- stacked layers --------------------------------------------------------------------------------------------------


def test_the_configuration_of_a_stack_describes_its_layers(tmp_path):
    config = {
        **CONFIG,
        "num_hidden_layers": 3,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "mlp_only_layers": [1],
    }
    a = ModelFolder("a", save(tmp_path / "a", weights(1, layers=3), config))
    b = ModelFolder(
        "b", save(tmp_path / "b", weights(2, layers=3), config | {"layer_types": ["x", "y", "z"], "rms_norm_eps": 1})
    )
    stack = LayerView("s", [(a, 0), (a, 1), (b, 1), (a, 2)], reference=b)
    found = stack.json("config.json")
    assert found["num_hidden_layers"] == 4
    assert found["layer_types"] == ["sliding_attention", "sliding_attention", "y", "full_attention"]
    assert found["mlp_only_layers"] == [1, 2]
    assert found["rms_norm_eps"] == 1
    assert stack.json("tokenizer.json") == b.json("tokenizer.json")
    assert stack.identity() is not None
    assert stack.identity() != LayerView("s", [(a, 0), (a, 1), (b, 2), (a, 2)], reference=b).identity()


def test_a_stack_refuses_layers_that_are_not_there_and_patterns_that_it_would_break(tmp_path):
    config = {**CONFIG, "num_hidden_layers": 3, "sliding_window_pattern": 2}
    a = ModelFolder("a", save(tmp_path / "a", weights(1, layers=3), config))
    with pytest.raises(ValueError, match="layer 3 of model 'a', which has only layers 0 to 2"):
        LayerView("s", [Layer(a, 3)])
    with pytest.raises(ValueError, match="no layers"):
        LayerView("s", [])
    with pytest.raises(ValueError, match="sliding_window_pattern = 2"):
        LayerView("s", [(a, 0), (a, 0)]).json("config.json")
    moved = LayerView("s", [(a, 0), (a, 1), (a, 0), (a, 1)])
    assert moved.json("config.json")["num_hidden_layers"] == 4


def test_transformers_loads_a_stack(tmp_path):
    transformers = pytest.importorskip("transformers")
    state = weights(1, layers=3)
    save(tmp_path / "a", state, {**CONFIG, "num_hidden_layers": 3})
    models = {"a": Model("a"), "s": Stack((Run("a", 0, 3), Run("a", 1, 3)))}
    stack = Library(models, tmp_path).source("s")
    folder = save(tmp_path / "s", {name: stack.whole(name) for name in stack.tensors}, stack.json("config.json"))
    model, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert torch.equal(model.model.layers[4].mlp.up_proj.weight, state["model.layers.2.mlp.up_proj.weight"])
