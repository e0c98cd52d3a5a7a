import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_llamas import byte_tokenizer, random_llama

from langmerge.analysis import neurons, units
from langmerge.analysis.__main__ import main
from langmerge.analysis.neurons import RANKINGS, ranking_of
from langmerge.analysis.observations import read_representation, read_summary
from langmerge.analysis.selection import select
from langmerge.observation.__main__ import main as observe
from langmerge.provenance import InputError, read_json, verify

DIRECTIONS = [{"source": "en", "target": "es"}, {"source": "en", "target": "de"}]
SITES = {"mlp_gate": 72, "mlp_product": 72, "attention": 48, "residual": 48, "embedding": 16}
OBSERVED = {
    "sentences": 24,
    "split": "dev",
    "align": "read",
    "blocks": 6,
    "sites": list(SITES),
    "pools": ["mean", "last"],
    "bins": 8,
    "pivot": "en",
    "prompt": {"template": "<{target_code}>{source}<{target_code}>", "format": "plain"},
    "directions": DIRECTIONS,
}
SPEC = {
    "neurons": "mutual_information",
    "rankings": list(RANKINGS),
    "top": 0.2,
    "permutations": 5,
    "seed": 1,
    "baseline": "base",
    "directions": DIRECTIONS,
}
CKA = ["span", "direction", "layer", "layers", "model_a", "model_b", "variant", "n", "cka", "cka_biased", "anc"]
CKA += ["null_mean", "null_high", "standard_error"]
ANGLES = ["span", "direction", "layer", "layers", "model_a", "model_b", "k", "n"]
NEURONS = ["model", "span", "ranking", "frozen", "layer", "language", "units", "share", "low", "high", "total_units"]
NEURONS += ["tokens", "warning"]
TURNOVER = ["model", "span", "language", "base_units", "units", "overlap", "gained", "lost", "jaccard", "ceiling"]
TABLES = ["units", "layers", "overlaps", "flows", "turnovers", "embedding_rows", "embedding_tokens"]
ANGLES += ["median_degrees", "null_degrees", "floor_degrees", "standard_error", "halves", "distance"]


@pytest.fixture
def observed(tmp_path, pairs):
    """Observe a model: ``observed("base", model's folder)``; with the baseline's folder, by its thresholds."""

    def command(label, model, baseline=None, **changes):
        inputs = {"model": str(model), **{f"pairs/{language}": str(folder) for language, folder in pairs.items()}}
        inputs |= {"thresholds": str(baseline)} if baseline else {}
        out, spec = tmp_path / "observations" / label, {**OBSERVED, **changes}
        observe(["--spec", json.dumps(spec), "--inputs", json.dumps(inputs), "--out", str(out), "--code", "c"])
        return out

    return command


@pytest.fixture
def run(tmp_path, observed):
    """Observe models by label, the base first, and compare them; the changes go to either spec."""

    def command(folders, **changes):
        seen = {key: value for key, value in changes.items() if key in OBSERVED}
        rest = {key: value for key, value in changes.items() if key in SPEC or key == "models"}
        base = observed("base", folders["base"], **seen) if "base" in folders else None
        places = {
            label: base if label == "base" else observed(label, folder, base, **seen)
            for label, folder in folders.items()
        }
        return compare(places, tmp_path / "out", **rest)

    return command


