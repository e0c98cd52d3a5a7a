"""How studies write growth: checked before anything runs, and turned into the spec of a job."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from langmerge import growth
from langmerge.config.growth_recipe import GrowSpec


def test_the_recipe_imports_nothing_heavy():
    code = "import sys, langmerge.config.growth_recipe; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("method", growth.METHODS)
def test_defaults_pass_their_own_check(method):
    spec = GrowSpec(parent="small", method=method).spec()
    assert spec.pop("method") == method
    assert growth.check(method, spec) == spec


def test_the_spec_is_complete_and_takes_the_seed_of_the_replicate():
    recipe = GrowSpec(parent="small", parameters={"width": 3})
    assert recipe.spec(seed=7) == {
        "method": "hyperclone", "width": 3, "heads": "all", "form": "symmetric",
        "noise": True, "snr_db": 10.0, "seed": 7,
    }  # fmt: skip
    assert GrowSpec(parent="small", parameters={"seed": 4}).spec(seed=7)["seed"] == 4
    assert GrowSpec(parent="small", method="stack").spec(seed=7) == {"method": "stack", "depth": 2}


def test_what_preserves_the_function():
    assert {name for name in growth.METHODS if GrowSpec(parent="a", method=name).preserves} == {
        "hyperclone",
        "identity",
    }


def test_the_grown_architecture_is_foretold():
    parent = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 4}
    kept = GrowSpec(parent="a", parameters={"width": 3, "heads": "queries"}).architecture(parent)
    assert kept == {
        "hidden_size": 96, "intermediate_size": 192, "num_attention_heads": 12, "num_key_value_heads": 4,
        "num_hidden_layers": 4, "head_dim": 8,
    }  # fmt: skip
    assert GrowSpec(parent="a", method="dus").architecture(parent) == parent | {"num_hidden_layers": 6}
    with pytest.raises(ValueError, match=r"expected a factor that makes a whole number above 4, such as 1\.25$"):
        GrowSpec(parent="a", method="identity", parameters={"depth": 1.3}).architecture(parent)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"method": "clone"}, "unknown way to grow 'clone'"),
        ({"parameters": {"width": 9}}, "hyperclone.width: 9 is not allowed; expected a whole number >= 2 and <= 8"),
        ({"parameters": {"snr": 9}}, "unknown parameter 'snr'; did you mean 'snr_db'"),
        ({"parameters": {"heads": "none"}}, "expected one of all, queries"),
        ({"method": "dus", "parameters": {"depth": 1.0}}, "dus.depth: 1.0 is not allowed; expected a number > 1"),
        ({"factor": 2}, "factor"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_wrong_is_said(fields, message):
    with pytest.raises(ValidationError, match=message):
        GrowSpec(parent="small", **fields)
