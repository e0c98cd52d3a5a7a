"""Items of tasks: what is read, what is refused, and how an item becomes tokens."""

import json
from collections import Counter
from itertools import pairwise

import pytest
from tiny_llamas import byte_tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import Prepend, Replace, Sequence
from tokenizers.pre_tokenizers import ByteLevel

from langmerge.provenance import InputError
from langmerge.tasks import Item, drawn, encode, encode_again, file_of, read_items

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
    assert read_items(path, 2) == read_items(path, 9) == [first, second] and read_items(path, 0) == []


def rows(counts, *, language=""):
    """Choices of groups and right answers, so many each, one group after the other as sorted files hold them."""
    made = [(group, gold) for (group, gold), count in counts.items() for _ in range(count)]
    return [
        {**CHOICE, "id": str(i), "prompt": f"{language}{i}", "group": group, "gold": gold}
        for i, (group, gold) in enumerate(made)
    ]


def test_a_limit_draws_evenly_over_groups_and_right_answers(tmp_path):
    path = write(tmp_path, *rows({("cause", 0): 90, ("cause", 1): 60, ("effect", 0): 8, ("effect", 1): 40}))
    found = read_items(path, 100)
    # 8 is all that one has; of the other 92 two pairs get 31 and one 30, or the like
    counts = Counter((item.group, item.gold) for item in found)
    assert counts.pop(("effect", 0)) == 8 and sorted(counts.values()) == [30, 31, 31]
    assert [int(item.id) for item in found] == sorted(int(item.id) for item in found)
    assert {item.id for item in found} != {item.id for item in read_items(path)[:100]}
    assert all(Counter(item.gold for item in read_items(path, n)) == {0: n // 2, 1: n // 2} for n in (4, 12, 20))


def test_a_draw_depends_on_seed_and_ids_and_a_smaller_one_is_part_of_a_larger():
    spanish, english = (
        [Item(row["id"], "choice", row["prompt"], ("a", "b"), row["gold"], "a", row["group"]) for row in made]
        for made in (rows({("", 0): 300, ("", 1): 20}, language=code) for code in ("es", "en"))
    )
    ids = [[item.id for item in drawn(items, 50)] for items in (spanish, english, spanish[::-1])]
    assert ids[0] == ids[1] == ids[2][::-1]
    assert ids[0] != [item.id for item in drawn(spanish, 50, seed=1)]
    sizes = [{item.id for item in drawn(spanish, n)} for n in (0, 1, 7, 40, 200, 320, 999)]
    assert [len(size) for size in sizes] == [0, 1, 7, 40, 200, 320, 320]
    assert all(small < large or small == large for small, large in pairwise(sizes))


def test_within_a_group_every_item_is_as_likely_to_be_drawn():
    items = [Item(str(i), "generation", "p", (), -1, "a", "") for i in range(40)]
    hits = Counter(item.id for seed in range(400) for item in drawn(items, 10, seed))
    # binomial(400, 1/4): mean 100, standard deviation 8.7
    assert len(hits) == 40 and min(hits.values()) > 65 and max(hits.values()) < 135


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
    assert len(ids) == 3 + 3 + 1 and ids[-1] == tokenizer.eos_token_id  # a space, and é is two bytes
    assert tokenizer.decode(ids[3:-1]) == " é"
    assert encode(tokenizer, "", "ab") == ([tokenizer.bos_token_id, a, b, tokenizer.eos_token_id], 1)
    tokenizer.bos_token = None
    assert encode(tokenizer, "", "ab") == ([a, b, tokenizer.eos_token_id], 0)


@pytest.mark.parametrize("prefix_space", [False, True])
@pytest.mark.parametrize(("prompt", "answer", "whole"), [
    ("Wie viel?", "zwölf", "Wie viel? zwölf"),
    ("Wie viel?", " zwölf", "Wie viel? zwölf"),
    ("Wie viel?\n", "zwölf", "Wie viel?\nzwölf"),
    ("", "zwölf", "zwölf"),
])  # fmt: skip
def test_prompt_and_answer_are_the_text_with_a_space_between_them(prefix_space, prompt, answer, whole):
    """Token for token, whether a tokenizer puts a space before each text (ours do) or not (those of Llama 3, Qwen)."""
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=prefix_space)
    ids, length = encode(tokenizer, prompt, answer)
    expected = tokenizer(whole, add_special_tokens=False)["input_ids"]
    if prefix_space and prompt.endswith("\n"):  # the answer has its own space then
        space = tokenizer.convert_tokens_to_ids("Ġ")
        expected.insert(length - 1, space)
    assert ids[1:-1] == expected


def test_a_tokenizer_of_sentencepiece_has_its_own_space():
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = None
    tokenizer.backend_tokenizer.model = BPE({"<pad>": 0, "<s>": 1, "</s>": 2, "▁": 3, "a": 4, "b": 5}, [])
    tokenizer.backend_tokenizer.normalizer = Sequence([Prepend("▁"), Replace(" ", "▁")])
    assert encode(tokenizer, "a", "b") == ([1, 3, 4, 3, 5, 2], 3)


def test_what_is_remembered_of_an_item_is_its_own_tokenizers():
    """A sweep has one tokenizer; where a process has two, neither gets the other's tokens."""
    with_spaces, without = byte_tokenizer(), byte_tokenizer()
    with_spaces.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True)
    without.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    for tokenizer in (with_spaces, without, with_spaces, without):
        for prompt, answer in (("Wie viel?", "zwölf"), ("Wie viel?", "zehn"), ("", "zwölf")):
            ids, length = encode_again(tokenizer, prompt, answer)
            assert (list(ids), length) == encode(tokenizer, prompt, answer)
    assert encode_again(with_spaces, "", "a") != encode_again(without, "", "a")
