import numpy as np
import pytest
import torch

from langmerge.analysis.forward import observe
from langmerge.analysis.spans import batches, check_spans, positions, span_tokens
from langmerge.prompts import Encoded, Prompt, encode_pairs
from langmerge.provenance import InputError

PROMPT = Prompt("<{source_code}>{source}<{target_code}>")
PAIRS = [("abc de", "fghij"), ("a", "bcdefghij abc"), ("jihgfedcba abc", "ba"), ("ab ab", "c"), ("bb", "ccdd")]
BLOCKS = np.array([0, 2, 1, 0, 2])


@pytest.fixture(scope="module")
def encoded(tokenizer):
    return encode_pairs(PROMPT, tokenizer, PAIRS, "en", "es")


@pytest.fixture(scope="module")
def model(make_model):
    return make_model().double()  # so that no rounding flips the sign of a gate


def test_spans_hold_the_sentences_and_nothing_else(tokenizer, encoded):
    for (source, target), sequence in zip(PAIRS, encoded, strict=True):
        for text, (start, end) in zip((source, target), positions(sequence, "read"), strict=True):
            assert tokenizer.decode(sequence.ids[start:end]) == text


def test_pooling_picks_exactly_the_span_tokens(make_model, encoded):
    model = make_model()
    with torch.no_grad():  # the embedding of token v is v in every channel
        model.model.embed_tokens.weight.copy_(torch.arange(260.0)[:, None].expand(260, 16))
    for align, shift in (("read", 0), ("predict", 1)):
        means = observe(model, encoded, BLOCKS, 3, align).means[:, 0]
        for i, sequence in enumerate(encoded):
            for span, (start, end) in enumerate((sequence.source, sequence.target)):
                expected = np.mean(sequence.ids[start - shift : end - shift])
                assert means[span, i].numpy() == pytest.approx(np.full(16, expected))


def test_first_position_is_never_counted():
    sequence = Encoded((5, 6, 7, 8, 9), 3, (0, 2), (3, 4))
    assert positions(sequence, "read") == ((1, 2), (3, 4))
    assert positions(sequence, "predict") == ((1, 1), (2, 3))
    check_spans([sequence], ["s1"], "read")
    with pytest.raises(InputError, match="'s1': its source"):
        check_spans([sequence], ["s1"], "predict")


def test_last_layer_is_after_the_final_norm(model, encoded):
    means = observe(model, encoded, BLOCKS, 3).means
    assert means.shape == (2, 4, 5, 16)
    for i, sequence in enumerate(encoded):
        with torch.no_grad():
            state = model.model(torch.tensor([sequence.ids])).last_hidden_state[0]
        start, end = sequence.target
        torch.testing.assert_close(means[1, 3, i], state[start:end].mean(0).float())


@pytest.mark.parametrize("align", ["read", "predict"])
def test_counts_equal_a_naive_loop(model, encoded, align):
    outputs = {}
    handles = [
        layer.mlp.gate_proj.register_forward_hook(lambda m, i, o, index=index: outputs.update({index: o[0]}))
        for index, layer in enumerate(model.model.layers)
    ]
    expected = np.zeros((2, 3, 3, 24), dtype=int)
    tokens = np.zeros((2, 3), dtype=int)
    for sequence, block in zip(encoded, BLOCKS, strict=True):
        with torch.no_grad():
            model(torch.tensor([sequence.ids]))  # alone, so unpadded
        for span, (start, end) in enumerate((sequence.source, sequence.target)):
            for place in range(start, end):
                place -= align == "predict"
                tokens[span, block] += 1
                for layer in range(3):
                    expected[span, block, layer] += (outputs[layer][place] > 0).numpy()
    for handle in handles:
        handle.remove()
    assert np.array_equal(observe(model, encoded, BLOCKS, 3, align).counts, expected)
    assert np.array_equal(span_tokens(encoded, BLOCKS, 3, align), tokens)
    assert expected.sum() > 0


def test_batching_and_padding_change_nothing(model, encoded):
    alone, together = (observe(model, encoded, BLOCKS, 3, tokens_per_batch=size) for size in (1, 10_000))
    torch.testing.assert_close(alone.means, together.means, rtol=1e-6, atol=1e-6)
    assert np.array_equal(alone.counts, together.counts)
    device = torch.device("cpu")
    assert len(list(batches(encoded, "read", 1, device))) == 5
    assert len(list(batches(encoded, "read", 10_000, device))) == 1
    sizes = [batch.ids.numel() for batch in batches(encoded, "read", 60, device)]
    assert max(sizes) <= 60
    assert len(sizes) < 5


def test_hooks_are_gone_afterwards(model, encoded):
    observe(model, encoded, BLOCKS, 3)
    assert not any(module._forward_hooks for name, module in model.named_modules() if "gate_proj" in name)


@pytest.mark.parametrize("family", ["Qwen2", "Mistral", "Gemma2"])
def test_other_gated_architectures(family, encoded):
    import transformers

    settings = {"vocab_size": 260, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    settings |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "pad_token_id": 0}
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**settings)
    found = observe(getattr(transformers, f"{family}ForCausalLM")(config).eval(), encoded, BLOCKS, 3)
    assert found.counts.shape == (2, 3, 2, 24)
    fired = found.counts.sum((1, 2, 3)) / (span_tokens(encoded, BLOCKS, 3, "read").sum(1) * 2 * 24)
    assert (np.abs(fired - 0.5) < 0.2).all()  # random gates fire half the time


def test_architecture_without_gates_is_named(encoded):
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=260, n_embd=16, n_layer=2, n_head=4))
    with pytest.raises(InputError, match="GPT2LMHeadModel"):
        observe(model, encoded, BLOCKS, 3)
