import math

import pytest
import torch

from langmerge.models import load_model
from langmerge.training.optimization import learning_rate, make_optimizer
from langmerge.training.settings import Settings, check


def settings(recipe, **more):
    return check(Settings, {**recipe, "snapshots": [], "steps": 100, "learning_rate": 2.0, "warmup": 0.1,
                            "final_learning_rate": 0.1, **more}, "train")  # fmt: skip


@pytest.mark.parametrize("schedule", ["cosine", "constant", "inverse_sqrt", "linear", "wsd"])
def test_warm_up_is_linear_to_the_peak(recipe, schedule):
    chosen = settings(recipe, schedule=schedule)
    assert [learning_rate(chosen, step) for step in range(10)] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    after = [learning_rate(chosen, step) for step in range(9, 100)]
    assert after == sorted(after, reverse=True)
    assert max(after) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("schedule", "middle", "last"),
    [
        ("cosine", 2 * (0.1 + 0.9 * 0.5), 0.2),
        ("linear", 2 * (1 - 0.9 / 2), 0.2),
        ("constant", 2.0, 2.0),
        ("inverse_sqrt", 2 * math.sqrt(10 / 55), 2 * math.sqrt(10 / 100)),
        ("wsd", 2.0, 0.2),
    ],
)
def test_values_by_hand(recipe, schedule, middle, last):
    chosen = settings(recipe, schedule=schedule)
    assert learning_rate(chosen, 54) == pytest.approx(middle)  # half-way from the end of the warm-up
    assert learning_rate(chosen, 99) == pytest.approx(last)


def test_wsd_decays_linearly_over_the_last_fifth(recipe):
    chosen = settings(recipe, schedule="wsd")
    assert learning_rate(chosen, 79) == pytest.approx(2.0)
    assert learning_rate(chosen, 89) == pytest.approx(2 * (0.1 + 0.9 / 2))


@pytest.mark.parametrize("warmup", [0.0, 1.0])
@pytest.mark.parametrize("schedule", ["cosine", "constant", "inverse_sqrt", "linear", "wsd"])
def test_extreme_warm_ups_give_sensible_rates(recipe, schedule, warmup):
    chosen = settings(recipe, schedule=schedule, warmup=warmup)
    assert all(0 < learning_rate(chosen, step) <= 2.0 for step in range(100))


def test_only_matrices_decay(recipe, inputs):
    model = load_model(inputs["model"])
    optimizer = make_optimizer(model, settings(recipe, weight_decay=0.5))
    decay = {id(w): group["weight_decay"] for group in optimizer.param_groups for w in group["params"]}
    for name, weight in model.named_parameters():
        assert decay[id(weight)] == (0.0 if "norm" in name or "embed" in name else 0.5), name
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    for name, weight in model.named_parameters():  # without gradient, AdamW shrinks by 1 - rate * decay
        factor = 1.0 if "norm" in name or "embed" in name else 1 - 2.0 * 0.5
        torch.testing.assert_close(weight.detach(), before[name] * factor)
