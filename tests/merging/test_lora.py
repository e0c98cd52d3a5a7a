"""Merging adapters into an adapter: against float64 formulas on the full changes, planted cases, invariances."""

import itertools
import json
import math

import pytest
import torch
from lora_models import DOWN, SHAPES, Q, factors, merged_products, products, save_adapter

from langmerge.catalogue.lora import LORA_METHODS, ON_DELTAS, check
from langmerge.merging import Recipe, state_dicts
from langmerge.merging.adapters import AdapterView
from langmerge.merging.lora import Adapter, merge_adapters, thin, vectors, write_adapter
from langmerge.merging.randomness import random_bits, stream_key
from langmerge.merging.reader import ModelFolder

RANKS = {"a": 4, "b": 2, "c": 5}
SCALING = {"a": 8 / 4, "b": 3 / 2, "c": 8 / math.sqrt(5)}
ALPHAS = {"a": {}, "b": {"lora_alpha": 3}, "c": {"use_rslora": True}}
SIGNED = ("ties", "dare_ties")


@pytest.fixture(scope="module")
def modules():
    """Adapter -> module -> (A, B), of different ranks; c leaves one module as it is and adapts one more."""
    made = {name: factors(seed, RANKS[name]) for seed, name in enumerate("abc", 1)}
    del made["c"][DOWN.format(0)]
    made["c"] |= factors(7, 5, {"model.layers.0.mlp.up_proj": (48, 32)})
    return made


@pytest.fixture(scope="module")
def folders(modules, tmp_path_factory):
    root = tmp_path_factory.mktemp("adapters")
    return {name: save_adapter(root / name, each, **ALPHAS[name]) for name, each in modules.items()}


@pytest.fixture(scope="module")
def deltas(modules):
    """Module -> the change of each adapter in float64, zero where it has none."""
    own = {name: products(each, SCALING[name]) for name, each in modules.items()}
    names = sorted(set().union(*own.values()))
    return {
        m: [own[n].get(m, torch.zeros_like(next(d[m] for d in own.values() if m in d))) for n in "abc"] for m in names
    }


def weighted(deltas, weights):
    return {m: sum(w * d for w, d in zip(weights, each, strict=True)) for m, each in deltas.items()}


def close(merged, expected, tolerance=2e-6):
    found = merged_products(merged)
    assert set(found) == set(expected)
    for module, value in expected.items():
        torch.testing.assert_close(found[module], value, atol=tolerance, rtol=0, msg=module)


def cut(matrix, rank):
    """The nearest matrix of this rank, by a full SVD."""
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vh[:rank]


# ---- sums ---------------------------------------------------------------------------------------------------------


def test_cat_is_the_sum_with_added_ranks(folders, deltas):
    merged = merge_adapters("cat", folders, {"weights": [0.5, -2.0, 1.0]})
    close(merged, weighted(deltas, [0.5, -2.0, 1.0]), 1e-6)
    ranks = {m: len(merged.tensors[f"base_model.model.{m}.lora_A.weight"]) for m in deltas}
    assert ranks == {
        Q.format(0): 11,
        Q.format(1): 11,
        DOWN.format(0): 6,
        DOWN.format(1): 11,
        "model.layers.0.mlp.up_proj": 5,
    }
    assert merged.statistics["total"]["distance_to_sum"] < 1e-7
    assert merged.statistics["total"]["energy_kept"] == 1.0


def test_cat_passes_b_on_as_it_is(folders, modules):
    merged = merge_adapters("cat", folders)
    for m in modules["a"]:
        own = torch.cat([modules[name][m][1] for name in "abc" if m in modules[name]], 1)
        assert torch.equal(merged.tensors[f"base_model.model.{m}.lora_B.weight"], own)


@pytest.mark.parametrize("method", ["cat", "svd", "linear"])
def test_normalised_weights(folders, deltas, method):
    merged = merge_adapters(method, folders, {"weights": [1.0, 2.0, 5.0], "normalize": True} | _full(method))
    close(merged, weighted(deltas, [1 / 8, 2 / 8, 5 / 8]))


def _full(method):
    return {"rank": 100} if method == "svd" else {}


def test_linear_is_the_exact_mean(folders, deltas):
    close(merge_adapters("linear", folders), weighted(deltas, [1 / 3] * 3))


def test_svd_at_full_rank_is_cat(folders):
    weights = {"weights": [1.0, 0.3, -0.7]}
    close(
        merge_adapters("svd", folders, {**weights, "rank": 11}),
        merged_products(merge_adapters("cat", folders, weights)),
    )


