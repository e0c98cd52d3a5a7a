"""Significance tests against sacrebleu's own, exact enumeration, limit cases and textbook numbers."""

import itertools
import random

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest

from langmerge.evaluation import metrics
from langmerge.evaluation.significance import (
    Differences,
    holm,
    macro_average,
    paired_differences,
    paired_test,
)

WORDS = ["the", "a", "red", "old", "cat", "dog", "house", "sees", "gives", "takes", "green", "never", "today"]


def outputs(seed, n, noises):
    """References and, for each noise level, hypotheses with that share of words replaced at random."""
    rng = random.Random(seed)
    references = [" ".join(rng.choices(WORDS, k=rng.randint(5, 12))) for _ in range(n)]
    corrupt = lambda r, p: " ".join(rng.choice(WORDS) if rng.random() < p else w for w in r.split())  # noqa: E731
    return references, [[corrupt(r, noise) for r in references] for noise in noises]


def statistics(hypotheses, references):
    return {name: metrics.statistics(metrics.build(name, "es"), hypotheses, references) for name in ("bleu", "chrf")}


@pytest.mark.parametrize("noises", [(0.3, 0.34), (0.3, 0.38)])
def test_agrees_with_sacrebleu(noises):
    references, (baseline, system) = outputs(11, 80, noises)
    trials = 2000
    ours = paired_differences(statistics(system, references), statistics(baseline, references), trials, trials, seed=1)
    for kind, field in (("bs", "p_bootstrap"), ("ar", "p_randomization")):
        theirs = PairedTest(
            [("baseline", baseline), ("system", system)],
            {"BLEU": BLEU(), "chrF2++": CHRF(word_order=2)},
            [references],
            test_type=kind,
            n_samples=trials,
        )()[1]
        for name, column in (("bleu", "BLEU"), ("chrf", "chrF2++")):
            test = paired_test(ours[name])
            assert ours[name].baseline == pytest.approx(theirs[column][0].score, rel=1e-9)
            assert ours[name].system == pytest.approx(theirs[column][1].score, rel=1e-9)
            p = theirs[column][1].p_value
            error = 4 * np.sqrt(2 * max(p * (1 - p), 1 / trials) / trials)  # both are Monte Carlo estimates
            assert abs(getattr(test, field) - p) < error
            if kind == "bs":
                half = theirs[column][1].ci  # of the system alone: the paired interval must not be wildly other
                assert 0.2 * half < (test.high - test.low) / 2 < 3 * half


def test_randomization_converges_to_the_exact_test():
    """With 8 sentences all 2^8 swaps can be enumerated."""
    references, (baseline, system) = outputs(5, 8, (0.35, 0.15))
    a, b = statistics(system, references)["chrf"], statistics(baseline, references)["chrf"]
    observed = abs(metrics.score("chrf", a.sum(0)) - metrics.score("chrf", b.sum(0)))
    null = []
    for swaps in itertools.product([False, True], repeat=8):
        swap = np.array(swaps)[:, None]
        x, y = np.where(swap, b, a).sum(0), np.where(swap, a, b).sum(0)
        null.append(abs(metrics.score("chrf", x) - metrics.score("chrf", y)))
    exact = np.mean(np.array(null) >= observed - 1e-9)
    assert 0.0 < exact < 0.9
    trials = 20000
    p = paired_test(paired_differences({"chrf": a}, {"chrf": b}, 10, trials, 3)["chrf"]).p_randomization
    assert abs(p - exact) < 4 * np.sqrt(exact * (1 - exact) / trials) + 1 / trials


def test_identical_systems_are_never_different():
    references, (system,) = outputs(2, 50, (0.3,))
    rows = statistics(system, references)
    for differences in paired_differences(rows, rows, 200, 500, 0).values():
        test = paired_test(differences)
        assert (test.difference, test.low, test.high, test.standard_error) == (0, 0, 0, 0)
        assert test.p_bootstrap == test.p_randomization == 1.0


def test_planted_difference_gets_the_smallest_p():
    references, (good, bad) = outputs(2, 100, (0.05, 0.7))
    samples, trials = 400, 900
    for d in paired_differences(statistics(good, references), statistics(bad, references), samples, trials, 0).values():
        test = paired_test(d)
        assert test.p_bootstrap == 1 / (samples + 1)
        assert test.p_randomization == 1 / (trials + 1)
        assert 0 < test.low < test.difference < test.high


