"""Rules: other methods and parameters for some layers and parts of a model.

The truth is a merge of smaller models that hold only the tensors of one rule.
"""

import itertools
import json
import re

import pytest
import torch
from merge_models import save

from langmerge.catalogue import METHODS
from langmerge.merging import Merge, Recipe, state_dicts, write_models
from langmerge.merging.recipe import Rule

LAYERS = 12
MODELS = ("a", "b", "c")
CONFIG = {"model_type": "llama", "num_hidden_layers": LAYERS, "tie_word_embeddings": False}


def weights(seed, base=None):
    """A model of twelve layers and of all parts."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"model.embed_tokens.weight": (7, 6), "lm_head.weight": (7, 6), "model.norm.weight": (6,), "extra": (2, 3)}
    for layer in range(LAYERS):
        shapes |= {
            f"model.layers.{layer}.self_attn.q_proj.weight": (6, 6),
            f"model.layers.{layer}.self_attn.q_norm.weight": (6,),
            f"model.layers.{layer}.mlp.experts.1.weight": (4, 6),
            f"model.layers.{layer}.input_layernorm.weight": (6,),
        }
    noise = {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in sorted(shapes.items())}
    return noise if base is None else {name: base[name] + value for name, value in noise.items()}


@pytest.fixture(scope="module")
def models():
    base = weights(0)
    return {"base": base, **{name: weights(number, base) for number, name in enumerate(MODELS, 1)}}


@pytest.fixture(scope="module")
def sources(models, tmp_path_factory):
    root = tmp_path_factory.mktemp("rules")
    return {name: save(root / name, state, CONFIG, None) for name, state in models.items()}


@pytest.fixture
def parts(models, tmp_path):
    """Sources that hold only some of the tensors."""
    numbers = itertools.count()

    def make(names):
        root = tmp_path / str(next(numbers))
        return {
            model: save(root / model, {n: state[n] for n in names}, CONFIG, None) for model, state in models.items()
        }

    return make


def merged(sources, *recipes, **options):
    return {result.recipe.name: result.state_dict for result in state_dicts(recipes, sources, together=99, **options)}


def one(sources, recipe, **options):
    return merged(sources, recipe, **options)[recipe.name]


def same(left, right):
    assert left.keys() == right.keys()
    differing = [name for name in left if not torch.equal(left[name], right[name])]
    assert not differing


def changed(models, state):
    """Names of the tensors that are not the base's."""
    return {name for name, value in state.items() if not torch.equal(value, models["base"][name])}


def patched(rules, **more):
    """The base, but where a rule holds the mean of a and b: shows which tensors a rule fits."""
    return Recipe("r", "task_arithmetic", ("a", "b"), "base", {"scale": 0.0}, rules=rules, **more)


def mean(**selection):
    return Rule(**selection, parameters={"scale": 0.5})


# ---- which tensors a rule is for ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ((1,), {1}),
        ((10,), {10}),
        ((-1,), {11}),
        ((-2, 0), {0, 10}),
        ((11, -1), {11}),
        ((-12,), {0}),
        (tuple(range(12)), set(range(12))),
    ],
)
def test_layers_are_indices_and_negative_ones_count_from_the_last(models, sources, layers, expected):
    found = changed(models, one(sources, patched([mean(layers=layers)])))
    assert found == {
        name for name in models["base"] if re.match(rf"model\.layers\.({'|'.join(map(str, expected))})\.", name)
    }
    assert len(found) == 4 * len(expected)


@pytest.mark.parametrize("layers", [(12,), (-13,), ()])
def test_layers_that_do_not_exist_are_an_error(sources, layers):
    with pytest.raises(ValueError, match="recipe 'r': rule 1 fits no tensor of these models"):
        Merge([patched([mean(layers=layers)])], sources)


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        (r"model\.layers\.1\..*", 4),
        (r"model\.layers\.1.*", 12),  # 1, 10 and 11, as written
        (r".*\.q_proj\.weight", 12),
        (r"lm_head\.weight", 1),
        (r"extra|model\.norm\.weight", 2),
        (r".*layers\.(1|10)\.self_attn\.q_proj.*", 2),
        (r"(?i)EXTRA", 1),
        (r".*", 52),
    ],
)
def test_regular_expressions_match_whole_names(models, sources, pattern, count):
    found = changed(models, one(sources, patched([mean(tensors=pattern)])))
    assert found == {name for name in models["base"] if re.fullmatch(pattern, name)}
    assert len(found) == count


