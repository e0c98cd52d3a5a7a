import numpy as np
import pytest
import torch

from langmerge.analysis import angles, halves


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(d, seed=9):
    return torch.linalg.qr(normal(d, d, seed=seed))[0]


def within(basis, n=80, seed=0):
    """Centred rows whose k leading right singular vectors span ``basis`` [d, k], with much weaker noise around."""
    d, k = basis.shape
    x = normal(n, k, seed=seed) @ basis.T + 1e-9 * normal(n, d, seed=seed + 1)
    return x - x.mean(0)


@pytest.mark.parametrize(("n", "d"), [(80, 40), (40, 80)])
def test_leading_directions_are_those_of_the_singular_value_decomposition(n, d):
    x = normal(3, n, d)
    vectors, values = angles.leading(x, 7)
    _, singular, right = torch.linalg.svd(x, full_matrices=False)
    assert torch.allclose(values, singular[:, :7] ** 2)
    assert torch.allclose(vectors.mT @ vectors, torch.eye(7, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(vectors @ vectors.mT, right[:, :7].mT @ right[:, :7], atol=1e-9)


def test_identical_and_orthogonal_subspaces():
    q = rotation(20)
    assert angles.principal_angles(q[:, :5], q[:, :5]).max() < 1e-14
    assert torch.allclose(angles.principal_angles(q[:, :5], q[:, 5:10]).rad2deg(), torch.full((5,), 90.0).double())


@pytest.mark.parametrize("planted", [[1e-12, 1e-9, 1e-5, 0.3], [0.1, 0.2, 0.7, 1.5], [1.0, 1.2, 1.57, np.pi / 2]])
def test_planted_angles_are_found_even_tiny_ones(planted):
    theta = torch.tensor(planted, dtype=torch.float64)
    k, q = len(theta), rotation(20)
    turned = q[:, :k] * theta.cos() + q[:, k : 2 * k] * theta.sin()
    bases = q[:, :k] @ rotation(k, seed=1), turned @ rotation(k, seed=2)  # other bases of the same subspaces
    found = angles.principal_angles(*bases)
    assert torch.allclose(found, theta, rtol=1e-6, atol=1e-14)
    assert torch.allclose(angles.principal_angles(*reversed(bases)), found, atol=1e-14)


def test_planted_rotation_of_representations():
    q, k = rotation(40), 10
    degrees = 25.0
    theta = np.radians(degrees)
    a, b = q[:, :k], q[:, :k] * np.cos(theta) + q[:, k : 2 * k] * np.sin(theta)
    stack = torch.stack([within(a), within(b, seed=5), within(q[:, 2 * k : 3 * k], seed=7)])
    found = angles.compare(stack, np.arange(80) % 8, seed=1)
    assert (found.k, found.n) == (10, 80)
    assert found.median[0, 1] == pytest.approx(degrees, abs=1e-5)
    assert found.distance[0, 1] == pytest.approx(np.sin(theta), abs=1e-7)
    assert found.median[0, 2] == pytest.approx(90, abs=1e-5)
    assert found.distance[0, 2] == pytest.approx(1)
    assert np.allclose(found.standard_error, 0, atol=1e-4)  # the subspaces are the same without any block
    assert (found.median == found.median.T).all() and (np.diag(found.median) == 0).all()


def test_no_mixing_scaling_or_shift_changes_the_subspace():
    x, y = normal(60, 16), normal(60, 16, seed=1)
    blocks = np.arange(60) % 6
    plain = angles.compare(torch.stack([x, y]), blocks, 1)
    changed = angles.compare(torch.stack([-7e3 * x + 40, 1e-3 * y[torch.randperm(60)]]), blocks, 1)
    assert changed.median[0, 1] == pytest.approx(plain.median[0, 1], rel=1e-6)
    mixed = normal(200, 8) @ normal(8, 8, seed=3)  # rows mixed among the sentences
    wide = torch.cat([mixed, torch.zeros(200, 24, dtype=torch.float64)], 1)
    other = torch.cat([normal(200, 8, seed=4), torch.zeros(200, 24, dtype=torch.float64)], 1)
    assert angles.compare(torch.stack([wide, other]), np.arange(200) % 5, 1).median[0, 1] < 1e-5


def test_twins_and_near_twins_have_finite_small_angles():
    x = normal(64, 32).float()
    found = angles.compare(torch.stack([x, x, x * (1 + 1e-7)]), np.arange(64) % 8, 1)
    assert found.median[0, 1] < 1e-6 and found.distance[0, 1] < 1e-8
    assert np.isfinite(found.median).all() and found.median.max() < 1e-3
    assert np.isfinite(found.standard_error).all()


def test_representations_with_too_few_dimensions_have_no_angles():
    flat = normal(64, 3) @ normal(3, 32, seed=1)  # rank 3 of k = 8
    x = normal(64, 32)
    found = angles.compare(torch.stack([x, flat, torch.zeros(64, 32), normal(64, 32, seed=2)]), np.arange(64) % 8, 1)
    assert np.isnan(found.median[1:3]).all() and np.isnan(found.standard_error[0, 1])
    assert np.isfinite([found.median[0, 3], found.standard_error[0, 3], found.distance[0, 3]]).all()


def test_null_is_the_angle_of_random_subspaces():
    found = angles.compare(torch.stack([normal(2000, 64, seed=s) for s in range(6)]), np.arange(2000) % 10, 1)
    medians = found.median[np.triu_indices(6, 1)]
    assert found.k == 16
    assert found.null == pytest.approx(medians.mean(), abs=1.5)
    line_in_the_plane = angles.random_median(1, 2, 1)  # uniform on 0 to 90 degrees
    assert abs(line_in_the_plane - 45) < 3 * 26 / np.sqrt(angles.DRAWS)
    assert angles.random_median(1, 2, 1) == line_in_the_plane
    assert angles.random_median(2, 400, 1) > 80 > angles.random_median(100, 400, 1)


def related(n, seed, noise, turn=None, d=40):
    """Two models of the same sentences: a falling spectrum, noise of the same shape, and if asked the second turned."""
    scale = torch.arange(1, d + 1, dtype=torch.float64) ** -0.5
    x = normal(n, d, seed=1000 + 2 * seed) * scale
    y = x + noise * normal(n, d, seed=1001 + 2 * seed) * scale
    return torch.stack([x, y if turn is None else y @ turn])


@pytest.mark.parametrize(("noise", "turned"), [(0.8, False), (0.2, False), (0.3, True)])
def test_the_error_is_the_spread_of_repeated_samples(noise, turned):
    turn = torch.linalg.qr(torch.eye(40, dtype=torch.float64) + 0.05 * normal(40, 40, seed=1))[0] if turned else None
    found = [angles.compare(related(160, seed, noise, turn), np.arange(160) % 20, 1) for seed in range(60)]
    spread = np.std([each.median[0, 1] for each in found], ddof=1)
    error = np.sqrt(np.mean([each.standard_error[0, 1] ** 2 for each in found]))
    assert 0.75 < error / spread < 1.45  # leaving out single blocks gives twice the spread


@pytest.mark.parametrize("noise", [0.8, 0.2])
@pytest.mark.parametrize("n", [80, 320])
def test_models_with_one_true_subspace_lie_at_their_floor_whatever_the_number_of_sentences(n, noise):
    found = [angles.compare(related(n, seed, noise), np.arange(n) % 10, seed) for seed in range(30)]
    angle, floor = (np.array([getattr(each, name)[0, 1] for each in found]) for name in ("median", "floor"))
    assert angle.mean() > 2  # biased: the true angle is 0
    assert abs((angle - floor).mean()) < 4 * (angle - floor).std() / np.sqrt(30) + 0.02 * angle.mean()
    assert (found[0].floor == found[0].floor.T)[0, 1]


def test_turned_models_lie_above_their_floor_and_twins_at_none():
    turn = torch.linalg.qr(torch.eye(40, dtype=torch.float64) + 0.1 * normal(40, 40, seed=1))[0]
    found = angles.compare(related(400, 0, 0.1, turn), np.arange(400) % 10, 1)
    assert found.median[0, 1] > found.floor[0, 1] + 5
    x = normal(80, 40)
    twins = angles.compare(torch.stack([x, 3 * x, related(80, 1, 0.2)[1]]), np.arange(80) % 10, 1, [(0, 1)])
    assert twins.floor[0, 1] < 1e-5 and np.isnan(twins.floor[0, 2])
    assert np.isnan(angles.compare(torch.stack([x, x]), np.arange(80) % 10, 1, []).floor).all()


def test_half_samples_are_of_whole_blocks():
    blocks = np.arange(60) % 6 * 7
    kept = halves.half_samples(blocks, 3)
    assert kept.shape == (halves.COUNT, 60) and len({tuple(half) for half in kept.tolist()}) == halves.COUNT
    for half in kept:
        assert half.sum() == 30 and set(blocks[half]).isdisjoint(blocks[~half])
    assert (halves.half_samples(blocks, 3) == kept).all()
    assert len(halves.half_samples(np.arange(4) % 2)) == 2 and len(halves.half_samples(np.zeros(5))) == 0
    assert np.isnan(halves.standard_error(np.zeros((0, 2)), np.zeros(5))).all()


@pytest.mark.parametrize("count", [20, 7])
def test_the_error_of_a_mean_is_the_usual_one(count):
    generator, errors = np.random.default_rng(0), []
    for seed in range(300):
        x, blocks = generator.normal(0, 1, 10 * count), np.arange(10 * count) % count
        values = np.array([x[half].mean() for half in halves.half_samples(blocks, seed)])
        errors.append(halves.standard_error(values, blocks))
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(1 / np.sqrt(10 * count), rel=0.08)


def test_error_is_near_that_of_all_directions():
    x = normal(120, 80) * torch.logspace(0, -1.5, 80, dtype=torch.float64)
    stack = torch.stack([x, *(x + 0.05 * normal(120, 80, seed=s) for s in range(1, 5))])
    blocks = np.arange(120) % 10
    quick = angles.compare(stack, blocks, 1)
    sampled = []
    for kept in halves.half_samples(blocks, 1):
        rest = stack[:, kept]
        right = torch.linalg.svd(rest - rest.mean(1, keepdim=True), full_matrices=False)[2][:, : quick.k].mT
        cross = torch.linalg.svdvals(right[:, None].mT @ right).clamp(max=1).acos()
        sampled.append(np.degrees(np.median(cross, axis=-1)))
    exact = np.std(sampled, axis=0, ddof=1)
    pairs = np.triu_indices(5, 1)
    assert quick.standard_error[pairs].mean() == pytest.approx(exact[pairs].mean(), rel=0.25)


def test_a_half_of_few_sentences_leaves_no_error():
    found = angles.compare(normal(2, 16, 16), np.array([0] * 13 + [1] * 3), 1)
    assert np.isfinite(found.median).all() and np.isnan(found.standard_error[0, 1])


def test_dimension_leaves_room():
    assert angles.dimension(512, 4096) == 64
    assert angles.dimension(128, 128) == 32
    assert angles.dimension(24, 16) == 4
    assert angles.dimension(4, 3) == 1
    with pytest.raises(ValueError, match="3 rows"):
        angles.compare(normal(2, 3, 5), np.zeros(3, dtype=int), 1)


# ---- maps ----------------------------------------------------------------------------------------------------------


def distances(points):
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


def test_scaling_recovers_planted_points():
    points = np.random.default_rng(0).normal(size=(7, 2)) * [3, 1]
    found = angles.scaling(distances(points))
    assert np.allclose(distances(found), distances(points))
    assert np.allclose(found.mean(0), 0)
    assert np.allclose(found[:, 0] @ found[:, 1], 0, atol=1e-9) and found[:, 0].std() > found[:, 1].std()
    turn = np.array([[np.cos(2), -np.sin(2)], [np.sin(2), np.cos(2)]])
    assert np.allclose(angles.scaling(distances(points @ turn * [1, 1] + 5)), found)  # signs are fixed


def test_scaling_of_few_or_undefined_distances():
    assert np.allclose(angles.scaling(np.zeros((1, 1))), 0)
    assert np.allclose(distances(angles.scaling(np.array([[0.0, 2.0], [2.0, 0.0]]))), [[0, 2], [2, 0]])
    assert np.allclose(angles.scaling(np.zeros((3, 3))), 0)
    assert np.isnan(angles.scaling(np.array([[0, np.nan], [np.nan, 0]]))).all()


def test_mapped_layers():
    assert angles.map_layers(36) == [0, 12, 24, 36]
    assert angles.map_layers(3) == [0, 1, 2, 3]
    assert angles.map_layers(1) == [0, 1]
