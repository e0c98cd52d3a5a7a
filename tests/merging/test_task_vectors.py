"""Sparse task vectors (DARE, DELLA, Breadcrumbs, magnitude pruning) against slow float64 formulas."""

import math

import pytest
import torch
from merge_models import flat, save

from langmerge.merging import Recipe, state_dicts
from langmerge.merging.block import Block
from langmerge.merging.engine import Merge
from langmerge.merging.fused import loops
from langmerge.merging.kernels.task_vectors import Masks
from langmerge.merging.methods import task_vectors
from langmerge.merging.randomness import below, kept, random_bits, stream_key
from langmerge.merging.ranks import row_ranks

ALL = ("a", "b", "c")
WEIGHTS = [1.0, 0.5, 2.0]


def run(sources, method, models=ALL, block=500, **parameters):
    recipe = Recipe("merged", method, models, "base", parameters)
    (merged,) = state_dicts([recipe], sources, block=block)
    return merged.state_dict


def close(one, other, tolerance=3e-7):
    assert set(one) == set(other)
    for name in one:
        torch.testing.assert_close(one[name].double(), other[name].double(), atol=tolerance, rtol=0, msg=name)


def expected_sum(states, sparse, weights, scale=1.0, normalize=False):
    """base + scale x weighted sum of `sparse`: model -> name -> list of floats."""
    divisor = sum(weights) if normalize else 1.0
    merged = {}
    for name, base in states["base"].items():
        total = sum(w * torch.tensor(sparse[m][name], dtype=torch.float64) for w, m in zip(weights, ALL, strict=True))
        merged[name] = base.double() + scale * (total / divisor).view(base.shape)
    return merged


def expected_election(states, sparse, weights, weighted, normalize, scale=1.0):
    """base + scale x the mean (sum) of the entries with the elected sign; a zero sum elects +."""
    merged = {}
    for name, base in states["base"].items():
        values = []
        for entries in zip(*(sparse[m][name] for m in ALL), strict=True):
            votes = [w * d if weighted else d for w, d in zip(weights, entries, strict=True)]
            sign = 1 if sum(votes) >= 0 else -1
            chosen = [i for i, vote in enumerate(votes) if vote * sign > 0]
            divisor = sum(weights[i] for i in chosen) if normalize else 1
            values.append(scale * sum(weights[i] * entries[i] for i in chosen) / (divisor or 1))
        merged[name] = base.double() + torch.tensor(values, dtype=torch.float64).view(base.shape)
    return merged


def deltas(states):
    return {m: {n: (states[m][n] - b).double() for n, b in states["base"].items()} for m in ALL}


def sparsified(states, of_tensor):
    """`of_tensor(model, name, float64 tensor)` of every task vector, as lists."""
    return {m: {n: of_tensor(m, n, d) for n, d in named.items()} for m, named in deltas(states).items()}