@pytest.mark.parametrize("pattern", ["layers", r"layers\.1", "model", r"q_proj", "extr", "xtra", r"model\.layers\.1"])
def test_a_part_of_a_name_is_no_match(sources, pattern):
    with pytest.raises(ValueError, match="rule 1 fits no tensor"):
        Merge([patched([mean(tensors=pattern)])], sources)


@pytest.mark.parametrize(
    ("part", "pattern", "count"),
    [
        ("embeddings", r"model\.embed_tokens.*", 1),
        ("head", r"lm_head.*", 1),
        ("norms", r".*norm\.weight", 25),
        ("attention", r".*q_proj.*", 12),
        ("mlp", r".*mlp.*", 12),
        ("other", r"extra", 1),
    ],
)
def test_parts(models, sources, part, pattern, count):
    found = changed(models, one(sources, patched([mean(part=part)])))
    assert found == {name for name in models["base"] if re.fullmatch(pattern, name)}
    assert len(found) == count


def test_all_that_a_rule_says_must_hold(models, sources):
    rule = mean(layers=(3, -1), part="attention", tensors=r".*weight")
    names = {f"model.layers.{layer}.self_attn.q_proj.weight" for layer in (3, 11)}
    assert changed(models, one(sources, patched([rule]))) == names
    with pytest.raises(ValueError, match="fits no tensor"):
        Merge([patched([mean(layers=(3,), part="head")])], sources)


def test_the_first_rule_that_fits_holds(models, sources):
    rules = [
        Rule(part="norms", parameters={"scale": 0.0}),
        Rule(layers=(0, 1), parameters={"scale": 1.0}),
        Rule(layers=(1, 2), parameters={"scale": 2.0}),
        Rule(tensors=".*", parameters={"scale": 3.0}),
    ]
    result = one(sources, patched(rules))
    for name, value in result.items():
        layer = re.search(r"layers\.(\d+)\.", name)
        scale = {0: 1, 1: 1, 2: 2}.get(int(layer[1]), 3) if layer else 3
        scale = 0 if name.endswith("norm.weight") else scale
        base, a, b = (models[model][name].double() for model in ("base", "a", "b"))
        torch.testing.assert_close(value.double(), base + scale * (a + b - 2 * base), atol=1e-6, rtol=0)


def test_a_rule_behind_another_that_takes_all_its_tensors_is_no_error(models, sources):
    rules = [mean(tensors=".*"), Rule(part="head", parameters={"scale": 9.0})]
    same(one(sources, patched(rules)), one(sources, patched([rules[0]])))


def test_the_rule_that_fits_nothing_is_numbered(sources):
    rules = [mean(part="mlp"), mean(tensors="lm_haed.weight")]
    with pytest.raises(ValueError, match="recipe 'r': rule 2 fits no tensor of these models"):
        Merge([patched(rules)], sources)


# ---- what a rule changes --------------------------------------------------------------------------------------------

BASED = [
    ("linear", {"weights": [1, 2, 3]}),
    ("task_arithmetic", {"scale": 0.7}),
    ("ties", {"density": 0.3}),
    ("ties", {"density": 0.3, "convention": "mergekit"}),
    ("ties", {"density": 0.3, "convention": "peft"}),
    ("dare_linear", {"density": 0.5, "seed": 1}),
    ("dare_ties", {"density": 0.5, "seed": 1}),
    ("magnitude_prune", {"density": 0.2}),
    ("breadcrumbs", {"density": 0.4, "gamma": 0.1}),
    ("breadcrumbs_ties", {"density": 0.4, "gamma": 0.1}),
    ("della", {"density": 0.5, "epsilon": 0.2, "seed": 2}),
    ("della_linear", {"density": 0.5, "epsilon": 0.2, "seed": 2}),
    ("model_stock", {}),
    ("sce", {"select_topk": 0.5}),
    ("consensus", {}),
    ("pcb", {}),
    ("magmax", {}),
    ("ram", {}),
    ("emr", {"serve": "b"}),
    ("tall_mask", {"serve": "b"}),
    ("tsv_m", {}),
    ("iso_c", {}),
    ("karcher", {}),
    ("multislerp", {}),
]


def recipe_of(name, method, parameters, rules=()):
    return Recipe(name, method, MODELS, "base", parameters, rules=rules)


def named(pair):
    return pair[0] + ("@" + pair[1]["convention"] if "convention" in pair[1] else "")


