"""Rank correlation of pairs of languages: estimates, nulls, correction, with planted truth."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from langmerge.analysis import association
from langmerge.analysis.damage import Settings, associate

NAMES = list("abcdefgh")


def dyadic(rng, k, mix=1.0):
    """A number for each pair: what its two languages bring, and its own."""
    effect, pairs = rng.normal(size=k), association.pairs_of(k)
    return mix * (effect[pairs[:, 0]] + effect[pairs[:, 1]]) + rng.normal(size=len(pairs))


def results(measures, damage, k, scopes=None, **settings):
    """Rows by measure, of arrays [pairs] or [strata, pairs] and one merge method."""
    x = {name: np.atleast_2d(values) for name, values in measures.items()}
    y = {"slerp": np.atleast_2d(damage)}
    scopes = scopes or {"all": list(range(len(y["slerp"])))}
    rows = associate(NAMES[:k], x, y, scopes, Settings(**{"permutations": 1000, "samples": 100, **settings}))
    return {row["measure"]: row for row in rows}


# ---- Spearman's correlation ----------------------------------------------------------------------------------------


def test_correlations_are_scipys_with_ties_weights_and_missing_pairs():
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.integers(0, 5, 15).astype(float), rng.integers(0, 4, 15).astype(float)
        weights = rng.integers(0, 3, (6, 15)).astype(float)
        found = association.spearman(x, y, weights)
        for w, rho in zip(weights, found, strict=True):
            times = w.astype(int)
            assert rho == pytest.approx(spearmanr(np.repeat(x, times), np.repeat(y, times))[0])
        x[rng.integers(15)] = y[rng.integers(15)] = np.nan
        known = np.isfinite(x) & np.isfinite(y)
        (rho,) = association.spearman(x, y, np.ones((1, 15)))
        assert rho == pytest.approx(spearmanr(x[known], y[known])[0])


@pytest.mark.parametrize("missing", ["none", "x", "y", "both"])
def test_permuted_correlations_are_those_of_the_permuted_values(missing):
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 6, 10).astype(float), rng.integers(0, 6, 10).astype(float)
    if missing in ("x", "both"):
        x[[2, 7]] = np.nan
    if missing in ("y", "both"):
        y[[0, 7]] = np.nan
    orders = association.language_orders(5, 1000, 0)
    found = association.permuted(x, y, orders)
    for order, rho in zip(orders[::7], found[::7], strict=True):
        known = np.isfinite(x) & np.isfinite(y[order])
        assert rho == pytest.approx(spearmanr(x[known], y[order][known])[0])


def test_what_has_no_correlation():
    ones = np.ones((1, 6))
    y = np.arange(6.0)
    assert np.isnan(association.spearman(np.full(6, 2.0), y, ones)).all()
    assert np.isnan(association.permuted(np.full(6, 2.0), y, np.arange(6)[None])).all()
    few = np.array([1.0, 2.0, *[np.nan] * 4])
    assert np.isnan(association.spearman(few, y, ones)).all()  # two pairs always agree or disagree
    assert np.isnan(association.permuted(few, y, np.arange(6)[None])).all()


# ---- permutations --------------------------------------------------------------------------------------------------


def test_orders_permute_languages_not_pairs():
    orders = association.language_orders(4, 1000, 0)
    assert len(orders) == len({tuple(o) for o in orders}) == math.factorial(4)
    assert orders[0].tolist() == list(range(6))
    pairs = [set(pair) for pair in association.pairs_of(4).tolist()]
    for order in orders:  # pairs that share a language still share one
        moved = [pairs[i] for i in order]
        for i, j in itertools.combinations(range(6), 2):
            assert bool(pairs[i] & pairs[j]) == bool(moved[i] & moved[j])
    drawn = association.language_orders(8, 50, 3)
    assert drawn.shape == (50, 28)
    assert drawn[0].tolist() == list(range(28))
    assert np.array_equal(drawn, association.language_orders(8, 50, 3))


def test_a_monotone_predictor_is_found_with_the_exact_p():
    rng = np.random.default_rng(2)
    damage = rng.normal(size=10)
    found = results({"cubed": damage**3, "against": -np.exp(damage)}, damage, 5)
    orders = [association.permuted(damage, damage, np.array([o]))[0] for o in association.language_orders(5, 1000, 0)]
    extreme = sum(abs(rho) > 1 - 1e-9 for rho in orders)
    for name, rho in (("cubed", 1.0), ("against", -1.0)):
        assert found[name]["rho"] == pytest.approx(rho)
        assert found[name]["p"] == pytest.approx(extreme / 120)
        assert found[name]["p_corrected"] == pytest.approx(extreme / 120)  # both are one measure
        assert found[name]["least_p"] == pytest.approx(1 / 120)
    assert extreme == 1


def test_monte_carlo_p_counts_the_observed_order():
    rng = np.random.default_rng(3)
    damage = rng.normal(size=28)
    row = results({"same": damage}, damage, 8, permutations=200)["same"]
    assert row["p"] == pytest.approx(1 / 200)


def test_p_is_uniform_for_null_predictors_but_not_if_pairs_are_taken_as_independent():
    """Language effects in both, unrelated: exact under permuted languages, far too small under permuted pairs."""
    rng, k, trials = np.random.default_rng(4), 5, 400
    p, by_pair = [], []
    for _ in range(trials):
        row = results({"null": dyadic(rng, k, 2.0)}, dyadic(rng, k, 2.0), k, permutations=200, samples=1)["null"]
        p.append(row["p"])
        by_pair.append(row["p_pairs"])
    for level in (0.05, 0.1, 0.5):
        error = math.sqrt(level * (1 - level) / trials)
        assert abs(np.mean(np.array(p) <= level) - level) < 3 * error + 1 / 120
    assert np.mean(np.array(by_pair) <= 0.05) > 0.08


def test_the_family_wise_error_is_kept_and_correlated_measures_cost_less_than_bonferroni_says():
    rng, k, trials = np.random.default_rng(5), 5, 300
    wrong, all_corrected, bonferroni = 0, [], []
    for _ in range(trials):
        first = dyadic(rng, k)
        measures = {f"m{i}": 0.8 * first + 0.6 * dyadic(rng, k) for i in range(8)}  # hang together
        rows = results(measures, dyadic(rng, k), k, samples=1).values()
        corrected = min(row["p_corrected"] for row in rows)
        wrong += corrected <= 0.05
        all_corrected.append(corrected)
        bonferroni.append(min(1.0, 8 * min(row["p"] for row in rows)))
        assert all(row["p_corrected"] >= row["p"] - 1e-12 for row in rows)
    assert abs(wrong / trials - 0.05) < 3 * math.sqrt(0.05 * 0.95 / trials)
    assert np.mean(all_corrected) < np.mean(bonferroni) - 0.02


def test_the_step_down_maximum_is_the_slow_formula():
    rng = np.random.default_rng(6)
    null = rng.normal(size=(200, 5))
    null[0] = [2.0, -1.5, 0.3, np.nan, 2.5]
    found = association.step_down(null)
    order, expected, before = [4, 0, 1, 2], {}, 0.0
    for i, test in enumerate(order):
        rest = np.abs(null[:, order[i:]]).max(1)
        before = max(before, float(np.mean(rest >= abs(null[0, test]))))
        expected[test] = before
    assert {t: found[t] for t in order} == pytest.approx(expected)
    assert math.isnan(found[3])


# ---- one language alone, intervals, strata -------------------------------------------------------------------------


def test_leaving_one_language_out_exposes_a_predictor_that_lives_on_it():
    """Language c is odd in both respects; among the others there is no relation."""
    k, pairs = 6, association.pairs_of(6)
    odd = (pairs == 2).any(1) * 10.0
    own = np.random.default_rng(7)
    x, y = own.normal(size=15), own.normal(size=15)
    rest = association.left_out(k)[2] > 0
    y[rest] -= np.polyval(np.polyfit(x[rest], y[rest], 1), x[rest])
    found = results({"one": x + odd, "all": y + odd + 0.0}, y + odd, k)
    assert found["one"]["rho"] > 0.5
    assert found["one"]["left_out"] == "c"
    assert found["one"]["left_out_low"] < 0.25
    assert found["all"]["left_out_low"] == pytest.approx(1.0)


def test_intervals_are_wide_enough():
    rng, k, trials = np.random.default_rng(8), 6, 150
    weights = association.bootstrap_weights(k, 200, 1)

    def draw(k):
        x = dyadic(rng, k)
        return x, 0.7 * x + dyadic(rng, k)

    truth = np.mean([spearmanr(*draw(60))[0] for _ in range(20)])
    hits = sum(low <= truth <= high for low, high in (
        association.interval(association.spearman(*draw(k), weights)) for _ in range(trials)
    ))  # fmt: skip
    assert hits / trials > 0.95 - 3 * math.sqrt(0.05 * 0.95 / trials)


def test_a_bootstrap_weight_is_how_often_both_languages_were_drawn():
    weights = association.bootstrap_weights(4, 50, 0)
    pairs = association.pairs_of(4).tolist()
    for row in weights:
        w = dict(zip(map(tuple, pairs), row, strict=True))
        solutions = [
            t
            for t in itertools.product(range(5), repeat=4)
            if sum(t) == 4 and all(t[a] * t[b] == w[a, b] for a, b in w)
        ]
        assert solutions


def test_scopes_average_the_correlations_of_their_strata():
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(3, 10)), rng.normal(size=(3, 10))
    scopes = {"all": [0, 1, 2], "from-en": [0, 2], "to-en": [1]}
    rows = associate(NAMES[:5], {"m": x}, {"slerp": y}, scopes, Settings(200, 50))
    own = [spearmanr(a, b)[0] for a, b in zip(x, y, strict=True)]
    for row in rows:
        assert row["rho"] == pytest.approx(np.mean([own[s] for s in scopes[row["scope"]]]))
        assert row["pairs"] == 10 * row["strata"] == 10 * len(scopes[row["scope"]])


def test_methods_count_as_tests_and_what_cannot_be_tested_does_not():
    rng = np.random.default_rng(10)
    x = {"m": rng.normal(size=(1, 6)), "flat": np.ones((1, 6)), "few": np.array([[1.0, 2, *[np.nan] * 4]])}
    y = {"slerp": rng.normal(size=(1, 6)), "ties": rng.normal(size=(1, 6))}
    rows = associate(NAMES[:4], x, y, {"all": [0]}, Settings(100, 10))
    assert {row["tests"] for row in rows} == {2}
    status = {row["measure"]: row["status"] for row in rows}
    assert status == {"m": "", "flat": "constant", "few": "fewer than 3 pairs"}
    assert all(math.isnan(row["p_corrected"]) for row in rows if row["status"])
