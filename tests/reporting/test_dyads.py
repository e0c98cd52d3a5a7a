"""Statistics of pairs against slow formulas, planted slopes, and what chance does."""

import itertools

import numpy as np
import pytest
from scipy import stats

from langmerge import jackknife as shared
from langmerge.reporting.studies import dyads

RNG = np.random.default_rng(3)


def symmetric(n, rng=RNG):
    matrix = rng.normal(size=(n, n))
    return np.triu(matrix, 1) + np.triu(matrix, 1).T


def groups(n, rng=RNG):
    """1 where two objects belong to different ones of two groups of n / 2."""
    member = rng.permutation(n) < n // 2
    return (member[:, None] != member[None, :]).astype(float)


def pairs(n):
    return list(itertools.combinations(range(n), 2))


def slow_ols(outcome, factors):
    """Normal equations, one pair at a time."""
    rows = [[1.0, *(factor[i, j] for factor in factors)] for i, j in pairs(len(outcome))]
    x, y = np.array(rows), np.array([outcome[i, j] for i, j in pairs(len(outcome))])
    slopes = np.linalg.inv(x.T @ x) @ x.T @ y
    residual = y - x @ slopes
    variance = residual @ residual / (len(y) - x.shape[1]) * np.linalg.inv(x.T @ x)
    return slopes, slopes / np.sqrt(np.diag(variance)), residual


def test_slopes_are_those_of_the_normal_equations():
    outcome, factors = symmetric(7), {"a": groups(7), "b": symmetric(7)}
    assert dyads.slopes(outcome, factors) == pytest.approx(slow_ols(outcome, list(factors.values()))[0])


def test_planted_slopes_come_back_and_explain_everything():
    a, b = groups(8), symmetric(8)
    outcome = 0.9 - 0.5 * a + 0.2 * b
    assert dyads.slopes(outcome, {"a": a, "b": b}) == pytest.approx([0.9, -0.5, 0.2])
    assert dyads.explained(outcome, {"a": a, "b": b}) == pytest.approx(1)
    assert dyads.foretold(outcome, {"a": a, "b": b}) == pytest.approx(1)


def test_double_semipartialling_is_what_dekker_and_others_describe():
    """Residuals of x given the others, relabeled, in place of x in the regression; its t, by the normal equations."""
    n = 5
    outcome, x, z = symmetric(n), symmetric(n), symmetric(n)
    orders = dyads.relabelings(n, 200, seed=1)
    assert len(orders) == 120  # all of 5!
    residual = np.zeros((n, n))
    for (i, j), value in zip(pairs(n), slow_ols(x, [z])[2], strict=True):
        residual[i, j] = residual[j, i] = value
    drawn = []
    for order in itertools.permutations(range(n)):
        moved = residual[np.ix_(order, order)]
        drawn.append(abs(slow_ols(outcome, [moved, z])[1][1]))
    expected = np.mean(np.array(drawn) >= drawn[0] * (1 - 1e-9))
    found = dyads.semipartial(outcome, {"x": x, "z": z}, orders).set_index("name")
    assert found.p["x"] == pytest.approx(expected)
    slopes, t, _ = slow_ols(outcome, [x, z])
    assert found.slope["x"] == pytest.approx(slopes[1])
    assert found.partial["x"] == pytest.approx(t[1] / np.sqrt(t[1] ** 2 + len(pairs(n)) - 3))


def test_a_factor_that_the_others_make_up_is_not_judged():
    a, b = groups(8), symmetric(8)
    found = dyads.semipartial(symmetric(8), {"a": a, "b": b, "sum": a + b}, dyads.relabelings(8, 99, 1))
    assert found[["slope", "p"]].isna().all(axis=None)
    assert np.isnan(dyads.slopes(symmetric(8), {"a": a, "twice": 2 * a})).all()


def test_rank_correlations_are_scipys_and_their_p_counts_relabelings():
    outcome, measure = symmetric(5), symmetric(5)
    orders = dyads.relabelings(5, 200, 1)
    found = dyads.correlations(outcome, {"m": measure}, orders).iloc[0]
    y = [measure[i, j] for i, j in pairs(5)]
    rho = [stats.spearmanr([outcome[o[i], o[j]] for i, j in pairs(5)], y).statistic for o in orders]
    assert found.rho == pytest.approx(rho[0])
    assert found.p == pytest.approx(np.mean(np.abs(rho) >= abs(rho[0]) - 1e-12))
    assert found.p_max == pytest.approx(found.p)  # one measure: nothing to correct