def test_swapping_the_systems_changes_the_sign_only():
    references, (one, two) = outputs(7, 60, (0.3, 0.4))
    a, b = statistics(one, references), statistics(two, references)
    forth = paired_test(paired_differences(a, b, 300, 300, 4)["bleu"])
    back = paired_test(paired_differences(b, a, 300, 300, 4)["bleu"])
    assert back.difference == pytest.approx(-forth.difference)
    assert (back.low, back.high) == pytest.approx((-forth.high, -forth.low))
    assert (back.p_bootstrap, back.p_randomization) == (forth.p_bootstrap, forth.p_randomization)


def test_null_hypothesis_is_rejected_at_the_nominal_rate():
    """Two systems that corrupt equally: p <= 0.1 in about a tenth of the test sets."""
    rejected = 0
    for seed in range(150):
        references, (one, two) = outputs(seed, 40, (0.3, 0.3))
        rows = [{"chrf": statistics(h, references)["chrf"]} for h in (one, two)]
        rejected += paired_test(paired_differences(*rows, 10, 300, seed)["chrf"]).p_randomization <= 0.1
    assert 4 <= rejected <= 28  # binomial(150, 0.1): 15 +- 3.6 standard deviations


def test_seeded():
    references, (one, two) = outputs(7, 30, (0.3, 0.4))
    a, b = statistics(one, references), statistics(two, references)
    first, again, other = (paired_differences(a, b, 50, 50, seed)["bleu"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.bootstrap, again.bootstrap)
    np.testing.assert_array_equal(first.randomized, again.randomized)
    assert not np.array_equal(first.bootstrap, other.bootstrap)


def test_bootstrap_standard_error_of_a_mean():
    """Where the score is a ratio of sums with constant denominator, the bootstrap must find sigma / sqrt(n)."""
    rng = np.random.default_rng(0)
    n = 200
    a = np.column_stack([rng.integers(0, 10, n), np.full(n, 10)])  # TER: edits over length
    b = np.column_stack([rng.integers(0, 10, n), np.full(n, 10)])
    test = paired_test(paired_differences({"ter": a}, {"ter": b}, 4000, 10, 0)["ter"])
    per_sentence = 100 * (a[:, 0] - b[:, 0]) / 10
    assert test.difference == pytest.approx(per_sentence.mean())
    assert test.standard_error == pytest.approx(per_sentence.std() / np.sqrt(n), rel=0.05)
    half = 1.96 * per_sentence.std() / np.sqrt(n)
    assert (test.low, test.high) == pytest.approx((test.difference - half, test.difference + half), abs=0.1 * half)


def test_macro_average_of_independent_directions_has_a_smaller_error():
    rng = np.random.default_rng(0)
    parts = [Differences(3.0, 1.0, 2 + rng.normal(size=5000), rng.normal(size=5000)) for _ in range(4)]
    macro = paired_test(macro_average(parts))
    assert macro.difference == 2.0
    assert macro.standard_error == pytest.approx(0.5, rel=0.05)
    copies = paired_test(macro_average([parts[0]] * 4))  # the same draws: nothing is averaged out
    assert copies.standard_error == pytest.approx(paired_test(parts[0]).standard_error)


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        # worked by hand: ascending p times 4, 3, 2, 1, then the running maximum
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.0001, 0.9, 0.02], [0.0003, 0.9, 0.04]),
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.2], [0.2]),
    ],
)
def test_holm(p_values, adjusted):
    np.testing.assert_allclose(holm(p_values), adjusted)


def test_holm_rejects_as_the_step_down_procedure_does():
    """Adjusted p <= alpha exactly where the sequential procedure (p_(k) <= alpha / (m - k + 1)) rejects."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = rng.beta(0.3, 3, size=7)
        rejected = np.zeros(7, dtype=bool)
        for k, index in enumerate(np.argsort(p)):
            if p[index] > 0.05 / (7 - k):
                break
            rejected[index] = True
        np.testing.assert_array_equal(holm(p) <= 0.05, rejected)