@pytest.mark.parametrize("method", ["svd", "linear"])
@pytest.mark.parametrize("rank", [1, 3, 7])
def test_truncation_is_the_best_of_its_rank(folders, deltas, method, rank):
    merged = merge_adapters(method, folders, {"rank": rank, "normalize": False})
    sums = weighted(deltas, [1.0] * 3)
    close(merged, {m: cut(value, rank) for m, value in sums.items()})
    kept = {m: torch.linalg.svdvals(value)[:rank].square().sum() / value.square().sum() for m, value in sums.items()}
    for m, share in kept.items():
        row = merged.statistics["modules"][m]
        assert row["energy_kept"] == pytest.approx(float(share), rel=1e-6)
        assert row["distance_to_sum"] == pytest.approx(math.sqrt(max(0, 1 - float(share))), abs=1e-6)
        assert row["rank"] == min(rank, 5 if "up_proj" in m else 6 if m == DOWN.format(0) else 11)


def test_default_rank_is_the_largest_of_the_inputs(folders):
    merged = merge_adapters("svd", {name: folders[name] for name in "ab"})
    assert merged.config["r"] == 4 and not merged.config["rank_pattern"]
    assert merge_adapters("svd", folders).config["r"] == 5


def test_orthogonal_rank_one_adapters(tmp_path):
    """Truncation to rank 1 keeps the stronger of two changes that share neither rows nor columns."""
    name = Q.format(0)
    x, y = torch.eye(32)[:1], torch.eye(32)[1:2]
    both = {
        "weak": save_adapter(tmp_path / "weak", {name: (x, x.T)}, lora_alpha=3),
        "strong": save_adapter(tmp_path / "strong", {name: (y, y.T)}, lora_alpha=4),
    }
    merged = merge_adapters("svd", both)
    close(merged, {name: 4.0 * (y.T @ y).double()})
    total = merged.statistics["total"]
    assert total["energy_kept"] == pytest.approx(16 / 25)
    assert total["cosines"] == [[1.0, 0.0], [0.0, 1.0]]
    assert total["delta_norms"] == {"weak": 3.0, "strong": 4.0}
    assert total["merged_norm"] == pytest.approx(4.0)


@pytest.mark.parametrize(
    "method", ["cat", "svd", "linear", "magnitude_prune", "ties", "dare_linear", "dare_ties", "knots"]
)
def test_equal_adapters_that_keep_all_give_themselves(folders, deltas, method):
    """With nothing trimmed or dropped the mean of equal changes is the change."""
    entry = LORA_METHODS[method].parameters
    settings = {"density": 1.0, "trim": 1.0, "normalize": True, "rank": 40}
    chosen = {key: value for key, value in settings.items() if key in entry}
    merged = merge_adapters(method, {"one": folders["a"], "two": folders["a"]}, chosen)
    close(merged, {m: each[0] for m, each in deltas.items() if "up_proj" not in m})


@pytest.mark.parametrize(
    "method", ["cat", "svd", "linear", "magnitude_prune", "ties", "dare_linear", "dare_ties", "knots"]
)
def test_opposite_adapters_cancel(folders, method):
    parameters = {"weights": [1.0, -1.0]}
    parameters |= {key: False for key in ("normalize",) if key in LORA_METHODS[method].parameters}
    parameters |= {"density": 1.0} if "density" in LORA_METHODS[method].parameters else {}
    if method in (*SIGNED, "knots"):
        parameters |= {"convention": "mergekit"}  # weights before the election: a tie of votes, the + entries win
    merged = merge_adapters(method, {"one": folders["a"], "two": folders["a"]}, parameters)
    if method in (*SIGNED, "knots"):
        assert merged.statistics["total"]["merged_norm"] > 0
    else:
        assert merged.statistics["total"]["merged_norm"] < 1e-6


# ---- peft's factors -----------------------------------------------------------------------------------------------


def reference_op(method, tensors, weights, density):
    """peft's combination of equally shaped tensors, entry by entry, in float64."""

    def pruned(tensor):
        flat = tensor.flatten().tolist()
        kept = set(sorted(range(len(flat)), key=lambda i: -abs(flat[i]))[: int(density * len(flat))])
        return [x if i in kept else 0.0 for i, x in enumerate(flat)]

    rows = [tensor.double().flatten().tolist() if method == "linear" else pruned(tensor.double()) for tensor in tensors]
    values = []
    for entries in zip(*rows, strict=True):
        if method != "ties":
            values.append(sum(w * x for w, x in zip(weights, entries, strict=True)))
            continue
        sign = 1 if sum(entries) >= 0 else -1
        agreeing = [w * x for w, x in zip(weights, entries, strict=True) if x * sign > 0]
        values.append(sum(agreeing) / max(1, len(agreeing)))
    return torch.tensor(values, dtype=torch.float64).view(tensors[0].shape)


