"""Fisher-weighted average and RegMean, run by the engine on tiny models, against slow float64 formulas."""

import pytest
import torch
from merge_models import CONFIG, HIDDEN, save, weights
from safetensors.torch import save_file

from langmerge.merging import Recipe, state_dicts
from langmerge.merging.methods.data_driven import ridge_factor

ALL = ("a", "b", "c")


def run(sources, data, method, models=ALL, block=500, rules=(), **parameters):
    named = {model: f"{model}.data" for model in models}
    recipe = Recipe("merged", method, models, None, parameters, named, rules)
    (merged,) = state_dicts([recipe], sources, data=data, block=block)
    return merged.state_dict


def close(one, other, tolerance=3e-7):
    assert set(one) == set(other)
    for name in one:
        torch.testing.assert_close(one[name].double(), other[name].double(), atol=tolerance, rtol=0, msg=name)


def folders(root, measured):
    """Folders of measured tensors by `<model>.data`."""
    made = {}
    for model, tensors in measured.items():
        folder = root / f"{model}.data"
        folder.mkdir()
        save_file(tensors, folder / "model.safetensors")
        made[f"{model}.data"] = folder
    return made


# ---- Fisher ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def informations(states):
    """Positive random entries over many orders of magnitude, of another size for each model."""
    generator = torch.Generator().manual_seed(7)
    return {
        model: {
            name: 10.0 ** (torch.rand(tensor.shape, generator=generator) * 6 - 9 + i) for name, tensor in state.items()
        }
        for i, (model, state) in enumerate((m, states[m]) for m in ALL)
    }


@pytest.fixture(scope="module")
def fisher_data(informations, tmp_path_factory):
    return folders(tmp_path_factory.mktemp("fisher"), informations)


def fisher_reference(states, informations, given, floor, normalize, models=ALL):
    """sum w F m / sum w F in float64, after normalisation and with the floor in units of the mean entry."""
    scaled = {}
    for model in models:
        entries = torch.cat([f.double().flatten() for f in informations[model].values()])
        norm = (entries**2).sum().sqrt() if normalize else 1.0
        scaled[model] = {name: f.double() / norm for name, f in informations[model].items()}
    means = [torch.cat([f.flatten() for f in scaled[model].values()]).mean() for model in models]
    added = floor * sum(means) / len(means)
    result = {}
    for name in states[models[0]]:
        parts = [w * (scaled[m][name] + added) for w, m in zip(given, models, strict=True)]
        result[name] = sum(p * states[m][name].double() for p, m in zip(parts, models, strict=True)) / sum(parts)
    return result


@pytest.mark.parametrize("convention", ["model", "none"])
@pytest.mark.parametrize(("given", "floor"), [([1, 1, 1], 1e-6), ([2, 0.5, 0], 1e-2)])
def test_fisher_is_the_average_weighted_by_information(
    sources, states, informations, fisher_data, convention, given, floor
):
    merged = run(sources, fisher_data, "fisher", weights=given, floor=floor, convention=convention)
    close(merged, fisher_reference(states, informations, given, floor, convention == "model"))


@pytest.mark.parametrize("block", [40, 500, 10_000])
def test_fisher_does_not_depend_on_blocks_or_the_order_of_models(sources, fisher_data, block):
    close(run(sources, fisher_data, "fisher", block=block), run(sources, fisher_data, "fisher", ("c", "a", "b")))


