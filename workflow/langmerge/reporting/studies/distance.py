"""The report of a study of distance: which kind makes merging fail, and what tells beforehand."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from langmerge.reporting.document import Document, Section, given
from langmerge.reporting.findings import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Finding
from langmerge.reporting.studies import distance_measures as measures
from langmerge.reporting.studies import dyads
from langmerge.reporting.studies.claims import claims_in_words, claims_table, untestable
from langmerge.reporting.studies.distance_figures import (
    NAMES,
    dose_figure,
    effect_figure,
    fitted,
    foresight_figure,
    pair_figure,
    scatter_figure,
)
from langmerge.reporting.studies.distance_measures import BEFORE, INTERACTION, KINDS, LETTERS, TWIN
from langmerge.reporting.studies.distance_tables import (
    SIGNIFICANT,
    difficulty_table,
    effect_table,
    estimate,
    foresight_table,
    p_text,
)
from langmerge.reporting.studies.results import LanguageResults, Samples
from langmerge.reporting.studies.tables import cost_table, counted, method_label, model_table, notes
from langmerge.reporting.table import Table, interval, number

MARGIN = 0.05  # a language is as hard as another if its bits differ by less than this share
OUTCOMES = {"retention": "retention", "loss": "loss (bits/sentence)"}


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
            (method, column): measures.effects(self.outcome(method, column), self.distances, self.seed)
            for method in self.methods
            for column in OUTCOMES
        }

    @cached_property
    def measured(self) -> dict[str, np.ndarray]:
        """By measure of pairs its matrix, mean over seeds."""
        return measures.measured(measures.diagnoses(self.results), self.results.languages)

    @cached_property
    def foresight(self) -> pd.DataFrame | None:
        """How well each measure tells the retention of the first method's merges; None without measures."""
        if not self.measured:
            return None
        return measures.foresight(self.outcome(self.methods[0]), self.measured, self.distances, self.seed)

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


# ---- claims --------------------------------------------------------------------------------------------------------


def find(evidence: Evidence) -> list[Finding]:
    """The findings, all of them ours."""
    return [
        equally_hard(evidence),
        twins_merge(evidence),
        every_kind_hurts(evidence),
        one_kind_is_worst(evidence),
        kinds_interact(evidence),
        something_foresees(evidence),
        beyond_the_kinds(evidence),
        methods_agree(evidence),
    ]


def equally_hard(evidence: Evidence) -> Finding:
    """ours-D1: equivalence, by whether the whole interval of the share lies within the margin."""
    claim = f"The transforms are as hard as the original: own bits per sentence within {100 * MARGIN:.0f} %."
    rows = evidence.difficulty.iloc[1:]
    ends = [row["share"].interval for _, row in rows.iterrows()]
    worst = max((row["share"].point for _, row in rows.iterrows()), key=abs)
    lowest, highest = min(low for low, _ in ends), max(high for _, high in ends)
    measured = (
        f"specialists differ from the original's by at most {number(100 * worst, 1, signed=True)} %; intervals "
        f"of all {len(rows)} transforms lie within [{number(100 * lowest, 1)}, {number(100 * highest, 1)}] %"
    )
    inside = [low > -MARGIN and high < MARGIN for low, high in ends]
    outside = [low > MARGIN or high < -MARGIN for low, high in ends]
    found = REPRODUCED if all(inside) else NOT_REPRODUCED if any(outside) else INCONCLUSIVE
    return Finding("ours-D1", claim, measured, found)


def twins_merge(evidence: Evidence) -> Finding:
    """ours-D2: the pair at distance 0."""
    claim = "Specialists of one language, trained on different sentences, merge without loss."
    if not evidence.results.study["twin"]:
        return untestable("ours-D2", claim, "a second specialist of one language (`twin`)")
    loss = measures.twin_loss(evidence.samples, evidence.methods[0])
    gain = interval(-loss.interval[1], -loss.interval[0], 2)
    kept = evidence.pairs[evidence.pairs.twins].retention.mean()
    additive = dyads.slopes(evidence.outcome(evidence.methods[0]), evidence.distances)[0]
    measured = (
        f"the merge of the twins is {number(-loss.point, 2, signed=True)} {gain} "
        f"bits per sentence better than they are, retention {number(kept, 2)}; the other pairs' regression says "
        f"{number(float(additive), 2)} at distance 0"
    )
    found = NOT_REPRODUCED if loss.above else REPRODUCED if loss.below else INCONCLUSIVE
    return Finding("ours-D2", claim, measured, found)


def _kinds(evidence: Evidence, method: str | None = None) -> pd.DataFrame:
    """Effects on retention without the interaction, the most harmful first."""
    table = evidence.effects[method or evidence.methods[0], "retention"]
    return table[table.kind != INTERACTION].sort_values("together", kind="stable")


