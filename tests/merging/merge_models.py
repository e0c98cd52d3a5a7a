"""Tiny Llama-shaped model folders for the tests of merging, made without transformers."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

HIDDEN, MLP, VOCABULARY = 32, 48, 40

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": MLP,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": VOCABULARY,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
}

TOKENIZER = {"model": {"type": "BPE", "vocab": {f"t{i}": i for i in range(VOCABULARY)}}, "added_tokens": []}


def weights(seed, base=None, spread=0.02, dtype=torch.float32, layers=2):
    """Random weights, or those of `base` with noise of the given spread."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        shapes |= {f"{prefix}.self_attn.{x}_proj.weight": (HIDDEN, HIDDEN) for x in "qkvo"}
        shapes |= {f"{prefix}.mlp.{x}_proj.weight": (MLP, HIDDEN) for x in ("gate", "up")}
        shapes[f"{prefix}.mlp.down_proj.weight"] = (HIDDEN, MLP)
        shapes |= {f"{prefix}.{x}_layernorm.weight": (HIDDEN,) for x in ("input", "post_attention")}
    result = {}
    for name, shape in sorted(shapes.items()):
        noise = torch.randn(shape, generator=generator) * spread
        start = base[name].to(torch.float32) if base else torch.zeros(shape)
        result[name] = (start + noise).to(dtype)
    return result


def save(folder, state, config=CONFIG, tokenizer=TOKENIZER, shards=1):
    """Write a model folder, in several files if asked."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    names = list(state)
    if shards == 1:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        where = {name: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, name in enumerate(names)}
        for file in set(where.values()):
            save_file({name: state[name] for name in names if where[name] == file}, folder / file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (folder / "config.json").write_text(json.dumps(config))
    if tokenizer:
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def flat(state):
    """All tensors of a model as one float64 vector, by name."""
    return torch.cat([state[name].to(torch.float64).flatten() for name in sorted(state)])
