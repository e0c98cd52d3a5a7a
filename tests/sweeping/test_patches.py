"""Layer sets put back into a merge: which tensors, what is scored, and what share is restored."""

import csv
import json
import math
from itertools import combinations

import numpy as np
import pytest
import torch
from tiny_llamas import random_llama, save_result

from langmerge import models, provenance
from langmerge.evaluation.scoring import score_model
from langmerge.merging import Recipe, state_dicts
from langmerge.merging.reader import ModelFolder
from langmerge.provenance import InputError
from langmerge.sweeping.layer_sets import LayerSet, layer_sets, random_layers
from langmerge.sweeping.patch_table import Score, draw_counts, resampled, restored, rows
from langmerge.sweeping.patches import Patcher, Patches, main

LAYERS = 4
KINDS = ["single", "prefix", "suffix", "window", "random", "attention", "mlp.single", "norms", "embeddings", "outside"]
SETTINGS = {"window": 2, "draws": 2, "last": 1, "controls": 2, "seed": 42}


def sets(kinds=KINDS, n=LAYERS, **changes):
    return layer_sets(kinds, n, **{**SETTINGS, **changes})


def layers_of(found, kind):
    return [s.layers for s in found if s.kind == kind and not s.part]


# ---- which tensors ---------------------------------------------------------------------------------------------------


def test_every_layer_set_of_a_kind_is_there():
    found = sets()
    assert layers_of(found, "single") == [(0,), (1,), (2,), (3,)]
    assert layers_of(found, "prefix") == [(0,), (0, 1), (0, 1, 2), (0, 1, 2, 3)]
    assert layers_of(found, "suffix") == [(3,), (2, 3), (1, 2, 3), (0, 1, 2, 3)]
    assert layers_of(found, "window") == [(0, 1), (1, 2), (2, 3)]
    assert sorted(map(len, layers_of(found, "random"))) == [1, 1, 2, 2, 3, 3]
    assert [s.layers for s in found if s.kind == "single" and s.part == "mlp"] == [(0,), (1,), (2,), (3,)]
    assert layers_of(found, "last") == [(3,)]
    assert all(3 not in layers and len(layers) == 1 for layers in layers_of(found, "below"))
    assert len(found) == len(set(found))


def test_random_sets_differ_and_are_all_where_there_are_not_more():
    assert random_layers(4, 2, 6, 1) == list(combinations(range(4), 2))
    for size in range(1, 6):
        drawn = random_layers(6, size, 4, seed=3)
        assert len(set(drawn)) == 4
        assert drawn == random_layers(6, size, 4, seed=3)
    assert random_layers(6, 3, 4, seed=3) != random_layers(6, 3, 4, seed=99)


def test_kinds_partition_the_tensors():
    names = [f"model.layers.{i}.{part}.weight" for i in (0, 1, 10) for part in ("self_attn.q_proj", "mlp.up_proj")]
    names += [f"model.layers.{i}.input_layernorm.weight" for i in (0, 1, 10)]
    names += ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]

    def of(kind, layers=(), part=""):
        return LayerSet(kind, layers, part).tensors(names)

    assert of("none") == frozenset()
    assert of("all") == set(names)
    assert of("single", (1,)) == {n for n in names if ".1." in n}  # not layer 10
    every = [of(part, (0, 1, 10), part) for part in ("attention", "mlp", "norms")]
    assert frozenset.union(*every, of("outside")) == set(names)
    assert sum(map(len, every)) + len(of("outside")) == len(names)
    assert of("embeddings") == {"model.embed_tokens.weight"}
    assert of("head") == {"lm_head.weight"}
    assert of("mlp", (10,), "mlp") == {"model.layers.10.mlp.up_proj.weight"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kinds": ["singles"]}, "no layer set 'singles'"),
        ({"kinds": ["mlp.twice"]}, "no layer set 'mlp.twice'"),
        ({"kinds": ["window"], "window": 5}, "window: 5 layers of only 4"),
        ({"last": 5}, "5 of only 4 layers"),
        ({"last": 3, "controls": 1}, "only 1 are left"),
    ],
)
def test_impossible_sets_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        sets(**changes)


# ---- shares ----------------------------------------------------------------------------------------------------------


