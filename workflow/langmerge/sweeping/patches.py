"""``python -m langmerge.sweeping.patches``: which tensors of a specialist, put back into a merge, restore how much.

For every layer set (:mod:`langmerge.sweeping.layer_sets`) and specialist the patched merge translates test sentences in
the specialist's direction. Weights are exchanged in memory, tensor by tensor, only where one patch differs from the one
before; sets that hold the same tensors are scored once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from langmerge import models, provenance
from langmerge.command import parse
from langmerge.csv_files import Row, write_csv
from langmerge.evaluation.scoring import score_model
from langmerge.evaluation.test_sets import TestSet, read_test_sets
from langmerge.merging.methods.layers import number_of_layers
from langmerge.merging.reader import ModelFolder
from langmerge.provenance import InputError
from langmerge.sweeping.layer_sets import LayerSet, layer_sets
from langmerge.sweeping.patch_table import Score, draw_counts, resampled, rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Statistics = dict[str, np.ndarray]  # sufficient statistics (n, k) by metric


class Patcher:
    """A model in which each tensor is one of several models'; ``sources`` maps their labels to folders.

    Reads tensors when they are put into the model, so that no second model is held. :class:`InputError` if the models'
    tensors differ in name or shape, or the architecture lacks one.
    """

    def __init__(self, model: PreTrainedModel, sources: Mapping[str, ModelFolder]) -> None:
        self.sources, self.state = sources, model.state_dict()
        self.placed: dict[str, str] = {}  # tensor -> label of the model that it is from
        shapes = {label: {n: tuple(t.shape) for n, t in s.tensors.items()} for label, s in sources.items()}
        first = next(iter(sources))
        for label, found in shapes.items():
            if different := sorted(found.items() ^ shapes[first].items()):
                raise InputError(
                    f"{sources[label].folder}: tensor {different[0][0]} is not as in {sources[first].folder}; "
                    "only models of one architecture and vocabulary can be patched"
                )
        if unknown := sorted(set(shapes[first]) - set(self.state)):
            raise InputError(f"{sources[first].folder}: the architecture has no tensor {unknown[0]}")

    @property
    def names(self) -> list[str]:
        """Names of all stored tensors."""
        return list(next(iter(self.sources.values())).tensors)

    def parameters(self, tensors: Iterable[str]) -> int:
        """Number of entries of some tensors."""
        entries = next(iter(self.sources.values())).tensors
        return sum(entries[name].numel for name in tensors)

    def put(self, onto: str, donor: str, patch: frozenset[str]) -> int:
        """Make the model ``onto`` with ``patch`` of ``donor``; the number of tensors that had to be read."""
        wanted = {name: donor if name in patch else onto for name in self.names}
        changed = [name for name, label in wanted.items() if self.placed.get(name) != label]
        with torch.no_grad():
            for name in changed:
                self.state[name].copy_(self.sources[wanted[name]].whole(name))
        self.placed = wanted
        return len(changed)


class Patches:
    """Scores of patched merges by ``spec`` (see :func:`main`), each set of tensors scored once."""

    def __init__(
        self,
        spec: Mapping[str, Any],
        patcher: Patcher,
        model: PreTrainedModel,
        tokenizer: Any,
        pairs: Mapping[str, Path],
    ) -> None:
        self.spec, self.patcher, self.model, self.tokenizer, self.pairs = spec, patcher, model, tokenizer, pairs
        self.tokens = self.scored = 0
        try:
            self.layers = number_of_layers(patcher.names)
            sets = layer_sets(
                spec["sets"],
                self.layers,
                window=spec["window"],
                draws=spec["draws"],
                last=spec["layers"],
                controls=spec["controls"],
                seed=spec["seed"],
            )
        except ValueError as error:
            raise InputError(f"layer_patch: {error}") from None
        tensors = {chosen: chosen.tensors(patcher.names) for chosen in sets}
        self.absent = [chosen.kind for chosen in sets if not tensors[chosen] and chosen.kind != "none"]
        self.tensors = {chosen: found for chosen, found in tensors.items() if found or chosen.kind == "none"}
        total = patcher.parameters(patcher.names)
        self.parameters = {chosen: patcher.parameters(found) / total for chosen, found in self.tensors.items()}

    def test_set(self, member: Mapping[str, Any]) -> TestSet:
        """The test sentences of a specialist's direction."""
        splits = {self.spec["split"]: self.spec["sentences"]}
        (test_set,) = read_test_sets({**self.spec, "directions": [member["direction"]], "splits": splits}, self.pairs)
        return test_set

    def score(self, onto: str, donor: str, test_set: TestSet) -> dict[LayerSet, Statistics]:
        """Statistics of every layer set of one specialist in one merge."""
        by_tensors: dict[frozenset[str], Statistics] = {}
        # Neighbours in this order share most tensors, so that little is exchanged
        for tensors in sorted(set(self.tensors.values()), key=lambda found: (len(found), sorted(found))):
            self.patcher.put(onto, donor, tensors)
            found = score_model(self.model, self.tokenizer, [test_set], self.spec)
            self.tokens += found.prompt_tokens + found.new_tokens
            self.scored += 1
            by_tensors[tensors] = found.outputs[0].statistics
        return {chosen: by_tensors[tensors] for chosen, tensors in self.tensors.items()}

    def rows(self) -> Iterator[Row]:
        """The table, one merge after another."""
        spec = self.spec
        sets = {member["language"]: self.test_set(member) for member in spec["members"]}
        counts = {code: draw_counts(test.ids, spec["samples"], spec["bootstrap_seed"]) for code, test in sets.items()}
        directions = {code: str(test.direction) for code, test in sets.items()}
        for onto in spec["onto"]:
            found = {m["language"]: self.score(onto, m["model"], sets[m["language"]]) for m in spec["members"]}
            for metric in spec["metrics"]:
                scores: dict[str, dict[LayerSet, Score]] = {
                    code: {chosen: resampled(metric, s[metric], counts[code]) for chosen, s in of.items()}
                    for code, of in found.items()
                }
                for row in rows(scores, self.parameters, {code: len(test.ids) for code, test in sets.items()}):
                    yield {"onto": onto, "direction": directions.get(row["language"], ""), "metric": metric, **row}


