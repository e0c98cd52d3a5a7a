"""One model: load it, read the sentences once, write the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from langmerge import host_memory, models, provenance
from langmerge.csv_files import write_csv
from langmerge.observation.forward import Task, meters_of, observe, pilot, site_shapes
from langmerge.observation.meters import Meter
from langmerge.observation.store import Pooled, write_tensors
from langmerge.prompts import Encoded, Prompt, encode_pairs
from langmerge.provenance import InputError
from langmerge.sentences import Sentences, blocks_of
from langmerge.spans import SPANS, check_spans, span_tokens

THRESHOLDS = "thresholds.safetensors"
MOST = 2**15 - 1  # sentences of a direction that a histogram's int16 can count


def layer_names(layers: int) -> list[str]:
    """What stands at each layer index of the pooled states of a model with ``layers`` blocks."""
    return ["embedding", *(f"block {i}" for i in range(1, layers)), f"block {layers}, after the final norm"]


def token_rows(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Token ids that occur in the spans, int64 [V'], and how often, int32 [D, S, G, V']."""
    ids: list[int] = []
    places: list[int] = []
    for sequence, direction, block in zip(task.encoded, task.directions, task.blocks, strict=True):
        for s, (start, end) in enumerate((sequence.source, sequence.target)):
            own = sequence.ids[max(start, 1) : end]
            ids += own
            places += [(direction * len(SPANS) + s) * task.n_blocks + block] * len(own)
    vocabulary, column = np.unique(np.array(ids, dtype=np.int64), return_inverse=True)
    shape = (task.n_directions, len(SPANS), task.n_blocks, len(vocabulary))
    flat = np.bincount(np.array(places) * len(vocabulary) + column, minlength=int(np.prod(shape)))
    return vocabulary, flat.astype(np.int32).reshape(shape)


def count_tensors(meters: Mapping[str, Meter], task: Task) -> dict[str, np.ndarray]:
    """What ``counts.safetensors`` holds, by name."""
    vocabulary, rows = token_rows(task)
    tokens = np.stack(
        [
            span_tokens([task.encoded[i] for i in here], task.blocks[here], task.n_blocks, task.align)
            for here in (np.flatnonzero(task.directions == d).tolist() for d in range(task.n_directions))
        ]
    )
    found = {"tokens": tokens, "embedding/vocabulary": vocabulary, "embedding/rows": rows}
    for site, meter in meters.items():
        events = meter.events.cpu().numpy()
        shape = (events.shape[0], task.n_directions, task.n_blocks, *events.shape[2:])
        found[f"{site}/events"] = events.reshape(shape).swapaxes(0, 1)
        found[f"{site}/sum"] = meter.total.float().cpu().numpy()
        if meter.histogram is not None:
            found[f"{site}/histogram"] = meter.histogram.cpu().numpy()
    return found


def _write_losses(path: Path, task: Task, sentences: Sequence[Sentences], losses: np.ndarray) -> None:
    """One row per sentence: nats of its target span, the tokens of both spans and the target's UTF-8 bytes."""
    names = [(str(s.direction), key, text) for s in sentences for key, text in zip(s.ids, s.targets, strict=True)]
    rows = (
        {
            "direction": direction,
            "id": key,
            "block": block,
            "source_tokens": sequence.source[1] - sequence.source[0],
            "target_tokens": sequence.target[1] - sequence.target[0],
            "target_bytes": len(text.encode()),
            "nll": nll,
        }
        for (direction, key, text), sequence, block, nll in zip(names, task.encoded, task.blocks, losses, strict=True)
    )
    write_csv(path, rows)


def _baseline(folder: Path, summary: Mapping[str, Any], label: Path) -> dict[str, torch.Tensor]:
    """The baseline's frozen thresholds; :class:`InputError` if it read other tokens or has another shape."""
    from safetensors.torch import load_file

    first = provenance.read_json(folder / "summary.json")
    if first["sequences"] != summary["sequences"]:
        raise InputError(
            f"{label}: its tokens are not those of the baseline in {folder}; models are compared on the same inputs. "
            "Observe models with one tokenizer, prompt and set of sentences together"
        )
    for key in ("align", "n_blocks", "layers", "width", "sites", "bins"):
        if first[key] != summary[key]:
            raise InputError(
                f"{label}: {key} = {summary[key]}, the baseline in {folder} has {first[key]}; layers and units are "
                "compared one by one, so observe models of equal shape together"
            )
    return load_file(folder / THRESHOLDS)


