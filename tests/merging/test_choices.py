"""Methods that choose entry by entry, run by the engine, against slow readable float64 formulas."""

import math

import pytest
import torch
from entrywise import ALL, close, coarse_states, deltas_of, folders, merge

from langmerge.merging.kernels.order import OrderStatistics
from langmerge.merging.methods import choices


def run(*arguments, **settings):
    return merge(*arguments, **settings).state_dict


def whole(states, merge, models=ALL):
    """base + merge(all task vectors of the model at once)."""
    deltas = deltas_of(states, models)
    merged = merge(torch.cat([deltas[n] for n in deltas], 1)).split([deltas[n].shape[1] for n in deltas])
    base = states["base"]
    return {n: base[n].double() + part.view(base[n].shape) for n, part in zip(deltas, merged, strict=True)}


def per_tensor(states, merge, models=ALL):
    """base + merge(task vectors of one tensor)."""
    base = states["base"]
    return {n: base[n].double() + merge(d).view(base[n].shape) for n, d in deltas_of(states, models).items()}


def planted(tmp_path, *models, base=None):
    """Models with one tensor `w` of the given changes from a base of zeros (or `base`)."""
    base = torch.zeros_like(torch.tensor(models[0])) if base is None else torch.tensor(base)
    states = {"base": {"w": base}}
    states |= {name: {"w": base + torch.tensor(values)} for name, values in zip("abcdef", models, strict=False)}
    return states, folders(tmp_path, states)


@pytest.fixture
def coarse(tmp_path):
    states = coarse_states(**{"x.0.w": (31, 7), "x.1.w": (64,), "y": (3,), "z": (9, 1)})
    return states, folders(tmp_path, states)


METHODS = [
    ("sce", {"select_topk": 0.3}),
    ("ram", {"epsilon": 0.01}),
    ("ramplus", {"epsilon": 0.01, "alpha": 3.0}),
    ("ramplus_tl", {"epsilon": 0.01, "alpha": 3.0}),
    ("magmax", {}),
    ("consensus", {}),
    ("consensus", {"vector": "ties"}),
    ("pcb", {}),
    ("pcb", {"convention": "released"}),
    ("pcb", {"convention": "released_vision"}),
    ("pcb", {"convention": "released_es"}),
]


@pytest.mark.parametrize(("method", "parameters"), METHODS)
def test_the_order_of_the_models_does_not_matter(sources, method, parameters):
    close(run(sources, method, ("a", "b", "c"), **parameters), run(sources, method, ("c", "a", "b"), **parameters))


@pytest.mark.parametrize(("method", "parameters"), METHODS)
def test_the_size_of_the_blocks_does_not_matter(coarse, method, parameters):
    _, sources = coarse
    one, other = (run(sources, method, block=block, **parameters) for block in (7, 10**6))
    close(one, other, 1e-6)


@pytest.mark.parametrize(("method", "parameters"), METHODS)
def test_models_that_did_not_change_leave_the_base(tmp_path, states, method, parameters):
    sources = folders(tmp_path, {"base": states["base"], **dict.fromkeys(ALL, states["base"])})
    close(run(sources, method, **parameters), states["base"], 0)


# ---- SCE -----------------------------------------------------------------------------------------------------------


def reference_sce(share, convention):
    def merge(deltas):
        n, count = deltas.shape
        d = deltas.tolist()
        selected = set(range(count))
        if share < 1:
            variance = [torch.tensor(column).double().var(unbiased=False).item() for column in zip(*d, strict=True)]
            variance = [0.0 if len(set(column)) == 1 else v for v, column in zip(variance, zip(*d), strict=True)]  # noqa: B905
            k = int(share * sum(v > 0 for v in variance))
            selected = set(sorted(range(count), key=lambda e: (-round(variance[e], 12), e))[:k])
        squares = [sum(row[e] ** 2 for e in selected) / count for row in d]
        total = sum(squares)
        equal = total == 0 or (convention == "mergekit" and total < 1e-6)
        weights = [1 / n] * n if equal else [square / total for square in squares]
        merged = []
        for e in range(count):
            sign = 1 if sum(row[e] for row in d) >= 0 else -1
            agree = [i for i in range(n) if e in selected and d[i][e] * sign > 0]
            divisor = sum(weights[i] for i in agree)
            divisor = max(divisor, 1e-6) if convention == "mergekit" else divisor or 1
            merged.append(sum(weights[i] * d[i][e] for i in agree) / divisor)
        return torch.tensor(merged).double()

    return merge


