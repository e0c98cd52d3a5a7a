import numpy as np
import pytest

from langmerge import jackknife
from langmerge.analysis import neurons
from langmerge.analysis.neurons import RANKINGS, fit_thresholds, language_units, mutual_information, ranking_of
from langmerge.analysis.precision import average_precision
from langmerge.provenance import InputError

K, N = 4, 5000
TOKENS = np.full(K, N)


@pytest.fixture
def planted():
    """Probabilities [K, 10000] sampled from N tokens: 200 units that prefer a language, 3000 that hardly ever fire."""
    generator = np.random.default_rng(0)
    rates = np.tile(generator.uniform(0.1, 0.6, 10_000), (K, 1))
    rates[:, 200:3200] = 2 / N
    owner = np.arange(200) % K
    rates[:, :200] = 0.2
    rates[owner, np.arange(200)] = 0.4
    return generator.binomial(N, rates) / N, owner


def select(p, ranking, tokens=TOKENS):
    return language_units(p, tokens, ranking, fit_thresholds(p, tokens, ranking))


def test_mutual_information_finds_planted_units(planted):
    p, owner = planted
    units = select(p, ranking_of("mutual_information", 0.02))
    chosen = units.any(0)
    assert chosen.sum() == 200
    assert chosen[:200].mean() > 0.95  # precision and recall at 200
    assert (units.argmax(0)[:200] == owner)[chosen[:200]].all()
    assert units.sum(0).max() == 1


def test_mount_doom_ranks_dead_units_before_planted_ones(planted):
    p, _ = planted
    ranking = RANKINGS["mount_doom"]
    thresholds = fit_thresholds(p, TOKENS, ranking)
    ranked = -neurons.selectivity_entropy(p) >= thresholds.cut
    assert ranked[200:3200].sum() > 0.95 * ranked.sum()
    assert not select(p, ranking)[:, :200].any()


@pytest.mark.parametrize("name", ["lape", "mount_doom"])
def test_presets_are_the_papers_procedure(name):
    ranking = RANKINGS[name]
    p = np.random.default_rng(1).beta(1, 3, (3, 400))
    # Step by step as the papers say: filter, rank by entropy, bar
    values = np.sort(p.ravel())
    quotients = p / p.sum(0)
    entropy = -(quotients * np.log(quotients)).sum(0)
    if ranking.filter:
        entropy[(p <= values[round(ranking.filter * p.size) - 1]).all(0)] = np.inf
    best = np.argsort(entropy)[: round(ranking.top * 400)]
    expected = np.zeros_like(p, dtype=bool)
    for unit in best:
        for language in range(3):
            expected[language, unit] = p[language, unit] > values[round(ranking.bar * p.size) - 1]
    units = language_units(p, np.full(3, 1000), ranking, fit_thresholds(p, np.full(3, 1000), ranking))
    assert expected.any()
    assert np.array_equal(units & np.isfinite(entropy), expected & np.isfinite(entropy))


def test_mutual_information_is_unbiased_without_selectivity():
    n, k = 1000, 5
    p = np.random.default_rng(0).binomial(n, 0.3, (k, 20_000)) / n
    values = mutual_information(p, np.full(k, n))
    bias = (k - 1) / (2 * k * n * np.log(2))
    assert bias == pytest.approx(5.77e-4, rel=0.01)
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(20_000) + 0.01 * bias


def test_bias_with_unequal_token_counts():
    tokens = np.array([300, 1000, 5000])
    p = np.random.default_rng(0).binomial(tokens[:, None], 0.4, (3, 40_000)) / tokens[:, None]
    values = mutual_information(p, tokens)
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(40_000) + 1e-5


def test_mutual_information_limits():
    many = np.full(2, 10**9)
    assert mutual_information(np.array([[1.0], [0.0]]), many)[0] == pytest.approx(1, abs=1e-8)
    assert mutual_information(np.array([[0.5], [0.5]]), many)[0] == pytest.approx(0, abs=1e-8)
    assert neurons.selectivity_entropy(np.array([[0.2, 0.0, 0.3], [0.2, 0.0, 0.0]])) == pytest.approx([np.log(2), 0, 0])


@pytest.mark.parametrize("name", [name for name in RANKINGS if name != "average_precision"])
def test_nothing_is_selective_where_all_languages_read_alike(name):
    p = np.tile(np.random.default_rng(0).uniform(0, 1, 300), (K, 1))
    assert not select(p, ranking_of(name, 0.05)).any()


