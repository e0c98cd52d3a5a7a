"""Orders of layers, and which of the deeper models compute what their source computes."""

import pytest
import torch

from langmerge import growth
from langmerge.growing.dus import dus, dus_order
from langmerge.growing.identity import identity, identity_order
from langmerge.growing.methods import GROW
from langmerge.growing.stack import stack, stack_order
from langmerge.models import training_flops_per_token


def test_the_methods_are_those_that_are_described():
    assert set(GROW) == set(growth.METHODS)


def test_orders_are_the_papers():
    assert stack_order(3, 2) == [0, 1, 2, 0, 1, 2]
    assert dus_order(32, 1.5) == [*range(24), *range(8, 32)]  # SOLAR: 48 layers, m = 8
    assert dus_order(4, 2.0) == stack_order(4, 2)
    order, blocks = identity_order(32, 1.25)  # LLaMA Pro: after every fourth layer a copy of it
    assert (len(order), blocks) == (40, list(range(4, 40, 5)))
    assert order[:6] == [0, 1, 2, 3, 3, 4]
    assert identity_order(3, 2.0) == ([0, 0, 1, 1, 2, 2], [1, 3, 5])
    assert identity_order(3, 5 / 3) == ([0, 1, 2, 1, 2], [3, 4])


def test_layers_stand_where_the_order_puts_them(lab):
    weights, config = lab.parts(lab.decoder("qwen2", num_key_value_heads=2, num_hidden_layers=4))
    for (grown, changed), order in (
        (stack(weights, config), stack_order(4, 2)),
        (dus(weights, config), [0, 1, 2, 1, 2, 3]),
    ):
        assert changed["num_hidden_layers"] == len(order)
        for place, layer in enumerate(order):
            for part in (
                "self_attn.q_proj.weight",
                "self_attn.k_proj.bias",
                "mlp.down_proj.weight",
                "input_layernorm.weight",
            ):
                assert torch.equal(grown[f"model.layers.{place}.{part}"], weights[f"model.layers.{layer}.{part}"])
        lab.rebuilt(grown, changed)


def test_kinds_of_layers_go_with_the_layers(lab):
    kinds = ["full_attention", "sliding_attention", "full_attention"]
    model = lab.decoder("qwen3", num_key_value_heads=2, layer_types=kinds, use_sliding_window=True, sliding_window=4)
    _, changed = identity(*lab.parts(model), depth=4 / 3)
    assert changed["layer_types"] == [*kinds, "full_attention"]
    assert lab.relative(lab.rebuilt(*identity(*lab.parts(model))), model) == 0


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", [{}, {"attention_bias": True, "mlp_bias": True}, {"kind": "qwen3", "head_dim": 8}])
@pytest.mark.parametrize("depth", [4 / 3, 5 / 3, 2.0])
def test_identity_blocks_change_nothing_at_all(lab, tied, kind, depth):
    source = lab.decoder(**kind, num_key_value_heads=2, tie_word_embeddings=tied)
    grown = lab.rebuilt(*identity(*lab.parts(source), depth=depth))
    assert grown.config.num_hidden_layers == round(3 * depth)
    assert torch.equal(lab.logits(grown), lab.logits(source))


def test_identity_blocks_learn(lab):
    source = lab.decoder(num_key_value_heads=2)
    grown = lab.rebuilt(*identity(*lab.parts(source)))
    tokens = torch.arange(40).reshape(2, 20)
    grown(tokens, labels=tokens).loss.backward()
    block = grown.model.layers[1]
    assert not block.mlp.down_proj.weight.any()
    assert not block.self_attn.o_proj.weight.any()
    assert block.mlp.down_proj.weight.grad.abs().max() > 0
    assert block.self_attn.o_proj.weight.grad.abs().max() > 0


@pytest.mark.parametrize("method, parameters", [("stack", {"depth": 2}), ("dus", {"depth": 4 / 3})])
def test_stacks_do_not_preserve_the_function_and_say_so(lab, method, parameters):
    source = lab.decoder(num_key_value_heads=2)
    grown = lab.rebuilt(*GROW[method](*lab.parts(source), **parameters))
    assert lab.relative(grown, source) > 1e-3
    assert not growth.METHODS[method].preserves


@pytest.mark.parametrize("method, depth", [("stack", 2), ("stack", 3), ("dus", 4 / 3), ("identity", 5 / 3)])
def test_deeper_parameters_and_flops_follow_the_formula(lab, method, depth):
    source = lab.decoder(num_key_value_heads=2)
    weights, config = GROW[method](*lab.parts(source), depth=depth)
    layers, layer = round(3 * depth), 2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 24
    assert sum(weight.numel() for weight in weights.values()) == layers * (layer + 2 * 16) + 16 + 2 * 260 * 16
    flops = training_flops_per_token(lab.rebuilt(weights, config).config, 64)
    assert flops == 6 * (layers * layer + 260 * 16) + 12 * layers * 16 * 64


def test_copies_share_no_memory_and_the_source_is_left_alone(lab):
    weights, config = lab.parts(lab.decoder(num_key_value_heads=2))
    before = {name: weight.clone() for name, weight in weights.items()}
    for method in ("stack", "identity"):
        grown, _ = GROW[method](weights, config)
        inside = [weight.data_ptr() for name, weight in grown.items() if "layers" in name]
        assert len(set(inside)) == len(inside)
        assert not set(inside) & {weight.data_ptr() for weight in weights.values()}
    assert all(torch.equal(weights[name], before[name]) for name in before)
    assert config["num_hidden_layers"] == 3


@pytest.mark.parametrize(
    "method, layers, depth, message",
    [
        ("identity", 3, 1.5, "depth 1.5 of 3 layers makes 4.5; expected a factor that makes a whole number above 3"),
        ("identity", 32, 1.0001, "expected a factor that makes a whole number above 32, such as 1.031"),
        ("dus", 4, 1.25, "depth 1.25 of 4 layers makes 5; expected a factor that makes an even number above 4.* 1.5$"),
        ("dus", 3, 1.5, "makes 4.5; expected a factor that makes an even number above 3, such as 1.333$"),
    ],
)  # fmt: skip
def test_depths_that_make_no_layers_are_refused(method, layers, depth, message):
    for make in ({"identity": identity_order, "dus": dus_order}[method],
                 lambda n, d: growth.grown_config({"num_hidden_layers": n}, method, {"depth": d})):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            make(layers, depth)
