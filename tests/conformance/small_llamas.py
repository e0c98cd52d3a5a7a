"""Small Llama folders with all that other tools ask of a model, for comparing merges of the same files."""

import json

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

HIDDEN, MLP, VOCABULARY, LAYERS, HEADS, KEY_HEADS = 48, 72, 64, 2, 4, 2

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": MLP,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KEY_HEADS,
    "head_dim": HIDDEN // HEADS,
    "num_hidden_layers": LAYERS,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "bos_token_id": 0,
    "eos_token_id": 1,
}

UNCHANGED_ROWS = {"a": (3, 4, 5), "b": (4, 5, 6), "c": (5,)}
"""Rows of the embeddings that fine-tuning left alone, as it does where a token never occurs."""


def shapes():
    key = HIDDEN // HEADS * KEY_HEADS
    result = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        result |= {f"{prefix}.self_attn.{x}_proj.weight": (HIDDEN, HIDDEN) for x in "qo"}
        result |= {f"{prefix}.self_attn.{x}_proj.weight": (key, HIDDEN) for x in "kv"}
        result |= {f"{prefix}.mlp.{x}_proj.weight": (MLP, HIDDEN) for x in ("gate", "up")}
        result[f"{prefix}.mlp.down_proj.weight"] = (HIDDEN, MLP)
        result |= {f"{prefix}.{x}_layernorm.weight": (HIDDEN,) for x in ("input", "post_attention")}
    return result | {"lm_head.weight": (VOCABULARY, HIDDEN)}


def states(dtype, spread=0.004, seed=0):
    """A base and three models with a third of their task vectors' variance in common; unequal spreads."""
    generator = torch.Generator().manual_seed(seed)

    def noise(size):
        return {name: size * torch.randn(shape, generator=generator) for name, shape in shapes().items()}

    base = {n: (t + ("norm" in n)).to(dtype) for n, t in noise(0.02).items()}
    common, result = noise(spread * 0.6), {"base": base}
    for model, factor in (("a", 1.0), ("b", 1.3), ("c", 0.7)):
        own = noise(spread * 0.8)
        state = {n: (t.float() + factor * (common[n] + own[n])).to(dtype) for n, t in base.items()}
        rows = list(UNCHANGED_ROWS[model])
        state["model.embed_tokens.weight"][rows] = base["model.embed_tokens.weight"][rows]
        result[model] = state
    return result


def save(folder, state):
    folder.mkdir(parents=True)
    dtype = str(next(iter(state.values())).dtype).removeprefix("torch.")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({**CONFIG, "dtype": dtype}))
    tokenizer = Tokenizer(WordLevel({f"t{i}": i for i in range(VOCABULARY)}, unk_token="t2"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    tokens = {"bos_token": "t0", "eos_token": "t1", "unk_token": "t2"}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64, **tokens})
    )
    return folder
