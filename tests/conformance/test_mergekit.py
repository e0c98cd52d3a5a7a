"""Our methods at `convention: mergekit` and mergekit 0.1.5 itself, on the same files, entry by entry.

mergekit computes in float32 here (`dtype: float32`); by default it computes in the models' own type, see
test_mergekit_differences.py.
"""

import pytest
from cases import CASES
from peers import DTYPES, merge_with_mergekit
from ulps import excess

from langmerge.merging.documents import mergekit
from langmerge.merging.documents.from_mergekit import translate
from langmerge.merging.reader import ModelFolder

pytestmark = pytest.mark.conformance


@pytest.fixture(scope="session")
def theirs(families, tmp_path_factory):
    pairs = [(name, case) for name in DTYPES for case in CASES]
    merged = merge_with_mergekit([(case, families[name]) for name, case in pairs], tmp_path_factory.mktemp("mergekit"))
    return {(name, case.name): result for (name, case), result in zip(pairs, merged, strict=True)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_we_and_mergekit_give_the_same(case, dtype, families, theirs, record_property):
    family, expected = families[dtype], theirs[dtype, case.name]
    assert isinstance(expected, dict), expected
    merged = family.ours(case)
    assert set(merged) == set(expected)
    far = {name: excess(merged[name], expected[name], family.inputs(case, name)) for name in merged}
    units, unequal = max(far.values())[0], sum(share for _, share in far.values()) / len(far)
    record_property("conformance", [case.method, dtype, units, unequal])
    assert units <= case.units, {name: value for name, value in far.items() if value[0] > case.units}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_mergekits_file_read_by_us_is_the_same_recipe(case, families):
    """mergekit's own configuration, through our reader of its format."""
    family = families["float32"]
    document = mergekit.read(case.config(family.folders, "float32"))
    job = translate(document, lambda name: ModelFolder(name, family.folders[name]), "merged")
    assert job.dtype == "float32"
    # The file holds no seed.
    assert job.recipe("merged") == family.recipe(case, **({} if case.seed is None else {"seed": 0}))
