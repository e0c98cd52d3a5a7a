"""Decoding: independent of batching, equal to a loop without cache, bounded, stopped by the right tokens."""

import random

import pytest
import torch

from langmerge.evaluation.translation import (
    LENGTH_MARGIN,
    Request,
    greedy_decode,
    stop_tokens,
    translate,
    translate_requests,
)
from langmerge.prompts import Prompt

PROMPT = Prompt("{source} <2{target_code}>")
WORDS = ["a", "be", "sea", "door", "earth", "ß", "jardín", "über", "night"]


@pytest.fixture(scope="module")
def requests():
    rng = random.Random(1)
    return [
        Request(" ".join(rng.choices(WORDS, k=rng.randint(1, 9))), "en", rng.choice(["es", "de", "tr"]))
        for _ in range(40)
    ]


def plain_greedy(model, prompt, limit, stop):
    """The definition: the whole sequence through the model for each token, one sentence at a time."""
    ids = list(prompt)
    for _ in range(limit):
        with torch.no_grad():
            token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        if token in stop:
            break
        ids.append(token)
    return ids[len(prompt) :]


def prompts_of(requests, tokenizer):
    return [PROMPT.encode_prompt(tokenizer, *request)[0] for request in requests]


def test_equals_decoding_one_sentence_at_a_time_without_a_cache(model, tokenizer, requests):
    prompts = prompts_of(requests, tokenizer)
    # Enough stop tokens that rows end at different steps
    stop = set(range(2, len(tokenizer), 12))
    limits = [3 + i % 14 for i in range(len(prompts))]
    expected = [plain_greedy(model, p, n, stop) for p, n in zip(prompts, limits, strict=True)]
    assert len({len(ids) for ids in expected}) > 5
    assert greedy_decode(model, prompts, limits, stop, 0, batch_size=16) == expected


@pytest.mark.parametrize("batch_size", [1, 3, 7, 64])
def test_output_does_not_depend_on_batch_size_or_order(model, tokenizer, requests, batch_size):
    options = {"max_new_tokens": 20, "max_length_ratio": 0.5}
    expected = translate_requests(model, tokenizer, PROMPT, requests, batch_size=16, **options)
    order = random.Random(batch_size).sample(range(len(requests)), len(requests))
    shuffled = translate_requests(
        model, tokenizer, PROMPT, [requests[i] for i in order], batch_size=batch_size, **options
    )
    assert shuffled == [expected[i] for i in order]


def test_padding_token_has_no_influence(model, tokenizer, requests):
    prompts = prompts_of(requests, tokenizer)
    first, second = (greedy_decode(model, prompts, [10] * len(prompts), {2}, pad, 8) for pad in (0, 77))
    assert first == second


def test_length_limits(model, tokenizer):
    sentence = "abcdefghij"  # one token a byte
    out = translate_requests(
        model,
        tokenizer,
        PROMPT,
        [Request(sentence, "en", "es")],
        batch_size=1,
        max_new_tokens=500,
        max_length_ratio=1.5,
    )
    unlimited = greedy_decode(model, prompts_of([(sentence, "en", "es")], tokenizer), [500], {2}, 0, 1)[0]
    assert out[0].new_tokens == min(15 + LENGTH_MARGIN, len(unlimited) + 1)
    short = translate_requests(
        model, tokenizer, PROMPT, [Request(sentence, "en", "es")], batch_size=1, max_new_tokens=4
    )
    assert short[0].new_tokens == min(4, len(unlimited) + 1)


def test_only_special_tokens_stop(model, tokenizer, monkeypatch):
    """A generation configuration that names an ordinary word (an unset default) must not end sentences."""
    word = tokenizer.convert_tokens_to_ids("a")
    monkeypatch.setattr(model.generation_config, "eos_token_id", [word, 0])
    assert stop_tokens(model, tokenizer) == {0, 2}


def test_cut_keeps_the_first_line(model, tokenizer, monkeypatch):
    monkeypatch.setattr(type(tokenizer), "decode", lambda *_, **__: "\n Hola. \nAdiós.")
    assert translate(model, tokenizer, PROMPT, ["x"], "en", "es", max_new_tokens=1, cut="newline") == ["Hola."]
    assert translate(model, tokenizer, PROMPT, ["x"], "en", "es", max_new_tokens=1) == ["Hola. \nAdiós."]


def test_restores_training_mode(model, tokenizer):
    model.train()
    translate(model, tokenizer, PROMPT, ["x"], "en", "es", max_new_tokens=1)
    assert model.training
    model.eval()
