"""The project's own methods, run by the engine, against formulas written out entry by entry."""

import json

import pytest
import torch
from merge_models import CONFIG, VOCABULARY, flat, save, weights
from safetensors.torch import save_file

from langmerge.merging import Recipe, state_dicts
from langmerge.merging.engine import Merge
from langmerge.merging.methods import languages

ALL = ("a", "b", "c")
EMBEDDINGS = "model.embed_tokens.weight"


def measured(folder, models=ALL, **tensors):
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    if models:
        (folder / "models.json").write_text(json.dumps({"models": list(models)}))
    return folder


def run(sources, method, data, models=ALL, base="base", rules=(), block=500, **parameters):
    """The merge; `data` is one folder for all models, or one for each."""
    places = data if isinstance(data, dict) else {} if data is None else {"all": data}
    uses = {model: model if isinstance(data, dict) else "all" for model in models} if places else {}
    recipe = Recipe("m", method, models, base, parameters, uses, rules)
    (merged,) = state_dicts([recipe], sources, data=places, block=block)
    return merged


def close(one, other, tolerance=2e-7):
    assert set(one) == set(other)
    for name in one:
        torch.testing.assert_close(one[name].double(), other[name].double(), atol=tolerance, rtol=0, msg=name)


def mean(states, models=ALL):
    return {name: sum(states[m][name].double() for m in models) / len(models) for name in states["base"]}


# ---- layerwise -----------------------------------------------------------------------------------------------

SIMILARITY = [
    [[1, 0.9, 0.8], [0.9, 1, 0.3], [0.8, 0.3, 1]],
    [[1, 0.5, 0.2], [0.5, 1, -0.1], [0.2, -0.1, 1]],
    [[1, 1, 1], [1, 1, 1], [1, 1, 1]],
]


def layerwise(states, similarity, floor, threshold, temperature, given, order=ALL):
    """One number at a time."""
    total, result = sum(given), {}
    for name, value in states["base"].items():
        parts = name.split(".")
        state = int(parts[2]) + 1 if parts[1] == "layers" else 0 if "embed" in name else len(similarity) - 1
        merged = states[floor][name].double()
        for w, model in zip(given, ALL, strict=True):
            i = order.index(model)
            others = [min(1, max(0, s)) for j, s in enumerate(similarity[state][i]) if j != i]
            agreement = sum(others) / len(others)
            g = min(1, agreement / threshold) ** (1 / temperature)
            merged = merged + w / total * g * (states[model][name].double() - states[floor][name].double())
        result[name] = merged.view(value.shape)
    return result


@pytest.mark.parametrize("keep", [None, "b"])
@pytest.mark.parametrize(("threshold", "temperature"), [(1.0, 1.0), (0.6, 2.0), (0.9, 0.5)])
@pytest.mark.parametrize("given", [[1, 1, 1], [1, 2, 5]])
def test_layerwise_follows_the_formula(sources, states, tmp_path, keep, threshold, temperature, given):
    data = measured(tmp_path / "cka", cka=torch.tensor(SIMILARITY))
    parameters = {"threshold": threshold, "temperature": temperature, "keep": keep, "weights": given}
    merged = run(sources, "layerwise", data, base=None if keep else "base", **parameters)
    close(merged.state_dict, layerwise(states, SIMILARITY, keep or "base", threshold, temperature, given))


def test_models_are_found_by_name_and_their_order_does_not_matter(sources, states, tmp_path):
    data = measured(tmp_path / "cka", models=("b", "c", "a"), similarity=torch.tensor(SIMILARITY))
    expected = layerwise(states, SIMILARITY, "base", 1.0, 1.0, [1, 1, 1], order=("b", "c", "a"))
    close(run(sources, "layerwise", data).state_dict, expected)
    close(run(sources, "layerwise", data, models=("c", "b", "a")).state_dict, expected)


def test_without_names_the_order_is_the_recipes(sources, states, tmp_path):
    data = measured(tmp_path / "cka", models=None, cka=torch.tensor(SIMILARITY))
    close(run(sources, "layerwise", data).state_dict, layerwise(states, SIMILARITY, "base", 1.0, 1.0, [1, 1, 1]))


