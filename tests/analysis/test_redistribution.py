"""Populations that sharpen, redistribute, blur, shift as a whole or stay: verdicts, coverage of intervals, tables."""

import csv
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from langmerge.analysis import families, neurons
from langmerge.analysis import redistribution as r
from langmerge.analysis.observations import read_summary
from langmerge.analysis.redistribution_tables import write_redistribution
from langmerge.analysis.replication import main as replicate
from langmerge.provenance import InputError, write_json

K, G, N = 4, 20, 160  # es, it, de, tr: es is supervised, tr unrelated
RANKING = neurons.ranking_of("mutual_information", 0.25)
SHIFTS = {"shift": 1.1, "strong": 1.3, "drop": 0.8}  # factors of every unit's rate in es
KINDS = ("sharpens", "redistributes", "unchanged", "blurs", *SHIFTS, "scale", "sharpens and drops")


def probabilities(kind):
    """Before and after, [K, N]: ten units fire for es, the next ten for it, and so on; the rest in all alike."""
    before = np.tile(np.geomspace(0.03, 0.5, N), (K, 1))
    for k in range(K):
        before[:, 10 * k : 10 * k + 10] = 0.05
        before[k, 10 * k : 10 * k + 10] = 0.4
    after = before.copy()
    if kind.startswith("sharpens"):
        after[:, :10] = 0.02
        after[0, :10] = 0.6
    elif kind == "redistributes":
        after[:, :5] = 0.05
        after[3, :5] = 0.4
    elif kind == "blurs":
        after[:, :10] = 0.3 * before[:, :10] + 0.7 * before[:, :10].mean(0)
    elif kind == "scale":
        after *= 0.7
    after[0] *= {**SHIFTS, "sharpens and drops": 0.8}.get(kind, 1)
    return before, after


def shares(p):
    return p / p.sum(0)


def firings(before, after, seed, spread=0.3):
    """Both models on the same text: sentences of a block raise or lower each unit's rate in both."""
    generator = np.random.default_rng(seed)
    tokens = generator.integers(40, 90, (K, G))
    text = np.exp(spread * generator.standard_normal((K, G, before.shape[1])))
    return [
        r.Firing(generator.binomial(tokens[:, :, None], np.clip(p[:, None] * text, 0, 0.95)), tokens)
        for p in (before, after)
    ]


def baseline(firing, ranking=RANKING):
    return r.Baseline(firing, ranking, neurons.fit_thresholds(*next(firing.whole()), ranking), seed=1)


@cache
def simulated(kind, draws=24):
    """Excess of each language [draws] and of information in the units of es with interval, and verdicts."""
    found, verdicts = [], []
    for seed in range(draws):
        before, after = firings(*probabilities(kind), seed)
        base = baseline(before)
        changes = r.changes(base, after)
        each = [r.over(base, changes, r.EXCESS, 0, [k]) for k in (*range(K), r.INFORMATION)]
        found.append(each)
        verdicts.append(r.verdict(each[0], each[3], each[-1], r.over(base, changes, r.MATCHED, 0, [0])))
    return found, verdicts


@pytest.mark.parametrize("kind", KINDS)
def test_planted_changes_are_called_by_their_name(kind):
    _, verdicts = simulated(kind)
    called = [verdict for verdict, _ in verdicts]
    expected = {"sharpens": r.SHARPENS, "sharpens and drops": r.SHARPENS, "redistributes": r.REDISTRIBUTES}
    assert called.count(expected.get(kind, r.INCONCLUSIVE)) >= 0.95 * len(called)
    if kind == "strong":
        assert sum(reason.startswith("all units shift") for _, reason in verdicts) >= 0.5 * len(verdicts)


