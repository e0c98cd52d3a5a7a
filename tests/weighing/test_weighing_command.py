"""The command: what it writes from files, that files are streamed, what it refuses, what it warns of."""

import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from planted import GLOBAL, SHAPES, pick, plus, random_state

from langmerge.provenance import InputError
from langmerge.weighing.memory import predicted_bytes
from langmerge.weighing.reading import Part, Weights
from langmerge.weighing.weigh import Settings, weigh

Q10 = {"scope": "layer_module", "layer": "10", "module": "q"}


@pytest.fixture
def planted():
    base, a, b = random_state(0), random_state(1, 0.01), random_state(2, 0.02)
    mean = {name: (a[name] + b[name]) / 2 for name in a}
    return {"base": base, "a": plus(base, a), "b": plus(base, b), "m": plus(base, mean)}


def flat(state, base, names=SHAPES):
    return np.concatenate([(state[name] - base[name]).double().numpy().ravel() for name in names])


# ---- the tables ----------------------------------------------------------------------------------------------------


def test_every_scope_is_one_long_vector(weigh, planted):
    found = weigh(planted, merges=["m"])
    scopes = {
        ("global", "", ""): list(SHAPES),
        ("layer", "10", ""): [name for name in SHAPES if ".10." in name],
        ("module", "", "down"): [name for name in SHAPES if "down" in name],
        ("module", "", "norm"): [name for name in SHAPES if "norm" in name],
        ("layer_module", "10", "q"): ["model.layers.10.self_attn.q_proj.weight"],
        ("layer_module", "", "embed"): ["model.embed_tokens.weight"],
    }
    for (scope, layer, module), names in scopes.items():
        where = {"scope": scope, "layer": layer, "module": module}
        a, m = flat(planted["a"], planted["base"], names), flat(planted["m"], planted["base"], names)
        norm = pick(found["task_vectors"], model="a", measure="norm", **where)
        assert norm["value"] == pytest.approx(np.linalg.norm(a)) and norm["n"] == len(names)
        drift = pick(found["task_vectors"], model="a", measure="drift", **where)["value"]
        base = np.concatenate([planted["base"][name].numpy().ravel() for name in names])
        assert drift == pytest.approx(np.linalg.norm(a) / np.linalg.norm(base), rel=1e-6)
        cosine = pick(found["pairs"], model_a="a", model_b="m", measure="cosine", **where)
        assert cosine["value"] == pytest.approx(a @ m / np.linalg.norm(a) / np.linalg.norm(m))
        assert cosine["relation"] == "in_merge"
        assert math.isnan(cosine["low"]) == (len(names) == 1)
        assert len(names) == 1 or cosine["low"] <= cosine["value"] <= cosine["high"]


def test_layers_stand_in_the_order_of_numbers(weigh, planted):
    table = weigh(planted, merges=["m"])["task_vectors"]
    layers = [row["layer"] for row in table if row["model"] == "a" and row["measure"] == "norm"]
    assert [layer for layer in dict.fromkeys(layers) if layer] == ["0", "10"]


def test_who_is_compared_with_whom(weigh, planted):
    found = weigh(planted, merges=["m"])
    pairs = {(row["model_a"], row["model_b"], row["relation"]) for row in found["pairs"]}
    assert pairs == {("a", "b", "specialists"), ("a", "m", "in_merge"), ("b", "m", "in_merge"), ("all",) * 3}
    ratios = {(row["model_a"], row["model_b"]) for row in found["subspaces"] if row["measure"] == "sar"}
    assert ratios == {("a", "b"), ("b", "a"), ("a", "m"), ("b", "m")}
    assert {row["model"] for row in found["task_vectors"]} == {"a", "b", "m"}
    joint = pick(found["pairs"], model_a="all", measure="interference", **GLOBAL)["value"]
    assert joint == pytest.approx(pick(found["pairs"], model_b="b", measure="interference", **GLOBAL)["value"])