def l1(before, after):
    return math.fsum(map(abs, before)) / math.fsum(map(abs, after)) if any(after) else 1.0


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Models with rows of one entry, scalars, vectors, rows of equal entries and an unchanged tensor."""
    generator = torch.Generator().manual_seed(8)
    shapes = {"column": (13, 1), "row": (1, 17), "vector": (19,), "one": (1,), "scalar": (), "cube": (3, 5, 7)}
    base = {n: torch.randn(s, generator=generator) for n, s in shapes.items()} | {"same": torch.ones(4, 6)}
    states = {"base": base}
    for model in ALL:
        states[model] = {n: t + torch.randint(-2, 3, t.shape, generator=generator) / 8 for n, t in base.items()}
        states[model]["same"] = base["same"]
    root = tmp_path_factory.mktemp("odd")
    return states, {name: save(root / name, state) for name, state in states.items()}


# ---- magnitude pruning -----------------------------------------------------------------------------------------------


def largest(values, count):
    """`values` with all but the `count` largest magnitudes 0; of equal ones those of lowest index stay."""
    order = sorted(range(len(values)), key=lambda i: (-abs(values[i]), i))[:count]
    stay = set(order)
    return [v if i in stay else 0.0 for i, v in enumerate(values)]


@pytest.mark.parametrize(("rescale", "normalize"), [("none", False), ("l1", True)])
@pytest.mark.parametrize("density", [0.01, 0.3, 1.0])
def test_magnitude_prune_adds_the_largest_entries_of_each_tensor(sources, states, density, rescale, normalize):
    def of_tensor(model, name, delta):
        values = delta.flatten().tolist()
        kept = largest(values, int(density * len(values)))
        factor = l1(values, kept) if rescale == "l1" else 1
        return [v * factor for v in kept]

    expected = expected_sum(states, sparsified(states, of_tensor), WEIGHTS, 0.4, normalize)
    merged = run(
        sources, "magnitude_prune", density=density, weights=WEIGHTS, scale=0.4, rescale=rescale, normalize=normalize
    )
    close(merged, expected, 3e-6 if rescale == "l1" else 3e-7)


def test_magnitude_prune_keeps_at_least_one_entry_where_mergekit_does(sources, states):
    merged = run(sources, "magnitude_prune", ("a",), density=1e-6, convention="mergekit")
    assert all(int((merged[name] != base).sum()) == 1 for name, base in states["base"].items())
    assert all(torch.equal(t, states["base"][n]) for n, t in run(sources, "magnitude_prune", density=1e-6).items())


# ---- DARE ------------------------------------------------------------------------------------------------------------


def dare(seed, density, rescale):
    def of_tensor(model, name, delta):
        values = delta.flatten().tolist()
        bits = random_bits(stream_key(seed, model, name), 0, len(values)).tolist()
        kept = [v if b < round(density * 2**31) else 0.0 for v, b in zip(values, bits, strict=True)]
        factor = {"expectation": 1 / density, "none": 1.0, "l1": l1(values, kept)}[rescale]
        return [v * factor for v in kept]

    return of_tensor


@pytest.mark.parametrize("rescale", ["expectation", "l1", "none"])
def test_dare_linear_rescales_as_asked(odd, rescale):
    states, sources = odd
    expected = expected_sum(states, sparsified(states, dare(3, 0.4, rescale)), WEIGHTS)
    for block in (4, 1000):
        merged = run(sources, "dare_linear", density=0.4, seed=3, weights=WEIGHTS, rescale=rescale, block=block)
        close(merged, expected, 3e-6)


def test_mergekits_dare_ties_matches_sums_of_magnitudes_and_adds_the_agreeing(odd):
    states, sources = odd
    sparse = sparsified(states, dare(3, 0.4, "l1"))
    expected = expected_election(states, sparse, WEIGHTS, weighted=True, normalize=False)
    close(run(sources, "dare_ties", density=0.4, seed=3, weights=WEIGHTS, convention="mergekit"), expected, 3e-6)


@pytest.mark.parametrize("density", [1e-9, 0.3, 0.999999])
def test_a_mask_has_all_bits_where_an_entry_is_kept(density):
    bits = random_bits(stream_key(0, "m", "t"), 0, 10_000)
    assert torch.equal(below(bits, density), -kept(bits, density).to(torch.int32))
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(1))
    assert torch.equal(task_vectors.masked(values, below(bits, density)), values * kept(bits, density))


def test_masks_are_kept_from_the_first_time_to_the_second_for_one_tensor():
    masks, computed = Masks(most=20), []
    blocks = {(t, i): Block(t, (n,), i, 9, lambda *_: None) for t, n in (("t", 18), ("u", 99)) for i in (0, 9)}
    expected = {place: -torch.tensor([i % 2 for i in range(9)], dtype=torch.int32) for place in blocks}

    def get(tensor, start):
        place = (tensor, start)
        return masks.get(blocks[place], lambda: computed.append(place) or expected[place])

    for place in [("t", 0), ("t", 9), ("t", 0), ("t", 9), ("u", 0), ("u", 0), ("t", 0), ("u", 0), ("t", 0)]:
        assert torch.equal(get(*place), expected[place])
    # u is too long to be kept, and its turn ends that of t
    assert computed == [("t", 0), ("t", 9), ("u", 0), ("u", 0), ("t", 0), ("u", 0), ("t", 0)]


# ---- Breadcrumbs -----------------------------------------------------------------------------------------------------


def mergekit_band(values, density, gamma):
    """A slice of the ascending sort."""
    n = len(values)
    if density >= 1:
        return values
    keep, top = int(density * n), int(gamma * n)
    bottom = max(0, n - keep - top)
    order = sorted(range(n), key=lambda i: (abs(values[i]), i))
    stay = set(order[bottom : bottom + keep])
    return [v if i in stay else 0.0 for i, v in enumerate(values)]


def paper_band(values, density, gamma):
    """Two thresholds."""
    n = len(values)
    if density >= 1:
        return values
    size = sorted((abs(v) for v in values), reverse=True)
    top = int(gamma * n)
    high, low = size[top], size[min(n, top + max(1, int(density * n))) - 1]
    return [v if low <= abs(v) <= high else 0.0 for v in values]


@pytest.mark.parametrize("rescale", ["none", "l1"])
@pytest.mark.parametrize("convention", ["paper", "mergekit"])
@pytest.mark.parametrize(("density", "gamma"), [(0.9, 0.01), (0.1, 0.2), (0.5, 0.0), (0.3, 0.7), (0.95, 0.3), (1.0, 0)])
def test_breadcrumbs_keeps_a_band_of_magnitudes(odd, convention, density, gamma, rescale):
    states, sources = odd
    parameters = {"density": density, "gamma": gamma, "convention": convention, "rescale": rescale}
    if convention == "paper" and density == 0.95:
        with pytest.raises(ValueError, match="add up to more than 1"):
            run(sources, "breadcrumbs", **parameters)
        return

    def of_tensor(model, name, delta):
        values = delta.float().flatten().tolist()
        band = (paper_band if convention == "paper" else mergekit_band)(values, density, gamma)
        return [v * (l1(values, band) if rescale == "l1" else 1) for v in band]

    sparse = sparsified(states, of_tensor)
    for block in (4, 1000):
        merged = run(sources, "breadcrumbs", weights=WEIGHTS, block=block, **parameters)
        close(merged, expected_sum(states, sparse, WEIGHTS), 2e-6)
        elected = run(sources, "breadcrumbs_ties", weights=WEIGHTS, block=block, **parameters)
        weighted = convention == "mergekit"
        close(elected, expected_election(states, sparse, WEIGHTS, weighted, normalize=False), 2e-6)


def test_breadcrumbs_of_one_to_hundred_keeps_what_mergekit_keeps(tmp_path):
    one = {"base": torch.zeros(100), "m": torch.arange(1.0, 101)}
    sources = {name: save(tmp_path / name, {"t": tensor}) for name, tensor in one.items()}

    def kept_by(**parameters):
        return run(sources, "breadcrumbs", ("m",), **parameters)["t"].nonzero().flatten().add(1).tolist()

    assert kept_by(density=0.9, gamma=0.01, convention="mergekit") == list(range(10, 100))
    assert kept_by(density=0.995, gamma=0.01, convention="mergekit") == list(range(1, 100))
    assert kept_by(density=0.9, gamma=0.01) == list(range(10, 100))
    assert kept_by(density=0.5, gamma=0.0) == list(range(51, 101))


# ---- DELLA -----------------------------------------------------------------------------------------------------------


def della(seed, density, epsilon, convention, rescale):
    """Row by row: rank, probability, random number, division."""

    def of_tensor(model, name, delta):
        columns = delta.shape[-1] if delta.shape else 1
        values = delta.flatten().tolist()
        bits = random_bits(stream_key(seed, model, name), 0, len(values)).tolist()
        kept, probabilities = [], []
        for start in range(0, len(values), columns):
            row = values[start : start + columns]
            order = sorted(range(columns), key=lambda i: (abs(row[i]), i))
            for column, value in enumerate(row):
                rank = order.index(column)
                if columns == 1:
                    p = density
                elif convention == "paper":
                    p = 1 - (1 - density - epsilon / 2 + epsilon / columns * (columns - 1 - rank))
                else:
                    p = density - epsilon + 2 * epsilon * rank / (columns - 1)
                probabilities.append(p)
                kept.append(value if bits[start + column] / 2**31 < p else 0.0)
        if rescale == "expectation":
            return [v / p for v, p in zip(kept, probabilities, strict=True)]
        return [v * (l1(values, kept) if rescale == "l1" else 1) for v in kept]

    return of_tensor


@pytest.mark.parametrize("rescale", ["expectation", "l1", "none"])
@pytest.mark.parametrize(("convention", "density", "epsilon"), [("paper", 0.4, 0.7), ("mergekit", 0.4, 0.3)])
def test_della_drops_by_the_rank_in_the_row(odd, convention, density, epsilon, rescale):
    states, sources = odd
    parameters = {"density": density, "epsilon": epsilon, "convention": convention, "rescale": rescale, "seed": 5}
    sparse = sparsified(states, della(5, density, epsilon, convention, rescale))
    for block in (4, 1000):
        merged = run(sources, "della_linear", weights=WEIGHTS, block=block, **parameters)
        close(merged, expected_sum(states, sparse, WEIGHTS), 5e-6)
        for normalize in (True, False):
            elected = run(sources, "della", weights=WEIGHTS, block=block, normalize=normalize, **parameters)
            weighted = convention == "mergekit"
            close(elected, expected_election(states, sparse, WEIGHTS, weighted, normalize), 5e-6)


def test_della_without_spread_is_dare(sources):
    dare_merged = run(sources, "dare_linear", density=0.4, seed=2)
    close(run(sources, "della_linear", density=0.4, epsilon=1e-9, seed=2), dare_merged, 1e-6)


def test_dellas_probabilities_have_the_density_as_mean_and_the_bounds_of_their_convention():
    rank = torch.arange(1000.0)
    paper = task_vectors.keep_probability(rank, 1000, 0.4, 0.2, "paper").double()
    assert (float(paper[-1]), float(paper[0])) == pytest.approx((0.5, 0.3 + 0.2 / 1000), abs=1e-6)
    mergekit = task_vectors.keep_probability(rank, 1000, 0.4, 0.2, "mergekit").double()
    assert (float(mergekit[-1]), float(mergekit[0])) == pytest.approx((0.6, 0.2), abs=1e-6)
    assert float(mergekit.mean()) == pytest.approx(0.4, abs=1e-6)
    assert float(paper.mean()) == pytest.approx(0.4, abs=2e-4)


@pytest.mark.parametrize("parameters", [{"epsilon": 0.5, "convention": "mergekit"}, {"epsilon": 1.0}])
@pytest.mark.parametrize("method", ["della", "della_linear"])
def test_probabilities_outside_zero_and_one_are_refused(method, parameters):
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        Recipe("merged", method, ALL, "base", {"density": 0.5, **parameters})
    assert Recipe("merged", method, ALL, "base", {"density": 1.0, **parameters})


@pytest.mark.parametrize("shape", [(7, 300), (1, 1000), (40, 1), (300, 65), (1, 70_000)])
def test_row_ranks_are_those_of_a_stable_sort(shape):
    generator = torch.Generator().manual_seed(4)
    for values in (torch.randn(shape, generator=generator), torch.randint(-3, 4, shape, generator=generator) / 4):
        order = values.abs().sort(dim=1, stable=True).indices
        assert torch.equal(row_ranks(values), order.argsort(dim=1).float())


# ---- all -------------------------------------------------------------------------------------------------------------

METHODS = [
    ("magnitude_prune", {"density": 0.3}),
    ("ties", {"density": 0.3, "rescale": "l1"}),
    ("ties", {"density": 0.3, "rescale": "l1", "convention": "mergekit"}),
    ("dare_linear", {"convention": "mergekit"}),
    ("dare_ties", {"convention": "mergekit"}),
    ("dare_ties", {}),
    ("breadcrumbs", {"density": 0.4, "gamma": 0.1}),
    ("breadcrumbs_ties", {"density": 0.4, "gamma": 0.1, "convention": "mergekit"}),
    ("della", {"density": 0.4}),
    ("della_linear", {"density": 0.4, "convention": "mergekit"}),
]


@pytest.mark.parametrize(("method", "parameters"), METHODS)
def test_the_size_of_blocks_changes_nothing(sources, method, parameters):
    whole = run(sources, method, weights=WEIGHTS, block=1 << 20, **parameters)
    for block in (33, 400):
        close(run(sources, method, weights=WEIGHTS, block=block, **parameters), whole, 1e-8)


@pytest.mark.parametrize(("method", "parameters"), METHODS)
def test_the_order_of_the_models_changes_nothing(sources, method, parameters):
    close(run(sources, method, ("c", "a", "b"), **parameters), run(sources, method, **parameters))


@pytest.mark.parametrize(("method", "parameters"), METHODS)
def test_twice_the_scale_is_twice_the_change(sources, states, method, parameters):
    once, twice = (flat(run(sources, method, scale=scale, **parameters)) for scale in (1.0, 2.0))
    base = flat(states["base"])
    torch.testing.assert_close(twice - base, 2 * (once - base), atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", sorted({method for method, _ in METHODS}))
def test_density_one_of_one_model_is_that_model(sources, states, method):
    untrimmed = {"trim": 1.0} if method == "dare_ties" else {}
    close(run(sources, method, ("a",), density=1.0, **untrimmed), states["a"], 1e-8)


def test_recipes_that_differ_in_scale_alone_share_their_merged_vector(sources, monkeypatch):
    calls = []
    for module in (task_vectors, loops):
        plain = module.disjoint_mean
        monkeypatch.setattr(module, "disjoint_mean", lambda *a, plain=plain: calls.append(1) or plain(*a))
    grid = [
        Recipe(f"{density}-{scale}", "ties", ALL, "base", {"density": density, "scale": scale})
        for density in (0.2, 0.5)
        for scale in (0.3, 0.6, 1.0)
    ]
    blocks = {(piece.tensor, piece.start) for piece in Merge(grid, sources, block=500)}
    assert len(calls) == 2 * len(blocks)


# ---- settings that differ between the models -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "given", "plural"),
    [
        ("magnitude_prune", {"density": 0.3}, {"densities": [0.3, 0.3, 0.3]}),
        ("ties", {"density": 0.3, "convention": "paper"}, {"densities": [0.3, 0.3, 0.3]}),
        ("dare_ties", {"density": 0.3, "convention": "mergekit"}, {"densities": [0.3, 0.3, 0.3]}),
        ("breadcrumbs", {"density": 0.3, "gamma": 0.1}, {"densities": [0.3] * 3, "gammas": [0.1] * 3}),
        ("della", {"density": 0.4, "epsilon": 0.2}, {"densities": [0.4] * 3, "epsilons": [0.2] * 3}),
    ],
)
def test_equal_settings_by_model_are_one_setting_for_all(sources, method, given, plural):
    convention = {key: value for key, value in given.items() if key == "convention"}
    one, other = run(sources, method, **given), run(sources, method, **convention, **plural)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_each_model_has_its_own_density(sources, states):
    """The sum of separately pruned task vectors."""
    densities = [0.1, 0.5, 1.0]
    alone = [
        run(sources, "magnitude_prune", models=(model,), density=density)
        for model, density in zip(ALL, densities, strict=True)
    ]
    expected = {
        name: base.double() + sum(state[name].double() - base.double() for state in alone)
        for name, base in states["base"].items()
    }
    close(run(sources, "magnitude_prune", densities=densities), expected)


@pytest.mark.parametrize(
    ("method", "parameters", "message"),
    [
        ("ties", {"densities": [0.5, 0.5]}, "2 values for 3 models"),
        ("ties", {"densities": [0.5, 0.5, 0.0]}, "> 0 and <= 1"),
        ("breadcrumbs", {"densities": [0.5, 0.995, 0.5], "gamma": 0.01}, "add up to more than 1"),
        ("della", {"densities": [0.5, 0.05, 0.5], "epsilon": 0.2}, "must lie between 0 and 1"),
    ],
)
def test_settings_of_each_model_are_checked(method, parameters, message):
    with pytest.raises(ValueError, match=message):
        Recipe("merged", method, ALL, "base", parameters)