def main(arguments: list[str] | None = None) -> None:
    """Write ``patches.csv`` and ``summary.json``.

    The spec has ``onto`` (labels of merges), ``members`` (``model`` label of the specialist, ``language``,
    ``direction``), ``sets`` (kinds of layer sets), ``window``, ``draws`` (random sets of each size), ``layers``,
    ``controls`` and ``seed`` (of the paper's test), ``split``, ``sentences`` (none: all), ``samples`` and
    ``bootstrap_seed``, and what :func:`~langmerge.evaluation.scoring.score_model` needs; the inputs are
    ``models/<label>`` and ``pairs/<language>``.
    """
    command = parse("langmerge.sweeping.patches", __doc__, arguments)
    spec = command.spec
    labels = [*spec["onto"], *(member["model"] for member in spec["members"])]
    folders = {label: command.input(f"models/{label}") for label in dict.fromkeys(labels)}
    if not spec["onto"] or not spec["members"]:
        raise InputError("--spec: expected at least one merge in `onto` and one specialist in `members`")
    with provenance.result(command.out, spec, command.code, command.environment) as job, ExitStack() as stack:
        pairs = {language: job.read(f"pairs/{language}", folder) for language, folder in command.named("pairs").items()}
        for label, folder in folders.items():
            provenance.verify(job.read(f"models/{label}", folder))
        models.set_threads()
        try:
            sources = {
                label: stack.enter_context(closing(ModelFolder(label, folder))) for label, folder in folders.items()
            }
        except (ValueError, FileNotFoundError) as error:
            raise InputError(str(error)) from None
        first = folders[spec["onto"][0]]
        model, tokenizer = models.load_model(first), models.load_tokenizer(first)
        model.to(models.device())  # type: ignore[arg-type]
        patches = Patches(spec, Patcher(model, sources), model, tokenizer, pairs)
        write_csv(job.folder / "patches.csv", patches.rows())
        provenance.write_json(
            job.folder / "summary.json",
            {
                "layers": patches.layers,
                "sets": len(patches.tensors),
                "scored": patches.scored,
                "absent": patches.absent,
                "value": "(patched - merge) / (specialist - merge); empty where specialist - merge is below 2 SE",
            },
        )
        job.cost.update(tokens=patches.tokens, device=str(models.device()))


if __name__ == "__main__":
    provenance.run(main)
