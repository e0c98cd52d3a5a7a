"""Measure all models of a direction group, one after the other; only one is in memory at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from langmerge import models, provenance
from langmerge.analysis import angles, neurons, representations, tables
from langmerge.analysis.forward import Observation, observe
from langmerge.analysis.sentences import Sentences, blocks_of
from langmerge.analysis.spans import SPANS, check_spans, span_tokens
from langmerge.prompts import Encoded, Prompt, encode_pairs
from langmerge.provenance import InputError


class Encoder:
    """Tokenises the sentences once per tokenizer, and insists that all models read the same tokens."""

    def __init__(self, sentences: Sequence[Sentences], prompt: Prompt, align: str) -> None:
        self._sentences, self._prompt, self._align = sentences, prompt, align
        self._seen: set[str] = set()
        self._first = ""
        self._sequences: list[list[Encoded]] = []

    def read(self, label: str, folder: Path) -> list[list[Encoded]]:
        """The sequences [direction][sentence]; :class:`InputError` if this tokenizer gives others than the first's."""
        files = [folder / name for name in models.TOKENIZER_FILES if (folder / name).is_file()]
        digest = provenance.canonical([[file.name, provenance.sha256_file(file)] for file in files])
        if digest in self._seen:
            return self._sequences
        tokenizer = models.load_tokenizer(folder)
        encoded = [
            encode_pairs(self._prompt, tokenizer, list(zip(s.sources, s.targets, strict=True)), *s.direction)
            for s in self._sentences
        ]
        if not self._seen:
            for s, sequences in zip(self._sentences, encoded, strict=True):
                check_spans(sequences, s.ids, self._align)
            self._sequences, self._first = encoded, label
        elif encoded != self._sequences:
            raise InputError(
                f"{folder}: the tokenizer of {label!r} gives other tokens than that of {self._first!r}; models are "
                "compared on the same inputs. Measure models with one tokenizer together"
            )
        self._seen.add(digest)
        return self._sequences


class NeuronTables:
    """Gathers the neuron tables model by model, the baseline first: it fixes the thresholds of all others."""

    def __init__(self, ranking: neurons.Ranking, languages: Sequence[str], seed: int) -> None:
        self._ranking, self._languages, self._seed = ranking, languages, seed
        self.reference: dict[str, tables.Reference] = {}  # by span
        self._units: dict[str, list[tables.Row]] = {}  # by model
        self._turnover: dict[str, list[tables.Row]] = {}
        self._usage: dict[str, dict[str, np.ndarray]] = {}

    def add(self, label: str, counts: np.ndarray, tokens: np.ndarray) -> None:
        """Take in a model's ``counts`` [K, span, G, layer, unit] with ``tokens`` [K, span, G]."""
        units: list[tables.Row] = []
        turnover: list[tables.Row] = []
        usage: dict[str, np.ndarray] = {}
        for s, span in enumerate(SPANS):
            data = (counts[:, s], tokens[:, s], self._ranking)
            if span in self.reference:
                turnover += tables.turnover_rows(label, span, self._languages, *data, self.reference[span])
            else:
                self.reference[span] = tables.reference(*data, self._seed)
            units += tables.neuron_rows(label, span, self._languages, *data, self.reference[span].thresholds)
            usage[span] = tables.usage_vectors(*data[:2])
        self._units[label], self._turnover[label], self._usage[label] = units, turnover, usage

    def write(self, out: Path, labels: Sequence[str]) -> None:
        """Write ``neurons.csv``, ``turnover.csv`` and ``usage.csv`` with the models in the order of ``labels``."""
        tables.write_csv(out / "neurons.csv", [row for label in labels for row in self._units[label]])
        tables.write_csv(out / "turnover.csv", [row for label in labels for row in self._turnover[label]])
        usage = {span: {label: self._usage[label][span] for label in labels} for span in SPANS}
        tables.write_csv(out / "usage.csv", [row for span in SPANS for row in tables.usage_rows(span, usage[span])])


def representations_file(out: Path, label: str) -> Path:
    """Where a model's representations are kept in the result's folder."""
    return out / "representations" / f"{label}.safetensors"


def _check_shape(label: str, found: Observation, baseline: str, first: Observation) -> None:
    def shape(observation: Observation) -> tuple[int, int, int]:
        return observation.counts.shape[2], observation.means.shape[3], observation.counts.shape[3]

    if shape(found) != shape(first):
        raise InputError(
            f"model {label!r} has (layers, width, MLP width) = {shape(found)}, {baseline!r} has {shape(first)}; layers "
            "and units are compared one by one, so measure models of equal shape together"
        )