def compare(places, out, **changes):
    spec = {**SPEC, "models": list(places), **changes}
    inputs = {f"observations/{label}": str(folder) for label, folder in places.items()}
    main(["--spec", json.dumps(spec), "--inputs", json.dumps(inputs), "--out", str(out), "--code", "c"])
    return out


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

    own = pd.read_csv(out / "neurons.csv")
    assert list(own) == NEURONS
    assert list(own.model.unique()) == ["en-es", "base", "twin"]
    assert set(own.language) == {"es", "de"}
    for (model, _, frozen), rows in own.groupby(["model", "span", "frozen"]):
        assert rows.units.sum() == rows.total_units.iloc[0]
        if model != "en-es" or not frozen:  # by its own thresholds
            assert rows.units.sum() <= round(0.2 * 72)
        assert rows.share.sum() == pytest.approx(1)
    assert ((own.low <= own.units) & (own.units <= own.high)).all()
    assert own.warning.str.contains("fewer than 1000").all()  # so little text
    assert (own[own.model == "twin"].units.values == own[own.model == "base"].units.values).all()

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

    assert list(turnover) == TURNOVER
    state = read_representation(out.parent / "observations" / "base", "en-de", "target", "last", 3)
    assert (state.shape, state.dtype) == ((24, 16), torch.float32)
    summary = read_json(out / "summary.json")
    assert summary["same_sentences"]
    assert summary["fewest_tokens"]["target"] < 1000 and len(summary["warnings"]) == 2
    verify(out)
    assert set(read_json(out / "manifest.json")["inputs"]) == {f"observations/{label}" for label in folders}


def test_tables_of_every_site_and_ranking(run, save_model):
    base = random_llama(0)
    folders = {"base": save_model("base", base), "other": save_model("other", random_llama(1))}
    folders["twin"] = save_model("twin", base)
    out = run(folders)
    table = {name: pd.read_csv(out / f"{name}.csv") for name in TABLES}
    every = table["units"]
    assert set(every.site) == set(SITES) and set(every.ranking) == set(RANKINGS)
    keys = ["model", "span", "site", "ranking", "frozen"]
    for (_, _, site, ranking, frozen), rows in every.groupby(keys):
        assert rows.units.sum() == rows.total_units.iloc[0]
        assert len(rows) == 2 * (1 if site == "embedding" else 3)
        if ranking == "mutual_information" and not frozen:
            assert rows.units.sum() <= round(0.2 * SITES[site])
        assert rows.low.isna().all() == (ranking == "average_precision")
    assert (
        every.groupby(keys).size().groupby(keys[:-1]).size() == 2
    ).all()  # each by frozen and by refitted thresholds
    headline = every[(every.site == "mlp_gate") & (every.ranking == "mutual_information")]
    own = pd.read_csv(out / "neurons.csv")
    assert (
        headline[["units", "low", "high"]].fillna(-1).values == own[["units", "low", "high"]].fillna(-1).values
    ).all()

    layers = table["layers"]
    assert set(layers.site) == set(SITES) - {"embedding"} and set(layers.measure) == {"centre_of_mass", "ends"}
    one = layers[(layers.model == "other") & (layers.site == "residual") & (layers.ranking == "exclusivity")]
    one = one[(one.span == "target") & (one.language == "es") & one.frozen].set_index("measure").value
    n = every[(every.model == "other") & (every.site == "residual") & (every.ranking == "exclusivity")]
    n = n[(n.span == "target") & (n.language == "es") & n.frozen].sort_values("layer").units.to_numpy()
    assert one["centre_of_mass"] == pytest.approx((n[1] + 2 * n[2]) / (2 * n.sum()))
    assert one["ends"] == pytest.approx((n[0] + n[2]) / n.sum())

    flows = table["flows"]
    assert set(flows.model) == {"other", "twin"}
    for (model, _, site, _, kind), rows in flows.groupby(["model", "span", "site", "ranking", "kind"]):
        if kind == "set":
            assert rows.units.sum() == SITES[site] and len(rows) == 9
        if model == "twin":
            assert rows[rows.language_from != rows.language_to].units.sum() == 0
    turnovers = table["turnovers"]
    keys = ["model", "span", "site", "ranking"]
    single = flows[(flows.kind == "set") & ~flows.ranking.isin(["lape", "mount_doom"])]
    kept = single[single.language_from == single.language_to].set_index([*keys, "language_from"]).units
    for row in turnovers[turnovers.ranking.isin(set(single.ranking))].itertuples():
        assert row.overlap == kept[row.model, row.span, row.site, row.ranking, row.language]

    overlaps = table["overlaps"]
    alone = overlaps[overlaps.language_a == overlaps.language_b]
    sums = every.groupby([*keys, "frozen", "language"]).units.sum()
    assert all(r.units == sums[r.model, r.span, r.site, r.ranking, r.frozen, r.language_a] for r in alone.itertuples())
    rows = table["embedding_rows"]
    assert set(rows.measure) == {"exclusive_share", "entropy"}
    source = rows[(rows.span == "source") & (rows.measure == "exclusive_share")]
    assert (source.value == 0).all()  # the same English sentences
    tokens = table["embedding_tokens"]
    assert tokens[tokens.span == "source"].entropy.min() == pytest.approx(1)
    assert tokens[tokens.span == "target"].tokens.sum() == rows[(rows.span == "target")].n.sum() / 2


