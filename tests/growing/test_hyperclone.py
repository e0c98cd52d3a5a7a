"""A clone computes what its source computes: for every kind of head, embedding, bias, factor, form and noise."""

import math

import pytest
import torch

from langmerge import growth
from langmerge.growing.architecture import axes
from langmerge.growing.copies import Copies, assemble, blocks_of, repeat
from langmerge.growing.hyperclone import clone_matrix, hyperclone
from langmerge.growing.noise import cancelling_noise, generator
from langmerge.models import training_flops_per_token

KINDS = {
    "llama": {},
    "llama with biases": {"attention_bias": True, "mlp_bias": True},
    "mistral": {"kind": "mistral", "sliding_window": None},
    "qwen2": {"kind": "qwen2"},
    "qwen3": {"kind": "qwen3", "head_dim": 8},
    "heads of another size": {"head_dim": 6},
}


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("width", [2, 3])
@pytest.mark.parametrize("key_value_heads", [1, 2, 4])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_function_is_preserved(lab, kind, tied, key_value_heads, width, noise):
    source = lab.decoder(**KINDS[kind], tie_word_embeddings=tied, num_key_value_heads=key_value_heads)
    for heads in ("all", "queries"):
        grown = lab.rebuilt(*hyperclone(*lab.parts(source), width=width, heads=heads, noise=noise))
        assert lab.relative(grown, source) < 1e-5
        assert grown.config.hidden_size == width * 16
        assert grown.config.num_key_value_heads == key_value_heads * (width if heads == "all" else 1)


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("heads", ["all", "queries"])
@pytest.mark.parametrize("tied", [False, True])
def test_the_diagonal_form_preserves_the_function(lab, tied, heads, noise):
    source = lab.decoder(tie_word_embeddings=tied, num_key_value_heads=2, attention_bias=True)
    grown = lab.rebuilt(*hyperclone(*lab.parts(source), width=3, heads=heads, form="diagonal", noise=noise))
    assert lab.relative(grown, source) < 1e-5


@pytest.mark.parametrize("snr_db", [0.0, 20.0, 40.0])
def test_the_function_is_preserved_at_every_level_of_noise(lab, snr_db):
    source = lab.decoder(num_key_value_heads=2)
    grown = lab.rebuilt(*hyperclone(*lab.parts(source), snr_db=snr_db))
    assert lab.relative(grown, source) < 1e-5


def test_every_hidden_state_is_the_sources_repeated(lab):
    source = lab.decoder(num_key_value_heads=2, tie_word_embeddings=True)
    grown = lab.rebuilt(*hyperclone(*lab.parts(source), width=3))
    tokens = torch.arange(30).reshape(1, -1)
    with torch.no_grad():
        small = source.model(tokens, output_hidden_states=True).hidden_states
        large = grown.model(tokens, output_hidden_states=True).hidden_states
    for i, (one, three) in enumerate(zip(small, large, strict=True)):
        expected = torch.cat([one] * 3, -1)
        if i == len(small) - 1:
            expected = expected / 3  # the last norm's gain stands for the head's division
        torch.testing.assert_close(three, expected, rtol=1e-4, atol=1e-5)


def bfloat16_divergence(source, grown, lab):
    p, q = (lab.logits(model.to(torch.bfloat16)).double().log_softmax(-1) for model in (source, grown))
    return float((p.exp() * (p - q)).sum(-1).mean())


@pytest.mark.parametrize("noise, most", [(False, 1e-5), (True, 1e-3)])
def test_in_bfloat16_little_is_lost(lab, noise, most):
    source = lab.decoder(num_key_value_heads=2, initializer_range=0.02)
    grown = lab.rebuilt(*hyperclone(*lab.parts(source), noise=noise))
    assert bfloat16_divergence(source, grown, lab) < most


def test_weights_stored_in_bfloat16_are_grown_in_fp32(lab):
    source = lab.decoder(num_key_value_heads=2)
    weights, config = lab.parts(source)
    rough = {name: weight.bfloat16() for name, weight in weights.items()}
    grown = lab.rebuilt(*hyperclone(rough, config, width=3))
    source.load_state_dict({name: weight.float() for name, weight in rough.items()})
    assert lab.relative(grown, source) < 1e-5


def test_greedy_texts_are_the_same(lab):
    source = lab.decoder(num_key_value_heads=2, tie_word_embeddings=True)
    grown = lab.rebuilt(*hyperclone(*lab.parts(source)))
    prompt = torch.tensor([[5, 17, 99], [8, 200, 31]])
    asked = {"max_new_tokens": 32, "min_new_tokens": 32, "do_sample": False, "attention_mask": torch.ones_like(prompt)}
    texts = [model.generate(prompt, **asked) for model in (source, grown)]
    assert texts[0].shape == (2, 35)
    torch.testing.assert_close(*texts, rtol=0, atol=0)


