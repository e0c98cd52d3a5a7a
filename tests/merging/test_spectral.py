"""TSV-M, Iso-C, Iso-CTS, KnOTS and WUDI against the papers' formulas in float64, planted cases and invariances."""

import numpy as np
import pytest
import torch
from spectral_merges import (
    SHAPES,
    TOLERANCE,
    exact,
    iso_c,
    iso_cts,
    knots,
    known,
    low_rank,
    noise,
    orthogonal,
    same,
    tsv_m,
)

from langmerge.merging.methods import spectra, spectral, wudi

# ---- references: full singular value decompositions in numpy, as the papers write them -----------------------


def f64(matrices):
    return [matrix.double().numpy() for matrix in matrices]


def nearest_isometry(x):
    p, _, q = np.linalg.svd(x, full_matrices=False)
    return p @ q


def reference_tsv_m(matrices, factors):
    share = min(matrices[0].shape) // len(matrices)
    triplets = [np.linalg.svd(w * d, full_matrices=False) for w, d in zip(factors, f64(matrices), strict=True)]
    u = np.hstack([u[:, :share] for u, _, _ in triplets])
    v = np.vstack([vt[:share] for _, _, vt in triplets])
    s = np.concatenate([s[:share] for _, s, _ in triplets])
    return nearest_isometry(u) @ np.diag(s) @ nearest_isometry(v)


def reference_iso_c(matrices):
    u, s, vt = np.linalg.svd(sum(f64(matrices)), full_matrices=False)
    return s.mean() * u @ vt


def reference_iso_cts(matrices, common, of_task):
    u, s, vt = np.linalg.svd(sum(f64(matrices)), full_matrices=False)
    us, ss, vs = [u[:, :common]], [s[:common]], [vt[:common]]
    for d in f64(matrices):
        ui, si, vi = np.linalg.svd(d - us[0] @ us[0].T @ d, full_matrices=False)
        us, ss, vs = [*us, ui[:, :of_task]], [*ss, si[:of_task]], [*vs, vi[:of_task]]
    return np.concatenate(ss).mean() * nearest_isometry(np.hstack(us)) @ nearest_isometry(np.vstack(vs))


def reference_knots(matrices, density, factors, normalize=True):
    """TIES on S V_i^T, entry by entry; nothing is said about zero sums of votes, which random entries lack."""
    u, s, vt = np.linalg.svd(np.hstack(f64(matrices)), full_matrices=False)
    u, s, vt = u[:, s > 1e-5 * s[0]], s[s > 1e-5 * s[0]], vt[s > 1e-5 * s[0]]
    parts = np.split(s[:, None] * vt, len(matrices), axis=1)
    merged = np.zeros_like(parts[0])
    trimmed = []
    for part in parts:
        count = part.size if density == 1 else int(density * part.size) + 1
        smallest = np.sort(np.abs(part), axis=None)[::-1][count - 1]
        trimmed.append(np.where(np.abs(part) >= smallest, part, 0))
    for index in np.ndindex(merged.shape):
        entries = [part[index] for part in trimmed]
        agreeing = [i for i, x in enumerate(entries) if x * sum(entries) > 0]
        divisor = sum(factors[i] for i in agreeing) if normalize else 1
        merged[index] = sum(factors[i] * entries[i] for i in agreeing) / (divisor or 1)
    return u @ merged


def reference_loss(d, matrices, factors):
    return sum(
        w * torch.linalg.matrix_norm((d - m) @ m.T).square() / torch.linalg.matrix_norm(m).square()
        for w, m in zip(factors, matrices, strict=True)
    )


def reference_wudi(matrices, factors, steps, learning_rate):
    d = torch.nn.Parameter(sum(matrices))
    adam = torch.optim.Adam([d], lr=learning_rate)
    for _ in range(steps):
        adam.zero_grad()
        reference_loss(d, matrices, factors).backward()
        adam.step()
    return d.detach()


