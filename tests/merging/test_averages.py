"""Averages of weights, run by the engine on tiny models, against slow readable float64 formulas."""

import itertools
import math

import pytest
import torch
from merge_models import flat, save

from langmerge.catalogue import check
from langmerge.merging import Recipe, state_dicts
from langmerge.merging.gram import CHUNK, column_grams, gram, row_grams
from langmerge.merging.methods import averages

ALL = ("a", "b", "c")
NEAR = 3e-7


def run(sources, method, models=ALL, base="base", block=500, **parameters):
    (merged,) = state_dicts([Recipe("merged", method, models, base, parameters)], sources, block=block)
    return merged.state_dict


def close(one, other, tolerance=NEAR):
    assert set(one) == set(other)
    for name in one:
        torch.testing.assert_close(one[name].double(), other[name].double(), atol=tolerance, rtol=0, msg=name)


def folders(tmp_path, **states):
    return {name: save(tmp_path / name, state) for name, state in states.items()}


def scattered(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def grams(*vectors):
    matrix = torch.stack(vectors).double()
    return matrix @ matrix.T


def total(factors, vectors):
    return sum(float(f) * v for f, v in zip(factors, vectors, strict=True))


# ---- references: one vector at a time, float64 ----------------------------------------------------------------


def angle(x, y):
    """By half-angles of the unit vectors, which is exact for small angles too (Kahan)."""
    x, y = x / x.norm(), y / y.norm()
    return 2 * math.atan2(float((x - y).norm()), float((x + y).norm()))


def slerp(x, y, t):
    theta = angle(x, y)
    return (math.sin((1 - t) * theta) * x + math.sin(t * theta) * y) / math.sin(theta)


def logarithm(m, u):
    """The tangent at m of the great circle to u, as long as the angle."""
    tangent = u - (u @ m) * m
    return angle(m, u) * tangent / tangent.norm()


def exponential(m, tangent):
    length = tangent.norm()
    return m if length == 0 else torch.cos(length) * m + torch.sin(length) * tangent / length


def tensor_wise(states, models, merge, base=None):
    """merge(vectors) of each flattened tensor; of task vectors with a base."""
    result = {}
    for name, tensor in states["a"].items():
        start = states[base][name].double().flatten() if base else 0.0
        vectors = [states[m][name].double().flatten() - start for m in models]
        result[name] = (start + merge(vectors)).view(tensor.shape)
    return result


# ---- dot products -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 7, CHUNK, CHUNK + 3, 3 * CHUNK + 1])
def test_dot_products_are_exact_to_float64(count):
    vectors = [(scattered(seed, count) + 1).float() for seed in range(3)]
    exact = [[math.fsum((x.double() * y.double()).tolist()) for y in vectors] for x in vectors]
    torch.testing.assert_close(gram(vectors), torch.tensor(exact, dtype=torch.float64), rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (1, 5), (3, CHUNK + 1), (CHUNK // 8, 9)])
def test_dot_products_of_rows_and_columns_are_those_of_each_alone(shape):
    x, y = ((scattered(seed, *shape)).float() for seed in (1, 2))
    rows, columns = (f([x.flatten(), y.flatten()], shape[1]) for f in (row_grams, column_grams))
    pairs = [(x, x), (x, y), (y, x), (y, y)]
    expected = [(p.double() * q.double()) for p, q in pairs]
    for result, dim in ((rows, 1), (columns, 0)):
        sums = torch.stack([e.sum(dim) for e in expected], -1).view(-1, 2, 2)
        torch.testing.assert_close(result, sums, rtol=1e-12, atol=1e-10)


def test_tiny_and_huge_numbers_neither_vanish_nor_overflow():
    for size in (1e-30, 1e30):
        x = torch.full((10,), size, dtype=torch.float32)
        assert float(gram([x])[0, 0]) == pytest.approx(10 * float(x[0]) ** 2, rel=1e-12)


# ---- slerp, nuslerp -------------------------------------------------------------------------------------------


def test_slerp_at_mergekits_convention_is_straight_within_1_81_degrees():
    x, y = torch.tensor([1.0, 0.0]).double(), {}
    for degrees in (1.80, 1.83, 178.1, 178.3):
        y[degrees] = torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]).double()
    for degrees, vector in y.items():
        factors = averages.slerp_factors(grams(x, vector), 0.3, "slerp@mergekit").tolist()
        if 1.82 < degrees < 178.2:
            torch.testing.assert_close(total(factors, [x, vector]), slerp(x, vector, 0.3), atol=1e-12, rtol=0)
        else:
            assert factors == [0.7, 0.3]


def test_slerp_conventions_differ_for_near_models_only(sources, tmp_path, states):
    name = "model.layers.0.mlp.up_proj.weight"
    near = {n: t + 0.001 * (states["b"][n] - t) for n, t in states["a"].items()}
    both = folders(tmp_path, a=states["a"], near=near)
    exact, straight = (
        run(both, "slerp", ("a", "near"), None, t=0.3, convention=c)[name] for c in ("exact", "mergekit")
    )
    torch.testing.assert_close(straight, 0.7 * states["a"][name] + 0.3 * near[name], atol=1e-8, rtol=0)
    assert 0 < (exact.double() - straight.double()).abs().max() < 1e-5
    far = [run(sources, "slerp", ("a", "b"), None, t=0.3, convention=c) for c in ("exact", "mergekit")]
    close(*far, tolerance=0)


@pytest.mark.parametrize("convention", ["exact", "mergekit"])
@pytest.mark.parametrize("base", [None, "base"])
@pytest.mark.parametrize("weights", [[1, 1], [3, 1], [-1, 3]])
def test_nuslerp_of_flattened_tensors_is_slerp_at_the_second_weights_share(sources, states, convention, base, weights):
    t = weights[1] / sum(weights)
    expected = tensor_wise(states, ("a", "b"), lambda v: slerp(*v, t), base)
    close(run(sources, "nuslerp", ("a", "b"), base, weights=weights, convention=convention), expected, 1e-6)


@pytest.mark.parametrize("block", [50, 5000])
@pytest.mark.parametrize("base", [None, "base"])
@pytest.mark.parametrize("row_wise", [False, True])
def test_nuslerp_by_rows_and_columns(sources, states, row_wise, base, block):
    """mergekit's `row_wise` takes vectors along the first dimension: columns."""
    expected = {}
    for name, tensor in states["a"].items():
        start = states[base][name].double() if base else torch.zeros_like(tensor).double()
        x, y = (states[m][name].double() - start for m in "ab")
        if x.dim() == 1:
            merged = slerp(x, y, 0.25)
        elif row_wise:
            merged = torch.stack([slerp(p, q, 0.25) for p, q in zip(x.T, y.T, strict=True)]).T
        else:
            merged = torch.stack([slerp(p, q, 0.25) for p, q in zip(x, y, strict=True)])
        expected[name] = start + merged
    merged = run(sources, "nuslerp", ("a", "b"), base, block, weights=[3, 1], flatten=False, row_wise=row_wise)
    close(merged, expected, 1e-6)


@pytest.mark.parametrize("row_wise", [False, True])
def test_nuslerp_of_tensors_with_three_dimensions(tmp_path, row_wise):
    x, y = scattered(1, 4, 3, 5), scattered(2, 4, 3, 5)
    both = folders(tmp_path, x={"w": x.float()}, y={"w": y.float()})
    merged = run(both, "nuslerp", ("x", "y"), None, 7, flatten=False, row_wise=row_wise)["w"]
    expected = torch.empty_like(x)
    if row_wise:
        for i, j in itertools.product(range(3), range(5)):
            expected[:, i, j] = slerp(x[:, i, j], y[:, i, j], 0.5)
    else:
        for i, j in itertools.product(range(4), range(3)):
            expected[i, j] = slerp(x[i, j], y[i, j], 0.5)
    torch.testing.assert_close(merged.double(), expected, atol=1e-6, rtol=0)


def test_rows_of_length_one_lie_on_a_line(tmp_path):
    x, y = torch.tensor([[1.0], [2.0], [0.0]]), torch.tensor([[3.0], [-4.0], [5.0]])
    both = folders(tmp_path, x={"w": x}, y={"w": y})
    merged = run(both, "nuslerp", ("x", "y"), None, weights=[3, 1], flatten=False)["w"]
    torch.testing.assert_close(merged, 0.75 * x + 0.25 * y)


def test_next_to_a_zero_row_nuslerps_conventions_differ(tmp_path):
    """A row that one model left as the base has it: exact moves a share of the way, mergekit sin(t pi/2)."""
    zero, moved = torch.zeros(2, 3), torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.0, 1.0]])
    models = folders(tmp_path, base={"w": zero}, x={"w": zero}, y={"w": moved})
    for convention, share in (("exact", 0.5), ("mergekit", math.sin(math.pi / 4))):
        merged = run(models, "nuslerp", ("x", "y"), flatten=False, convention=convention)["w"]
        torch.testing.assert_close(merged, share * moved)


