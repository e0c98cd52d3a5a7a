"""Losses and gradients of a language model against slow readable formulas."""

import pytest
import torch
from toy_models import slow_gradient, slow_loss, tiny_llama

from langmerge.landscape.gradients import block_grams, each_gradient, passes
from langmerge.landscape.layers import in_order, layer_of
from langmerge.landscape.losses import batch_losses, make_batch, make_batches, sentence_losses


@pytest.mark.parametrize("tokens", [1, 60, 10_000])
def test_losses_are_those_of_the_target_spans_one_by_one(encoded, monkeypatch, tokens):
    from langmerge.landscape import losses

    monkeypatch.setitem(losses.TOKENS, "cpu", tokens)
    model = tiny_llama(2)
    batches = make_batches(encoded, range(len(encoded)), model)
    found = sentence_losses(model, batches)
    double = tiny_llama(2).double()
    expected = torch.stack([slow_loss(double, row) for row in encoded]).detach()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert sorted(row for batch in batches for row in batch.rows) == list(range(len(encoded)))


def test_logits_that_do_not_fit_make_smaller_batches(encoded, monkeypatch):
    from langmerge.landscape import losses

    monkeypatch.setitem(losses.LOGITS, "cpu", 1)
    assert all(len(batch.rows) == 1 for batch in make_batches(encoded, range(len(encoded)), tiny_llama()))


BLOCKS = [[0, 3], [1], [2, 4, 5]]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("budget", [None, 4 * 3 * 1000])
def test_inner_products_of_block_gradients_are_those_of_autograd(encoded, tied, budget):
    model, double = (tiny_llama(3, tie_word_embeddings=tied) for _ in range(2))
    double.double()
    found = block_grams(model, [make_batches(encoded, rows, model) for rows in BLOCKS], budget)
    expected = [slow_gradient(double, [encoded[row] for row in rows]) for rows in BLOCKS]
    layers = {layer_of(name) for name in expected[0]}
    assert layers == {"embedding", "0", "1", "head"} and found.keys() == layers | {"all"}
    for layer, gram in found.items():
        names = [name for name in expected[0] if layer in ("all", layer_of(name))]
        flat = torch.stack([torch.cat([g[name].flatten() for name in names]) for g in expected])
        torch.testing.assert_close(gram, flat @ flat.T, rtol=1e-4, atol=1e-4 * float((flat @ flat.T).max()))
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())


def test_every_element_has_its_turn_once_and_no_pass_is_too_large():
    sizes = {"a": 5, "b": 12, "c": 1, "d": 3}
    for capacity in (1, 4, 7, 21, 100):
        groups = passes(sizes, capacity)
        assert len(groups) == -(-21 // capacity)
        assert all(sum(stop - start for _, start, stop in group) <= capacity for group in groups)
        covered = [(name, i) for group in groups for name, start, stop in group for i in range(start, stop)]
        assert covered == [(name, i) for name, size in sizes.items() for i in range(size)]


def test_gradients_are_handed_over_and_the_model_is_left_as_it_was(encoded):
    model = tiny_llama(4)
    model.train()
    frozen = model.model.norm.weight
    frozen.requires_grad_(False)
    seen = []
    with (
        pytest.raises(RuntimeError, match="stop"),
        each_gradient(model, lambda name, _: seen.append(name), ["model.norm.weight"]),
    ):
        batch_losses(model, make_batch(encoded, [0], model.device)).sum().backward()
        raise RuntimeError("stop")
    assert seen == ["model.norm.weight"] and model.training
    assert [name for name, weight in model.named_parameters() if not weight.requires_grad] == ["model.norm.weight"]
    assert not any(weight._post_accumulate_grad_hooks for weight in model.parameters())


def test_layers_are_numbers_and_come_in_order():
    names = {
        "model.embed_tokens.weight": "embedding",
        "transformer.wpe.weight": "embedding",
        "model.layers.10.mlp.experts.3.up_proj.weight": "10",
        "transformer.h.2.ln_1.weight": "2",
        "model.norm.weight": "head",
        "lm_head.weight": "head",
        "embed_out.weight": "head",
    }
    assert {name: layer_of(name) for name in names} == names
    assert in_order({"10", "head", "2", "all", "embedding"}) == ["all", "embedding", "2", "10", "head"]