def test_intervals_cover_the_planted_changes():
    """24 simulations of each kind and four languages; matched units change by the factors of a shift alone."""
    inside = []
    for kind in KINDS:
        before, after = probabilities(kind)
        shifted = before * (after[:, 40:] / before[:, 40:]).mean(1, keepdims=True)
        truth = (shares(after) - shares(shifted))[:, :10].mean(1)
        found, _ = simulated(kind)
        values = np.array([[e.value for e in each[:K]] for each in found])
        assert values.mean(0) == pytest.approx(truth, abs=0.008)
        inside += [[e.low <= t <= e.high for e, t in zip(each[:K], truth, strict=True)] for each in found]
    assert 0.93 <= np.mean(inside) <= 1


def test_a_shift_of_all_units_is_no_excess_but_a_change():
    """All units fire 1.3 times as often in es: without matched units, its units would seem to be more of es."""
    before, after = firings(*probabilities("strong"), 0)
    base = baseline(before)
    found = r.changes(base, after)
    for chosen in (0, r.UNION):
        change, excess = (r.over(base, found, kind, chosen, [0]) for kind in (r.CHANGE, r.EXCESS))
        assert change.rises and not excess.rises and not excess.falls
    assert r.over(base, found, r.CHANGE, r.UNION, [r.INFORMATION]).rises
    assert not r.over(base, found, r.EXCESS, r.UNION, [r.INFORMATION]).rises


def test_all_languages_together_keep_their_share():
    before, after = firings(*probabilities("redistributes"), 0)
    base = baseline(before)
    found = r.changes(base, after)
    assert np.abs(found.sets[..., :K].sum(-1)).max() < 1e-12 and np.abs(found.refit.sum(-1)).max() < 1e-12
    assert found.units.tolist() == [10] * K
    # ten es units, of which half went to tr
    assert found.quantity(r.CHANGE, 0, [0])[0] == pytest.approx(-0.5 * 0.35 / 0.55, abs=0.02)
    # refitted sets have another composition: fewer units of es, more of tr
    assert found.refit[0, 0] < -0.05 and found.refit[0, 3] > 0.05


def test_a_model_that_is_the_baseline_has_not_changed():
    before, _ = firings(*probabilities("unchanged"), 3)
    base = baseline(before)
    found = r.changes(base, before)
    assert not found.sets.any() and not found.mass.any() and not found.refit.any()
    none = r.over(base, found, r.EXCESS, 0, [0])
    assert r.verdict(none, none, none, none)[0] == r.INCONCLUSIVE


def test_units_chosen_by_chance_do_not_seem_to_lose_their_language():
    """No unit is selective, and other sentences are read: without cross-fitting the chosen units lose their shares."""
    p = np.full((K, 1000), 0.1)
    naive, fitted = [], []
    for seed in range(16):
        before = firings(p, p, seed, 0.3)[0]
        after = r.Firing(firings(p, p, 1000 + seed, 0.3)[0].counts, before.tokens)
        base = baseline(before)
        sets = base.sets(*next(before.whole()))
        change = r.shares(next(after.whole())[0]) - r.shares(next(before.whole())[0])
        naive.append((change * sets).sum() / sets.sum())
        fitted.append(np.nanmean([r.changes(base, after).quantity(r.CHANGE, k, [k])[0] for k in range(K)]))
    assert np.mean(naive) < -0.03
    assert abs(np.mean(fitted)) < 0.004


def test_the_definition_without_blocks_and_folds():
    """dE over the units that the other half chose, both ways, with plain loops."""
    before, after = firings(*probabilities("redistributes"), 5)
    base = baseline(before)
    found = []
    for chosen_in in (0, 1):
        here, there = before.used[chosen_in::2], before.used[1 - chosen_in :: 2]
        n = before.tokens[:, here].sum(1)
        sets = base.sets(before.counts[:, here].sum(1) / n[:, None], n)
        units = [u for u in range(N) if sets[:, u].any()]
        for u in units:
            p, q = (f.counts[:, there, u].sum(1) / before.tokens[:, there].sum(1) for f in (before, after))
            found.append((q / q.sum() - p / p.sum(), 1 / len(units)))
    expected = sum(change * weight for change, weight in found) / 2
    assert r.changes(base, after).sets[0, 0, r.UNION, :K] == pytest.approx(expected)