def test_models_that_agree_are_averaged_and_models_that_do_not_give_the_base_or_the_kept(sources, states, tmp_path):
    ones = measured(tmp_path / "ones", cka=torch.ones(3, 3, 3))
    close(run(sources, "layerwise", ones, threshold=0.5, temperature=3.0).state_dict, mean(states))
    nothing = measured(tmp_path / "nothing", cka=torch.eye(3).repeat(3, 1, 1))
    assert torch.equal(flat(run(sources, "layerwise", nothing).state_dict), flat(states["base"]))
    assert torch.equal(flat(run(sources, "layerwise", nothing, keep="c").state_dict), flat(states["c"]))


def test_one_disagreeing_layer_alone_is_left_to_the_base(sources, states, tmp_path):
    similarity = torch.ones(3, 3, 3)
    similarity[1] = torch.eye(3)
    merged = run(sources, "layerwise", measured(tmp_path / "one", cka=similarity)).state_dict
    for name, value in mean(states).items():
        expected = states["base"][name] if ".layers.0." in name else value
        torch.testing.assert_close(merged[name].double(), expected.double(), atol=2e-7, rtol=0)


def test_a_single_model_agrees_with_itself(sources, states, tmp_path):
    data = measured(tmp_path / "cka", models=("a",), cka=torch.zeros(3, 1, 1))
    close(run(sources, "layerwise", data, models=("a",)).state_dict, states["a"])


def test_trust_rises_with_agreement_threshold_and_temperature():
    agreement = torch.linspace(0, 1, 11, dtype=torch.float64)
    usual = languages.trust(agreement, 1.0, 1.0)
    assert torch.equal(usual, agreement)
    for easier in (languages.trust(agreement, 0.5, 1.0), languages.trust(agreement, 1.0, 4.0)):
        assert (easier >= usual).all()
        assert easier[0] == 0
        assert easier[-1] == 1
    assert (languages.trust(agreement, 1.0, 1e6)[1:] > 0.99).all()
    assert (languages.trust(agreement, 1.0, 1e-3)[:-1] < 1e-9).all()


@pytest.mark.parametrize(
    ("tensors", "parameters", "message"),
    [
        ({"cka": torch.ones(4, 3, 3)}, {}, r"similarities of 4 hidden states, but these models have 3"),
        ({"cka": torch.ones(3, 2, 2)}, {}, r"shape \[3, 2, 2\]; expected \[layers \+ 1, 3, 3\]"),
        ({"cka": torch.full((3, 3, 3), torch.nan)}, {}, "contain NaN"),
        ({"ckq": torch.ones(3, 3, 3)}, {}, "no tensor cka or similarity"),
        ({"cka": torch.ones(3, 3, 3)}, {"keep": "d"}, "keep: 'd' is not among the models"),
        ({"cka": torch.ones(3, 3, 3)}, {"threshold": 0}, "> 0"),
    ],
)
def test_unfit_similarities_are_refused(sources, tmp_path, tensors, parameters, message):
    with pytest.raises(ValueError, match=message):
        run(sources, "layerwise", measured(tmp_path / "cka", **tensors), **parameters)


def test_layerwise_needs_names_a_floor_and_one_measurement(sources, tmp_path):
    data = measured(tmp_path / "cka", models=("a", "b", "x"), cka=torch.ones(3, 3, 3))
    with pytest.raises(ValueError, match=r"none of \['c'\]; measure these too"):
        run(sources, "layerwise", data)
    fine = measured(tmp_path / "fine", cka=torch.ones(3, 3, 3))
    with pytest.raises(ValueError, match="needs a base, or keep"):
        run(sources, "layerwise", fine, base=None)
    with pytest.raises(ValueError, match="one measurement of all models together"):
        run(sources, "layerwise", {"a": data, "b": fine, "c": fine})
    with pytest.raises(ValueError, match=r"needs similarity measured of every model; data lacks"):
        Recipe("m", "layerwise", ALL, "base")


# ---- embedding_rows ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def counts():
    """Of 40 rows: many, few, and none at all in the last six."""
    drawn = torch.randint(0, 50, (3, VOCABULARY), generator=torch.Generator().manual_seed(4))
    drawn[0] *= 7
    drawn[:, :5] = torch.tensor([[1000], [0], [0]])
    drawn[:, -6:] = 0
    return dict(zip(ALL, drawn, strict=True))


