"""Language-selective units: rankings, thresholds and the sets that they give.

Inputs are firing probabilities p [K, ...] of units in K languages (events / tokens). The default ranking is the mutual
information of firing and language, in bits: unlike an entropy of normalised probabilities it does not promote units
that hardly ever fire. ``selectivity_index``, ``exclusivity`` and ``average_precision`` (Kojima et al., arXiv
2404.02431; from histograms of sentences, :mod:`.precision`) are other usual scores. ``lape`` (Tang et al., arXiv
2402.16438, settings of their released code) and ``mount_doom`` (arXiv 2604.02881) are presets that replicate those
papers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import entr

from langmerge.provenance import InputError


@dataclass(frozen=True)
class Ranking:
    """How units become language units.

    ``top`` is the share of units that is selected where thresholds are fitted. ``bar`` is a quantile of all
    probabilities: a unit belongs to a language only if it fires more often than that. ``filter`` likewise: a unit that
    passes it in no language ranks last. ``several`` units may belong to several languages, otherwise only to the one in
    which they fire most (or have the highest score, where each language has its own).
    """

    name: str
    top: float
    filter: float
    bar: float
    several: bool


# The bar of mutual information asks no more than that a unit fires, in its language, more than the median unit does.
# An index of probabilities that hardly differ from 0 says nothing, so it ranks the quieter half of the units last.
RANKINGS = {
    "mutual_information": Ranking("mutual_information", 0.01, 0.0, 0.5, several=False),
    "selectivity_index": Ranking("selectivity_index", 0.01, 0.5, 0.5, several=False),
    "exclusivity": Ranking("exclusivity", 0.01, 0.0, 0.5, several=False),
    "average_precision": Ranking("average_precision", 0.01, 0.0, 0.0, several=False),
    "lape": Ranking("lape", 0.05, 0.95, 0.95, several=True),
    "mount_doom": Ranking("mount_doom", 0.10, 0.0, 0.80, several=True),
}


def ranking_of(name: str, top: float) -> Ranking:
    """The ranking called ``name``; the presets ``lape`` and ``mount_doom`` bring their own ``top``."""
    if name not in RANKINGS:
        raise InputError(f"rankings: expected one of {', '.join(RANKINGS)}, found {name!r}")
    preset = RANKINGS[name]
    return preset if preset.several else replace(preset, top=top)


def probabilities(counts: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Firing probabilities fp64 [K, ...] from event counts [K, ...] and tokens [K]."""
    return counts / tokens.reshape(-1, *[1] * (counts.ndim - 1))