def test_replicates_leave_out_every_block_once():
    before, after = firings(*probabilities("sharpens"), 7)
    found = r.changes(baseline(before), after)
    assert found.sets.shape == (1 + G, 2, K + 1, K + 1)
    assert found.mass.shape == (1 + G,) and found.refit.shape == (1 + G, K)
    halves = [before.used[::2], before.used[1::2]]
    rest = [halves[0][halves[0] != 4], halves[1]]  # block 4 is the third of the first half
    base = baseline(before)
    by_hand = []
    for c in (0, 1):
        sets = base.sets(*before.half(rest[c]))
        change = r.shares(after.half(rest[1 - c])[0]) - r.shares(before.half(rest[1 - c])[0])
        by_hand.append(change[:, sets.any(0)].mean(1))
    assert found.sets[3, 0, r.UNION, :K] == pytest.approx(np.mean(by_hand, axis=0))
    masses = [r.mass(*f.half(np.delete(np.arange(G), 4))) for f in (before, after)]
    assert found.mass[3] == pytest.approx(masses[1] / masses[0] - 1)


def test_dead_units_prefer_no_language():
    p = np.array([[0.0, 0.3], [0.0, 0.1]])
    assert r.shares(p).tolist() == pytest.approx(np.array([[0.5, 0.75], [0.5, 0.25]]))


def test_permuted_languages_have_little_information_but_text_leaves_some():
    before, _ = firings(*probabilities("unchanged"), 1)
    base = baseline(before)
    assert 0 < base.floor < 0.2 * base.firing.masses[0]
    flat, _ = firings(np.full((K, N), 0.1), np.full((K, N), 0.1), 1)
    none = baseline(flat)
    assert none.firing.masses[0] == pytest.approx(none.floor, rel=0.35)  # nothing but what sentences give


def test_nothing_is_claimed_of_too_little_text():
    tokens = np.zeros((K, G), dtype=int)
    tokens[:, 0] = 50
    assert not r.Firing(np.zeros((K, G, N)), tokens).enough
    one = r.Estimate(-0.2, -0.3, -0.1, 0.01)
    none = r.Estimate(np.nan, np.nan, np.nan, np.nan)
    zero = r.Estimate(0.0, -0.05, 0.05, 0.01)
    up = r.Estimate(0.2, 0.1, 0.3, 0.01)
    assert r.verdict(one, none, zero)[0] == r.INCONCLUSIVE
    assert r.verdict(one, up, zero)[0] == r.REDISTRIBUTES
    assert r.verdict(one, up, up)[0] == r.REDISTRIBUTES
    assert r.verdict(one, zero, zero)[0] == r.INCONCLUSIVE
    assert "blur" in r.verdict(one, up, one)[1]
    assert r.verdict(zero, zero, zero, up)[1].startswith("all units shift")
    assert not r.verdict(r.Estimate(0.05, 0.005, 0.1, 0.01), zero, zero, up)[1].startswith("all units")
    assert r.verdict(up, one, up)[0] == r.SHARPENS and r.verdict(up, one, zero)[0] == r.INCONCLUSIVE
    assert r.verdict(r.Estimate(0.02, 0.005, 0.035, 0.01), one, up)[0] == r.INCONCLUSIVE  # inside the null's band


def test_roles_by_family():
    languages = ["es", "it", "tr", "fi", "xx"]
    assert families.roles(languages, {"es"}) == ["supervised", "related", "unrelated", "unrelated", "unknown"]
    assert families.roles(["es-relex50", "pt-BR", "zh_Hans"], {"es"}) == ["related", "related", "unrelated"]
    assert families.roles(["es", "xx"], {"xx"}) == ["unknown", "supervised"]
    codes = [code for names in families.FAMILIES.values() for code in names.split()]
    assert len(codes) == len(set(codes))


