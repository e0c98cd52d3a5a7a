"""base + mean(m - base) = mean(m): normalised task arithmetic with equal weights is the linear merge, for every base.

So of the five methods that arXiv 2512.10772 merges by, two are one.
"""

import pytest
import torch
from merge_models import save, weights

from langmerge.merging import Recipe, state_dicts

MODELS = ("a", "b", "c", "d")


def sixteenths(state):
    """Multiples of 1/16 below 8: sums, differences and quarters of them are exact in fp32."""
    return {name: (tensor * 200).round().clamp(-100, 100) / 16 for name, tensor in state.items()}


@pytest.fixture
def sources(tmp_path):
    states = {name: sixteenths(weights(seed)) for seed, name in enumerate((*MODELS, "base", "other"))}
    return {name: save(tmp_path / name, state) or tmp_path / name for name, state in states.items()}


def merged(sources, method, models, base=None, **parameters):
    (found,) = state_dicts([Recipe("merged", method, models, base, parameters)], sources)
    return found.state_dict


@pytest.mark.parametrize("models", [MODELS[:2], MODELS], ids=len)
@pytest.mark.parametrize("base", ["base", "other"])
def test_it_is_the_linear_merge_whatever_the_base(sources, models, base):
    linear = merged(sources, "linear", models)
    arithmetic = merged(sources, "task_arithmetic", models, base, normalize=True)
    assert set(linear) == set(arithmetic)
    for name, tensor in linear.items():
        assert torch.equal(tensor, arithmetic[name]), name
    assert any(tensor.any() for tensor in linear.values())


def test_a_scale_makes_it_another_method(sources):
    linear = merged(sources, "linear", MODELS)
    scaled = merged(sources, "task_arithmetic", MODELS, "base", normalize=True, scale=0.5)
    assert not all(torch.equal(linear[name], tensor) for name, tensor in scaled.items())
