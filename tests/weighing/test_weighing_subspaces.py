"""Singular subspaces: planted overlaps, plain SVD, agreement of the streamed forms, calibration of the nulls."""

import math

import numpy as np
import pytest
import torch

from langmerge.weighing import alignment, nulls
from langmerge.weighing.alignment import Key
from langmerge.weighing.subspaces import SIDES, Exact, Sketch, share_rank

SHAPES = [(12, 9), (9, 12), (10, 10)]


def random_matrices(n, shape, seed=0, decay=0.0):
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(n):
        u, s, vh = torch.linalg.svd(torch.randn(shape, generator=generator, dtype=torch.float64), full_matrices=False)
        found.append(u * (s * torch.exp(-decay * torch.arange(len(s)))) @ vh)
    return torch.stack(found)


def blocks_of(matrices, size=4):
    axis = 1 if matrices.shape[1] >= matrices.shape[2] else 2
    return lambda: matrices.float().split(size, axis)


def exact(matrices, specialists=None, size=4):
    return Exact(blocks_of(matrices, size), tuple(matrices.shape[1:]), specialists or len(matrices))


def low_rank(left, values, right):
    return left * torch.tensor(values, dtype=torch.float64) @ right.T


def measured(found, name, a, b, side):
    return found[Key(name, a, b, side)].value


# ---- planted subspaces ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 20), (20, 40)])
@pytest.mark.parametrize("shared", [0, 1, 3])
def test_a_known_overlap(shape, shared):
    """Rank 3 each; `shared` left vectors in common, no right ones. Flat spectra: all 3 are needed for 95 %."""
    left = nulls.uniform_frame(shape[0], 6, torch.Generator().manual_seed(1))
    right = nulls.uniform_frame(shape[1], 6, torch.Generator().manual_seed(2))
    a = low_rank(left[:, :3], [1, 1, 1], right[:, :3])
    b = low_rank(left[:, 3 - shared : 6 - shared], [2, 2, 2], right[:, 3:])
    found = alignment.pair_measures(exact(torch.stack([a, b])), 2)
    assert measured(found, "sar", 0, 1, "left") == pytest.approx(math.sqrt(shared / 3), abs=1e-6)
    assert measured(found, "overlap", 0, 1, "left") == pytest.approx(shared / 3, abs=1e-6)
    assert measured(found, "sar", 0, 1, "right") == pytest.approx(0, abs=1e-6)
    assert found[Key("sar", 0, 1, "left")].null == pytest.approx(math.sqrt(3 / shape[0]))
    assert found[Key("overlap", 0, 1, "right")].null == pytest.approx(3 / shape[1])
    angle = measured(found, "median_degrees", 0, 1, "left")
    assert angle == pytest.approx(0 if shared >= 2 else 90, abs=0.05)


def test_a_tilted_subspace():
    """Two planes of 4 dimensions at 30 and 60 degrees."""
    cos, sin = (torch.tensor([f(math.radians(x)) for x in (30, 60)], dtype=torch.float64) for f in (math.cos, math.sin))
    eye = torch.eye(4, dtype=torch.float64)
    a, b = eye[:, :2], eye[:, :2] * cos + eye[:, 2:] * sin
    found = alignment.pair_measures(exact(torch.stack([low_rank(a, [1, 1], a), low_rank(b, [1, 1], a)])), 2)
    assert measured(found, "overlap", 0, 1, "left") == pytest.approx((0.75 + 0.25) / 2, abs=1e-6)
    assert measured(found, "median_degrees", 0, 1, "left") == pytest.approx(45, abs=1e-4)
    assert measured(found, "overlap", 0, 1, "right") == pytest.approx(1, abs=1e-6)


def test_a_matrix_in_its_own_span_and_scale_invariance():
    a = random_matrices(1, (14, 8))[0]
    found = alignment.pair_measures(exact(torch.stack([a, -3 * a])), 2)
    spectrum = alignment.spectrum_measures(exact(torch.stack([a, -3 * a])))
    for side in SIDES:
        assert measured(found, "sar", 0, 1, side) > 0.95
        assert measured(found, "overlap", 0, 1, side) == pytest.approx(1, abs=1e-5)
    assert spectrum[Key("stable_rank", 0)].value == pytest.approx(spectrum[Key("stable_rank", 1)].value)


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_ranks_of_a_flat_spectrum(rank):
    left = nulls.uniform_frame(20, rank, torch.Generator().manual_seed(0))
    right = nulls.uniform_frame(9, rank, torch.Generator().manual_seed(1))
    found = alignment.spectrum_measures(exact(low_rank(left, [0.1] * rank, right)[None]))
    for name in ("effective_rank", "stable_rank", "rank95"):
        assert found[Key(name, 0)].value == pytest.approx(rank, rel=1e-5)