@pytest.fixture
def counted(counts, tmp_path):
    return {m: measured(tmp_path / f"counts_{m}", (m,), counts=c) for m, c in counts.items()}


def by_rows(states, counts, alpha, relative, unused, tensors=(EMBEDDINGS,)):
    """Row by row in float64."""
    totals = {m: float(c.sum()) for m, c in counts.items()}
    factor = {m: (sum(totals.values()) / 3 / totals[m] if relative else 1.0) for m in ALL}
    result = mean(states)
    for name in tensors:
        for row in range(len(result[name])):
            given = [float(counts[m][row]) * factor[m] + alpha for m in ALL]
            if sum(given) > 0:
                rows = [w * states[m][name][row].double() for w, m in zip(given, ALL, strict=True)]
                result[name][row] = sum(rows) / sum(given)
            if unused == "base" and not any(counts[m][row] for m in ALL):
                result[name][row] = states["base"][name][row].double()
    return result


@pytest.mark.parametrize("alpha", [0.0, 1.0, 30.0])
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("unused", ["mean", "base"])
@pytest.mark.parametrize("block", [64, 5000])
def test_rows_follow_the_counts(sources, states, counts, counted, alpha, relative, unused, block):
    merged = run(sources, "embedding_rows", counted, block=block, alpha=alpha, relative=relative, unused=unused)
    close(merged.state_dict, by_rows(states, counts, alpha, relative, unused))
    assert merged.statistics["unused_rows"] == 6


def test_a_row_that_one_language_uses_is_its_own_and_the_order_of_the_models_does_not_matter(
    sources, states, counts, counted
):
    merged = run(sources, "embedding_rows", counted, alpha=0.0).state_dict
    torch.testing.assert_close(merged[EMBEDDINGS][:5], states["a"][EMBEDDINGS][:5])
    turned = run(sources, "embedding_rows", counted, models=("c", "a", "b"), alpha=0.0).state_dict
    close(merged, turned)


def test_much_smoothing_and_equal_counts_give_the_mean(sources, states, counts, counted, tmp_path):
    close(run(sources, "embedding_rows", counted, alpha=1e9).state_dict, mean(states), 1e-6)
    same = {m: measured(tmp_path / f"same_{m}", counts=counts["b"].float()) for m in ALL}
    close(run(sources, "embedding_rows", same, alpha=0.0).state_dict, mean(states))


def test_scaling_a_corpus_changes_nothing_for_relative_counts(sources, counts, counted, tmp_path):
    long = counted | {"a": measured(tmp_path / "long", counts=counts["a"] * 10)}
    one, two = (run(sources, "embedding_rows", d, alpha=0.0, relative=True).state_dict for d in (counted, long))
    close(one, two)
    raw = run(sources, "embedding_rows", long, alpha=0.0).state_dict
    assert (raw[EMBEDDINGS] - one[EMBEDDINGS]).abs().max() > 1e-3


def test_equal_models_come_back_to_the_last_bit(states, counted, tmp_path):
    same = {m: save(tmp_path / m, states["a"]) for m in ALL}
    merged = run(same, "embedding_rows", counted, base=None)
    assert torch.equal(merged.state_dict[EMBEDDINGS], states["a"][EMBEDDINGS])


def test_head_and_its_bias_go_by_rows_too_and_padding_has_no_counts(counts, counted, tmp_path):
    config = CONFIG | {"tie_word_embeddings": False}
    states = {}
    for number, name in enumerate(("base", *ALL)):
        generator = torch.Generator().manual_seed(number)
        states[name] = weights(number)
        states[name][EMBEDDINGS] = torch.randn(VOCABULARY + 8, 32, generator=generator)
        states[name]["lm_head.weight"] = torch.randn(VOCABULARY + 8, 32, generator=generator)
        states[name]["lm_head.bias"] = torch.randn(VOCABULARY + 8, generator=generator)
    sources = {name: save(tmp_path / name, state, config) for name, state in states.items()}
    padded = {m: torch.cat([c, torch.zeros(8, dtype=torch.int64)]) for m, c in counts.items()}
    names = (EMBEDDINGS, "lm_head.weight", "lm_head.bias")
    merged = run(sources, "embedding_rows", counted, alpha=0.5, unused="base", block=100)
    close(merged.state_dict, by_rows(states, padded, 0.5, False, "base", names), 5e-7)
    assert merged.statistics["unused_rows"] == 14


