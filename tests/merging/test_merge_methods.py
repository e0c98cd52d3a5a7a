"""Each method, run by the engine on tiny models, against a slow readable float64 formula."""

import math

import pytest
import torch
from merge_models import flat, save

from langmerge.merging import Recipe, state_dicts
from langmerge.merging.methods import averages, task_vectors
from langmerge.merging.randomness import hash_on_device, random_bits, run_keys, stream_key

ALL = ("a", "b", "c")


def run(sources, method, models=ALL, base="base", block=500, **parameters):
    recipe = Recipe("merged", method, models, base, parameters)
    (merged,) = state_dicts([recipe], sources, block=block)
    return merged.state_dict


def close(one, other, tolerance=2e-7):
    assert set(one) == set(other)
    for name in one:
        torch.testing.assert_close(
            one[name].to(torch.float64), other[name].to(torch.float64), atol=tolerance, rtol=0, msg=name
        )


# ---- references: one entry at a time, float64, plain Python -------------------------------------------------


def reference_ties(deltas, weights, scale, convention, normalize, majority):
    """Election and disjoint mean of already trimmed lists of numbers."""
    merged = []
    for entries in zip(*deltas, strict=True):
        votes = [w * d if convention == "mergekit" else d for w, d in zip(weights, entries, strict=True)]
        total = sum(votes)
        sign = math.copysign(1, total) if total else (majority if convention == "paper" else 1)
        chosen = [i for i, vote in enumerate(votes) if vote * sign > 0]
        value = sum(weights[i] * entries[i] for i in chosen)
        divisor = len(chosen) if convention == "peft" else sum(weights[i] for i in chosen)
        merged.append(scale * (value / divisor if normalize and divisor else value))
    return torch.tensor(merged, dtype=torch.float64)


def keep_largest(values, count, all_equal):
    """Values outside the `count` largest magnitudes set to 0; equal ones: lowest index first, or all."""
    order = sorted(range(len(values)), key=lambda i: (-abs(values[i]), i))
    kept = set(order[:count])
    if all_equal and count:
        kept = {i for i in range(len(values)) if abs(values[i]) >= abs(values[order[count - 1]])}
    return [value if i in kept else 0.0 for i, value in enumerate(values)]


def reference_model(states, weights, scale, convention, density, normalize, models=ALL, deltas=None):
    names = sorted(states["base"])
    deltas = deltas or {m: {n: (states[m][n] - states["base"][n]).flatten() for n in names} for m in models}
    if convention == "paper":
        trimmed = []
        for m in models:
            vector = torch.cat([deltas[m][n] for n in names]).tolist()
            count = len(vector) if density == 1 else int(density * len(vector)) + 1
            trimmed.append(keep_largest(vector, count, all_equal=True))
        elected = [math.copysign(1, s) if (s := sum(entries)) else 0 for entries in zip(*trimmed, strict=True)]
        majority = -1 if sum(elected) < 0 else 1
        merged = reference_ties(trimmed, weights, scale, convention, normalize, majority)
    else:
        parts = []
        for n in names:
            trimmed = []
            for m in models:
                values = deltas[m][n].tolist()
                count = int(density * len(values))
                count = max(1, count) if convention == "mergekit" else count
                trimmed.append(keep_largest(values, count, all_equal=False))
            parts.append(reference_ties(trimmed, weights, scale, convention, normalize, 1))
        merged = torch.cat(parts)
    sizes = [states["base"][n].numel() for n in names]
    pieces = dict(zip(names, merged.split(sizes), strict=True))
    return {n: states["base"][n].to(torch.float64) + pieces[n].view(states["base"][n].shape) for n in names}


# ---- linear, task arithmetic ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("weights", "normalize"), [(None, True), ([1, 2, 5], True), ([0.5, -1, 2], False)])
def test_linear_is_the_weighted_mean(sources, states, weights, normalize):
    w = weights or [1, 1, 1]
    total = sum(w) if normalize else 1
    expected = {
        n: sum(x * states[m][n].to(torch.float64) for x, m in zip(w, ALL, strict=True)) / total for n in states["base"]
    }
    close(run(sources, "linear", base=None, weights=weights, normalize=normalize), expected)