def test_ranks_of_a_known_spectrum():
    found = alignment.spectrum_measures(exact(torch.diag(torch.tensor([4.0, 2, 1, 1]))[None]))
    p = np.array([4, 2, 1, 1]) / 8
    assert found[Key("effective_rank", 0)].value == pytest.approx(math.exp(-(p * np.log(p)).sum()))
    assert found[Key("stable_rank", 0)].value == pytest.approx(22 / 16)
    assert found[Key("rank95", 0)].value == 2  # sqrt(20 / 22) = .953
    assert share_rank(torch.tensor([4.0, 2, 1, 1]), 22, 0.96) == 3


def test_matrices_of_zeros_are_left_out():
    found = alignment.pair_measures(exact(torch.stack([torch.zeros(6, 5), torch.randn(6, 5)])), 2)
    assert all(math.isnan(value.value) for value in found.values())


# ---- task singular vectors -----------------------------------------------------------------------------------------


def test_singular_interference_of_orthogonal_and_of_equal_matrices():
    left = nulls.uniform_frame(16, 4, torch.Generator().manual_seed(1))
    right = nulls.uniform_frame(16, 4, torch.Generator().manual_seed(2))
    a, b = low_rank(left[:, :2], [3, 1], right[:, :2]), low_rank(left[:, 2:], [2, 1], right[:, 2:])
    assert alignment.singular_interference(exact(torch.stack([a, b])), (0, 1)) == pytest.approx(0, abs=1e-5)
    # U'U - I and V'V - I swap the two copies: what is left are the singular values, twice
    assert alignment.singular_interference(exact(torch.stack([a, a])), (0, 1)) == pytest.approx(8, rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_interference_by_its_formula(shape):
    matrices = random_matrices(3, shape, seed=3)
    r = min(shape) // 3
    u, s, v = [], [], []
    for matrix in matrices.float().double():
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        u.append(left[:, :r]), s.append(values[:r]), v.append(right[:r].T)
    u, s, v = torch.cat(u, 1), torch.cat(s), torch.cat(v, 1)
    eye = torch.eye(3 * r, dtype=torch.float64)
    expected = ((u.T @ u - eye) @ torch.diag(s) @ (v.T @ v - eye)).abs().sum()
    assert alignment.singular_interference(exact(matrices), (0, 1, 2)) == pytest.approx(float(expected), rel=1e-6)


# ---- against a plain SVD, streamed and sketched --------------------------------------------------------------------


def by_svd(matrices, i, j, side):
    """The alignment ratio of the paper and the cosines of angles, from full SVDs in float64."""
    spaces, ranks = [], []
    for matrix in (matrices[i], matrices[j]):
        u, s, vh = np.linalg.svd(matrix, full_matrices=False)
        k = int(np.argmax(np.sqrt(np.cumsum(s**2) / (s**2).sum()) > 0.95)) + 1
        spaces.append(u if side == "left" else vh.T)
        ranks.append(k)
    task = matrices[i] if side == "left" else matrices[i].T
    span = spaces[1][:, : ranks[1]]
    ratio = np.linalg.norm(span @ span.T @ task) / np.linalg.norm(task)
    k = min(ranks)
    cosines = np.linalg.svd(spaces[0][:, :k].T @ spaces[1][:, :k], compute_uv=False)
    return ratio, (cosines**2).mean(), np.degrees(np.median(np.arccos(cosines.clip(0, 1))))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 5, 100])
def test_a_plain_svd(shape, size):
    """Whatever the blocks: streaming equals the whole."""
    matrices = random_matrices(4, shape, seed=5)
    found = alignment.pair_measures(exact(matrices, 3, size), 3)
    plain = matrices.float().double().numpy()
    for i in range(3):
        for j in range(4):
            for side in SIDES:
                if i < j:
                    ratio, overlap, degrees = by_svd(plain, i, j, side)
                    assert measured(found, "sar", i, j, side) == pytest.approx(ratio, rel=1e-6)
                    assert measured(found, "overlap", i, j, side) == pytest.approx(overlap, rel=1e-6)
                    assert measured(found, "median_degrees", i, j, side) == pytest.approx(degrees, rel=1e-6)
                elif i > j:
                    assert measured(found, "sar", i, j, side) == pytest.approx(by_svd(plain, i, j, side)[0], rel=1e-6)
    assert Key("sar", 3, 0, "left") not in found  # a merge is no specialist


@pytest.mark.parametrize("shape", [(60, 30), (30, 60)])
def test_a_sketch_finds_what_decays(shape):
    matrices = random_matrices(3, shape, seed=7, decay=0.4)
    frames = exact(matrices, 2)
    sketch = Sketch(blocks_of(matrices, 7), shape, 2, q=16, seed=1)
    for a, b in ((frames, sketch), (exact(matrices, 2, 60), Sketch(blocks_of(matrices, 60), shape, 2, q=16, seed=1))):
        expected, found = alignment.pair_measures(a, 2), alignment.pair_measures(b, 2)
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            if key.measure != "tsv_interference":  # of 15 directions each, the last of which are mostly noise
                assert found[key].value == pytest.approx(value.value, rel=1e-3, abs=1e-3), key
                assert found[key].null == pytest.approx(value.null)
    ranks = alignment.spectrum_measures(sketch)
    assert ranks[Key("rank95", 0)] == alignment.spectrum_measures(frames)[Key("rank95", 0)]
    assert math.isnan(ranks[Key("effective_rank", 0)].value)