def test_rules_give_the_body_another_method(sources, counted):
    rule = {"part": "embeddings", "method": "embedding_rows", "parameters": {"alpha": 2.0}}
    parameters = {"density": 0.3}
    data = {m: m for m in ALL}
    recipe = Recipe("m", "ties", ALL, "base", parameters, data, rules=(rule,))
    (merged,) = state_dicts([recipe], sources, data=counted)
    rows = run(sources, "embedding_rows", counted, alpha=2.0).state_dict
    assert torch.equal(merged.state_dict[EMBEDDINGS], rows[EMBEDDINGS])
    norm = "model.norm.weight"
    assert not torch.equal(merged.state_dict[norm], rows[norm])


@pytest.mark.parametrize(
    ("tensors", "parameters", "message"),
    [
        ({"counts": torch.ones(VOCABULARY + 1)}, {}, r"at most 40 tokens, .* found shape \[41\]"),
        ({"counts": torch.ones(4, 10)}, {}, r"found shape \[4, 10\]"),
        ({"count": torch.ones(40)}, {}, "found no tensor counts"),
        ({"counts": -torch.ones(40)}, {}, "negative or not finite"),
        ({"counts": torch.full((40,), torch.inf)}, {}, "negative or not finite"),
        ({"counts": torch.ones(40)}, {"alpha": -1}, ">= 0"),
    ],
)
def test_unfit_counts_are_refused(sources, tmp_path, tensors, parameters, message):
    data = {m: measured(tmp_path / f"counts_{m}", **tensors) for m in ALL}
    with pytest.raises(ValueError, match=message):
        run(sources, "embedding_rows", data, **parameters)


def test_unused_rows_from_a_base_need_a_base(sources, counted):
    with pytest.raises(ValueError, match="unused: base, but the recipe has no base"):
        run(sources, "embedding_rows", counted, base=None, unused="base")


# ---- language_routing ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    root = tmp_path_factory.mktemp("routing")
    states = {name: weights(number, layers=12) for number, name in enumerate(ALL)}
    return states, {name: save(root / name, state) for name, state in states.items()}


@pytest.mark.parametrize(
    ("parameters", "served", "layers", "outside"),
    [
        ({"serve": "c", "upper": 2}, "c", {10, 11}, True),
        ({"serve": "b", "upper": 0}, "b", set(), True),
        ({"serve": "c", "upper": 12, "embeddings": "body"}, "c", set(range(12)), False),
        ({"serve": "b"}, "b", {9, 10, 11}, True),
    ],
)
def test_a_language_gets_its_specialists_ends(deep, parameters, served, layers, outside):
    states, sources = deep
    merged = run(sources, "language_routing", None, base=None, **parameters)
    for name, value in merged.state_dict.items():
        parts = name.split(".")
        routed = int(parts[2]) in layers if parts[1] == "layers" else outside
        assert torch.equal(value, states[served if routed else "a"][name]), name
    assert merged.statistics["served"] == served
    assert merged.statistics["layers"] == sorted(layers)


def test_the_body_may_be_another_merge_and_a_lone_specialist_need_not_be_named(deep):
    states, sources = deep
    recipes = [Recipe("body", "linear", ALL), Recipe("m", "language_routing", ("body", "b"), None, {"upper": 1})]
    body, merged = (result.state_dict for result in state_dicts(recipes, sources))
    for name, value in merged.items():
        routed = ".layers." not in name or ".layers.11." in name
        assert torch.equal(value, states["b"][name] if routed else body[name])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, r"name one of \['b', 'c'\]"),
        ({"serve": "a"}, r"'a' is not one of \['b', 'c'\]"),
        ({"serve": "b", "upper": 13}, "13 of only 12 layers"),
        ({"serve": "b", "embeddings": "mean"}, "one of specialist, body"),
    ],
)
def test_routes_that_do_not_exist_are_refused(deep, parameters, message):
    with pytest.raises(ValueError, match=message):
        Merge([Recipe("m", "language_routing", ALL, None, parameters)], deep[1])