def _write_pairs(
    spec: Mapping[str, Any], sentences: Sequence[Sentences], blocks: Sequence[np.ndarray], layers: int, out: Path
) -> None:
    """Write ``cka.csv``, ``angles.csv`` and ``mds.csv`` from the representations in ``out``.

    One layer of all models is in memory at a time. The maps of direction ``all`` are of the root mean square of the
    distances in each direction.
    """
    labels, device = list(spec["models"]), models.device()
    files = [representations_file(out, label) for label in labels]
    similar: list[tables.Row] = []
    angular: list[tables.Row] = []
    maps: list[tables.Row] = []
    squares: dict[tuple[str, int], list[np.ndarray]] = {}
    for s, block in zip(sentences, blocks, strict=True):
        direction = str(s.direction)
        for span in SPANS:
            for layer in range(layers + 1):
                stack = representations.read(files, direction, span, layer).to(device)
                place = (direction, span, layer, layers)
                similar += tables.cka_rows(*place, labels, stack, block, spec["permutations"], spec["seed"])
                found = angles.compare(stack, block, spec["seed"])
                angular += tables.angle_rows(*place, labels, found)
                if layer in angles.map_layers(layers):
                    maps += tables.map_rows(direction, span, layer, labels, found.distance)
                    squares.setdefault((span, layer), []).append(found.distance**2)
    for (span, layer), every in squares.items():
        maps += tables.map_rows("all", span, layer, labels, np.sqrt(np.mean(every, axis=0)))
    tables.write_csv(out / "cka.csv", similar)
    tables.write_csv(out / "angles.csv", angular)
    tables.write_csv(out / "mds.csv", maps)


def measure(
    spec: Mapping[str, Any], sentences: Sequence[Sentences], shared: bool, folders: Mapping[str, Path], out: Path
) -> dict[str, Any]:
    """Write all tables into ``out``; return the costs (tokens, flops, device).

    ``folders`` maps each of ``spec["models"]`` to its folder. Forward passes are in fp32 unless ``spec["dtype"]`` says
    ``bfloat16``: what fine-tuning changes in a weight is often smaller than bf16 can hold.
    """
    labels, baseline = list(spec["models"]), spec["baseline"]
    n_blocks, align = spec["blocks"], spec["align"]
    languages = [s.language for s in sentences]
    blocks = [blocks_of(s.ids, n_blocks) for s in sentences]
    encoder = Encoder(sentences, Prompt(**spec["prompt"]), align)
    ranking = neurons.ranking_of(spec["neurons"], spec["top"])
    gathered = NeuronTables(ranking, languages, spec["seed"])
    device = models.device()
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[spec.get("dtype", "float32")]
    cost: dict[str, Any] = {"tokens": 0, "flops": 0.0, "device": str(device)}
    first: Observation | None = None
    tokens = np.zeros(0)

    for label in [baseline, *(label for label in labels if label != baseline)]:
        encoded = encoder.read(label, folders[label])
        model = models.load_model(folders[label], dtype)
        torch.nn.Module.to(model, device)
        observed = [observe(model, e, b, n_blocks, align) for e, b in zip(encoded, blocks, strict=True)]
        first = first or observed[0]
        _check_shape(label, observed[0], baseline, first)

        means = {str(s.direction): o.means for s, o in zip(sentences, observed, strict=True)}
        representations.write(representations_file(out, label), means)
        tokens = np.stack([span_tokens(e, b, n_blocks, align) for e, b in zip(encoded, blocks, strict=True)])
        gathered.add(label, np.stack([o.counts for o in observed]), tokens)

        lengths = [len(sequence.ids) for sequences in encoded for sequence in sequences]
        # a third of a training step: the forward pass alone
        per_token = models.training_flops_per_token(model.config.get_text_config(), round(np.mean(lengths))) / 3
        cost["tokens"] += sum(lengths)
        cost["flops"] += per_token * sum(lengths)

    assert first is not None  # the baseline is one of the models
    layers = first.counts.shape[2]
    gathered.write(out, labels)
    _write_pairs(spec, sentences, blocks, layers, out)
    provenance.write_json(
        out / "summary.json",
        {
            "layers": representations.layer_names(layers),
            "same_sentences": shared,
            "sentences": {str(s.direction): list(s.ids) for s in sentences},
            "languages": {str(s.direction): s.language for s in sentences},
            "neurons": tables.ranking_summary(ranking, gathered.reference),
            **tables.token_summary(languages, tokens),
        },
    )
    return cost
