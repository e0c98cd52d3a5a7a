"""Compare the observations of a direction group's models; no model runs, and little of them is in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from langmerge import models, provenance
from langmerge.analysis import angles, embedding, neurons, redistribution_tables, representations, tables, units
from langmerge.analysis.observations import (
    Summary,
    read_counts,
    read_histogram,
    read_representation,
    read_rows,
    read_summary,
)
from langmerge.analysis.precision import average_precision
from langmerge.analysis.selection import LeftOut, select
from langmerge.csv_files import Row, write_csv
from langmerge.provenance import InputError
from langmerge.spans import SPANS

UNIT_TABLES = ("units", "layers", "overlaps", "flows", "turnovers")
GATED = "mlp_gate"
PRECISION = "average_precision"


def read_summaries(spec: Mapping[str, Any], folders: Mapping[str, Path]) -> Summary:
    """The baseline's summary; :class:`InputError` for a model that was observed on other text or has another shape."""
    first = read_summary(folders[spec["baseline"]])
    for label, folder in folders.items():
        own = read_summary(folder)
        for name in ("layers", "width", "sites", "pools", "align", "n_blocks"):
            if getattr(own, name) != getattr(first, name):
                raise InputError(
                    f"{folder}: {name} = {getattr(own, name)}, of {spec['baseline']!r} it is {getattr(first, name)}; "
                    f"layers and units are compared one by one, so leave {label!r} out"
                )
        if own.sequences != first.sequences:
            raise InputError(
                f"{folder}: the tokenizer of {label!r} gives other tokens than that of {spec['baseline']!r}, or it "
                "read other sentences; models are compared on the same inputs"
            )
    asked = [(value["source"], value["target"]) for value in spec["directions"]]
    if asked != [tuple(direction) for direction in first.directions]:
        found = ", ".join(map(str, first.directions))
        raise InputError(f"{folders[spec['baseline']]}: observed in {found}; expected the spec's directions")
    return first


# ---- pairs of models -----------------------------------------------------------------------------------------------


def write_pairs(spec: Mapping[str, Any], summary: Summary, folders: Mapping[str, Path], out: Path) -> None:
    """Write ``cka.csv``, ``angles.csv`` and ``mds.csv`` from span means.

    One layer of all models is in memory at a time. The maps of direction ``all`` are of the root mean square of the
    distances in each direction.
    """
    labels, device, layers = list(spec["models"]), models.device(), summary.layers
    floored = representations.trained_pairs(labels, spec["baseline"], list(map(str, summary.directions)))
    similar: list[Row] = []
    angular: list[Row] = []
    maps: list[Row] = []
    squares: dict[tuple[str, int], list[np.ndarray]] = {}
    for direction, block in zip(map(str, summary.directions), summary.blocks, strict=True):
        for span in SPANS:
            for layer in range(layers + 1):
                states = [read_representation(folders[label], direction, span, "mean", layer) for label in labels]
                stack = torch.stack(states).to(device)
                place = (direction, span, layer, layers)
                similar += tables.cka_rows(*place, labels, stack, block, spec["permutations"], spec["seed"])
                found = angles.compare(stack, block, spec["seed"], floored)
                angular += tables.angle_rows(*place, labels, found)
                if layer in angles.map_layers(layers):
                    maps += tables.map_rows(direction, span, layer, labels, found.distance)
                    squares.setdefault((span, layer), []).append(found.distance**2)
    for (span, layer), every in squares.items():
        maps += tables.map_rows("all", span, layer, labels, np.sqrt(np.mean(every, axis=0)))
    write_csv(out / "cka.csv", similar)
    write_csv(out / "angles.csv", angular)
    write_csv(out / "mds.csv", maps)


# ---- units ---------------------------------------------------------------------------------------------------------