# ---- multislerp -----------------------------------------------------------------------------------------------


def multislerp(vectors, weights, normalize):
    """As described: mean direction, tangents there, one step along their mean, mean length."""
    w = [x / sum(weights) for x in weights] if normalize else weights
    units = [v / v.norm() for v in vectors]
    mean = total(w, units)
    mean = mean / mean.norm()
    step = total(w, [u - (u @ mean) * mean for u in units])
    return exponential(mean, step) * sum(x * float(v.norm()) for x, v in zip(w, vectors, strict=True))


@pytest.mark.parametrize("base", [None, "base"])
@pytest.mark.parametrize(("weights", "normalize"), [([1, 1, 1], True), ([5, 2, 1], True), ([0.5, -0.2, 1], False)])
def test_multislerp_takes_its_step_in_the_tangent_space(sources, states, base, weights, normalize):
    expected = tensor_wise(states, ALL, lambda v: multislerp(v, weights, normalize), base)
    close(run(sources, "multislerp", ALL, base, weights=weights, normalize=normalize), expected, 1e-6)


def test_multislerp_of_two_equally_long_vectors_is_slerp_half_way():
    x, y = scattered(1, 40), scattered(2, 40)
    both = grams(x, y * (x.norm() / y.norm()))
    expected = averages.slerp_factors(both, 0.5)
    torch.testing.assert_close(averages.multislerp_factors(both, [1, 1], eps=0.0), expected)


