"""Tables as files: what pandas and the csv module read back."""

import csv
import math

import numpy as np
import pandas as pd
import pytest

from langmerge.csv_files import write_csv


def test_values_come_back_to_nine_digits(tmp_path):
    rows = [{"name": 'á, "b"', "x": math.pi, "n": 7}, {"name": "", "x": np.float32(1e-30), "n": 10**12}]
    write_csv(tmp_path / "a.csv", iter(rows))
    found = pd.read_csv(tmp_path / "a.csv", keep_default_na=False)
    assert list(found.columns) == ["name", "x", "n"]
    assert list(found.name) == ['á, "b"', ""]
    np.testing.assert_allclose(found.x, [math.pi, 1e-30], rtol=1e-8)
    assert list(found.n) == [7, 10**12]


def test_what_is_undefined_is_an_empty_cell(tmp_path):
    write_csv(tmp_path / "a.csv", [{"x": math.nan, "y": np.float32("nan"), "z": 1}])
    assert (tmp_path / "a.csv").read_bytes() == b"x,y,z\n,,1\n"


def test_a_table_without_rows_is_its_header(tmp_path):
    write_csv(tmp_path / "a.csv", [], ("x", "y"))
    with (tmp_path / "a.csv").open() as file:
        assert list(csv.reader(file)) == [["x", "y"]]
    write_csv(tmp_path / "b.csv", [])
    assert (tmp_path / "b.csv").read_bytes() == b""


@pytest.mark.parametrize(
    ("rows", "columns"), [([{"x": 1}, {"y": 1}], ()), ([{"y": 1, "x": 2}], ("x", "y")), ([{"x": 1}], ("x", "y"))]
)
def test_rows_must_have_the_same_columns(tmp_path, rows, columns):
    with pytest.raises(ValueError, match=r"a\.csv: a row has columns"):
        write_csv(tmp_path / "a.csv", rows, columns)
