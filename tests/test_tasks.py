"""Items of tasks: what is read, what is refused, and how an item becomes tokens."""

import json

import pytest
from tiny_llamas import byte_tokenizer

from langmerge.provenance import InputError
from langmerge.tasks import Item, encode, file_of, read_items

CHOICE = {"id": "1", "kind": "choice", "prompt": "p", "choices": ["a", "b"], "gold": 1, "group": "g"}
GENERATION = {"id": "2", "kind": "generation", "prompt": "Wie viel?", "answer": "12", "group": ""}


def write(folder, *rows):
    path = file_of(folder, "sentiment", "dev")
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def test_rows_become_items_in_order(tmp_path):
    path = write(tmp_path, GENERATION, "", CHOICE)
    assert path.name == "sentiment.dev.jsonl"
    first, second = read_items(path)
    assert first == Item("2", "generation", "Wie viel?", (), -1, "12", "")
    assert second == Item("1", "choice", "p", ("a", "b"), 1, "b", "g")
    assert read_items(path, 1) == [first] and read_items(path, 0) == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 1: not valid JSON"),
        ("[]", "line 1: expected a JSON object"),
        ({**CHOICE, "id": 3}, '"id" is missing or not text'),
        ({**CHOICE, "kind": "essay"}, '"kind" is \'essay\'; expected "choice" or "generation"'),
        ({**CHOICE, "choices": ["a"]}, "at least two texts"),
        ({**CHOICE, "choices": ["a", " "]}, "empty or not text"),
        ({**CHOICE, "gold": 2}, '"gold" is 2; expected the index of the right one of 2'),
        ({**CHOICE, "gold": True}, '"gold" is True'),
        ({**GENERATION, "answer": ""}, '"prompt" or "answer" is empty'),
        ({"id": "2", "kind": "generation", "prompt": "p"}, '"answer" is missing'),
    ],
)
def test_wrong_rows_are_named(tmp_path, row, message):
    with pytest.raises(InputError, match=message):
        read_items(write(tmp_path, row))


def test_missing_files_repeated_ids_and_other_encodings_are_named(tmp_path):
    with pytest.raises(InputError, match="file not found"):
        read_items(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="line 2: id '1' stands twice"):
        read_items(write(tmp_path, CHOICE, CHOICE))
    path = tmp_path / "latin.jsonl"
    path.write_bytes(json.dumps({**CHOICE, "prompt": "é"}, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        read_items(path)


def test_a_sequence_is_prompt_and_answer_between_bos_and_eos():
    tokenizer = byte_tokenizer()
    ids, length = encode(tokenizer, "ab", "é")
    a, b = tokenizer.convert_tokens_to_ids(["a", "b"])
    assert ids[:3] == [tokenizer.bos_token_id, a, b] and length == 3
    assert len(ids) == 3 + 2 + 1 and ids[-1] == tokenizer.eos_token_id  # é is two bytes
    assert tokenizer.decode(ids[3:-1]) == "é"
    assert encode(tokenizer, "", "ab") == ([tokenizer.bos_token_id, a, b, tokenizer.eos_token_id], 1)
    tokenizer.bos_token = None
    assert encode(tokenizer, "", "ab") == ([a, b, tokenizer.eos_token_id], 0)
