"""Fisher information, Gram matrices, token counts and similarity against slow readable formulas."""

import math

import pytest
import torch

from langmerge.calibration.fisher import diagonal_fisher
from langmerge.calibration.gram import gram_matrices, linear_maps
from langmerge.calibration.sentences import equally_long
from langmerge.calibration.similarity import debiased_cka, layer_similarity, pooled_states
from langmerge.calibration.token_counts import token_counts
from langmerge.prompts import Encoded, Prompt, encode_pairs

PAIRS = [("a red cat", "un gato"), ("no", "no"), ("we see it", "lo vemos hoy"), ("so", "ya"), ("old book", "libro")]


@pytest.fixture(scope="module")
def encoded(tokenizer):
    return encode_pairs(Prompt("<{source_code}> {source} <{target_code}>", "plain"), tokenizer, PAIRS, "en", "es")


# ---- Fisher --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_fisher_is_the_mean_squared_gradient_of_the_answers_log_likelihood(encoded, make_llama, tied):
    model = make_llama(3, tie_word_embeddings=tied)
    expected = {}
    double = make_llama(3, tie_word_embeddings=tied).double()
    for row in encoded:
        logits = double(torch.tensor([row.ids])).logits[0]
        likelihood = sum(
            logits[t - 1, row.ids[t]] - logits[t - 1].exp().sum().log() for t in range(row.prompt_length, len(row.ids))
        )
        for name, weight in double.named_parameters():
            (gradient,) = torch.autograd.grad(likelihood, weight, retain_graph=True)
            expected[name] = expected.get(name, 0) + gradient**2 / len(encoded)
    found = diagonal_fisher(model, encoded)
    assert found.keys() == expected.keys() == dict(model.named_parameters()).keys()
    for name, value in expected.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name].double(), value, rtol=2e-4, atol=1e-5 * float(value.max()), msg=name)
    assert all(weight.grad is None for weight in model.parameters())


def test_fisher_of_the_models_own_labels_has_the_expected_value_of_the_exact_one(encoded, make_llama):
    """One token to predict, so the expectation over labels can be written out."""
    model = make_llama(4)
    row = encoded[1]
    short = Encoded(row.ids[: row.prompt_length + 1], row.prompt_length, row.source, row.target)
    logits = model(torch.tensor([short.ids])).logits[0, -2]
    weight = model.model.norm.weight
    exact = torch.zeros_like(weight)
    for token, p in enumerate(logits.softmax(-1).tolist()):
        (gradient,) = torch.autograd.grad(logits.log_softmax(-1)[token], weight, retain_graph=True)
        exact += p * gradient**2
    drawn = diagonal_fisher(model, [short] * 1500, "model", seed=7)["model.norm.weight"]
    torch.testing.assert_close(drawn.sum(), exact.detach().sum(), rtol=0.1, atol=0)
    again = diagonal_fisher(model, [short] * 30, "model", seed=7)["model.norm.weight"]
    other = diagonal_fisher(model, [short] * 30, "model", seed=8)["model.norm.weight"]
    assert torch.equal(again, diagonal_fisher(model, [short] * 30, "model", seed=7)["model.norm.weight"])
    assert not torch.equal(again, other)


def test_parameters_that_no_example_touches_have_no_information(encoded, make_llama):
    found = diagonal_fisher(make_llama(5, tie_word_embeddings=False), encoded)["model.embed_tokens.weight"]
    read = {token for row in encoded for token in row.ids[:-1]}
    assert {i for i in range(len(found)) if found[i].any()} == read


# ---- Gram ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_gram_matrices_are_the_mean_outer_product_of_every_real_input(encoded, make_llama, tied):
    model = make_llama(6, tie_word_embeddings=tied)
    inputs = {}
    handles = [
        module.register_forward_hook(lambda m, x, y, n=name: inputs.setdefault(n, []).append(x[0][0].double()))
        for name, module in linear_maps(model).items()
    ]
    with torch.no_grad():
        for row in encoded:  # one by one: nothing can leak from one sequence into another
            model(torch.tensor([row.ids]))
    for handle in handles:
        handle.remove()
    found = gram_matrices(model, encoded)
    names = {f"model.layers.{i}.self_attn.{x}_proj.weight" for i in range(2) for x in "qkvo"}
    names |= {f"model.layers.{i}.mlp.{x}_proj.weight" for i in range(2) for x in ("gate", "up", "down")}
    assert found.keys() == names | (set() if tied else {"lm_head.weight"})
    for name, matrix in found.items():
        rows = torch.cat(inputs[name])
        assert len(rows) == sum(len(row.ids) for row in encoded)
        expected = sum(torch.outer(x, x) for x in rows) / len(rows)
        torch.testing.assert_close(matrix.double(), expected, rtol=1e-4, atol=1e-5 * float(expected.max()))


