"""The survey of one direction group: a model is loaded once, all others are put into its place."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from langmerge import host_memory, models, provenance
from langmerge.csv_files import Row, write_csv
from langmerge.landscape import alignment, fisher, gradients, layers, line, plane
from langmerge.landscape.losses import Batch, make_batches, sentence_losses
from langmerge.landscape.tables import COLUMNS
from langmerge.landscape.weights import Weights, blend, distances
from langmerge.prompts import Encoded, Prompt, encode_pairs
from langmerge.provenance import InputError
from langmerge.sentences import Sentences


class Sample:
    """The sentences of one language, tokenised and batched.

    The first n ``encoded`` ones serve the losses, so many as the spec says the ``gradients`` and the ``fisher``
    information; ``sizes`` [n] and ``all_sizes`` are the UTF-8 bytes of their targets, ``draws`` [R, n] resamples.
    """

    def __init__(self, sentences: Sentences, encoded: Sequence[Encoded], spec: Mapping[str, Any], model: Any) -> None:
        self.language, self.direction = sentences.language, sentences.direction
        self.ids = sentences.ids[: spec["sentences"]]
        self.encoded = encoded[: spec["sentences"]]
        self.gradients, self.fisher = encoded[: spec["gradients"]], encoded[: spec["fisher"]]
        self.all_sizes = np.array([len(target.encode()) for target in sentences.targets])
        self.sizes = self.all_sizes[: len(self.ids)]
        self.tokens = sum(end - start for start, end in (row.target for row in self.encoded))
        self.draws = line.resamples(self.ids, spec["seed"])
        self.batches: list[Batch] = make_batches(self.encoded, range(len(self.encoded)), model)


class Survey:
    """One model on the device, into which the weights of others are put, and counted work.

    ``base`` and ``specialists`` are labels; ``samples`` are the languages, in the order of the specialists.
    """

    def __init__(self, spec: Mapping[str, Any], sentences: Sequence[Sentences], folders: Mapping[str, Path]) -> None:
        self.spec, self.base, self.specialists = spec, spec["base"], list(spec["specialists"])
        self.labels = [self.base, *self.specialists]
        encoded = encode_alike({label: folders[label] for label in self.labels}, Prompt(**spec["prompt"]), sentences)
        self.model: Any = models.load_model(folders[self.base]).eval()
        self.model.to(models.device())
        parameters = dict(self.model.named_parameters())
        self.weights = {label: Weights(folders[label], parameters) for label in self.labels}
        self.samples = [Sample(s, e, spec, self.model) for s, e in zip(sentences, encoded, strict=True)]
        self.languages = [sample.language for sample in self.samples]
        self.cost: dict[str, Any] = {"tokens": 0, "flops": 0.0, "device": str(self.model.device)}
        self._nats: dict[tuple[str, str], np.ndarray] = {}  # by model and language, at the models themselves
        self.distance = distances(list(self.weights.values()), self.model.device).numpy()

    def place(self, combination: Mapping[str, float]) -> None:
        """Put a combination of models, by label, into the model."""
        blend(self.model, [self.weights[label] for label in combination], list(combination.values()))

    def nats(self, combination: Mapping[str, float], samples: Sequence[Sample]) -> dict[str, np.ndarray]:
        """Loss of each sentence [n] by language at a combination of models; those of a model itself are kept."""
        alone = next((label for label, share in combination.items() if share == 1), None)
        found = {
            s.language: self._nats[alone, s.language] for s in samples if alone and (alone, s.language) in self._nats
        }
        missing = [sample for sample in samples if sample.language not in found]
        if missing:
            self.place(combination)
        for sample in missing:
            found[sample.language] = sentence_losses(self.model, sample.batches).numpy()
            self._count(sample.encoded, 1)
            if alone:
                self._nats[alone, sample.language] = found[sample.language]
        return found

    def own(self, *labels: str) -> list[Sample]:
        """The languages that some of these models were trained on, or all if the spec says so."""
        every = self.spec["languages"] == "all" or not set(labels) & set(self.specialists)
        return [s for label, s in zip(self.specialists, self.samples, strict=True) if every or label in labels]

    def _count(self, encoded: Sequence[Encoded], passes: float) -> None:
        """Note ``passes`` forward passes' worth of work (a backward pass is two)."""
        tokens = sum(len(row.ids) for row in encoded)
        config = self.model.config.get_text_config()
        self.cost["tokens"] += tokens
        self.cost["flops"] += (
            passes * tokens * models.training_flops_per_token(config, round(tokens / len(encoded))) / 3
        )

    # ---- tables ----------------------------------------------------------------------------------------------------

    def losses(self) -> Iterator[Row]:
        """Every model on every language."""
        for label in self.labels:
            nats = self.nats({label: 1.0}, self.samples)
            for s in self.samples:
                each = nats[s.language]
                low, high = line.percentiles(line.bits_per_byte(each, s.sizes, s.draws))
                loss = float(line.bits_per_byte(each, s.sizes))
                values = (label, s.language, loss, float(low), float(high), len(s.ids), s.tokens, int(s.sizes.sum()))
                yield dict(zip(COLUMNS["losses"], values, strict=True))

    def lines(self) -> tuple[list[Row], list[Row]]:
        """Rows of ``line`` and ``barriers`` for the base with each specialist and for every two specialists."""
        at = np.linspace(0, 1, self.spec["points"])
        along: list[Row] = []
        barriers: list[Row] = []
        for a, b in itertools.combinations(self.labels, 2):
            samples = self.own(a, b)
            points = [self.nats({a: 1 - float(t), b: float(t)}, samples) for t in at]
            nats = {s.language: np.stack([point[s.language] for point in points]) for s in samples}
            sizes, draws = {s.language: s.sizes for s in samples}, {s.language: s.draws for s in samples}
            for language, found in line.lines(nats, sizes, draws, at).items():
                key = {"model_a": a, "model_b": b, "language": language}
                n = sum(len(s.ids) for s in samples if language in ("mean", s.language))
                columns = zip(at, found.losses, *found.excess(), strict=True)
                along += [
                    {**key, "a": t, "loss": loss, "excess": rise, "low": low, "high": high, "n": n}
                    for t, loss, rise, low, high in columns
                ]
                for measure, values in (
                    ("barrier", found.barrier()),
                    ("midpoint", found.midpoint()),
                    ("loss_of_merging", found.loss_of_merging()),
                ):
                    row = dict(zip(("value", "low", "high", "at"), values, strict=True))
                    barriers.append({**key, "measure": measure, **row, "n": n})
        return along, barriers

    def plane(self) -> tuple[list[Row], dict[str, Any]]:
        """Rows of ``plane``, and what the summary says of it: models, coordinates, or why there is none."""
        chosen = list(self.spec["plane"])
        if not chosen and len(self.specialists) > 1:
            chosen = [self.base, *(self.specialists[i] for i in plane.most_distant(self.distance[1:, 1:]))]
        if not chosen or not self.spec["grid"]:
            return [], {"models": [], "reason": "not asked for" if chosen else "needs three models"}
        first, second, third = (self.labels.index(label) for label in chosen)
        d = self.distance
        try:
            corners = plane.corners(d[first, second], d[first, third], d[second, third])
        except ValueError as error:
            return [], {"models": chosen, "reason": str(error)}
        places = [(point, "") for point in plane.grid(corners, self.spec["grid"])]
        places += list(zip(corners, chosen, strict=True))
        samples = self.own(*chosen)
        rows: list[Row] = []
        for (x, y), label in places:
            mixture = {label: 1.0} if label else dict(zip(chosen, plane.coefficients((x, y), corners), strict=True))
            nats = self.nats(mixture, samples)
            found = {s.language: float(line.bits_per_byte(nats[s.language], s.sizes)) for s in samples}
            n = {s.language: len(s.ids) for s in samples}
            if len(found) > 1:
                found["mean"], n["mean"] = float(np.mean(list(found.values()))), sum(n.values())
            rows += [
                {"x": x, "y": y, "model": label, "language": language, "loss": loss, "n": n[language]}
                for language, loss in found.items()
            ]
        return rows, {"models": chosen, "coordinates": dict(zip(chosen, corners, strict=True))}

    def fisher(self, folder: Path) -> Iterator[Row]:
        """Overlaps ``at`` the specialists' ``own`` weights, each with its language's sentences, and at the ``base``."""
        if not self.spec["fisher"]:
            return
        counts = [len(sample.fisher) for sample in self.samples]
        for at, labels in (("own", self.specialists), (self.base, [self.base] * len(self.samples))):
            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                halves = [Path(temporary) / str(sample.direction) for sample in self.samples]
                for label, sample, place in zip(labels, self.samples, halves, strict=True):
                    self.place({label: 1.0})
                    fisher.write_halves(self.model, sample.fisher, place)
                    self._count(sample.fisher, 3)
                found = fisher.overlaps(halves, counts, self.model.device)
            for layer in layers.in_order(found):
                for row in fisher.rows(found[layer]):
                    values = (at, self.languages[row.i], self.languages[row.j], layer, row.measure, row.value)
                    n = min(counts[row.i], counts[row.j])
                    yield dict(zip(COLUMNS["fisher"], (*values, row.null, row.ceiling, n), strict=True))

    def gradients(self) -> Iterator[Row]:
        """Alignment of the languages' gradients at the base, by layer."""
        if not self.spec["gradients"]:
            return
        self.place({self.base: 1.0})
        counts = [len(sample.gradients) for sample in self.samples]
        n_blocks = min(self.spec["blocks"], *counts)
        # The same sentences in the same block of every language where they are parallel
        members = [
            (s, range(g, n, n_blocks)) for s, n in zip(self.samples, counts, strict=True) for g in range(n_blocks)
        ]
        sizes = np.array([s.all_sizes[rows].sum() for s, rows in members]).reshape(len(self.samples), n_blocks)
        batches = [make_batches(s.gradients, rows, self.model) for s, rows in members]
        found = gradients.block_grams(self.model, batches)
        rounds = len(gradients.rounds(self.model, len(batches)))
        for sample in self.samples:
            self._count(sample.gradients, 3 * rounds)
        for layer in layers.in_order(found):
            gram = found[layer].numpy().reshape(len(self.samples), n_blocks, len(self.samples), n_blocks)
            for row in alignment.rows(gram / np.log(2) ** 2, sizes):
                null = 0.0 if row.measure.startswith("cosine") else float("nan")
                key = (self.languages[row.i], self.languages[row.j], layer, row.measure)
                n = min(counts[row.i], counts[row.j])
                values = (row.value, row.low, row.high, null, row.ceiling, n, n_blocks)
                yield dict(zip(COLUMNS["gradients"], (*key, *values), strict=True))