def test_a_further_measure_reads_the_same_observations(run, save_model, tmp_path):
    """Observations hold nothing of rankings: another one gives new tables and the same files below."""
    folders = {"base": save_model("base", random_llama(0)), "other": save_model("other", random_llama(1))}
    run(folders)
    places = {label: tmp_path / "observations" / label for label in folders}
    before = {label: (folder / "manifest.json").read_bytes() for label, folder in places.items()}
    out = compare(places, tmp_path / "more", neurons="exclusivity", rankings=["lape"])
    assert set(pd.read_csv(out / "units.csv").ranking) == {"exclusivity", "lape"}
    assert set(pd.read_csv(out / "neurons.csv").ranking) == {"exclusivity"}
    assert before == {label: (folder / "manifest.json").read_bytes() for label, folder in places.items()}


def test_base_has_its_own_thresholds_and_runs_repeat(run, save_model):
    folders = {"base": save_model("base", random_llama(0)), "other": save_model("other", random_llama(1))}
    out = run(folders, neurons="mount_doom", align="predict", permutations=0)
    first = read_json(out / "manifest.json")
    own = pd.read_csv(out / "neurons.csv")
    assert set(own.frozen) == {True, False}
    base = own[own.model == "base"]
    assert (base[base.frozen].units.values == base[~base.frozen].units.values).all()  # its own thresholds
    assert pd.read_csv(out / "cka.csv").null_mean.isna().all()
    assert read_json(run(folders, neurons="mount_doom", align="predict", permutations=0) / "manifest.json") == first


def test_models_that_cannot_be_compared_are_named(run, observed, save_model, tmp_path):
    """When they are observed with the baseline's thresholds, and again when observations are compared."""
    base = save_model("base", random_llama(0))
    foreign = byte_tokenizer()
    foreign.add_tokens(["ab"])
    odd = {
        "wide": (save_model("wide", random_llama(0, hidden_size=32)), "width = 32", r"width = 32, .* 'base' it is 16"),
        "deep": (save_model("deep", random_llama(0, num_hidden_layers=4)), "layers = 4", "layers = 4, .* is 3"),
        "foreign": (
            save_model("foreign", random_llama(0, vocab_size=300), foreign),
            "its tokens are not those of the baseline",
            "tokenizer of 'foreign' gives other tokens",
        ),
    }
    places = {"base": observed("base", base)}
    for label, (folder, first, second) in odd.items():
        with pytest.raises(InputError, match=first):
            observed(label, folder, places["base"])
        with pytest.raises(InputError, match=second):
            compare({**places, label: observed(label, folder)}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="expected the spec's directions"):
        compare(places, tmp_path / "out", directions=DIRECTIONS[:1])


def test_bad_specs_are_clear_errors(run, observed, save_model, tmp_path):
    base = save_model("base", random_llama(0))
    place = observed("base", base, sites=["mlp_gate"], bins=0)
    with pytest.raises(InputError, match="baseline: 'base' is not among"):
        compare({"other": place}, tmp_path / "out")
    with pytest.raises(InputError, match="rankings: expected one of"):
        compare({"base": place}, tmp_path / "out", rankings=["magic"])
    with pytest.raises(InputError, match=r"mlp_gate/histogram.*set `analysis.histograms`"):
        compare({"base": place}, tmp_path / "out", rankings=["average_precision"])
    with pytest.raises(InputError, match=r'--inputs: no "observations/base"'):
        main(["--spec", json.dumps({**SPEC, "models": ["base"]}), "--out", str(tmp_path / "out")])
    (place / "summary.json").write_text("{}")
    with pytest.raises(InputError, match=r"summary\.json: no observation"):
        read_summary(place)
    for key, value in (("align", "sideways"), ("sites", ["mlp_gate", "soul"]), ("pools", [])):
        with pytest.raises(InputError, match=f"{key}: expected one of"):
            observed("base", base, **{key: value})


