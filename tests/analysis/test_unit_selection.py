"""Tables of units on planted sets, against plain loops."""

import numpy as np
import pandas as pd
import pytest

from langmerge.analysis import embedding, neurons, selection, units
from langmerge.analysis.neurons import ranking_of
from langmerge.analysis.observations import Rows
from langmerge.analysis.selection import Selection, select

NAMES = ["a", "b", "c"]


def chosen(sets, leaning):
    """A selection without blocks from sets [K, layer, unit]."""
    sets = np.array(sets, dtype=bool)[None]
    most = np.array(leaning)[None]
    return Selection(sets, np.where(sets.any(1), most, sets.shape[1]).astype(np.int8), most.astype(np.int8))


def test_flows_between_states():
    before = chosen([[[1, 1, 0, 0]], [[0, 0, 1, 0]], [[0, 0, 0, 0]]], [[0, 0, 1, 2]])
    after = chosen([[[1, 0, 0, 0]], [[0, 1, 0, 0]], [[0, 0, 0, 1]]], [[0, 1, 2, 2]])
    assert selection.flows(before, after)[0].tolist() == [[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]]
    assert selection.leanings(before, after)[0].tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]
    same = selection.flows(before, before)[0]
    assert np.array_equal(same, np.diag(np.diag(same))) and same.sum() == 4


def test_depth_and_overlap():
    sets = np.zeros((2, 5, 10), dtype=bool)
    sets[0, 0, :3] = sets[0, 4, :1] = True  # three units at the bottom, one at the top
    sets[1, 0, 2:4] = True
    found = chosen(sets, np.zeros((5, 10), dtype=int))
    assert selection.centres(found)[0] == pytest.approx([1 * 4 / (4 * 4), 0])
    assert selection.end_layers(5) == [0, 4] and selection.end_layers(36) == [0, *range(30, 36)]
    assert selection.ends(found)[0] == pytest.approx([1, 1])
    both, similarity = selection.overlaps(found)
    assert both[0].tolist() == [[4, 1], [1, 2]]
    assert similarity[0] == pytest.approx(np.array([[1, 1 / 5], [1 / 5, 1]]))
    nothing = chosen(np.zeros((2, 1, 4)), np.zeros((1, 4), dtype=int))
    assert np.isnan(selection.centres(nothing)).all() and np.isnan(selection.ends(nothing)).all()
    assert np.isnan(selection.overlaps(nothing)[1]).all()


def test_without_a_block_is_counting_without_it():
    generator = np.random.default_rng(0)
    tokens = np.full((3, 4), 300)
    counts = generator.binomial(300, generator.uniform(0, 1, (3, 1, 2, 60)), (3, 4, 2, 60))
    ranking = ranking_of("mutual_information", 0.3)
    whole = units.reference(counts, tokens, ranking, seed=1)
    assert whole.selection.sets.shape == (5, 3, 2, 60)
    for block in range(4):
        keep = [g for g in range(4) if g != block]
        part = select(neurons.leave_one_out(counts[:, keep], tokens[:, keep])[:1], ranking, whole.thresholds)
        assert np.array_equal(whole.selection.sets[1 + block], part.sets[0])
        assert np.array_equal(whole.selection.leaning[1 + block], part.leaning[0])


def test_interval_of_a_flow_covers_the_planted_number():
    """Forty units of a turn to b; a rate between those of both languages makes some of the moves uncertain."""
    hits, widths = 0, []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        tokens = np.full((3, 20), 150)
        rates = np.full((3, 1, 300), 0.2)
        rates[0, 0, :60] = 0.5
        after = rates.copy()
        after[0, 0, :40], after[1, 0, :40] = 0.2, 0.5
        ranking = ranking_of("mutual_information", 0.2)
        draws = [generator.binomial(150, r[:, None], (3, 20, 1, 300)) for r in (rates, after)]
        base = units.reference(draws[0], tokens, ranking, seed=1)
        found = select(neurons.leave_one_out(draws[1], tokens), ranking, base.thresholds)
        flow = pd.DataFrame(units.flow_rows({}, NAMES, base.selection, found))
        row = flow[(flow.kind == "set") & (flow.language_from == "a") & (flow.language_to == "b")].iloc[0]
        hits += row.low <= 40 <= row.high
        widths.append(row.high - row.low)
    assert hits >= 57
    assert np.mean(widths) < 15


