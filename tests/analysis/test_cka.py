import numpy as np
import pytest
import torch

from langmerge.analysis import cka


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(d, seed=9):
    return torch.linalg.qr(normal(d, d, seed=seed))[0]


def hsic_by_definition(x, y):
    """Song et al. (2012), equation 5, term by term."""
    k, l = x @ x.T, y @ y.T  # noqa: E741
    n = len(k)
    k.fill_diagonal_(0)
    l.fill_diagonal_(0)
    trace = sum(float(k[i, j] * l[j, i]) for i in range(n) for j in range(n))
    sums = float(k.sum() * l.sum()) / ((n - 1) * (n - 2))
    both = 2 / (n - 2) * float(k.sum(0) @ l.sum(1))
    return (trace + sums - both) / (n * (n - 3))


@pytest.mark.parametrize(("n", "d", "e"), [(12, 30, 5), (40, 6, 9), (4, 3, 3)])
def test_feature_form_is_gram_form_is_definition(n, d, e):
    x, y = normal(n, d) + 3, normal(n, e, seed=1)
    y[:, 0] += x[:, 0]
    features = cka.hsic_features(x, y)
    centred_x, centred_y = cka.centre(x), cka.centre(y)
    gram = cka.hsic_gram(centred_x @ centred_x.T, centred_y @ centred_y.T)
    assert float(features) == pytest.approx(float(gram), rel=1e-10)
    assert float(features) == pytest.approx(hsic_by_definition(x, y), rel=1e-9)


def test_independent_data_debiased_zero_biased_not():
    n, d = 128, 512
    pairs = [(normal(n, d, seed=2 * s), normal(n, d, seed=2 * s + 1)) for s in range(8)]
    debiased = [cka.debiased_cka(x, y) for x, y in pairs]
    biased = [cka.biased_cka(x, y) for x, y in pairs]
    assert abs(np.mean(debiased)) < 0.01
    assert min(debiased) < 0 < max(debiased)  # unbiased, not clamped
    assert np.mean(biased) == pytest.approx(d / (n + d), abs=0.02)


@pytest.mark.parametrize("n", [20, 200])  # Gram form, feature form
def test_invariances(n):
    x, y = normal(n, 40), normal(n, 40, seed=1)
    y[:, :10] += x[:, :10]
    value = cka.debiased_cka(x, y)
    assert cka.debiased_cka(x @ rotation(40), y) == pytest.approx(value, rel=1e-9)
    assert cka.debiased_cka(-7 * x + 1e4, y) == pytest.approx(value, rel=1e-6)
    assert cka.debiased_cka(x, x) == pytest.approx(1)
    assert cka.biased_cka(x, x @ rotation(40)) == pytest.approx(1)


def test_anc_sees_rotations_but_no_scale():
    n = 400
    x = normal(n, 64)
    assert cka.debiased_cka(x, x @ rotation(64)) == pytest.approx(1)
    stack = torch.stack([x, x @ rotation(64), -x * torch.arange(1, 65) + 5, normal(n, 64, seed=3)])
    anc = cka.anc_table(stack)
    assert anc[0, 1] < 0.3
    assert float(anc[0, 2]) == pytest.approx(1)
    assert float(anc[0, 3]) == pytest.approx(np.sqrt(2 / (np.pi * n)), rel=0.3)  # chance
    naive = np.mean([abs(np.corrcoef(stack[0, :, j], stack[1, :, j])[0, 1]) for j in range(64)])
    assert float(anc[0, 1]) == pytest.approx(naive)


def test_anc_leaves_constant_channels_out():
    x = normal(50, 4)
    y = x.clone()
    y[:, 2] = 1.0
    assert float(cka.anc_table(torch.stack([x, y]))[0, 1]) == pytest.approx(1)


def test_fewer_than_four_sentences_are_an_error():
    with pytest.raises(ValueError, match="at least 4"):
        cka.debiased_cka(normal(3, 5), normal(3, 5))
    with pytest.raises(ValueError, match="at least 4"):
        cka.compare(normal(2, 3, 5), np.zeros(3, dtype=int), 0, 1)


def test_table_equals_every_pair_and_subset_from_the_start():
    stack = normal(3, 30, 12) + 2
    stack[1, :, :6] += stack[0, :, :6]
    blocks = torch.from_numpy(np.random.default_rng(0).choice([0, 2, 3, 7], 30))
    x = cka.centre(stack)
    shuffles = cka._shuffles(30, 3, 1)
    fast, slow = cka._by_grams(x, blocks, shuffles), cka._by_pairs(x, blocks, shuffles)
    for quick, plain, tolerance in zip(fast, slow, (1e-9, 1e-9, 1e-5), strict=True):
        assert quick.shape == plain.shape
        torch.testing.assert_close(quick, plain, rtol=tolerance, atol=tolerance)
    assert fast[0].shape == (5, 3, 3)


def test_null_is_about_zero_and_bounds_independent_data():
    stack = torch.stack([normal(60, 20), normal(60, 20, seed=1), normal(60, 20)])
    found = cka.compare(stack, np.arange(60) % 10, permutations=200, seed=1)
    assert abs(found.null_mean[0, 1]) < 0.02
    assert found.null_mean[0, 1] < found.null_high[0, 1] < 0.2
    assert found.cka[0, 2] == pytest.approx(1)
    assert found.null_high[0, 2] < 0.5
    again = cka.compare(stack, np.arange(60) % 10, permutations=200, seed=1)
    assert np.array_equal(found.null_high, again.null_high)
    assert np.isnan(cka.compare(stack, np.arange(60) % 10, 0, 1).null_mean).all()


def test_jackknife_interval_covers_the_planted_value():
    # Y = X + noise of sd s, isotropic: CKA = 1 / (1 + s^2)
    n, d, s, hits, values = 200, 8, 0.7, 0, []
    truth = 1 / (1 + s**2)
    for seed in range(60):
        x = normal(n, d, seed=2 * seed)
        found = cka.compare(torch.stack([x, x + s * normal(n, d, seed=2 * seed + 1)]), np.arange(n) % 20, 0, 1)
        value, error = found.cka[0, 1], found.standard_error[0, 1]
        hits += abs(value - truth) <= 2.09 * error
        values.append((value, error))
    estimates, errors = np.array(values).T
    assert estimates.mean() == pytest.approx(truth, abs=0.01)
    assert errors.mean() == pytest.approx(estimates.std(ddof=1), rel=0.35)
    assert hits >= 52  # 95 % of 60 is 57


def test_variants_undo_a_shared_massive_channel():
    x, y = normal(300, 32), normal(300, 32, seed=1)
    massive = 100 * normal(300, seed=2)
    x[:, 5], y[:, 5] = massive, massive
    stack = torch.stack([x, y])
    raw, dropped, scaled = (cka.compare(f(stack), np.arange(300) % 10, 0, 1) for f in cka.VARIANTS.values())
    assert raw.cka[0, 1] > 0.99
    assert abs(dropped.cka[0, 1]) < 0.05
    assert scaled.cka[0, 1] < 0.1
    assert cka.dropped_channels(stack).tolist() == [[1, 1], [1, 1]]
    y[:, 6] = 100 * massive  # a sink of the second model only
    assert cka.dropped_channels(torch.stack([x, y])).tolist() == [[1, 2], [2, 2]]


def test_constant_representation_has_no_cka():
    stack = torch.stack([torch.ones(20, 6), torch.randn(20, 6)])
    assert np.isnan(cka.compare(stack, np.arange(20) % 4, 3, 1).cka[0, 1])
