"""The schemas and the key reference follow from the code."""

import difflib
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from langmerge import reference

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("path", reference.files(ROOT / "config"), ids=lambda p: p.name)
def test_generated_files_are_up_to_date(path):
    expected, found = reference.files(ROOT / "config")[path], path.read_text()
    difference = "".join(difflib.unified_diff(found.splitlines(True), expected.splitlines(True), "file", "code"))
    assert not difference, f"run `python -m langmerge.reference`\n{difference[:2000]}"


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("s*/*.yaml")), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_shipped_files_fit_the_schema_that_editors_use(path):
    text = path.read_text()
    schema = re.search(r"\$schema=\.\./(\S+)", text)
    assert schema, "the first line names no schema"
    jsonschema.validate(yaml.safe_load(text), yaml.safe_load((ROOT / "config" / schema[1]).read_text()))