def test_subspaces_are_means_over_matrices(weigh, planted):
    found = weigh(planted, merges=["m"])["subspaces"]
    where = {"model_a": "a", "model_b": "m", "measure": "sar", "side": "left"}
    ratios = []
    for name in SHAPES:
        if "norm" not in name:
            a, m = ((planted[x][name] - planted["base"][name]).double().numpy() for x in "am")
            u, s, _ = np.linalg.svd(m, full_matrices=False)
            k = int(np.argmax(np.sqrt(np.cumsum(s**2) / (s**2).sum()) > 0.95)) + 1
            ratios.append((np.linalg.norm(u[:, :k].T @ a) / np.linalg.norm(a), math.sqrt(k / len(a))))
    ratios = np.array(ratios)
    row = pick(found, **where, **GLOBAL)
    assert row["value"] == pytest.approx(ratios[:, 0].mean(), rel=1e-5) and row["n"] == 5
    assert row["null"] == pytest.approx(ratios[:, 1].mean())
    excess = pick(found, **{**where, "measure": "sar_minus_null"}, **GLOBAL)
    assert excess["value"] == pytest.approx((ratios[:, 0] - ratios[:, 1]).mean(), rel=1e-4)
    assert excess["null"] > 0.03  # a member of the mean
    assert pick(found, **{**where, "measure": "sar_minus_null", "model_b": "b"}, **GLOBAL)["null"] == 0
    assert not [row for row in found if row["module"] == "norm"]


def test_equal_runs_write_equal_files(weigh, planted):
    first = {
        name: (weigh(planted, merges=["m"])["out"] / f"{name}.csv").read_bytes() for name in ("pairs", "subspaces")
    }
    out = weigh(planted, merges=["m"])["out"]
    assert all((out / f"{name}.csv").read_bytes() == content for name, content in first.items())


def test_one_specialist_alone(weigh, planted):
    found = weigh({name: planted[name] for name in ("base", "a")})
    assert {row["model_a"] for row in found["pairs"]} == {"all"}
    assert found["subspaces"] == []
    assert pick(found["pairs"], measure="interference", **GLOBAL)["value"] == 1


def test_a_model_that_is_the_base(weigh, planted):
    found = weigh({**planted, "same": planted["base"]}, merges=["m"])
    assert pick(found["task_vectors"], model="same", measure="norm", **GLOBAL)["value"] == 0
    assert pick(found["task_vectors"], model="same", measure="zero_share", **GLOBAL)["value"] == 1
    assert math.isnan(pick(found["pairs"], model_a="a", model_b="same", measure="cosine", **GLOBAL)["value"])
    row = pick(found["subspaces"], model_a="a", model_b="same", measure="sar", side="left", **GLOBAL)
    assert math.isnan(row["value"]) and row["n"] == 0


# ---- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("svd", ["exact", "lowrank"])
def test_small_blocks_give_the_same_as_whole_tensors(save, planted, svd):
    folders = {name: save(name, state, shards=3 if name == "a" else None) for name, state in planted.items()}
    weights = Weights(folders)
    settings = [Settings(svd=svd, rank=3, block=block, density=0.3) for block in (20, 10**6)]
    small, whole = (weigh(weights, 2, each, torch.device("cpu")) for each in settings)
    assert len(list(weights.blocks(weights.parts[0], 20))) > 3
    for cut, plain in zip(small, whole, strict=True):
        for a, b in zip(cut.sums, plain.sums, strict=True):
            assert a == pytest.approx(b, rel=1e-10, abs=1e-12)
        assert cut.row.keys() == plain.row.keys() and cut.types == plain.types
        for key, value in plain.row.items():
            assert cut.row[key].value == pytest.approx(value.value, rel=1e-6, abs=1e-9, nan_ok=True), key


