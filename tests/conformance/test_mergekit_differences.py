"""Where we do not do as mergekit 0.1.5: each difference by name, measured on both."""

import math

import pytest
import torch
from cases import ABC, EQUAL, Case
from peers import family, merge_with_mergekit
from small_llamas import states

pytestmark = pytest.mark.conformance

UP = "model.layers.0.mlp.up_proj.weight"
NORM = "model.norm.weight"
EMBEDDINGS = "model.embed_tokens.weight"


DOWN = "model.layers.0.mlp.down_proj.weight"
VANISHING = "model.layers.1.input_layernorm.weight"
UNEQUAL, LEADING = (0.5, 0.3, 0.2), (10.0, 1.0, 1.0)

CASES = {
    "default type": ("bfloat16", Case("ta", "task_arithmetic", {"weights": list(UNEQUAL)}, {}, {"weight": UNEQUAL},
                                      dtype=None)),
    "any order": ("bfloat16", Case("ties", "ties", {"density": 0.2, "convention": "mergekit"}, {},
                                   {"weight": (1.0,), "density": (0.2,)}, models=("a",), stable=False)),
    "slerp": ("float32", Case("slerp", "slerp", {"t": 0.3}, {"t": 0.3}, models=("a", "b"), base="a")),
    "rows": ("float32", Case("nuslerp", "nuslerp", {"flatten": False}, {"nuslerp_flatten": False},
                             {"weight": (1.0, 1.0)}, ("a", "b"))),
    "eps": ("float32", Case("multislerp", "multislerp", {"eps": 0.02}, {"eps": 0.02}, {"weight": EQUAL})),
    "unchanged": ("odd", Case("multislerp", "multislerp", {}, {}, {"weight": EQUAL})),
    "karcher": ("float32", Case("karcher", "karcher", {}, base=None)),
    "vanishing": ("odd", Case("karcher", "karcher", {}, base=None)),
    "weighted": ("float32", Case("karcher", "karcher", {"weights": [8, 1, 1]}, {}, {"weight": (8.0, 1.0, 1.0)},
                                 base=None)),
    "stock": ("odd", Case("model_stock", "model_stock", {}, models=("a", "b"))),
    "trim": ("float32", Case("ties", "ties", {"density": 0.2}, {}, {"weight": (1.0,), "density": (0.2,)},
                             models=("b",))),
    "election": ("float32", Case("ties", "ties", {"density": 1.0, "weights": list(LEADING)}, {},
                                 {"weight": LEADING, "density": (1.0,) * 3})),
    "dare": ("float32", Case("dare_linear", "dare_linear", {"density": 0.1}, {},
                             {"weight": (1.0,), "density": (0.1,)}, models=("a",), seed=0)),
    "della": ("float32", Case("della_linear", "della_linear", {"density": 0.5, "epsilon": 0.2}, {},
                              {"weight": (1.0,), "density": (0.5,), "epsilon": (0.2,)}, models=("a",), seed=0)),
    "breadcrumbs": ("float32", Case("breadcrumbs", "breadcrumbs", {"density": 0.9, "gamma": 0.05}, {},
                                    {"weight": (1.0,), "density": (0.9,), "gamma": (0.05,)}, models=("a",))),
    "band": ("float32", Case("breadcrumbs", "breadcrumbs", {"density": 0.98, "gamma": 0.05, "convention": "mergekit"},
                             {}, {"weight": (1.0,), "density": (0.98,), "gamma": (0.05,)}, models=("a",))),
    "sce": ("small", Case("sce", "sce", {})),
    "fusion": ("float32", Case("arcee_fusion", "arcee_fusion", {}, models=("a",))),
}  # fmt: skip


def odd_states():
    """A tensor that fine-tuning left alone, one that all but vanishes in b, one on which a and b disagree, and one
    that was changed very little."""
    made = states(torch.float32)
    base = made["base"]
    for n, model in enumerate(ABC):
        own = torch.randn(base[UP].shape, generator=torch.Generator().manual_seed(n))
        made[model][UP] = base[UP] + 1e-7 * (own + 3)
        made[model][NORM] = base[NORM].clone()
    made["b"][VANISHING] *= 1e-8
    first, second = (0.01 * torch.randn(base[DOWN].shape, generator=torch.Generator().manual_seed(n)) for n in (8, 9))
    made["a"][DOWN], made["b"][DOWN] = base[DOWN] + first, base[DOWN] + second - 0.7 * first
    return made