@pytest.mark.parametrize("method", ["linear", "magnitude_prune", "ties"])
def test_convention_peft_merges_factors_one_by_one(tmp_path, method):
    made = {name: factors(seed) for seed, name in enumerate("abc", 1)}
    del made["c"][Q.format(1)]
    alphas = {"a": 8, "b": 3, "c": 5}
    folders = {name: save_adapter(tmp_path / name, each, lora_alpha=alphas[name]) for name, each in made.items()}
    weights = {"a": 0.5, "b": -1.5, "c": 1.0}
    parameters = {"weights": list(weights.values()), "convention": "peft"}
    parameters |= {} if method == "linear" else {"density": 0.3}
    merged = merge_adapters(method, folders, parameters)
    for m in SHAPES:
        having = [name for name in "abc" if m in made[name]]
        q = [weights[name] * alphas[name] / 4 for name in having]
        a = reference_op(method, [made[n][m][0] for n in having], [math.copysign(abs(x) ** 0.5, x) for x in q], 0.3)
        b = reference_op(method, [made[n][m][1] for n in having], [abs(x) ** 0.5 for x in q], 0.3)
        torch.testing.assert_close(merged.tensors[f"base_model.model.{m}.lora_A.weight"].double(), a, atol=1e-6, rtol=0)
        torch.testing.assert_close(merged.tensors[f"base_model.model.{m}.lora_B.weight"].double(), b, atol=1e-6, rtol=0)
    assert merged.config["r"] == merged.config["lora_alpha"] == 4


def test_cross_terms_are_named(tmp_path):
    """Two rank-1 adapters of orthogonal factors: the cross terms of peft's linear are as large as the sum."""
    name = Q.format(0)
    x, y = torch.eye(32)[:1], torch.eye(32)[1:2]
    both = {key: save_adapter(tmp_path / key, {name: (v, v.T)}, lora_alpha=1) for key, v in (("x", x), ("y", y))}
    merged = merge_adapters("linear", both, {"convention": "peft"})
    close(merged, {name: ((x + y).T @ (x + y)).double()})
    assert merged.statistics["total"]["distance_to_sum"] == pytest.approx(1.0)
    assert merge_adapters("linear", both).statistics["total"]["distance_to_sum"] == pytest.approx(0.0, abs=1e-7)


def test_factors_of_one_adapter_give_its_change_with_any_weight(folders, deltas):
    merged = merge_adapters("linear", {"a": folders["a"]}, {"convention": "peft", "weights": [-3.0]})
    close(merged, {m: -3.0 * each[0] for m, each in deltas.items() if "up_proj" not in m})


def test_factors_of_different_rank_cannot_be_merged(folders):
    with pytest.raises(ValueError, match=r"has ranks \{'a': 4, 'b': 2"):
        merge_adapters("ties", folders, {"convention": "peft"})


# ---- entries of the deltas ----------------------------------------------------------------------------------------


def trimmed(values, count, all_equal=False):
    """Entries outside the `count` largest magnitudes set to zero."""
    order = sorted(range(len(values)), key=lambda i: (-abs(values[i]), i))
    kept = set(order[:count])
    return [x if i in kept else 0.0 for i, x in enumerate(values)]


def elected(rows, weights, convention, normalize, majority=1):
    """TIES of lists of numbers that are already trimmed."""
    result = []
    for entries in zip(*rows, strict=True):
        votes = [w * x if convention == "mergekit" else x for w, x in zip(weights, entries, strict=True)]
        total = sum(votes)
        sign = math.copysign(1, total) if total else majority
        chosen = [i for i, vote in enumerate(votes) if vote * sign > 0]
        value = sum(weights[i] * entries[i] for i in chosen)
        divisor = sum(weights[i] for i in chosen) if convention != "peft_svd" else len(chosen)
        result.append(value / divisor if normalize and divisor else value)
    return result


def majority_of(rows):
    sums = [sum(entries) for entries in zip(*rows, strict=True)]
    return -1 if sum((s > 0) - (s < 0) for s in sums) < 0 else 1


