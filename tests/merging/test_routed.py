"""EMR-Merging and TALL masks as merged models, against slow readable float64 formulas."""

import pytest
import torch
from entrywise import ALL, close, coarse_states, deltas_of, folders
from entrywise import merge as run

from langmerge.merging.methods import routed


def model(states, merged):
    return {n: b.double() + merged[n].view(b.shape) for n, b in states["base"].items()}


def reference_emr(states, number, convention, models=ALL):
    """(merged task vector by tensor, rescaler), entry by entry as the paper has it."""
    masked, own, kept = {}, [], []
    for name, d in deltas_of(states, models).items():
        unified = torch.zeros(d.shape[1]).double()
        for e in range(d.shape[1]):
            total = d[:, e].sum()
            sign = torch.sign(total) if total != 0 or convention == "paper" else -1.0
            unified[e] = sign * max([0.0, *(abs(v) for v in d[:, e].tolist() if v * sign > 0)])
        masked[name] = unified * (d[number] * unified > 0)
        size = d.shape[1] if convention == "released" else 1
        own.append(d[number].abs().sum() / size)
        kept.append(masked[name].abs().sum() / size)
    scale = float(sum(own) / sum(kept)) if sum(kept) else 0.0
    return {name: scale * values for name, values in masked.items()}, scale


@pytest.fixture
def coarse(tmp_path):
    states = coarse_states(**{"x.0.w": (31, 7), "x.1.w": (64,), "y": (3,)})
    return states, folders(tmp_path, states)


@pytest.mark.parametrize("convention", ["paper", "released"])
@pytest.mark.parametrize("serve", ALL)
def test_emr_elects_masks_and_rescales(sources, states, serve, convention):
    merged, scale = reference_emr(states, ALL.index(serve), convention)
    result = run(sources, "emr", serve=serve, convention=convention)
    close(result.state_dict, model(states, merged))
    assert result.statistics["rescaler"] == pytest.approx(scale, rel=1e-6)


@pytest.mark.parametrize("block", [8, 1000])
@pytest.mark.parametrize("convention", ["paper", "released"])
def test_emr_decides_zero_sums_as_documented(coarse, convention, block):
    states, sources = coarse
    merged, _ = reference_emr(states, 1, convention)
    close(run(sources, "emr", serve="b", convention=convention, block=block).state_dict, model(states, merged), 1e-5)


def test_emr_keeps_the_mean_magnitude_of_the_served_model(sources, states):
    result = run(sources, "emr", serve="b").state_dict
    change = sum(float((result[n] - b).abs().sum()) for n, b in states["base"].items())
    own = sum(float((states["b"][n] - b).abs().sum()) for n, b in states["base"].items())
    assert change == pytest.approx(own, rel=1e-5)


def test_emr_of_one_model_is_that_model(sources, states):
    close(run(sources, "emr", ("a",), serve="a").state_dict, states["a"])


def test_emr_restores_models_exactly_whose_changes_are_disjoint(tmp_path):
    base = {"w": torch.zeros(6)}
    states = {
        "base": base,
        "a": {"w": torch.tensor([1.0, -2, 0, 0, 0, 0])},
        "b": {"w": torch.tensor([0, 0, 3.0, -4, 0, 0])},
    }
    sources = folders(tmp_path, states)
    for name in "ab":
        close(run(sources, "emr", ("a", "b"), serve=name).state_dict, states[name], 0)


def test_emr_serves_the_base_for_a_model_that_lost_every_vote(tmp_path):
    states = {"base": {"w": torch.zeros(3)}, "a": {"w": torch.full((3,), 5.0)}, "b": {"w": torch.full((3,), -1.0)}}
    sources = folders(tmp_path, states)
    result = run(sources, "emr", ("a", "b"), serve="b")
    close(result.state_dict, states["base"], 0)
    assert result.statistics["rescaler"] == 0


@pytest.mark.parametrize("method", ["emr", "tall_mask"])
def test_the_order_of_the_models_does_not_matter(sources, method):
    one, other = (run(sources, method, models, serve="b").state_dict for models in (ALL, ALL[::-1]))
    close(one, other)


@pytest.mark.parametrize("mask_scale", [0.0, 0.6, 2.0])
def test_tall_mask_keeps_what_is_nearer_to_the_model_than_to_the_base(sources, states, mask_scale):
    merged = {}
    for name, d in deltas_of(states).items():
        total = d.sum(0)
        merged[name] = total * (d[2].abs() >= mask_scale * (total - d[2]).abs())
    close(run(sources, "tall_mask", serve="c", mask_scale=mask_scale).state_dict, model(states, merged))


def test_tall_mask_with_ties_masks_the_elected_sum(sources, states):
    deltas = deltas_of(states)
    flat = torch.cat(list(deltas.values()), 1)
    keep = int(0.3 * flat.shape[1]) + 1
    trimmed = torch.stack([d * (d.abs() >= d.abs().sort(descending=True).values[keep - 1]) for d in flat])
    vector = (trimmed * (trimmed.sign() == trimmed.sum(0).sign())).sum(0)
    masked = vector * (flat[0].abs() >= 0.6 * (vector - flat[0]).abs())
    merged = dict(zip(deltas, masked.split([d.shape[1] for d in deltas.values()]), strict=True))
    close(run(sources, "tall_mask", serve="a", vector="ties", density=0.3).state_dict, model(states, merged))


def test_tall_mask_with_equal_distances_keeps_them_but_the_released_code_does_not(tmp_path):
    states = {"base": {"w": torch.zeros(3)}, "a": {"w": torch.ones(3)}, "b": {"w": torch.ones(3)}}
    sources = folders(tmp_path, states)
    rule = {"models": ("a", "b"), "serve": "a", "mask_scale": 1.0}
    assert run(sources, "tall_mask", **rule).state_dict["w"].tolist() == [2, 2, 2]
    assert run(sources, "tall_mask", convention="released", **rule).state_dict["w"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("method", ["emr", "tall_mask"])
@pytest.mark.parametrize("serve", [None, "d"])
def test_whom_to_serve_must_be_said(sources, method, serve):
    with pytest.raises(ValueError, match=rf"{method}\.serve: .* expected one of a, b, c"):
        run(sources, method, serve=serve)


def test_agreement_is_by_sign_even_where_the_product_would_vanish():
    tiny = torch.tensor([1e-30, -1e-30, 0.0, 1.0])
    assert routed.agreeing(tiny, torch.tensor([1e-30, 1e-30, 1.0, 0.0])).tolist() == [1, 0, 0, 0]
