import json
from pathlib import Path

import numpy as np
import pytest
from langmerge import prompts
from langmerge.prompts import Prompt
from langmerge.provenance import InputError
from langmerge.training.data import Corpora, encode_pairs, encode_part, encode_texts, flatten
from langmerge.training.settings import Component

PROMPT = Prompt("<{source_code}>{source} in {target_name}:<{target_code}>")
EN_ES = Component(source="en", target="es")
CHAT = "{% for m in messages %}<s>user: {{ m['content'] }}</s>{% endfor %}{% if add_generation_prompt %}bot:{% endif %}"


@pytest.mark.parametrize("form", ["plain", "chat"])
def test_pairs_have_the_tokens_that_decoding_sees(inputs, tokenizer, form):
    tokenizer.chat_template = CHAT
    prompt = Prompt(PROMPT.template, form)
    pairs = Corpora(inputs).pairs(EN_ES)[:20]
    ids, first = encode_pairs(prompt, tokenizer, pairs, EN_ES)
    for row, start, (source, target) in zip(ids, first, pairs, strict=True):
        expected = prompt.encode(tokenizer, source, target, "en", "es")
        assert tuple(row) == expected.ids
        assert start == expected.prompt_length
        assert row[:start] == prompt.encode_prompt(tokenizer, source, "en", "es")[0]


def test_texts_have_the_tokens_of_the_shared_code(tokenizer):
    part = Component(task="text", language="es")
    ids, first = encode_texts(tokenizer, ["bada nolo", "kata"], "<{code}>", part, 99)
    for row, start, text in zip(ids, first, ["bada nolo", "kata"], strict=True):
        expected = prompts.encode_text(tokenizer, text, "es", "<{code}>")
        assert tuple(row) == expected.ids
        assert start == expected.prompt_length


def test_loss_on_all_tokens_starts_at_the_second(inputs, tokenizer):
    part = Component(source="en", target="es", loss="all")
    assert set(encode_pairs(PROMPT, tokenizer, [("ba", "do")], part)[1]) == {1}


def test_long_texts_are_cut_without_losing_a_token(tokenizer):
    part = Component(task="text", language="es", loss="all")
    whole, _ = encode_texts(tokenizer, ["bada " * 30], "", part, 10**6)
    pieces, first = encode_texts(tokenizer, ["bada " * 30], "", part, 16)
    assert [token for piece in pieces for token in piece] == whole[0]
    assert max(map(len, pieces)) == 16
    assert set(first) == {1}


def test_long_pairs_are_left_out_and_counted(inputs, tokenizer):
    everything, none = encode_part(Corpora(inputs), tokenizer, EN_ES, PROMPT, "", 64)
    shorter, some = encode_part(Corpora(inputs), tokenizer, EN_ES, PROMPT, "", 20)
    assert none == 0 and some == int((everything.lengths > 20).sum()) > 0
    assert shorter.lengths.max() <= 20
    with pytest.raises(InputError, match=r"en-es.*context_length 2"):
        encode_part(Corpora(inputs), tokenizer, EN_ES, PROMPT, "", 2)


def test_portions_divide_the_rows(inputs):
    corpora = Corpora(inputs)
    halves = [corpora.pairs(Component(source="en", target="es", portion=p)) for p in ((0, 0.5), (0.5, 1))]
    assert halves[0] + halves[1] == corpora.pairs(EN_ES)
    assert len(halves[0]) == 150


def test_reversed_directions_swap_the_sides(inputs):
    corpora = Corpora(inputs)
    assert [(b, a) for a, b in corpora.pairs(Component(source="es", target="en"))] == corpora.pairs(EN_ES)


def test_languages_without_a_common_file_are_joined_on_id(inputs):
    corpora = Corpora(inputs)
    to_es = dict(corpora.pairs(EN_ES))
    to_de = dict(corpora.pairs(Component(source="en", target="de")))
    joined = corpora.pairs(Component(source="de", target="es"))
    assert set(joined) == {(to_de[en], to_es[en]) for en in to_es}


def test_flat_arrays_hold_the_rows():
    sequences = flatten([[1, 2, 3], [4, 5]], [1, 1])
    assert sequences.lengths.tolist() == [3, 2]
    assert np.split(sequences.tokens, sequences.offsets[1:-1])[1].tolist() == [4, 5]


def corpus(folder: Path, text: str) -> Corpora:
    folder.mkdir(exist_ok=True)
    (folder / "train.jsonl").write_text(text)
    return Corpora({"pairs/es": folder})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["train.jsonl", "empty"]),
        ("\n\n", ["train.jsonl", "empty"]),
        ('{"en": "a"', ["line 1", "JSON"]),
        ("[1]", ["line 1", "object"]),
        (json.dumps({"en": "a"}), ["'es'", "train.jsonl"]),
        (json.dumps({"en": "a", "es": "b"}) + '\n{"en": "a"}', ["row 2", "'es'"]),
        (json.dumps({"en": "a", "es": " "}), ["row 1", "'es'", "empty"]),
        (json.dumps({"en": "a", "es": 3}), ["row 1", "'es'"]),
    ],
)
def test_broken_corpora_are_named(tmp_path, text, words):
    with pytest.raises(InputError) as error:
        corpus(tmp_path / "c", text).pairs(EN_ES)
    assert all(word in str(error.value) for word in words)


def test_missing_corpora_are_named(tmp_path, inputs):
    with pytest.raises(InputError, match=r"nowhere.*not found"):
        Corpora({"pairs/es": tmp_path / "nowhere"}).pairs(EN_ES)
    with pytest.raises(InputError, match=r"'tr'.*pairs/tr"):
        Corpora(inputs).texts(Component(task="text", language="tr"))
    with pytest.raises(InputError, match="pairs/"):
        Corpora({"model": tmp_path})
