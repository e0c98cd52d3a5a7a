"""LoRA adapters in peft's format: adapter_config.json and adapter_model.safetensors.

An adapter changes the weight W (out, in) of a module to W + s B A with A (rank, in), B (out, rank) and the scaling
s = alpha / rank, or alpha / sqrt(rank) with rank-stabilised LoRA (Hu et al. 2021, arXiv 2106.09685; Kalajdzievski 2023,
arXiv 2312.03732). A weight stored the other way round, (in, out), changes by s (B A)^T: that of an embedding, (tokens,
dimension), and any with `fan_in_fan_out`. peft's variants that are more than such a product are refused.
"""

import copy
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from langmerge.merging.reader import StoredTensor, read_header

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."

_SUFFIXES = {
    ".lora_A.weight": "A",
    ".lora_B.weight": "B",
    ".lora_embedding_A": "embedding_A",
    ".lora_embedding_B": "embedding_B",
    ".lora_B.bias": "bias",
}

_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal", "mica")
"""Initialisations that leave the base model as it is; others move a part of it into the adapter."""

_NOT_A_PRODUCT = {
    "use_dora": "DoRA rescales the columns of the whole weight",
    "use_qalora": "QA-LoRA pools the inputs",
    "use_bdlora": "block-diagonal LoRA stores its factors in another layout",
    "alora_invocation_tokens": "an activated LoRA works only after its invocation tokens",
    "arrow_config": "Arrow chooses among adapters for each token",
    "kasa_config": "KaSA adds singular values of its own",
    "monteclora_config": "MonteCLoRA samples its weights",
    "velora_config": "VeLoRA projects the inputs",
    "layer_replication": "layers are repeated, so the model is not the base",
    "target_parameters": "parameters without a module (experts) are adapted",
    "trainable_token_indices": "single rows of the embeddings are trained",
}


@dataclass(frozen=True)
class Module:
    """An adapted module: A (rank, inputs), B (outputs, rank); `bias` is added to the module's own, times scaling.

    `tensors` names A, B and, where there is one, the bias in the file.
    """

    name: str
    rank: int
    inputs: int
    outputs: int
    scaling: float
    embedding: bool
    tensors: Mapping[str, str] = field(compare=False)

    def flipped(self, shape: tuple[int, ...] | None, fan_in_fan_out: bool) -> bool | None:
        """Whether the weight of this shape is (in, out), so that it changes by (B A)^T; None if neither fits.

        The shape decides where it can, as in peft; `fan_in_fan_out` decides for square weights, and without a shape.
        """
        fits = {False: (self.outputs, self.inputs), True: (self.inputs, self.outputs)}
        wanted = self.embedding or fan_in_fan_out
        if shape is None or shape == fits[wanted]:
            return wanted
        return not wanted if shape == fits[not wanted] and not self.embedding else None