def reference_ties(parts, weights, convention, density, normalize=True, count_all=False):
    """Module -> TIES of its n matrices, float64; `paper` trims over all modules together."""
    names = sorted(parts)
    n = len(parts[names[0]])
    if convention == "paper":
        flat = [torch.cat([parts[m][i].flatten() for m in names]).tolist() for i in range(n)]
        count = min(len(flat[0]), int(density * len(flat[0])) + 1)
        rows = [trimmed(values, count) if density < 1 else values for values in flat]
        merged = torch.tensor(elected(rows, weights, convention, normalize, majority_of(rows)), dtype=torch.float64)
        sizes = [parts[m][0].numel() for m in names]
        return {m: v.view(parts[m][0].shape) for m, v in zip(names, merged.split(sizes), strict=True)}
    result = {}
    for m in names:
        rows = [trimmed(d.flatten().tolist(), int(density * d.numel())) for d in parts[m]]
        values = elected(rows, weights, convention, normalize)
        result[m] = torch.tensor(values, dtype=torch.float64).view(parts[m][0].shape)
    return result


@pytest.mark.parametrize("convention", ["paper", "mergekit", "peft_svd"])
@pytest.mark.parametrize("rank", [100, 4])
def test_ties_on_deltas(folders, deltas, convention, rank):
    weights = [1.0, 0.5, 2.0]
    parameters = {"convention": convention, "density": 0.3, "weights": weights, "rank": rank}
    expected = reference_ties(deltas, weights, convention, 0.3)
    merged = merge_adapters("ties", folders, parameters)
    close(merged, {m: cut(value, rank) for m, value in expected.items()}, 5e-6)
    kept = sum(float(cut(value, rank).square().sum()) for value in expected.values())
    whole = sum(float(value.square().sum()) for value in expected.values())
    assert merged.statistics["total"]["energy_kept"] == pytest.approx(kept / whole, rel=1e-5)


def test_magnitude_prune_on_deltas(folders, deltas):
    weights = [1.0, -0.5, 2.0]
    merged = merge_adapters("magnitude_prune", folders, {"density": 0.25, "weights": weights, "rank": 100})
    expected = {}
    for m, each in deltas.items():
        rows = [trimmed(d.flatten().tolist(), int(0.25 * d.numel())) for d in each]
        values = [sum(w * x for w, x in zip(weights, entries, strict=True)) for entries in zip(*rows, strict=True)]
        expected[m] = torch.tensor(values, dtype=torch.float64).view(each[0].shape)
    close(merged, expected, 5e-6)


def dropped(deltas, density, seed):
    """Module -> the changes after DARE, with the engine's random bits of the weight of that name."""
    result = {}
    for m, each in deltas.items():
        bits = [random_bits(stream_key(seed, name, f"{m}.weight"), 0, each[0].numel()) for name in "abc"]
        masks = [(b < round(density * 2**31)).view(each[0].shape) for b in bits]
        result[m] = [d * mask / density for d, mask in zip(each, masks, strict=True)]
    return result


def test_dare_linear_on_deltas(folders, deltas):
    merged = merge_adapters("dare_linear", folders, {"density": 0.4, "seed": 5, "weights": [1, 2, 3], "rank": 100})
    close(merged, weighted(dropped(deltas, 0.4, 5), [1, 2, 3]), 5e-6)


@pytest.mark.parametrize("convention", ["mergekit", "peft_svd"])
def test_dare_ties_on_deltas(folders, deltas, convention):
    parameters = {"density": 0.4, "seed": 5, "convention": convention, "rank": 100, "rescale": "expectation"}
    expected = reference_ties(dropped(deltas, 0.4, 5), [1.0] * 3, convention, 1.0, normalize=convention != "mergekit")
    close(merge_adapters("dare_ties", folders, parameters), expected, 5e-6)


def test_deltas_are_merged_as_the_engine_merges_views(folders, modules, sources, states):
    """Same masks and thresholds as the full models that the adapters make of a base."""
    base = ModelFolder("base", sources["base"])
    views = {name: AdapterView(base, folder) for name, folder in folders.items()}
    parameters = {"density": 0.4, "seed": 5, "convention": "mergekit"}
    recipe = Recipe("merged", "dare_ties", tuple(views), "base", parameters)
    (full,) = state_dicts([recipe], {"base": base, **views})
    found = merged_products(merge_adapters("dare_ties", folders, {**parameters, "rank": 100}))
    for m, delta in found.items():
        change = full.state_dict[f"{m}.weight"].double() - states["base"][f"{m}.weight"]
        torch.testing.assert_close(delta, change, atol=5e-6, rtol=0)


