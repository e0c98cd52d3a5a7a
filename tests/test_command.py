import json
from pathlib import Path

import pytest

from langmerge.command import parse
from langmerge.provenance import InputError

INPUTS = {"model": "m", "pairs/es": "corpora/es", "pairs/de": "corpora/de", "models/pairs/x": "x"}


def command(spec="{}", inputs="{}", *more, **options):
    return parse("langmerge.stage", "A stage.", ["--spec", spec, "--inputs", inputs, "--out", "a/b", *more], **options)


def test_everything_that_is_given_is_decoded():
    found = command('{"a": [1, null]}', json.dumps(INPUTS), "--code", "c", "--environment", "e")
    assert (found.spec, found.out, found.code, found.environment) == ({"a": [1, None]}, Path("a/b"), "c", "e")
    assert found.inputs == {name: Path(folder) for name, folder in INPUTS.items()}


def test_inputs_and_fingerprints_may_be_left_out():
    found = parse("langmerge.stage", None, ["--spec", "{}", "--out", "a"])
    assert (found.inputs, found.code, found.environment, found.work) == ({}, "", "", None)


def test_inputs_of_one_kind():
    found = command(inputs=json.dumps(INPUTS))
    assert found.named("pairs") == {"es": Path("corpora/es"), "de": Path("corpora/de")}
    assert found.named("models") == {"pairs/x": Path("x")}
    assert found.named("mod") == found.named("model") == {}
    assert found.input("pairs/es") == Path("corpora/es")
    with pytest.raises(InputError, match=r'no "pairs/tr".*pairs/de'):
        found.input("pairs/tr")


def test_only_stages_that_resume_have_a_work_folder(capsys):
    assert command("{}", "{}", "--work", "w", work=True).work == Path("w")
    with pytest.raises(SystemExit):
        command("{}", "{}", "--work", "w")
    assert "--work" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"spec": "{'a': 1}"}, "^--spec: not valid JSON"),
        ({"spec": "[1]"}, r"^--spec: expected a JSON object, found '\[1\]'"),
        ({"inputs": "{"}, "^--inputs: not valid JSON"),
        ({"inputs": '{"model": 3}'}, "^--inputs: expected the path of a folder for 'model', found 3"),
    ],
)
def test_what_is_no_json_object_is_named(given, message):
    with pytest.raises(InputError, match=message):
        command(**given)


def test_help_names_the_command(capsys):
    with pytest.raises(SystemExit):
        command("{}", "{}", "--help")
    assert capsys.readouterr().out.startswith("usage: python -m langmerge.stage ")