class UnitTables:
    """Gathers the rows of :data:`UNIT_TABLES`, site by site and span by span, the baseline before all others."""

    def __init__(self, spec: Mapping[str, Any], languages: Sequence[str], folders: Mapping[str, Path]) -> None:
        self._spec, self._languages, self._folders = spec, languages, folders
        self._rankings = rankings_of(spec)
        self.rows: dict[str, list[Row]] = {name: [] for name in UNIT_TABLES}
        self.usage: dict[str, dict[str, np.ndarray]] = {span: {} for span in SPANS}
        self.references: dict[tuple[str, str, str], neurons.Thresholds] = {}  # by site, ranking and span

    def add(self, site: str, span: str) -> None:
        """Take in all models at one site, in one span."""
        baseline = self._spec["baseline"]
        references: dict[str, units.Reference] = {}
        for label in [baseline, *(label for label in self._spec["models"] if label != baseline)]:
            self._model(label, site, span, references)
        for name, reference in references.items():
            self.references[site, name, span] = reference.thresholds

    def _model(self, label: str, site: str, span: str, references: dict[str, units.Reference]) -> None:
        s, folder, first = SPANS.index(span), self._folders[label], not references
        counts = read_counts(folder, site)
        events, tokens = counts.events[:, s], counts.tokens[:, s]
        left_out = neurons.leave_one_out(events, tokens)
        if site == GATED:
            self.usage[span][label] = units.usage_vectors(left_out)
        for ranking in self._rankings:
            data = left_out
            if ranking.name == PRECISION:
                data = [(average_precision(read_histogram(folder, site)[:, s]), left_out[0][1])]
                if first:
                    references[ranking.name] = units.precision_reference(data, ranking)
            elif first:
                references[ranking.name] = units.reference(events, tokens, ranking, self._spec["seed"])
            head: Row = {"model": label, "span": span, "site": site, "ranking": ranking.name}
            self._ranked(head, ranking, data, references[ranking.name], first)

    def _ranked(
        self, head: Row, ranking: neurons.Ranking, data: LeftOut, base: units.Reference, first: bool
    ) -> None:  # fmt: skip
        languages, rows = self._languages, self.rows
        for frozen in (True, False):
            known = first and frozen
            found = base.selection if known else select(data, ranking, base.thresholds if frozen else None)
            here = {**head, "frozen": frozen}
            rows["units"] += units.unit_rows(here, languages, found, int(data[0][1].min()))
            rows["overlaps"] += units.overlap_rows(here, languages, found)
            if found.sets.shape[2] > 1:
                rows["layers"] += units.layer_rows(here, languages, found)
            if frozen and not first:
                rows["flows"] += units.flow_rows(head, languages, base.selection, found)
                rows["turnovers"] += units.turnover_rows(head, languages, base, found)


def rankings_of(spec: Mapping[str, Any]) -> list[neurons.Ranking]:
    """The headline ranking ``spec["neurons"]`` first, then all other ``spec["rankings"]``."""
    return [neurons.ranking_of(name, spec["top"]) for name in dict.fromkeys([spec["neurons"], *spec["rankings"]])]


def _ordered(rows: Iterable[Row], labels: Sequence[str]) -> list[Row]:
    return sorted(rows, key=lambda row: labels.index(row["model"]))


def _headline(rows: Iterable[Row], ranking: str, dropped: Sequence[str]) -> list[Row]:
    """The rows of gate events in the headline ranking, in fewer columns."""
    own = (row for row in rows if row["site"] == GATED and row["ranking"] == ranking)
    return [{key: value for key, value in row.items() if key not in dropped} for row in own]


def write_units(spec: Mapping[str, Any], summary: Summary, folders: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Write the tables of units; what ``summary.json`` says of them.

    ``units``, ``layers``, ``overlaps``, ``flows`` and ``turnovers.csv`` are of every site and ranking; ``neurons`` and
    ``turnover.csv`` of gate events in the headline ranking, ``usage.csv`` of gate events.
    """
    gathered = UnitTables(spec, summary.languages, folders)
    for site in summary.sites:
        for span in SPANS:
            gathered.add(site, span)
    labels, ranking = list(spec["models"]), rankings_of(spec)[0]
    rows = {name: _ordered(found, labels) for name, found in gathered.rows.items()}
    for name, found in rows.items():
        write_csv(out / f"{name}.csv", found)
    write_csv(out / "neurons.csv", _headline(rows["units"], ranking.name, ("site", "share_low", "share_high")))
    dropped = ("site", "ranking", "low", "high")
    write_csv(out / "turnover.csv", _headline(rows["turnovers"], ranking.name, dropped))
    usage = {span: {label: gathered.usage[span][label] for label in labels} for span in SPANS}
    write_csv(out / "usage.csv", [row for span in SPANS for row in units.usage_rows(span, usage[span])])
    own = {span: gathered.references[GATED, ranking.name, span] for span in SPANS}
    return {"neurons": units.ranking_summary(ranking, own)}


def measure(spec: Mapping[str, Any], folders: Mapping[str, Path], out: Path) -> None:
    """Write all tables and ``summary.json``; ``folders`` maps each of ``spec["models"]`` to its observation."""
    summary = read_summaries(spec, folders)
    baseline = folders[spec["baseline"]]
    found = write_units(spec, summary, folders, out)
    representations.write_similarity(spec, summary, folders, out)
    redistribution_tables.write_redistribution(spec, summary, folders, out)
    rows = read_rows(baseline)
    write_csv(out / "embedding_rows.csv", embedding.row_rows(summary.languages, rows))
    write_csv(out / "embedding_tokens.csv", embedding.token_rows(summary.languages, rows))
    write_pairs(spec, summary, folders, out)
    names = [str(direction) for direction in summary.directions]
    provenance.write_json(
        out / "summary.json",
        {
            "layers": list(summary.layer_names),
            "same_sentences": summary.same_sentences,
            "sentences": dict(zip(names, map(list, summary.ids), strict=True)),
            "languages": dict(zip(names, summary.languages, strict=True)),
            **found,
            **units.token_summary(summary.languages, read_counts(baseline, GATED).tokens),
        },
    )
