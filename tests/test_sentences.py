import json

import numpy as np
import pytest

from langmerge.provenance import InputError
from langmerge.sentences import blocks_of, choose_ids, read_sentences

SPEC = {
    "pivot": "en",
    "split": "dev",
    "sentences": 10,
    "directions": [{"source": "en", "target": "es"}, {"source": "de", "target": "en"}],
}


def test_all_directions_have_the_same_ids(pairs):
    (spanish, german), shared = read_sentences(SPEC, pairs)
    assert shared
    assert spanish.ids == german.ids == tuple(f"s{i}" for i in range(10))
    assert spanish.sources == german.targets  # the pivot's sentences
    assert (spanish.language, german.language, str(german.direction)) == ("es", "de", "de-en")


def test_direction_between_two_languages_is_joined_by_id(pairs):
    directions = [{"source": "es", "target": "de"}, {"source": "en", "target": "es"}, {"source": "es", "target": "en"}]
    found, _ = read_sentences({**SPEC, "directions": directions}, pairs)
    assert found[0].sources == found[1].targets
    assert [s.language for s in found] == ["es-de", "en-es", "es-en"]  # es alone would be ambiguous


def test_corpora_without_common_ids_give_their_own():
    assert choose_ids([["a", "b", "c"], ["b", "a", "x"]], 2) == ([["a", "b"], ["a", "b"]], True)
    assert choose_ids([["a", "b", "c"], ["x", "y"]], 2) == ([["a", "b"], ["x", "y"]], False)
    few_in_common = [[*"abcdefgh", "z"], ["z", *"qrstuvw"]]
    assert choose_ids(few_in_common, 8) == ([[*"abcdefgh"], ["z", *"qrstuvw"]], False)


def test_blocks_are_stable_and_even():
    ids = [f"id{i}" for i in range(4000)]
    blocks = blocks_of(ids, 20)
    assert np.array_equal(blocks[::-1], blocks_of(ids[::-1], 20))
    assert np.bincount(blocks, minlength=20).min() > 140
    assert blocks_of(["id0", "id1"], 1).tolist() == [0, 0]


def test_errors_name_file_and_line(pairs):
    with pytest.raises(InputError, match="expected pairs/fi"):
        read_sentences({**SPEC, "directions": [{"source": "en", "target": "fi"}]}, pairs)
    with pytest.raises(InputError, match=r"test\.jsonl: file not found"):
        read_sentences({**SPEC, "split": "test"}, pairs)
    path = pairs["es"] / "dev.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[:3]))
    with pytest.raises(InputError, match="3 sentence pairs; the analysis needs 4"):
        read_sentences(SPEC, pairs)
    path.write_text('{"id": "s0", "en": "a", "es": "b"}\n{"id": "s1", "en": "a"}\n')
    with pytest.raises(InputError, match=r'dev\.jsonl, line 2: expected a JSON object with "id" and "es"'):
        read_sentences(SPEC, pairs)
