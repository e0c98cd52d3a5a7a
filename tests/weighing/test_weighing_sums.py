"""Measures that are sums over entries: planted vectors, slow formulas written from the definitions, independence."""

import itertools
import math

import numpy as np
import pytest
import torch

from langmerge.weighing import sums
from langmerge.weighing.trimming import kept_entries, kth_largest


def weighed(deltas, density=1.0, base=None, specialists=None):
    deltas = torch.tensor(np.asarray(deltas), dtype=torch.float32)
    base = torch.ones(deltas.shape[1]) if base is None else torch.tensor(base, dtype=torch.float32)
    thresholds = kth_largest(lambda: [deltas], kept_entries(deltas.shape[1], density))
    return sums.of_block(base, deltas, thresholds, len(deltas) if specialists is None else specialists)


def pair(deltas, **options):
    return {name: measure.value[0, 1] for name, measure in sums.pair_measures(weighed(deltas, **options)).items()}


# ---- planted truth -------------------------------------------------------------------------------------------------


def test_orthogonal_vectors_that_share_no_entry():
    found = pair([[1, 2, 0, 0], [0, 0, 3, 4]])
    assert found["cosine"] == 0
    assert math.isnan(found["sign_conflict"]) and math.isnan(found["weighted_conflict"])  # never both changed
    assert found["interference"] == 1 and found["elect_loss"] == 0


def test_equal_vectors():
    found = pair([[1, -2, 3, -4]] * 2)
    assert found["cosine"] == pytest.approx(1)
    assert found["sign_conflict"] == found["weighted_conflict"] == found["elect_loss"] == 0
    assert found["interference"] == 1


def test_opposite_vectors():
    found = pair([[1, -2, 3, -4], [-1, 2, -3, 4]])
    assert found["cosine"] == pytest.approx(-1)
    assert found["sign_conflict"] == found["weighted_conflict"] == 1
    assert found["interference"] == 0 and found["elect_loss"] == 0.5


def test_the_conflict_is_counted_among_what_both_trims_keep():
    """Of four entries each trim keeps two; both keep the third alone, where the signs differ."""
    found = pair([[9, 1, 8, 2], [1, 9, -8, 2]], density=0.5)
    assert found["sign_conflict"] == 1
    assert found["weighted_conflict"] == pytest.approx(64 / (9 + 9 + 64 + 4))
    assert found["elect_loss"] == pytest.approx(8 / (9 + 8 + 9 + 8))


def test_an_unchanged_model():
    s = weighed([[0, 0, 0], [1, 2, 2]], base=[2, 1, 2])
    found = {name: measure.value for name, measure in sums.vector_measures(s).items()}
    assert found["norm"].tolist() == [0, 3] and found["drift"].tolist() == [0, 1]
    assert found["zero_share"].tolist() == [1, 0]
    assert math.isnan(found["redundant_share"][0]) and found["redundant_share"][1] == 0
    assert math.isnan(pair([[0, 0, 0], [1, 2, 2]])["cosine"])


def test_a_base_of_zeros_has_no_drift():
    assert math.isnan(sums.vector_measures(weighed([[1, 2]], base=[0, 0]))["drift"].value[0])


def test_redundant_share():
    found = sums.vector_measures(weighed([[3, -4, 0, 1, 1]], density=0.4))["redundant_share"].value[0]
    assert found == pytest.approx(2 / 27)


# ---- against the definitions ---------------------------------------------------------------------------------------


def slow(vectors, density):
    """Everything entry by entry, in plain Python."""
    entries, n = len(vectors[0]), len(vectors)
    count = max(1, int(density * entries))
    kept = []
    for vector in vectors:
        order = sorted(range(entries), key=lambda e, v=vector: -abs(v[e]))[:count]
        kept.append([vector[e] if e in order else 0.0 for e in range(entries)])
    found = {}
    for i, j in itertools.combinations(range(n), 2):
        a, b, ta, tb = vectors[i], vectors[j], kept[i], kept[j]
        norm = math.sqrt(sum(x * x for x in a) * sum(x * x for x in b))
        both = [(x, y) for x, y in zip(ta, tb, strict=True) if x and y]
        found["cosine", i, j] = sum(x * y for x, y in zip(a, b, strict=True)) / norm
        found["sign_conflict", i, j] = sum(x * y < 0 for x, y in both) / len(both) if both else math.nan
        weight = [(abs(x * y), x * y < 0) for x, y in zip(a, b, strict=True)]
        found["weighted_conflict", i, j] = sum(w for w, differs in weight if differs) / sum(w for w, _ in weight)
        found["interference", i, j] = cancelling([a, b])
        found["elect_loss", i, j] = elected([ta, tb])
    found["interference"], found["elect_loss"] = cancelling(vectors), elected(kept)
    return found


def cancelling(vectors):
    columns = list(zip(*vectors, strict=True))
    return sum(abs(sum(c)) for c in columns) / sum(abs(x) for c in columns for x in c)


def elected(vectors):
    """TIES: per entry the sign of the sum wins; what has the other sign is lost."""
    lost = 0.0
    for column in zip(*vectors, strict=True):
        sign = 1 if sum(column) >= 0 else -1
        lost += sum(abs(x) for x in column if x * sign < 0)
    return lost / sum(abs(x) for vector in vectors for x in vector)


