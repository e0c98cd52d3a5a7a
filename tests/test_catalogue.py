import subprocess
import sys

import pytest

from langmerge.catalogue import METHODS, check


def test_importing_the_catalogue_imports_nothing_heavy():
    code = "import langmerge.catalogue, sys; sys.exit(bool({'torch', 'numpy', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", METHODS)
def test_defaults_pass_their_own_check(name):
    method = METHODS[name]
    given = {"last": 1} if name == "layer_patch" else {}
    fewest, most = method.models
    n_models = max(2, fewest) if most is None else most
    complete = check(name, given, n_models)
    assert set(complete) == set(method.parameters)
    assert check(name, complete, n_models) == complete


@pytest.mark.parametrize(
    ("method", "parameters", "n_models", "message"),
    [
        ("tie", {}, 2, "did you mean 'ties'"),
        ("xyzzy", {}, 2, "known: linear"),
        ("ties", {"densty": 0.5}, 2, "unknown parameter 'densty'; did you mean 'density'"),
        ("ties", {"density": 0}, 2, "a number > 0 and <= 1"),
        ("ties", {"density": 1.01}, 2, "a number > 0 and <= 1"),
        ("ties", {"density": "0.5"}, 2, "a number > 0"),
        ("ties", {"density": True}, 2, "a number > 0"),
        ("ties", {"convention": "peeft"}, 2, "one of paper, mergekit, peft; did you mean 'peft'"),
        ("task_arithmetic", {"scale": float("nan")}, 2, "expected a number"),
        ("dare_linear", {"seed": -1}, 2, "a whole number >= 0"),
        ("dare_linear", {"seed": 1.5}, 2, "a whole number"),
        ("linear", {"weights": [1.0]}, 2, "1 values for 2 models"),
        ("linear", {"weights": [1, -1]}, 2, "sum to zero"),
        ("linear", {"normalize": 1}, 2, "true or false"),
        ("slerp", {}, 3, "exactly 2 model"),
        ("linear", {}, 0, "at least 1 model"),
        ("layer_patch", {}, 2, "exactly one of layers, last, random"),
        ("layer_patch", {"last": 1, "layers": [0]}, 2, "given: layers, last"),
        ("layer_patch", {"layers": []}, 2, "layers is empty"),
        ("layer_patch", {"last": 1, "exclude_last": 2}, 2, "together with random"),
    ],
)
def test_what_is_wrong_is_said(method, parameters, n_models, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        check(method, parameters, n_models)


def test_weights_that_cancel_are_fine_without_normalisation():
    assert check("linear", {"weights": [1, -1], "normalize": False}, 2)["weights"] == [1.0, -1.0]


@pytest.mark.parametrize(
    ("convention", "trim", "normalize"), [("paper", 0.2, True), ("mergekit", 1.0, False), ("peft", 1.0, True)]
)
def test_conventions_bring_their_own_defaults(convention, trim, normalize):
    complete = check("dare_ties", {"convention": convention}, 2)
    assert (complete["trim"], complete["normalize"]) == (trim, normalize)
    assert check("dare_ties", {"convention": convention, "trim": 0.7}, 2)["trim"] == 0.7