@pytest.mark.parametrize("method", [method.name for method in ON_DELTAS])
def test_further_methods_on_task_vectors(folders, deltas, method):
    """Each is the engine's method on the full changes of a base that is zero."""
    merged = merge_adapters(method, folders, {"rank": 100})
    shapes = {f"{m}.weight": tuple(each[0].shape) for m, each in deltas.items()}
    sources = {
        name: vectors.Vectors(name, shapes, lambda t, i=i: deltas[t.removesuffix(".weight")][i].float())
        for i, name in enumerate("abc")
    }
    (full,) = state_dicts(
        [Recipe("m", method, ("a", "b", "c"), "zero")], {"zero": vectors.Vectors("zero", shapes), **sources}
    )
    close(merged, {m: full.state_dict[f"{m}.weight"].double() for m in deltas}, 1e-5)


# ---- KnOTS --------------------------------------------------------------------------------------------------------


def reference_parts(deltas):
    """Module -> (U, [S V_i^T]) of the full SVD of the changes side by side."""
    result = {}
    for m, each in deltas.items():
        u, s, vh = torch.linalg.svd(torch.cat(each, 1), full_matrices=False)
        k = int((s > 1e-5 * s[0]).sum())
        parts = (s[:k, None] * vh[:k]).split(each[0].shape[1], 1)
        # What is zero is only nearly so after the SVD, but an election counts it.
        result[m] = u[:, :k], [part * bool(d.any()) for part, d in zip(parts, each, strict=True)]
    return result


@pytest.mark.parametrize("convention", ["paper", "mergekit", "peft"])
@pytest.mark.parametrize("density", [1.0, 0.3])
def test_knots_ties_merges_the_parts_of_a_common_basis(folders, deltas, convention, density):
    weights = [1.0, 0.5, 2.0]
    parts = reference_parts(deltas)
    rule = "peft_svd" if convention == "peft" else convention
    merged_parts = reference_ties({m: each for m, (_, each) in parts.items()}, weights, rule, density)
    expected = {m: u @ merged_parts[m] for m, (u, _) in parts.items()}
    merged = merge_adapters("knots", folders, {"convention": convention, "density": density, "weights": weights})
    close(merged, expected, 5e-6)
    for m, (u, _) in parts.items():
        assert merged.statistics["modules"][m]["rank"] == u.shape[1]


def test_knots_linear_is_the_sum(folders, deltas):
    merged = merge_adapters("knots", folders, {"merge": "linear", "weights": [1, -2, 3], "normalize": False})
    close(merged, weighted(deltas, [1, -2, 3]))


def test_knots_of_one_adapter_is_its_change(folders, deltas):
    merged = merge_adapters("knots", {"a": folders["a"]})
    close(merged, {m: each[0] for m, each in deltas.items() if "up_proj" not in m})
    assert merged.config["r"] == 4


def test_knots_of_equal_adapters_has_their_rank(folders, deltas):
    merged = merge_adapters("knots", {"one": folders["a"], "two": folders["a"], "three": folders["a"]})
    close(merged, {m: each[0] for m, each in deltas.items() if "up_proj" not in m})
    assert merged.config["r"] == 4 and not merged.config["rank_pattern"]


@pytest.mark.parametrize("convention", ["paper", "mergekit", "peft"])
def test_knots_of_adapters_that_share_no_output_is_their_sum(tmp_path, convention):
    """Each direction of the basis belongs to one adapter; the others are no votes there, so a mean is a sum."""
    frame = torch.ones(1, 1)
    for _ in range(5):  # Hadamard: orthogonal without rounding
        frame = torch.cat([torch.cat([frame, frame], 1), torch.cat([frame, -frame], 1)])
    made = {
        name: {Q.format(0): (factors(i, 2)[Q.format(0)][0], frame[:, 2 * i : 2 * i + 2])} for i, name in enumerate("ab")
    }
    both = {name: save_adapter(tmp_path / name, each) for name, each in made.items()}
    merged = merge_adapters("knots", both, {"convention": convention})
    close(merged, {Q.format(0): sum(products(each, 4.0)[Q.format(0)] for each in made.values())})


def test_knots_truncates_to_a_rank(folders, deltas):
    parameters = {"merge": "linear", "normalize": False}
    merged = merge_adapters("knots", folders, {**parameters, "rank": 3})
    close(merged, {m: cut(value, 3) for m, value in weighted(deltas, [1, 1, 1]).items()})


def test_knots_dare_is_unbiased_over_seeds(folders, deltas):
    parameters = {"merge": "dare_ties", "density": 0.5, "convention": "mergekit"}
    one = {"a": folders["a"]}
    found = [merged_products(merge_adapters("knots", one, {**parameters, "seed": s}))[Q.format(0)] for s in range(60)]
    assert not torch.equal(found[0], found[1])
    exact = deltas[Q.format(0)][0]
    error = torch.linalg.norm(torch.stack(found).mean(0) - exact) / torch.linalg.norm(exact)
    assert error < 3 / math.sqrt(60)  # one draw is off by about its own norm