@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_the_definitions(generator, density):
    vectors = generator.standard_normal((4, 60)).astype(np.float32) * [[1], [2], [0.5], [3]]
    s = weighed(vectors, density)
    expected = slow(np.float32(vectors).astype(float).tolist(), density)
    found = sums.pair_measures(s) | {}
    for (name, i, j), value in ((key, v) for key, v in expected.items() if isinstance(key, tuple)):
        assert found[name].value[i, j] == pytest.approx(value, abs=1e-12, nan_ok=True), (name, i, j)
    for name, measure in sums.joint_measures(s, 4).items():
        assert measure.value == pytest.approx(expected[name], abs=1e-12)


def test_permuting_entries_and_scaling_all_changes_no_ratio(generator):
    vectors = generator.standard_normal((3, 50)).astype(np.float32)
    plain, moved = (sums.pair_measures(weighed(v, 0.3)) for v in (vectors, 8 * vectors[:, generator.permutation(50)]))
    for name, measure in plain.items():
        assert np.triu(moved[name].value, 1) == pytest.approx(np.triu(measure.value, 1), abs=1e-12)


def test_models_may_come_in_any_order(generator):
    vectors = generator.standard_normal((3, 50)).astype(np.float32)
    plain, turned = (sums.pair_measures(weighed(v, 0.3)) for v in (vectors, vectors[::-1].copy()))
    for name, measure in plain.items():
        assert turned[name].value[0, 1] == pytest.approx(measure.value[1, 2], abs=1e-12)


# ---- chance --------------------------------------------------------------------------------------------------------


def test_the_null_is_that_of_independent_signs(generator):
    """Heavy tails at the same entries, where 1 / sqrt(N) would be far too small for the cosine."""
    sizes = np.abs(generator.standard_t(4, 300)) * generator.uniform(0.5, 2, (2, 300))
    s = weighed(sizes, 0.4)
    expected = sums.pair_measures(s)
    joint = sums.joint_measures(s, 2)
    drawn = [weighed(sizes * generator.choice([-1, 1], sizes.shape), 0.4) for _ in range(600)]
    for name, measure in expected.items():
        values = np.array([sums.pair_measures(draw)[name].value[0, 1] for draw in drawn])
        null = np.broadcast_to(measure.null, (2, 2))[0, 1]
        error = values.std() / math.sqrt(len(values))
        assert abs(values.mean() - null) < 4 * error, name
        if measure.deviation is not None:
            assert measure.deviation[0, 1] == pytest.approx(values.std(), rel=0.15), name
    assert expected["cosine"].deviation[0, 1] > 1.3 / math.sqrt(300)
    for name in ("interference", "elect_loss"):
        assert joint[name].null == pytest.approx(expected[name].null[0, 1])


@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_joint_null_for_any_number_of_models(generator, count):
    """Exact up to six; beyond that a mean over patterns."""
    vectors = generator.standard_normal((count, 4000))
    found = sums.joint_measures(weighed(vectors), count)["interference"]
    assert float(found.null) == pytest.approx(float(found.value), abs=0.02)
    if count == 1:
        assert found.value == found.null == 1


# ---- adding up -----------------------------------------------------------------------------------------------------


def test_blocks_add_up_to_the_whole(generator):
    vectors = torch.tensor(generator.standard_normal((4, 97)), dtype=torch.float32)
    base = torch.tensor(generator.standard_normal(97), dtype=torch.float32)
    thresholds = kth_largest(lambda: vectors.split(10, 1), kept_entries(97, 0.2))
    whole = sums.of_block(base, vectors, thresholds, 3)
    cut = sums.total(
        sums.of_block(b, v, thresholds, 3) for b, v in zip(base.split(10), vectors.split(10, 1), strict=True)
    )
    for name, a, b in zip(sums.Sums._fields, whole, cut, strict=True):
        assert b == pytest.approx(a, rel=1e-12, abs=1e-12), name


def test_leave_one_out(generator):
    parts = [weighed(generator.standard_normal((2, 20)) * 10.0**e) for e in (0, 8, -8)]
    found = sums.leave_one_out(sums.stack(parts))
    for left_out in range(3):
        rest = sums.total(part for i, part in enumerate(parts) if i != left_out)
        assert found.inner[1 + left_out] == pytest.approx(rest.inner, rel=1e-14)
    assert found.inner[0] == pytest.approx(sums.total(parts).inner)


@pytest.mark.parametrize("rank", [1, 2, 57, 200])
def test_the_threshold_is_the_value_itself(generator, rank):
    """Whatever the blocks; also among equal, tiny and zero values."""
    values = np.concatenate([generator.standard_normal((2, 150)), np.full((2, 30), 1e-42), np.zeros((2, 20))], 1)
    values = torch.tensor(values, dtype=torch.float32)
    expected = values.abs().sort(dim=1, descending=True).values[:, rank - 1]
    for size in (7, 200):
        assert torch.equal(kth_largest(lambda size=size: values.split(size, 1), rank), expected)