@pytest.mark.parametrize("convention", ["paper", "mergekit"])
@pytest.mark.parametrize("share", [0.05, 0.4, 1.0])
def test_sce_follows_its_three_steps(sources, states, share, convention):
    expected = per_tensor(states, reference_sce(share, convention))
    close(run(sources, "sce", select_topk=share, convention=convention), expected)


@pytest.mark.parametrize("block", [10, 1000])
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_sce_takes_equal_variances_by_their_index(coarse, share, block):
    states, sources = coarse
    close(run(sources, "sce", block=block, select_topk=share), per_tensor(states, reference_sce(share, "paper")), 1e-6)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("growth", [0.5, 2.0])
def test_sce_finds_thresholds_that_the_first_blocks_do_not_show(tmp_path, share, growth):
    generator = torch.Generator().manual_seed(2)
    rows = growth ** torch.arange(40.0)[:, None].clamp(max=20)
    states = {name: {"w": torch.randn(40, 8, generator=generator) * rows * 1e-3} for name in ALL}
    states["base"] = {"w": torch.zeros(40, 8)}
    merged = run(folders(tmp_path, states), "sce", block=8, select_topk=share)["w"].double()
    # Variances of rows differ by powers of 4: the reference's rounding to 12 decimals would not do.
    d = deltas_of(states)["w"]
    variance = d.var(0, unbiased=False)
    selected = variance >= variance.sort(descending=True).values[int(share * 320) - 1]
    kept = d * selected
    weights = kept.square().sum(1) / kept.square().sum()
    agree = kept * torch.where(kept.sum(0) >= 0, 1, -1) > 0
    expected = (weights[:, None] * kept * agree).sum(0) / (weights[:, None] * agree).sum(0).clamp(min=1e-300)
    torch.testing.assert_close(merged.flatten(), expected, rtol=1e-5, atol=1e-15)


def test_sce_weighs_small_changes_too_but_mergekits_does_not(tmp_path):
    _, sources = planted(tmp_path, [1e-4, 1e-4], [3e-4, 3e-4])
    assert run(sources, "sce", ("a", "b"))["w"].tolist() == pytest.approx([2.8e-4] * 2)
    assert run(sources, "sce", ("a", "b"), convention="mergekit")["w"].tolist() == pytest.approx([2e-4] * 2)


def test_sce_selects_nothing_where_all_models_agree(tmp_path):
    states, sources = planted(tmp_path, [0.1, 0.2, 0.7], [0.1, 0.2, 0.7], [0.1, 0.2, 0.7])
    close(run(sources, "sce", select_topk=0.9), states["base"], 0)
    close(run(sources, "sce"), states["a"])


def test_squared_deviations_are_exact_zeros_for_equal_models_and_accurate_for_an_outlier():
    equal = [torch.full((5,), 0.1)] * 3
    assert choices.squared_deviations(equal).tolist() == [0] * 5
    values = [torch.tensor([1.0]), torch.tensor([1e-3]), torch.tensor([1.1e-3]), torch.tensor([0.9e-3])]
    exact = torch.stack(values).double().var(0, unbiased=False) * 16
    torch.testing.assert_close(choices.squared_deviations(values).double(), exact, rtol=1e-6, atol=0)


# ---- RAM -----------------------------------------------------------------------------------------------------------


def reference_ram(epsilon, r=None, alpha=None):
    def merge(deltas):
        active = deltas.abs() > torch.tensor(epsilon).float()
        count = active.sum(0)
        factors = [1.0] * len(deltas)
        if r is not None:
            unique, shared = (active & (count == 1)).sum(1), (active & (count > 1)).sum(1)
            factors = [1 + r * min(s / u, alpha) if u else 1.0 for u, s in zip(unique.tolist(), shared.tolist())]  # noqa: B905
        merged = torch.zeros(deltas.shape[1]).double()
        for e in range(deltas.shape[1]):
            owners = active[:, e].nonzero().flatten().tolist()
            if len(owners) == 1:
                merged[e] = factors[owners[0]] * deltas[owners[0], e]
            elif owners:
                merged[e] = sum(deltas[i, e] for i in owners) / len(owners)
        return merged

    return merge


