"""Barriers: known ones, none, and how sure one can be of them."""

import copy
import math

import numpy as np
import pytest
import torch

from langmerge.landscape.line import Line, barrier, bits_per_byte, excess, lines, percentiles, resamples
from langmerge.landscape.weights import blend

AT = np.linspace(0, 1, 11)


class Point(torch.nn.Module):
    def __init__(self, values):
        super().__init__()
        self.matrix = torch.nn.Parameter(torch.tensor(values[:2], dtype=torch.float32))
        self.vector = torch.nn.Parameter(torch.tensor(values[2:], dtype=torch.float32))

    def all(self):
        return torch.cat([self.matrix.detach().flatten(), self.vector.detach()]).double()


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_barrier_of_a_quadratic_loss_is_known(sign):
    """L = sign/2 theta' H theta: the rise above the chord is -sign/2 a (1 - a) d' H d, at most d' H d / 8 at 1/2."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    hessian = root @ root.T
    one, other = (Point(torch.randn(5, generator=generator).tolist()) for _ in range(2))
    model = Point([0.0] * 5)
    losses = []
    for a in AT:
        blend(model, [dict(one.named_parameters()), dict(other.named_parameters())], [1 - a, a])
        losses.append(float(sign / 2 * model.all() @ hessian @ model.all()))
    step = other.all() - one.all()
    curvature = float(step @ hessian @ step)
    assert excess(np.array(losses), AT) == pytest.approx(-sign / 2 * AT * (1 - AT) * curvature, rel=1e-4, abs=1e-5)
    assert barrier(np.array(losses), AT) == pytest.approx(curvature / 8 if sign < 0 else 0, rel=1e-4, abs=1e-5)


def test_loss_is_a_ratio_of_sums_in_bits_per_byte():
    nats, sizes = np.array([[1.0, 3.0, 0.5], [2.0, 2.0, 2.0]]), np.array([4, 2, 6])
    assert bits_per_byte(nats, sizes) == pytest.approx(np.array([4.5, 6.0]) / 12 / math.log(2))
    draws = np.array([[3.0, 0, 0], [0, 1, 2]])
    expected = [[3 / 12, 6 / 12], [4 / 14, 6 / 14]]
    assert bits_per_byte(nats, sizes, draws) == pytest.approx(np.array(expected) / math.log(2))


def test_equal_sentences_are_resampled_together():
    draws = resamples(["a", "b", "c"], 1, 50)
    assert np.array_equal(draws, resamples(["a", "b", "c"], 1, 50))
    assert not np.array_equal(draws, resamples(["a", "b", "d"], 1, 50))
    assert not np.array_equal(draws, resamples(["a", "b", "c"], 2, 50))
    assert np.array_equal(draws.sum(1), np.full(50, 3))


def test_the_interval_holds_the_true_barrier_as_often_as_it_says():
    """Each sentence's loss is c_s + 4 d_s a (1 - a), all of one length, so that the true barrier is E[d] / ln 2."""
    generator = np.random.default_rng(3)
    truth, hits = 0.5 / math.log(2), 0
    for trial in range(300):
        own, rise = generator.gamma(2, 1, 40), generator.normal(0.5, 0.4, 40)
        nats = own + 4 * (AT * (1 - AT))[:, None] * rise
        ids = [f"{trial} {i}" for i in range(40)]
        found = lines({"es": nats}, {"es": np.ones(40)}, {"es": resamples(ids, 1, 300)}, AT)["es"]
        value, low, high, at = found.barrier()
        assert value == pytest.approx(rise.mean() / math.log(2)) and at == 0.5
        hits += low <= truth <= high
    assert 0.90 <= hits / 300 <= 0.98