def encode_alike(folders: Mapping[str, Path], prompt: Prompt, sentences: Sequence[Sentences]) -> list[list[Encoded]]:
    """The sentences as tokens, by language; :class:`InputError` if the models' tokenizers do not agree on them."""
    found: dict[str, tuple[str, list[list[Encoded]]]] = {}
    for label, folder in folders.items():
        files = [folder / name for name in models.TOKENIZER_FILES if (folder / name).is_file()]
        digest = provenance.canonical([[file.name, provenance.sha256_file(file)] for file in files])
        if digest in found:
            continue
        tokenizer = models.load_tokenizer(folder)
        encoded = [
            encode_pairs(prompt, tokenizer, list(zip(s.sources, s.targets, strict=True)), *s.direction)
            for s in sentences
        ]
        for other, known in found.values():
            if known != encoded:
                raise InputError(
                    f"{folder}: the tokenizer of {label!r} gives other tokens than that of {other!r}; between their "
                    "weights there is no line. Use specialists of one base with its tokenizer"
                )
        found[digest] = label, encoded
    _, result = next(iter(found.values()))
    for s, rows in zip(sentences, result, strict=True):
        for key, row in zip(s.ids, rows, strict=True):
            if row.target[0] < 1 or row.target[1] <= row.target[0]:
                raise InputError(
                    f"sentence {key!r} of {s.direction}: no target token that anything stands before; "
                    "remove it, or use a longer prompt"
                )
    return result