@pytest.mark.parametrize("epsilon", [0.0, 0.01, 0.03])
def test_ram_averages_what_is_shared_only(sources, states, epsilon):
    close(run(sources, "ram", epsilon=epsilon), per_tensor(states, reference_ram(epsilon)))


@pytest.mark.parametrize(("r", "alpha"), [(0.1, 0.2), (2.0, 10.0)])
def test_ramplus_counts_over_the_model_and_ramplus_tl_over_the_tensor(sources, states, r, alpha):
    rule = {"epsilon": 0.015, "r": r, "alpha": alpha}
    close(run(sources, "ramplus", **rule), whole(states, reference_ram(0.015, r, alpha)))
    close(run(sources, "ramplus_tl", **rule), per_tensor(states, reference_ram(0.015, r, alpha)))


def test_ram_of_disjoint_changes_keeps_them_all(tmp_path):
    _, sources = planted(tmp_path, [[1.0, 0, 0, 0]], [[0, -2.0, 0, 0]], [[0, 0, 3.0, 1e-6]])
    assert run(sources, "ram")["w"].tolist() == [[1, -2, 3, 0]]
    assert run(sources, "ramplus")["w"].tolist() == [[1, -2, 3, 0]]


def test_ramplus_makes_up_for_what_averaging_took(tmp_path):
    _, sources = planted(tmp_path, [1.0, 2.0, 0, 0], [3.0, 0, 0, 0])
    # a: one unique, one shared entry, ratio 1; b: nothing unique.
    merged = run(sources, "ramplus", ("a", "b"), r=0.5, alpha=10.0)["w"]
    assert merged.tolist() == [2, 3, 0, 0]
    assert run(sources, "ramplus", ("a", "b"), r=0.5, alpha=0.1)["w"].tolist() == pytest.approx([2, 2.1, 0, 0])


# ---- MagMax, NearSwap ----------------------------------------------------------------------------------------------


def test_magmax_takes_the_largest_change(sources, states):
    expected = per_tensor(states, lambda d: 0.7 * d.gather(0, d.abs().argmax(0)[None])[0])
    close(run(sources, "magmax", scale=0.7), expected)


def test_magmax_of_opposite_changes_takes_the_last(tmp_path):
    _, sources = planted(tmp_path, [1.0, 1.0], [-1.0, 0.5])
    assert run(sources, "magmax", ("a", "b"), scale=1.0)["w"].tolist() == [-1, 1]
    assert run(sources, "magmax", ("b", "a"), scale=1.0)["w"].tolist() == [1, 1]


@pytest.mark.parametrize("t", [1e-3, 0.01, 1.0])
def test_nearswap_moves_no_entry_further_than_t(sources, states, t):
    expected = per_tensor(states, lambda d: (d * (t / d.abs().clamp(min=1e-30)).clamp(max=1))[0], ("a",))
    close(run(sources, "nearswap", ("a",), t=t), expected)


def test_nearswap_with_a_large_t_is_the_model(sources, states):
    close(run(sources, "nearswap", ("a",), t=10.0), states["a"], 0)


# ---- Consensus -----------------------------------------------------------------------------------------------------


def reference_consensus(vector, k, mask_scale, strict=False):
    def merge(deltas):
        total = vector(deltas)
        gap = deltas.abs() - mask_scale * (total - deltas).abs()
        return total * (((gap > 0) if strict else (gap >= 0)).sum(0) >= k)

    return merge


def elected_sum(deltas):
    """TIES at density 0.2 over the model, with the sum of the elected entries (continuous values: no ties)."""
    keep = int(0.2 * deltas.shape[1]) + 1
    trimmed = torch.stack([d * (d.abs() >= d.abs().sort(descending=True).values[keep - 1]) for d in deltas])
    sign = trimmed.sum(0).sign()
    return (trimmed * (trimmed.sign() == sign)).sum(0)


