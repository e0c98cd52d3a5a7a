import json
from pathlib import Path

import numpy as np
import pytest

from langmerge.prompts import Prompt, encode_text
from langmerge.provenance import InputError
from langmerge.training.data import Corpora, cut_texts, encode_part, flatten
from langmerge.training.settings import Component

PROMPT = Prompt("<{source_code}>{source} in {target_name}:<{target_code}>")
EN_ES = Component(source="en", target="es")


def rows_of(sequences):
    return [row.tolist() for row in np.split(sequences.tokens, sequences.offsets[1:-1])]


@pytest.mark.parametrize("loss", ["target", "all"])
def test_pairs_have_the_tokens_that_decoding_sees(inputs, tokenizer, loss):
    part = Component(source="en", target="es", loss=loss)
    sequences, _ = encode_part(Corpora(inputs), tokenizer, part, PROMPT, "", 64)
    pairs = Corpora(inputs).pairs(part)
    assert len(sequences) == len(pairs) == 300
    for row, first, (source, target) in zip(rows_of(sequences), sequences.first, pairs, strict=True):
        prompt, _ = PROMPT.encode_prompt(tokenizer, source, "en", "es")
        assert row[: len(prompt)] == prompt
        assert tokenizer.decode(row[len(prompt) : -1]) == target and row[-1] == tokenizer.eos_token_id
        assert first == (len(prompt) if loss == "target" else 1)


def test_texts_follow_their_tag(inputs, tokenizer):
    part = Component(task="text", language="es")
    sequences, _ = encode_part(Corpora(inputs), tokenizer, part, PROMPT, "<{code}>", 64)
    head = [tokenizer.bos_token_id, tokenizer.convert_tokens_to_ids("<es>")]
    for row, first, text in zip(rows_of(sequences), sequences.first, Corpora(inputs).texts(part), strict=True):
        assert row[:2] == head and first == 2
        assert tokenizer.decode(row[2:-1]) == text and row[-1] == tokenizer.eos_token_id


def test_texts_without_a_tag_follow_the_beginning(inputs, tokenizer):
    part = Component(task="text", language="es")
    sequences, _ = encode_part(Corpora(inputs), tokenizer, part, PROMPT, "", 64)
    for row, first, text in zip(rows_of(sequences), sequences.first, Corpora(inputs).texts(part), strict=True):
        assert row[0] == tokenizer.bos_token_id and first == 1
        assert tokenizer.decode(row[1:-1]) == text and row[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize("loss", ["target", "all"])
@pytest.mark.parametrize("task", ["sentiment", "arithmetic"])
def test_examples_are_prompt_and_right_answer(task_inputs, tokenizer, task, loss):
    part = Component(task="examples", name=task, language="es", loss=loss)
    sequences, left_out = encode_part(Corpora(task_inputs), tokenizer, part, PROMPT, "", 64)
    lines = (task_inputs["tasks/es"] / f"{task}.train.jsonl").read_text().splitlines()
    assert left_out == 0 and len(sequences) == len(lines) >= 30
    for row, first, line in zip(rows_of(sequences), sequences.first, lines, strict=True):
        item = json.loads(line)
        answer = item["choices"][item["gold"]] if task == "sentiment" else item["answer"]
        prompt = [tokenizer.bos_token_id, *tokenizer(item["prompt"], add_special_tokens=False)["input_ids"]]
        assert row[: len(prompt)] == prompt and row[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(row[len(prompt) : -1]) == answer
        assert first == (len(prompt) if loss == "target" else 1)


def test_portions_and_lengths_of_examples(task_inputs, tokenizer):
    part = Component(task="examples", name="arithmetic", language="es", portion=(0.5, 1))
    assert [answer for _, answer in Corpora(task_inputs).examples(part)] == [str(i) for i in range(15, 30)]
    everything, _ = encode_part(Corpora(task_inputs), tokenizer, part, PROMPT, "", 64)
    limit = int(everything.lengths.max()) - 1
    shorter, left_out = encode_part(Corpora(task_inputs), tokenizer, part, PROMPT, "", limit)
    assert left_out == int((everything.lengths > limit).sum()) == len(everything) - len(shorter) > 0
    with pytest.raises(InputError, match=r"arithmetic\.es.*context_length 2"):
        encode_part(Corpora(task_inputs), tokenizer, part, PROMPT, "", 2)


def test_missing_tasks_are_named(inputs, task_inputs):
    corpora = Corpora({"tasks/es": task_inputs["tasks/es"]})
    with pytest.raises(InputError, match=r"sentiment\.de.*tasks/de"):
        corpora.examples(Component(task="examples", name="sentiment", language="de"))
    with pytest.raises(InputError, match=r"minimal_pairs\.train\.jsonl"):
        corpora.examples(Component(task="examples", name="minimal_pairs", language="es"))


def test_long_texts_are_cut_without_losing_a_token(tokenizer):
    text = encode_text(tokenizer, "bada " * 30, "es", "<{code}>")
    pieces, first = cut_texts([text], "target", 16)
    assert [token for piece in pieces for token in piece] == list(text.ids)
    assert max(map(len, pieces)) == 16
    assert first == [2] + [1] * (len(pieces) - 1)
    alone, _ = cut_texts([text], "all", len(text.ids) - 1)
    assert [len(piece) for piece in alone] == [len(text.ids) - 1]  # the last token alone has no context


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
        (json.dumps({"en": "a", "es": "b"}) + '\n{"en": "a"}', ["line 2", '"es"']),
        (json.dumps({"en": "a", "es": " "}), ["line 1", '"es"', "empty"]),
        (json.dumps({"en": "a", "es": 3}), ["line 1", '"es"', "text"]),
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
