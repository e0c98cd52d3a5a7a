"""Statistics of pairs: regressions and rank correlations whose units are the pairs of n objects.

Pairs that share an object are not independent, so tests permute the objects (quadratic assignment, QAP) and intervals
leave out one object at a time. A quantity of pairs is a symmetric matrix [n, n], its diagonal unread; :func:`upper` is
the vector [n (n - 1) / 2] of its pairs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from scipy import stats

from langmerge import jackknife as shared

Matrices = Mapping[str, np.ndarray]  # by name [n, n]
TINY = 1e-10  # share of its sum of squares below which a residual is rounding


def upper(matrix: np.ndarray) -> np.ndarray:
    """The entries above the diagonal, row by row."""
    return np.asarray(matrix[np.triu_indices(len(matrix), 1)], dtype=float)


def relabelings(n: int, draws: int, seed: int) -> np.ndarray:
    """Orders of n objects [P, n], the first the one they have: all n! if these are no more than ``draws`` + 1."""
    if math.factorial(min(n, 12)) <= draws + 1:
        return np.array(list(itertools.permutations(range(n))))
    rng = np.random.default_rng(seed)
    return np.vstack([np.arange(n), *(rng.permutation(n)[None] for _ in range(draws))])


def relabelings_within(groups: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Orders of n objects [draws + 1, n] that keep each in its group, the first the one they have."""
    rng = np.random.default_rng(seed)
    orders = np.tile(np.arange(len(groups)), (draws + 1, 1))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        orders[1:, members] = rng.permuted(np.tile(members, (draws, 1)), axis=1)
    return orders


