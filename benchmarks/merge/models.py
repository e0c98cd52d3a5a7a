"""Random checkpoints for the merge benchmarks: a base and fine-tunes of it in bfloat16, Llama-shaped.

    python models.py FOLDER [--size small|large] [--models 4]

The base's matrices have standard deviation 0.02; a fine-tune adds noise of 0.002 (norms: 0.01). A fine-tune's
deltas share a common part, so that signs agree more often than by chance, as they do in practice.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

SIZES = {
    "tiny": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4, "vocab_size": 8000},
    "small": {"hidden_size": 768, "intermediate_size": 2816, "num_hidden_layers": 12, "vocab_size": 32000},
    "large": {"hidden_size": 1536, "intermediate_size": 4096, "num_hidden_layers": 18, "vocab_size": 32000},
}


def config(size):
    """A Llama configuration with untied embeddings."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **SIZES[size],
        "num_attention_heads": SIZES[size]["hidden_size"] // 64,
        "num_key_value_heads": SIZES[size]["hidden_size"] // 64,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def shapes(settings):
    """Name -> shape of every tensor."""
    hidden, mlp, vocabulary = (settings[key] for key in ("hidden_size", "intermediate_size", "vocab_size"))
    result = {"model.embed_tokens.weight": (vocabulary, hidden), "lm_head.weight": (vocabulary, hidden)}
    for layer in range(settings["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        result |= {f"{prefix}.self_attn.{x}_proj.weight": (hidden, hidden) for x in "qkvo"}
        result |= {f"{prefix}.mlp.{x}_proj.weight": (mlp, hidden) for x in ("gate", "up")}
        result[f"{prefix}.mlp.down_proj.weight"] = (hidden, mlp)
        result |= {f"{prefix}.{x}_layernorm.weight": (hidden,) for x in ("input", "post_attention")}
    return result | {"model.norm.weight": (hidden,)}


def write_models(folder, size, models):
    """Write `base` and `ft1` .. under `folder`; those that are there already stay."""
    settings = config(size)
    names = ["base", *(f"ft{i}" for i in range(1, models + 1))]
    for number, name in enumerate(names):
        target = Path(folder) / name
        if (target / "model.safetensors").exists():
            continue
        target.mkdir(parents=True, exist_ok=True)
        base, common, own = (torch.Generator().manual_seed(seed) for seed in (0, 1, 1 + number))
        state = {}
        for tensor, shape in shapes(settings).items():
            norm = len(shape) == 1
            value = torch.randn(shape, generator=base) * (0.1 if norm else 0.02) + float(norm)
            if number:
                spread = 0.01 if norm else 0.002
                value += spread * (0.6 * torch.randn(shape, generator=common) + 0.8 * torch.randn(shape, generator=own))
            state[tensor] = value.to(torch.bfloat16)
        save_file(state, target / "model.safetensors", metadata={"format": "pt"})
        (target / "config.json").write_text(json.dumps(settings, indent=2))
        vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"t{i}": i for i in range(3, settings["vocab_size"])}
        model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
        tokenizer = {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}, "model": model}
        (target / "tokenizer.json").write_text(json.dumps(tokenizer))
        (target / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return {name: Path(folder) / name for name in names}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--models", type=int, default=4)
    options = parser.parse_args()
    write_models(options.folder, options.size, options.models)