def test_task_arithmetic_adds_scaled_task_vectors(sources, states):
    expected = {
        n: b.double()
        + 0.4 * sum(w * (states[m][n].double() - b.double()) for w, m in zip((1, 2, -1), ALL, strict=True))
        for n, b in states["base"].items()
    }
    close(run(sources, "task_arithmetic", scale=0.4, weights=[1, 2, -1]), expected)


def test_task_arithmetic_with_scale_one_over_n_is_the_mean(sources):
    mean = run(sources, "linear")
    close(run(sources, "task_arithmetic", scale=1 / 3), mean)
    close(run(sources, "task_arithmetic", normalize=True), mean)


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("linear", {}),
        ("task_arithmetic", {}),
        ("dare_linear", {"density": 0.3}),
        ("ties", {"density": 0.3}),
        ("ties", {"density": 0.3, "convention": "mergekit"}),
        ("dare_ties", {"density": 0.6, "convention": "peft"}),
    ],
)
def test_the_order_of_the_models_does_not_matter(sources, method, parameters):
    close(run(sources, method, ("a", "b", "c"), **parameters), run(sources, method, ("c", "a", "b"), **parameters))


# ---- slerp --------------------------------------------------------------------------------------------------


def test_slerp_follows_the_formula_over_each_whole_tensor(sources, states):
    expected = {}
    for name in states["a"]:
        a, b = (states[m][name].to(torch.float64).flatten() for m in "ab")
        angle = math.acos(float(a @ b / (a.norm() * b.norm())))
        value = math.sin(0.7 * angle) / math.sin(angle) * a + math.sin(0.3 * angle) / math.sin(angle) * b
        expected[name] = value.view(states["a"][name].shape)
    close(run(sources, "slerp", ("a", "b"), None, t=0.3), expected)


@pytest.mark.parametrize(("t", "model"), [(0.0, "a"), (1.0, "b")])
def test_slerp_ends_at_its_models(sources, states, t, model):
    close(run(sources, "slerp", ("a", "b"), None, t=t), states[model])


def test_slerp_stays_on_the_unit_sphere_and_divides_the_angle():
    generator = torch.Generator().manual_seed(3)
    a, b = (torch.nn.functional.normalize(torch.randn(50, generator=generator), dim=0) for _ in range(2))
    middle = averages.slerp(a, b, 0.25)
    assert float(middle.norm()) == pytest.approx(1, abs=1e-6)
    angle = torch.acos(a @ b)
    assert float(torch.acos(middle @ a) / angle) == pytest.approx(0.25, abs=1e-5)


@pytest.mark.parametrize("b", [[0.0, 0.0], [2.0, 4.0], [-1.0, -2.0]], ids=["zero", "parallel", "opposite"])
def test_slerp_is_a_straight_line_where_no_circle_is_defined(b):
    a, b = torch.tensor([1.0, 2.0]), torch.tensor(b)
    torch.testing.assert_close(averages.slerp(a, b, 0.25), 0.75 * a + 0.25 * b)


# ---- TIES ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("convention", ["paper", "mergekit", "peft"])
@pytest.mark.parametrize("density", [0.001, 0.2, 0.75, 1.0])
@pytest.mark.parametrize(("weights", "normalize"), [([1, 1, 1], True), ([2, 0.5, 1], True), ([2, -0.5, 1], False)])
def test_ties_follows_each_convention(sources, states, convention, density, weights, normalize):
    expected = reference_model(states, weights, 0.8, convention, density, normalize)
    merged = run(
        sources, "ties", density=density, convention=convention, weights=weights, normalize=normalize, scale=0.8
    )
    close(merged, expected)


@pytest.fixture
def coarse(tmp_path):
    """Models whose task vectors take a few values only, so that equal magnitudes and zero sums abound."""
    generator = torch.Generator().manual_seed(5)
    base = {"x.0.w": torch.zeros(31, 7), "x.1.w": torch.zeros(64), "y": torch.zeros(3)}
    states = {"base": base}
    for model in ALL:
        states[model] = {
            name: torch.randint(-3, 3, tensor.shape, generator=generator).float() for name, tensor in base.items()
        }
    return states, {name: save(tmp_path / name, state) for name, state in states.items()}


@pytest.mark.parametrize("block", [10, 1000])
@pytest.mark.parametrize("convention", ["paper", "mergekit", "peft"])
@pytest.mark.parametrize("density", [0.1, 0.4, 1.0])
def test_ties_decides_equal_magnitudes_and_zero_sums_as_documented(coarse, convention, density, block):
    states, sources = coarse
    expected = reference_model(states, [1, 1, 1], 1.0, convention, density, True)
    close(run(sources, "ties", block=block, density=density, convention=convention), expected)