def left_out(counts, tokens):
    return neurons.leave_one_out(counts, tokens)


def test_unit_counts_and_intervals_of_planted_neurons():
    generator = np.random.default_rng(0)
    tokens = np.full((3, 20), 400)
    rates = np.full((3, 2, 500), 0.2)
    rates[0, 1, :12] = 0.6  # twelve units of the first language, all in layer 1
    counts = generator.binomial(400, rates[:, None], (3, 20, 2, 500))
    ranking = ranking_of("mutual_information", 0.012)
    base = units.reference(counts, tokens, ranking, seed=1)
    rows = pd.DataFrame(units.unit_rows({}, ["a", "b", "c"], base.selection, 8000))
    planted = rows[(rows.layer == 1) & (rows.language == "a")].iloc[0]
    assert planted.low <= 12 <= planted.high
    assert planted.units == 12 and planted.share == 1
    assert (planted.tokens, planted.warning) == (8000, "")
    where = pd.DataFrame(units.layer_rows({}, ["a", "b", "c"], base.selection))
    centre = where[(where.language == "a") & (where.measure == "centre_of_mass")].iloc[0]
    assert (centre.value, centre.n) == (1, 12)
    assert math.isnan(centre.low) and math.isnan(centre.high)  # no block makes a difference
    assert where[where.language == "b"].value.isna().all()

    lost = counts.copy()
    lost[0, :, 1, :4] = counts[1, :, 1, :4]  # four units lose their preference
    lost[:, :, 1, 4:6] = counts[[1, 0, 2], :, 1, 4:6]  # two change from a to b
    found = select(left_out(lost, tokens), ranking, base.thresholds)
    gone = pd.DataFrame(units.turnover_rows({}, ["a", "b", "c"], base, found)).iloc[0]
    assert (gone.base_units, gone.overlap, gone.lost) == (12, 6, 6)
    assert gone.low <= gone.jaccard == 6 / 12 <= gone.high
    assert base.ceiling[0] > 0.95 and math.isnan(base.ceiling[1])
    flow = pd.DataFrame(units.flow_rows({}, ["a", "b", "c"], base.selection, found))
    moved = flow[flow.kind == "set"].set_index(["language_from", "language_to"])
    assert moved.units["a", "a"] == 6 and moved.units["a", "b"] == 2 and moved.low["a", "b"] == 1
    assert moved.units.sum() == 1000
    leaning = flow[flow.kind == "argmax"].groupby("language_from").units.sum()
    assert leaning["a"] == 12 and leaning["b"] == 0


def test_refitted_thresholds_differ_from_frozen_ones():
    generator = np.random.default_rng(0)
    tokens = np.full((3, 5), 1000)
    rates = generator.beta(1, 3, (3, 1, 2, 300))
    counts, quieter = (
        generator.binomial(1000, rates, (3, 5, 2, 300)),
        generator.binomial(1000, rates / 2, (3, 5, 2, 300)),
    )
    base = units.reference(counts, tokens, RANKINGS["lape"], seed=1)
    data = left_out(quieter, tokens)
    frozen, refitted = (select(data, RANKINGS["lape"], t).sets[0].sum() for t in (base.thresholds, None))
    assert frozen < 0.5 * refitted


def test_usage_alignment_is_a_cosine():
    vectors = {"a": np.array([[[1.0, 0.0]]] * 3), "b": np.array([[[1.0, 1.0]]] * 3)}
    row = next(units.usage_rows("target", vectors))
    assert row["nua"] == pytest.approx(np.sqrt(0.5))
    assert row["low"] == row["nua"] == row["high"]