# ---- spectra -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [*SHAPES, (300, 700)])
def test_spectra_are_those_of_a_singular_value_decomposition(shape):
    (matrix,) = noise(0, shape, 1)
    left, values, right = spectra.directions(matrix, spectra.spectrum(matrix, TOLERANCE), 10**6)
    np.testing.assert_allclose(values, np.linalg.svd(matrix.double().numpy())[1], rtol=1e-7)
    same((left * values) @ right, matrix, 1e-9)
    same(left.T @ left, torch.eye(len(values)), 1e-9)
    same(right @ right.T, torch.eye(len(values)), 1e-9)


@pytest.mark.parametrize("shape", [(30, 50), (50, 30)])
def test_the_rank_of_a_low_rank_update_is_found(shape):
    base, (update,) = torch.randn(shape, generator=torch.Generator().manual_seed(5)) * 1e-2, low_rank(3, shape, 4, 1)
    stored = (base + update) - base
    assert len(spectra.spectrum(stored, 1e-3).values) == 4
    assert len(spectra.spectrum(update, TOLERANCE).values) == 4
    assert len(spectra.spectrum(torch.zeros(shape), TOLERANCE).values) == 0


def test_dependent_columns_share_their_place():
    x = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor([[0.5**0.5, 0.5**0.5, 0], [0, 0, 1], [0, 0, 0]])
    same(x @ spectra.inverse_root(x.T @ x, TOLERANCE), expected, 1e-7)


# ---- formulas ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(12, 20), (20, 12), (13, 14)])
@pytest.mark.parametrize("factors", [[1.0, 1.0, 1.0], [0.5, -2.0, 1.0]])
def test_tsv_m_follows_the_paper(shape, factors):
    matrices = noise(1, shape)
    same(tsv_m(matrices, factors), reference_tsv_m(matrices, factors))


@pytest.mark.parametrize("shape", SHAPES)
def test_iso_c_follows_the_paper(shape):
    same(iso_c(noise(1, shape)), reference_iso_c(noise(1, shape)))


def test_iso_c_has_equal_singular_values_of_the_right_mean():
    matrices = noise(2, (12, 20))
    values = np.linalg.svd(iso_c(matrices).numpy())[1]
    np.testing.assert_allclose(values, np.linalg.svd(sum(matrices).numpy())[1].mean(), rtol=1e-5)


@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
@pytest.mark.parametrize(("fraction", "common", "of_task"), [(0.8, 9, 1), (0.5, 6, 2), (0.0, 0, 4), (1.0, 12, 0)])
def test_iso_cts_follows_the_paper(shape, fraction, common, of_task):
    assert spectral.common_directions(12, 3, fraction) == (common, of_task)
    matrices = noise(3, shape)
    same(iso_cts(matrices, fraction), reference_iso_cts(matrices, common, of_task))


def test_directions_of_iso_cts_add_up_to_all():
    for shortest in range(1, 40):
        for n in range(1, 9):
            for fraction in (0.0, 0.3, 0.8, 1.0):
                common, of_task = spectral.common_directions(shortest, n, fraction)
                assert common >= 0
                assert of_task >= 0
                assert common + n * of_task == shortest


def test_iso_cts_without_task_directions_is_iso_c():
    matrices = noise(4, (10, 14))
    same(iso_cts(matrices, 1.0), iso_c(matrices))


@pytest.mark.parametrize("shape", [(8, 14), (14, 8), (40, 8)])
@pytest.mark.parametrize("density", [1.0, 0.3])
@pytest.mark.parametrize("make", [noise, lambda seed, shape: low_rank(seed, shape, 2)])
def test_knots_follows_the_paper(make, shape, density):
    matrices = make(5, shape)
    for factors, normalize in (([1.0, 1.0, 1.0], True), ([1.0, 2.0, 0.5], True), ([1.0, 1.0, 1.0], False)):
        expected = reference_knots(matrices, density, factors, normalize)
        same(knots(matrices, "ties", density, factors, normalize), expected)