@pytest.mark.parametrize(
    ("first", "second"), list(zip(BASED, BASED[1:] + BASED[:1], strict=True)), ids=lambda pair: named(pair)
)
def test_each_region_is_merged_as_if_it_were_the_whole_model(models, sources, parts, first, second):
    """Also by methods that look at the whole model: ties@paper trims among the tensors of its rule only."""
    rule = Rule(layers=(0, 1, 2, 3, -1), method=second[0], parameters=second[1])
    whole = one(sources, recipe_of("r", *first, rules=(rule,)), block=13)
    inside = [name for name in models["base"] if re.match(r"model\.layers\.(0|1|2|3|11)\.", name)]
    outside = [name for name in models["base"] if name not in inside]
    inner, outer = recipe_of("r", *second), recipe_of("r", *first)
    same(whole, one(parts(inside), inner, block=13) | one(parts(outside), outer, block=13))


@pytest.mark.parametrize("pair", BASED, ids=named)
def test_a_rule_of_the_same_method_takes_only_what_is_given_anew(models, sources, parts, pair):
    method, parameters = pair
    other = {"weights": [3, 1, 2]} if "weights" in recipe_of("r", method, parameters).parameters else {}
    whole = one(sources, recipe_of("r", method, parameters, rules=(Rule(part="mlp", parameters=other),)), block=99)
    inside = [name for name in models["base"] if ".mlp." in name]
    outside = [name for name in models["base"] if name not in inside]
    inner = one(parts(inside), recipe_of("r", method, parameters | other), block=99)
    same(whole, inner | one(parts(outside), recipe_of("r", method, parameters), block=99))


def test_a_rule_may_have_other_models_and_another_base(models, sources):
    rules = [
        Rule(part="attention", models=("c",), base="a", parameters={"scale": 2.0}),
        Rule(part="head", method="linear", models=("b", "c"), parameters={"weights": [1, 3]}),
    ]
    result = one(sources, Recipe("r", "task_arithmetic", ("a", "b"), "base", {"weights": [1, 2]}, rules=rules))
    for name, value in result.items():
        base, a, b, c = (models[model][name].double() for model in ("base", *MODELS))
        expected = base + (a - base) + 2 * (b - base)
        if "q_proj" in name:
            expected = a + 2 * (c - a)
        elif "lm_head" in name:
            expected = (b + 3 * c) / 4
        torch.testing.assert_close(value.double(), expected, atol=1e-6, rtol=0, msg=name)


def test_another_convention_brings_its_own_defaults():
    recipe = Recipe(
        "r", "ties", MODELS, "base", {"scale": 0.3}, rules=({"part": "mlp", "parameters": {"convention": "mergekit"}},)
    )
    plain = Recipe("r", "ties", MODELS, "base", {"convention": "mergekit"})
    assert recipe.under(0).parameters == plain.parameters


def test_parameters_by_layer_equal_layers_merged_one_by_one(models, sources, parts):
    rules = [
        Rule(layers=(layer,), parameters={"density": 0.1 + 0.07 * layer, "scale": layer / 10})
        for layer in range(LAYERS)
    ]
    whole = one(sources, recipe_of("r", "ties", {"density": 0.9}, rules=rules), block=7)
    for layer in range(LAYERS):
        names = [name for name in models["base"] if name.startswith(f"model.layers.{layer}.")]
        alone = one(parts(names), recipe_of("r", "ties", {"density": 0.1 + 0.07 * layer, "scale": layer / 10}))
        same({name: whole[name] for name in names}, alone)


def test_trims_of_a_whole_model_look_only_at_the_tensors_of_their_rule(models, sources):
    """Planted: huge changes outside the rule would take all places of one trim over the model."""
    rule = Rule(part="mlp", parameters={"density": 0.25})
    recipe = Recipe("r", "ties", ("a",), "base", {"density": 1.0}, rules=(rule,))
    result = one(sources, recipe)
    kept = total = 0
    for name, value in result.items():
        if ".mlp." in name:
            kept += int((value != models["base"][name]).sum())
            total += value.numel()
        else:
            torch.testing.assert_close(value, models["a"][name], atol=1e-7, rtol=0)
    assert kept == int(0.25 * total) + 1  # the number of the paper's code


# ---- nested, mixed, together ----------------------------------------------------------------------------------------