def relabeled(matrix: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """The pairs of a matrix after its objects are put into each order [P, pairs]."""
    i, j = np.triu_indices(len(matrix), 1)
    return np.asarray(matrix[orders[:, i], orders[:, j]], dtype=float)


def p_value(statistics: np.ndarray) -> float:
    """Share of relabelings at least as extreme as the first, which is the data's own; two-sided."""
    size = np.abs(statistics)
    return float(np.mean(size >= size[0] * (1 - TINY)))


# ---- regression ----------------------------------------------------------------------------------------------------


def slopes(outcome: np.ndarray, factors: Matrices) -> np.ndarray:
    """Intercept and slope of each factor by ordinary least squares over pairs; NaN if they are not identified."""
    design = _design(len(upper(outcome)), factors)
    if not np.isfinite(upper(outcome)).all():
        return np.full(design.shape[1], np.nan)
    if len(design) < design.shape[1] or np.linalg.matrix_rank(design) < design.shape[1]:
        return np.full(design.shape[1], np.nan)
    return np.asarray(np.linalg.lstsq(design, upper(outcome), rcond=None)[0])


def explained(outcome: np.ndarray, factors: Matrices) -> float:
    """R²: share of the variance over pairs that the factors explain together; NaN if the slopes are not defined."""
    y = upper(outcome)
    residual = y - _design(len(y), factors) @ slopes(outcome, factors)
    return float(1 - residual @ residual / ((y - y.mean()) @ (y - y.mean())))


def foretold(outcome: np.ndarray, factors: Matrices) -> float:
    """Share of the variance that least squares foretells for the pairs of an object that it has not seen (Q²).

    1 - Σ (y - ŷ)² / Σ (y - ȳ)², over the pairs of each object in turn; ŷ and ȳ come from the pairs without it. At most
    1; 0 is as good as the mean, and less is worse. NaN if the slopes without some object are not identified.
    """
    wrong, spread = 0.0, 0.0
    for left_out in range(len(outcome)):
        kept = np.delete(np.arange(len(outcome)), left_out)
        inner = upper(outcome[np.ix_(kept, kept)])
        seen = np.column_stack([np.ones(len(kept)), *(factor[left_out, kept] for factor in factors.values())])
        guess = seen @ slopes(outcome[np.ix_(kept, kept)], without(kept, factors))
        wrong += float(((outcome[left_out, kept] - guess) ** 2).sum())
        spread += float(((outcome[left_out, kept] - inner.mean()) ** 2).sum())
    return 1 - wrong / spread if spread else float("nan")


def semipartial(outcome: np.ndarray, factors: Matrices, orders: np.ndarray) -> pd.DataFrame:
    """Slope, partial correlation and permutation p of each factor beside all others, one row a factor.

    Double semi-partialling (Dekker, Krackhardt and Snijders 2007, Psychometrika 72): the residuals of the factor given
    the others are relabeled, and the t statistic of their slope beside the others is compared with the data's. The
    slope and its p are NaN where the factor is a combination of the others, or no pair is left over to judge by.
    """
    y = upper(outcome)
    rows = []
    for name, factor in factors.items():
        others = _design(len(y), {key: value for key, value in factors.items() if key != name})
        basis = _basis(others)
        x = upper(factor)
        rest = x - basis @ (basis.T @ x)
        freedom = len(y) - basis.shape[1] - 1
        if rest @ rest <= TINY * max(x @ x, TINY) or freedom < 1 or not np.isfinite(y).all():
            rows.append({"name": name, "slope": np.nan, "partial": np.nan, "p": np.nan})
            continue
        matrix = np.zeros(outcome.shape)
        matrix[np.triu_indices(len(matrix), 1)] = rest
        drawn = relabeled(matrix + matrix.T, orders)
        drawn = drawn - (drawn @ basis) @ basis.T
        left = y - basis @ (basis.T @ y)
        squares = (drawn**2).sum(1)
        usable = squares > TINY * (rest @ rest)  # a relabeling that the others explain says nothing
        slope = np.divide(drawn @ left, squares, out=np.zeros(len(drawn)), where=usable)
        error = np.maximum(left @ left - slope**2 * squares, TINY * (left @ left))
        t = slope * np.sqrt(squares * freedom / np.maximum(error, np.finfo(float).tiny))
        partial = t[0] / np.sqrt(t[0] ** 2 + freedom)
        rows.append({"name": name, "slope": slope[0], "partial": partial, "p": p_value(t)})
    return pd.DataFrame(rows, columns=["name", "slope", "partial", "p"])


def _design(pairs: int, factors: Matrices) -> np.ndarray:
    return np.column_stack([np.ones(pairs), *(upper(factor) for factor in factors.values())])


def _basis(design: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the columns' span, whatever their rank."""
    left, sizes, _ = np.linalg.svd(design, full_matrices=False)
    return np.asarray(left[:, sizes > TINY * sizes[0]])


# ---- rank correlation ----------------------------------------------------------------------------------------------


def ranks(matrix: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
    """The matrix with the ranks of its pairs (of those ``among``, else 0) in place of values; ties share theirs."""
    chosen = _chosen(matrix, among)
    values = np.zeros(chosen.shape)
    values[chosen] = stats.rankdata(upper(matrix)[chosen])
    result = np.zeros(matrix.shape)
    result[np.triu_indices(len(matrix), 1)] = values
    return result + result.T


def correlations(
    outcome: np.ndarray, measures: Matrices, orders: np.ndarray, among: np.ndarray | None = None
) -> pd.DataFrame:
    """Spearman's rank correlation of each measure with the outcome, and how often chance does as well.

    ``p`` is of the measure alone (QAP: Hubert 1987); ``p_max`` is corrected for the number of measures: the share of
    relabelings in which the greatest correlation of any measure is as great (Westfall and Young 1993, single step,
    which keeps the measures' dependence). A constant measure has rho and both p NaN. ``among``: only these pairs [n,
    n]; ``orders`` must leave the set as it is (:func:`relabelings_within`).
    """
    chosen = _chosen(outcome, among)
    drawn = _standard(relabeled(ranks(outcome, among), orders)[:, chosen])
    rho = np.column_stack([drawn @ _standard(upper(ranks(one, among))[chosen]) for one in measures.values()])
    greatest = np.nan_to_num(np.abs(rho)).max(axis=1, initial=0)
    rows = []
    for k, name in enumerate(measures):
        if not np.isfinite(rho[0, k]):
            rows.append({"name": name, "rho": np.nan, "p": np.nan, "p_max": np.nan})
            continue
        corrected = float(np.mean(greatest >= abs(rho[0, k]) * (1 - TINY)))
        rows.append({"name": name, "rho": rho[0, k], "p": p_value(rho[:, k]), "p_max": corrected})
    return pd.DataFrame(rows, columns=["name", "rho", "p", "p_max"])


def spearman(outcome: np.ndarray, measure: np.ndarray, among: np.ndarray | None = None) -> float:
    """Spearman's rank correlation over pairs (those ``among``); NaN if either is constant."""
    chosen = _chosen(outcome, among)
    one, other = (upper(ranks(matrix, among))[chosen] for matrix in (outcome, measure))
    return float(_standard(one) @ _standard(other)) if chosen.any() else float("nan")


def _chosen(matrix: np.ndarray, among: np.ndarray | None) -> np.ndarray:
    if among is None:
        return np.ones(len(matrix) * (len(matrix) - 1) // 2, dtype=bool)
    return upper(among).astype(bool)


def _standard(values: np.ndarray) -> np.ndarray:
    """Along the last axis: mean 0 and length 1; NaN if constant."""
    centred = values - values.mean(-1, keepdims=True)
    length = np.sqrt((centred**2).sum(-1, keepdims=True))
    return np.asarray(np.divide(centred, length, out=np.full(centred.shape, np.nan), where=length > TINY))


# ---- intervals -----------------------------------------------------------------------------------------------------


def jackknife(statistic: Callable[[np.ndarray], np.ndarray], n: int) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of a statistic of n objects' pairs: (low, high), each of the statistic's shape.

    ``statistic`` takes the indices of the objects that are kept: one is left out at a time
    (:func:`langmerge.jackknife.interval`). Unbiased to first order for what is due to objects; for noise of single
    pairs the variance is twice too large, so the interval errs towards too wide. NaN where leaving one out leaves the
    statistic undefined, and for fewer than four objects, without one of which there are fewer than three pairs.
    """
    whole = np.asarray(statistic(np.arange(n)), dtype=float)
    if n < 4:
        return np.full(whole.shape, np.nan), np.full(whole.shape, np.nan)
    left_out = np.array([statistic(np.delete(np.arange(n), k)) for k in range(n)], dtype=float)
    return shared.interval(whole, left_out)


def without(kept: np.ndarray, factors: Matrices) -> dict[str, np.ndarray]:
    """The matrices of the objects that are kept."""
    return {name: matrix[np.ix_(kept, kept)] for name, matrix in factors.items()}