@pytest.mark.parametrize("name", ["lape", "mount_doom"])
def test_frozen_thresholds_see_what_refitted_ones_hide(name):
    ranking = RANKINGS[name]
    base = np.random.default_rng(2).beta(1, 3, (K, 500))
    frozen = fit_thresholds(base, TOKENS, ranking)
    quieter = base * 0.5  # the same preferences, half the firing
    assert np.array_equal(select(quieter, ranking), select(base, ranking))
    assert language_units(quieter, TOKENS, ranking, frozen).sum() < 0.5 * select(base, ranking).sum()


def test_frozen_bar_of_mutual_information():
    ranking = ranking_of("mutual_information", 0.1)
    base = np.random.default_rng(2).beta(1, 3, (K, 500))
    frozen = fit_thresholds(base, TOKENS, ranking)
    assert frozen.bar == pytest.approx(np.median(base), abs=1e-3)
    units = language_units(base * 0.3, TOKENS, ranking, frozen)
    assert (np.broadcast_to(base * 0.3, units.shape)[units] >= frozen.bar).all()
    assert units.sum() < language_units(base, TOKENS, ranking, frozen).sum() <= 50


@pytest.mark.parametrize("name", list(RANKINGS))
def test_units_that_lose_their_preference_leave_the_frozen_sets(name):
    """Half of 40 planted units turn into units of no language, at the same total firing; refitted sets hide that."""
    generator = np.random.default_rng(4)
    ranking = ranking_of(name, 0.08)
    rates = np.tile(generator.uniform(0.2, 0.4, 500), (K, 1))
    rates[:, :40] = 0.2
    rates[np.arange(40) % K, np.arange(40)] = 0.9
    base = generator.binomial(N, rates) / N
    after = base.copy()
    after[:, :20] = generator.binomial(N, np.tile(rates[:, :20].mean(0), (K, 1))) / N
    frozen = fit_thresholds(base, TOKENS, ranking)
    assert language_units(base, TOKENS, ranking, frozen)[:, :40].any(0).sum() >= 25
    kept = language_units(after, TOKENS, ranking, frozen)
    assert not kept[:, :20].any()
    assert kept[:, 20:40].sum() == language_units(base, TOKENS, ranking, frozen)[:, 20:40].sum()
    if not ranking.several:
        assert kept.sum() == 20 and select(base, ranking).sum() == 40
        assert select(after, ranking).sum() >= 30