@pytest.mark.parametrize("kind", ["wave", "each point by itself", "sagging"])
def test_lines_without_a_barrier_are_seldom_given_one(kind):
    """The rise above the chord has mean 0 (or less) everywhere; how often is the whole interval above 0?"""
    generator, at = np.random.default_rng(5), np.linspace(0, 1, 7)
    trials, above = 300, 0
    for trial in range(trials):
        shape = generator.normal(0, 0.3, (7, 32))
        if kind == "wave":
            shape = np.sin(2 * np.pi * at)[:, None] * generator.normal(0, 0.3, 32)
            shape = shape + (at * (1 - at))[:, None] * generator.normal(0, 1.6, 32)
        elif kind == "sagging":
            shape = (at * (1 - at))[:, None] * generator.normal(-1.2, 1.6, 32)
        nats = generator.gamma(2, 1, 32) + shape
        draws = {"es": resamples([f"{trial} {i}" for i in range(32)], 1, 300)}
        _, low, high, _ = lines({"es": nats}, {"es": np.ones(32)}, draws, at)["es"].barrier()
        assert 0 <= low <= high
        above += low > 1e-12
    assert above / trials <= 0.07


def test_the_band_holds_the_whole_line_as_often_as_it_says():
    """Normal losses at 7 points, correlated along the line, around a planted one."""
    generator, at = np.random.default_rng(6), np.linspace(0, 1, 7)
    truth, hits = np.array([0, 0.3, 0.1, -0.2, 0.0, 0.4, 0]), 0
    for trial in range(300):
        noise = generator.normal(0, 1, (7, 40)).cumsum(0)
        nats = 5 + truth[:, None] + noise
        draws = {"es": resamples([f"{trial} {i}" for i in range(40)], 1, 300)}
        low, high = lines({"es": nats}, {"es": np.ones(40)}, draws, at)["es"].band()
        hits += bool(((low <= truth / math.log(2)) & (truth / math.log(2) <= high))[1:-1].all())
    assert 0.91 <= hits / 300 <= 0.98


def test_of_several_languages_the_mean_is_theirs():
    generator = np.random.default_rng(4)
    nats = {name: generator.gamma(2, 1, (11, 9)) for name in ("es", "de")}
    sizes = {"es": np.arange(1, 10), "de": np.arange(9, 0, -1)}
    draws = {name: resamples([*"abcdefghi"], 1, 64) for name in nats}
    found = lines(nats, sizes, draws, AT)
    both = [found["es"], found["de"]]
    assert found["mean"].losses == pytest.approx((both[0].losses + both[1].losses) / 2)
    assert found["mean"].loss_of_merging()[0] == pytest.approx(sum(line.loss_of_merging()[0] for line in both) / 2)
    low, high = percentiles((both[0].resampled[:, 5] + both[1].resampled[:, 5]) / 2
                            - sum(np.minimum(b.resampled[:, 0], b.resampled[:, -1]) for b in both) / 2)  # fmt: skip
    assert found["mean"].loss_of_merging()[1:3] == pytest.approx((low, high))
    assert "mean" not in lines({"es": nats["es"]}, sizes, draws, AT)


def test_the_midpoint_is_interpolated_where_no_point_lies_there():
    at = np.array([0, 1 / 3, 2 / 3, 1])
    curve = np.array([1.0, 2.0, 4.0, 3.0])
    line = Line(at, curve, np.stack([curve, curve]), curve[0], curve[[0, 0]])
    assert line.midpoint()[0] == pytest.approx(3.0 - 2.0)
    assert line.loss_of_merging() == pytest.approx((2.0, 2.0, 2.0, 0.5))
    assert line.barrier() == pytest.approx((4 - (1 / 3 + 2), 4 - (1 / 3 + 2), 4 - (1 / 3 + 2), 2 / 3))


def test_a_straight_or_sagging_line_has_no_barrier():
    for losses in (1 + 2 * AT, (AT - 0.3) ** 2):
        assert barrier(losses, AT) == pytest.approx(0, abs=1e-12)


def test_ends_and_equal_models_are_met_to_the_last_bit():
    one, other, model = Point([0.1, 0.2, 0.3]), Point([-3.3, 7.7, 1e-8]), Point([0.0] * 3)
    states = [dict(m.named_parameters()) for m in (one, other, copy.deepcopy(one))]
    for coefficients, expected in (([1, 0, 0], one), ([0, 1, 0], other), ([0.3, 0, 0.7], one)):
        blend(model, states, coefficients)
        assert torch.equal(model.all(), expected.all())
    with pytest.raises(ValueError, match="sum to"):
        blend(model, states, [0.5, 0.2, 0.2])
