"""The job of the `growing` stage: read a model folder, grow it, write it, and measure what was promised."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from langmerge import growth, models
from langmerge.growing.architecture import EMBEDDING, HEAD, MODEL_TYPES
from langmerge.growing.methods import GROW
from langmerge.growing.preservation import differences, random_logits
from langmerge.growing.symmetry import copy_difference
from langmerge.provenance import InputError, Result, read_json, write_json

TOLERANCE = 1e-3
"""Largest relative difference of logits that passes as rounding in fp32.

Measured: 5e-7 for three trained layers, up to 1e-4 for thirty random ones of large weights; but 1 for misplaced heads
and for a head that is not divided, and 0.08 for noise of 10 dB that does not cancel in one matrix of a layer.
"""


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a model folder with every default filled in; InputError if it cannot be grown."""
    path = folder / "config.json"
    stored = read_json(path)
    for key, reason in (("auto_map", "asks for code of its own, which is never run"),
                        ("quantization_config", "quantized weights cannot be grown")):  # fmt: skip
        if key in stored:
            raise InputError(f"{path}: {key}: {reason}; take the original model of a family that transformers knows")
    if stored.get("model_type") not in MODEL_TYPES:
        raise InputError(
            f"{path}: model_type {stored.get('model_type')!r} cannot be grown; expected one of {', '.join(MODEL_TYPES)}"
        )
    from transformers import AutoConfig

    return dict(AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True).to_dict())


def read_weights(folder: Path, tied: bool) -> dict[str, Tensor]:
    """All tensors of a model folder, one file or shards, as stored; without what is computed or tied.

    Raises InputError for damaged files, and for a tied head that differs from the embeddings.
    """
    import safetensors

    weights: dict[str, Tensor] = {}
    for path in models.weight_files(folder):
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                weights |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except safetensors.SafetensorError as error:
            raise InputError(f"{path}: not a whole safetensors file ({error}); fetch or make the model again") from None
    # Old checkpoints store the rotary frequencies, which follow from the configuration.
    weights = {name: weight for name, weight in weights.items() if not name.endswith("rotary_emb.inv_freq")}
    if tied and HEAD in weights:
        if EMBEDDING in weights and not torch.equal(weights[HEAD], weights[EMBEDDING]):
            raise InputError(
                f"{folder}: config.json ties {HEAD} to the embeddings, but the weights hold another one; set "
                "tie_word_embeddings to false there"
            )
        del weights[HEAD]
    return weights


def write_model(weights: Mapping[str, Tensor], config: Mapping[str, Any], folder: Path) -> None:
    """Write ``model.safetensors`` (fp32) and ``config.json``."""
    from safetensors.torch import save_file
    from transformers import AutoConfig

    save_file(dict(weights), folder / models.WEIGHTS, metadata={"format": "pt"})
    fields = {key: value for key, value in config.items() if key != "torch_dtype"} | {"dtype": "float32"}
    AutoConfig.for_model(**fields).save_pretrained(folder)


def _recipe(spec: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    given = dict(spec)
    try:
        method = str(given.pop("method"))
        return method, growth.check(method, given)
    except KeyError:
        raise InputError(f'--spec: no "method"; expected one of {", ".join(GROW)}') from None
    except ValueError as error:
        raise InputError(f"--spec: {error}") from None


def _size(weights: Mapping[str, Tensor]) -> int:
    return sum(weight.numel() for weight in weights.values())


def grow_folder(method: str, parameters: Mapping[str, Any], source: Path, target: Path) -> dict[str, Any]:
    """Write the grown model, its tokenizer and ``growth.json`` into ``target``; the sizes and what symmetry is left."""
    config = read_config(source)
    weights = read_weights(source, bool(config.get("tie_word_embeddings")))
    try:
        grown, changed = GROW[method](weights, config, **parameters)
    except ValueError as error:
        raise InputError(f"{source}: {error}") from None
    facts: dict[str, Any] = {"parameters_before": _size(weights), "parameters": _size(grown), "symmetry": "none"}
    record = {"method": method, **parameters, "preserves": growth.METHODS[method].preserves}
    if method == "hyperclone":
        difference = copy_difference(grown, config, width=parameters["width"], heads=parameters["heads"])
        facts |= {"symmetry": "broken" if difference else "kept", "copy_difference": difference}
    write_model(grown, changed, target)
    models.copy_tokenizer(source, target)
    write_json(
        target / "growth.json", record | {key: facts[key] for key in ("parameters_before", "parameters", "symmetry")}
    )
    return facts


def grow(spec: Mapping[str, Any], source: Path, job: Result) -> None:
    """Fill ``job.folder`` and ``job.cost``.

    Raises InputError for what cannot be grown, and if a way that preserves the function did not.
    """
    method, parameters = _recipe(spec)
    models.set_threads()
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    facts = grow_folder(method, parameters, source, job.folder)
    preserves = growth.METHODS[method].preserves
    measured = differences(random_logits(source), random_logits(job.folder))
    job.cost.update(facts, preserves=preserves, **measured)
    found = measured["relative_logit_difference"]
    if preserves and not found <= TOLERANCE:  # also where it is no number
        raise InputError(
            f"{source}: {method} preserves the function, but logits differ by {found:.2g} of the largest (at most "
            f"{TOLERANCE:g} is rounding); are all weights finite, and does config.json belong to them?"
        )
    if facts["symmetry"] == "kept":
        print("noise: false: all copies get equal gradients, so training will not tell them apart")