def test_ties_at_the_paper_resolves_a_zero_sum_by_the_models_majority(tmp_path):
    base = {"w": torch.zeros(4), "v": torch.zeros(1)}
    one = {"w": torch.tensor([-1.0, -1, -1, 2]), "v": torch.tensor([1.0])}
    two = {"w": torch.tensor([-1.0, -1, -1, -2]), "v": torch.tensor([1.0])}
    models = {"base": base, "one": one, "two": two}
    sources = {name: save(tmp_path / name, state) for name, state in models.items()}
    paper = run(sources, "ties", ("one", "two"), density=1.0)
    assert paper["w"].tolist() == [-1, -1, -1, -2]
    peft = run(sources, "ties", ("one", "two"), density=1.0, convention="peft")
    assert peft["w"].tolist() == [-1, -1, -1, 2]


@pytest.mark.parametrize("convention", ["paper", "mergekit", "peft"])
def test_ties_of_one_model_at_density_one_is_that_model(sources, states, convention):
    close(run(sources, "ties", ("a",), density=1.0, convention=convention), states["a"])


def test_global_trim_differs_from_the_trim_per_tensor_where_one_tensor_changed_most(tmp_path):
    base = {"w": torch.zeros(10), "v": torch.zeros(10)}
    model = {"w": torch.arange(1.0, 11), "v": torch.arange(1.0, 11) / 100}
    sources = {name: save(tmp_path / name, state) for name, state in (("base", base), ("m", model))}
    paper = run(sources, "ties", ("m",), density=0.4)
    assert int(paper["w"].count_nonzero()) == 9  # int(0.4 * 20) + 1, all of them in w
    assert int(paper["v"].count_nonzero()) == 0
    per_tensor = run(sources, "ties", ("m",), density=0.4, convention="mergekit")
    assert [int(per_tensor[name].count_nonzero()) for name in "wv"] == [4, 4]


def test_entries_that_all_models_trimmed_keep_the_base():
    merged = task_vectors.disjoint_mean([torch.zeros(1)] * 2, [1.0, 1.0], "paper", majority=-1)
    assert merged.tolist() == [0.0]


def test_weights_that_cancel_among_the_agreeing_are_not_divided_by_zero():
    deltas = [torch.tensor([1.0]), torch.tensor([3.0])]
    merged = task_vectors.disjoint_mean(deltas, [1.0, -1.0], "paper")
    assert merged.tolist() == [-2.0]


# ---- DARE ---------------------------------------------------------------------------------------------------


def masks(states, seed, density, models=ALL):
    """The documented masks, drawn tensor by tensor in one go."""
    return {
        m: {
            n: random_bits(stream_key(seed, m, n), 0, t.numel()) < round(density * 2**31)
            for n, t in states["base"].items()
        }
        for m in models
    }


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_dare_linear_drops_and_rescales(sources, states, density):
    keep = masks(states, 7, density)
    expected = {}
    for n, b in states["base"].items():
        total = sum(
            w * keep[m][n].double() * (states[m][n] - b).double().flatten() / density
            for w, m in zip((1, 0.5, 2), ALL, strict=True)
        )
        expected[n] = b.double() + 0.3 * total.view(b.shape)
    close(run(sources, "dare_linear", density=density, seed=7, scale=0.3, weights=[1, 0.5, 2]), expected)


@pytest.mark.parametrize(
    ("convention", "trim", "normalize"), [("paper", 0.2, True), ("mergekit", 1, False), ("peft", 1, True)]
)
def test_dare_ties_is_dare_and_then_ties(sources, states, convention, trim, normalize):
    keep = masks(states, 1, 0.5)
    deltas = {m: {n: keep[m][n] * (states[m][n] - b).flatten() / 0.5 for n, b in states["base"].items()} for m in ALL}
    expected = reference_model(states, [1, 1, 1], 1.0, convention, trim, normalize, deltas=deltas)
    merged = run(sources, "dare_ties", density=0.5, seed=1, convention=convention, rescale="expectation")
    close(merged, expected)


