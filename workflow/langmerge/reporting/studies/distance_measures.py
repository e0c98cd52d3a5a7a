"""What a study of distance measures of pairs: how they differ, what merging keeps of them, what tells beforehand.

Bits are counted per sentence, not per byte: the languages' sentences are parallel, while their bytes are not alike
(a Cyrillic letter has two).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from langmerge import transforms
from langmerge.corpora.grammar.transform import transform_distance
from langmerge.evaluation.significance import holm
from langmerge.reporting.load import each, read_statistics
from langmerge.reporting.samples import Sample, mean
from langmerge.reporting.studies import dyads
from langmerge.reporting.studies.results import LanguageResults, Samples

TASK, METRIC = "text", "bits_per_byte"
TWIN = "twin"  # the second specialist of the first language
PERMUTATIONS = 9999
KINDS = {"lexicon": "Words", "order": "Word order", "script": "Script", "agreement": "Agreement"}
LETTERS = {"lexicon": "W", "order": "O", "script": "S", "agreement": "A"}
INTERACTION = "together"
BEFORE = {
    "cosine": "cosine of task vectors",
    "distance": "distance of weights",
    "distance.relative": "relative distance of weights",
    "norm_ratio": "ratio of task vectors' norms",
    "sign_conflict": "sign conflict",
    "sign_conflict.magnitude": "sign conflict by magnitude",
    "elect_loss": "loss by electing signs (TIES)",
    "subspace.ratio": "subspace overlap of task vectors",
    "subspace.excess": "subspace overlap above chance",
    "gradient.cosine": "cosine of gradients at the base",
    "gradient.cosine_debiased": "cosine of gradients, debiased",
    "cka.own": "CKA, each its own language",
    "cka.cross": "CKA, both the same language",
    "activation.own": "activation subspaces, own language",
    "activation.cross": "activation subspaces, same language",
}
AFTER = {"midpoint.mean": "rise half-way (dev)", "barrier.mean": "barrier (dev)"}
SIDES = {
    "cka.a": "cka.cross",
    "cka.b": "cka.cross",
    "activation.a": "activation.cross",
    "activation.b": "activation.cross",
}


# ---- distance ------------------------------------------------------------------------------------------------------


def kinds(results: LanguageResults) -> dict[str, np.ndarray]:
    """By kind of distance the matrix over the study's languages; only the kinds in which some differ."""
    codes, corpus = results.languages, results.study["corpus"]
    found = {kind: np.zeros((len(codes), len(codes))) for kind in KINDS}
    for i, j in itertools.combinations(range(len(codes)), 2):
        for kind, value in kinds_between(codes[i], codes[j], corpus).items():
            found[kind][i, j] = found[kind][j, i] = value
    return {kind: matrix for kind, matrix in found.items() if matrix.any()}


def kinds_between(a: str, b: str, corpus: Mapping[str, Any]) -> dict[str, float]:
    """How far two languages of a corpus are apart: by its grammar's files, or by the names of real text's."""
    if corpus["kind"] == "embedded":
        return transform_distance(a, b, Path(corpus["grammar"]) / "languages")
    one, two = (transforms.named(code, corpus["transforms"]["base"]) for code in (a, b))
    assert one and two, (a, b)
    return one.distance(two)


def interaction(distances: Mapping[str, np.ndarray]) -> np.ndarray:
    """The sum of the products of every two kinds: how much a pair differs in several ways at once."""
    return np.asarray(sum(a * b for a, b in itertools.combinations(distances.values(), 2)), dtype=float)