def observe_model(
    spec: Mapping[str, Any],
    sentences: Sequence[Sentences],
    shared: bool,
    folder: Path,
    baseline: Path | None,
    out: Path,
) -> dict[str, Any]:
    """Write the observation of the model in ``folder`` into ``out``; return the costs: tokens, flops, device, and
    the bytes of its arrays, as :mod:`langmerge.host_memory` predicts them and as they were.

    The forward pass is in fp32 unless ``spec["dtype"]`` says ``bfloat16``: what fine-tuning changes in a weight is
    often smaller than bf16 can hold.
    """
    prompt, tokenizer = Prompt(**spec["prompt"]), models.load_tokenizer(folder)
    encoded: list[list[Encoded]] = [
        encode_pairs(prompt, tokenizer, list(zip(s.sources, s.targets, strict=True)), *s.direction) for s in sentences
    ]
    for s, sequences in zip(sentences, encoded, strict=True):
        check_spans(sequences, s.ids, spec["align"])
    task = Task(
        encoded=[sequence for sequences in encoded for sequence in sequences],
        directions=np.repeat(np.arange(len(sentences)), [len(s.ids) for s in sentences]),
        blocks=np.concatenate([blocks_of(s.ids, spec["blocks"]) for s in sentences]),
        n_directions=len(sentences),
        n_blocks=spec["blocks"],
        align=spec["align"],
    )
    if spec["bins"] and max(len(s.ids) for s in sentences) > MOST:
        raise InputError(f"sentences: average precision counts at most {MOST} in a direction; lower it")
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[spec.get("dtype", "float32")]
    model: Any = models.load_model(folder, dtype).eval().to(models.device())
    config = model.config.get_text_config()
    layers, width = config.num_hidden_layers, config.hidden_size
    shapes = site_shapes(model, spec["sites"])
    names = {str(s.direction): s for s in sentences}
    summary: dict[str, Any] = {
        "directions": [{"source": s.direction.source, "target": s.direction.target} for s in sentences],
        "languages": {name: s.language for name, s in names.items()},
        "sentences": {name: list(s.ids) for name, s in names.items()},
        "blocks": {name: blocks_of(s.ids, spec["blocks"]).tolist() for name, s in names.items()},
        "n_blocks": spec["blocks"],
        "same_sentences": shared,
        "align": spec["align"],
        "layers": layers,
        "layer_names": layer_names(layers),
        "width": width,
        "vocabulary": config.vocab_size,
        "pools": list(spec["pools"]),
        "sites": {site: list(shape) for site, shape in shapes.items()},
        "bins": spec["bins"],
        "pilot_sentences": len(pilot(task)),
        "sequences": provenance.sha256_text(provenance.canonical([[s.ids, s.source, s.target] for s in task.encoded])),
    }
    frozen = None if baseline is None else _baseline(baseline, summary, folder)
    meters = meters_of(shapes, task, spec["bins"], model.device, frozen)

    sizes = {name: len(s.ids) for name, s in names.items()}
    pooled = Pooled(out / "representations.safetensors", sizes, spec["pools"], layers, width)
    losses = observe(model, task, meters, spec["pools"], pooled)
    pooled.close()
    counts = count_tensors(meters, task)
    write_tensors(out / "counts.safetensors", counts)
    thresholds = {f"{site}/tau": meter.tau.cpu().numpy() for site, meter in meters.items()}
    thresholds |= {f"{site}/scale": m.scale.cpu().numpy() for site, m in meters.items() if m.scale is not None}
    write_tensors(out / THRESHOLDS, thresholds)
    _write_losses(out / "losses.csv", task, sentences, losses)
    provenance.write_json(out / "summary.json", summary)

    lengths = [len(sequence.ids) for sequence in task.encoded]
    # a third of a training step: the forward pass alone
    per_token = models.training_flops_per_token(config, round(np.mean(lengths))) / 3
    seen = len(counts["embedding/vocabulary"])
    return {
        "tokens": sum(lengths),
        "flops": per_token * sum(lengths),
        "device": str(models.device()),
        "predicted_array_bytes": host_memory.observation(
            shapes, task.n_directions, task.n_blocks, spec["bins"], vocabulary=seen
        )["total"],
        "array_bytes": sum(meter.nbytes for meter in meters.values()) + counts["embedding/rows"].nbytes,
    }