# ---- invariances --------------------------------------------------------------------------------------------------

PLAIN = [
    ("cat", {}),
    ("svd", {}),
    ("linear", {}),
    ("magnitude_prune", {}),
    ("ties", {"convention": "paper"}),
    ("ties", {"convention": "mergekit"}),
    ("ties", {"convention": "peft_svd"}),
    ("dare_linear", {}),
    ("dare_ties", {"convention": "mergekit"}),
    ("knots", {"density": 0.5}),
]


@pytest.mark.parametrize("method, parameters", PLAIN)
def test_order_of_adapters_does_not_matter(folders, method, parameters):
    weights = {"a": 1.0, "b": 0.5, "c": 2.0}
    first = None
    for order in itertools.islice(itertools.permutations("abc"), 0, None, 2):
        named = {name: folders[name] for name in order}
        merged = merge_adapters(method, named, {**parameters, "weights": [weights[name] for name in order]})
        if first is None:
            first = merged_products(merged)
        close(merged, first, 1e-5)


@pytest.mark.parametrize("method, parameters", PLAIN)
def test_scaled_adapters_give_a_scaled_merge(folders, modules, tmp_path, method, parameters):
    factor = 8.0
    scaled = {}
    for name, each in modules.items():
        own = {m: (a, factor * b) for m, (a, b) in each.items()}
        scaled[name] = save_adapter(tmp_path / name, own, **ALPHAS[name])
    expected = {m: factor * d for m, d in merged_products(merge_adapters(method, folders, parameters)).items()}
    close(merge_adapters(method, scaled, parameters), expected, 5e-5)


@pytest.mark.parametrize("method, parameters", PLAIN)
def test_zero_adapters(tmp_path, method, parameters):
    zero = {m: (a, 0 * b) for m, (a, b) in factors(1).items()}
    both = {name: save_adapter(tmp_path / name, zero) for name in "ab"}
    merged = merge_adapters(method, both, parameters)
    assert merged.statistics["total"]["merged_norm"] == 0.0
    assert merged.statistics["total"]["distance_to_sum"] is None
    assert merged.statistics["total"]["cosines"] == [[None, None], [None, None]]
    assert all(values.isfinite().all() for values in merged.tensors.values())


def test_layers_of_width_one(tmp_path):
    shapes = {"thin": (1, 6), "flat": (6, 1)}
    both = {name: save_adapter(tmp_path / name, factors(s, 2, shapes)) for s, name in enumerate("ab")}
    expected = {m: sum(products(factors(s, 2, shapes), 4.0)[m] for s in (0, 1)) for m in shapes}
    for method in ("cat", "svd", "dare_linear", "knots"):
        extra = {"density": 1.0} if method == "dare_linear" else {}
        extra |= {"merge": "linear", "normalize": False} if method == "knots" else {}
        close(merge_adapters(method, both, extra), expected, 1e-5)


# ---- thin arithmetic ----------------------------------------------------------------------------------------------


def thin_product(seed, rows, columns, rank):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, rank, generator=generator), torch.randn(rank, columns, generator=generator)


@pytest.mark.parametrize("rows, columns, rank", [(30, 20, 4), (3, 20, 8), (20, 3, 8), (1, 1, 2)])
def test_thin_norms_products_and_singular_values(rows, columns, rank):
    pair = [thin_product(seed, rows, columns, rank) for seed in (1, 2)]
    dense = [left.double() @ right.double() for left, right in pair]
    expected = torch.stack([torch.stack([(x * y).sum() for y in dense]) for x in dense])
    torch.testing.assert_close(thin.gram(pair), expected)
    assert thin.norm(pair[0]) == pytest.approx(float(dense[0].norm()))
    u, s, vh = thin.svd(pair[0])
    torch.testing.assert_close((u * s) @ vh, dense[0])
    torch.testing.assert_close(s, torch.linalg.svdvals(dense[0])[: len(s)])
    left, right = thin.total(pair, [2.0, -1.0])
    torch.testing.assert_close(left @ right, 2 * dense[0] - dense[1])


def test_norm_of_a_difference_does_not_cancel():
    left, right = (factor.double() for factor in thin_product(1, 40, 30, 3))
    difference = thin.total([(left, right), (left * (1 + 1e-9), right)], [1.0, -1.0])
    assert thin.norm(difference) == pytest.approx(1e-9 * float((left @ right).norm()), rel=1e-4)