# ---- tables --------------------------------------------------------------------------------------------------------


def write_observation(folder, firing, names=("es", "it", "de", "tr")):
    folder.mkdir()
    counts = np.zeros((K, 2, G, 2, N // 2), dtype=np.int32)
    counts[:, 1] = firing.counts.reshape(K, G, 2, N // 2)
    counts[:, 0] = counts[:1, 1]  # the source is the same English in all
    tokens = np.stack([np.repeat(firing.tokens[:1], K, 0), firing.tokens], 1).astype(np.int64)
    arrays = {"mlp_gate/events": counts, "tokens": tokens, "mlp_gate/sum": np.zeros((K, 2, 2, N // 2), np.float32)}
    save_file(arrays, folder / "counts.safetensors")
    directions = [f"en-{name}" for name in names]
    summary = {
        "directions": [{"source": "en", "target": name} for name in names],
        "languages": dict(zip(directions, names, strict=True)),
        "sentences": {key: ["a"] for key in directions},
        "blocks": {key: [0] for key in directions},
        "n_blocks": G,
        "same_sentences": True,
        "align": "read",
        "layers": 2,
        "layer_names": ["embedding", "block 1", "last"],
        "width": 8,
        "vocabulary": 10,
        "pools": ["mean"],
        "sites": {"mlp_gate": [2, N // 2]},
        "sequences": "0",
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def read(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_tables_say_what_was_planted(tmp_path):
    before, after = firings(*probabilities("redistributes"), 0)
    _, sharp = firings(*probabilities("sharpens"), 0)
    models = {"base": before, "en-es": after, "en-it": before, "linear": sharp}
    folders = {label: write_observation(tmp_path / label, firing) for label, firing in models.items()}
    spec = {"models": list(models), "baseline": "base", "neurons": "average_precision", "top": 0.25, "seed": 1}
    write_redistribution(spec, read_summary(folders["base"]), folders, tmp_path)

    verdicts = {(row["model"], row["span"]): row for row in read(tmp_path / "verdicts.csv")}
    assert set(verdicts) == {(model, span) for model in ("en-es", "en-it") for span in ("source", "target")}
    assert verdicts["en-es", "target"]["verdict"] == "redistributes"
    assert verdicts["en-es", "target"]["language"] == "es"
    assert verdicts["en-es", "target"]["ranking"] == "mutual_information"  # average precision has no blocks
    assert verdicts["en-it", "target"]["verdict"] == "inconclusive"
    assert verdicts["en-es", "source"]["verdict"] == "inconclusive"  # English in all: no units
    assert verdicts["en-es", "source"]["units"] == "0"

    rows = {
        (row["model"], row["set"], row["role"], row["language"], row["measure"]): row
        for row in read(tmp_path / "redistribution.csv")
        if row["span"] == "target"
    }
    gained = rows["en-es", "union", "unrelated", "tr", "share_change"]
    assert float(gained["value"]) == pytest.approx(0.0795, abs=0.01)
    assert float(gained["low"]) > float(gained["null_high"]) > 0 == float(gained["null"])
    assert gained["n"] == "40"
    lost = {kind: rows["en-es", "supervised", "supervised", "es", f"share_{kind}"] for kind in r.KINDS}
    assert lost["excess"]["n"] == "10" and float(lost["change"]["value"]) == pytest.approx(-0.318, abs=0.03)
    excess, change, matched = (float(lost[kind]["value"]) for kind in ("excess", "change", "matched"))
    assert excess == pytest.approx(change - matched, abs=1e-6)
    assert rows["en-es", "supervised", "", "", "information_excess"]
    assert float(rows["en-es", "own", "related", "it", "share_change"]["value"]) == pytest.approx(0, abs=0.02)
    related = rows["en-es", "union", "related", "", "share_change"]
    each = [float(rows["en-es", "union", "related", name, "share_change"]["value"]) for name in ("it", "de")]
    assert float(related["value"]) == pytest.approx(np.mean(each), abs=1e-6)
    assert float(rows["base", "all", "", "", "mass"]["low"]) > float(rows["base", "all", "", "", "mass"]["null"])
    assert rows["linear", "union", "supervised", "es", "share_change"]  # a merge knows all languages
    assert float(rows["linear", "all", "", "", "mass_change"]["low"]) > 0
    assert ("base", "all", "", "", "mass_change") not in rows


def test_what_one_seed_shows_must_outlive_the_next(tmp_path):
    """Three seeds: es loses to tr in all of them, it in one alone."""
    measurements = {}
    for seed in range(3):
        before, after = firings(*probabilities("redistributes"), seed)
        other = firings(probabilities("unchanged")[0], probabilities("redistributes")[1], seed)[1]
        models = {"base": before, "en-es": after, "en-it": other if seed == 0 else before}
        root = tmp_path / f"seed{seed}"
        root.mkdir()
        folders = {label: write_observation(root / label, firing) for label, firing in models.items()}
        spec = {"models": list(models), "baseline": "base", "neurons": "mutual_information", "top": 0.25, "seed": 1}
        write_redistribution(spec, read_summary(folders["base"]), folders, root)
        write_json(root / "manifest.json", {"outputs": {}})
        measurements[f"from-en/seed{seed}"] = str(root)
    out = tmp_path / "replication"
    arguments = ["--spec", json.dumps({"groups": ["from-en"]}), "--out", str(out), "--inputs"]
    replicate([*arguments, json.dumps(measurements)])
    rows = {row["model"]: row for row in read(out / "replication.csv") if row["span"] == "target"}
    assert rows["en-es"]["verdict"] == "redistributes" and rows["en-es"]["agreeing"] == "3"
    assert float(rows["en-es"]["supervised_change"]) == pytest.approx(-0.318, abs=0.03)
    assert abs(float(rows["en-es"]["matched_change"])) < 0.02
    assert rows["en-it"]["verdict"] == "inconclusive" and rows["en-it"]["seeds"] == "3"
    assert float(rows["en-it"]["elsewhere_low"]) < 0 < float(rows["en-it"]["elsewhere_high"])
    with pytest.raises(InputError, match="two or more seeds"):
        replicate([*arguments, json.dumps({"from-en/seed1": measurements["from-en/seed1"]})])
    Path(measurements["from-en/seed2"], "verdicts.csv").unlink()
    with pytest.raises(InputError, match=r"verdicts.csv: file not found"):
        replicate([*arguments, json.dumps(measurements)])


def test_one_language_has_no_rows(tmp_path):
    before, _ = firings(*probabilities("unchanged"), 0)
    folder = write_observation(tmp_path / "base", before)
    text = json.loads((folder / "summary.json").read_text())
    text["directions"], text["languages"] = text["directions"][:1], {"en-es": "es"}
    (folder / "summary.json").write_text(json.dumps(text))
    spec = {"models": ["base"], "baseline": "base", "neurons": "lape", "top": 0.25, "seed": 1}
    write_redistribution(spec, read_summary(folder), {"base": folder}, tmp_path)
    assert read(tmp_path / "redistribution.csv") == read(tmp_path / "verdicts.csv") == []


def test_seeds_give_student_intervals():
    values = [0.1, 0.3, 0.2]
    mean, low, high = r.across_seeds(values)
    assert mean == pytest.approx(0.2)
    assert (low, high) == pytest.approx((0.2 - 4.302653 * 0.1 / 3**0.5, 0.2 + 4.302653 * 0.1 / 3**0.5))
    assert np.isnan(r.across_seeds([0.1])[1])
