import json

import pytest

from langmerge.pairs import Direction, read_column, read_direction, read_rows
from langmerge.provenance import InputError

ROWS = [{"id": "b", "en": "cat", "es": "gato"}, {"id": "a", "en": "dog", "es": "perro"}]


def written(path, *rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_rows_stand_in_the_order_of_the_file_without_blank_lines(tmp_path):
    path = written(tmp_path / "test.jsonl", ROWS[0], "", "  ", ROWS[1])
    assert list(read_rows(path)) == list(read_rows(path, "id", "es")) == ROWS
    assert list(read_column(path, "es").items()) == [("b", "gato"), ("a", "perro")]


def test_only_the_columns_asked_for_are_looked_at(tmp_path):
    path = written(tmp_path / "test.jsonl", {"en": "cat"}, {"en": "dog", "es": ""})
    assert [row["en"] for row in read_rows(path, "en")] == ["cat", "dog"]
    assert [row["en"] for row in read_rows(path)] == ["cat", "dog"]  # the first row's are asked for


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("{", "line 3: not valid JSON"),
        ("[1]", r'line 3: expected a JSON object with "id" and "en" and "es", found .\[1\]'),
        ({"id": "a", "en": "dog"}, 'line 3: expected a JSON object with .*"es"'),
        ({"id": "a", "en": "dog", "es": " "}, 'line 3: "es" is empty'),
        ({"id": 1, "en": "dog", "es": "perro"}, 'line 3: "id" is empty or not text'),
    ],
)
def test_broken_lines_are_named_as_the_editor_counts_them(tmp_path, second, message):
    path = written(tmp_path / "test.jsonl", ROWS[0], "", second)
    with pytest.raises(InputError, match=rf"test\.jsonl, {message}"):
        list(read_rows(path))


def test_files_that_are_missing_or_not_utf8(tmp_path):
    with pytest.raises(InputError, match=r"test\.jsonl: file not found"):
        list(read_rows(tmp_path / "test.jsonl"))
    path = tmp_path / "latin.jsonl"
    path.write_bytes('{"id": "a", "es": "ñ"}'.encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.jsonl: not UTF-8"):
        list(read_rows(path))


def test_an_id_that_stands_twice(tmp_path):
    path = written(tmp_path / "test.jsonl", ROWS[0], "", ROWS[0])
    assert len(list(read_rows(path))) == 2
    with pytest.raises(InputError, match="line 3: id 'b' stands twice"):
        read_column(path, "es")


def test_directions_take_each_side_from_the_folder_that_has_it(tmp_path):
    written(tmp_path / "es/dev.jsonl", *ROWS)
    written(tmp_path / "de/dev.jsonl", {"id": "a", "en": "hound", "de": "Hund"})
    folders = {code: tmp_path / code for code in ("es", "de")}

    def read(source, target):
        return read_direction(folders, Direction(source, target), "dev", "en")

    assert read("en", "de") == ({"a": "hound"}, {"a": "Hund"})
    assert read("es", "en") == ({"b": "gato", "a": "perro"}, {"b": "cat", "a": "dog"})
    assert read("de", "es") == ({"a": "Hund"}, {"b": "gato", "a": "perro"})
    with pytest.raises(InputError, match=r"direction en-tr: .*pairs/tr"):
        read("en", "tr")