@pytest.mark.parametrize("rows, columns", [(400, 300), (300, 400), (150, 600), (200, 1), (1, 200)])
@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_truncated_matrix_keeps_what_a_full_svd_keeps(rows, columns, decay):
    generator = torch.Generator().manual_seed(3)
    k = min(rows, columns)
    u = torch.linalg.qr(torch.randn(rows, k, generator=generator, dtype=torch.float64))[0]
    v = torch.linalg.qr(torch.randn(columns, k, generator=generator, dtype=torch.float64))[0]
    s = torch.exp(-decay * torch.arange(k, dtype=torch.float64)) * torch.linspace(1.0, 0.5, k, dtype=torch.float64)
    matrix = ((u * s) @ v.T).to(torch.float32)
    (left, right), kept = thin.truncated_matrix(matrix, 8)
    best = float(s[:8].square().sum() / s.square().sum())
    assert kept <= best * (1 + 1e-6)
    assert kept == pytest.approx(best, rel=1e-3 if decay == 0.0 else 1e-6)
    error = (left @ right - matrix.double()).square().sum() / s.square().sum()
    assert float(error) == pytest.approx(1 - kept, abs=1e-6)


def test_large_matrices_go_into_a_file(folders, monkeypatch):
    expected = merge_adapters("ties", folders)
    monkeypatch.setattr(vectors, "IN_MEMORY", 1)
    merged = merge_adapters("ties", folders)
    assert all(torch.equal(values, expected.tensors[name]) for name, values in merged.tensors.items())


# ---- the folder ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method, parameters", PLAIN)
def test_written_adapter_reads_back_as_the_merge(folders, sources, tmp_path, method, parameters):
    merged = merge_adapters(method, folders, parameters)
    write_adapter(merged, tmp_path / "merged")
    adapter = Adapter("merged", tmp_path / "merged")
    for m, delta in merged_products(merged).items():
        assert adapter.modules[m].scaling == 1.0
        a, b = adapter.factors(m)
        assert torch.equal(b.double() @ a.double(), delta)
    view = AdapterView(ModelFolder("base", sources["base"]), tmp_path / "merged")
    assert view.whole(Q.format(0) + ".weight").isfinite().all()
    assert json.loads((tmp_path / "merged/merge_statistics.json").read_text()) == merged.statistics
    with pytest.raises(FileExistsError):
        write_adapter(merged, tmp_path / "merged")


def test_configuration_and_manifest(folders):
    merged = merge_adapters("cat", folders)
    config = merged.config
    assert (config["peft_type"], config["base_model_name_or_path"]) == ("LORA", "acme/base")
    assert config["r"] == config["lora_alpha"] == 11 and config["alpha_pattern"] == config["rank_pattern"]
    assert config["target_modules"] == sorted({*SHAPES, "model.layers.0.mlp.up_proj"})
    manifest = merged.manifest
    assert manifest["method"] == "cat" and manifest["parameters"] == {"weights": None, "normalize": False}
    assert set(manifest["adapters"]) == {"a", "b", "c"}
    assert all(len(digest) == 64 for files in manifest["adapters"].values() for digest in files.values())
    assert json.loads(json.dumps(manifest)) == manifest


def test_statistics_of_the_inputs(folders, deltas):
    total = merge_adapters("cat", folders).statistics["total"]
    flat = [torch.cat([each[i].flatten() for each in deltas.values()]) for i in range(3)]
    assert total["delta_norms"] == pytest.approx({n: float(v.norm()) for n, v in zip("abc", flat, strict=True)})
    for i, j in itertools.product(range(3), repeat=2):
        assert total["cosines"][i][j] == pytest.approx(
            float(flat[i] @ flat[j] / flat[i].norm() / flat[j].norm()), abs=1e-9
        )


def test_output_type(folders, deltas):
    merged = merge_adapters("svd", folders, {"rank": 11}, dtype=torch.bfloat16)
    assert {values.dtype for values in merged.tensors.values()} == {torch.bfloat16}
    assert 0 < merged.statistics["total"]["distance_to_sum"] < 0.01
    with pytest.raises(ValueError, match="not a floating point type"):
        merge_adapters("svd", folders, dtype=torch.int8)


def test_type_that_is_too_narrow(tmp_path):
    large = save_adapter(tmp_path / "large", factors(1, spread=1e4))
    with pytest.raises(ValueError, match=r"does not fit into torch\.float16"):
        merge_adapters("cat", {"large": large}, {"weights": [100.0]}, dtype=torch.float16)