def test_multislerp_scales_with_its_vectors():
    x = [scattered(i, 50) for i in range(3)]
    factors = averages.multislerp_factors(grams(*x), [1, 2, 3], eps=0.0)
    torch.testing.assert_close(averages.multislerp_factors(grams(*[9.0 * v for v in x]), [1, 2, 3], eps=0.0), factors)


def test_multislerp_of_directions_that_cancel_is_a_straight_line(tmp_path):
    x = torch.tensor([[1.0, 2.0]])
    values = {"base": x, "a": x + 1, "b": x - 3, "c": x + 0}
    models = folders(tmp_path, **{name: {"w": value, "same": x.clone()} for name, value in values.items()})
    merged = run(models, "multislerp")
    assert torch.equal(merged["same"], x)
    torch.testing.assert_close(merged["w"], x - 2 / 3)


def test_multislerp_of_one_model_is_that_model(sources, states):
    for normalize in (True, False):
        close(run(sources, "multislerp", ("a",), None, weights=[0.3], normalize=normalize), states["a"], 0)


# ---- karcher --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, [1, 2, 4]])
def test_karcher_steps_along_the_mean_logarithm(sources, states, weights):
    w = [x / sum(weights or [1, 1, 1]) for x in weights or [1, 1, 1]]

    def karcher(vectors):
        units = [v / v.norm() for v in vectors]
        mean = total(w, units)
        mean = mean / mean.norm()
        for _ in range(10):
            step = total(w, [logarithm(mean, u) for u in units])
            if step.norm() < 1e-5:
                break
            mean = exponential(mean, step)
        return mean * sum(x * float(v.norm()) for x, v in zip(w, vectors, strict=True))

    close(run(sources, "karcher", ALL, None, weights=weights), tensor_wise(states, ALL, karcher))


def test_at_the_karcher_mean_the_logarithms_cancel():
    vectors = [scattered(i, 30) + 0.3 for i in range(5)]
    factors = averages.karcher_factors(grams(*vectors), [1, 2, 3, 4, 5], max_iter=200, tol=1e-13)
    mean = total(factors, vectors)
    mean = mean / mean.norm()
    rest = total([1, 2, 3, 4, 5], [logarithm(mean, v / v.norm()) for v in vectors])
    assert float(rest.norm()) < 1e-11


def test_the_karcher_mean_of_two_divides_their_angle_by_the_weights():
    x, y = scattered(1, 40), scattered(2, 40)
    mean = total(averages.karcher_factors(grams(x, y), [3, 1], max_iter=100, tol=1e-12), [x, y])
    assert angle(x, mean) / angle(x, y) == pytest.approx(0.25, abs=1e-9)
    assert float(mean.norm()) == pytest.approx(0.75 * float(x.norm()) + 0.25 * float(y.norm()))


def test_karcher_does_not_depend_on_the_order(sources):
    close(run(sources, "karcher", ("a", "b", "c"), None), run(sources, "karcher", ("c", "a", "b"), None), 1e-7)


def test_the_karcher_mean_of_equal_models_is_that_model(sources, states, tmp_path):
    same = sources | folders(tmp_path, twin=states["a"])
    close(run(same, "karcher", ("a", "twin"), None), states["a"], 1e-7)
    close(run(sources, "karcher", ("a",), None), states["a"], 1e-7)