class Adapter:
    """A LoRA adapter, of which only the configuration and the header have been read.

    `modules` are the adapted modules by name (without peft's prefix), in the order of their names. `replaced` maps
    names of tensors of the base that the adapter holds anew (modules_to_save, trained biases) to where they are
    stored, `copies` those of which it only holds a copy (adapted embeddings). `base_name` is what its training called
    the base.

    Raises FileNotFoundError if a file is missing, ValueError for pickles, other kinds of adapters than plain LoRA on
    linear layers and embeddings, and files whose tensors do not fit one another or the configuration.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = Path(folder)
        self.config = _config(name, self.folder)
        self.base_name: str | None = self.config.get("base_model_name_or_path") or None
        self.fan_in_fan_out = bool(self.config.get("fan_in_fan_out"))
        self.replaced: dict[str, StoredTensor] = {}
        self.copies: dict[str, StoredTensor] = {}
        self._path = self.folder / WEIGHTS
        self._file: Any = None
        parts: dict[str, dict[str, StoredTensor]] = {}
        for entry in read_header(self._path):
            self._sort_in(entry, parts)
        self.modules = {module: self._module(module, parts[module]) for module in sorted(parts)}
        if not self.modules:
            raise ValueError(f"adapter {name!r}: {self._path} holds no LoRA factors (lora_A, lora_B)")

    def factors(self, module: str) -> tuple[Tensor, Tensor]:
        """(A, B) of a module in float32; ValueError for values that are not finite."""
        names = self.modules[module].tensors
        return self.tensor(names["A"]), self.tensor(names["B"])

    def bias(self, module: str) -> Tensor | None:
        """What scaling x this adds to the module's bias, float32 (outputs,), or None."""
        names = self.modules[module].tensors
        return self.tensor(names["bias"]) if "bias" in names else None

    def tensor(self, key: str) -> Tensor:
        """A tensor of the file in float32, by the name that it has there."""
        if self._file is None:
            self._file = safe_open(self._path, framework="pt")
        values = self._file.get_tensor(key).to(torch.float32)
        if not torch.isfinite(values).all():
            raise ValueError(f"adapter {self.name!r}: tensor {key!r} contains NaN or infinite values")
        return values

    def named(self, name: str) -> "Adapter":
        """The same adapter under another name, to be closed on its own."""
        other = copy.copy(self)
        other.name, other._file = name, None
        return other

    def close(self) -> None:
        """Close the file."""
        self._file = None

    def _sort_in(self, entry: StoredTensor, parts: dict[str, dict[str, StoredTensor]]) -> None:
        """Put a tensor of the file where it belongs: factors into `parts`, others into `replaced` or `copies`."""
        name = entry.name.removeprefix(PREFIX)
        for suffix, part in _SUFFIXES.items():
            if name.endswith(suffix):
                parts.setdefault(name.removesuffix(suffix), {})[part] = entry
                return
        if "lora_magnitude_vector" in name:
            raise self._refused(entry, "DoRA rescales the columns of the whole weight")
        if "lora_" in name or "token_adapter" in name or not name.endswith((".weight", ".bias")):
            raise self._refused(entry, "it is no part of a plain LoRA")
        if name.endswith(".base_layer.weight"):
            self.copies[name.replace(".base_layer.", ".")] = entry
        else:
            self.replaced[name.replace(".base_layer.", ".")] = entry

    def _refused(self, entry: StoredTensor, reason: str) -> ValueError:
        return ValueError(
            f"adapter {self.name!r}: {WEIGHTS}: tensor {entry.name!r} cannot be used: {reason}. Merge the adapter into "
            "its base with peft (merge_and_unload) and use the full model"
        )

    def _module(self, module: str, parts: Mapping[str, StoredTensor]) -> Module:
        embedding = "embedding_A" in parts or "embedding_B" in parts
        a, b = (parts.get("embedding_A"), parts.get("embedding_B")) if embedding else (parts.get("A"), parts.get("B"))
        where = f"adapter {self.name!r}: module {module!r}"
        if a is None or b is None:
            raise ValueError(f"{where}: has {', '.join(sorted(parts))} only; expected both factors of LoRA")
        if len(a.shape) > 2 or len(b.shape) > 2:
            raise ValueError(
                f"{where}: factors of shapes {list(a.shape)} and {list(b.shape)} belong to a convolution; only linear "
                "layers and embeddings can be used"
            )
        if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1] or not (a.numel and b.numel):
            raise ValueError(
                f"{where}: A {list(a.shape)} and B {list(b.shape)} are no factors (rank, in), (out, rank) of a LoRA; "
                "shards were perhaps not gathered before the adapter was saved"
            )
        rank = a.shape[0]
        configured = _matching(self.config.get("rank_pattern"), module, self.config.get("r"))
        if configured != rank:
            raise ValueError(f"{where}: rank {rank} in {WEIGHTS} but {configured} in {CONFIG}")
        alpha = _matching(self.config.get("alpha_pattern"), module, self.config.get("lora_alpha"))
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
            raise ValueError(f"{where}: lora_alpha is {alpha!r} in {CONFIG}; expected a number")
        scaling = alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)
        tensors = {"A": a.name, "B": b.name}
        if "bias" in parts:
            tensors["bias"] = parts["bias"].name
            if parts["bias"].shape != (b.shape[0],):
                raise ValueError(f"{where}: bias of shape {list(parts['bias'].shape)} where B has {b.shape[0]} rows")
        return Module(module, rank, a.shape[1], b.shape[0], scaling, embedding, tensors)


def _config(name: str, folder: Path) -> dict[str, Any]:
    """The adapter's configuration, if it is one that can be read."""
    if not folder.is_dir():
        raise FileNotFoundError(f"adapter {name!r}: no folder {folder}")
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"adapter {name!r}: no {CONFIG} in {folder}; expected an adapter saved by peft")
    if not (folder / WEIGHTS).is_file():
        if (folder / "adapter_model.bin").is_file():
            raise ValueError(
                f"adapter {name!r}: {folder} holds only the pickle adapter_model.bin, which can run code when loaded; "
                f"save it once more with peft (safe_serialization=True), which writes {WEIGHTS}"
            )
        raise FileNotFoundError(f"adapter {name!r}: no {WEIGHTS} in {folder}")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: not valid JSON ({error})") from None
    if not isinstance(config, dict):
        raise ValueError(f"{folder / CONFIG}: expected a JSON object")
    if config.get("peft_type") != "LORA":
        raise ValueError(f"adapter {name!r}: {CONFIG}: peft_type is {config.get('peft_type')!r}; only LORA is known")
    for key, reason in _NOT_A_PRODUCT.items():
        if config.get(key):
            raise ValueError(
                f"adapter {name!r}: {CONFIG}: {key} is {config[key]!r}, but {reason}. Merge the adapter into its base "
                "with peft (merge_and_unload) and use the full model"
            )
    start = config.get("init_lora_weights", True)
    if start not in _PLAIN_STARTS:
        raise ValueError(
            f"adapter {name!r}: {CONFIG}: init_lora_weights is {start!r}, which changes the base model too; save the "
            "adapter once more with peft's save_pretrained(path_initial_model_for_weight_conversion=...)"
        )
    return config


def _matching(pattern: Any, module: str, default: Any) -> Any:
    """Value of the first key of a rank_pattern or alpha_pattern that is the end of the module's name, as in peft."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default