def every_kind_hurts(evidence: Evidence) -> Finding:
    """ours-D3: slopes beside the others."""
    claim = "Every kind of distance lowers what a merge keeps, at equal difficulty."
    table = _kinds(evidence)
    if not np.isfinite(table.together).all():
        return untestable("ours-D3", claim, "more languages, so that the kinds can be told apart")
    measured = "change of retention at full distance beside the other kinds: " + "; ".join(
        f"{NAMES[row.kind].lower()} {estimate(row.together, row.low, row.high)} (p {_p(row.p_holm)})"
        for row in table.itertuples()
    )
    hurts = (table.together < 0) & (table.p_holm < SIGNIFICANT)
    helps = (table.together > 0) & (table.p_holm < SIGNIFICANT)
    return Finding(
        "ours-D3", claim, measured, REPRODUCED if hurts.all() else NOT_REPRODUCED if helps.any() else INCONCLUSIVE
    )


def one_kind_is_worst(evidence: Evidence) -> Finding:
    """ours-D4: the contrast of the two most harmful kinds. The winner is chosen on the same data."""
    claim = "One kind of distance hurts merging more than every other."
    table = _kinds(evidence)
    if len(table) < 2 or not np.isfinite(table.together).all():
        return untestable("ours-D4", claim, "more languages, so that the kinds can be told apart")
    first, second = table.kind.iloc[0], table.kind.iloc[1]
    gap, low, high = measures.contrast(evidence.outcome(evidence.methods[0]), evidence.distances, first, second)
    seeds = [min(list(evidence.distances), key=found.__getitem__) for found in evidence.slopes_by_seed().values()]
    measured = (
        f"{NAMES[first].lower()} costs most, {NAMES[second].lower()} is next: difference {estimate(gap, low, high)}; "
        f"{NAMES[first].lower()} costs most in {seeds.count(first)} of {len(seeds)} seeds"
    )
    found = REPRODUCED if high < 0 else INCONCLUSIVE
    return Finding("ours-D4", claim, measured, found)


def kinds_interact(evidence: Evidence) -> Finding:
    """ours-D5: the sign of the interaction; > 0: the second kind costs less than it does alone."""
    claim = "Kinds of distance do not add up: beside another, a kind costs less than it does alone."
    table = evidence.effects[evidence.methods[0], "retention"]
    row = table[table.kind == INTERACTION]
    if row.empty or not np.isfinite(row.together.iloc[0]):
        return untestable("ours-D5", claim, "languages that differ in several kinds")
    one = row.iloc[0]
    both = {**evidence.distances, INTERACTION: measures.interaction(evidence.distances)}
    outcome = evidence.outcome(evidence.methods[0])
    shares = [dyads.explained(outcome, factors) for factors in (evidence.distances, both)]
    measured = (
        f"each two kinds at once change retention by {estimate(one.together, one.low, one.high)} against their sum "
        f"(p {_p(one.p)}); R² is {number(shares[0], 2)} without and {number(shares[1], 2)} with it"
    )
    if not one.p < SIGNIFICANT:
        return Finding("ours-D5", claim, measured, INCONCLUSIVE)
    return Finding("ours-D5", claim, measured, REPRODUCED if one.together > 0 else NOT_REPRODUCED)


def something_foresees(evidence: Evidence) -> Finding:
    """ours-D6: the greatest correlation of all measures taken before merging, corrected for their number."""
    claim = "A measure taken before merging tells which pairs will merge badly."
    table = evidence.foresight
    before = table[table.before & table.rho.notna()] if table is not None else pd.DataFrame()
    if before.empty:
        return untestable("ours-D6", claim, "diagnoses of pairs")
    best = before.iloc[0]
    measured = (
        f"best of {len(before)}: {BEFORE[best['name']]}, ρ = {estimate(best.rho, best.low, best.high)} (p corrected "
        f"{_p(best.p_max)}), Q² for a language left out {number(best.q2, 2)}; "
        f"{int((before.p_max < SIGNIFICANT).sum())} of {len(before)} are significant; retention itself repeats "
        f"over seeds with ρ = {number(evidence.repeats, 2)}"
    )
    return Finding("ours-D6", claim, measured, REPRODUCED if best.p_max < SIGNIFICANT else INCONCLUSIVE)


def beyond_the_kinds(evidence: Evidence) -> Finding:
    """ours-D7: partial correlations beside the kinds of distance."""
    claim = "A measure tells more than the kinds of distance do."
    table = evidence.foresight
    before = table[table.before & table.partial.notna()] if table is not None else pd.DataFrame()
    if before.empty:
        return untestable("ours-D7", claim, "diagnoses of more pairs than there are kinds of distance")
    best = before.loc[before.partial.abs().idxmax()]
    known = dyads.foretold(evidence.outcome(evidence.methods[0]), evidence.distances)
    measured = (
        f"largest partial correlation beside the kinds: {BEFORE[best['name']]}, {number(best.partial, 2)} (p Holm "
        f"{_p(best.partial_p)}); the kinds alone foretell Q² = {number(known, 2)} for a language left out"
    )
    return Finding("ours-D7", claim, measured, REPRODUCED if best.partial_p < SIGNIFICANT else INCONCLUSIVE)