def test_interval_of_the_centre_of_mass_covers_the_truth():
    """Units as selective as the noise lets them be: which are found differs from sample to sample."""
    values, hits = [], 0
    generator = np.random.default_rng(0)
    rates = np.full((3, 4, 400), 0.2)
    rates[0] += np.where(generator.uniform(size=(4, 400)) < np.array([[0.05], [0.1], [0.2], [0.3]]), 0.035, 0)
    samples = []
    for seed in range(60):
        draw = np.random.default_rng(1000 + seed)
        counts = draw.binomial(250, rates[:, None], (3, 20, 4, 400))
        found = units.reference(counts, np.full((3, 20), 250), ranking_of("mutual_information", 0.16), seed=1)
        row = pd.DataFrame(units.layer_rows({}, NAMES, found.selection)).iloc[0]
        samples.append(row)
        values.append(row.value)
    truth = np.mean(values)  # what the estimator is an estimate of, at this much text
    hits = sum(row.low <= truth <= row.high for row in samples)
    assert hits >= 48
    assert truth > 0.55


@pytest.mark.parametrize("planted", [8, 14, 20])
def test_intervals_of_few_units_cover(planted):
    """Some units clear, some near the threshold: neither counts nor places are certain, whatever the jackknife says."""
    samples = []
    generator = np.random.default_rng(planted)
    rates = np.full((3, 2, 150), 0.2)
    strength = generator.uniform(0.02, 0.3, planted)
    for unit, more in enumerate(strength):
        rates[unit % 3, unit // 3 % 2, unit] += more
    ranking = ranking_of("mutual_information", planted / 300)
    thresholds = neurons.fit_thresholds(rates, np.full(3, 10**9), ranking)
    for seed in range(60):
        draw = np.random.default_rng(seed)
        counts = draw.binomial(60, rates[:, None], (3, 20, 2, 150))
        found = select(neurons.leave_one_out(counts, np.full((3, 20), 60)), ranking, thresholds)
        rows = pd.DataFrame(units.unit_rows({}, NAMES, found, 1200))
        flow = pd.DataFrame(units.flow_rows({}, NAMES, found, found))
        flow = flow[(flow.kind == "set") & (flow.language_from != units.NONE)]
        both = pd.DataFrame(units.overlap_rows({}, NAMES, found))
        both = both.rename(columns={"low": "_", "high": "__"})
        both = both.rename(columns={"units_low": "low", "units_high": "high"})
        place = pd.DataFrame(units.layer_rows({}, NAMES, found))
        counted = [table[["units", "low", "high"]].to_numpy(float) for table in (rows, flow, both)]
        samples.append((np.vstack(counted), place[["value", "low", "high"]].to_numpy(float)))
    numbers, places = (np.array(part) for part in zip(*samples, strict=True))
    value, low, high = np.moveaxis(numbers, 2, 0)
    assert (high >= value + 1).all() and (low <= np.maximum(value - 1, 0)).all() and (low >= 0).all()
    varying = value.std(0) > 0
    truth = value.mean(0)
    assert ((low <= truth) & (truth <= high))[:, varying].mean() >= 0.93
    value, low, high = np.moveaxis(places, 2, 0)
    truth, given = np.nanmean(value, 0), np.isfinite(low)
    assert (high > low)[given].all()
    assert ((low <= truth) & (truth <= high))[given].mean() >= 0.9


# ---- rows of the embedding -----------------------------------------------------------------------------------------


def test_exclusive_rows_and_entropies_of_planted_tokens():
    counts = np.array([[30, 70, 0, 0], [15, 0, 85, 0]])  # token 0 shared, 1 and 2 exclusive, 3 never seen
    assert embedding.shares(counts)[:, 0] == pytest.approx([0.3 / 0.45, 0.15 / 0.45])
    q = 0.3 / 0.45
    expected = -(q * np.log(q) + (1 - q) * np.log(1 - q)) / np.log(2)
    assert embedding.entropies(counts)[:3] == pytest.approx([expected, 0, 0])
    assert np.isnan(embedding.entropies(counts)[3])
    assert embedding.summaries(counts) == pytest.approx(np.array([[0.7, 0.85], [0.3 * expected, 0.15 * expected]]))
    more = counts * np.array([[1], [10]])  # ten times the text in one language changes no share
    assert embedding.shares(more) == pytest.approx(embedding.shares(counts))


def test_interval_of_the_exclusive_share_covers_the_planted_value():
    hits = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        share = generator.beta(30, 20, (2, 20, 1))  # of exclusive tokens, different in every block
        own = generator.binomial(200, share)
        blocks = np.concatenate([200 - own, own], 2)  # shared, exclusive
        rows = np.zeros((2, 2, 20, 3), dtype=np.int32)
        rows[:, :, :, 0] = blocks[:, None, :, 0]
        rows[0, :, :, 1], rows[1, :, :, 2] = blocks[0, :, 1], blocks[1, :, 1]
        found = pd.DataFrame(embedding.row_rows(["a", "b"], Rows(np.array([7, 8, 9]), rows)))
        row = found[(found.measure == "exclusive_share") & (found.span == "target")].iloc[0]
        hits += row.low <= 0.6 <= row.high
        assert (row.n, row.types, row.own_types) == (4000, 2, 1)
    assert 88 <= hits <= 99
