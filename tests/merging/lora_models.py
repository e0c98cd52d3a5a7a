"""Tiny LoRA adapters in peft's format for the tests of merging, made without peft."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

Q = "model.layers.{}.self_attn.q_proj"
DOWN = "model.layers.{}.mlp.down_proj"
SHAPES = {Q.format(0): (32, 32), Q.format(1): (32, 32), DOWN.format(0): (32, 48), DOWN.format(1): (32, 48)}
"""Adapted modules of the models of merge_models, with their (out, in)."""

CONFIG = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "acme/base",
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["q_proj", "down_proj"],
    "bias": "none",
    "fan_in_fan_out": False,
}


def factors(seed, rank=4, shapes=SHAPES, spread=0.1, dtype=torch.float32):
    """module -> (A, B) with normal entries."""
    generator = torch.Generator().manual_seed(seed)
    return {
        module: (
            (torch.randn(rank, columns, generator=generator) * spread).to(dtype),
            (torch.randn(rows, rank, generator=generator) * spread).to(dtype),
        )
        for module, (rows, columns) in shapes.items()
    }


def save_adapter(folder, modules, extra=None, **config):
    """Write an adapter folder of linear modules; the rank in the configuration is that of the first module."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    tensors = {f"base_model.model.{name}": value.contiguous() for name, value in (extra or {}).items()}
    for module, (a, b) in modules.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = a.clone().contiguous()
        tensors[f"base_model.model.{module}.lora_B.weight"] = b.clone().contiguous()
    save_file(tensors, folder / "adapter_model.safetensors")
    ranks = {module: len(a) for module, (a, _) in modules.items()}
    first = next(iter(ranks.values()), CONFIG["r"])
    pattern = {module: rank for module, rank in ranks.items() if rank != first}
    complete = {**CONFIG, "r": first, "rank_pattern": pattern, **config}
    (folder / "adapter_config.json").write_text(json.dumps(complete))
    return folder


def products(modules, scaling):
    """module -> s B A, float64."""
    return {m: scaling * b.to(torch.float64) @ a.to(torch.float64) for m, (a, b) in modules.items()}


def merged_products(merged):
    """module -> scaling B A of a merged adapter, float64, by its own tensors and configuration."""
    config, result = merged.config, {}
    for name, a in merged.tensors.items():
        if not name.endswith("lora_A.weight"):
            continue
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        b = merged.tensors[name.replace("lora_A", "lora_B")]
        assert config["rank_pattern"].get(module, config["r"]) == len(a) == b.shape[1]
        scaling = config["alpha_pattern"].get(module, config["lora_alpha"]) / len(a)
        result[module] = scaling * b.to(torch.float64) @ a.to(torch.float64)
    return result