def test_stacked_experts_scalars_and_whole_numbers(save):
    shapes = {"model.layers.0.mlp.experts.gate_up_proj": (3, 4, 6), "model.scale": (), "model.norm.weight": (1, 5)}
    base, a = random_state(0, shapes=shapes), random_state(1, shapes=shapes)
    extra = {"model.positions": torch.arange(3)}
    weights = Weights({"base": save("base", {**base, **extra}), "a": save("a", {**a, **extra})})
    assert weights.skipped == ["model.positions"]
    assert Part("model.layers.0.mlp.experts.gate_up_proj", (4, 6), (2,)) in weights.parts
    assert len(weights.parts) == 5
    for part in weights.parts:
        axis = 1 + part.shape.index(max(part.shape)) if part.shape else 0
        found = list(weights.blocks(part, 4))
        whole = torch.cat(found, axis) if part.shape else found[0]
        for values, state in zip(whole, (base, a), strict=True):
            assert torch.equal(values, state[part.name][part.index] if part.index else state[part.name])
    found = weigh(weights, 1, Settings(), torch.device("cpu"))
    assert sum(part.sums.inner[0, 0] for part in found) == pytest.approx(
        sum(float((a[name] - base[name]).double().square().sum()) for name in shapes)
    )
    assert [bool(part.row) for part in found] == [part.part.is_matrix for part in found]


# ---- storage -------------------------------------------------------------------------------------------------------


def half(state, kind):
    return {name: tensor.to(kind) for name, tensor in state.items()}


@pytest.mark.parametrize(("kind", "name"), [(torch.bfloat16, "bf16"), (torch.float16, "fp16")])
@pytest.mark.parametrize("upcast", [True, False])
def test_a_warning_where_storage_lost_small_changes(weigh, kind, name, upcast):
    """Also when the file says fp32, and not of a model that kept its changes."""
    base = random_state(0, 0.02)
    small, large = plus(base, random_state(1, 1e-6)), plus(base, random_state(2, 0.02))
    states = {"base": base, "small": small, "large": large}
    stored = {label: half(state, kind) for label, state in states.items()}
    if upcast:
        stored = {label: half(state, torch.float32) for label, state in stored.items()}
    found = weigh(stored)
    share = pick(found["task_vectors"], model="small", measure="zero_share", **GLOBAL)["value"]
    lost = sum(int((stored["small"][n] == stored["base"][n]).sum()) for n in SHAPES)
    entries = sum(math.prod(shape) for shape in SHAPES.values())
    assert share == pytest.approx(lost / entries, rel=1e-8) and share > 0.5
    (warning,) = found["summary"]["warnings"]
    assert re.match(rf"small: {share:.0%} of the changes are exactly 0 .*{name}", warning)
    assert found["summary"]["float_type"] == {"small": name, "large": name}


def test_no_warning_for_frozen_parts_in_fp32(weigh, planted):
    frozen = {**planted["a"], "model.embed_tokens.weight": planted["base"]["model.embed_tokens.weight"]}
    found = weigh({"base": planted["base"], "a": frozen, "b": planted["b"]})
    assert found["summary"]["warnings"] == [] and found["summary"]["zero_share"]["a"] > 0.3
    where = {"scope": "module", "layer": "", "module": "embed"}
    assert pick(found["task_vectors"], model="a", measure="zero_share", **where)["value"] == 1


def test_norm_weights_stored_as_halves_are_the_stored_values(weigh, planted):
    """bf16 files: deltas are those of the stored values, in fp32."""
    stored = {name: half(state, torch.bfloat16) for name, state in planted.items()}
    found = weigh(stored, merges=["m"])
    a = flat(half(stored["a"], torch.float32), half(stored["base"], torch.float32))
    assert pick(found["task_vectors"], model="a", measure="norm", **GLOBAL)["value"] == pytest.approx(np.linalg.norm(a))


# ---- what is refused -----------------------------------------------------------------------------------------------


