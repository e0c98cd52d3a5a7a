"""Log-probabilities: equal to a loop over single sentences, whatever the batches; windows score each token once."""

import math
import random

import numpy as np
import pytest
import torch

from langmerge.evaluation import likelihood
from langmerge.evaluation.likelihood import answer_likelihoods, windows
from langmerge.evaluation.metrics import score
from langmerge.evaluation.perplexity import text_likelihoods, text_statistics
from langmerge.tasks import encode

WORDS = ["a", "be", "sea", "door", "earth", "ß", "jardín", "über", "наука", "पानी"]


@pytest.fixture(scope="module")
def pairs():
    draw = random.Random(3)

    def text(low, high):
        return " ".join(draw.choices(WORDS, k=draw.randint(low, high)))

    return [(text(1, 8) if draw.random() < 0.7 else "", text(1, 6)) for _ in range(30)]


def by_hand(model, tokenizer, prompt, answer):
    """The definition: one forward pass a token, over exactly the tokens before it."""
    ids, start = encode(tokenizer, prompt, answer)
    total = 0.0
    for t in range(start, len(ids) - 1):
        with torch.no_grad():
            logits = model(torch.tensor([ids[:t]])).logits[0, -1].double()
        total += float(torch.log_softmax(logits, -1)[ids[t]])
    return total


def test_equals_a_loop_without_padding(model, tokenizer, pairs):
    found = answer_likelihoods(model.double(), tokenizer, pairs, 8)
    expected = [by_hand(model, tokenizer, *pair) for pair in pairs]
    model.float()
    np.testing.assert_allclose(found.log_probabilities, expected, rtol=1e-9)
    # A token is a byte here; the space between prompt and answer is one token, and no byte of the answer
    spaces = [int(bool(prompt) and not prompt[-1].isspace() and not answer[0].isspace()) for prompt, answer in pairs]
    assert 0 < sum(spaces) < len(spaces)
    assert found.bytes.tolist() == [len(answer.encode()) for _, answer in pairs]
    assert found.tokens.tolist() == [
        len(answer.encode()) + space for (_, answer), space in zip(pairs, spaces, strict=True)
    ]
    assert found.read == sum(
        1 + len(p.encode()) + len(a.encode()) + space for (p, a), space in {*zip(pairs, spaces, strict=True)}
    )


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_does_not_depend_on_batch_size_or_order(model, tokenizer, pairs, batch_size):
    expected = answer_likelihoods(model, tokenizer, pairs, 7).log_probabilities
    order = random.Random(batch_size).sample(range(len(pairs)), len(pairs))
    found = answer_likelihoods(model, tokenizer, [pairs[i] for i in order], batch_size).log_probabilities
    np.testing.assert_allclose(found, expected[order], rtol=1e-5)


def test_a_small_memory_only_makes_the_batches_smaller(model, tokenizer, pairs, monkeypatch):
    expected = answer_likelihoods(model, tokenizer, pairs, 64).log_probabilities
    sizes = []
    forward = type(model).forward

    def counted(self, *arguments, **options):
        sizes.append(len(options["input_ids"]))
        return forward(self, *arguments, **options)

    monkeypatch.setattr(type(model), "forward", counted)
    monkeypatch.setattr(likelihood, "ENTRIES", 3 * 60 * len(tokenizer))
    found = answer_likelihoods(model, tokenizer, pairs, 64).log_probabilities
    assert 1 < len(sizes) < len(pairs) and max(sizes) < 64
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_equal_texts_have_exactly_equal_numbers(model, tokenizer, pairs):
    """In every batch: else rounding would break ties."""
    found = answer_likelihoods(model, tokenizer, [pairs[0], *pairs, pairs[0]], 4).log_probabilities
    assert found[0] == found[1] == found[-1]


def test_the_prompt_is_a_condition_and_not_scored(model, tokenizer):
    """The chain rule: log p(ab) = log p(a) + log p(b | a), with the space between them in b."""
    whole, first, second, newline = answer_likelihoods(
        model, tokenizer, [("", "abc def"), ("", "abc"), ("abc", "def"), ("abc\n", "def")], 3
    ).log_probabilities
    assert whole == pytest.approx(first + second, rel=1e-5)
    (line,) = answer_likelihoods(model, tokenizer, [("", "abc\n")], 1).log_probabilities
    (lines,) = answer_likelihoods(model, tokenizer, [("", "abc\ndef")], 1).log_probabilities
    assert lines == pytest.approx(line + newline, rel=1e-5)


def test_without_a_beginning_token_the_end_token_stands_for_it(model, tokenizer):
    (expected,) = answer_likelihoods(model, tokenizer, [("", "abc")], 1).log_probabilities
    tokenizer = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<s>")
    assert tokenizer.bos_token_id is None
    found = answer_likelihoods(model, tokenizer, [("", "abc")], 1)
    assert found.log_probabilities[0] == expected and found.tokens[0] == 3


def test_restores_the_training_mode(model, tokenizer):
    model.train()
    answer_likelihoods(model, tokenizer, [("", "a")], 1)
    assert model.training
    model.eval()


# ---- windows and bits per byte -------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [2, 3, 4, 7, 8, 64])
@pytest.mark.parametrize("start", [1, 5, 9, 19])
def test_windows_score_every_token_once_with_half_a_context_before_it(context, start):
    ids = list(range(100, 120))
    scored = []
    for span in windows(ids, start, context):
        assert len(span.ids) <= context and span.start >= 1
        assert list(span.ids) == ids[span.ids[0] - 100 : span.ids[-1] - 99]
        for i in range(span.start, len(span.ids)):
            assert i >= context // 2 or span.ids[0] == 100
            scored.append(span.ids[i])
    assert scored == ids[start:]


def test_windows_need_two_tokens():
    with pytest.raises(ValueError, match="at least 2"):
        list(windows([1, 2], 1, 1))


def test_long_texts_are_scored_by_window(model, tokenizer):
    text = "the door of the earth"
    found = answer_likelihoods(model, tokenizer, [("", text)], 2, context=8)
    ids = encode(tokenizer, "", text)[0][:-1]
    expected = 0.0
    for t in range(1, len(ids)):
        begin = 0 if t < 8 else 4 * ((t - 8) // 4 + 1)  # windows of 8 begin every 4 tokens
        with torch.no_grad():
            logits = model(torch.tensor([ids[begin:t]])).logits[0, -1].double()
        expected += float(torch.log_softmax(logits, -1)[ids[t]])
    assert found.log_probabilities[0] == pytest.approx(expected, rel=1e-5)
    assert found.tokens[0] == len(ids) - 1


def test_a_uniform_model_needs_log2_of_the_vocabulary_a_token(make_model):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<s>", "</s>", "sol", "mar", "año"]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<s>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    uniform = make_model()
    torch.nn.init.zeros_(uniform.lm_head.weight)
    texts = ["sol mar año", "año", "mar mar"]
    statistics = text_statistics(text_likelihoods(uniform, tokenizer, texts, 2))
    tokens, size = 6, sum(len(text.encode()) for text in texts)
    assert float(score("bits_per_byte", statistics.sum(0))) == pytest.approx(math.log2(260) * tokens / size, rel=1e-6)
    assert statistics[:, 1].tolist() == [12, 4, 7]