@pytest.mark.parametrize("convention", ["paper", "mergekit", "peft"])
def test_dare_at_density_one_is_the_undropped_method(sources, convention):
    undropped = run(sources, "ties", density=0.3, convention=convention)
    close(run(sources, "dare_ties", density=1, trim=0.3, normalize=True, convention=convention), undropped, 0)
    close(run(sources, "dare_linear", density=1, scale=0.5), run(sources, "task_arithmetic", scale=0.5), 0)


def test_dare_masks_are_nested_and_have_the_stated_density():
    bits = random_bits(stream_key(0, "model", "tensor"), 0, 200_000)
    kept = {density: bits < round(density * 2**31) for density in (0.1, 0.5, 0.9)}
    assert not (kept[0.1] & ~kept[0.5]).any()
    assert not (kept[0.5] & ~kept[0.9]).any()
    for density, mask in kept.items():
        deviation = math.sqrt(density * (1 - density) / len(bits))
        assert abs(float(mask.double().mean()) - density) < 5 * deviation


def test_dare_is_unbiased():
    """Over 400 seeds the mean of each entry lies within 5 standard errors of the undropped delta."""
    delta, density, draws = torch.linspace(-1, 1, 101), 0.3, 400
    total = torch.zeros(101, dtype=torch.float64)
    for seed in range(draws):
        keep = random_bits(stream_key(seed, "m", "t"), 0, 101) < round(density * 2**31)
        total += task_vectors.drop_and_rescale(delta, keep, density)
    error = delta.abs().double() * math.sqrt((1 - density) / density / draws)
    assert ((total / draws - delta).abs() <= 5 * error + 1e-7).all()


def test_random_bits_depend_on_the_index_alone():
    key = stream_key(3, "m", "t")
    whole = random_bits(key, 0, 1000)
    parts = torch.cat([random_bits(key, start, 125) for start in range(0, 1000, 125)])
    assert torch.equal(whole, parts)
    assert (
        len(
            {
                bytes(random_bits(stream_key(*k), 0, 8).numpy())
                for k in [(0, "m", "t"), (1, "m", "t"), (0, "mt", ""), (0, "t", "m")]
            }
        )
        == 4
    )


def test_random_bits_are_keyed_permutations_of_runs_of_indices():
    """The generator in plain Python integers: lowbias32 with two keys a run."""
    key, mask = stream_key(11, "m", "t"), 2**32 - 1
    for index in (0, 1, 65535, 65536, 12345678901):
        first, second = run_keys(key, index // 65536)
        z = (index % 65536) * 0x9E3779B9 & mask ^ first
        z = (z ^ (z >> 16)) * 0x7FEB352D & mask
        z = (z ^ (z >> 15) ^ second) * 0x846CA68B & mask
        assert int(random_bits(key, index, 1)) == (z ^ (z >> 16)) >> 1


def test_every_device_hashes_alike():
    bits = torch.empty(1000, dtype=torch.int32)
    hash_on_device(run_keys(stream_key(4, "m", "t"), 3), 77, bits)
    assert torch.equal(bits, random_bits(stream_key(4, "m", "t"), 3 * 65536 + 77, 1000))


def test_random_bits_are_uniform_and_unrelated_to_their_neighbours_and_to_other_streams():
    count, cells = 1 << 20, 64
    streams = [random_bits(stream_key(seed, "m", "t"), 0, count).to(torch.int64) for seed in range(3)]
    pairs = [(streams[0][lag:], streams[0][:-lag]) for lag in (1, 2, 32, 4096, 65536)]
    for one, other in [*pairs, (streams[0], streams[1]), (streams[1], streams[2])]:
        cell = (one * cells >> 31) * cells + (other * cells >> 31)
        observed, expected = torch.bincount(cell, minlength=cells**2).double(), len(one) / cells**2
        freedom = cells**2 - 1
        deviation = (float(((observed - expected) ** 2 / expected).sum()) - freedom) / math.sqrt(2 * freedom)
        assert abs(deviation) < 5


def test_dare_masks_do_not_depend_on_the_other_models(sources, states):
    alone = run(sources, "dare_linear", ("b",), density=0.2)
    among = run(sources, "dare_linear", ("a", "b"), density=0.2, weights=[0, 1])
    close(alone, among, 0)
    assert flat(alone).ne(flat(states["base"])).double().mean() == pytest.approx(0.2, abs=0.02)