@pytest.mark.parametrize("k", [0, 1, 2, 3])
@pytest.mark.parametrize("mask_scale", [0.0, 0.4, 1.5])
def test_consensus_keeps_what_k_masks_hold(sources, states, k, mask_scale):
    expected = whole(states, reference_consensus(lambda d: d.sum(0), k, mask_scale))
    close(run(sources, "consensus", k=k, mask_scale=mask_scale), expected)


def test_consensus_with_ties_masks_the_elected_sum(sources, states):
    expected = whole(states, lambda d: 0.5 * reference_consensus(elected_sum, 2, 0.6)(d))
    close(run(sources, "consensus", vector="ties", scale=0.5), expected)


def test_consensus_without_a_vote_is_task_arithmetic(sources):
    close(run(sources, "consensus", k=0, scale=0.3), run(sources, "task_arithmetic", scale=0.3))


def test_consensus_differs_from_the_released_code_where_distances_are_equal(tmp_path):
    states, sources = planted(tmp_path, [0.5, 1.0], [0.5, 0.0])
    # Two equal changes: the sum is as far from each as the base is.
    both = {"mask_scale": 1.0, "models": ("a", "b")}
    assert run(sources, "consensus", **both)["w"].tolist() == [1, 0]
    close(run(sources, "consensus", convention="released", **both), states["base"], 0)


def test_consensus_refuses_more_votes_than_models(sources):
    with pytest.raises(ValueError, match=r"consensus\.k: 4 of only 3 models"):
        run(sources, "consensus", k=4)


# ---- Arcee Fusion --------------------------------------------------------------------------------------------------


def reference_fusion(model, base):
    rows = lambda x: x.double().view(-1, x.shape[-1])  # noqa: E731
    p, q = rows(model).softmax(1) + 1e-8, rows(base).softmax(1) + 1e-8
    delta = (model - base).double()
    score = (rows(model - base).abs() * (p * (p / q).log()).sum(1).clamp(min=0)[:, None]).float().flatten()
    ordered = score.sort().values
    first, median, third = (float(ordered[int(q * (len(ordered) - 1))]) for q in (0.25, 0.5, 0.75))
    threshold = torch.tensor(median + 1.5 * (third - first)).float()
    return base.double() + delta * (score >= threshold).view(base.shape)


@pytest.mark.parametrize("block", [40, 10**6])
def test_arcee_fusion_takes_outlying_changes(sources, states, block):
    merged = run(sources, "arcee_fusion", ("a",), block=block)
    close(merged, {n: reference_fusion(states["a"][n], states["base"][n]) for n in merged})
    share = sum((merged[n] != states["base"][n]).sum() for n in merged) / sum(t.numel() for t in merged.values())
    assert 0.01 < share < 0.2


def test_arcee_fusion_of_rows_of_length_one_has_no_divergence_and_keeps_all(tmp_path):
    states, sources = planted(tmp_path, [[1.0], [-2.0], [3.0]])
    close(run(sources, "arcee_fusion", ("a",)), states["a"])


def test_row_divergence_of_nearly_equal_rows_is_accurate():
    base = torch.randn(3, 500, generator=torch.Generator().manual_seed(0))
    model = base + 1e-4 * torch.randn(3, 500, generator=torch.Generator().manual_seed(1))
    p, q = (x.double().softmax(1) + 1e-8 for x in (model, base))
    exact = [math.fsum((row_p * (row_p / row_q).log()).tolist()) for row_p, row_q in zip(p, q, strict=True)]
    assert choices.row_divergence(model, base).tolist() == pytest.approx(exact, rel=1e-5)
    assert choices.row_divergence(base, base).tolist() == [0, 0, 0]


# ---- PCB -----------------------------------------------------------------------------------------------------------


def minmax(x):
    low, high = x.min(-1, keepdim=True).values, x.max(-1, keepdim=True).values
    return torch.where(high > low, (x - low) / (high - low), 0.0)