@pytest.mark.parametrize("heads", ["all", "queries"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("width", [2, 3])
def test_parameters_and_flops_follow_the_formula(lab, width, tied, heads):
    source = lab.decoder(num_key_value_heads=2, tie_word_embeddings=tied)
    weights, config = hyperclone(*lab.parts(source), width=width, heads=heads)
    d, f, h, v, n = 16 * width, 24 * width, 4, 260, 3
    key_value = 2 * h * (width if heads == "all" else 1)
    matrices = n * (2 * d * 4 * width * h + 2 * d * key_value + 3 * d * f)
    expected = matrices + 2 * n * d + d + v * d * (1 if tied else 2)
    assert sum(weight.numel() for weight in weights.values()) == expected
    context = 64
    assert training_flops_per_token(lab.rebuilt(weights, config).config, context) == (
        6 * (matrices + v * d) + 12 * n * 4 * width * h * context
    )


def test_the_published_sizes_are_met():
    """SmolLM2-like decoders of "Grow Up and Merge": 180.1 M parameters become 572.5 M."""
    small = {
        "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3,
        "num_hidden_layers": 30, "vocab_size": 128256,
    }  # fmt: skip
    large = growth.grown_config(small, "hyperclone", growth.check("hyperclone", {}))
    assert (large["hidden_size"], large["intermediate_size"], large["num_attention_heads"]) == (1152, 3072, 18)
    assert (large["num_key_value_heads"], large["head_dim"], large["num_hidden_layers"]) == (6, 64, 30)


# ---- blocks and noise ----------------------------------------------------------------------------------------------


def test_axes_repeat_within_their_groups():
    vector = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert repeat(vector, Copies(2)).tolist() == [1, 2, 3, 4, 1, 2, 3, 4]
    assert repeat(vector, Copies(2, groups=2)).tolist() == [1, 2, 1, 2, 3, 4, 3, 4]
    assert repeat(vector, Copies()).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("out, inner", [(Copies(2), Copies(3)), (Copies(), Copies(2, 2)), (Copies(2, 3), Copies(2))])
def test_a_matrix_of_blocks_maps_copies_to_copies(out, inner):
    blocks = torch.randn(out.number, inner.number, 6, 4, dtype=torch.float64)
    matrix = assemble(blocks, out, inner)
    torch.testing.assert_close(blocks_of(matrix, out, inner), blocks, rtol=0, atol=0)
    x = torch.randn(4, dtype=torch.float64)
    answers = matrix @ repeat(x, inner)
    for a in range(out.number):
        one = [0.0] * out.number
        one[a] = 1.0
        # rows of copy a are those where a repeated indicator of it is one
        rows = torch.cat([torch.tensor(one).repeat_interleave(6 // out.groups)] * out.groups).bool()
        torch.testing.assert_close(answers[rows], sum(blocks[a, b] @ x for b in range(inner.number)))


@pytest.mark.parametrize("form", ["symmetric", "diagonal"])
@pytest.mark.parametrize("copies", [2, 3])
@pytest.mark.parametrize("snr_db", [0.0, 10.0, 25.0])
def test_the_signal_to_noise_ratio_is_as_asked(form, copies, snr_db):
    weight, axis = torch.randn(20, 12), Copies(copies)
    clean = clone_matrix(weight, axis, axis, form, None, generator(1, "w"))
    noisy = clone_matrix(weight, axis, axis, form, snr_db, generator(1, "w"))
    ratio = float(clean.square().mean() / (noisy - clean).square().mean())
    assert 10 * math.log10(ratio) == pytest.approx(snr_db, abs=0.01)


def test_noise_cancels_over_the_inputs_and_differs_between_the_outputs():
    blocks = torch.randn(3, 3, 5, 4)
    noise = cancelling_noise(blocks, 10.0, generator(1, "w"))
    torch.testing.assert_close(noise.sum(1), torch.zeros(3, 5, 4), rtol=0, atol=1e-5)
    assert not torch.allclose(noise[0], noise[1])
    assert not cancelling_noise(torch.zeros(2, 2, 5, 4), 10.0, generator(1, "w")).any()
    assert not cancelling_noise(torch.randn(2, 1, 5, 4), 10.0, generator(1, "w")).any()


def test_the_seed_decides_the_noise(lab):
    model = lab.parts(lab.decoder(num_key_value_heads=2))
    one, again, other = (hyperclone(*model, seed=seed)[0] for seed in (1, 1, 2))
    name = "model.layers.1.mlp.up_proj.weight"
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one[name], other[name])
    assert not torch.equal(one[name], one[name.replace("up", "gate")])


def test_look_ups_gains_and_biases_carry_no_noise(lab):
    weights, config = lab.parts(lab.decoder("qwen2", num_key_value_heads=2))
    for name, grown in hyperclone(weights, config)[0].items():
        if name == "model.embed_tokens.weight" or len(axes(name)) == 1:
            torch.testing.assert_close(grown, torch.cat([weights[name]] * 2, -1), rtol=0, atol=0)


# ---- what cannot be grown ------------------------------------------------------------------------------------------


def without(weights, name):
    return {key: weight for key, weight in weights.items() if key != name}


def test_what_cannot_be_grown_is_named(lab):
    weights, config = lab.parts(lab.decoder(num_key_value_heads=2))
    up = "model.layers.1.mlp.up_proj.weight"
    wrong = [
        (weights, config | {"model_type": "gemma2"}, "model_type 'gemma2' cannot be grown; expected one of llama"),
        (weights | {"model.layers.0.mlp.experts.up": weights[up]}, config, "experts.up.*not part of a Llama-type"),
        (weights | {"transformer.h": weights[up]}, config, "'transformer.h'.*not part of a Llama-type"),
        (without(weights, up), config, f"{up}' is missing"),
        (without(weights, "lm_head.weight"), config, "'lm_head.weight' is missing"),
        (weights, config | {"num_hidden_layers": 2}, "layers.2.*the configuration has no such tensor"),
        (weights, config | {"num_hidden_layers": 4}, "layers.3.*is missing"),
        (weights, config | {"attention_bias": True}, "proj.bias' is missing"),
        (weights, config | {"tie_word_embeddings": True}, "'lm_head.weight': the configuration has no such tensor"),
        (weights | {up: weights[up][:-1]}, config, r"up_proj.weight': shape \(23, 16\).*it is \(24, 16\)"),
        (weights | {up: weights[up].to(torch.int8)}, config, "torch.int8 cannot be grown.*before quantization"),
    ]
    for tensors, fields, message in wrong:
        with pytest.raises(ValueError, match=message):
            hyperclone(tensors, fields)