def test_a_sketch_says_where_it_does_not_reach():
    found = alignment.spectrum_measures(Sketch(blocks_of(random_matrices(1, (60, 40))), (60, 40), 1, q=5))
    assert math.isnan(found[Key("rank95", 0)].value)
    assert found[Key("stable_rank", 0)].value > 5


def test_a_sketch_of_all_directions_is_exact():
    matrices = random_matrices(3, (12, 8))
    found = alignment.pair_measures(Sketch(blocks_of(matrices), (12, 8), 2, q=50), 2)
    for key, value in alignment.pair_measures(exact(matrices, 2), 2).items():
        assert found[key].value == pytest.approx(value.value, rel=1e-6, abs=1e-4), key


# ---- chance --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "decay"), [((48, 32), 0.0), ((32, 48), 0.0), ((48, 32), 0.15)])
def test_independent_matrices_lie_at_the_null(shape, decay):
    """SAR - null is 0 on the average, and spreads as predicted; the ratio itself is far above 0."""
    drawn = {side: [] for side in SIDES}
    overlaps, angles = {side: [] for side in SIDES}, {side: [] for side in SIDES}
    predicted = {}
    for seed in range(60):
        spectra = [torch.exp(-decay * torch.arange(min(shape)))] * 2
        stack = nulls.independent(spectra, *shape, torch.Generator().manual_seed(seed))[:2]
        found = alignment.pair_measures(exact(stack, size=100), 2)
        for side in SIDES:
            for a, b in ((0, 1), (1, 0)):
                drawn[side].append(measured(found, "sar_minus_null", a, b, side))
            predicted[side] = found[Key("sar", 0, 1, side)], found[Key("overlap", 0, 1, side)]
            overlaps[side].append(measured(found, "overlap", 0, 1, side))
            angle = found[Key("median_degrees", 0, 1, side)]
            angles[side].append(angle.value - angle.null)
    for side in SIDES:
        ratio, overlap = predicted[side]
        values = np.array(drawn[side])
        assert abs(values.mean()) < 4 * max(values.std(), 1e-9) / math.sqrt(len(values)) + ratio.deviation**2
        assert values.std() == pytest.approx(ratio.deviation, rel=0.3, abs=1e-9)
        assert ratio.null > 0.35
        spread = np.array(overlaps[side])
        assert abs(spread.mean() - overlap.null) < 4 * spread.std() / math.sqrt(len(spread)) + 1e-9
        assert spread.std() == pytest.approx(overlap.deviation, rel=0.4, abs=1e-9)
        assert abs(np.mean(angles[side])) < 0.6 + 4 * np.std(angles[side]) / math.sqrt(60)


def test_a_merge_holds_its_members_better_than_the_plain_null_says():
    """What averaging independent specialists gives is the null for a merge."""
    spectra = [torch.exp(-0.15 * torch.arange(40))] * 4
    excess = []
    for seed in range(4):
        stack = nulls.independent(spectra, 40, 40, torch.Generator().manual_seed(seed))
        found = alignment.pair_measures(exact(stack, 4, 100), 4)
        excess += [measured(found, "sar_minus_null", i, 4, "left") for i in range(4)]
    assert np.mean(excess) > 0.05
    assert torch.allclose(stack[:4].mean(0), stack[4])
    for matrix in stack[:4]:
        assert torch.linalg.svdvals(matrix) == pytest.approx(spectra[0].double().numpy())


@pytest.mark.parametrize(("k", "d"), [(1, 2), (4, 40), (8, 17), (30, 40), (8, 8), (16, 500), (29, 48), (64, 128)])
def test_the_median_angle_of_random_subspaces(k, d):
    generator = np.random.default_rng(3)
    draws = [
        np.median(np.degrees(np.arccos(np.linalg.svd(
            np.linalg.qr(generator.standard_normal((d, k)))[0].T @ np.linalg.qr(generator.standard_normal((d, k)))[0],
            compute_uv=False).clip(0, 1))))
        for _ in range(100)
    ]  # fmt: skip
    tolerance = 0.6 + 4 * np.std(draws) / math.sqrt(len(draws))
    assert nulls.median_angle(k, d) == pytest.approx(np.mean(draws), abs=tolerance)


def test_uniform_frames_have_no_preferred_sign():
    generator = torch.Generator().manual_seed(0)
    frames = torch.stack([nulls.uniform_frame(3, 2, generator) for _ in range(2000)])
    assert torch.allclose(frames.mT @ frames, torch.eye(2, dtype=torch.float64).expand(2000, -1, -1), atol=1e-10)
    assert frames.mean(0).abs().max() < 0.06
