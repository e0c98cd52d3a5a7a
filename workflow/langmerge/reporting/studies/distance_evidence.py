"""All that the report of a study of distance says, computed once."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from langmerge.reporting.studies import distance_measures as measures
from langmerge.reporting.studies import dyads
from langmerge.reporting.studies.distance_measures import INTERACTION, LETTERS, TWIN
from langmerge.reporting.studies.results import LanguageResults, Samples

OUTCOMES = ("retention", "loss")


@dataclass(frozen=True)
class Evidence:
    """All that the report's tables, figures and findings are made of, computed once from the results."""

    samples: Samples

    @property
    def results(self) -> LanguageResults:
        """The results."""
        return self.samples.results

    @cached_property
    def seed(self) -> int:
        """Seed of the permutations."""
        return int(self.results.study["evaluation"]["seed"])

    @cached_property
    def distances(self) -> dict[str, np.ndarray]:
        """By kind of distance its matrix over languages."""
        return measures.kinds(self.results)

    @cached_property
    def names(self) -> dict[str, str]:
        """Short names of the languages."""
        return measures.labels(self.results.languages, self.distances)

    @cached_property
    def methods(self) -> list[str]:
        """Methods of pair merges, in the order of the sweeps."""
        return list(dict.fromkeys(self.results.select(role="pair").method))

    @cached_property
    def outcomes(self) -> dict[str, pd.DataFrame]:
        """By method one row a pair and seed."""
        return {method: measures.outcomes(self.results, method) for method in self.methods}

    def outcome(self, method: str, column: str = "retention", seed: int | None = None) -> np.ndarray:
        """The matrix of an outcome over languages, mean over seeds or of one."""
        table = self.outcomes[method]
        chosen = table if seed is None else table[table.seed == seed]
        return measures.matrix(chosen, column, self.results.languages)

    @cached_property
    def difficulty(self) -> pd.DataFrame:
        """How hard each language is."""
        return measures.difficulty(self.samples)

    @cached_property
    def effects(self) -> dict[tuple[str, str], pd.DataFrame]:
        """By method and outcome what each kind of distance does."""
        return {
            (method, column): measures.effects(
                self.outcome(method, column), self.distances, self.seed, {"gain": self.gain}
            )
            for method in self.methods
            for column in OUTCOMES
        }

    @cached_property
    def gain(self) -> np.ndarray:
        """Mean gain of the specialists of each pair, bits per sentence."""
        own = np.array([sample.point for sample in self.difficulty.gain])
        return np.asarray((own[:, None] + own[None, :]) / 2)

    @cached_property
    def moderator(self) -> str | None:
        """The kind of distance that most changes what the others do."""
        return measures.moderator(self.outcome(self.methods[0]), self.distances)

    @cached_property
    def conditional(self) -> pd.DataFrame | None:
        """Effects on retention of the other kinds, apart for pairs alike in the moderator and not."""
        if self.moderator is None:
            return None
        outcome, factors = self.outcome(self.methods[0]), measures.split(self.distances, self.moderator)
        orders = dyads.relabelings(len(outcome), measures.PERMUTATIONS, self.seed)
        table = measures.estimated(outcome, factors, orders)
        return table.assign(p_holm=measures.corrected_p(table.p))

    @cached_property
    def measured(self) -> dict[str, np.ndarray]:
        """By measure of pairs its matrix, mean over seeds."""
        return measures.measured(measures.diagnoses(self.results), self.results.languages)

    @cached_property
    def foresight(self) -> pd.DataFrame | None:
        """How well each measure tells the retention of the first method's merges; None without measures."""
        if not self.measured:
            return None
        return measures.foresight(self.outcome(self.methods[0]), self.measured, self.known, self.seed, self.moderator)

    @cached_property
    def known(self) -> dict[str, np.ndarray]:
        """All that the kinds of distance say of a pair: split by the moderator where there is one."""
        return self.distances if self.moderator is None else measures.split(self.distances, self.moderator)

    def slopes_by_seed(self, column: str = "retention") -> dict[int, dict[str, float]]:
        """By seed the slope of each kind beside the others, and of the interaction beside all."""
        both = {**self.distances, INTERACTION: measures.interaction(self.distances)}
        found = {}
        for seed in self.results.seeds:
            outcome = self.outcome(self.methods[0], column, seed)
            found[seed] = dict(zip(self.distances, dyads.slopes(outcome, self.distances)[1:].tolist(), strict=True))
            if len(self.distances) > 1:
                found[seed][INTERACTION] = float(dyads.slopes(outcome, both)[-1])
        return found

    def correlations_by_seed(self) -> dict[int, dict[str, float]]:
        """By seed the rank correlation of each measure with the retention of that seed's merges."""
        table, found = measures.diagnoses(self.results), {}
        for seed in self.results.seeds:
            outcome = self.outcome(self.methods[0], seed=seed)
            here = measures.measured(table[table.seed == seed], self.results.languages)
            found[seed] = {name: dyads.spearman(outcome, one) for name, one in here.items()}
        return found

    @cached_property
    def repeats(self) -> float:
        """Mean rank correlation of retention between two seeds: how well anything could foretell one seed's."""
        matrices = [self.outcome(self.methods[0], seed=seed) for seed in self.results.seeds]
        found = [dyads.spearman(a, b) for a, b in itertools.combinations(matrices, 2)]
        return float(np.mean(found)) if found else float("nan")

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """One row a pair of models (the twins' too), mean over seeds: retention, kinds, measures."""
        codes = self.results.languages
        table = self.outcomes[self.methods[0]].groupby(["a", "b"], sort=False).retention.mean().reset_index()
        place = {code: i for i, code in enumerate(codes)} | {TWIN: 0}
        ends = [(place[a], place[b]) for a, b in zip(table.a, table.b, strict=True)]
        for kind, matrix in self.distances.items():
            table[kind] = [matrix[i, j] for i, j in ends]
        kinds = list(self.distances)
        table["size"] = (table[kinds] > 0).sum(axis=1)
        table["set"] = ["".join(LETTERS[k] for k in kinds if row[k] > 0) for row in table[kinds].to_dict("records")]
        table["twins"] = table["size"] == 0
        table = table[table.twins | ((table.a != TWIN) & (table.b != TWIN))].reset_index(drop=True)
        means = measures.diagnoses(self.results).pivot_table(index=["a", "b"], columns="measure", values="value")
        return table.join(means, on=["a", "b"])