def test_knots_with_a_linear_merge_is_the_mean():
    for shape in SHAPES:
        matrices = noise(6, shape)
        same(knots(matrices, "linear"), sum(matrices) / 3)
        same(
            knots(matrices, "linear", factors=[1.0, 2.0, 3.0], normalize=False),
            sum(x * i for i, x in enumerate(matrices, 1)),
        )


@pytest.mark.parametrize("make", [noise, lambda seed, shape: low_rank(seed, shape, 1)])
@pytest.mark.parametrize("factors", [[1.0, 1.0, 1.0], [1.0, 0.0, 3.0]])
def test_wudi_is_adam_on_the_loss_of_the_paper(make, factors):
    matrices = [matrix.double() for matrix in make(7, (10, 14))]
    loss = wudi.quadratic(matrices, known(matrices), factors, torch.float64)
    assert loss.is_root == (make is not noise)
    merged = wudi.descend(sum(matrices), loss, 200, 1e-4)
    same(merged, reference_wudi(matrices, factors, 200, 1e-4), 1e-9 if make is noise else 1e-6)
    single = [matrix.to(torch.float32) for matrix in matrices]
    same(wudi.descend(sum(single), wudi.quadratic(single, known(single), factors), 200, 1e-4), merged, 1e-4)


def test_rows_of_wudi_are_optimised_piece_by_piece(monkeypatch):
    matrices = noise(8, (600, 4))
    loss = wudi.quadratic(matrices, known(matrices), [1.0] * 3)
    whole = wudi.descend(sum(matrices), loss, 20, 1e-4)
    monkeypatch.setattr(wudi, "PIECE", 1)
    same(wudi.descend(sum(matrices), loss, 20, 1e-4), whole, 1e-6)


@pytest.mark.parametrize("make", [noise, lambda seed, shape: low_rank(seed, shape, 2)])
def test_wudi_lowers_the_loss_to_its_minimum(make):
    matrices, factors = make(9, (10, 14)), [1.0, 1.0, 1.0]
    loss = wudi.quadratic(matrices, known(matrices), factors)
    total = sum(matrices)
    merged, best = wudi.descend(total, loss, 300, 1e-4), exact(matrices)
    losses = [float(reference_loss(d.double(), [m.double() for m in matrices], factors)) for d in (best, merged, total)]
    assert losses[0] < losses[1] < 0.5 * losses[2]
    assert losses[1] < float(reference_loss(total / 3, matrices, factors))
    for seed in range(5):
        nearby = best.double() + 1e-4 * noise(seed, best.shape, 1)[0].double()
        assert float(reference_loss(nearby, [m.double() for m in matrices], factors)) > losses[0]


# ---- planted tasks -------------------------------------------------------------------------------------------


def planted(n=3, rank=2, shape=(12, 16)):
    """Tasks of equal rank whose output and input directions are all orthogonal to one another."""
    u, v = orthogonal(1, shape[0]), orthogonal(2, shape[1])
    values = torch.linspace(3, 1, n * rank).double()
    blocks = [slice(i * rank, (i + 1) * rank) for i in range(n)]
    return [((u[:, b] * values[b]) @ v[:, b].T).to(torch.float32) for b in blocks]


@pytest.mark.parametrize("method", [tsv_m, exact])
def test_orthogonal_tasks_are_added_up(method):
    same(method(planted()), sum(planted()), 1e-6)


def test_tsv_m_of_overlapping_tasks_is_orthogonalised():
    u = torch.tensor([[1.0, 0.6], [0.0, 0.8], [0.0, 0.0]])
    tasks = [u[:, i : i + 1] @ torch.eye(4)[i : i + 1] * (i + 1) for i in range(2)]
    np.testing.assert_allclose(np.linalg.svd(tsv_m(tasks).numpy())[1][:2], [2, 1], rtol=1e-6)


@pytest.mark.parametrize("method", [tsv_m, knots, exact])
def test_one_task_is_returned(method):
    for shape in SHAPES:
        same(method(noise(1, shape, 1)), noise(1, shape, 1)[0], 1e-6)


