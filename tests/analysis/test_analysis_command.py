import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from tiny_llamas import byte_tokenizer, random_llama

from langmerge.analysis import tables
from langmerge.analysis.__main__ import main
from langmerge.analysis.neurons import RANKINGS, ranking_of
from langmerge.provenance import InputError, read_json, verify

SPEC = {
    "sentences": 24,
    "split": "dev",
    "neurons": "mutual_information",
    "top": 0.2,
    "align": "read",
    "blocks": 6,
    "permutations": 5,
    "seed": 1,
    "models": ["base", "en-es", "twin"],
    "baseline": "base",
    "pivot": "en",
    "prompt": {"template": "<{target_code}>{source}<{target_code}>", "format": "plain"},
    "directions": [{"source": "en", "target": "es"}, {"source": "en", "target": "de"}],
}
CKA = ["span", "direction", "layer", "layers", "model_a", "model_b", "variant", "n", "cka", "cka_biased", "anc"]
CKA += ["null_mean", "null_high", "standard_error"]
ANGLES = ["span", "direction", "layer", "layers", "model_a", "model_b", "k", "n"]
ANGLES += ["median_degrees", "null_degrees", "standard_error", "distance"]


@pytest.fixture
def run(tmp_path, pairs):
    def command(folders, **changes):
        spec = {**SPEC, **changes, "models": list(folders)}
        inputs = {f"models/{label}": str(folder) for label, folder in folders.items()}
        inputs |= {f"pairs/{language}": str(folder) for language, folder in pairs.items()}
        out = tmp_path / "out"
        main(["--spec", json.dumps(spec), "--inputs", json.dumps(inputs), "--out", str(out), "--code", "c"])
        return out

    return command


def test_tables_of_a_base_a_specialist_and_a_twin_of_the_base(run, save_model):
    base = random_llama(0)
    specialist = random_llama(0)
    with torch.no_grad():
        for parameter in specialist.model.layers[2].parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    folders = {"en-es": save_model("en-es", specialist), "base": save_model("base", base)}
    folders["twin"] = save_model("twin", base)
    out = run(folders)

    cka = pd.read_csv(out / "cka.csv")
    assert list(cka)[: len(CKA)] == CKA
    assert len(cka) == 3 * 3 * 2 * 2 * 4  # pairs, variants, directions, spans, layers
    twins = cka[(cka.model_a == "base") & (cka.model_b == "twin")]
    assert np.allclose(twins[["cka", "cka_biased", "anc"]], 1)
    other = cka[(cka.model_a == "en-es") & (cka.model_b == "base") & (cka.variant == "raw")]
    assert np.allclose(other[other.layer < 3].cka, 1)  # only the last block was changed
    assert (other[other.layer == 3].cka < 0.999).all()
    assert (cka.null_high > cka.null_mean).all()

    angles = pd.read_csv(out / "angles.csv")
    assert list(angles) == ANGLES
    assert len(angles) == 3 * 2 * 2 * 4
    assert set(angles.k) == {4} and set(angles.n) == {24}
    assert (angles[(angles.model_a == "base") & (angles.model_b == "twin")].distance < 1e-6).all()
    other = angles[(angles.model_a == "en-es") & (angles.model_b == "base")]
    assert (other[other.layer < 3].median_degrees < 1e-3).all()
    assert (other[other.layer == 3].median_degrees > 0.1).all()
    maps = pd.read_csv(out / "mds.csv")
    assert list(maps) == ["span", "direction", "layer", "model", "x", "y"]
    assert len(maps) == 2 * (2 + 1) * 4 * 3  # spans, directions and all of them, layers, models
    end = maps[(maps.layer == 3) & (maps.direction == "all") & (maps.span == "target")].set_index("model")[["x", "y"]]
    mean_square = (other[(other.layer == 3) & (other.span == "target")].distance ** 2).mean()
    assert np.allclose(end.loc["base"], end.loc["twin"], atol=1e-6)
    assert ((end.loc["base"] - end.loc["en-es"]) ** 2).sum() == pytest.approx(mean_square)

    units = pd.read_csv(out / "neurons.csv")
    assert list(units.model.unique()) == ["en-es", "base", "twin"]
    assert set(units.language) == {"es", "de"}
    assert units.frozen.all()
    for _, rows in units.groupby(["model", "span"]):
        assert rows.units.sum() == rows.total_units.iloc[0] <= round(0.2 * 72)
        assert rows.share.sum() == pytest.approx(1)
    assert ((units.low <= units.units) & (units.units <= units.high)).all()
    assert units.warning.str.contains("fewer than 1000").all()  # so little text
    assert (units[units.model == "twin"].units.values == units[units.model == "base"].units.values).all()

    turnover = pd.read_csv(out / "turnover.csv")
    assert set(turnover.model) == {"en-es", "twin"}
    assert (turnover.gained == turnover.units - turnover.overlap).all()
    assert (turnover.lost == turnover.base_units - turnover.overlap).all()
    twin = turnover[turnover.model == "twin"]
    assert np.allclose(twin.jaccard, 1)
    assert (turnover.ceiling < 1).all()

    usage = pd.read_csv(out / "usage.csv")
    pair = usage[(usage.model_a == "en-es") & (usage.model_b == "base")]
    assert np.allclose(pair[pair.layer < 2].nua, 1)
    assert (pair[pair.layer == 2].nua < 0.9999).all()

    with safe_open(out / "representations" / "base.safetensors", framework="pt") as file:
        state = file.get_tensor("en-de/target/3")
        assert (state.shape, state.dtype) == ((24, 16), torch.float32)
        assert json.loads(file.metadata()["layers"])[3] == "block 3, after the final norm"
    summary = read_json(out / "summary.json")
    assert summary["same_sentences"]
    assert summary["fewest_tokens"]["target"] < 1000 and len(summary["warnings"]) == 2
    cost = read_json(out / "cost.json")
    assert cost["tokens"] > 3 * 2 * 24 * 10 and cost["device"] == "cpu" and cost["flops"] > 0
    verify(out)
    assert set(read_json(out / "manifest.json")["inputs"]) == {
        *(f"models/{label}" for label in folders),
        "pairs/es",
        "pairs/de",
    }


