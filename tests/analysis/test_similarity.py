"""Measures of two representations against slow definitions, planted similarities, and their intervals' coverage."""

import csv
import json

import numpy as np
import pytest
import scipy.linalg
import torch
from safetensors.torch import save_file

from langmerge import jackknife
from langmerge.analysis import cka, halves, similarity
from langmerge.analysis.languages import language_pairs, regress_out, span_lengths
from langmerge.analysis.observations import read_summary
from langmerge.analysis.representations import similarity_rows, trained_pairs, write_similarity
from langmerge.pairs import Direction
from langmerge.provenance import InputError

ALL_PAIRS = torch.tensor([[0, 1], [0, 2], [1, 2]])


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(d, seed=9):
    return torch.linalg.qr(normal(d, d, seed=seed))[0]


def related(n, d, seed=0):
    """Three representations: x, x with noise, independent of x; columns of different variance, off the origin."""
    x = normal(n, d, seed=seed)
    scale = torch.arange(1, d + 1) ** -0.5
    return torch.stack([x, x + normal(n, d, seed=seed + 1), normal(n, d, seed=seed + 2)]) * scale + 3


def blocks_of(n, groups=6):
    return np.arange(n) % groups


def neighbours_by_definition(x, k):
    x = (x - x.mean(0)).numpy()
    found = []
    for i in range(len(x)):
        cosines = [x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]) if j != i else -2 for j in range(len(x))]
        found.append(set(np.argsort(cosines)[-k:]))
    return found


@pytest.mark.parametrize("d", [5, 60])
def test_mutual_neighbours_are_the_definition(d, monkeypatch):
    x = related(50, d)
    sets = [neighbours_by_definition(one, 10) for one in x]
    expected = [[np.mean([len(p & q) for p, q in zip(a, b, strict=True)]) / 10 for b in sets] for a in sets]
    whole = similarity.mutual_neighbours(x, blocks_of(50))
    assert whole[0].numpy() == pytest.approx(np.array(expected))
    monkeypatch.setattr(similarity, "ELEMENTS", 700)  # a few sentences at once
    assert torch.equal(similarity.mutual_neighbours(x, blocks_of(50)), whole)


def test_in_a_half_sample_the_others_are_neither_asked_nor_found(monkeypatch):
    x, blocks = related(60, 8), np.arange(60) // 10
    kept = halves.half_samples(blocks)
    found = similarity.mutual_neighbours(x, blocks)
    assert len(found) == 1 + len(kept)
    for half, sampled in zip(kept, found[1:], strict=True):
        again = similarity.mutual_neighbours(x[:, half], blocks[half])[0]
        # centred by all sentences instead of those that stay
        assert sampled.numpy() == pytest.approx(again.numpy(), abs=0.08)
        assert sampled.diagonal().tolist() == pytest.approx([1, 1, 1])
    monkeypatch.setattr(similarity, "ELEMENTS", 700)  # a few sentences at once
    assert torch.equal(similarity.mutual_neighbours(x, blocks), found)


@pytest.mark.parametrize("noise", [0.2, 0.8])
def test_the_error_of_mutual_neighbours_is_near_their_spread(noise):
    values, errors = [], []
    scale, blocks = torch.arange(1, 33, dtype=torch.float64) ** -0.5, blocks_of(128, 20)
    for seed in range(80):
        x = normal(128, 32, seed=2 * seed) * scale
        stack = torch.stack([x, x + noise * normal(128, 32, seed=2 * seed + 1) * scale])
        found = similarity.mutual_neighbours(stack, blocks)[:, 0, 1].numpy()
        values.append(found[0])
        errors.append(halves.standard_error(found[1:], blocks))
    ratio = np.sqrt(np.mean(np.square(errors))) / np.std(values, ddof=1)
    assert 0.85 < ratio < 1.6  # up to twice when single blocks were left out


def test_unrelated_data_have_chance_neighbours():
    values = [float(similarity.mutual_neighbours(related(100, 20, 3 * s), blocks_of(100))[0, 0, 2]) for s in range(10)]
    assert np.mean(values) == pytest.approx(similarity.chance(100), abs=0.01)
    assert similarity.neighbours(100) == 10
    assert similarity.neighbours(9) == 2  # among few others, all would be neighbours