def survey(
    spec: Mapping[str, Any], sentences: Sequence[Sentences], shared: bool, folders: Mapping[str, Path], out: Path
) -> dict[str, Any]:
    """Write all tables and ``summary.json`` into ``out``; return the costs: tokens, flops, device, predicted memory."""
    found = Survey(spec, sentences, folders)
    along, barriers = found.lines() if spec["pairs"] == "all" else ([], [])
    places, plane_summary = found.plane()
    tables: dict[str, Iterable[Row]] = {
        "losses": found.losses(),
        "gradients": found.gradients(),
        "fisher": found.fisher(out),
        "line": along,
        "barriers": barriers,
        "plane": places,
    }
    for name, rows in tables.items():
        write_csv(out / f"{name}.csv", rows, COLUMNS[name])
    provenance.write_json(
        out / "summary.json",
        {
            "base": found.base,
            "specialists": dict(zip(found.specialists, found.languages, strict=True)),
            "sentences": {s.language: list(s.ids) for s in found.samples},
            "same_sentences": shared,
            "distances": {"models": found.labels, "values": found.distance.round(9).tolist()},
            "plane": plane_summary,
            "units": {"loss": "bits per byte of the target", "x, y, distances": "2-norm of the weights"},
        },
    )
    return {**found.cost, "predicted_memory_bytes": _predicted_memory(found)}


def _predicted_memory(found: Survey) -> int:
    """What :mod:`langmerge.host_memory` says that a survey holds on the host, libraries and activations apart."""
    numbers = [weight.numel() for weight in found.model.parameters()]
    kind, languages = found.model.device.type, len(found.samples)
    needs = host_memory.landscape(sum(numbers), max(numbers), len(found.labels), languages, found.spec["blocks"], kind)
    return needs.device if kind == "cpu" else needs.host