def test_zero_vectors_shorten_the_karcher_mean_but_do_not_turn_it():
    x, y, zero = scattered(1, 9), scattered(2, 9), torch.zeros(9).double()
    both = total(averages.karcher_factors(grams(x, y), [1, 1]), [x, y])
    three = total(averages.karcher_factors(grams(x, zero, y), [1, 1, 1]), [x, zero, y])
    torch.testing.assert_close(three, both * 2 / 3)
    assert averages.karcher_factors(grams(zero, zero), [1, 1]).tolist() == [0, 0]
    assert averages.karcher_factors(grams(x, zero), [0, 1]).tolist() == [0, 0]


def test_the_karcher_mean_of_opposite_models_is_finite():
    x = scattered(1, 9)
    factors = averages.karcher_factors(grams(x, -x), [1, 1])
    torch.testing.assert_close(total(factors, [x, -x]), x)


# ---- Model Stock ----------------------------------------------------------------------------------------------


def shares(vectors):
    """(share by the mean cosine, share by the mean angle) of Model Stock."""
    pairs = list(itertools.combinations(vectors, 2))
    n, cosines = len(vectors), [float(x @ y / (x.norm() * y.norm())) for x, y in pairs]
    by_cosine = sum(cosines) / len(pairs)
    by_angle = math.cos(sum(math.acos(c) for c in cosines) / len(pairs))
    return [n * c / (1 + (n - 1) * c) for c in (by_cosine, by_angle)]


@pytest.fixture
def related(tmp_path):
    """Three models that share part of their task vector, as fine-tuned models do."""
    base = {"w": scattered(0, 12, 40), "v": scattered(1, 40)}
    common = {n: 0.1 * scattered(7, *t.shape) for n, t in base.items()}
    states = {"base": {n: t.float() for n, t in base.items()}}
    for seed, name in enumerate(ALL, 20):
        spread = {"a": 0.05, "b": 0.1, "c": 0.3}[name]
        states[name] = {n: (t + common[n] + spread * scattered(seed, *t.shape)).float() for n, t in base.items()}
    return states, folders(tmp_path, **states)


@pytest.mark.parametrize("models", [("a", "b"), ALL])
@pytest.mark.parametrize(("convention", "index"), [("paper", 0), ("mergekit", 0), ("fusion_bench", 1)])
def test_model_stock_moves_the_stated_share_towards_the_mean(related, models, convention, index):
    states, sources = related
    expected = tensor_wise(states, models, lambda v: shares(v)[index] * sum(v) / len(v), "base")
    close(run(sources, "model_stock", models, convention=convention), expected)


def test_model_stock_by_filter_has_a_share_for_each_row(related):
    states, sources = related
    expected = {}
    for name in ("w", "v"):
        start = states["base"][name].double()
        deltas = [(states[m][name].double() - start).view(-1, 40) for m in ALL]
        rows = [max(0.0, shares(v)[0]) * sum(v) / 3 for v in zip(*deltas, strict=True)]
        expected[name] = start + torch.stack(rows).view(start.shape)
    close(run(sources, "model_stock", filter_wise=True, block=100), expected)
    assert not torch.allclose(run(sources, "model_stock")["w"], expected["w"].float(), atol=1e-4)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_model_stock_finds_the_centre_that_its_geometry_supposes(n):
    """Experts around a centre, equally far and at right angles to one another and to the base: the paper's picture.

    The estimate is then the projection of the centre on the plane of base and experts.
    """
    space = torch.linalg.qr(scattered(3, 20, 20))[0]
    centre, noise = 2.0 * space[0], [1.5 * space[i + 1] for i in range(n)]
    deltas = [centre + e for e in noise]
    share = float(averages.model_stock_share(grams(*deltas)))
    basis = torch.linalg.qr(torch.stack(deltas).T)[0]
    torch.testing.assert_close(share * sum(deltas) / n, basis @ (basis.T @ centre))


def test_where_task_vectors_disagree_the_paper_keeps_the_base_and_mergekit_moves_away():
    x, y = torch.tensor([1.0, 0.0]), torch.tensor([-0.5, 1.0])
    shares = {c: float(averages.model_stock_share(grams(x, y), c)) for c in ("paper", "mergekit", "fusion_bench")}
    cosine = -0.5 / math.sqrt(1.25)
    assert shares["paper"] == 0
    assert shares["mergekit"] == pytest.approx(2 * cosine / (1 + cosine))
    assert shares["fusion_bench"] == pytest.approx(2 * cosine / (1 + cosine))