MIXED = [
    recipe_of("paper", "ties", {"density": 0.3}),
    recipe_of("body", "ties", {"density": 0.3}, (Rule(part="norms", method="linear"),)),
    recipe_of("split", "ties", {"density": 0.3}, (Rule(layers=(0, 1, 2), parameters={"density": 0.3}),)),
    recipe_of("ends", "ties", {"density": 0.3}, (Rule(layers=(0, -1), parameters={"density": 0.6}),)),
    recipe_of("pruned", "magnitude_prune", {"density": 0.3}, (Rule(part="embeddings", method="dare_ties"),)),
    recipe_of("crumbs", "breadcrumbs", {"density": 0.3, "gamma": 0.1}, (Rule(part="mlp", method="ties"),)),
    recipe_of("crumbs2", "breadcrumbs", {"density": 0.3, "gamma": 0.1}, (Rule(part="head", method="ties"),)),
    recipe_of("agree", "consensus", {}),
    recipe_of("agree2", "consensus", {}, (Rule(part="norms", method="linear"),)),
    recipe_of("emr", "emr", {"serve": "b"}),
    recipe_of("emr2", "emr", {"serve": "b"}, (Rule(part="head", method="linear"),)),
    Recipe("nested", "task_arithmetic", ("body", "paper"), "base", {}, rules=(Rule(layers=(5,), models=("split",)),)),
    Recipe(
        "twice",
        "ties",
        ("nested", "ends", "a"),
        "base",
        {"density": 0.2},
        rules=(Rule(part="head", base="a", models=("b",)),),
    ),
    Recipe("patch", "layer_patch", ("twice", "crumbs"), "base", {"last": 2}),
]


@pytest.fixture(scope="module")
def together(sources):
    return merged(sources, *MIXED, block=31)


@pytest.mark.parametrize("name", [recipe.name for recipe in MIXED])
def test_recipes_with_rules_alone_equal_those_computed_together(sources, together, name):
    alone = {result.recipe.name: result.state_dict for result in state_dicts(MIXED, sources, outputs=[name], block=31)}
    same(alone[name], together[name])


@pytest.mark.parametrize("order", [list(reversed(MIXED)), MIXED[5:] + MIXED[:5]])
def test_the_order_of_recipes_does_not_matter(sources, together, order):
    again = merged(sources, *order, block=31)
    for name, state in together.items():
        same(again[name], state)


def variants():
    """All methods on task vectors, in every convention, and what else decides what they share in a pass."""
    for method in dict.fromkeys(method for method, _ in BASED):
        parameters = {key: value for key, value in dict(BASED)[method].items() if key != "convention"}
        known = METHODS[method].parameters
        conventions = known["convention"].choices if "convention" in known else [None]
        for convention in conventions:
            given = parameters if convention is None else parameters | {"convention": convention}
            yield method, given, MODELS
            for key, other in (("rescale", "l1"), ("trim", 0.5), ("vector", "ties")):
                if key in known:
                    yield method, given | {key: other}, MODELS
    for method in ("ties", "magnitude_prune"):
        yield method, {"density": 0.3, "convention": "paper"}, ("a",)


def described(method, parameters, models):
    return "-".join([method, *(f"{key}={value}" for key, value in parameters.items()), "".join(models)])


@pytest.fixture(scope="module")
def short(models, tmp_path_factory):
    """Sources of two layers, for what need not be tried on more."""
    root = tmp_path_factory.mktemp("short")
    names = [name for name in models["base"] if re.search(r"layers\.[01]\.|head|embed", name)]
    return {model: save(root / model, {n: state[n] for n in names}, CONFIG, None) for model, state in models.items()}


@pytest.mark.parametrize("variant", [pytest.param(v, id=described(*v)) for v in variants()])
def test_recipes_that_differ_in_a_rule_alone_do_not_share_what_they_gather(short, variant):
    """What one finds of the whole model, another that leaves out some tensors must not take for its own."""
    method, parameters, models = variant
    selections = [{"layers": (0,)}, None, {"part": "head"}]
    recipes = [
        Recipe(f"r{n}", method, models, "base", parameters, rules=[Rule(**s, method="linear")] if s else [])
        for n, s in enumerate(selections)
    ]
    together = merged(short, *recipes)
    for recipe in recipes:
        same(together[recipe.name], one(short, recipe))


@pytest.mark.parametrize("block", [1, 6, 100, 10**6])
def test_block_sizes_do_not_matter_with_rules(sources, together, block):
    again = merged(sources, *MIXED, block=block)
    for name, state in together.items():
        for key, value in state.items():
            torch.testing.assert_close(again[name][key], value, atol=1e-6, rtol=0, msg=f"{name} {key}")


