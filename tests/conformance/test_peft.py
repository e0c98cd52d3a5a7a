"""peft's merges of task vectors and of LoRA adapters, and ours by its conventions."""

import json

import pytest
import torch
from cases import ABC, EQUAL, SIGNED, UNEQUAL, Case
from peers import run_other
from safetensors.torch import load_file, save_file
from small_llamas import HIDDEN, LAYERS, MLP
from ulps import excess

from langmerge.merging.lora import merge_adapters

pytestmark = pytest.mark.conformance

VECTORS = {
    f"{method}-{weights[0]}-{weights[1]}-{density}": Case(
        method, method, {"weights": list(weights), **parameters}, seed=0 if method.startswith("dare") else None
    )
    for weights in (EQUAL, UNEQUAL, SIGNED)
    for method, density, parameters in (
        ("task_arithmetic", None, {}),
        ("ties", 0.2, {"density": 0.2, "convention": "peft"}),
        ("ties", 1.0, {"density": 1.0, "convention": "peft"}),
        ("magnitude_prune", 0.3, {"density": 0.3, "convention": "peft"}),
        ("dare_linear", 0.3, {"density": 0.3}),
        ("dare_ties", 0.3, {"density": 0.3, "convention": "peft"}),
    )
}

RANKS = {"a": (4, 8, False), "b": (4, 12, False), "wide": (6, 6, False), "c": (4, 8, True), "d": (4, 8, True)}
"""Rank and alpha of each adapter, and whether it is rank-stabilised."""

Q = "model.layers.{}.self_attn.q_proj"
DOWN = "model.layers.{}.mlp.down_proj"
MODULES = {Q: (HIDDEN, HIDDEN), DOWN: (HIDDEN, MLP)}

SIGNS = {"majority_sign_method": "total"}
ADAPTERS = {
    f"{options['combination_type']}-{adapters[-1]}-{weights}": (method, adapters, weights, ours, options)
    for method, ours, options in (
        ("cat", {}, {"combination_type": "cat"}),
        ("svd", {}, {"combination_type": "svd"}),
        ("svd", {"rank": 2}, {"combination_type": "svd", "svd_rank": 2}),
        ("linear", {"convention": "peft"}, {"combination_type": "linear"}),
        ("ties", {"convention": "peft", "density": 0.4}, {"combination_type": "ties", "density": 0.4, **SIGNS}),
        ("ties", {"convention": "peft_svd", "density": 0.4}, {"combination_type": "ties_svd", "density": 0.4, **SIGNS}),
        ("magnitude_prune", {"convention": "peft", "density": 0.4},
         {"combination_type": "magnitude_prune", "density": 0.4}),
        ("magnitude_prune", {"density": 0.4}, {"combination_type": "magnitude_prune_svd", "density": 0.4}),
    )
    for adapters in (("a", "b"), ("a", "wide"))
    for weights in ((1.0, 1.0), (0.7, -0.4))
    if adapters == ("a", "b") or options["combination_type"] in ("cat", "svd", "ties_svd", "magnitude_prune_svd")
}  # fmt: skip


STABILISED = {"stabilised": ("cat", ("c", "d"), (1.0, 1.0), {}, {"combination_type": "cat"})}


def save_adapter(folder, rank, alpha, stabilised, seed):
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for module, (rows, columns) in MODULES.items():
        for layer in range(LAYERS):
            name = f"base_model.model.{module.format(layer)}"
            tensors[f"{name}.lora_A.weight"] = 0.1 * torch.randn(rank, columns, generator=generator)
            tensors[f"{name}.lora_B.weight"] = 0.1 * torch.randn(rows, rank, generator=generator)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "base",
        "r": rank,
        "lora_alpha": alpha,
        "use_rslora": stabilised,
        "target_modules": ["q_proj", "down_proj"],
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def adapters(tmp_path_factory):
    root = tmp_path_factory.mktemp("adapters")
    return {name: save_adapter(root / name, *RANKS[name], seed) for seed, name in enumerate(RANKS)}


@pytest.fixture(scope="session")
def theirs(families, adapters, tmp_path_factory):
    """Merged task vectors, and merged changes of adapters, by name."""
    root, of = tmp_path_factory.mktemp("peft"), families["float32"]
    for model in ABC:
        save_file({t: of.deltas(t)[model] for t in of.states["base"]}, root / f"vectors-{model}.safetensors")
    task = {
        "vectors": {model: str(root / f"vectors-{model}.safetensors") for model in ABC},
        "masks": {model: str(of.masks / f"masks0/{model}.safetensors") for model in ABC},
        "functions": [
            {
                "name": case.method,
                "models": ABC,
                "weights": case.ours["weights"],
                "density": case.ours.get("density"),
                "out": str(root / key),
            }
            for key, case in VECTORS.items()
        ],
        "base": str(of.folders["base"]),
        "adapters": {name: str(folder) for name, folder in adapters.items()},
        "combinations": [
            {"adapters": names, "options": {"weights": weights, **options}, "out": str(root / key)}
            for key, (_, names, weights, _, options) in (ADAPTERS | STABILISED).items()
        ],
    }
    run_other("run_peft", task, root)
    return {key: load_file(root / key) for key in [*VECTORS, *ADAPTERS, *STABILISED]}


@pytest.mark.parametrize("key", VECTORS)
def test_task_vectors_merge_as_in_peft(key, families, theirs):
    of, case = families["float32"], VECTORS[key]
    merged = of.ours(case)
    for tensor, base in of.states["base"].items():
        # A dropped entry's neighbours may be many times as large as the inputs.
        scale = [*of.inputs(case, tensor), theirs[key][tensor]]
        units, _ = excess(merged[tensor], base + theirs[key][tensor], scale)
        assert units <= 8, tensor


def merged_changes(key, adapters):
    """Our merge: B A times its scaling, by module."""
    method, names, weights, parameters, _ = (ADAPTERS | STABILISED)[key]
    merged = merge_adapters(method, {name: adapters[name] for name in names}, {"weights": list(weights), **parameters})
    assert not merged.config.get("use_rslora")
    scaling = merged.config["lora_alpha"] / merged.config["r"]
    suffix = ".lora_A.weight"
    changes = {}
    for name in (name for name in merged.tensors if name.endswith(suffix)):
        a, b = merged.tensors[name].double(), merged.tensors[name.replace("lora_A", "lora_B")].double()
        assert len(a) == merged.config["r"]
        changes[name.removeprefix("base_model.model.").removesuffix(suffix)] = scaling * b @ a
    return changes


@pytest.mark.parametrize("key", ADAPTERS)
def test_adapters_merge_as_in_peft(key, adapters, theirs):
    """peft decomposes in float32, hence the tolerance."""
    changes = merged_changes(key, adapters)
    assert set(changes) == set(theirs[key])
    for module, change in changes.items():
        assert float((change - theirs[key][module]).norm() / change.norm()) < 1e-5, module


def test_peft_makes_the_merge_of_rank_stabilised_adapters_too_strong_and_we_do_not(adapters, theirs):
    """It sets alpha to the new rank 8, which rank stabilisation divides by the square root of 8 only."""
    for module, change in merged_changes("stabilised", adapters).items():
        torch.testing.assert_close(theirs["stabilised"][module], 8**0.5 * change, rtol=1e-5, atol=1e-7)