@pytest.mark.parametrize(("n", "d"), [(40, 6), (12, 30)])
def test_procrustes_is_that_of_the_best_rotation(n, d):
    x = related(n, d)
    found = similarity.procrustes(x, ALL_PAIRS, blocks_of(n))[0]
    for value, (a, b) in zip(found, ALL_PAIRS.tolist(), strict=True):
        p, q = (y - y.mean(0) for y in (x[a].numpy(), x[b].numpy()))
        p, q = p / np.linalg.norm(p), q / np.linalg.norm(q)
        best, _ = scipy.linalg.orthogonal_procrustes(p, q)
        assert float(value) == pytest.approx(np.linalg.norm(p @ best - q) ** 2, abs=1e-9)


def test_what_a_rotation_and_a_scale_do():
    x = normal(200, 16)
    stack = torch.stack([x, -7 * x @ rotation(16) + 100])
    pair, blocks = torch.tensor([[0, 1]]), blocks_of(200)
    assert float(similarity.procrustes(stack, pair, blocks)[0]) == pytest.approx(0, abs=1e-9)
    assert similarity.mutual_neighbours(stack, blocks)[:, 0, 1].tolist() == pytest.approx([1] * (1 + halves.COUNT))
    for ranks in similarity.ranks(stack, blocks):
        assert ranks[:, 0].tolist() == pytest.approx(ranks[:, 1].tolist())
    assert float(similarity.coordinate_correlations(stack, pair, blocks)[0, 0]) < 0.5


def test_unrelated_data_are_as_far_as_their_null():
    x = related(60, 40)
    distance = similarity.procrustes(x, ALL_PAIRS, blocks_of(60))[0]
    null = similarity.procrustes_null(x, ALL_PAIRS, 5, 1)
    assert float(distance[1]) == pytest.approx(float(null[1]), rel=0.05)
    assert float(null[1]) < 1.5  # far from 2 by chance alone
    assert float(distance[0]) < 0.6 * float(null[0])
    assert similarity.procrustes_null(x, ALL_PAIRS, 0, 1).isnan().all()


def test_one_shared_outlier_channel_is_all_until_it_is_dropped():
    x = normal(2, 100, 30)
    x[:, :, 4] = 300 * normal(100, seed=5)
    pair, blocks = torch.tensor([[0, 1]]), blocks_of(100)
    assert float(similarity.procrustes(x, pair, blocks)[0]) < 0.01
    dropped = cka.drop_sinks(x)
    assert float(similarity.procrustes(dropped, pair, blocks)[0]) == pytest.approx(
        float(similarity.procrustes_null(dropped, pair, 5, 1)), rel=0.06
    )
    effective, stable = similarity.ranks(x[:1], blocks)
    assert float(effective[0]) < 3 and float(stable[0]) == pytest.approx(1, abs=0.01)
    assert float(similarity.ranks(dropped[:1], blocks)[0][0]) > 20