def test_embeddings_and_transposed_weights(tmp_path):
    generator = torch.Generator().manual_seed(0)
    made, folders = {}, {}
    for name in "ab":
        a, b = torch.randn(2, 40, generator=generator), torch.randn(6, 2, generator=generator)
        extra = {"wte.lora_embedding_A": a, "wte.lora_embedding_B": b}
        made[name] = 4.0 * b.double() @ a.double()
        folders[name] = save_adapter(tmp_path / name, {}, extra, r=2, fan_in_fan_out=True)
    for method, parameters in (
        ("cat", {}),
        ("dare_linear", {"density": 1.0, "rank": 4}),
        ("knots", {"merge": "linear"}),
    ):
        merged = merge_adapters(method, folders, parameters)
        a, b = (merged.tensors[f"base_model.model.wte.lora_embedding_{x}"] for x in "AB")
        expected = (made["a"] + made["b"]) * (0.5 if method == "knots" else 1.0)
        torch.testing.assert_close(b.double() @ a.double(), expected, atol=1e-5, rtol=0)
        assert merged.config["fan_in_fan_out"]
    bits = [random_bits(stream_key(0, name, "wte.weight"), 0, 240) for name in "ab"]
    masks = [(b < 2**30).view(40, 6).T for b in bits]  # the weight's own layout, (tokens, dimension)
    merged = merge_adapters("dare_linear", folders, {"rank": 6})
    a, b = (merged.tensors[f"base_model.model.wte.lora_embedding_{x}"] for x in "AB")
    expected = sum(made[n] * mask * 2 for n, mask in zip("ab", masks, strict=True))
    torch.testing.assert_close(b.double() @ a.double(), expected, atol=1e-4, rtol=0)


# ---- refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, parameters, message",
    [
        ("tiess", {}, "unknown merge method 'tiess'; did you mean 'ties'"),
        ("ties", {"densty": 0.5}, "unknown parameter 'densty'; did you mean 'density'"),
        ("ties", {"density": 0.0}, "ties.density: 0.0 is not allowed"),
        ("ties", {"convention": "pefft"}, "did you mean 'peft'"),
        ("ties", {"convention": ["peft"]}, "is not allowed"),
        ("svd", {"rank": 0}, "svd.rank: 0 is not allowed"),
        ("svd", {"weights": [1.0]}, "1 values for 3 models"),
        ("linear", {"weights": [1.0, -1.0, 0.0]}, "sum to zero"),
        ("ties", {"convention": "peft", "rank": 2}, "convention peft keeps the rank"),
        ("linear", {"convention": "peft", "rank": 2}, "convention peft keeps the rank"),
    ],
)
def test_parameters_are_checked(folders, method, parameters, message):
    with pytest.raises(ValueError, match=message):
        merge_adapters(method, folders, parameters)


def test_defaults_follow_the_convention():
    assert check("linear", {}, 2)["normalize"] is True
    assert check("linear", {"convention": "peft"}, 2)["normalize"] is False
    assert check("dare_ties", {}, 2)["trim"] == 0.2
    assert check("dare_ties", {"convention": "peft"}, 2)["trim"] == 1.0


def test_adapters_of_different_bases(folders, tmp_path):
    other = save_adapter(tmp_path / "x", factors(1), base_model_name_or_path="acme/other")
    with pytest.raises(ValueError, match="'acme/base' in adapter 'a' but 'acme/other' in adapter 'x'"):
        merge_adapters("cat", {"a": folders["a"], "x": other})
    merged = merge_adapters("cat", {"a": folders["a"], "x": other}, base="acme/copy")
    assert merged.config["base_model_name_or_path"] == "acme/copy"


@pytest.mark.parametrize(
    "extra, config, message",
    [
        ({"model.norm.weight": torch.ones(32)}, {}, "holds 'model.norm.weight' as well"),
        ({Q.format(0) + ".lora_B.bias": torch.ones(32)}, {}, "q_proj.bias' as well"),
        ({}, {"fan_in_fan_out": True}, "fan_in_fan_out is False in adapter 'a' but True in adapter 'x'"),
        ({}, {"use_dora": True}, "DoRA"),
    ],
)
def test_more_than_factors(folders, tmp_path, extra, config, message):
    other = save_adapter(tmp_path / "x", factors(1), extra, **config)
    with pytest.raises(ValueError, match=message):
        merge_adapters("cat", {"a": folders["a"], "x": other})


def test_shapes_that_differ(folders, tmp_path):
    other = save_adapter(tmp_path / "x", factors(1, shapes={Q.format(0): (32, 31)}))
    with pytest.raises(ValueError, match="a linear layer of 32 inputs and 32 outputs in adapter 'a' but"):
        merge_adapters("cat", {"a": folders["a"], "x": other})


def test_no_adapters():
    with pytest.raises(ValueError, match="no adapters"):
        merge_adapters("cat", {})