def test_sequences_are_batched_by_length_and_none_is_lost(encoded):
    batches = list(equally_long(encoded, 60))
    assert sorted(i for batch in batches for i in batch) == list(range(len(encoded)))
    for batch in batches:
        assert len({len(encoded[i].ids) for i in batch}) == 1
        assert len(batch) == 1 or len(batch) * len(encoded[batch[0]].ids) <= 60
    assert all(len(batch) == 1 for batch in equally_long(encoded, 1))


# ---- token counts --------------------------------------------------------------------------------------------------


def test_token_counts_count_every_token_of_the_text_and_nothing_else(tokenizer):
    texts = ["abba", "a", "cab"] * 700  # more than are tokenised at once
    counts = token_counts(tokenizer, texts, 300)
    by_letter = {letter: int(counts[tokenizer.convert_tokens_to_ids(letter)]) for letter in "abc"}
    assert by_letter == {"a": 4 * 700, "b": 3 * 700, "c": 700}
    assert counts.shape == (300,) and int(counts.sum()) == 8 * 700


# ---- similarity ----------------------------------------------------------------------------------------------------


def hsic_by_sums(k, l):  # noqa: E741
    """Song et al. 2012, equation 5, with loops."""
    n = len(k)
    k = [[0 if i == j else float(k[i, j]) for j in range(n)] for i in range(n)]
    l = [[0 if i == j else float(l[i, j]) for j in range(n)] for i in range(n)]  # noqa: E741
    trace = sum(k[i][j] * l[j][i] for i in range(n) for j in range(n))
    sums = sum(map(sum, k)) * sum(map(sum, l)) / ((n - 1) * (n - 2))
    cross = sum(sum(k[i]) * sum(l[i]) for i in range(n)) * 2 / (n - 2)
    return (trace + sums - cross) / (n * (n - 3))


def test_similarity_is_the_ratio_of_unbiased_hsic():
    stack = torch.randn(3, 9, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    stack[1] = stack[0] + 0.3 * stack[1]
    grams = [x @ x.T for x in stack]
    found = debiased_cka(stack)
    for i in range(3):
        for j in range(3):
            expected = hsic_by_sums(grams[i], grams[j]) / math.sqrt(
                hsic_by_sums(grams[i], grams[i]) * hsic_by_sums(grams[j], grams[j])
            )
            assert float(found[i, j]) == pytest.approx(expected, rel=1e-9)


def test_similarity_does_not_see_rotations_lengths_and_shifts():
    x = torch.randn(12, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64))
    found = debiased_cka(torch.stack([x, 3 * x @ rotation + 5]))
    torch.testing.assert_close(found, torch.ones(2, 2, dtype=torch.float64))


def test_states_that_are_all_alike_have_no_similarity():
    assert debiased_cka(torch.stack([torch.ones(6, 3), torch.randn(6, 3)]))[0].isnan().all()


def test_too_few_sentences_are_an_error():
    with pytest.raises(ValueError, match="3 sentences"):
        debiased_cka(torch.zeros(2, 3, 4))


def test_pooled_states_are_means_over_the_tokens_of_each_sentence(encoded, model):
    states = pooled_states(model, encoded)
    assert states.shape == (3, len(encoded), 16)
    with torch.no_grad():
        for i, row in enumerate(encoded):
            hidden = model(torch.tensor([row.ids]), output_hidden_states=True).hidden_states
            for layer, state in enumerate(hidden):
                torch.testing.assert_close(states[layer, i], state[0].mean(0), rtol=1e-4, atol=1e-5)
    table = layer_similarity([states, states])
    torch.testing.assert_close(table, torch.ones(3, 2, 2))