def labels(languages: Sequence[str], distances: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Short names that say how a language differs from the first: ``W50 O`` for half the words and another order."""
    names = {}
    for i, code in enumerate(languages):
        parts = []
        for kind, matrix in distances.items():
            if matrix[0, i]:
                share = "" if kind != "lexicon" else f"{100 * matrix[0, i]:.0f}"
                parts.append(LETTERS[kind] + share)
        names[code] = " ".join(parts) or code
    return names


# ---- scores --------------------------------------------------------------------------------------------------------


def language_of(results: LanguageResults, model: str) -> str:
    """The language of a specialist."""
    return results.languages[0] if model == TWIN else model


def bytes_per_sentence(results: LanguageResults) -> dict[str, float]:
    """Mean UTF-8 bytes of a test sentence, by language."""
    base = results.select(name="base").iloc[0].key
    folder = results.folders[f"systems/{base}"] / "statistics"
    found = {}
    for code in results.languages:
        found[code] = float(read_statistics(folder / f"test.{TASK}.{code}.npz")[METRIC][:, 1].mean())
    return found


def per_sentence(samples: Samples, model: str, language: str, size: float) -> Sample:
    """Bits per sentence of a model in a language, mean over seeds; ``size`` is the bytes of its mean sentence."""
    score = samples.average(list(samples.results.select(name=model).key), TASK, [language])
    return Sample(score.point * size, score.draws * size)


def difficulty(samples: Samples) -> pd.DataFrame:
    """By language the :class:`Sample` of bits per sentence of base and specialist, gain, and difference from the first.

    ``easier`` is the specialist's difference from that of the study's first language, ``share`` the same as a share.
    """
    results, rows = samples.results, []
    sizes = bytes_per_sentence(results)
    first = results.languages[0]
    reference = per_sentence(samples, first, first, sizes[first])
    for code in results.languages:
        own = per_sentence(samples, code, code, sizes[code])
        base = per_sentence(samples, "base", code, sizes[code])
        difference = own - reference
        share = Sample(difference.point / reference.point, difference.draws / reference.draws)
        rows.append(
            {"language": code, "bytes": sizes[code], "base": base, "specialist": own, "gain": base - own}
            | {"difference": difference, "share": share}
        )
    return pd.DataFrame(rows)


def outcomes(results: LanguageResults, method: str) -> pd.DataFrame:
    """One row a pair and seed: what its merge keeps, each the mean over the pair's two specialists.

    ``retention`` = (base - merge) / (base - specialist), NaN where the specialist gained nothing; ``loss`` = merge -
    specialist in bits per sentence.
    """
    text = results.scores[(results.scores.task == TASK) & (results.scores.metric == METRIC)]
    score = {(row.key, row.language): row.score for row in each(text)}
    key = {(row.seed, row.name): row.key for row in each(results.select(role=["base", "specialist"]))}
    sizes = bytes_per_sentence(results)
    rows = []
    for merge in results.select(role="pair", method=method).to_dict("records"):
        kept, lost = [], []
        for model in merge["models"]:
            code = language_of(results, model)
            merged = score[merge["key"], code]
            own = score[key[merge["seed"], model], code]
            base = score[key[merge["seed"], "base"], code]
            kept.append((base - merged) / (base - own) if base > own else np.nan)
            lost.append((merged - own) * sizes[code])
        a, b = merge["models"]
        rows.append({"seed": merge["seed"], "a": a, "b": b, "retention": np.mean(kept), "loss": np.mean(lost)})
    return pd.DataFrame(rows, columns=["seed", "a", "b", "retention", "loss"])


def twin_loss(samples: Samples, method: str) -> Sample:
    """Bits per sentence that the merge of the twins loses against either, mean over seeds."""
    results = samples.results
    first = results.languages[0]
    size = bytes_per_sentence(results)[first]
    merged = per_sentence(samples, f"{method}.{first}+{TWIN}", first, size)
    return merged - mean([per_sentence(samples, first, first, size), per_sentence(samples, TWIN, first, size)])


# ---- diagnoses -----------------------------------------------------------------------------------------------------


def diagnoses(results: LanguageResults) -> pd.DataFrame:
    """One row a pair, seed and measure (seed, a, b, measure, value); measures with two sides are their mean."""
    pairs = results.diagnoses.get("pairs", pd.DataFrame(columns=["seed", "a", "b", "measure", "value"]))
    found = pairs[["seed", "a", "b", "measure", "value"]].copy()
    found["measure"] = found.measure.replace(SIDES)
    return found.groupby(["seed", "a", "b", "measure"], sort=False)[["value"]].mean().reset_index()


def matrix(table: pd.DataFrame, column: str, models: Sequence[str]) -> np.ndarray:
    """The means over seeds of a column as a symmetric matrix over models; NaN where there is no row."""
    place = {name: i for i, name in enumerate(models)}
    found = np.full((len(models), len(models)), np.nan)
    for row in table.groupby(["a", "b"])[[column]].mean().reset_index().to_dict("records"):
        if row["a"] in place and row["b"] in place:
            i, j = place[row["a"]], place[row["b"]]
            found[i, j] = found[j, i] = row[column]
    return found


def measured(table: pd.DataFrame, models: Sequence[str]) -> dict[str, np.ndarray]:
    """By measure of :data:`BEFORE` and :data:`AFTER` its matrix; only those defined for every pair and not constant."""
    found = {}
    for name in (*BEFORE, *AFTER):
        one = matrix(table[table.measure == name], "value", models)
        if np.isfinite(dyads.upper(one)).all() and np.ptp(dyads.upper(one)) > 0:
            found[name] = one
    return found


# ---- answers -------------------------------------------------------------------------------------------------------


def effects(
    outcome: np.ndarray, distances: Mapping[str, np.ndarray], seed: int, control: Mapping[str, np.ndarray] | None = None
) -> pd.DataFrame:
    """What each kind of distance does to the outcome, one row a kind, and one for their :func:`interaction`.

    Slopes are per full difference (all words, another order ...). ``alone``: the kind is the only regressor;
    ``together``: beside the other kinds, with ``p_holm`` corrected for their number; ``controlled``: also beside
    ``control``. The interaction's slope is beside all kinds. With jackknife intervals over languages and QAP p
    (:mod:`.dyads`).
    """
    orders = dyads.relabelings(len(outcome), PERMUTATIONS, seed)
    together = estimated(outcome, distances, orders).set_index("name")
    beside = dyads.semipartial(outcome, {**distances, **(control or {})}, orders).set_index("name")
    corrected = dict(zip(together.index, corrected_p(together.p), strict=True))
    rows: list[dict[str, Any]] = []
    for kind, one in distances.items():
        alone = estimated(outcome, {kind: one}, orders).iloc[0]
        rows.append(
            {"kind": kind, "alone": alone.slope, "alone_low": alone.low, "alone_high": alone.high, "alone_p": alone.p}
            | {"together": together.slope[kind], "low": together.low[kind], "high": together.high[kind]}
            | {"partial": together.partial[kind], "p": together.p[kind], "p_holm": corrected[kind]}
            | {"controlled": beside.slope[kind], "controlled_p": beside.p[kind]}
        )
    if len(distances) > 1:
        both = {**distances, INTERACTION: interaction(distances)}
        joint = estimated(outcome, both, orders).iloc[-1]
        beside = dyads.semipartial(outcome, {**both, **(control or {})}, orders).set_index("name")
        rows.append(
            {"kind": INTERACTION, "together": joint.slope, "low": joint.low, "high": joint.high}
            | {"partial": joint.partial, "p": joint.p, "p_holm": joint.p}
            | {"controlled": beside.slope[INTERACTION], "controlled_p": beside.p[INTERACTION]}
        )
    return pd.DataFrame(rows)


def estimated(outcome: np.ndarray, factors: Mapping[str, np.ndarray], orders: np.ndarray) -> pd.DataFrame:
    """:func:`.dyads.semipartial` with the jackknife intervals of the slopes, ``low`` and ``high``."""
    low, high = dyads.jackknife(lambda kept: _slopes(outcome, factors, kept), len(outcome))
    return dyads.semipartial(outcome, factors, orders).assign(low=low, high=high)


def split(distances: Mapping[str, np.ndarray], by: str) -> dict[str, np.ndarray]:
    """One kind (distance 0 or 1), and each other in pairs alike in it (``<kind>/same``) or not (``<kind>/other``)."""
    found = {by: distances[by]}
    for side, weight in (("same", 1 - distances[by]), ("other", distances[by])):
        found |= {f"{kind}/{side}": matrix * weight for kind, matrix in distances.items() if kind != by}
    return found


def moderator(outcome: np.ndarray, distances: Mapping[str, np.ndarray]) -> str | None:
    """The kind by which to :func:`split` the others so that they explain most; None where no split is identified."""
    gained = {
        kind: dyads.explained(outcome, split(distances, kind))
        for kind, matrix in distances.items()
        if len(distances) > 1 and set(np.unique(matrix)) == {0.0, 1.0}
    }
    known = {kind: value for kind, value in gained.items() if np.isfinite(value)}
    return max(known, key=known.__getitem__) if known else None


def contrast(outcome: np.ndarray, distances: Mapping[str, np.ndarray], a: str, b: str) -> tuple[float, float, float]:
    """Slope of one kind less that of another beside all kinds, with its jackknife interval."""
    i, j = list(distances).index(a), list(distances).index(b)

    def difference(kept: np.ndarray) -> np.ndarray:
        found = _slopes(outcome, distances, kept)
        return np.asarray(found[i] - found[j])

    low, high = dyads.jackknife(difference, len(outcome))
    return float(difference(np.arange(len(outcome)))), float(low), float(high)


def foresight(
    outcome: np.ndarray,
    measures: Mapping[str, np.ndarray],
    factors: Mapping[str, np.ndarray],
    seed: int,
    moderator: str | None = None,
) -> pd.DataFrame:
    """How well each measure ranks the pairs by outcome, the best of those taken before merging first.

    ``rho`` with jackknife interval over languages, QAP ``p`` and ``p_max``, corrected for all measures of
    :data:`BEFORE`; ``partial`` is the correlation of ranks beyond ``factors`` of distance, with Holm's ``partial_p``;
    ``q2`` the share of the variance foretold for the pairs of a language that was left out. With a moderator
    (one of ``factors``), ``alike_rho``, ``alike_low``, ``alike_high`` and ``alike_p`` (corrected) are of the pairs
    alike in it, languages permuted within its sides.
    """
    orders = dyads.relabelings(len(outcome), PERMUTATIONS, seed)
    before = {name: one for name, one in measures.items() if name in BEFORE}
    after = {name: one for name, one in measures.items() if name in AFTER}
    table = pd.concat([dyads.correlations(outcome, group, orders) for group in (before, after) if group])
    table["before"] = table.name.isin(list(BEFORE))
    intervals = {name: rho_interval(outcome, one) for name, one in measures.items()}
    table["low"] = table.name.map({name: low for name, (low, _) in intervals.items()})
    table["high"] = table.name.map({name: high for name, (_, high) in intervals.items()})
    if moderator:
        apart = factors[moderator]
        table = table.merge(_among(outcome, before, after, 1 - apart, apart[0], seed), on="name", how="left")
    beyond = [
        dyads.semipartial(dyads.ranks(outcome), {**factors, name: dyads.ranks(one)}, orders).iloc[-1]
        for name, one in measures.items()
    ]
    table["partial"] = table.name.map({row["name"]: row.partial for row in beyond})
    table["partial_p"] = table.name.map(dict(zip(measures, corrected_p([row.p for row in beyond]), strict=True)))
    table["q2"] = table.name.map({name: dyads.foretold(outcome, {name: one}) for name, one in measures.items()})
    table["size"] = table.rho.abs()
    return (
        table.sort_values(["before", "size"], ascending=False, kind="stable")
        .drop(columns="size")
        .reset_index(drop=True)
    )


def diagnosed(measures: Mapping[str, np.ndarray], distances: Mapping[str, np.ndarray], seed: int) -> pd.DataFrame:
    """What each kind of distance does to each measure, in standard deviations of the measure over pairs.

    One row a measure and kind (``alone`` and ``together`` as in :func:`effects`, ``r2`` of all kinds); ``p_holm`` is
    corrected over all rows. Constant measures are left out.
    """
    tables = []
    for name, one in measures.items():
        spread = dyads.upper(one).std()
        if spread > 0:
            table = effects(one / spread, distances, seed)
            table = table[table.kind != INTERACTION].assign(name=name, r2=dyads.explained(one, distances))
            tables.append(table.drop(columns=["controlled", "controlled_p"]))
    found = pd.concat(tables, ignore_index=True)
    return found.assign(p_holm=corrected_p(found.p))


def corrected_p(values: Sequence[float] | pd.Series) -> np.ndarray:
    """Holm's correction among those that are defined."""
    p = np.array(values, dtype=float)
    defined = np.isfinite(p)
    p[defined] = holm(p[defined]) if defined.any() else p[defined]
    return p


def _slopes(outcome: np.ndarray, factors: Mapping[str, np.ndarray], kept: np.ndarray) -> np.ndarray:
    return dyads.slopes(outcome[np.ix_(kept, kept)], dyads.without(kept, factors))[1:]


def _among(
    outcome: np.ndarray,
    before: Mapping[str, np.ndarray],
    after: Mapping[str, np.ndarray],
    alike: np.ndarray,
    sides: np.ndarray,
    seed: int,
) -> pd.DataFrame:
    """Rank correlations over the pairs alike."""
    orders = dyads.relabelings_within(sides, PERMUTATIONS, seed)
    found = pd.concat([dyads.correlations(outcome, group, orders, alike) for group in (before, after) if group])
    ends = {name: rho_interval(outcome, one, alike) for name, one in {**before, **after}.items()}
    return pd.DataFrame(
        {
            "name": found.name,
            "alike_rho": found.rho,
            "alike_low": [ends[name][0] for name in found.name],
            "alike_high": [ends[name][1] for name in found.name],
            "alike_p": found.p_max,
        }
    )


def rho_interval(outcome: np.ndarray, measure: np.ndarray, among: np.ndarray | None = None) -> tuple[float, float]:
    """95 % jackknife interval of Spearman's ρ over pairs (those ``among``), languages left out, cut off at -1 and 1."""

    def rho(kept: np.ndarray) -> np.ndarray:
        cut = np.ix_(kept, kept)
        return np.asarray(dyads.spearman(outcome[cut], measure[cut], None if among is None else among[cut]))

    low, high = dyads.jackknife(rho, len(outcome))
    return float(np.maximum(low, -1)), float(np.minimum(high, 1))