def test_presets_report_frozen_and_refitted_units_and_runs_repeat(run, save_model):
    folders = {"base": save_model("base", random_llama(0)), "other": save_model("other", random_llama(1))}
    out = run(folders, neurons="mount_doom", align="predict", permutations=0)
    first = read_json(out / "manifest.json")
    units = pd.read_csv(out / "neurons.csv")
    assert set(units.frozen) == {True, False}
    base = units[units.model == "base"]
    assert (base[base.frozen].units.values == base[~base.frozen].units.values).all()  # its own thresholds
    assert pd.read_csv(out / "cka.csv").null_mean.isna().all()
    assert read_json(run(folders, neurons="mount_doom", align="predict", permutations=0) / "manifest.json") == first


def test_models_that_cannot_be_compared_are_named(run, save_model):
    base = save_model("base", random_llama(0))
    with pytest.raises(InputError, match=r"'wide' has .* = \(3, 32, 24\), 'base' has \(3, 16, 24\)"):
        run({"base": base, "wide": save_model("wide", random_llama(0, hidden_size=32))})
    with pytest.raises(InputError, match=r"'deep' has .* = \(4, 16, 24\)"):
        run({"base": base, "deep": save_model("deep", random_llama(0, num_hidden_layers=4))})
    foreign = byte_tokenizer()
    foreign.add_tokens(["ab"])
    with pytest.raises(InputError, match="tokenizer of 'foreign' gives other tokens"):
        run({"base": base, "foreign": save_model("foreign", random_llama(0, vocab_size=300), foreign)})


def test_bad_specs_are_clear_errors(run, save_model):
    base = save_model("base", random_llama(0))
    with pytest.raises(InputError, match="baseline: 'base' is not among"):
        run({"other": base})
    with pytest.raises(InputError, match="align: expected one of read, predict"):
        run({"base": base}, align="sideways")
    with pytest.raises(InputError, match="neurons: expected one of"):
        run({"base": base}, neurons="magic")


def test_unit_counts_and_intervals_of_planted_neurons():
    generator = np.random.default_rng(0)
    tokens = np.full((3, 20), 400)
    rates = np.full((3, 2, 500), 0.2)
    rates[0, 1, :12] = 0.6  # twelve units of the first language, all in layer 1
    counts = generator.binomial(400, rates[:, None], (3, 20, 2, 500))
    ranking = ranking_of("mutual_information", 0.012)
    base = tables.reference(counts, tokens, ranking, seed=1)
    rows = pd.DataFrame(tables.neuron_rows("m", "target", ["a", "b", "c"], counts, tokens, ranking, base.thresholds))
    planted = rows[(rows.layer == 1) & (rows.language == "a")].iloc[0]
    assert planted.low <= 12 <= planted.high
    assert planted.units == 12 and planted.share == 1
    assert (planted.tokens, planted.warning) == (8000, "")

    lost = counts.copy()
    lost[0, :, 1, :4] = counts[1, :, 1, :4]  # four units lose their preference
    gone = pd.DataFrame(tables.turnover_rows("f", "target", ["a", "b", "c"], lost, tokens, ranking, base)).iloc[0]
    assert (gone.base_units, gone.overlap, gone.lost) == (12, 8, 4)
    assert base.ceiling[0] > 0.95 and math.isnan(base.ceiling[1])


def test_refitted_thresholds_differ_from_frozen_ones():
    generator = np.random.default_rng(0)
    tokens = np.full((3, 5), 1000)
    rates = generator.beta(1, 3, (3, 1, 2, 300))
    counts, quieter = (
        generator.binomial(1000, rates, (3, 5, 2, 300)),
        generator.binomial(1000, rates / 2, (3, 5, 2, 300)),
    )
    base = tables.reference(counts, tokens, RANKINGS["lape"], seed=1)
    rows = tables.neuron_rows("m", "target", ["a", "b", "c"], quieter, tokens, RANKINGS["lape"], base.thresholds)
    totals = pd.DataFrame(rows).groupby("frozen").units.sum()
    assert totals[True] < 0.5 * totals[False]


def test_usage_alignment_is_a_cosine():
    vectors = {"a": np.array([[[1.0, 0.0]]] * 3), "b": np.array([[[1.0, 1.0]]] * 3)}
    row = next(tables.usage_rows("target", vectors))
    assert row["nua"] == pytest.approx(np.sqrt(0.5))
    assert row["low"] == row["nua"] == row["high"]