def small_states():
    """Small changes, three times as large in one tensor of b."""
    made = states(torch.float32, spread=1e-4)
    made["b"][UP] = made["base"][UP] + 3 * (made["b"][UP] - made["base"][UP])
    return made


@pytest.fixture(scope="session")
def all_families(families, tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    return families | {"odd": family(root / "odd", odd_states()), "small": family(root / "small", small_states())}


@pytest.fixture(scope="session")
def theirs(all_families, tmp_path_factory):
    pairs = [(case, all_families[name]) for name, case in CASES.values()]
    return dict(zip(CASES, merge_with_mergekit(pairs, tmp_path_factory.mktemp("differences")), strict=True))


@pytest.fixture
def compared(all_families, theirs):
    """name -> (the models, mergekit's merge, ours)."""

    def compare(name):
        kind, case = CASES[name]
        of = all_families[kind]
        return of, theirs[name], of.ours(case)

    return compare


def change(merged, of, tensor):
    """What a merge changed from the base, float64."""
    return merged[tensor].double() - of.states["base"][tensor].double()


def share(merged, expected, of, tensor):
    """The factor by which a merge's change is the expected one."""
    return float((change(merged, of, tensor) * expected).sum() / expected.square().sum())


# ---- rounding ----------------------------------------------------------------------------------------------------


def test_mergekit_computes_in_bfloat16_by_default_and_we_never_do(compared):
    """The share of the entries that are not the correctly rounded result."""
    of, theirs, ours = compared("default type")
    wrong, entries = {"mergekit": 0, "ours": 0}, 0
    for tensor, base in of.states["base"].items():
        deltas = [of.states[model][tensor].double() - base.double() for model in ABC]
        exact = base.double() + sum(w * delta for w, delta in zip(UNEQUAL, deltas, strict=True))
        for name, merged in (("mergekit", theirs), ("ours", ours)):
            wrong[name] += int((merged[tensor] != exact.to(torch.bfloat16)).sum())
        entries += base.numel()
    assert wrong["ours"] / entries < 0.001 < 0.03 < wrong["mergekit"] / entries


def test_which_of_equally_large_entries_stay_is_left_to_the_sort_by_mergekit_and_is_the_first_with_us(compared):
    """The trim of TIES at the last magnitude that stays, on task vectors of bfloat16 models."""
    of, theirs, ours = compared("any order")
    disputed = 0
    for tensor, base in of.states["base"].items():
        delta = of.deltas(tensor)["a"].flatten()
        kept = [(merged[tensor] != base).flatten() for merged in (theirs, ours)]
        count = int(0.2 * delta.numel())
        assert [int(mask.sum()) for mask in kept] == [count, count]
        last = delta.abs() == delta.abs().sort(descending=True).values[count - 1]
        assert torch.equal(kept[0][~last], kept[1][~last])
        disputed += int((kept[0] != kept[1]).sum())
        first_out = (last & ~kept[1]).nonzero()
        assert not len(first_out) or not kept[1][first_out[0] :][last[first_out[0] :]].any()
    assert disputed


# ---- spherical averages ------------------------------------------------------------------------------------------


def test_mergekits_slerp_is_a_straight_line_between_models_nearer_than_1_8_degrees(compared):
    """The weights of the norms, all near 1, are that near to one another; the matrices of these models are not."""
    of, theirs, ours = compared("slerp")
    a, b = (of.states[model][NORM].double() for model in "ab")
    cosine = float(a @ b / a.norm() / b.norm())
    assert cosine > 0.9995
    angle = math.acos(cosine)
    line, arc = 0.7 * a + 0.3 * b, (math.sin(0.7 * angle) * a + math.sin(0.3 * angle) * b) / math.sin(angle)
    torch.testing.assert_close(theirs[NORM].double(), line, rtol=3e-7, atol=0)
    torch.testing.assert_close(ours[NORM].double(), arc, rtol=3e-7, atol=0)
    assert float((arc - line).abs().min()) > 1e-6


def test_a_row_left_alone_by_one_model_moves_by_sin_45_degrees_in_mergekits_nuslerp_and_half_way_with_us(compared):
    of, theirs, ours = compared("rows")
    moved = of.deltas(EMBEDDINGS)["b"][3].double()
    assert not of.deltas(EMBEDDINGS)["a"][3].any()
    for merged, expected in ((theirs, math.sin(math.pi / 4)), (ours, 0.5)):
        factor = float(change(merged, of, EMBEDDINGS)[3] @ moved / (moved @ moved))
        assert factor == pytest.approx(expected, abs=1e-4)


def test_mergekits_multislerp_shortens_by_the_cosine_of_eps(compared):
    """Its tangent vector has length 0 and counts as eps long: cos(eps) times the mean direction."""
    of, theirs, ours = compared("eps")
    assert share(theirs, change(ours, of, UP), of, UP) == pytest.approx(math.cos(0.02), abs=1e-5)


def test_mergekits_multislerp_fails_on_a_tensor_that_nobody_changed_where_we_keep_it(compared):
    of, theirs, ours = compared("unchanged")
    assert "weighted sum of the input tensors is zero" in theirs
    assert torch.equal(ours[NORM], of.states["base"][NORM])


def test_mergekits_karcher_mean_gives_vectors_shorter_than_tol_no_direction_and_ours_does(compared):
    of, theirs, ours = compared("vanishing")
    a, b, c = (of.states[model][VANISHING].double() for model in ABC)
    length = (a.norm() + b.norm() + c.norm()) / 3
    for merged, directions in ((theirs, (a, c)), (ours, (a, b, c))):
        middle = sum(x / x.norm() for x in directions)
        torch.testing.assert_close(merged[VANISHING].double(), length * middle / middle.norm(), atol=1e-6, rtol=0)


def test_mergekits_karcher_mean_knows_no_weights_and_ours_does(compared):
    (_, their_plain, our_plain), (_, their_weighted, our_weighted) = compared("karcher"), compared("weighted")
    assert torch.equal(their_plain[UP], their_weighted[UP])
    assert not torch.allclose(our_plain[UP], our_weighted[UP], atol=1e-4)


# ---- Model Stock ---------------------------------------------------------------------------------------------------


def test_mergekits_model_stock_moves_away_from_models_that_disagree_and_ours_keeps_the_base(compared):
    of, theirs, ours = compared("stock")
    deltas = of.deltas(DOWN)
    assert share(theirs, (deltas["a"] + deltas["b"]).double() / 2, of, DOWN) < -0.5
    assert torch.equal(ours[DOWN], of.states["base"][DOWN])


def test_mergekits_model_stock_takes_small_task_vectors_for_orthogonal(compared):
    """Their cosine of about 0.9 is a dot product over 1e-6 instead of over the product of their lengths."""
    of, theirs, ours = compared("stock")
    a, b = (of.deltas(UP)[model].double() for model in "ab")
    cosine = float(torch.cosine_similarity(a.flatten(), b.flatten(), 0))
    assert share(ours, (a + b) / 2, of, UP) == pytest.approx(2 * cosine / (1 + cosine), abs=0.02)
    assert share(theirs, (a + b) / 2, of, UP) < 0.01


# ---- TIES, SCE, Arcee Fusion --------------------------------------------------------------------------------------


def test_ties_trims_each_tensor_in_mergekit_and_the_whole_model_in_the_paper(compared):
    of, theirs, ours = compared("trim")
    sizes = {tensor: base.numel() for tensor, base in of.states["base"].items()}
    kept = [
        {tensor: int((merged[tensor] != of.states["base"][tensor]).sum()) for tensor in sizes}
        for merged in (theirs, ours)
    ]
    assert kept[0] == {tensor: int(0.2 * size) for tensor, size in sizes.items()}
    assert sum(kept[1].values()) == int(0.2 * sum(sizes.values())) + 1
    shares = [kept[1][tensor] / size for tensor, size in sizes.items()]
    assert max(shares) - min(shares) > 0.05


def test_weights_change_the_election_in_mergekit_and_not_in_the_paper(compared):
    """Where a alone has its sign but the largest weight, it wins in mergekit only."""
    of, theirs, ours = compared("election")
    a, b, c = (delta.double() for delta in of.deltas(UP).values())
    alone = (a.sign() == -b.sign()) & (b.sign() == c.sign()) & (a.abs() > 1e-3)
    outvoted = alone & (a.abs() < 0.9 * (b + c).abs()) & (10 * a.abs() > 1.1 * (b + c).abs())
    assert outvoted.any()
    torch.testing.assert_close(change(theirs, of, UP)[outvoted], a[outvoted], atol=1e-7, rtol=0)
    torch.testing.assert_close(change(ours, of, UP)[outvoted], ((b + c) / 2)[outvoted], atol=1e-7, rtol=0)


def factors(merged, of, tensor):
    """By what the entries of a's task vector that are left were multiplied, where rounding leaves it readable."""
    delta, moved = of.deltas(tensor)["a"].double(), change(merged, of, tensor)
    return (moved / delta)[(moved != 0) & (delta.abs() > 1e-3)]


def test_dare_divides_by_the_density_and_mergekits_gives_each_tensor_its_sum_of_magnitudes_back(compared):
    """The two agree on average; small tensors make the difference."""
    of, theirs, ours = compared("dare")
    apart = []
    for tensor in of.states["base"]:
        if not len(left := factors(ours, of, tensor)):
            continue
        torch.testing.assert_close(left, torch.full_like(left, 10.0), rtol=1e-3, atol=0)
        scale = factors(theirs, of, tensor)
        torch.testing.assert_close(scale, scale[0].expand_as(scale), rtol=1e-3, atol=0)
        moved = change(theirs, of, tensor).abs().sum()
        assert float(moved) == pytest.approx(float(of.deltas(tensor)["a"].double().abs().sum()), rel=1e-4)
        apart.append(abs(float(scale[0]) - 10))
    assert max(apart) > 1 > min(apart)


def test_della_divides_by_each_entrys_probability_and_mergekits_multiplies_by_one_factor(compared):
    of, theirs, ours = compared("della")
    scale = factors(theirs, of, UP)
    torch.testing.assert_close(scale, scale[0].expand_as(scale), rtol=1e-3, atol=0)
    assert 1.6 < float(scale[0]) < 2.0  # it keeps more of the large entries
    own = factors(ours, of, UP)
    assert 1 / 0.61 < float(own.min()) < 1.8 < 2.2 < float(own.max()) < 1 / 0.39


def test_breadcrumbs_density_counts_what_is_kept_in_both(compared):
    """Kept are 90 % of the entries: all but 5 % above and 5 % below; mergekit drops fewer above if there is no room."""
    of, theirs, ours = compared("breadcrumbs")
    _, without_room, our_without = compared("band")
    delta = of.deltas(UP)["a"].abs().flatten()
    size = delta.numel()
    for merged, expected, tolerance in (
        (theirs, 0.9, 0),
        (ours, 0.9, 2),
        (without_room, 0.98, 0),
        (our_without, 0.98, 0),
    ):
        kept = (change(merged, of, UP) != 0).flatten()
        assert int(kept.sum()) == pytest.approx(int(expected * size), abs=tolerance)
        below = max(0, size - int(expected * size) - int(0.05 * size))
        assert int((delta < delta[kept].min()).sum()) == pytest.approx(below, abs=tolerance)


def test_sce_weighs_small_task_vectors_equally_in_mergekit_and_by_their_size_in_the_paper(compared):
    of, theirs, ours = compared("sce")
    deltas = [delta.double() for delta in of.deltas(UP).values()]
    sign = sum(deltas).sign()
    agree = [delta.sign() == sign for delta in deltas]
    squares = [float(delta.square().mean()) for delta in deltas]
    for merged, weights in ((theirs, (1, 1, 1)), (ours, squares)):
        divisor = sum(w * yes for w, yes in zip(weights, agree, strict=True))
        total = sum(w * yes * delta for w, yes, delta in zip(weights, agree, deltas, strict=True))
        torch.testing.assert_close(change(merged, of, UP), total / divisor.clamp(min=1e-30), atol=1e-8, rtol=0)


def test_arcee_fusion_differs_only_where_float32_cannot_tell_the_importance_from_the_threshold(compared):
    """mergekit sums the divergence in float32, where it cancels to two or three digits; ours is exact."""
    of, theirs, ours = compared("fusion")
    for tensor, base in of.states["base"].items():
        model, base = of.states["a"][tensor].double(), base.double()
        p, q = (x.softmax(-1) + 1e-8 for x in (model, base))
        importance = (model - base).abs() * (p * (p / q).log()).sum(-1, keepdim=True)
        ordered = importance.flatten().sort().values
        q1, median, q3 = (ordered[int(portion * (len(ordered) - 1))] for portion in (0.25, 0.5, 0.75))
        distance = importance / (median + 1.5 * (q3 - q1)) - 1
        kept = [merged[tensor].double() != base for merged in (theirs, ours)]
        assert (kept[0] == kept[1])[distance.abs() > 0.05].all(), tensor
        decided = distance.abs() > 1e-5
        assert torch.equal(kept[1][decided], ((distance > 0) & (model != base))[decided]), tensor