def test_p_corrected_for_the_number_of_measures_counts_the_greatest_of_all():
    outcome, measures = symmetric(9), {str(k): symmetric(9) for k in range(6)}
    orders = dyads.relabelings(9, 499, 1)
    found = dyads.correlations(outcome, measures, orders)
    alone = [dyads.correlations(outcome, {name: one}, orders).iloc[0] for name, one in measures.items()]
    assert list(found.p) == pytest.approx([one.p for one in alone])
    assert (found.p_max >= found.p).all() and found.p_max.max() > found.p.max()


def test_the_measure_itself_is_found_and_a_constant_one_says_nothing():
    outcome = symmetric(9)
    measures = {"same": np.exp(outcome), "constant": np.ones((9, 9))}
    found = dyads.correlations(outcome, measures, dyads.relabelings(9, 999, 1)).set_index("name")
    assert found.rho["same"] == pytest.approx(1) and found.p_max["same"] == pytest.approx(1 / 1000)
    assert np.isnan(found.rho["constant"]) and np.isnan(found.p["constant"])


def test_under_the_null_pairs_that_share_objects_do_not_fool_the_test():
    """Effects of objects alone: naive tests of pairs reject far too often, relabeling in about 5 of 100 cases."""
    rng, n, rejected, naive = np.random.default_rng(5), 10, 0, 0
    orders = dyads.relabelings(n, 199, 1)
    for _ in range(200):
        own, other = rng.normal(size=n), rng.normal(size=n)
        outcome = own[:, None] + own + 0.1 * symmetric(n, rng)
        factor = np.abs(other[:, None] - other)
        rejected += dyads.semipartial(outcome, {"x": factor}, orders).p.iloc[0] <= 0.05
        naive += stats.pearsonr(dyads.upper(outcome), dyads.upper(factor)).pvalue <= 0.05
    assert rejected <= 20 < naive


@pytest.mark.parametrize(("objects", "noise"), [(1.0, 0.0), (0.0, 1.0)])
def test_the_jackknife_covers_the_truth(objects, noise):
    """The mean over pairs, true value 0, with noise of objects or of pairs: at least nine in ten intervals hold it."""
    rng, n, held = np.random.default_rng(7), 10, 0
    for _ in range(200):
        own = objects * rng.normal(size=n)
        outcome = own[:, None] + own + noise * symmetric(n, rng)
        low, high = dyads.jackknife(lambda kept, y=outcome: dyads.upper(y[np.ix_(kept, kept)]).mean(), n)
        held += bool(low < 0 < high)
    assert held >= 180


def test_the_jackknife_of_a_mean_over_objects_is_its_standard_error():
    values = RNG.normal(size=12)
    low, high = dyads.jackknife(lambda kept: values[kept].mean(), 12)
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 11, values.mean(), stats.sem(values)))
    left_out = np.array([np.delete(values, k).mean() for k in range(12)])
    assert (low, high) == pytest.approx(shared.interval(values.mean(), left_out))
    assert np.isnan(dyads.jackknife(lambda kept: values[kept].mean(), 3)).all()


def test_foretelling_a_language_left_out_is_worse_than_the_mean_where_there_is_nothing_to_tell():
    assert dyads.foretold(symmetric(12), {"x": groups(12)}) < 0.1


def test_a_correlation_among_some_pairs_looks_at_no_other():
    """Two groups; the measure is the outcome within groups and its opposite across, so that over all it hides."""
    member = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1])
    alike = (member[:, None] == member[None, :]).astype(float)
    outcome = symmetric(9)
    measure = np.where(alike, outcome, -outcome)
    orders = dyads.relabelings_within(member, 299, 1)
    assert (member[orders] == member).all() and orders[0].tolist() == list(range(9))
    assert len(np.unique(orders, axis=0)) > 100
    found = dyads.correlations(outcome, {"m": measure}, orders, alike).iloc[0]
    assert found.rho == pytest.approx(1) and found.p == pytest.approx(1 / 300)
    assert dyads.spearman(outcome, measure, alike) == pytest.approx(1)
    assert dyads.spearman(outcome, measure) < 0.9
    inside = [(i, j) for i, j in pairs(9) if alike[i, j]]
    other = symmetric(9)
    expected = stats.spearmanr([outcome[p] for p in inside], [other[p] for p in inside]).statistic
    assert dyads.spearman(outcome, other, alike) == pytest.approx(expected)


def test_orders_start_with_the_data_and_are_all_of_them_where_few():
    assert dyads.relabelings(3, 9999, 1).tolist() == [list(order) for order in itertools.permutations(range(3))]
    many = dyads.relabelings(12, 50, 1)
    assert many.shape == (51, 12) and many[0].tolist() == list(range(12))
    assert (np.sort(many, axis=1) == np.arange(12)).all()
