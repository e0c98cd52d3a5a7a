"""Kinds of distance between transforms of real text: read off their names, and said in the report."""

from langmerge.reporting.studies.distance import of_real_text
from langmerge.reporting.studies.distance_measures import kinds_between

REAL = {"kind": "files", "transforms": {"base": "es"}}


def test_kinds_are_those_of_the_names():
    same = {"lexicon": 0, "order": 0, "script": 0, "agreement": 0}
    assert kinds_between("es-relex25", "es-relex25", REAL) == same
    assert kinds_between("es-relex25", "es-relex75", REAL) == {**same, "lexicon": 0.5}
    assert kinds_between("es", "es-relex100-reversed-script", REAL) == {**same, "lexicon": 1, "order": 1, "script": 1}
    assert kinds_between("es-reversed", "es-reversed-script", REAL) == {**same, "script": 1}


def test_the_report_says_what_the_transforms_of_real_text_are():
    said = of_real_text(REAL, {"order", "script"})
    assert "in reverse" in said and "another letter" in said and "cipher" not in said
    assert "agreement" in said and "left out" in said
    assert of_real_text({"kind": "embedded"}, {"order"}) == ""
