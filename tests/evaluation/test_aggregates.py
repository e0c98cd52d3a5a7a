"""Retention and its relatives: anchors, invariances and the undefined cases."""

import numpy as np
import pytest

from langmerge.evaluation.aggregates import interference, ratio, retention


def test_anchors():
    values = retention([30.0, 10.0, 20.0, 5.0, 34.0], 30.0, 10.0, 1.0)
    np.testing.assert_allclose(values, [1.0, 0.0, 0.5, -0.25, 1.2])


def test_does_not_depend_on_the_scale_of_the_score():
    m, e, b = np.array([20.0, 25.0]), np.array([30.0, 26.0]), np.array([10.0, 12.0])
    np.testing.assert_allclose(retention(3 * m + 7, 3 * e + 7, 3 * b + 7, 3.0), retention(m, e, b, 1.0))


def test_undefined_where_the_expert_gained_nothing():
    assert np.isnan(retention(20.0, 11.9, 10.0, 1.0))  # below two standard errors
    assert np.isnan(retention(20.0, 8.1, 10.0, 1.0))
    assert retention(11.0, 12.0, 10.0, 1.0) == 0.5  # at two
    assert np.isnan(retention(20.0, 10.0, 10.0, 0.0))


def test_ratio_and_interference():
    assert ratio(15.0, 20.0) == 0.75
    assert np.isnan(ratio(15.0, 0.0))
    assert interference(15.0, 20.0) == pytest.approx(5.0)
