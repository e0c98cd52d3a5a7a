"""One direction group: each model is loaded once and read anew for every set of units."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from langmerge import models, provenance
from langmerge.ablation.effects import bits_per_byte, effect
from langmerge.ablation.units import SITE, language_sets, language_span, languages_of, random_sets
from langmerge.analysis.neurons import ranking_of
from langmerge.csv_files import Row, write_csv
from langmerge.landscape.losses import Batch, make_batches, sentence_losses
from langmerge.prompts import Encoded, Prompt, encode_pairs
from langmerge.provenance import InputError
from langmerge.sentences import Sentences, blocks_of
from langmerge.spans import check_spans

DOWN = "mlp.down_proj"

COLUMNS = (
    *("model", "site", "ranking", "units_of", "language", "units", "draws", "n", "bytes", "intact"),
    *("value", "low", "high", "null", "null_low", "null_high", "excess", "excess_low", "excess_high"),
)


def down_projections(model: torch.nn.Module, layers: int, units: int) -> list[torch.nn.Parameter]:
    """Weights [d, units] that read the MLP units of each layer; :class:`InputError` if there are others than expected.

    A unit that is not read is switched off: its column times 0 is what 0 times its column is.
    """
    found = [
        module.get_parameter("weight")
        for name, module in model.named_modules()
        if name == DOWN or name.endswith(f".{DOWN}")
    ]
    shapes = {tuple(weight.shape)[1:] for weight in found}
    if len(found) != layers or shapes != {(units,)}:
        raise InputError(
            f"architecture {type(model).__name__}: {len(found)} modules *.{DOWN} with {sorted(shapes)} inputs, but "
            f"{layers} layers of {units} units were observed; observe this very model"
        )
    return found


@contextlib.contextmanager
def switched_off(weights: Sequence[torch.nn.Parameter], units: np.ndarray) -> Iterator[None]:
    """Inside, ``units`` bool [layer, unit] are zero, whatever the model reads; afterwards the weights are as before."""
    places = [torch.from_numpy(np.flatnonzero(layer)).to(weights[0].device) for layer in units]
    kept = [weight.data[:, place].clone() for weight, place in zip(weights, places, strict=True)]
    try:
        for weight, place in zip(weights, places, strict=True):
            weight.data[:, place] = 0
        yield
    finally:
        for weight, place, columns in zip(weights, places, kept, strict=True):
            weight.data[:, place] = columns


class Reader:
    """A model and the batched sentences of every language."""

    def __init__(self, folder: Path, spec: Mapping[str, Any], sentences: Sequence[Sentences]) -> None:
        prompt, tokenizer = Prompt(**spec["prompt"]), models.load_tokenizer(folder)
        encoded: list[list[Encoded]] = []
        for s in sentences:
            rows = encode_pairs(prompt, tokenizer, list(zip(s.sources, s.targets, strict=True)), *s.direction)
            # What comes first is predicted by nothing
            check_spans(rows, s.ids, "predict")
            encoded.append(rows)
        self.model: Any = models.load_model(folder).eval().to(models.device())
        self.batches: list[list[Batch]] = [make_batches(rows, range(len(rows)), self.model) for rows in encoded]
        lengths = [len(row.ids) for rows in encoded for row in rows]
        config = self.model.config.get_text_config()
        # a third of a training step: the forward pass alone
        self.tokens = sum(lengths)
        self.flops = models.training_flops_per_token(config, round(np.mean(lengths))) / 3 * self.tokens
        self.passes = 0

    def nats(self) -> list[np.ndarray]:
        """Loss of each target, fp64 [n] by language, with the weights as they are now."""
        self.passes += 1
        return [sentence_losses(self.model, batches).numpy() for batches in self.batches]


def ablate(
    spec: Mapping[str, Any], sentences: Sequence[Sentences], folders: Mapping[str, Path],
    observed: Mapping[str, Path], out: Path,
) -> dict[str, Any]:  # fmt: skip
    """Write ``ablation.csv`` and ``summary.json``; return the costs (tokens, flops, device).

    A row for each model, language whose units are off, and language that is read. Languages without units have none.
    """
    directions, languages = [s.direction for s in sentences], [s.language for s in sentences]
    span, ranking = language_span(directions, spec["pivot"]), ranking_of(spec["ranking"], spec["top"])
    rows: list[Row] = []
    chosen: dict[str, Any] = {}
    cost: dict[str, Any] = {"tokens": 0, "flops": 0.0, "device": str(models.device())}
    sizes = [np.array([len(text.encode()) for text in s.targets]) for s in sentences]
    blocks = [blocks_of(s.ids, spec["blocks"]) for s in sentences]
    for folder in observed.values():
        languages_of(folder, directions)
    for label, folder in folders.items():
        sets, frequency = language_sets(observed[label], observed[spec["baseline"]], ranking, span)
        random = random_sets(sets, frequency, spec["draws"], spec["seed"])
        reader = Reader(folder, spec, sentences)
        weights = down_projections(reader.model, *frequency.shape)
        intact = reader.nats()

        def without(units: np.ndarray, reader: Reader = reader, weights: Any = weights) -> list[np.ndarray]:
            with switched_off(weights, units):
                return reader.nats()

        for k, language in enumerate(languages):
            if not sets[k].any():
                continue
            off, others = without(sets[k]), [without(draw) for draw in random[k]]
            for j, read in enumerate(languages):
                found = effect(intact[j], off[j], np.stack([draw[j] for draw in others]), sizes[j], blocks[j])
                rows.append(
                    {
                        "model": label,
                        "site": SITE,
                        "ranking": ranking.name,
                        "units_of": language,
                        "language": read,
                        "units": int(sets[k].sum()),
                        "draws": spec["draws"],
                        "n": len(sizes[j]),
                        "bytes": int(sizes[j].sum()),
                        "intact": float(bits_per_byte(intact[j], sizes[j], blocks[j])[0]),
                        **asdict(found),
                    }
                )
        chosen[label] = _matches(languages, sets, random, frequency)
        cost["tokens"] += reader.passes * reader.tokens
        cost["flops"] += reader.passes * reader.flops
    write_csv(out / "ablation.csv", rows, COLUMNS)
    provenance.write_json(
        out / "summary.json",
        {
            "span": span,
            "languages": languages,
            "sentences": {str(s.direction): list(s.ids) for s in sentences},
            "units": chosen,
            "unit": "bits per byte of the target",
        },
    )
    return cost


def _matches(languages: Sequence[str], sets: np.ndarray, random: np.ndarray, frequency: np.ndarray) -> Row:
    """By language: units per layer, and how often they and their random matches fire on average."""

    def mean(units: np.ndarray) -> float | None:
        every = np.broadcast_to(frequency, units.shape)
        return round(float(every[units].mean()), 9) if units.any() else None

    return {
        language: {
            "layers": own.sum(1).tolist(),
            "frequency": mean(own),
            # every draw has as many units
            "random_frequency": mean(draws),
        }
        for language, own, draws in zip(languages, sets, random, strict=True)
    }
