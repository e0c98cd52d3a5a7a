"""Matched units are the nearest, and say what a unit would do if nothing had befallen it alone."""

import numpy as np
import pytest
from scipy.special import expit, logit

from langmerge.analysis.matching import NEAREST, expected, nearest, peers

K, LAYERS, WIDTH = 4, 3, 200
SELECTIVE = np.array([3, 8, 210, 215, 401])


def rates():
    """Units that fire alike in all languages, but for a few that fire in the first."""
    p = np.tile(np.random.default_rng(0).uniform(0.02, 0.8, LAYERS * WIDTH), (K, 1))
    p[:, SELECTIVE] = 0.1
    p[0, SELECTIVE] = 0.5
    return p


def expectation(before, after):
    free = np.ones(before.shape[1], dtype=bool)
    free[SELECTIVE] = False
    return expected(before, after, SELECTIVE, peers(before, SELECTIVE, free, LAYERS))


def preferences(p):
    return p / p.sum(0)


def test_nearest_are_the_nearest():
    generator = np.random.default_rng(1)
    for size in (3, 10, 11, 200):
        values, wanted = generator.integers(0, 50, size) / 50, generator.uniform(-0.2, 1.2, 30)
        found = nearest(values, wanted)
        assert found.shape == (30, min(size, NEAREST))
        for place, value in zip(found, wanted, strict=True):
            assert len(set(place)) == len(place)
            distances = np.abs(values - value)
            assert np.sort(distances[place]) == pytest.approx(np.sort(distances)[:NEAREST])


def test_peers_are_free_units_of_the_layer_as_frequent_in_the_language():
    p, free = rates(), np.ones(LAYERS * WIDTH, dtype=bool)
    free[SELECTIVE] = False
    found = peers(p, SELECTIVE, free, LAYERS)
    assert found.shape == (K, len(SELECTIVE), NEAREST)
    assert (found // WIDTH == (SELECTIVE // WIDTH)[None, :, None]).all() and free[found].all()
    for k in range(K):
        assert np.abs(p[k, found[k]] - p[k, SELECTIVE][:, None]).max() < 0.1


def test_few_peers_stand_repeatedly_and_none_are_the_unit_itself():
    p = np.full((2, 4), 0.2)
    found = peers(p, np.array([0, 2]), np.array([False, True, False, False]), 2)
    assert found.tolist() == [[[1] * NEAREST, [2] * NEAREST]] * 2
    after = p * np.array([[2.0, 1.5, 3.0, 1.0], [1, 1, 1, 1]])
    # Two languages: half of the difference is common to them
    own = expected(p, after, np.array([0, 2]), found)
    assert preferences(own)[0] == pytest.approx([0.6, 0.75])


@pytest.mark.parametrize("factor", [0.5, 1.1, 1.2])
def test_a_factor_in_one_language_is_expected_exactly(factor):
    p = rates()
    after = p.copy()
    after[0] *= factor
    assert expectation(p, after) == pytest.approx(after[:, SELECTIVE])


def test_a_factor_in_all_languages_too():
    p = rates()
    assert expectation(p, 0.7 * p) == pytest.approx(0.7 * p[:, SELECTIVE])


def test_rates_that_move_to_the_middle_in_one_language():
    """A function of the rate, by layer: matching on the mean rate over languages would be 5 points off."""
    p = rates()
    after = p.copy()
    after[0] = expit(0.6 * logit(p[0]) - 0.4)
    assert preferences(expectation(p, after))[0] == pytest.approx(preferences(after)[0, SELECTIVE], abs=0.01)
    change = preferences(after)[0, SELECTIVE] - preferences(p)[0, SELECTIVE]
    assert (np.abs(change) > 0.05).all()


def test_units_that_drift_in_all_languages_keep_their_preference():
    """Each unit's rate moves to the middle and a random way from there, in all languages by the same factor."""
    p = rates()
    unit = p.mean(0)
    after = np.minimum(p * (0.5 + 0.2 / unit) * np.random.default_rng(2).uniform(0.9, 1.1, len(unit)), 1)
    drift = preferences(expectation(p, after))[0] - preferences(p)[0, SELECTIVE]
    assert np.abs(drift).max() < 0.03


def test_rates_stay_below_one_and_silent_peers_say_nothing():
    p = rates()
    assert expectation(p, np.minimum(5 * p, 1)).max() <= 1
    p[:, np.setdiff1d(np.arange(p.shape[1]), SELECTIVE)] = 0
    assert expectation(p, 2 * p) == pytest.approx(p[:, SELECTIVE])