def test_models_that_use_different_parameters_are_both_kept(tmp_path, states, sources):
    """Planted: each model's information is in its own half of every tensor."""
    measured = {
        model: {name: torch.zeros_like(tensor) for name, tensor in states[model].items()} for model in ("a", "b")
    }
    for name, tensor in states["a"].items():
        half = tensor.numel() // 2
        measured["a"][name].view(-1)[:half] = 3e-9
        measured["b"][name].view(-1)[half:] = 5e-7
    merged = run(sources, folders(tmp_path, measured), "fisher", ("a", "b"), floor=1e-9)
    for name, tensor in merged.items():
        half = tensor.numel() // 2
        expected = torch.cat([states["a"][name].flatten()[:half], states["b"][name].flatten()[half:]])
        torch.testing.assert_close(tensor.flatten(), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("convention", ["model", "none"])
def test_without_any_information_fisher_is_the_average(tmp_path, states, sources, convention):
    nothing = {model: {n: torch.zeros_like(t) for n, t in states[model].items()} for model in ALL}
    merged = run(sources, folders(tmp_path, nothing), "fisher", convention=convention, weights=[1, 2, 1])
    close(merged, {n: (states["a"][n] + 2 * states["b"][n].double() + states["c"][n]) / 4 for n in states["a"]})


def test_where_all_informations_vanish_fisher_is_the_average(tmp_path, states, sources, informations):
    part = {model: {**informations[model], "model.norm.weight": torch.zeros(HIDDEN)} for model in ALL}
    merged = run(sources, folders(tmp_path, part), "fisher")
    mean = sum(states[m]["model.norm.weight"].double() for m in ALL) / 3
    torch.testing.assert_close(merged["model.norm.weight"].double(), mean, rtol=0, atol=1e-7)


@pytest.mark.parametrize("factor", [1e-12, 1e12])
def test_the_size_of_a_models_information_does_not_matter_if_normalised(
    tmp_path, sources, informations, fisher_data, factor
):
    scaled = {**informations, "a": {name: f * factor for name, f in informations["a"].items()}}
    data = folders(tmp_path, scaled)
    close(run(sources, data, "fisher"), run(sources, fisher_data, "fisher"))
    everything = {m: {name: f * factor for name, f in informations[m].items()} for m in ALL}
    (tmp_path / "all").mkdir()
    data = folders(tmp_path / "all", everything)
    close(run(sources, data, "fisher", convention="none"), run(sources, fisher_data, "fisher", convention="none"))


@pytest.mark.parametrize("method", ["fisher", "regmean"])
def test_equal_models_are_recovered_to_the_bit(tmp_path, states, method, informations, grams):
    sources = {model: save(tmp_path / model, states["a"]) for model in ALL}
    data = folders(tmp_path, informations if method == "fisher" else grams)
    for name, tensor in run(sources, data, method).items():
        assert torch.equal(tensor, states["a"][name]), name


def test_one_model_is_itself(sources, states, fisher_data, regmean_data):
    for method, data in (("fisher", fisher_data), ("regmean", regmean_data)):
        close(run(sources, data, method, ("b",)), states["b"], 0)


def test_informations_of_another_model_are_refused(tmp_path, sources, informations):
    lacking = {m: {n: t for n, t in informations[m].items() if n != "model.norm.weight"} for m in ALL}
    with pytest.raises(ValueError, match=r"data 'a\.data': expected the Fisher information of 'model\.norm\.weight'"):
        run(sources, folders(tmp_path, lacking), "fisher")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_informations_that_are_no_squares_are_refused(tmp_path, sources, informations, value):
    broken = torch.full((HIDDEN,), 1e-9)
    broken[3] = value
    measured = {**informations, "b": {**informations["b"], "model.norm.weight": broken}}
    with pytest.raises(ValueError, match=r"data 'b\.data': tensor 'model\.norm\.weight' has entries that are negative"):
        run(sources, folders(tmp_path, measured), "fisher")


def test_data_that_is_not_named_is_refused():
    with pytest.raises(ValueError, match="needs fisher measured of every model; data lacks"):
        Recipe("merged", "fisher", ALL, data={"a": "x"})
    with pytest.raises(ValueError, match="all zero"):
        Recipe("merged", "fisher", ("a",), parameters={"weights": [0]}, data={"a": "x"})


# ---- RegMean -----------------------------------------------------------------------------------------------------


def inputs_of(states, rows):
    """Random correlated inputs (rows, d) of every linear map, by model and name."""
    generator = torch.Generator().manual_seed(11)
    return {
        model: {
            name: torch.randn(rows, tensor.shape[1], generator=generator, dtype=torch.float64)
            @ torch.randn(tensor.shape[1], tensor.shape[1], generator=generator, dtype=torch.float64)
            for name, tensor in states[model].items()
            if name.endswith("proj.weight")
        }
        for model in ALL
    }


@pytest.fixture(scope="module")
def inputs(states):
    return inputs_of(states, 200)


@pytest.fixture(scope="module")
def grams(inputs):
    return {m: {n: (x.T @ x / len(x)).float() for n, x in tensors.items()} for m, tensors in inputs.items()}


@pytest.fixture(scope="module")
def regmean_data(grams, tmp_path_factory):
    return folders(tmp_path_factory.mktemp("gram"), grams)


def test_regmean_minimises_the_distance_of_outputs(sources, states, inputs, regmean_data):
    """Least squares in float64 over the stacked inputs, without Gram matrices; other tensors: the average."""
    merged = run(sources, regmean_data, "regmean", off_diagonal=1.0, ridge=1e-12)
    for name, tensor in merged.items():
        if name not in inputs["a"]:
            mean = sum(states[m][name].double() for m in ALL) / 3
            torch.testing.assert_close(tensor.double(), mean, rtol=0, atol=1e-7)
            continue
        x = torch.cat([inputs[m][name] for m in ALL])
        y = torch.cat([inputs[m][name] @ states[m][name].double().T for m in ALL])
        expected = torch.linalg.lstsq(x, y).solution.T
        torch.testing.assert_close(tensor.double(), expected, rtol=0, atol=2e-6)

        def distance(w, name=name):
            return sum(float((inputs[m][name] @ (w - states[m][name].double()).T).square().sum()) for m in ALL)

        mean = sum(states[m][name].double() for m in ALL) / 3
        best = distance(tensor.double())
        assert best < distance(mean) and all(best < distance(states[m][name].double()) for m in ALL)


@pytest.mark.parametrize(("off_diagonal", "given", "ridge"), [(0.9, [1, 1, 1], 1e-6), (0.3, [2, 0.5, 0], 1e-2)])
def test_regmean_follows_its_formula(sources, states, grams, regmean_data, off_diagonal, given, ridge):
    """With its parameters: an explicit inverse, in float64."""
    merged = run(sources, regmean_data, "regmean", off_diagonal=off_diagonal, weights=given, ridge=ridge)
    for name in grams["a"]:
        scaled = {}
        for m in ALL:
            g = grams[m][name].double()
            scaled[m] = off_diagonal * g + (1 - off_diagonal) * torch.diag(torch.diag(g))
        total = sum(w * scaled[m] for w, m in zip(given, ALL, strict=True))
        eye = ridge * total.diagonal().mean() * torch.eye(len(total), dtype=torch.float64)
        mean = sum(w * states[m][name].double() for w, m in zip(given, ALL, strict=True)) / sum(given)
        weighted = sum(w * states[m][name].double() @ scaled[m] for w, m in zip(given, ALL, strict=True))
        expected = (weighted + mean @ eye) @ torch.linalg.inv(total + eye)
        torch.testing.assert_close(merged[name].double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("block", [1, 100, 10_000])
def test_regmean_does_not_depend_on_blocks_or_the_order_of_models(sources, regmean_data, block):
    whole = run(sources, regmean_data, "regmean", ("c", "a", "b"), block=1 << 20)
    close(run(sources, regmean_data, "regmean", block=block), whole)


def test_with_the_diagonal_alone_regmean_weighs_columns(sources, states, grams, regmean_data):
    """off_diagonal 0: each column is averaged with the mean squares of its input feature."""
    merged = run(sources, regmean_data, "regmean", off_diagonal=0.0, ridge=1e-12)
    for name in grams["a"]:
        squares = {m: grams[m][name].double().diagonal() for m in ALL}
        expected = sum(states[m][name].double() * squares[m] for m in ALL) / sum(squares.values())
        torch.testing.assert_close(merged[name].double(), expected, rtol=0, atol=1e-7)


def test_directions_without_inputs_keep_the_average(tmp_path, states, sources):
    """Fewer tokens than features: singular sums are solved, exact on the inputs and the average outside them."""
    few = inputs_of(states, 3)
    grams = {m: {n: (x.T @ x / len(x)).float() for n, x in tensors.items()} for m, tensors in few.items()}
    merged = run(sources, folders(tmp_path, grams), "regmean", off_diagonal=1.0, ridge=1e-3)
    for name in grams["a"]:
        mean = sum(states[m][name].double() for m in ALL) / 3
        x = torch.cat([few[m][name] for m in ALL])
        _, _, basis = torch.linalg.svd(x)
        unseen = basis[len(x) :]
        change = merged[name].double() - mean
        assert float((change @ unseen.T).abs().max()) < 1e-5
        assert float((change @ basis[: len(x)].T).abs().max()) > 1e-3


def test_maps_that_read_nothing_are_averaged(tmp_path, states, sources, grams):
    nothing = {m: {n: torch.zeros_like(g) for n, g in tensors.items()} for m, tensors in grams.items()}
    merged = run(sources, folders(tmp_path, nothing), "regmean")
    close(merged, {n: sum(states[m][n].double() for m in ALL) / 3 for n in states["a"]})


def test_a_rule_can_restrict_regmean_to_a_part(sources, states, regmean_data, grams):
    full = run(sources, regmean_data, "regmean")
    rule = {"part": "attention", "method": "linear"}
    merged = run(sources, regmean_data, "regmean", rules=(rule,))
    for name in full:
        if "attn" in name:
            mean = sum(states[m][name].double() for m in ALL) / 3
            torch.testing.assert_close(merged[name].double(), mean, rtol=0, atol=1e-7)
        else:
            assert torch.equal(merged[name], full[name])


def test_a_matrix_that_rounding_made_indefinite_is_still_factored():
    x = torch.randn(3, 60, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 1e3
    rounded = (x.T @ x).float()
    assert float(torch.linalg.eigvalsh(rounded.double())[0]) < 0
    factor = ridge_factor([rounded], [1.0], 1e-15)
    assert torch.isfinite(factor).all()
    error = factor @ factor.T - rounded.double()
    assert float(error.abs().max()) < 1e-4 * float(rounded.abs().max())


def test_gram_matrices_of_another_model_are_refused(tmp_path, sources, grams):
    name = "model.layers.0.mlp.up_proj.weight"
    lacking = {**grams, "c": {n: g for n, g in grams["c"].items() if n != name}}
    with pytest.raises(
        ValueError, match=r"data 'c\.data': expected the Gram matrix of 'model\.layers\.0\.mlp\.up_proj"
    ):
        run(sources, folders(tmp_path, lacking), "regmean")


def test_bf16_models_are_computed_in_wider_types(tmp_path, regmean_data, grams):
    base = weights(0)
    states = {m: weights(i, base, 0.02, torch.bfloat16) for i, m in enumerate(ALL, 1)}
    sources = {m: save(tmp_path / m, state, CONFIG) for m, state in states.items()}
    merged = run(sources, regmean_data, "regmean")
    wide = {m: save(tmp_path / f"{m}32", {n: t.float() for n, t in state.items()}) for m, state in states.items()}
    exact = run(wide, regmean_data, "regmean")
    assert all(torch.equal(merged[name], exact[name].bfloat16()) for name in merged)


# ---- searches ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["adamerging", "greedy_soup"])
def test_a_search_is_not_a_recipe_that_can_be_merged(sources, method):
    with pytest.raises(ValueError, match="searches for a recipe on held-out data, so only a study can run it"):
        next(state_dicts([Recipe("merged", method, ALL, "base")], sources))
