"""Merges of a few small tensors, and what tests of rules that decide entry by entry compare them with."""

import torch
from merge_models import save

from langmerge.merging import Recipe, state_dicts

ALL = ("a", "b", "c")


def merge(sources, method, models=ALL, block=500, **parameters):
    (merged,) = state_dicts([Recipe("merged", method, models, "base", parameters)], sources, block=block)
    return merged


def close(one, other, tolerance=2e-7):
    assert set(one) == set(other)
    for name in one:
        torch.testing.assert_close(one[name].double(), other[name].double(), atol=tolerance, rtol=0, msg=name)


def deltas_of(states, models=ALL):
    """Name -> float64 (models, entries); the task vectors are float32 differences, as the engine has them."""
    base = states["base"]
    return {n: torch.stack([(states[m][n] - base[n]).flatten() for m in models]).double() for n in base}


def folders(place, states):
    return {name: save(place / name, state) for name, state in states.items()}


def coarse_states(**shapes):
    """Task vectors of whole numbers from -2 to 2, so that equal scores, equal changes and zero sums abound."""
    generator = torch.Generator().manual_seed(5)
    base = {name: torch.zeros(shape) for name, shape in shapes.items()}
    drawn = {
        model: {n: torch.randint(-2, 3, t.shape, generator=generator).float() for n, t in base.items()} for model in ALL
    }
    return {"base": base, **drawn}
