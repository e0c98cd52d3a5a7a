"""Does fine-tuning sharpen the units of its language, or hand them to other languages?

E_k = p_k / sum_j p_j is a unit's share of language k. Over units U that were selective in the baseline b, dE_k =
mean_U (E_k^f - E_k^b) of a fine-tuned model f. A model that fires more in a language raises dE of all units, so
dE of units that changed as matched units in no language's set did (:mod:`.matching`) is subtracted: the rest is the
*excess*. Let U be the units of the supervised language s. Sharpening predicts an excess of dE_s > 0 and of mutual
information (MI) of firing and language in U; redistribution (arXiv 2604.02881) predicts dE_s < 0, a gain of unrelated
languages in U, and about as much MI as before. Less of both is neither: units that blur towards 1 / K lose E_s too.

Units picked for a large share have, by that alone, a smaller one in other sentences. So the blocks of sentences are cut
in two: units and their matches are chosen in one half and measured in the other, and the other way round
(cross-fitting). Intervals are delete-one-block jackknifes of the whole procedure. A claim is made only where the
interval lies outside what measuring the baseline again, on other sentences, would give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

from langmerge import jackknife
from langmerge.analysis import matching, neurons
from langmerge.analysis.neurons import Ranking, Thresholds

SPLITS = 40  # of the baseline into halves
PERMUTATIONS = 10  # of the languages
BAND = 0.95  # of the split-half differences lie within the null's band

SHARPENS, REDISTRIBUTES, INCONCLUSIVE = "sharpens", "redistributes", "inconclusive"

Part = tuple[np.ndarray, np.ndarray]  # probabilities p [K, N] and tokens [K] of some sentences


def shares(p: np.ndarray) -> np.ndarray:
    """E_k = p_k / sum_j p_j, [K, ...]; 1 / K for units that never fire: they prefer no language."""
    total = p.sum(0)
    return np.divide(p, total, out=np.full(p.shape, 1 / len(p)), where=total > 0)


def mass(p: np.ndarray, tokens: np.ndarray) -> float:
    """Sum over all units of the bias-corrected mutual information of firing and language, in bits."""
    return float(neurons.mutual_information(p, tokens).sum())


@dataclass(frozen=True)
class Chosen:
    """Language units that some sentences select: places ``units`` [n], and ``peers`` [K, n, 10], their matched units.

    ``sets`` bool [K + 1, n]: which of them belong to each language, and last to any.
    """

    units: np.ndarray
    sets: np.ndarray
    peers: np.ndarray


def choose(p: np.ndarray, sets: np.ndarray, layers: int) -> Chosen:
    """The union of ``sets`` bool [K, N] and their matches by the probabilities ``p`` [K, N]."""
    union: np.ndarray = np.asarray(sets.any(0))
    units = np.flatnonzero(union)
    members = np.vstack([sets[:, units], np.ones((1, len(units)), dtype=bool)])
    return Chosen(units, members, matching.peers(p, units, np.logical_not(union), layers))


def _means(p: np.ndarray, tokens: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Mean of E_1 .. E_K and of MI over each of ``sets`` [S, n] of units ``p`` [K, n], [S, K + 1]; NaN for no units."""
    n = sets.sum(1)[:, None]
    values = np.vstack([shares(p), neurons.mutual_information(p, tokens)])
    return np.divide(sets @ values.T, n, out=np.full((len(sets), len(values)), np.nan), where=n > 0)


def compare(chosen: Chosen, before: Part, after: Part) -> np.ndarray:
    """Changes [2, K + 1, K + 1] between two probabilities of all units: measured, and if units changed as their peers.

    By set (languages, union) and quantity: dE_1 .. dE_K, and the change of MI relative to ``before`` (NaN without).
    """
    (p, tokens), (q, others) = before, after
    start = _means(p[:, chosen.units], tokens, chosen.sets)
    expected = matching.expected(p, q, chosen.units, chosen.peers)
    found = np.array(
        [_means(q[:, chosen.units], others, chosen.sets) - start, _means(expected, others, chosen.sets) - start]
    )
    bits = start[:, -1]
    found[..., -1] = np.divide(found[..., -1], bits, out=np.full(found.shape[:-1], np.nan), where=bits > 0)
    return found


