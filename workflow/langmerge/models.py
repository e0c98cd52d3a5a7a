"""Load and save models: folders in Hugging Face format, safetensors only, no remote code."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langmerge.provenance import InputError, read_json

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)


def device() -> torch.device:
    """The device that a job computes on: the first visible GPU, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def set_threads() -> None:
    """Let torch use as many threads as the job was given (``OMP_NUM_THREADS``): oversubscribed it crawls."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder; :class:`InputError` if there are none (or only pickles)."""
    sharded = (folder / WEIGHTS_INDEX).is_file() and not (folder / WEIGHTS).is_file()
    if sharded:
        files = sorted({folder / name for name in read_json(folder / WEIGHTS_INDEX)["weight_map"].values()})
    else:
        files = [folder / WEIGHTS]
    missing = [file for file in files if not file.is_file()]
    if not missing:
        return files
    if not sharded and any(path.suffix in PICKLES for path in folder.glob("*")):
        raise InputError(
            f"{folder}: holds a pickle checkpoint, which can run code when loaded; expected {WEIGHTS}. "
            "Convert it once with `save_pretrained(..., safe_serialization=True)` on a machine you trust"
        )
    raise InputError(
        f"{missing[0]}: file not found; a model folder needs {WEIGHTS} (or its shards), config.json and tokenizer.json"
    )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder (fast tokenizers only: spans need character offsets)."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def load_model(folder: Path, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """The causal language model of a model folder on the CPU, in ``dtype`` (default: fp32)."""
    import torch
    from transformers import AutoModelForCausalLM

    weight_files(folder)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype or torch.float32, use_safetensors=True, trust_remote_code=False, local_files_only=True
    )
    # Packed rows leak into each other when a cache is built in the forward pass (transformers 5): none, by default.
    model.config.use_cache = False
    return model


def save_model(model: PreTrainedModel, folder: Path) -> None:
    """Write weights and configuration of ``model`` into ``folder``."""
    model.save_pretrained(folder, safe_serialization=True)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy the tokenizer's files as they are, so that every descendant of a model has byte-identical ones."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def training_flops_per_token(config: Any, context: int) -> float:
    """Model FLOPs per token of one training step, ``6 N_mm + 12 L H h s`` with full attention.

    ``N_mm`` counts the weights that multiply (a tied head once, no embedding look-up, no norms), ``s`` is ``context``
    in tokens. PaLM (arXiv 2204.02311) appendix B.
    """
    d, layers = config.hidden_size, config.num_hidden_layers
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or d // heads
    kv = getattr(config, "num_key_value_heads", None) or heads
    attention = d * head * (2 * heads + 2 * kv)
    multiplied = layers * (attention + 3 * d * config.intermediate_size) + d * config.vocab_size
    return 6.0 * multiplied + 12.0 * layers * heads * head * context
