"""The spectral methods run by the engine: which tensors they see whole, weights, masks, sharing, refusals."""

import pytest
import torch
from merge_models import save, weights
from spectral_merges import exact, iso_c, iso_cts, knots, known, same, tsv_m

from langmerge.merging import Recipe, state_dicts
from langmerge.merging.methods import wudi

ALL = ("a", "b", "c")


def merged(sources, method, models=ALL, block=500, **parameters):
    (result,) = state_dicts([Recipe("merged", method, models, "base", parameters)], sources, block=block)
    return result.state_dict


def task(states, name, model):
    return states[model][name] - states["base"][name]


MATRIX, VECTOR, TOKENS = "model.layers.0.mlp.up_proj.weight", "model.norm.weight", "model.embed_tokens.weight"


@pytest.mark.parametrize(
    ("method", "parameters", "function"),
    [
        ("tsv_m", {}, tsv_m),
        ("iso_c", {}, iso_c),
        ("iso_cts", {}, lambda matrices: iso_cts(matrices, 0.8)),
        ("knots", {"density": 0.4}, lambda matrices: knots(matrices, density=0.4)),
        ("knots", {"inner": "linear"}, lambda matrices: knots(matrices, "linear")),
        ("wudi", {"solver": "exact"}, exact),
        ("wudi", {"steps": 20}, lambda m: wudi.descend(sum(m), wudi.quadratic(m, known(m), [1.0] * 3), 20, 1e-5)),
    ],
)
def test_matrices_are_merged_whole_and_vectors_and_tokens_averaged(sources, states, method, parameters, function):
    result = merged(sources, method, scale=0.7, **parameters)
    for name, base in states["base"].items():
        deltas = [task(states, name, m) for m in ALL]
        spectral_one = base.ndim == 2 and name != TOKENS
        expected = function(deltas) if spectral_one else sum(deltas) / 3
        same(result[name] - base, 0.7 * expected, 1e-4)


@pytest.mark.parametrize("method", ["tsv_m", "iso_c", "iso_cts", "knots", "wudi"])
def test_embeddings_can_be_merged_as_matrices(sources, states, method):
    average, matrix = merged(sources, method), merged(sources, method, embeddings="spectral")
    for name in average:
        assert torch.equal(average[name], matrix[name]) == (name != TOKENS)
    if method == "tsv_m":
        same(matrix[TOKENS] - states["base"][TOKENS], tsv_m([task(states, TOKENS, m) for m in ALL]), 1e-4)


def test_weights(sources, states):
    result = merged(sources, "tsv_m", weights=[2, 0, -1])
    a, _, c = (task(states, MATRIX, m) for m in ALL)
    zero = torch.zeros_like(a)
    same(result[MATRIX] - states["base"][MATRIX], tsv_m([2 * a, zero, -c]), 1e-4)
    vectors = [task(states, VECTOR, m) for m in ALL]
    same(result[VECTOR] - states["base"][VECTOR], (2 * vectors[0] - vectors[2]) / 3, 1e-4)
    total = merged(sources, "iso_c", weights=[2, 0, -1])
    same(total[MATRIX] - states["base"][MATRIX], iso_c([2 * a, -c]), 1e-4)
    both = merged(sources, "iso_cts", weights=[2, 0, -1], common_space_fraction=0.5)
    same(both[MATRIX] - states["base"][MATRIX], iso_cts([2 * a, zero, -c]), 1e-4)
    one = merged(sources, "wudi", weights=[0, 3, 0], solver="exact")
    same(one[MATRIX] - states["base"][MATRIX], task(states, MATRIX, "b"), 1e-3)
    same(one[VECTOR] - states["base"][VECTOR], vectors[1], 1e-4)


def test_knots_with_dare_drops_from_the_aligned_parts(sources, states):
    base = states["base"][MATRIX]
    full = merged(sources, "knots")[MATRIX]
    same(merged(sources, "knots", inner="dare_ties", density=1.0)[MATRIX] - base, full - base, 1e-4)
    one, other = (merged(sources, "knots", inner="dare_ties", seed=seed)[MATRIX] for seed in (1, 2))
    assert not torch.equal(one, other)
    assert torch.equal(one, merged(sources, "knots", inner="dare_ties", seed=1, density=0.2, block=64)[MATRIX])
    draws = [
        merged(sources, "knots", ("a",), inner="dare_ties", density=0.5, seed=seed)[MATRIX] - base for seed in range(40)
    ]
    a = task(states, MATRIX, "a")
    assert float((sum(draws) / 40 - a).norm() / a.norm()) < 1.3 * 40**-0.5
    assert float((draws[0] - a).norm() / a.norm()) == pytest.approx(1, abs=0.15)


def test_recipes_of_a_grid_share_their_spectra(sources, monkeypatch):
    seen = []
    plain = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda x: seen.append(x.shape) or plain(x))
    recipes = [Recipe(f"s{scale}", "tsv_m", ALL, "base", {"scale": scale}) for scale in (0.5, 1.0, 2.0)]
    recipes.append(Recipe("pair", "tsv_m", ("a", "b"), "base"))
    half, one, double, _ = state_dicts(recipes, sources)
    matrices = [n for n, x in one.state_dict.items() if x.ndim == 2 and n != TOKENS]
    assert len(seen) == len(matrices) * (3 + 2 + 2)
    same(
        one.state_dict[MATRIX] - half.state_dict[MATRIX], (double.state_dict[MATRIX] - one.state_dict[MATRIX]) / 2, 1e-4
    )


def test_tensors_of_three_dimensions_are_flattened_to_rows(tmp_path):
    name, flat_name = "model.layers.0.experts.weight", "model.layers.0.mlp.up_proj.weight"
    folders = {}
    for i, model in enumerate(("base", *ALL)):
        values = weights(0)
        values[name] = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(i))
        values[flat_name] = values[name].reshape(10, 8).clone()
        folders[model] = save(tmp_path / model, values)
    result = merged(folders, "iso_c")
    assert torch.equal(result[name].reshape(10, 8), result[flat_name])


@pytest.mark.parametrize("method", ["tsv_m", "knots"])
def test_one_model_is_returned(sources, states, method):
    result = merged(sources, method, ("a",))
    for name in result:
        torch.testing.assert_close(result[name], states["a"][name], atol=1e-8, rtol=1e-6)


def test_parameters_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="all zero"):
        Recipe("x", "wudi", ALL, "base", {"weights": [0, 0, 0]})
    with pytest.raises(ValueError, match="sum to zero"):
        Recipe("x", "knots", ALL, "base", {"weights": [1, 0, -1]})
    with pytest.raises(ValueError, match="tolerance"):
        Recipe("x", "iso_c", ALL, "base", {"tolerance": 1e-9})
    with pytest.raises(ValueError, match="average"):
        Recipe("x", "iso_c", ALL, "base", {"embeddings": "mean"})
    with pytest.raises(ValueError, match="weights"):
        Recipe("x", "wudi", ALL, "base", {"weights": [1, -1, 1]})