def test_models_that_do_not_fit(weigh, planted):
    name = "model.layers.10.self_attn.q_proj.weight"
    missing = {key: value for key, value in planted["b"].items() if key != name}
    with pytest.raises(InputError, match=rf"models/b: no tensor {re.escape(name)}, which base has"):
        weigh({**planted, "b": missing})
    with pytest.raises(InputError, match=r"models/b: tensor lm_head\.weight is not in base"):
        weigh({**planted, "b": {**planted["b"], "lm_head.weight": torch.ones(30, 8)}})
    with pytest.raises(InputError, match=r"models/b: tensor model.norm.weight has shape \[9\], in base it is \[8\]"):
        weigh({**planted, "b": {**planted["b"], "model.norm.weight": torch.ones(9)}})


def test_weights_that_are_no_numbers(weigh, planted):
    broken = {**planted["b"], "model.norm.weight": torch.full((8,), torch.nan)}
    with pytest.raises(InputError, match=r"b: tensor model\.norm\.weight holds NaN or infinite values"):
        weigh({**planted, "b": broken})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"density": 0}, "density: expected a share above 0 and up to 1, found 0"),
        ({"svd": "full"}, "svd: expected one of auto, exact, lowrank, found 'full'"),
        ({"rank": 0}, "rank: expected a whole number from 1, found 0"),
        ({"draws": -1}, "draws: expected a whole number from 0, found -1"),
        ({"specialists": []}, "specialists: expected at least one model"),
        ({"specialists": ["a", "b", "a"]}, "a is named twice"),
        ({"specialists": ["nobody"]}, 'no "models/nobody"'),
    ],
)
def test_settings_out_of_range(weigh, planted, change, message):
    with pytest.raises(InputError, match=re.escape(message)):
        weigh({name: planted[name] for name in ("base", "a", "b")}, **change)


def test_a_changed_checkpoint_is_noticed(weigh, save, planted, tmp_path):
    from langmerge.weighing.__main__ import main

    folders = {f"models/{name}": str(save(name, planted[name])) for name in ("base", "a")}
    path = tmp_path / "models" / "a" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    spec = {"baseline": "base", "specialists": ["a"], "merges": []}
    with pytest.raises(InputError, match=r"a/model\.safetensors: expected SHA-256"):
        main(["--spec", json.dumps(spec), "--inputs", json.dumps(folders), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


# ---- size ----------------------------------------------------------------------------------------------------------

LAYER = [(2048, 2048), (256, 2048), (256, 2048), (2048, 2048), (11008, 2048), (11008, 2048), (2048, 11008), (2048,)]


@pytest.mark.parametrize("svd", ["auto", "exact", "lowrank"])
def test_a_3b_model_takes_less_than_2_gb(svd):
    """36 layers of 2048 x 11008, 151,936 tokens, five specialists and three merges; the layers cost nothing."""
    shapes = [(151936, 2048), *LAYER * 36]
    settings = Settings(svd=svd)
    assert predicted_bytes(shapes, 5, 3, settings) < 2e9
    assert predicted_bytes(shapes, 5, 3, settings) == predicted_bytes([(151936, 2048), *LAYER], 5, 3, settings)


def test_the_prediction_grows_with_the_products():
    small, large = (predicted_bytes([(n, n)], 3, 1, Settings(svd="exact", draws=0)) for n in (1200, 2400))
    products = 4 * (9 + 1 + 4 + 6)  # bytes: float32; 9 pairs with a specialist, the merge, 4 bases, work space
    assert large - small == products * (2400**2 - 1200**2)


def test_a_process_takes_no_more_than_predicted(save, planted, tmp_path):
    folders = {f"models/{name}": str(save(name, state)) for name, state in planted.items()}
    spec = {"baseline": "base", "specialists": ["a", "b"], "merges": ["m"]}
    command = [sys.executable, "-m", "langmerge.weighing", "--spec", json.dumps(spec), "--inputs", json.dumps(folders)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([*command, "--out", str(tmp_path / "out")], check=True, env=environment)
    cost = json.loads((tmp_path / "out" / "cost.json").read_text())
    assert cost["peak_memory_bytes"] < cost["predicted_memory_bytes"]
