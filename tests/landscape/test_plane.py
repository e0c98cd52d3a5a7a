"""The plane through three models."""

import math

import numpy as np
import pytest
import torch

from langmerge.landscape.plane import coefficients, corners, grid, most_distant
from langmerge.landscape.weights import distances

CPU = torch.device("cpu")


def three(seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a": (4, 5), "b": (7,)}
    return [{name: torch.randn(shape, generator=generator) for name, shape in shapes.items()} for _ in range(3)]


def flat(state):
    return torch.cat([tensor.flatten() for tensor in state.values()]).double()


def test_coordinates_are_those_of_an_orthonormal_frame_and_give_the_models_back():
    models = three()
    one, two, other = map(flat, models)
    u = (two - one) / (two - one).norm()
    rest = (other - one) - u * (u @ (other - one))
    v = rest / rest.norm()
    d = distances(models, CPU)
    places = corners(float(d[0, 1]), float(d[0, 2]), float(d[1, 2]))
    for place, model in zip(places, (one, two, other), strict=True):
        torch.testing.assert_close(one + place[0] * u + place[1] * v, model, rtol=1e-5, atol=1e-5)
    for point in [*places, (0.3, -1.7), (-2.0, 0.4)]:
        c = coefficients(point, places)
        assert sum(c) == pytest.approx(1)
        mixture = c[0] * one + c[1] * two + c[2] * other
        torch.testing.assert_close(mixture, one + point[0] * u + point[1] * v, rtol=1e-5, atol=1e-5)


def test_the_three_models_are_the_unit_vectors_of_the_combination():
    places = corners(3.0, 4.0, 4.5)
    assert np.array([coefficients(place, places) for place in places]) == pytest.approx(np.eye(3), abs=1e-12)


def test_distances_are_norms_of_differences():
    models = three(1)
    found = distances([*models, models[0]], CPU)
    for i in range(4):
        for j in range(4):
            assert float(found[i, j]) == pytest.approx(
                float((flat(models[i % 3]) - flat(models[j % 3])).norm()), abs=1e-9
            )
    assert found[0, 3] == 0


@pytest.mark.parametrize("lengths", [(1.0, 2.0, 1.0), (0.0, 2.0, 2.0), (2.0, 2.0, 0.0), (2.0, 0.0, 2.0)])
def test_models_on_one_line_have_no_plane(lengths):
    with pytest.raises(ValueError, match="no plane"):
        corners(*lengths)


def test_the_grid_surrounds_the_models():
    places = corners(2.0, 2.0, math.sqrt(8))
    points = grid(places, 4, margin=0.5)
    assert len(points) == 16 and points[1][1] == points[0][1]
    assert {round(x, 9) for x, _ in points} == {round(y, 9) for _, y in points} == {-1.0, 0.333333333, 1.666666667, 3.0}


def test_the_most_distant_models():
    assert most_distant(np.array([[0, 1, 2], [1, 0, 5], [2, 5, 0]])) == (1, 2)
    assert most_distant(np.zeros((3, 3))) == (0, 1)
