"""Tensor names of the common families."""

import pytest

from langmerge.weighing.names import MODULES, layer_index, module_type


@pytest.mark.parametrize(
    ("name", "module", "layer"),
    [
        ("model.embed_tokens.weight", "embed", None),
        ("model.layers.0.self_attn.q_proj.weight", "q", 0),
        ("model.layers.10.self_attn.k_proj.bias", "k", 10),
        ("model.layers.9.self_attn.v_proj.weight", "v", 9),
        ("model.layers.9.self_attn.o_proj.weight", "o", 9),
        ("model.layers.9.self_attn.q_norm.weight", "norm", 9),
        ("model.layers.2.mlp.gate_proj.weight", "gate", 2),
        ("model.layers.2.mlp.up_proj.weight", "up", 2),
        ("model.layers.2.mlp.down_proj.weight", "down", 2),
        ("model.layers.2.post_attention_layernorm.weight", "norm", 2),
        ("model.norm.weight", "norm", None),
        ("lm_head.weight", "head", None),
        ("transformer.h.3.attn.c_attn.weight", "qkv", 3),
        ("transformer.h.3.attn.c_proj.weight", "o", 3),
        ("transformer.h.3.mlp.c_proj.weight", "down", 3),
        ("transformer.h.3.ln_1.bias", "norm", 3),
        ("gpt_neox.layers.4.attention.dense.weight", "o", 4),
        ("gpt_neox.layers.4.mlp.dense_4h_to_h.weight", "down", 4),
        ("model.layers.1.block_sparse_moe.experts.7.w2.weight", "down", 1),
        ("model.layers.1.block_sparse_moe.gate.weight", "router", 1),
        ("model.layers.1.mlp.gate_up_proj.weight", "gate_up", 1),
        ("something.new", "other", None),
    ],
)
def test_module_and_layer(name, module, layer):
    assert (module_type(name), layer_index(name)) == (module, layer)
    assert module in MODULES