def _over(p: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Mean [K] of the shares of ``units`` [n]; NaN for none."""
    return shares(p[:, units]).mean(1) if len(units) else np.full(len(p), np.nan)


@dataclass(frozen=True)
class Firing:
    """One model at one site and span: events ``counts`` [K, G, N] of N units in K languages, ``tokens`` [K, G].

    The units are those of ``layers`` equally wide layers, one after the other.

    Replicates, R = 1 + G of them, are all sentences and then all but one block. Probabilities are made anew each time:
    those of a model of 400,000 units, without each block, would not fit into memory.
    """

    counts: np.ndarray
    tokens: np.ndarray
    layers: int = 1

    @cached_property
    def used(self) -> np.ndarray:
        """The blocks that have tokens."""
        return np.flatnonzero(self.tokens.any(0))

    @property
    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """Every second block, and the others."""
        return self.used[::2], self.used[1::2]

    @property
    def enough(self) -> bool:
        """Whether both halves have tokens of all languages; without, nothing below is defined."""
        return all((self.tokens[:, half].sum(1) > 0).all() for half in self.halves)

    @cached_property
    def sums(self) -> tuple[np.ndarray, np.ndarray]:
        """Events int64 [K, N] in each half."""
        first, second = (self.counts[:, half].sum(1, dtype=np.int64) for half in self.halves)
        return first, second

    @cached_property
    def removable(self) -> tuple[list[int], list[int]]:
        """The blocks of each half without which it still has tokens of all languages."""
        first, second = (
            [int(g) for g in half if (self.tokens[:, half].sum(1) > self.tokens[:, g]).all()] for half in self.halves
        )
        return first, second

    def fold(self, half: int, left: int) -> Part:
        """Probabilities in a half: of all its blocks (``left`` 0), or without the left-th removable one."""
        counts, tokens = self.sums[half], self.tokens[:, self.halves[half]].sum(1)
        if left:
            block = self.removable[half][left - 1]
            counts, tokens = counts - self.counts[:, block], tokens - self.tokens[:, block]
        return neurons.probabilities(counts, tokens), tokens

    def whole(self) -> Iterator[Part]:
        """Probabilities of all sentences, then without each removable block of the first half, then of the second."""
        counts, tokens = self.sums[0] + self.sums[1], self.tokens.sum(1)
        yield neurons.probabilities(counts, tokens), tokens
        for block in chain(*self.removable):
            left = tokens - self.tokens[:, block]
            yield neurons.probabilities(counts - self.counts[:, block], left), left

    @cached_property
    def masses(self) -> np.ndarray:
        """:func:`mass` of each :meth:`whole`, [R]."""
        return np.array([mass(*part) for part in self.whole()])

    def places(self) -> list[tuple[int, int]]:
        """The arguments ``left`` of both halves for each :meth:`whole`."""
        first, second = (len(blocks) for blocks in self.removable)
        return [(0, 0), *((i + 1, 0) for i in range(first)), *((0, j + 1) for j in range(second))]

    def half(self, blocks: np.ndarray) -> Part:
        """Probabilities and tokens of some blocks."""
        tokens = self.tokens[:, blocks].sum(1)
        return neurons.probabilities(self.counts[:, blocks].sum(1), tokens), tokens


class Baseline:
    """What is found once in the baseline: its sets, halves and nulls, by the frozen ``thresholds``."""

    def __init__(self, firing: Firing, ranking: Ranking, thresholds: Thresholds, seed: int) -> None:
        self.firing, self.ranking, self.thresholds, self.seed = firing, ranking, thresholds, seed

    def sets(self, p: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Language units bool [K, N]."""
        return neurons.part_units(p, tokens, self.ranking, self.thresholds)

    def choose(self, p: np.ndarray, tokens: np.ndarray) -> Chosen:
        """Language units with their matches."""
        return choose(p, self.sets(p, tokens), self.firing.layers)

    @cached_property
    def chosen(self) -> tuple[list[Chosen], list[Chosen]]:
        """The units that each half, with and without each of its blocks, selects."""
        first, second = (
            [self.choose(*self.firing.fold(half, left)) for left in range(1 + len(self.firing.removable[half]))]
            for half in (0, 1)
        )
        return first, second

    @cached_property
    def floor(self) -> float:
        """Mean mass of languages that were permuted within each block: what sentences alone give."""
        generator = np.random.Generator(np.random.Philox(key=self.seed))
        firing, found = self.firing, []
        for _ in range(PERMUTATIONS):
            order = generator.permuted(np.tile(np.arange(len(firing.tokens))[:, None], firing.tokens.shape[1]), axis=0)
            tokens = np.take_along_axis(firing.tokens, order, 0).sum(1)
            counts = np.zeros(firing.counts.shape[::2], dtype=np.int64)
            for block in firing.used:
                counts += firing.counts[order[:, block], block]
            if (tokens > 0).all():
                found.append(mass(neurons.probabilities(counts, tokens), tokens))
        return float(np.mean(found)) if found else np.nan

    @cached_property
    def splits(self) -> Changes:
        """Differences of two random halves of the baseline, one after the other in place of replicates."""
        generator = np.random.Generator(np.random.Philox(key=self.seed))
        chosen, whole = self.choose(*next(self.firing.whole())), self.firing.masses[0]
        k = len(self.firing.tokens)
        found, refitted, relative = [], [], []
        for _ in range(SPLITS):
            order = generator.permutation(self.firing.used)
            halves = [self.firing.half(part) for part in np.array_split(order, 2)]
            if all((tokens > 0).all() for _, tokens in halves):
                before, after = halves
                found.append(compare(chosen, before, after))
                ends = [_over(p, np.flatnonzero(self.sets(p, n).any(0))) for p, n in halves]
                refitted.append(ends[1] - ends[0])
                relative.append((mass(*after) - mass(*before)) / whole if whole > 0 else np.nan)
        shape = (len(found), 2, k + 1, k + 1)
        return Changes(
            np.array(found).reshape(shape), np.array(refitted).reshape(-1, k), np.array(relative), np.zeros(k)
        )

    def band(self, of: Callable[[Changes], np.ndarray]) -> float:
        """Half-width of the null's band of a statistic: 95 % of the absolute differences of halves lie within."""
        values = np.abs(of(self.splits))
        return float(np.quantile(values, BAND)) if len(values) else np.nan


@dataclass(frozen=True)
class Changes:
    """From the baseline to another model; axis R is all sentences, then without each block.

    ``sets`` [R, 2, K + 1, K + 1] are :func:`compare`'s. ``refit`` [R, K]: dE_k between the unions of the sets that each
    model's own ranking gives. ``mass`` [R]: relative change of :func:`mass`, NaN where the baseline has none. ``units``
    [K]: units of each language, mean of the two halves.
    """

    sets: np.ndarray
    refit: np.ndarray
    mass: np.ndarray
    units: np.ndarray

    def quantity(self, kind: str, chosen: int, columns: Sequence[int]) -> np.ndarray:
        """One of :data:`KINDS` in the set ``chosen``, mean over ``columns``, [R]; NaN for none."""
        change, matched = self.sets[:, 0, chosen], self.sets[:, 1, chosen]
        values = {CHANGE: change, MATCHED: matched, EXCESS: change - matched}[kind]
        return values[:, list(columns)].mean(1) if len(columns) else np.full(len(values), np.nan)


CHANGE, MATCHED, EXCESS = KINDS = ("change", "matched", "excess")
UNION = INFORMATION = -1  # the last set, and the last column of a set


def changes(base: Baseline, other: Firing) -> Changes:
    """Changes of ``other``, which read the same sentences; units are chosen in one half and measured in the other."""
    found, refitted = [], []
    own = [
        [np.flatnonzero(base.sets(*other.fold(c, left)).any(0)) for left in range(1 + len(other.removable[c]))]
        for c in (0, 1)
    ]
    for place in base.firing.places():
        folds, refits = [], []
        for c, m in ((0, 1), (1, 0)):
            chosen, before, after = base.chosen[c][place[c]], base.firing.fold(m, place[m]), other.fold(m, place[m])
            folds.append(compare(chosen, before, after))
            refits.append(_over(after[0], own[c][place[c]]) - _over(before[0], chosen.units))
        found.append(np.mean(folds, axis=0))
        refitted.append(np.mean(refits, axis=0))
    before_mass, after_mass = base.firing.masses, other.masses
    relative = np.divide(
        after_mass - before_mass, before_mass, out=np.full(len(before_mass), np.nan), where=before_mass > 0
    )
    units = np.mean([fold[0].sets[:-1].sum(1) for fold in base.chosen], axis=0)
    return Changes(np.array(found), np.array(refitted), relative, units)


@dataclass(frozen=True)
class Estimate:
    """A value with its interval and the half-width of the null's band around 0."""

    value: float
    low: float
    high: float
    band: float

    @property
    def rises(self) -> bool:
        """Whether the interval lies above the band (never with NaN)."""
        return self.low > self.band

    @property
    def falls(self) -> bool:
        """Whether it lies below."""
        return self.high < -self.band


def estimate(values: np.ndarray, band: float) -> Estimate:
    """From estimates [R], the first of all sentences."""
    low, high = jackknife.interval(values[0], values[1:])
    return Estimate(float(values[0]), float(low), float(high), float(band))


def of(base: Baseline, found: Changes, statistic: Callable[[Changes], np.ndarray]) -> Estimate:
    """A statistic [R] of changes, with its null."""
    return estimate(statistic(found), base.band(statistic))


def over(base: Baseline, found: Changes, kind: str, chosen: int, columns: Sequence[int]) -> Estimate:
    """:meth:`Changes.quantity`: ``chosen`` is a language or :data:`UNION`, ``columns`` languages or INFORMATION."""
    return of(base, found, lambda changes: changes.quantity(kind, chosen, columns))


def verdict(
    supervised: Estimate, elsewhere: Estimate, information: Estimate, matched: Estimate | None = None
) -> tuple[str, str]:
    """``sharpens``, ``redistributes`` or ``inconclusive``, and the reason in words.

    All over the units of the supervised language: excess of dE of that language and of unrelated ones (of all others
    where none is unrelated), and of MI. ``matched`` is dE of the supervised language if they had changed as their
    matches did; it only gives a reason.
    """
    if np.isnan([supervised.low, elsewhere.low, information.low]).any():
        return INCONCLUSIVE, "no units, no other language, or too few blocks"
    if supervised.rises:
        if information.rises:
            return SHARPENS, "the supervised language's share and the mutual information rise in its units"
        return INCONCLUSIVE, "the supervised language's share rises in its units, the mutual information does not"
    if not supervised.falls:
        level = supervised.low <= 0 <= supervised.high
        if level and matched is not None and (matched.rises or matched.falls):
            return (
                INCONCLUSIVE,
                "all units shift, and those of the supervised language not clearly more than matched ones",
            )
        return INCONCLUSIVE, "the supervised language's share in its units changes no more than between sentences"
    if information.falls:
        return INCONCLUSIVE, "the supervised language's units lose its share and mutual information: they blur"
    if not elsewhere.rises:
        return INCONCLUSIVE, "the supervised language's share falls, but that of unrelated languages does not rise"
    return REDISTRIBUTES, "the supervised language's units lose its share to unrelated languages, not information"


def across_seeds(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, low and high of a statistic over the seeds of a study: Student's t; NaN ends for fewer than two seeds.

    The floor that sentences cannot show: what training again, from another seed, changes.
    """
    found = np.asarray(values, dtype=float)
    left_out = (found.sum() - found) / max(1, len(found) - 1)
    low, high = jackknife.interval(found.mean(), left_out if len(found) > 1 else left_out[:0])
    return float(found.mean()), float(low), float(high)