def reference_pcb(density):
    def merge(d):
        n, count = d.shape
        intra = (n * minmax(d * d)).softmax(1)
        inter = torch.stack([minmax(d[i] * d).softmax(1).sum(0) for i in range(n)])
        beta = intra * inter
        threshold = beta.sort(1).values[:, int((1 - density) * count)]
        kept = beta * (beta >= threshold[:, None])
        divisor = kept.sum(0)
        return (kept * d).sum(0) / torch.where(divisor > 0, divisor, 1.0)

    return merge


def reference_released(density, convention):
    cut = 0.0001 if convention == "released" else 0.01

    def merge(d):
        n, count = d.shape
        ordered = d.abs().sort(1).values
        low, high = ordered[:, int(count * cut)], ordered[:, int(count * (1 - cut) - 1)]
        clamped = d.abs().clamp(low[:, None], high[:, None])
        unit = minmax(clamped)
        signed = d.sign() * unit
        if convention == "released_es":
            inter = torch.stack([torch.tanh(signed[i] * signed).sum(0) for i in range(n)])
        else:
            inter = torch.tanh(d * (d if convention == "released" else signed).sum(0))
        score = torch.exp(n * unit**2) * inter
        threshold = score.sort(1).values[:, int(count * (1 - density))]
        weight = minmax(score.clamp(min=threshold[:, None]))
        return (d.sign() * clamped * weight).sum(0) / weight.sum(0).clamp(min=1e-12)

    return merge


@pytest.mark.parametrize("density", [0.01, 0.1, 0.6, 1.0])
def test_pcb_weighs_by_competition(sources, states, density):
    close(run(sources, "pcb", density=density), whole(states, reference_pcb(density)), 4e-7)


@pytest.mark.parametrize("density", [0.05, 0.6, 1.0])
@pytest.mark.parametrize("convention", ["released", "released_vision", "released_es"])
def test_pcb_follows_the_released_scripts(sources, states, convention, density):
    expected = whole(states, lambda d: 1.2 * reference_released(density, convention)(d))
    merged = run(sources, "pcb", density=density, convention=convention)
    # An entry whose score lies next to the threshold has a tiny weight in numerator and divisor alike.
    far = sum(int(((merged[n].double() - expected[n]).abs() > 2e-6).sum()) for n in expected)
    assert far <= 3


def test_pcb_of_one_model_keeps_its_largest_changes(sources, states):
    def largest(d):
        keep = d.shape[1] - int(0.8 * d.shape[1])
        return d[0] * (d[0].abs() >= d[0].abs().sort(descending=True).values[keep - 1])

    close(run(sources, "pcb", ("a",), density=0.2), whole(states, largest, ("a",)))


def test_pcb_does_not_change_with_the_scale_of_all_changes(tmp_path, states):
    base = states["base"]
    half = {m: {n: base[n] + (states[m][n] - base[n]) / 2 for n in base} for m in ALL}
    one = run(folders(tmp_path / "1", {"base": base, **{m: states[m] for m in ALL}}), "pcb", scale=0.5)
    other = run(folders(tmp_path / "2", {"base": base, **half}), "pcb")
    far = sum(int(((one[n] - other[n]).abs() > 1e-6).sum()) for n in one)
    assert far <= 3


# ---- order statistics ----------------------------------------------------------------------------------------------


class Piece:
    """As much of a block as a score needs."""

    def __init__(self, values):
        self.values = values
        self.count = len(values)


@pytest.mark.parametrize("size", [1, 64, 5000])
def test_order_statistics_are_exact_for_negative_scores_too(size):
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(1000, generator=generator) * 10 ** torch.randint(-6, 3, (1000,), generator=generator)
    values[::7] = 0.0
    values[1::7] = -0.5
    ranks = [1, 17, 400, 555, 700, 1000]
    gather = OrderStatistics("model", (), lambda piece: [piece.values, piece.values.abs()], lambda n: ranks, True)
    gather.begin()
    for index in (0, 1):
        for part in values.split(size):
            gather.update(index, Piece(part))
        gather.end(index)
    for found, of in zip(gather.values, (values, values.abs()), strict=True):
        assert found == [float(of.sort(descending=True).values[rank - 1]) for rank in ranks]
