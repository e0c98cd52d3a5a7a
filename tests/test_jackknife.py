"""Jackknife intervals: the textbook's for means, and as often right as they say for what is no mean."""

import math

import numpy as np
import pytest

from langmerge import jackknife
from langmerge.jackknife import interval, interval_of_mean


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def test_the_jackknife_of_a_mean_is_the_textbook_error(generator):
    values = generator.normal(size=20)
    left_out = np.array([np.delete(values, i).mean() for i in range(20)])
    assert jackknife.standard_error(left_out) == pytest.approx(values.std(ddof=1) / np.sqrt(20))
    low, high = interval(values.mean(), left_out)
    assert (high - low) / 2 == pytest.approx(2.093 * values.std(ddof=1) / np.sqrt(20), rel=1e-3)
    assert (low, high) == pytest.approx(interval_of_mean(values))


def test_one_unit_gives_no_interval():
    assert np.isnan(jackknife.standard_error(np.ones((1, 3)))).all()
    assert np.isnan(interval(np.ones(3), np.ones((1, 3)))).all()
    assert all(map(math.isnan, interval_of_mean(np.ones(1))))


def test_an_undefined_estimate_without_one_unit_leaves_only_its_own_interval_undefined():
    left_out = np.array([[1.0, np.nan], [2.0, 1.0], [3.0, 1.0]])
    low, high = interval(np.array([2.0, 1.0]), left_out)
    assert low[0] < 2 < high[0] and np.isnan([low[1], high[1]]).all()


def test_a_higher_level_is_wider(generator):
    left_out = generator.normal(size=(10, 4))
    low, high = interval(left_out.mean(0), left_out, 0.99)
    narrow_low, narrow_high = interval(left_out.mean(0), left_out, 0.9)
    assert (low < narrow_low).all() and (high > narrow_high).all()


def test_intervals_hold_the_truth_as_often_as_they_say(generator):
    """A ratio of sums over 25 units of a cosine of 0.3 on the average: 95 % of the intervals, within noise."""
    held = 0
    for _ in range(300):
        a = generator.standard_normal((25, 40))
        b = 0.3 * a + math.sqrt(1 - 0.09) * generator.standard_normal((25, 40))
        x, y, z = (a * b).sum(1), (a * a).sum(1), (b * b).sum(1)
        cosine = lambda keep, x=x, y=y, z=z: x[keep].sum() / math.sqrt(y[keep].sum() * z[keep].sum())  # noqa: E731
        every = np.arange(25)
        low, high = interval(cosine(every), np.array([cosine(every != i) for i in every]))
        held += low <= 0.3 <= high
    assert 0.91 < held / 300 < 0.98