def mutual_information(p: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Mutual information of firing and language in bits, [...] from ``p`` [K, ...], languages equally likely.

    h(mean p) - mean h(p), less the bias of this plug-in estimate for tokens [K] independent tokens, (K - 1) / (2 K^2
    ln 2) sum 1/n_k (Miller 1955); so about 0 on average, and often below, for units without selectivity.
    """
    languages = len(p)

    def bits(q: np.ndarray) -> np.ndarray:
        return (entr(q) + entr(1 - q)) / np.log(2)

    bias = (languages - 1) / (2 * languages**2 * np.log(2)) * (1 / tokens).sum()
    return bits(p.mean(0)) - bits(p).mean(0) - bias


def selectivity_entropy(p: np.ndarray) -> np.ndarray:
    """Entropy in nats of p normalised over languages, [...] from [K, ...]: 0 (one language, or dead) to ln K."""
    total = p.sum(0)
    return entr(np.divide(p, total, out=np.zeros_like(p), where=total > 0)).sum(0)


def selectivity_index(p: np.ndarray) -> np.ndarray:
    """(p_k - r_k) / (p_k + r_k), r_k the mean over other languages, [K, ...]: -1 to 1 (never fires elsewhere); dead 0.

    Morcos et al. 2018, arXiv 1803.06959, section 2.2, with languages for classes.
    """
    rest = (p.sum(0) - p) / max(1, len(p) - 1)
    return np.divide(p - rest, p + rest, out=np.zeros_like(p), where=p + rest > 0)


def exclusivity(p: np.ndarray) -> np.ndarray:
    """p_k less the largest p of another language (0 if there is none), [K, ...]: its lead in its language."""
    if len(p) < 2:
        return p
    ordered = np.sort(p, axis=0)
    return p - np.where(p == ordered[-1], ordered[-2], ordered[-1])


def _quantile(p: np.ndarray, share: float) -> float:
    """The round(share * size)-th smallest value, as LAPE's code takes it; minus infinity for none."""
    k = round(share * p.size)
    return float(np.partition(p, k - 1, axis=None)[k - 1]) if k else -np.inf


@dataclass(frozen=True)
class Thresholds:
    """Values that a ranking compares with: ``filter`` and ``bar`` on probabilities, ``cut`` on scores.

    The ``cut`` is the score of the last unit within the ranking's share. Frozen at the baseline's, a model with fewer
    selective units has smaller sets; fitted to each model, sets of rankings without ``several`` are equally large.
    """

    filter: float
    bar: float
    cut: float


def _scores(p: np.ndarray, tokens: np.ndarray, ranking: Ranking, filter_value: float) -> np.ndarray:
    """What units are ranked by, [...], and -inf where the filter is passed in no language."""
    if ranking.name == "mutual_information":
        scores = mutual_information(p, tokens)
    elif ranking.name == "average_precision":
        scores = p.max(0) - 1 / len(p)
    elif ranking.several:
        scores = -selectivity_entropy(p)
    else:
        scores = {"selectivity_index": selectivity_index, "exclusivity": exclusivity}[ranking.name](p).max(0)
    return np.where((p > filter_value).any(0), scores, -np.inf)


def _cut(scores: np.ndarray, top: float) -> float:
    """The score of the last unit within the ``top`` share; infinite if that is less than half a unit."""
    k = round(top * scores.size)
    return float(np.partition(scores, scores.size - k, axis=None)[scores.size - k]) if k else np.inf


def fit_thresholds(p: np.ndarray, tokens: np.ndarray, ranking: Ranking) -> Thresholds:
    """Thresholds from the units ``p`` [K, ...] of one model: of the base, to be frozen, or of each model itself."""
    filter_value = _quantile(p, ranking.filter)
    cut = _cut(_scores(p, tokens, ranking, filter_value), ranking.top)
    return Thresholds(filter_value, _quantile(p, ranking.bar), cut)


def language_units(p: np.ndarray, tokens: np.ndarray, ranking: Ranking, thresholds: Thresholds) -> np.ndarray:
    """Which units belong to which language: bool [K, ...], the shape of ``p``.

    For average precision ``p`` holds that instead of probabilities, and its chance level is 1 / K. A unit that fires
    equally in all languages is never selected, however few units are better.
    """
    scores = _scores(p, tokens, ranking, thresholds.filter)
    return _chosen(p, scores, ranking, thresholds)


def part_units(p: np.ndarray, tokens: np.ndarray, ranking: Ranking, thresholds: Thresholds) -> np.ndarray:
    """:func:`language_units` of a part of the sentences: with its own ``cut``, and all else as in ``thresholds``.

    Scores of fewer tokens scatter more, so that more units without selectivity would pass a cut from all sentences.
    """
    scores = _scores(p, tokens, ranking, thresholds.filter)
    return _chosen(p, scores, ranking, replace(thresholds, cut=_cut(scores, ranking.top)))


def _chosen(p: np.ndarray, scores: np.ndarray, ranking: Ranking, thresholds: Thresholds) -> np.ndarray:
    # Where all languages read alike (the source, before any tag), all scores tie; no unit is selective then
    nothing = -np.log(len(p)) + 1e-9 if ranking.several else 1e-9 if ranking.name != "mutual_information" else 0.0
    selected = (scores >= thresholds.cut) & (scores > nothing)
    if ranking.several:
        return selected & (p > thresholds.bar)
    most = np.arange(len(p)).reshape(-1, *[1] * (p.ndim - 1)) == p.argmax(0)
    return selected & most & (p >= thresholds.bar)


def jaccard(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of bool sets [K, ...], per language [K]; NaN where both are empty."""
    axes = tuple(range(1, a.ndim))
    union = (a | b).sum(axes)
    return np.divide((a & b).sum(axes), union, out=np.full(len(a), np.nan), where=union > 0)


# ---- with blocks of sentences --------------------------------------------------------------------------------------


def leave_one_out(counts: np.ndarray, tokens: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Probabilities [K, ...] and tokens [K] of all sentences first, then without each block that has any.

    ``counts`` [K, G, ...] and ``tokens`` [K, G] are per block.
    """
    all_counts, all_tokens = counts.sum(1), tokens.sum(1)
    pairs = [(probabilities(all_counts, all_tokens), all_tokens)]
    for block in np.flatnonzero(tokens.any(0)):
        left = all_tokens - tokens[:, block]
        if (left > 0).all():
            pairs.append((probabilities(all_counts - counts[:, block], left), left))
    return pairs


def split_half(
    counts: np.ndarray, tokens: np.ndarray, ranking: Ranking, thresholds: Thresholds, seed: int, splits: int = 10
) -> np.ndarray:
    """Jaccard index [K] of the sets that two random halves of the blocks give, mean over ``splits``.

    What turnover between two models cannot exceed in this little text: its ceiling for "nothing has changed" (a little
    too low, since each half has only half of the tokens). ``counts`` [K, G, ...], ``tokens`` [K, G]; NaN if no split
    has tokens of all languages in both halves.
    """
    used = np.flatnonzero(tokens.any(0))
    generator = np.random.Generator(np.random.Philox(key=seed))
    values = []
    for _ in range(splits):
        order = generator.permutation(used)
        halves = [order[: len(order) // 2], order[len(order) // 2 :]]
        sums = [(counts[:, half].sum(1), tokens[:, half].sum(1)) for half in halves]
        if all((n > 0).all() for _, n in sums):
            a, b = (part_units(probabilities(c, n), n, ranking, thresholds) for c, n in sums)
            values.append(jaccard(a, b))
    if not values:
        return np.full(len(counts), np.nan)
    stacked = np.array(values)
    defined = ~np.isnan(stacked)
    total = np.where(defined, stacked, 0).sum(0)
    return np.divide(total, defined.sum(0), out=np.full(len(counts), np.nan), where=defined.any(0))
