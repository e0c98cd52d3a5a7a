"""The symmetry trap: copies without noise stay copies however long they are trained; copies with noise part."""

import pytest
import torch

from langmerge.growing.hyperclone import hyperclone
from langmerge.growing.symmetry import copy_difference


def train(model, steps=8):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    stream = torch.Generator().manual_seed(3)
    losses = []
    for _ in range(steps):
        tokens = torch.randint(20, (4, 16), generator=stream)
        loss = model(tokens, labels=tokens).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def half_difference(gradient):
    """Relative difference of the two halves of a gradient's rows."""
    first, second = gradient.chunk(2)
    return float((first - second).norm() / gradient.norm())


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("heads", ["all", "queries"])
@pytest.mark.parametrize("form", ["symmetric", "diagonal"])
def test_noise_free_copies_never_differ(lab, form, heads, tied):
    """AdamW's division magnifies rounding, so the bound is loose; with noise the difference is a thousand times it."""
    source = lab.decoder(num_key_value_heads=2, tie_word_embeddings=tied, initializer_range=0.1)
    differences = {}
    for noise in (False, True):
        weights, config = hyperclone(*lab.parts(source), form=form, heads=heads, noise=noise)
        model = lab.rebuilt(weights, config)
        before = copy_difference(weights, source.config.to_dict(), width=2, heads=heads)
        losses = train(model)
        assert losses[-1] < losses[0] - 0.5  # it did learn
        after = copy_difference(lab.parts(model)[0], source.config.to_dict(), width=2, heads=heads)
        differences[noise] = before, after
    assert differences[False][0] == 0
    assert differences[False][1] < 1e-4
    assert min(differences[True]) > 0.1


def test_gradients_of_copies_are_equal_without_noise_and_differ_with_it(lab):
    source = lab.decoder(num_key_value_heads=2, tie_word_embeddings=True)
    tokens = torch.arange(60).reshape(2, 30)
    found = {}
    for noise in (False, True):
        model = lab.rebuilt(*hyperclone(*lab.parts(source), noise=noise))
        model(tokens, labels=tokens).loss.backward()
        layer = model.model.layers[1]
        found[noise] = [
            half_difference(layer.mlp.gate_proj.weight.grad),
            half_difference(layer.self_attn.q_proj.weight.grad),
            half_difference(model.model.embed_tokens.weight.grad.T),
        ]
    assert max(found[False]) < 1e-5
    assert min(found[True]) > 0.01


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0])
def test_the_difference_at_birth_is_what_the_noise_makes_it(lab, snr_db):
    source = lab.decoder(num_key_value_heads=4, hidden_size=64)
    weights, _ = hyperclone(*lab.parts(source), snr_db=snr_db)
    # The head has one copy of the output and counts twice the difference; leave it out of this formula.
    del weights["lm_head.weight"]
    expected = (2 / (1 + 10 ** (snr_db / 10))) ** 0.5
    assert copy_difference(weights, source.config.to_dict(), width=2) == pytest.approx(expected, rel=0.02)


def test_matrices_of_zeros_do_not_differ(lab):
    source = lab.decoder(num_key_value_heads=2)
    weights, _ = hyperclone(*lab.parts(source))
    zeros = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    assert copy_difference(zeros, source.config.to_dict(), width=2) == 0
