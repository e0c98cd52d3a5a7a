"""Does fine-tuning sharpen the units of its language, or hand them to other languages?

E_k = p_k / sum_j p_j is a unit's share of language k. Over units U that were selective in the baseline b, dE_k =
mean_U (E_k^f - E_k^b) of a fine-tuned model f. Sharpening predicts dE_s > 0 for the supervised language s and more
mutual information (MI) of firing and language; redistribution (arXiv 2604.02881) predicts dE_s < 0, a gain elsewhere,
and about as much MI as before. Less of both is neither: units that blur towards 1 / K lose E_s too.

Units picked for a large share have, by that alone, a smaller one in other sentences. So the blocks of sentences are cut
in two: units are chosen in one half and measured in the other, and the other way round (cross-fitting). Intervals are
delete-one-block jackknifes of the whole procedure. A claim is made only where the interval lies outside what measuring
the baseline again, on other sentences, would give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

from langmerge import jackknife
from langmerge.analysis import neurons
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


def _union(values: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Mean [K] of ``values`` [K, N] over the units in any of the ``sets`` [K, N]; NaN for none."""
    chosen = np.flatnonzero(sets.any(0))
    return values[:, chosen].sum(1) / len(chosen) if len(chosen) else np.full(len(values), np.nan)


@dataclass(frozen=True)
class Firing:
    """One model at one site and span: events ``counts`` [K, G, N] of N units in K languages, ``tokens`` [K, G].

    Replicates, R = 1 + G of them, are all sentences and then all but one block. Probabilities are made anew each time:
    those of a model of 400,000 units, without each block, would not fit into memory.
    """

    counts: np.ndarray
    tokens: np.ndarray

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
        return neurons.language_units(p, tokens, self.ranking, self.thresholds)

    def fold_sets(self, firing: Firing) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The units of a model that each half, with and without each of its blocks, selects."""
        first, second = (
            [self.sets(*firing.fold(half, left)) for left in range(1 + len(firing.removable[half]))] for half in (0, 1)
        )
        return first, second

    @cached_property
    def own_sets(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """:meth:`fold_sets` of the baseline."""
        return self.fold_sets(self.firing)

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
    def splits(self) -> list[tuple[np.ndarray, ...]]:
        """Differences of two random halves of the baseline: dE [K] over all units, own units, refitted sets; mass."""
        generator = np.random.Generator(np.random.Philox(key=self.seed))
        chosen = self.sets(*next(self.firing.whole()))
        whole = self.firing.masses[0]
        found: list[tuple[np.ndarray, ...]] = []
        for _ in range(SPLITS):
            order = generator.permutation(self.firing.used)
            halves = [self.firing.half(part) for part in np.array_split(order, 2)]
            if all((tokens > 0).all() for _, tokens in halves):
                (p, n), (q, m) = halves
                change = shares(q) - shares(p)
                refitted = _union(shares(q), self.sets(q, m)) - _union(shares(p), self.sets(p, n))
                relative = np.array([(mass(q, m) - mass(p, n)) / whole if whole > 0 else np.nan])
                found.append((_union(change, chosen), _own(change, chosen), refitted, relative))
        return found

    def band(self, measure: int, of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Half-widths of the null's band of ``of`` (a measure's values), from the absolute differences of halves."""
        values = np.array([of(split[measure]) for split in self.splits])
        return (
            np.quantile(np.abs(values), BAND, axis=0) if len(values) else of(np.full(len(self.firing.tokens), np.nan))
        )


def _own(change: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """dE_k over the units of language k itself, [K]; NaN for languages without any."""
    n = sets.sum(1)
    return np.divide((change * sets).sum(1), n, out=np.full(len(n), np.nan), where=n > 0)


UNION, OWN, REFIT = range(3)
SETS = ("union", "own", "refit")


@dataclass(frozen=True)
class Changes:
    """From the baseline to another model; axis R is all sentences, then without each block.

    ``shares`` [3, R, K]: dE_k over the union of the baseline's units, over those of language k alone, and between the
    sets that each model's own ranking gives. ``mass`` [R]: relative change of :func:`mass`, NaN where the baseline has
    none. ``units`` [K]: units of each language, mean of the two halves.
    """

    shares: np.ndarray
    mass: np.ndarray
    units: np.ndarray


def changes(base: Baseline, other: Firing) -> Changes:
    """dE of ``other``, which read the same sentences; units are chosen in one half and measured in the other."""
    own_sets = base.fold_sets(other)

    def across(chosen_in: int, place: tuple[int, int]) -> list[np.ndarray]:
        c, m = chosen_in, 1 - chosen_in
        before, after = (shares(firing.fold(m, place[m])[0]) for firing in (base.firing, other))
        sets, refitted = base.own_sets[c][place[c]], own_sets[c][place[c]]
        change = after - before
        return [_union(change, sets), _own(change, sets), _union(after, refitted) - _union(before, sets)]

    found = np.array([[across(c, place) for c in (0, 1)] for place in base.firing.places()]).mean(1)  # [R, 3, K]
    before, after = base.firing.masses, other.masses
    relative = np.divide(after - before, before, out=np.full(len(before), np.nan), where=before > 0)
    units = np.mean([fold[0].sum(1) for fold in base.own_sets], axis=0)
    return Changes(found.swapaxes(0, 1), relative, units)


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


def over(measure: int, base: Baseline, found: Changes, chosen: Sequence[int]) -> Estimate:
    """dE over one of :data:`SETS`, mean over the languages ``chosen``; NaN for none."""

    def mean(values: np.ndarray) -> np.ndarray:
        return values[..., list(chosen)].mean(-1) if len(chosen) else np.full(values.shape[:-1], np.nan)

    return estimate(mean(found.shares[measure]), float(base.band(measure, mean)))


def mass_change(base: Baseline, found: Changes) -> Estimate:
    """The relative change of :func:`mass`."""
    return estimate(found.mass, float(base.band(3, lambda values: values[0])))


def verdict(supervised: Estimate, elsewhere: Estimate, information: Estimate) -> tuple[str, str]:
    """``sharpens``, ``redistributes`` or ``inconclusive``, and the reason in words.

    ``supervised`` and ``elsewhere`` are dE over the union, of the supervised language and of unrelated ones (of all
    others where none is unrelated), ``information`` the change of MI mass.
    """
    if np.isnan([supervised.low, elsewhere.low, information.low]).any():
        return INCONCLUSIVE, "no units, no other language, or too few blocks"
    if supervised.rises:
        if information.rises:
            return SHARPENS, "the supervised language's share and the mutual information rise"
        return INCONCLUSIVE, "the supervised language's share rises, the mutual information does not"
    if not supervised.falls:
        return INCONCLUSIVE, "the supervised language's share changes no more than between sentences"
    if information.falls:
        return INCONCLUSIVE, "the supervised language's share falls, and so does the mutual information: units blur"
    if not elsewhere.rises:
        return INCONCLUSIVE, "the supervised language's share falls, but that of unrelated languages does not rise"
    return REDISTRIBUTES, "the supervised language's share falls, unrelated languages gain, mutual information stays"


def across_seeds(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, low and high of a statistic over the seeds of a study: Student's t; NaN ends for fewer than two seeds.

    The floor that sentences cannot show: what training again, from another seed, changes.
    """
    found = np.asarray(values, dtype=float)
    left_out = (found.sum() - found) / max(1, len(found) - 1)
    low, high = jackknife.interval(found.mean(), left_out if len(found) > 1 else left_out[:0])
    return float(found.mean()), float(low), float(high)