def test_nested_recipes_with_rules_equal_their_merges_from_files(sources, together, tmp_path):
    inner = [recipe for recipe in MIXED if recipe.name in ("body", "paper", "split", "ends")]
    write_models(inner, sources, {recipe.name: tmp_path / recipe.name for recipe in inner}, block=31)
    files = sources | {recipe.name: tmp_path / recipe.name for recipe in inner}
    outer = [recipe for recipe in MIXED if recipe.name in ("nested", "twice")]
    for name, state in merged(files, *outer, block=31).items():
        same(state, together[name])


def test_a_model_with_another_method_for_each_part(models, sources, parts):
    methods = {
        "embeddings": ("linear", {}),
        "head": ("slerp", {"t": 0.3}),
        "norms": ("task_arithmetic", {"scale": 0.5}),
        "attention": ("ties", {"density": 0.4}),
        "mlp": ("dare_linear", {"density": 0.5, "seed": 4}),
    }
    rules = [Rule(part=part, method=method, parameters=given) for part, (method, given) in methods.items()]
    whole = one(sources, Recipe("r", "multislerp", ("a", "b"), "base", {}, rules=rules), block=17)
    patterns = {"embeddings": "embed", "head": "lm_head", "norms": r"norm\.weight", "attention": "q_proj", "mlp": "mlp"}
    for part, (method, given) in methods.items():
        names = [name for name in models["base"] if re.search(patterns[part], name)]
        alone = one(parts(names), Recipe("r", method, ("a", "b"), "base", given), block=17)
        same({name: whole[name] for name in names}, alone)
    rest = one(parts(["extra"]), Recipe("r", "multislerp", ("a", "b"), "base"), block=17)
    assert torch.equal(whole["extra"], rest["extra"])


def test_statistics_do_not_depend_on_rules_of_others(sources):
    recipes = MIXED[:4]
    alone = {
        name: s for recipe in recipes for name, s in [(recipe.name, next(state_dicts([recipe], sources)).statistics)]
    }
    for result in state_dicts(recipes, sources, together=9):
        assert result.statistics == alone[result.recipe.name]


# ---- recipes as data ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", MIXED, ids=lambda recipe: recipe.name)
def test_recipes_with_rules_survive_json(recipe):
    again = Recipe.from_json(json.loads(json.dumps(recipe.to_json())))
    assert again == recipe
    assert all(isinstance(rule, Rule) for rule in again.rules)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "needs at least one of layers, tensors, part"),
        ({"method": "linear"}, "needs at least one of layers, tensors, part"),
        ({"part": "nose"}, "part: 'nose' is not one of embeddings, head, norms"),
        ({"tensors": "("}, r"tensors: '\(' is not a regular expression"),
        ({"tensors": 3}, "rules:"),
        ({"layers": 3}, "rules:"),
        ({"layers": [1.0]}, r"layers: \[1.0\] are not whole numbers"),
        ({"layers": [True]}, "are not whole numbers"),
        ({"layers": "12"}, "expected a list"),
        ({"layer": [1]}, r"\['layer'\] not known; known: "),
        (["part"], "not known"),
        ("norms", "not known"),
        ({"part": "mlp", "method": "tie"}, "rule 1 of recipe 'r': unknown merge method 'tie'"),
        ({"part": "mlp", "parameters": {"densty": 1}}, "rule 1 of recipe 'r': ties: unknown parameter 'densty'"),
        ({"part": "mlp", "parameters": {"density": 2}}, "rule 1 of recipe 'r': ties"),
        ({"part": "mlp", "models": []}, "rule 1 of recipe 'r': ties: needs at least 1"),
        ({"part": "mlp", "models": ["a", "a"]}, "named twice"),
        ({"part": "mlp", "base": "a"}, "the base 'a' is also among the models"),
        ({"part": "mlp", "method": "slerp", "models": ["a"]}, "slerp: needs"),
        ({"part": "mlp", "method": "fisher"}, "rule 1 of recipe 'r': fisher needs .* measured of every model"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        Recipe("r", "ties", ("a", "b"), "base", rules=(rule,))


def test_a_model_that_only_a_rule_names_is_looked_for(sources):
    recipe = Recipe("r", "linear", ("a", "b"), rules=({"part": "head", "models": ["a", "z"]},))
    assert recipe.inputs == ("a", "b", "z")
    with pytest.raises(ValueError, match="recipe 'r': no source or recipe 'z'"):
        Merge([recipe], sources)


def test_a_circle_through_a_rule_is_refused(sources):
    recipes = [
        Recipe("x", "linear", ("a", "b"), rules=({"part": "head", "models": ["y", "a"]},)),
        Recipe("y", "linear", ("x", "c")),
    ]
    with pytest.raises(ValueError, match="circle"):
        Merge(recipes, sources)
