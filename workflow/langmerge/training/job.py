"""The `train` stage: from a recipe and its inputs to a model folder."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers.utils.logging import disable_progress_bar

from langmerge import models
from langmerge.energy import meter_of
from langmerge.prompts import Prompt
from langmerge.provenance import InputError, Result, canonical, code_fingerprint, sha256_text
from langmerge.training.batches import Order
from langmerge.training.data import Corpora, concatenate, encode_part
from langmerge.training.loop import Run, find_cluster
from langmerge.training.lora import WEIGHTS, adapt, flops_per_token
from langmerge.training.settings import Settings, check


def _check(settings: Settings, config: Any) -> None:
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    if limit and settings.context_length > limit:
        raise InputError(
            f"context_length {settings.context_length} exceeds the model's max_position_embeddings {limit}; lower it"
        )


def prepare(settings: Settings, inputs: Mapping[str, Path], work: Path, identity: str) -> tuple[Run, dict[str, int]]:
    """The run that a recipe asks for, not started, and the pairs and examples left out as too long, by part."""
    models.set_threads()
    disable_progress_bar()  # of transformers' loading and saving: a job has a progress bar of its own
    cluster = find_cluster(models.device())
    meter = meter_of(cluster.device)
    if cluster.device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32
    parent = inputs["model"]
    tokenizer = models.load_tokenizer(parent)
    corpora = Corpora(inputs)
    prompt = Prompt(settings.prompt.template, settings.prompt.format)
    mixture = [part for part in settings.data if part.weight]
    encoded = [
        encode_part(corpora, tokenizer, part, prompt, settings.text_tag, settings.context_length) for part in mixture
    ]
    parts = [sequences for sequences, _ in encoded]
    order = Order(
        parts,
        [part.weight for part in mixture],
        settings.batch_tokens,
        settings.seed,
        least=settings.accumulation * cluster.size,
        sort=not settings.packing,
    )
    model = models.load_model(parent)
    _check(settings, model.config)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    adapted = None if settings.lora is None else adapt(model, settings.lora, settings.seed)
    run = Run(settings, model, concatenate(parts), order, pad, parent, work, identity, cluster, adapted, meter)
    left_out = {part.label: number for part, (_, number) in zip(mixture, encoded, strict=True) if number}
    return run, left_out


def train(spec: Any, inputs: Mapping[str, Path], job: Result, work: Path) -> None:
    """Train as ``spec`` says; fill ``job.cost`` and ``job.folder`` (the model, ``step<N>/`` per snapshot, and the log).

    With `lora` each model folder holds the merged model, and its adapter in ``adapter/``.
    ``work`` keeps the resume state and TensorBoard's files; of the state nothing is left when the run is complete.
    """
    settings = check(Settings, spec, "train")
    if "model" not in inputs:
        raise InputError('the inputs lack "model", the folder of the parent model')
    for name, folder in sorted(inputs.items()):
        job.read(name, folder)
    code = job.code or code_fingerprint("langmerge.training.job")
    identity = sha256_text(canonical([spec, job.inputs, code]))
    work.mkdir(parents=True, exist_ok=True)
    run, left_out = prepare(settings, inputs, work, identity)
    cuda = run.cluster.device.type == "cuda"
    properties = torch.cuda.get_device_properties(run.cluster.device) if cuda else None
    for name, number in left_out.items():
        print(f"{name}: {number} pairs or examples are left out, longer than context_length {settings.context_length}")
    run.train()
    if run.cluster.rank:
        return
    run.save(work / "models" / "final")
    for source in sorted((work / "models" / "final").iterdir()):
        shutil.move(source, job.folder / source.name)
    for step in sorted(set(settings.snapshots)):
        shutil.move(run.snapshot(step), job.folder / f"step{step}")
    lines = [json.dumps(row) for row in run.ledger.log]
    (job.folder / "training_log.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = run.model.config.get_text_config()
    per_token = models.training_flops_per_token(config, 0)
    per_square = models.training_flops_per_token(config, 1) - per_token
    job.cost.update(run.cost(properties.name if properties else platform.processor() or platform.machine()))
    job.elsewhere.update(run.elsewhere())
    job.cost["model_bytes"] = sum(file.stat().st_size for file in models.weight_files(job.folder))
    trainable = sum(weight.numel() for weight in run.model.parameters() if weight.requires_grad)
    job.cost["trainable_parameters"] = trainable
    if settings.lora is not None:
        per_token = flops_per_token(per_token, trainable)
        job.cost["adapter_bytes"] = (job.folder / "adapter" / WEIGHTS).stat().st_size
    job.cost["flops"] = per_token * run.ledger.tokens + per_square * run.ledger.squared_tokens
    if cuda:
        job.cost["peak_gpu_memory_bytes"] = torch.cuda.max_memory_allocated(run.cluster.device)
    if left_out:
        job.cost["pairs_left_out"] = left_out
    shutil.rmtree(work / "models", ignore_errors=True)
