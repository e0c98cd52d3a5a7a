"""Plans of the shipped study at the smallest scale, with single keys changed."""

from pathlib import Path

import pytest
from graph_facts import changed

from langmerge import config, plan

ROOT = Path(__file__).parents[2]


@pytest.fixture
def build(monkeypatch):
    """``build({"merging.drift": None})``: the plan with these keys changed."""
    monkeypatch.chdir(ROOT)
    scale, study = (config.read_yaml(Path(f"config/{name}.yaml")) for name in ("scales/smoke", "studies/translation"))

    def make(changes=None):
        values = config.merge_defaults(scale, study)
        for path, new in (changes or {}).items():
            values = changed(values, path, new)
        return plan.build(config.Study.model_validate(values), "translation")

    return make