def test_equal_tasks():
    (matrix,) = low_rank(3, (12, 16), 4, 1)
    for method in (tsv_m, knots, exact):
        same(method([matrix] * 3), matrix, 1e-5)
    same(iso_c([matrix] * 3), 3 * iso_c([matrix]))


def test_knots_keeps_what_low_rank_tasks_share_and_do_not_contest():
    """Two tasks that write to one common direction and one of their own: alignment separates the three."""
    e, f = torch.eye(6), torch.eye(8)
    shared = 4 * torch.outer(e[0], f[0])
    first, second = shared + 2 * torch.outer(e[1], f[1]), shared + torch.outer(e[2], f[2])
    turned = [orthogonal(3, 6).float() @ x @ orthogonal(4, 8).float() for x in (first, second)]
    merged = orthogonal(3, 6).float().T @ knots(turned) @ orthogonal(4, 8).float().T
    turned_back = torch.einsum("ij,ij->", merged, torch.outer(e[0], f[0]))
    assert float(turned_back) == pytest.approx(4, rel=1e-5)
    own = knots([first, second])
    same(own, shared + 2 * torch.outer(e[1], f[1]) + torch.outer(e[2], f[2]), 1e-5)


@pytest.mark.parametrize("method", [tsv_m, iso_c, iso_cts, knots, exact])
def test_zero_matrices(method):
    for shape in SHAPES:
        zero = torch.zeros(shape)
        assert torch.equal(method([zero, zero]), zero)
        assert torch.isfinite(method([noise(1, shape, 1)[0], zero])).all()


def test_a_zero_matrix_takes_a_share_of_tsv_m_and_no_direction():
    (matrix,) = low_rank(3, (12, 16), 4, 1)
    same(tsv_m([matrix, torch.zeros(12, 16)]), matrix)
    same(tsv_m([matrix, low_rank(4, (12, 16), 4, 1)[0]], [1.0, 0.0]), matrix)


def test_more_models_than_directions():
    tasks = noise(3, (2, 9), 5)
    merged = tsv_m(tasks)
    assert merged.shape == (2, 9)
    assert float(merged.norm()) > 0
    assert torch.isfinite(iso_cts(tasks, 0.5)).all()


# ---- invariances ---------------------------------------------------------------------------------------------

EVERY = [tsv_m, iso_c, iso_cts, knots, exact]


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
@pytest.mark.parametrize("make", [noise, lambda seed, shape: low_rank(seed, shape, 2)])
def test_the_order_of_the_tasks_does_not_matter(method, shape, make):
    a, b, c = make(1, shape)
    same(method([a, b, c]), method([c, a, b]))


@pytest.mark.parametrize("method", EVERY)
def test_scaling_all_tasks_scales_the_result(method):
    matrices = noise(1, (12, 20))
    for factor in (1e-4, 1e3, -1.0):
        same(method([factor * m for m in matrices]), factor * method(matrices))


@pytest.mark.parametrize("method", [tsv_m, iso_c, iso_cts, exact])
@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
@pytest.mark.parametrize("make", [noise, lambda seed, shape: low_rank(seed, shape, 2)])
def test_rotations_of_input_and_output_space_commute(method, shape, make):
    p, q = orthogonal(1, shape[0]), orthogonal(2, shape[1])
    matrices = make(2, shape)
    turned = [(p @ m.double() @ q).to(torch.float32) for m in matrices]
    same(method(turned), p @ method(matrices).double() @ q, 2e-4)


def test_rotations_of_the_output_space_commute_with_knots():
    p, matrices = orthogonal(1, 12), noise(2, (12, 20))
    same(knots([(p @ m.double()).to(torch.float32) for m in matrices]), p @ knots(matrices).double(), 1e-4)


@pytest.mark.parametrize("method", [tsv_m, iso_c, iso_cts])
def test_transposing_commutes_where_the_method_treats_both_sides_alike(method):
    matrices = noise(1, (12, 20))
    one, other = method([m.T.contiguous() for m in matrices]), method(matrices).T
    if method is iso_cts:
        assert float((one - other).norm()) > 1e-3 * float(other.norm())
    else:
        same(one, other)
