"""Statistics of gradients from their Gram matrix, against gradients that are known."""

import numpy as np
import pytest

from langmerge.jackknife import interval
from langmerge.landscape.alignment import align, left_out, rows


def cosine(x, y):
    return x @ y / np.sqrt((x @ x) * (y @ y))


def gram_of(g):
    """Gram matrix [K, G, K, G] of gradients [K, G, D]."""
    return np.einsum("ibd,jcd->ibjc", g, g)


def drawn(generator, truth, blocks, noise):
    return truth[:, None] + noise * generator.normal(size=(len(truth), blocks, truth.shape[1]))


@pytest.fixture
def gradients():
    generator = np.random.default_rng(0)
    return drawn(generator, generator.normal(size=(3, 30)), 6, 1.0), generator.integers(20, 60, (3, 6)).astype(float)


def test_every_statistic_is_what_the_gradients_themselves_give(gradients):
    g, sizes = gradients
    found = align(gram_of(g), sizes)
    total = g.sum(1) / sizes.sum(1, keepdims=True)
    odd = g[:, 1::2].sum(1)
    even = g[:, ::2].sum(1)
    for i in range(3):
        assert found.norm[i] == pytest.approx(np.linalg.norm(total[i]))
        for j in range(3):
            assert found.cosine[i, j] == pytest.approx(cosine(total[i], total[j]))
            assert found.l2[i, j] == pytest.approx(np.linalg.norm(total[i] - total[j]), abs=1e-9)
            half = (cosine(even[i], odd[j]) + cosine(even[j], odd[i])) / 2
            assert found.cosine_half[i, j] == pytest.approx(half)

    def apart(i, j):
        different = [(b, c) for b in range(6) for c in range(6) if b != c]
        inner = sum(g[i, b] @ g[j, c] for b, c in different)
        return inner / sum(sizes[i, b] * sizes[j, c] for b, c in different)

    expected = [[apart(i, j) / np.sqrt(apart(i, i) * apart(j, j)) for j in range(3)] for i in range(3)]
    assert found.cosine_debiased == pytest.approx(np.array(expected))


def test_leaving_a_block_out_is_not_having_it(gradients):
    g, sizes = gradients
    found = left_out(gram_of(g), sizes)
    kept = [0, 1, 2, 3, 5]
    fewer = align(gram_of(g[:, kept]), sizes[:, kept])
    for name in ("cosine", "cosine_debiased", "l2", "norm"):
        assert getattr(found, name)[4] == pytest.approx(getattr(fewer, name))


def test_the_unit_of_the_loss_and_the_order_of_the_languages_do_not_matter(gradients):
    g, sizes = gradients
    gram, order = gram_of(g), [2, 0, 1]
    one, other = align(gram, sizes), align(49 * gram[order][:, :, order], sizes[order])
    for name in ("cosine", "cosine_debiased", "cosine_half"):
        assert getattr(other, name) == pytest.approx(getattr(one, name)[np.ix_(order, order)])
    assert other.l2 == pytest.approx(7 * one.l2[np.ix_(order, order)])


def test_noise_shrinks_the_cosine_but_not_the_debiased_one():
    """True gradients at 60 degrees under noise: planted .5."""
    generator = np.random.default_rng(1)
    x, y = np.linalg.qr(generator.normal(size=(400, 2)))[0].T
    truth = np.stack([x, 0.5 * x + np.sqrt(0.75) * y])
    found = [align(gram_of(drawn(generator, truth, 16, 0.2)), np.ones((2, 16))) for _ in range(60)]
    plain = np.mean([f.cosine[0, 1] for f in found])
    assert plain < 0.3
    assert np.mean([f.cosine_debiased[0, 1] for f in found]) == pytest.approx(0.5, abs=0.03)
    ceilings = [
        {r.measure: r.ceiling for r in rows(gram_of(drawn(generator, truth, 16, 0.2)), np.ones((2, 16))) if r.i != r.j}
        for _ in range(60)
    ]
    assert plain == pytest.approx(0.5 * np.mean([c["cosine"] for c in ceilings]), abs=0.02)
    half = np.mean([f.cosine_half[0, 1] for f in found])
    assert half == pytest.approx(0.5 * np.mean([c["cosine_half"] for c in ceilings]), abs=0.02)


def test_intervals_hold_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(2)
    x, y = np.linalg.qr(generator.normal(size=(60, 2)))[0].T
    truth = np.stack([x, 0.5 * x + np.sqrt(0.75) * y])
    hits = 0
    for _ in range(300):
        gram, sizes = gram_of(drawn(generator, truth, 16, 0.25)), np.ones((2, 16))
        low, high = interval(align(gram, sizes).cosine_debiased, left_out(gram, sizes).cosine_debiased)
        hits += low[0, 1] <= 0.5 <= high[0, 1]
    assert 0.91 <= hits / 300 <= 0.99


def test_one_gradient_twice_is_aligned_and_noise_alone_is_not():
    generator = np.random.default_rng(3)
    g = np.repeat(generator.normal(size=(1, 8, 50)), 2, axis=0)
    same = align(gram_of(g), np.ones((2, 8)))
    assert same.cosine[0, 1] == pytest.approx(1) and same.l2[0, 1] == pytest.approx(0, abs=1e-6)
    noise = [align(gram_of(generator.normal(size=(2, 8, 50))), np.ones((2, 8))).cosine_half[0, 1] for _ in range(200)]
    assert abs(np.mean(noise)) < 4 * np.std(noise) / np.sqrt(200)
    opposed = np.stack([np.tile([[1.0], [-1.0]], (4, 5)), np.ones((8, 5))])
    assert np.isnan(align(gram_of(opposed), np.ones((2, 8))).cosine_debiased[0, 1])


def test_each_pair_stands_there_once(gradients):
    g, sizes = gradients
    found = list(rows(gram_of(g), sizes))
    count = {}
    for row in found:
        count[row.measure] = count.get(row.measure, 0) + 1
    assert count == {"cosine": 3, "cosine_debiased": 3, "cosine_half": 6, "l2": 3, "norm": 3}
    assert all(row.low <= row.value <= row.high for row in found)
    own = {row.i: row.value for row in found if row.measure == "cosine_half" and row.i == row.j}
    halves = [row for row in found if row.measure == "cosine_half" and row.i != row.j]
    assert [row.ceiling for row in halves] == pytest.approx([np.sqrt(own[r.i] * own[r.j]) for r in halves])
