"""One unit that carries a language, and one that only fires in it: the table says which is which."""

import csv
import math

import numpy as np
import pytest
import torch
from scipy import stats

from langmerge import models
from langmerge.ablation.effects import bits_per_byte, effect
from langmerge.ablation.job import COLUMNS, down_projections, switched_off
from langmerge.ablation.units import language_sets, language_span, matched, random_sets
from langmerge.analysis.neurons import ranking_of
from langmerge.pairs import Direction, read_column
from langmerge.prompts import Prompt
from langmerge.provenance import InputError, read_json

CARRIER, IDLE = (1, 5), (1, 7)
RANKING = ranking_of("mutual_information", 0.05)


def read(out):
    with (out / "ablation.csv").open(encoding="utf-8") as file:
        return {(row["units_of"], row["language"]): row for row in csv.DictReader(file)}


def slow_bits(folder, prompt, sentences, silent=None):
    """Bits per byte of the targets, one sequence at a time, with one unit's product set to 0 by a hook."""
    tokenizer, model = models.load_tokenizer(folder), models.load_model(folder).eval()
    if silent:
        layer, unit = silent
        keep = torch.ones(24)
        keep[unit] = 0
        model.model.layers[layer].mlp.down_proj.register_forward_pre_hook(lambda m, inputs: (inputs[0] * keep,))
    nats, size = 0.0, 0
    for source, target in sentences:
        row = prompt.encode(tokenizer, source, target, "en", "es")
        with torch.no_grad():
            logits = model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        nats -= sum(float(logits[t - 1, row.ids[t]]) for t in range(*row.target))
        size += len(target.encode())
    return nats / math.log(2) / size


def test_the_carrier_carries_and_the_idle_unit_does_not(planted, ablate):
    out = ablate()
    rows = read(out)
    assert list(next(iter(rows.values()))) == list(COLUMNS)
    assert set(rows) == {(a, b) for a in ("es", "de") for b in ("es", "de")}
    assert all(row["units"] == "1" for row in rows.values())
    own = rows["es", "es"]
    assert float(own["low"]) > 1 and float(own["value"]) > float(own["null_high"])
    assert float(own["excess_low"]) > 1
    for place in (("de", "es"), ("de", "de")):  # the unit of de fires in de, and that is all
        assert float(rows[place]["value"]) == pytest.approx(0, abs=1e-6)
    # SiLU is not quite 0 where a gate is closed
    assert abs(float(rows["es", "de"]["value"])) < 0.02

    columns = {code: read_column(planted / "es" / "dev.jsonl", code) for code in ("en", "es")}
    sentences = [(columns["en"][f"s{i}"], columns["es"][f"s{i}"]) for i in range(16)]
    prompt = Prompt("<{source}>")
    intact = slow_bits(planted / "model", prompt, sentences)
    assert float(own["intact"]) == pytest.approx(intact, rel=1e-5)
    silent = slow_bits(planted / "model", prompt, sentences, CARRIER)
    assert float(own["value"]) == pytest.approx(silent - intact, rel=1e-4)
    assert own["n"] == "16" and int(own["bytes"]) == sum(len(target) for _, target in sentences)

    summary = read_json(out / "summary.json")
    assert summary["span"] == "target"
    assert summary["units"]["base"]["es"]["layers"] == [0, 1]
    found = summary["units"]["base"]["es"]
    assert found["random_frequency"] == pytest.approx(found["frequency"], abs=0.2)


def test_the_sets_are_the_planted_units(planted):
    folder = planted / "observation"
    sets, frequency = language_sets(folder, folder, RANKING, "target")
    assert np.argwhere(sets).tolist() == [[0, *CARRIER], [1, *IDLE]]
    assert frequency.shape == (2, 24)
    assert frequency[CARRIER] == pytest.approx(0.5, abs=0.01)  # always in es, never in de


def test_draws_differ_and_are_repeated_by_the_seed(planted, ablate):
    folder = planted / "observation"
    sets, frequency = language_sets(folder, folder, RANKING, "target")
    draws = random_sets(sets, frequency, 6, 1)
    assert np.array_equal(draws, random_sets(sets, frequency, 6, 1))
    assert len({draw.tobytes() for draw in draws[0]}) > 1
    assert not (draws & sets.any(0)).any()
    rows = read(ablate(draws=2))
    assert rows["es", "es"]["draws"] == "2"


# ---- units ---------------------------------------------------------------------------------------------------------


def test_matches_are_of_the_same_layer_and_fire_as_often():
    generator = np.random.default_rng(0)
    frequency = generator.uniform(0, 1, (3, 400))
    chosen = np.zeros((3, 400), dtype=bool)
    chosen[0, :20] = chosen[2, 100:105] = True
    free = ~chosen
    for seed in range(5):
        found = matched(chosen, free, frequency, np.random.default_rng(seed))
        assert found.sum(1).tolist() == [20, 0, 5]
        assert not (found & chosen).any()
        for layer in (0, 2):
            own, other = (np.sort(frequency[layer, units[layer]]) for units in (chosen, found))
            assert np.abs(own - other).max() < 0.06
    uniform = np.zeros((3, 400), dtype=bool)
    for seed in range(200):
        uniform |= matched(chosen, free, np.zeros((3, 400)), np.random.default_rng(seed))
    assert uniform[0].sum() > 20  # a tie is broken by chance