def planted(worth, draws=400, noise=0.0, gap=10.0, seed=0):
    """Scores of all sets where each layer restores a planted share of the gap."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=1 + draws)  # sentences that are easy for all systems
    shared[0] = 0
    found = {}
    for chosen in sets(["single", "prefix", "suffix", "random"], draws=6):
        share = {"none": 0.0, "all": 1.0}.get(chosen.kind, sum(worth[i] for i in chosen.layers))
        own = noise * rng.normal(size=1 + draws)
        own[0] = 0
        found[chosen] = Score(50 + gap * share + 3 * shared + own)
    return found


def table(scores, **more):
    parameters = dict.fromkeys(next(iter(scores.values())), 0.1)
    return [{**row, **more} for row in rows(scores, parameters, dict.fromkeys(scores, 9))]


def pick(found, kind, layers="", language="es"):
    (row,) = {
        json.dumps(r)
        for r in found
        if (r["kind"], r["layers"], r["language"], r["part"]) == (kind, layers, language, "")
    }
    return json.loads(row)


def test_planted_shares_are_found_and_pairing_removes_what_systems_share():
    worth = [0.5, 0.3, 0.1, 0.0]
    found = table({"es": planted(worth)})
    for i, share in enumerate(worth):
        row = pick(found, "single", str(i))
        assert row["value"] == pytest.approx(share)
        assert row["low"] == pytest.approx(share) == row["high"]  # although the scores' own draws vary by 3
        assert row["null"] == pytest.approx(np.mean(worth))
        assert row["excess"] == pytest.approx(share - np.mean(worth))
    assert pick(found, "prefix", "0 1")["value"] == pytest.approx(0.8)
    assert pick(found, "prefix", "0 1")["null"] == pytest.approx(np.mean([a + b for a, b in combinations(worth, 2)]))
    assert (pick(found, "none")["value"], pick(found, "all")["value"]) == (0, 1)
    assert math.isnan(pick(found, "all")["null"])
    last = pick(found, "last", "3")
    below = [worth[int(r["layers"])] for r in found if r["kind"] == "below"]
    assert last["null"] == pytest.approx(np.mean(below))
    assert last["excess"] == pytest.approx(0 - np.mean(below))
    assert all(math.isnan(r["null"]) for r in found if r["kind"] in ("random", "below"))


def test_mean_over_languages_is_the_share_of_mean_scores():
    found = table({"es": planted([0.5, 0.3, 0.1, 0.1], gap=30), "de": planted([0.0, 0.0, 0.0, 1.0], gap=10)})
    row = pick(found, "single", "3", "mean")
    assert row["value"] == pytest.approx((0.1 * 30 + 1.0 * 10) / 40)
    assert row["n"] == 18


def test_nothing_is_restored_where_merging_cost_nothing():
    noisy = table({"es": planted([1.0, 0, 0, 0], gap=0.5, noise=1.0)})
    assert math.isnan(pick(noisy, "single", "0")["value"])
    assert math.isnan(pick(noisy, "single", "0")["low"])
    clear = table({"es": planted([1.0, 0, 0, 0], gap=10, noise=1.0)})
    row = pick(clear, "single", "0")
    assert row["value"] == pytest.approx(1.0)
    assert row["low"] < 1 < row["high"]


def test_intervals_cover_the_true_share():
    """Sentences with planted errors (TER is linear in them): the true share is .4."""
    rng, n, covered = np.random.default_rng(5), 120, 0
    for trial in range(200):
        hard = rng.normal(0, 2, n)
        edits = {name: 20 - gain + hard + rng.normal(0, 2, n) for name, gain in (("m", 0), ("p", 2.0), ("e", 5.0))}
        counts = draw_counts([f"{trial}.{i}" for i in range(n)], 300, seed=1)
        m, p, e = (resampled("ter", np.stack([edits[k], np.full(n, 40.0)], 1), counts) for k in "mpe")
        share = restored(p, m, e)
        low, high = np.quantile(share[1:], [0.025, 0.975])
        covered += low <= 0.4 <= high
    assert covered >= 178  # 95 % of 200 less three standard errors


# ---- models ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("patched")
    found = {}
    for seed, name in enumerate(["merge", "en-es", "en-de"]):
        found[name] = save_result(random_llama(seed, num_hidden_layers=LAYERS), root / name)
    return found


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    for language, texts in {
        "es": ["el gato", "una casa", "no", "sol"],
        "de": ["die Katze", "ein Haus", "nein", "ja"],
    }.items():
        with provenance.result(root / language, {}, "", "") as job:
            lines = [{"id": str(i), "en": f"the {i}", language: text} for i, text in enumerate(texts)]
            (job.folder / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {language: root / language for language in ("es", "de")}


def spec(**changes):
    members = [
        {"model": f"en-{code}", "language": code, "direction": {"source": "en", "target": code}}
        for code in ("es", "de")
    ]
    return {
        "onto": ["merge"],
        "members": members,
        "sets": ["single", "suffix", "mlp", "head", "random"],
        "window": 2,
        "draws": 2,
        "layers": 1,
        "controls": 1,
        "seed": 42,
        "split": "test",
        "sentences": 3,
        "samples": 20,
        "bootstrap_seed": 1,
        "pivot": "en",
        "prompt": {"template": "<{source_code}> {source} <{target_code}>", "format": "plain"},
        "decode": {"batch_size": 8, "max_new_tokens": 6, "cut": None},
        "metrics": ["bleu", "chrf"],
        "languages": ["en", "es", "de"],
        **changes,
    }


def sources_of(folders):
    return {name: ModelFolder(name, folder) for name, folder in folders.items()}


def test_a_patch_is_what_the_engine_makes_whatever_came_before(folders):
    model = models.load_model(folders["merge"])
    patcher = Patcher(model, sources_of(folders))
    order = [("en-es", (0, 1)), ("en-es", (1, 3)), ("en-de", (3,)), ("en-de", ()), ("en-es", (2,))]
    for donor, layers in order:
        patcher.put("merge", donor, LayerSet("single", layers).tensors(patcher.names))
        parameters = {"layers": list(layers)} if layers else None
        recipe = (
            Recipe("p", "layer_patch", ("merge", donor), None, parameters)
            if parameters
            else Recipe("p", "linear", ("merge",))
        )
        (expected,) = state_dicts([recipe], folders)
        state = model.state_dict()
        assert all(torch.equal(state[name], weight) for name, weight in expected.state_dict.items())


def test_only_what_changes_is_read(folders):
    patcher = Patcher(models.load_model(folders["merge"]), sources_of(folders))
    a_layer = len(LayerSet("single", (0,)).tensors(patcher.names))
    assert patcher.put("merge", "en-es", frozenset()) == len(patcher.names)
    assert patcher.put("merge", "en-es", LayerSet("prefix", (0,)).tensors(patcher.names)) == a_layer
    assert patcher.put("merge", "en-es", LayerSet("prefix", (0, 1)).tensors(patcher.names)) == a_layer
    assert patcher.put("merge", "en-de", LayerSet("single", (0,)).tensors(patcher.names)) == 2 * a_layer


def test_the_command_scores_every_set_in_the_specialists_direction(folders, corpora, tmp_path):
    inputs = {f"models/{n}": str(f) for n, f in folders.items()} | {f"pairs/{c}": str(f) for c, f in corpora.items()}
    out = tmp_path / "out"
    main(["--spec", json.dumps(spec()), "--inputs", json.dumps(inputs), "--out", str(out)])
    with (out / "patches.csv").open() as file:
        found = list(csv.DictReader(file))
    summary = provenance.read_json(out / "summary.json")
    assert summary["layers"] == LAYERS
    assert {r["language"] for r in found} == {"es", "de", "mean"}
    assert {r["direction"] for r in found if r["language"] == "es"} == {"en-es"}
    # Sets with the same tensors are scored once: single 3, suffix 1 and last are one
    assert summary["scored"] < 2 * summary["sets"]
    tokenizer, job = models.load_tokenizer(folders["merge"]), spec()
    for language in ("es", "de"):
        rows_ = {(r["kind"], r["layers"]): r for r in found if r["language"] == language and r["metric"] == "chrf"}
        assert rows_["last", "3"]["score"] == rows_["single", "3"]["score"] == rows_["suffix", "3"]["score"]
        for kind, folder in (("none", "merge"), ("all", f"en-{language}")):
            patches = Patches(
                job, Patcher(models.load_model(folders["merge"]), sources_of(folders)), None, None, corpora
            )
            member = next(m for m in job["members"] if m["language"] == language)
            scored = score_model(models.load_model(folders[folder]), tokenizer, [patches.test_set(member)], job)
            expected = scored.outputs[0].summary["metrics"]["chrf"]["score"]
            assert float(rows_[kind, ""]["score"]) == pytest.approx(expected, rel=1e-8)
        assert 0 < float(rows_["mlp", "0 1 2 3"]["parameters"]) < float(rows_["suffix", "0 1 2 3"]["parameters"]) < 1


def test_unlike_models_and_impossible_sets_are_input_errors(folders, corpora, tmp_path):
    wide = tmp_path / "wide"
    models.save_model(random_llama(0, intermediate_size=32, num_hidden_layers=LAYERS), wide)
    with pytest.raises(InputError, match="not as in"):
        Patcher(models.load_model(folders["merge"]), sources_of({**folders, "wide": wide}))
    with pytest.raises(InputError, match="layer_patch: window: 9 layers of only 4"):
        patcher = Patcher(models.load_model(folders["merge"]), sources_of(folders))
        Patches(spec(sets=["window"], window=9), patcher, None, None, corpora)
    inputs = json.dumps({f"models/{name}": str(folder) for name, folder in folders.items()})
    with pytest.raises(InputError, match="at least one merge"):
        main(["--spec", json.dumps(spec(onto=[])), "--inputs", inputs, "--out", str(tmp_path / "none")])