def test_parts_of_the_sentences_keep_the_share_of_the_ranking():
    """Where nothing is selective, a cut from ten times the text lets in far more units than a part's own."""
    generator = np.random.default_rng(5)
    ranking, few = ranking_of("mutual_information", 0.02), TOKENS // 10
    noise = generator.binomial(N, 0.3, (K, 2000)) / N
    frozen = fit_thresholds(noise, TOKENS, ranking)
    part = generator.binomial(N // 10, 0.3, (K, 2000)) / (N // 10)
    # Half of the units pass the bar, the median firing probability
    assert neurons.part_units(part, few, ranking, frozen).sum() <= 40
    assert language_units(part, few, ranking, frozen).sum() > 200


def test_selectivity_index_and_exclusivity_by_their_formulas():
    p = np.random.default_rng(3).beta(1, 3, (K, 50))
    index, lead = neurons.selectivity_index(p), neurons.exclusivity(p)
    for unit in range(50):
        for k in range(K):
            others = [p[j, unit] for j in range(K) if j != k]
            mean = sum(others) / (K - 1)
            assert index[k, unit] == pytest.approx((p[k, unit] - mean) / (p[k, unit] + mean))
            assert lead[k, unit] == pytest.approx(p[k, unit] - max(others))
    limits = np.array([[0.3, 0.0, 0.2, 0.2], [0.0, 0.0, 0.2, 0.2], [0.0, 0.0, 0.2, 0.1]])
    assert neurons.selectivity_index(limits)[0] == pytest.approx([1, 0, 0, 0.05 / 0.35])
    assert neurons.exclusivity(limits)[:, 0] == pytest.approx([0.3, -0.3, -0.3])
    assert neurons.exclusivity(limits)[0] == pytest.approx([0.3, 0, 0, 0])
    assert neurons.exclusivity(p[:1]) == pytest.approx(p[:1])


@pytest.mark.parametrize("name", ["selectivity_index", "exclusivity"])
def test_other_rankings_find_planted_units_too(planted, name):
    """Exclusivity is noisiest among units that fire half of the time; the index sees relative leads at any rate."""
    p, owner = planted
    units = select(p, ranking_of(name, 0.02))
    assert units[:, 3200:].any(0).mean() < 0.02
    found = units.any(0)[:200]
    assert found.mean() > 0.95
    assert (units.argmax(0)[:200] == owner)[found].all()


def test_average_precision_is_that_of_a_ranked_list_with_ties():
    generator = np.random.default_rng(0)
    language, n, bins = generator.integers(0, 3, 200), 200, 16
    values = generator.integers(0, bins, (n, 5)) // 2 + 3 * (language[:, None] == np.arange(5) % 3)
    histogram = np.zeros((3, 5, 2 * bins))
    for sentence, row in zip(language, values, strict=True):
        for unit, value in enumerate(row):
            histogram[sentence, unit, value] += 1
    found = average_precision(histogram)
    for unit in range(5):
        for k in range(3):
            expected, recall = 0.0, 0.0
            for cut in sorted(set(values[:, unit]), reverse=True):
                above = values[:, unit] >= cut
                hits = (above & (language == k)).sum()
                expected += (hits / (language == k).sum() - recall) * hits / above.sum()
                recall = hits / (language == k).sum()
            assert found[k, unit] == pytest.approx(expected)


def test_average_precision_limits():
    apart = np.array([[[0, 0, 7]], [[4, 3, 0]]])
    assert average_precision(apart)[:, 0] == pytest.approx([1, (3 / 7) * 3 / 10 + (4 / 7) * 7 / 14])
    silent = np.array([[[0, 5, 0]], [[0, 15, 0]]])
    assert average_precision(silent)[:, 0] == pytest.approx([0.25, 0.75])
    assert np.isnan(average_precision(np.zeros((2, 1, 4)))).all()


def test_unknown_ranking_is_named():
    with pytest.raises(InputError, match="mount_doom, found 'magic'"):
        ranking_of("magic", 0.1)


def test_leave_one_out_is_counting_without_the_block():
    generator = np.random.default_rng(0)
    tokens = generator.integers(5, 20, (K, 6))
    tokens[:, 4] = 0
    counts = generator.binomial(tokens[..., None], 0.3, (K, 6, 10))
    found = neurons.leave_one_out(counts, tokens)
    assert len(found) == 1 + 5  # the empty block is none
    keep = [0, 1, 3, 4, 5]
    p, n = found[1 + 2]
    assert np.array_equal(n, tokens[:, keep].sum(1))
    assert p == pytest.approx(counts[:, keep].sum(1) / tokens[:, keep].sum(1)[:, None])


def test_split_half_ceiling_is_high_for_real_preferences_low_for_noise():
    generator = np.random.default_rng(0)
    tokens = np.full((K, 10), 500)
    rates = np.full((K, 2000), 0.2)
    noise = generator.binomial(500, rates[:, None], (K, 10, 2000))
    rates[np.arange(40) % K, np.arange(40)] = 0.6
    real = generator.binomial(500, rates[:, None], (K, 10, 2000))
    ranking = ranking_of("mutual_information", 0.02)
    for counts, low, high in ((real, 0.95, 1.0), (noise, 0.0, 0.2)):
        p, n = neurons.leave_one_out(counts, tokens)[0]
        ceiling = neurons.split_half(counts, tokens, ranking, fit_thresholds(p, n, ranking), seed=1)
        assert low <= ceiling.mean() <= high


def test_jaccard():
    a = np.array([[True, True, False], [False, False, False]])
    b = np.array([[True, False, True], [False, False, False]])
    assert neurons.jaccard(a, b)[0] == pytest.approx(1 / 3)
    assert np.isnan(neurons.jaccard(a, b)[1])


def test_jackknife_interval_of_clustered_rates_covers_the_planted_value():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        tokens = np.full((1, 20), 100)
        rates = generator.beta(3, 7, (1, 20, 1))  # blocks differ: tokens are no independent sample
        found = neurons.leave_one_out(generator.binomial(100, rates), tokens)
        p = np.array([value[0, 0] for value, _ in found])
        low, high = jackknife.interval(p[0], p[1:])
        hits += low <= 0.3 <= high
    assert 180 <= hits <= 199
