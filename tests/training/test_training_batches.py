import numpy as np
import pytest

from langmerge.provenance import InputError
from langmerge.training.batches import POOL, Order, assemble, cut, first_fit
from langmerge.training.data import concatenate, flatten


def random_sequences(count, seed, low=3, high=30):
    random = np.random.default_rng(seed)
    rows = [random.integers(5, 100, random.integers(low, high)).tolist() for _ in range(count)]
    return flatten(rows, [int(random.integers(1, len(row))) for row in rows])


@pytest.fixture
def parts():
    return [random_sequences(500, 0), random_sequences(200, 1, 10, 60)]


def order(parts, weights=(1, 1), tokens=300, seed=0, **more):
    return Order(parts, weights, tokens, seed, **more)


def test_a_step_does_not_depend_on_the_steps_before(parts):
    forward, late = order(parts), order(parts)
    seen = [forward.step(step).tolist() for step in range(3 * POOL)]
    assert late.step(2 * POOL + 5).tolist() == seen[2 * POOL + 5]
    assert order(parts, seed=1).step(0).tolist() != seen[0]


def test_every_sequence_comes_once_an_epoch():
    part = random_sequences(400, 0)
    tokens = int(part.lengths.sum())
    # Two pools are one epoch, so that pools end where epochs do.
    steps = order([part], [1], tokens / 2 / POOL)
    epoch = np.concatenate([steps.step(step) for step in range(2 * POOL)])
    assert sorted(epoch.tolist()) == list(range(400))
    again = np.concatenate([steps.step(step) for step in range(2 * POOL, 4 * POOL)])
    assert sorted(again.tolist()) == list(range(400))
    half = len(epoch) // 2
    assert set(again[:half].tolist()) != set(epoch[:half].tolist())  # another permutation, not only other batches


def test_weights_are_shares_of_the_tokens(parts):
    steps = order(parts, (3, 1))
    lengths = concatenate(parts).lengths
    drawn = np.concatenate([steps.step(step) for step in range(20 * POOL)])
    share = lengths[drawn[drawn < 500]].sum() / lengths[drawn].sum()
    assert share == pytest.approx(0.75, abs=0.01)


def test_steps_have_about_batch_tokens(parts):
    for sort in (True, False):
        steps = order(parts, tokens=1000, sort=sort)
        sizes = [steps.lengths[steps.step(step)].sum() for step in range(10 * POOL)]
        assert np.mean(sizes) == pytest.approx(1000, rel=0.02)
        assert np.max(np.abs(np.array(sizes) - 1000)) < 150


def test_sorted_steps_pad_little(parts):
    def padding(sort):
        steps, sequences = order(parts, tokens=1000, sort=sort), concatenate(parts)
        batches = [assemble(sequences, steps.step(step), 0) for step in range(POOL)]
        return sum(batch.ids.size for batch in batches) / sum(batch.tokens for batch in batches) - 1

    assert padding(True) < 0.1 < 0.5 < padding(False)


def test_micro_batches_divide_the_step(parts):
    steps = order(parts, tokens=1000, least=4)
    pieces = steps.micro_batches(7, 4)
    assert np.concatenate(pieces).tolist() == steps.step(7).tolist()
    sums = [steps.lengths[piece].sum() for piece in pieces]
    assert max(sums) - min(sums) <= 2 * steps.lengths.max()


def test_cut_leaves_no_part_empty():
    random = np.random.default_rng(0)
    for _ in range(300):
        n = int(random.integers(1, 12))
        lengths = random.integers(1, 1000, n) ** int(random.integers(1, 3))
        parts = int(random.integers(1, n + 1))
        slices = cut(lengths, parts)
        assert len(slices) == parts
        assert all(piece.stop > piece.start for piece in slices)
        assert [i for piece in slices for i in range(piece.start, piece.stop)] == list(range(n))


def test_too_small_a_batch_is_an_error(parts):
    with pytest.raises(InputError, match="batch_tokens 20 is too small"):
        order(parts, tokens=20)


def test_first_fit_places_documents_apart():
    lengths = np.random.default_rng(0).integers(1, 40, 300)
    row, start = first_fit(lengths, 64)
    taken = np.zeros((max(row) + 1, 64), int)
    for r, s, length in zip(row, start, lengths, strict=True):
        taken[r, s : s + length] += 1
        assert s + length <= 64
    assert taken.max() == 1
    assert lengths.sum() / taken.size > 0.95  # first-fit decreasing wastes little


@pytest.mark.parametrize("context", [None, 64])
def test_a_batch_asks_for_the_right_tokens(parts, context):
    sequences, indices = parts[0], np.arange(40, 60)
    batch = assemble(sequences, indices, pad=0, context=context)
    expected = []
    for i in indices:
        row = sequences.tokens[sequences.offsets[i] : sequences.offsets[i + 1]]
        first = sequences.first[i]
        expected += [row[: t + 1].tolist() for t in range(first, len(row))]
    ids = batch.ids.reshape(-1)
    found = []
    for where, label in zip(batch.where, batch.labels, strict=True):
        width = batch.ids.shape[1]
        depth = where % width if batch.positions is None else batch.positions.reshape(-1)[where]
        found.append([*ids[where - depth : where + 1].tolist(), int(label)])
    assert sorted(found) == sorted(expected)
    assert batch.tokens == sequences.lengths[indices].sum() == (ids != 0).sum()


def test_packed_positions_restart_with_documents_and_padding():
    sequences = flatten([[5, 6, 7], [8, 9], [4, 4, 4, 4, 4, 4]], [1, 1, 1])
    batch = assemble(sequences, np.arange(3), pad=0, context=7, least_rows=3)
    assert batch.ids.tolist() == [[4, 4, 4, 4, 4, 4, 0], [5, 6, 7, 8, 9, 0, 0], [0] * 7]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4, 5, 0], [0, 1, 2, 0, 1, 0, 1], [0, 1, 2, 3, 4, 5, 6]]