@pytest.mark.parametrize("convention", ["paper", "mergekit"])
def test_model_stock_of_opposite_task_vectors_keeps_the_base(convention):
    x = torch.tensor([3.0, 4.0])
    assert float(averages.model_stock_share(grams(x, -x), convention)) == 0


@pytest.mark.parametrize("convention", ["paper", "mergekit", "fusion_bench"])
def test_model_stock_of_equal_and_of_zero_task_vectors(convention):
    x, zero = torch.tensor([3.0, 4.0]), torch.zeros(2)
    assert float(averages.model_stock_share(grams(x, x, x), convention)) == pytest.approx(1, abs=1e-8)
    assert float(averages.model_stock_share(grams(zero, zero), convention)) == pytest.approx(0, abs=1e-15)
    assert float(averages.model_stock_share(grams(x, zero), convention)) == pytest.approx(0, abs=1e-15)


def test_mergekits_model_stock_takes_small_task_vectors_for_orthogonal():
    x, y = 1e-5 * torch.tensor([1.0, 1.0, 1.0]), 1e-5 * torch.tensor([1.0, 1.0, 0.9])
    assert float(averages.model_stock_share(grams(x, y), "paper")) == pytest.approx(shares([x, y])[0], abs=1e-6)
    assert float(averages.model_stock_share(grams(x, y), "mergekit")) < 0.001


@pytest.mark.parametrize("filter_wise", [False, True])
def test_model_stock_does_not_depend_on_the_order(related, filter_wise):
    _, sources = related
    one, other = (run(sources, "model_stock", m, filter_wise=filter_wise) for m in (ALL, ("c", "a", "b")))
    close(one, other)


# ---- all --------------------------------------------------------------------------------------------------------

RECIPES = [
    Recipe("slerp", "slerp", ("b", "a"), None, {"t": 0.2}),
    Recipe("circle", "slerp", ("a", "c"), None),
    Recipe("flat", "nuslerp", ("a", "b"), "base"),
    Recipe("rows", "nuslerp", ("a", "c"), "base", {"flatten": False}),
    Recipe("columns", "nuslerp", ("c", "a"), None, {"flatten": False, "row_wise": True}),
    Recipe("many", "multislerp", ALL, "base"),
    Recipe("karcher", "karcher", ("c", "b", "a")),
    Recipe("stock", "model_stock", ("b", "c"), "base"),
    Recipe("filters", "model_stock", ALL, "base", {"filter_wise": True}),
    Recipe("on_recipes", "karcher", ("slerp", "stock", "many")),
    Recipe("from_recipe", "model_stock", ("karcher", "a"), "flat"),
]


@pytest.mark.parametrize("block", [33, 700, 100_000])
def test_recipes_that_share_dot_products_equal_those_computed_alone(sources, block):
    alone = {m.recipe.name: m.state_dict for m in state_dicts(RECIPES, sources, together=1)}
    for merged in state_dicts(RECIPES, sources, together=99, block=block):
        close(merged.state_dict, alone[merged.recipe.name], 1e-7)


def test_rules_may_change_the_way_of_averaging(sources, states):
    rules = ({"part": "norms", "method": "linear"}, {"layers": [1], "parameters": {"filter_wise": True}})
    recipe = Recipe("r", "model_stock", ALL, "base", {}, {}, rules)
    (merged,) = state_dicts([recipe], sources, block=300)
    whole, rows, mean = (
        run(sources, "model_stock"),
        run(sources, "model_stock", filter_wise=True),
        run(sources, "linear"),
    )
    expected = {n: mean[n] if "norm" in n else rows[n] if "layers.1." in n else whole[n] for n in mean}
    close(merged.state_dict, expected, 1e-7)
    assert not torch.equal(flat(whole), flat(rows))


@pytest.mark.parametrize(
    ("method", "parameters", "message"),
    [
        ("nuslerp", {"weights": [1, -1]}, "sum to zero"),
        ("nuslerp", {"row_wise": True}, "set flatten: false"),
        ("multislerp", {"weights": [1, -1]}, "sum to zero"),
        ("karcher", {"weights": [0, 0]}, "sum to zero"),
        ("karcher", {"weights": [-1, 2]}, ">= 0"),
        ("slerp", {"convention": "paper"}, "one of exact, mergekit"),
    ],
)
def test_weights_without_a_meaning_are_refused(method, parameters, message):
    with pytest.raises(ValueError, match=message):
        check(method, parameters, 2)


def test_mergekits_nuslerp_goes_half_way_where_weights_cancel(sources):
    half = run(sources, "nuslerp", ("a", "b"), None, convention="mergekit")
    close(run(sources, "nuslerp", ("a", "b"), None, convention="mergekit", weights=[1, -1]), half, 0)