def methods_agree(evidence: Evidence) -> Finding:
    """ours-D8: rank correlation of two methods' retention over pairs."""
    claim = "The same pairs merge badly whatever the method."
    if len(evidence.methods) < 2:
        return untestable("ours-D8", claim, "pairs merged by two methods")
    first, second = evidence.methods[:2]
    orders = dyads.relabelings(len(evidence.results.languages), measures.PERMUTATIONS, evidence.seed)
    found = dyads.correlations(evidence.outcome(first), {second: evidence.outcome(second)}, orders).iloc[0]
    order = ", ".join(NAMES[kind].lower() for kind in _kinds(evidence, second).kind)
    measured = (
        f"retention by {method_label(first)} and {method_label(second)} correlate with ρ = "
        f"{number(found.rho, 2)} over pairs (p {_p(found.p)}); by {method_label(second)} the kinds rank, most "
        f"harmful first: {order}"
    )
    if not found.p < SIGNIFICANT:
        return Finding("ours-D8", claim, measured, INCONCLUSIVE)
    return Finding("ours-D8", claim, measured, REPRODUCED if found.rho > 0 else NOT_REPRODUCED)


def _p(p: float) -> str:
    text = p_text(p)
    return text if text.startswith("<") else f"= {text}"


# ---- the report ----------------------------------------------------------------------------------------------------


def findings_table(findings: list[Finding]) -> Table:
    """The findings; what the verdicts mean here."""
    table = claims_table(findings, "Claims of our own.")
    caption = (
        "Claims of our own. D1 and D2: 95 % bootstrap intervals over sentences; the others: 95 % "
        "jackknife intervals over languages and permutation p-values. Reproduced: the number points the "
        "claim's way and its interval or p excludes chance; not reproduced: it points the other way as "
        "clearly; inconclusive: neither."
    )
    return Table(
        table.name, table.title, caption, table.columns, table.rows, table.data, text_columns=4, stretch=table.stretch
    )


def heading(title: str, finding: Finding, short: Mapping[str, str]) -> str:
    """A title with what was found, where the finding's verdict has words for it."""
    return f"{title}: {short[finding.verdict]}" if finding.verdict in short else title


def compose(results: LanguageResults) -> Document:
    """The whole report; sections without content are left out."""
    samples = Samples(results)
    evidence = Evidence(samples)
    findings = find(evidence)
    named = {finding.name: finding for finding in findings}
    codes, first = results.languages, evidence.methods[0]
    order = sorted(range(len(codes)), key=lambda i: (len(evidence.names[codes[i]].split()) * (i > 0), i))
    outcome = evidence.outcome(first)
    worst = NAMES[_kinds(evidence).kind.iloc[0]].lower() if evidence.distances else ""
    tables = {
        f"{method_label(method)}: {OUTCOMES[column]}": table for (method, column), table in evidence.effects.items()
    }
    seeds = len(results.seeds)
    blocks = [
        dose_figure(evidence.pairs, fitted(outcome, evidence.distances, evidence.pairs)),
        effect_figure(evidence.effects[first, "retention"], evidence.slopes_by_seed(), "retention"),
        effect_table(tables, len(dyads.upper(outcome)), len(codes), seeds),
    ]
    foresight = evidence.foresight
    told = []
    if foresight is not None:
        best = list(foresight[foresight.before].name)[:3]
        told = given(
            foresight_figure(foresight, evidence.correlations_by_seed()),
            scatter_figure(evidence.pairs, {name: BEFORE[name] for name in best}),
            foresight_table(foresight, dyads.foretold(outcome, evidence.distances), evidence.repeats),
        )
    sections = [
        Section("Summary", [claims_in_words(findings)]),
        Section(
            heading(
                "Equal difficulty", named["ours-D1"], {REPRODUCED: "shown", NOT_REPRODUCED: "not for every language"}
            ),
            [difficulty_table(evidence.difficulty, evidence.names, counted(results, measures.TASK))],
        ),
        Section(heading("Which kind of distance", named["ours-D4"], {REPRODUCED: f"{worst} costs most"}), list(blocks)),
        Section(
            "Every pair",
            [
                pair_figure(
                    outcome[np.ix_(order, order)],
                    [evidence.names[codes[i]] for i in order],
                    method_label(first).lower(),
                )
            ],
        ),
        Section(
            heading(
                "What tells beforehand",
                named["ours-D6"],
                {REPRODUCED: BEFORE[foresight.name.iloc[0]]} if foresight is not None else {},
            ),
            told,
        ),
        Section("Findings", given(findings_table(findings))),
        Section("Cost and models", given(cost_table(results), model_table(results), notes(results))),
    ]
    kinds = ", ".join(KINDS[kind].lower() for kind in evidence.distances)
    question = (
        f"Real languages that are farther apart also differ in how hard they are. Here {codes[0]} and "
        f"{len(codes) - 1} transforms of it differ in {kinds} and in nothing else: same meanings, same amount "
        "of text. A base model learnt all of them; a specialist was trained for each, and every pair was "
        f"merged in weight space ({seeds} seed{'s' if seeds != 1 else ''}). Which kind of distance makes "
        "merging fail, and what tells beforehand?"
    )
    return Document(results.study["title"], question, [s for s in sections if s.blocks], findings)
