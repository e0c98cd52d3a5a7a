"""Low-rank adaptation (LoRA): only a product of two thin matrices is trained beside each frozen weight.

A target's weight W (outputs, inputs) acts as W + s B A with A (rank, inputs), B (outputs, rank) and s = alpha / rank; A
starts random and B at zero, so that training starts from the parent (Hu et al. 2021, arXiv 2106.09685, section 4.1).
The layers are those of peft; this file puts them in and takes the result out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from langmerge import models
from langmerge.provenance import InputError
from langmerge.training.settings import LowRank

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

ADAPTER = "default"  # peft's name of the only adapter
PREFIX = "base_model.model."  # of the names in its wrapper
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def adapt(model: PreTrainedModel, settings: LowRank, seed: int) -> PeftModel:
    """Put adapters into ``model``, in place, and freeze all else; the same model in peft's wrapper.

    ``model`` itself goes on working: its target modules now add s B A.

    Raises:
        InputError: a target names no linear module, or an output embedding that shares the input embedding's weights
            (the change could not be merged into the one without changing the other).
    """
    from peft import LoraConfig, get_peft_model

    linear = {name.rsplit(".", 1)[-1] for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    head = next((name for name, part in model.named_modules() if part is model.get_output_embeddings()), None)
    if head is not None and model.config.get_text_config().tie_word_embeddings:
        linear.discard(head)
    if unknown := sorted(set(settings.targets) - linear):
        raise InputError(
            f"lora.targets: {', '.join(unknown)} cannot be adapted; expected names of the model's linear modules "
            f"whose weights are their own: {', '.join(sorted(linear))}"
        )
    torch.manual_seed(seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets),
    )
    return get_peft_model(model, config)


def merged(parent: Path, adapted: PeftModel) -> PreTrainedModel:
    """The parent with the adapters' changes in its weights: W + s B A in float64, rounded once to fp32 [on the CPU].

    The model in training is not touched: adding a change and taking it off again would not give the same bits.
    """
    model = models.load_model(parent)
    layers: dict[str, Any] = {name: part for name, part in adapted.named_modules() if hasattr(part, "lora_A")}
    with torch.no_grad():
        for name, layer in layers.items():
            a, b = (factor[ADAPTER].weight.detach().cpu().double() for factor in (layer.lora_A, layer.lora_B))
            weight = model.get_parameter(f"{name.removeprefix(PREFIX)}.weight")
            weight.copy_(weight.double() + (b * layer.scaling[ADAPTER]) @ a)
    return model


def save_adapter(adapted: PeftModel, folder: Path) -> None:
    """Write the adapter in peft's format, the same bytes in every process and on every machine."""
    adapted.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)  # peft's blank model card
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = None  # a path of this machine
    config["target_modules"] = sorted(config["target_modules"])  # in the order of a set
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def flops_per_token(full: float, trainable: int) -> float:
    """FLOPs per token of one training step, attention left out, from those of full training.

    A weight that multiplies costs 2 forward, 2 for the gradient of its input and 2 for its own gradient, 6 in all
    (arXiv 2204.02311, appendix B). A frozen one is spared the last: ``4 N_mm + 6 N_lora`` with ``full = 6 N_mm`` and
    ``trainable = N_lora``. Attention costs what it does in full training, since gradients pass through it. The input
    gradients of the first layer's projections, of which nothing is trained below, are counted though not computed.
    """
    return full * 4 / 6 + 6.0 * trainable