def test_too_few_units_to_compare_with():
    chosen = np.array([[True, True, True, False]])
    with pytest.raises(InputError, match=r"layer 0: 3 units of a language, and only 1 .*lower `top`"):
        matched(chosen, ~chosen, np.zeros((1, 4)), np.random.default_rng(0))


def test_the_span_that_tells_languages_apart():
    into, out_of = [Direction("es", "en"), Direction("de", "en")], [Direction("en", "es"), Direction("en", "de")]
    assert language_span(into, "en") == "source"
    assert language_span(out_of, "en") == language_span([*into, *out_of], "en") == "target"


def test_switched_off_units_come_back(make_model):
    model = make_model()
    weights = down_projections(model, 3, 24)
    before = [weight.clone() for weight in weights]
    units = np.zeros((3, 24), dtype=bool)
    units[0, [3, 7]] = units[2, 1] = True
    with pytest.raises(KeyError), switched_off(weights, units):
        assert not weights[0][:, [3, 7]].any() and not weights[2][:, 1].any()
        assert torch.equal(weights[1], before[1]) and weights[0].count_nonzero() == 22 * 16
        raise KeyError
    assert all(torch.equal(a, b) for a, b in zip(weights, before, strict=True))
    with pytest.raises(InputError, match=r"3 modules \*.mlp.down_proj .* 2 layers of 24 units were observed"):
        down_projections(model, 2, 24)


# ---- effects -------------------------------------------------------------------------------------------------------


def test_effects_are_ratios_of_sums_with_paired_intervals():
    generator = np.random.default_rng(0)
    n = 60
    sizes, blocks = generator.integers(10, 50, n), np.arange(n) % 6
    intact = generator.uniform(20, 90, n)
    off, random = intact + generator.normal(3, 1, n), intact + generator.normal(1, 1, (4, n))
    found = effect(intact, off, random, sizes, blocks)

    def bits(nats, keep=slice(None)):
        return nats[keep].sum() / np.log(2) / sizes[keep].sum()

    assert found.value == pytest.approx(bits(off) - bits(intact))
    each = [bits(draw) - bits(intact) for draw in random]
    assert found.null == pytest.approx(np.mean(each))
    half = stats.t.ppf(0.975, 3) * np.std(each, ddof=1) * np.sqrt(1.25)
    assert (found.null_low, found.null_high) == pytest.approx((np.mean(each) - half, np.mean(each) + half))
    assert found.excess == pytest.approx(found.value - found.null)
    left = np.array([bits(off - random.mean(0), blocks != g) for g in range(6)])
    half = stats.t.ppf(0.975, 5) * np.sqrt(5 / 6 * ((left - left.mean()) ** 2).sum())
    assert (found.excess_low, found.excess_high) == pytest.approx((found.excess - half, found.excess + half))
    assert bits_per_byte(intact, sizes, blocks)[0] == pytest.approx(bits(intact))


def test_intervals_cover_and_the_band_holds_another_draw():
    """Sentences differ far more than the effect: pairing removes that. 300 simulations."""
    n, inside, held = 80, [], []
    for seed in range(300):
        generator = np.random.default_rng(seed)
        sizes = np.full(n, 30)
        intact = generator.uniform(20, 200, n)
        true = 30 * np.log(2) * np.array([0.1, *generator.normal(0.02, 0.01, 6)])  # bits per byte of set and draws
        each = intact + true[:, None] + generator.normal(0, 2, (7, n))
        found = effect(intact, each[0], each[1:6], sizes, np.arange(n) % 20)
        inside.append(found.low <= 0.1 <= found.high)
        further = bits_per_byte(each[6] - intact, sizes, np.arange(n) % 20)[0]
        held.append(found.null_low <= further <= found.null_high)
    assert 0.91 <= np.mean(inside) <= 0.99
    assert 0.91 <= np.mean(held) <= 0.99


# ---- errors --------------------------------------------------------------------------------------------------------


def test_what_is_refused(ablate):
    with pytest.raises(InputError, match="ranking: average_precision ranks histograms"):
        ablate(ranking="average_precision")
    with pytest.raises(InputError, match="draws: expected 2 or more, found 1"):
        ablate(draws=1)
    with pytest.raises(InputError, match=r'--inputs: no "observations/base"'):
        ablate(drop=("observations/base",))
    with pytest.raises(InputError, match=r"directions \['en-es', 'en-de'\], expected \['en-de'\]"):
        ablate(directions=[{"source": "en", "target": "de"}])
    with pytest.raises(InputError, match="models: expected at least one"):
        ablate(models=[])


def test_no_units_make_a_table_without_rows(ablate):
    out = ablate(top=0.001)
    assert read(out) == {}
    assert (out / "ablation.csv").read_text().strip() == ",".join(COLUMNS)
    assert read_json(out / "summary.json")["units"]["base"]["es"]["frequency"] is None