@pytest.mark.parametrize(("n", "d"), [(40, 12), (20, 30)])
def test_ranks_of_planted_spectra(n, d):
    centred = normal(n, n)
    centred[:, 0] = 1
    left = torch.linalg.qr(centred)[0][:, 1:6]  # orthonormal, with mean 0
    s = torch.tensor([2.0, 2.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    x = (left * s) @ rotation(d)[:5] + 4
    effective, stable = similarity.ranks(torch.stack([x, left @ rotation(d)[:5]]), blocks_of(n))
    share = (s / s.sum()).numpy()
    assert float(effective[0, 0]) == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    assert float(stable[0, 0]) == pytest.approx(11 / 4)
    assert effective[0, 1].item() == pytest.approx(5) and stable[0, 1].item() == pytest.approx(5)


def test_left_out_ranks_and_distances_are_close_to_those_of_the_rest():
    x, blocks = related(240, 10), blocks_of(240, 12)
    rest = [(x[:, blocks != g], blocks[blocks != g]) for g in range(12)]
    for k, found in enumerate(similarity.ranks(x, blocks)):
        again = torch.stack([similarity.ranks(*part)[k][0] for part in rest])
        assert found[1:].numpy() == pytest.approx(again.numpy(), rel=0.005)
    again = torch.stack([similarity.procrustes(y, ALL_PAIRS, b)[0] for y, b in rest])
    found = similarity.procrustes(x, ALL_PAIRS, blocks)[1:]
    assert found[:, 0].numpy() == pytest.approx(again[:, 0].numpy(), abs=0.004)
    # Unrelated data are rotated anew, a little closer, but vary as much
    expected = jackknife.standard_error(again.numpy())
    assert jackknife.standard_error(found.numpy()) == pytest.approx(expected, rel=0.3)


def test_anc_is_that_of_the_table_and_without_blocks_that_of_the_rest():
    x, blocks = related(48, 7), blocks_of(48)
    x[1, :, 3] = 5  # constant in one
    found = similarity.coordinate_correlations(x, ALL_PAIRS, blocks)
    for r, keep in enumerate([blocks >= 0, *(blocks != g for g in range(6))]):
        table = cka.anc_table(x[:, keep])
        assert found[r].tolist() == pytest.approx([table[a, b].item() for a, b in ALL_PAIRS.tolist()])
    assert similarity.coordinate_correlations(torch.ones(2, 9, 3), ALL_PAIRS[:1], np.arange(9)).isnan().all()


def test_intervals_cover_the_values_of_the_population():
    """400 samples of a planted pair; truth from 100,000 rows."""
    d, n, draws = 6, 120, 400
    scale = torch.tensor([4.0, 2.0, 1.5, 1.0, 0.7, 0.5], dtype=torch.float64)
    pair = torch.tensor([[0, 1]])

    def sample(rows, seed):
        x = normal(rows, d, seed=2 * seed) * scale
        return torch.stack([x, x + normal(rows, d, seed=2 * seed + 1)])

    def values(x, blocks):
        effective, stable = (found[:, :1] for found in similarity.ranks(x, blocks))
        anc = similarity.coordinate_correlations(x, pair, blocks)
        return torch.cat([effective, stable, anc, similarity.procrustes(x, pair, blocks)], 1).numpy()

    truth = values(sample(100_000, 10**6), blocks_of(100_000, 2))[0]
    inside = []
    for seed in range(draws):
        found = values(sample(n, seed), blocks_of(n, 20))
        low, high = jackknife.interval(found[0], found[1:])
        inside.append((low <= truth) & (truth <= high))
    assert (np.mean(inside, axis=0) > 0.90).all(), np.mean(inside, axis=0)


# ---- languages -----------------------------------------------------------------------------------------------------


def test_length_shared_by_two_languages_looks_like_meaning_until_regressed_out():
    n, d = 300, 20
    length = np.random.default_rng(0).uniform(1, 3, n)
    x = normal(2, n, d)
    for k in range(2):
        x[k] += 8 * torch.from_numpy(length)[:, None] * normal(d, seed=20 + k)
    assert cka.debiased_cka(*x) > 0.9
    rest = regress_out(x, np.stack([length, length]))
    assert abs(cka.debiased_cka(*rest)) < 0.05
    design = np.stack([np.ones(n), length], 1)
    expected = x[0].numpy() - design @ np.linalg.lstsq(design, x[0].numpy(), rcond=None)[0]
    assert rest[0].numpy() == pytest.approx(expected, abs=1e-9)
    constant = regress_out(x, np.full((2, n), np.log(7)))
    assert constant[1].numpy() == pytest.approx((x[1] - x[1].mean(0)).numpy())


def test_the_pivot_is_compared_with_itself_nowhere():
    directions = [Direction("en", "es"), Direction("en", "de"), Direction("es", "de")]
    assert language_pairs(directions, "source") == [(0, 2), (1, 2)]
    assert language_pairs(directions, "target") == [(0, 1), (0, 2)]


# ---- tables --------------------------------------------------------------------------------------------------------

N, D, LAYERS = 24, 6, 2


def write_observation(folder, states, lengths=("source_tokens", "target_tokens"), shared=True):
    """An observation with ``states(direction, span, layer)`` [N, D] as span means and last tokens."""
    folder.mkdir()
    names = ("en-es", "en-de")
    ids = [f"s{i}" for i in range(N)]
    tensors = {
        f"{name}/{span}/{pool}/{layer}": states(name, span, layer).float().contiguous()
        for name in names
        for span in ("source", "target")
        for pool in ("mean", "last")
        for layer in range(LAYERS + 1)
    }
    save_file(tensors, folder / "representations.safetensors")
    summary = {
        "directions": [{"source": "en", "target": "es"}, {"source": "en", "target": "de"}],
        "languages": {"en-es": "es", "en-de": "de"},
        "sentences": dict.fromkeys(names, ids),
        "blocks": {name: [i % 6 for i in range(N)] for name in names},
        "n_blocks": 6,
        "same_sentences": shared,
        "align": "read",
        "layers": LAYERS,
        "layer_names": ["embedding", "block 1", "last"],
        "width": D,
        "vocabulary": 10,
        "pools": ["mean", "last"],
        "sites": {},
        "sequences": "0",
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    with (folder / "losses.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["direction", "id", *lengths])
        writer.writerows([name, key, *([3 + i % 5] * len(lengths))] for name in names for i, key in enumerate(ids))
    return folder


def read(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


SPEC = {"models": ["base", "copy", "other"], "baseline": "base", "permutations": 4, "seed": 1}


def states_of(seed):
    def states(direction, span, layer):
        own = normal(N, D, seed=100 * seed + layer)
        if span == "source" or seed < 2:  # one meaning in both languages, turned
            return own if direction == "en-es" or span == "source" else own @ rotation(D)
        return normal(N, D, seed=100 * seed + layer + (50 if direction == "en-es" else 70))

    return states


def test_tables_of_planted_observations(tmp_path):
    folders = {
        label: write_observation(tmp_path / label, states_of(seed))
        for label, seed in (("base", 1), ("copy", 1), ("other", 2))
    }
    write_similarity(SPEC, read_summary(folders["base"]), folders, tmp_path)
    rows = read(tmp_path / "similarity.csv")
    assert {row["measure"] for row in rows} == {
        "mutual_neighbours", "anc", "procrustes", "effective_rank", "stable_rank"
    }  # fmt: skip
    places = 2 * 2 * (LAYERS + 1) * 3  # directions, spans, layers, variants
    assert len(rows) == places * (3 + 3 + 2 + 3 + 3)
    for row in rows:
        both = {row["model_a"], row["model_b"]}
        if both == {"base", "copy"}:
            expected = 0 if row["measure"] == "procrustes" else 1
            assert float(row["value"]) == pytest.approx(expected, abs=1e-5)
        if row["measure"] == "procrustes" and both == {"base", "other"} and row["span"] == "target":
            assert abs(float(row["value"]) - float(row["null"])) < 0.5 * float(row["null"])
    languages = read(tmp_path / "languages.csv")
    assert {row["span"] for row in languages} == {"target"}  # the source is English in both
    assert {(row["language_a"], row["language_b"]) for row in languages} == {("es", "de")}
    assert {(row["pool"], row["variant"]) for row in languages} == {
        ("mean", "raw"), ("mean", "drop_sink"), ("mean", "length"), ("last", "raw")
    }  # fmt: skip
    raw = {
        (row["model"], row["measure"]): row
        for row in languages
        if row["layer"] == "1" and row["pool"] == "mean" and row["variant"] == "raw"
    }
    assert float(raw["base", "cka"]["value"]) == pytest.approx(1)
    assert float(raw["base", "procrustes"]["value"]) == pytest.approx(0, abs=1e-5)
    assert float(raw["base", "anc"]["high"]) < 1 and float(raw["base", "mutual_neighbours"]["value"]) > 0.99
    other = raw["other", "cka"]
    assert float(other["low"]) < 0 < float(other["high"]) and abs(float(other["null"])) < 0.3


def test_procrustes_distances_are_from_the_base_and_between_specialists():
    labels, directions = ["joint", "base", "en-es", "ties", "en-de"], ["en-es", "en-de"]
    assert trained_pairs(labels, "base", directions) == [(1, 2), (1, 4), (2, 4)]
    rows = list(similarity_rows({}, labels, "base", directions, normal(5, 30, 6), blocks_of(30), 1))
    found = {(row["model_a"], row["model_b"], row["variant"]) for row in rows if row["measure"] == "procrustes"}
    from_base = {("base", label, v) for label in labels if label != "base" for v in ("raw", "drop_sink", "zscore")}
    assert from_base < found
    assert ("en-es", "en-de", "raw") in found and ("en-es", "en-de", "zscore") not in found
    assert not any("ties" in row and "base" not in row for row in found)


def test_without_lengths_or_shared_sentences_there_are_fewer_rows(tmp_path):
    folder = write_observation(tmp_path / "base", states_of(1), lengths=())
    assert span_lengths(folder, read_summary(folder)) == {}
    spec = {**SPEC, "models": ["base"]}
    write_similarity(spec, read_summary(folder), {"base": folder}, tmp_path)
    assert {row["variant"] for row in read(tmp_path / "languages.csv")} == {"raw", "drop_sink"}
    apart = write_observation(tmp_path / "apart", states_of(1), shared=False)
    write_similarity(spec, read_summary(apart), {"base": apart}, tmp_path)
    assert (tmp_path / "languages.csv").read_text().startswith("model,span,layer,layers,pool,variant,language_a")
    assert read(tmp_path / "languages.csv") == []


def test_lengths_of_other_sentences_are_refused(tmp_path):
    folder = write_observation(tmp_path / "base", states_of(1))
    text = (folder / "losses.csv").read_text().replace("s3,", "other,")
    (folder / "losses.csv").write_text(text)
    with pytest.raises(InputError, match=r"losses.csv: no row for .*s3"):
        span_lengths(folder, read_summary(folder))
