"""Is one system better than another on the same sentences? Paired bootstrap and approximate randomization.

Both work on cached sufficient statistics: a resampled corpus is a matrix product, its score a function of the
sums. The definitions follow sacrebleu (Post 2018): the bootstrap of Koehn (2004) with the shift of Riezler
and Maxwell (2005), the randomization of Noreen (1989), ``p = (c + 1) / (n + 1)``. One thing differs: a trial
that *equals* the observed difference counts against significance, so that a system compared with itself gets
p = 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from langmerge.evaluation.metrics import score

BLOCK = 1000  # trials drawn at once: bounds the memory to BLOCK x n numbers
TOLERANCE = 1e-9  # score points below which two differences are equal (rounding)


@dataclass(frozen=True)
class Differences:
    """Two systems' scores in one metric; differences (system - baseline) of resampled and swapped corpora."""

    system: float
    baseline: float
    bootstrap: np.ndarray  # (samples,): sentences drawn with replacement
    randomized: np.ndarray  # (trials,): each sentence's outputs swapped with probability 1/2

    @property
    def observed(self) -> float:
        """System's score minus the baseline's."""
        return self.system - self.baseline


@dataclass(frozen=True)
class PairedTest:
    """A difference, its 95 % confidence interval (bootstrap percentiles), standard error and p-values."""

    difference: float
    low: float
    high: float
    standard_error: float
    p_bootstrap: float
    p_randomization: float


def _blocks(total: int) -> list[int]:
    return [min(BLOCK, total - start) for start in range(0, total, BLOCK)]


def _draw_counts(n: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of n sentences is drawn in n draws with replacement, (samples, n)."""
    drawn = rng.integers(n, size=(samples, n)) + n * np.arange(samples)[:, None]
    return np.bincount(drawn.ravel(), minlength=samples * n).reshape(samples, n).astype(np.float64)


def paired_differences(
    system: Mapping[str, np.ndarray],
    baseline: Mapping[str, np.ndarray],
    samples: int,
    trials: int,
    seed: int | Sequence[int],
) -> dict[str, Differences]:
    """Resampled differences of two systems in each metric of ``system``; all metrics see the same draws.

    ``system`` and ``baseline`` map metric names to statistics (n, k_metric) of the same n sentences in the
    same order. Equal seeds and n give equal draws, so that differences in several directions can be averaged
    sentence by sentence.
    """
    names = list(system)
    bounds = np.cumsum([0] + [system[name].shape[1] for name in names])
    a = np.concatenate([system[name] for name in names], axis=1).astype(np.float64)  # (n, k)
    b = np.concatenate([baseline[name] for name in names], axis=1).astype(np.float64)
    columns = {name: slice(bounds[i], bounds[i + 1]) for i, name in enumerate(names)}
    rng = np.random.default_rng(seed)

    def differences(sums_a: np.ndarray, sums_b: np.ndarray) -> dict[str, np.ndarray]:
        return {name: score(name, sums_a[:, cut]) - score(name, sums_b[:, cut]) for name, cut in columns.items()}

    bootstrap, randomized = [], []
    for size in _blocks(samples):
        counts = _draw_counts(len(a), size, rng)
        bootstrap.append(differences(counts @ a, counts @ b))
    for size in _blocks(trials):
        swapped = rng.integers(2, size=(size, len(a)), dtype=np.int8).astype(np.float64) @ (a - b)
        randomized.append(differences(a.sum(0) - swapped, b.sum(0) + swapped))
    return {
        name: Differences(
            float(score(name, system[name].sum(0))),
            float(score(name, baseline[name].sum(0))),
            np.concatenate([block[name] for block in bootstrap]),
            np.concatenate([block[name] for block in randomized]),
        )
        for name in names
    }


def interval(
    name: str, statistics: np.ndarray, samples: int, seed: int | Sequence[int], level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval (low, high) of the score ``name`` of one system (Efron 1979).

    ``statistics`` are (n, k); n items are drawn with replacement ``samples`` times. Equal seeds and n give equal draws.
    Degenerate: equal ends where all items have the same statistics.
    """
    rng = np.random.default_rng(seed)
    values = np.asarray(statistics, dtype=np.float64)
    drawn = [score(name, _draw_counts(len(values), size, rng) @ values) for size in _blocks(samples)]
    low, high = np.quantile(np.concatenate(drawn), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def macro_average(differences: Sequence[Differences]) -> Differences:
    """The unweighted mean over directions: sentences are resampled within each, the directions are fixed."""
    return Differences(
        float(np.mean([d.system for d in differences])),
        float(np.mean([d.baseline for d in differences])),
        np.mean([d.bootstrap for d in differences], axis=0),
        np.mean([d.randomized for d in differences], axis=0),
    )


def _p_value(null: np.ndarray, observed: float) -> float:
    """Share of null statistics at least as large as the observed one, with the observed one among them."""
    return (int((null >= abs(observed) - TOLERANCE).sum()) + 1) / (len(null) + 1)


def paired_test(differences: Differences) -> PairedTest:
    """Test the null hypothesis that the two systems are equally good."""
    bootstrap, observed = differences.bootstrap, differences.observed
    low, high = np.quantile(bootstrap, [0.025, 0.975])
    magnitude = np.abs(bootstrap)
    return PairedTest(
        difference=observed,
        low=float(low),
        high=float(high),
        standard_error=float(bootstrap.std(ddof=1)),
        p_bootstrap=_p_value(magnitude - magnitude.mean(), observed),
        p_randomization=_p_value(np.abs(differences.randomized), observed),
    )


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's (1979) adjusted p-values (m,) of one family of m tests: controls the family-wise error."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    adjusted = np.empty_like(p)
    adjusted[order] = steps
    return adjusted
