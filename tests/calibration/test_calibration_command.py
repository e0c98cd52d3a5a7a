"""The command: what it writes for each kind, what it refuses."""

import json

import pytest
import torch
from safetensors.torch import load_file

from langmerge import models, provenance
from langmerge.calibration.__main__ import main
from langmerge.calibration.sentences import read_sentences
from langmerge.pairs import Direction
from langmerge.provenance import InputError


def run(out, spec, folders, pairs):
    inputs = {f"models/{name}": str(folder) for name, folder in folders.items()}
    inputs |= {f"pairs/{language}": str(folder) for language, folder in pairs.items()}
    main(["--spec", json.dumps(spec), "--inputs", json.dumps(inputs), "--out", str(out)])
    return load_file(out / "model.safetensors")


def test_every_kind_writes_its_tensors(tmp_path, spec, folders, pairs):
    one = {"en-es": folders["en-es"]}
    model = models.load_model(folders["en-es"])
    shapes = {name: weight.shape for name, weight in model.named_parameters()}

    fisher = run(tmp_path / "fisher", spec, one, pairs)
    assert {name: tensor.shape for name, tensor in fisher.items()} == shapes
    gram = run(tmp_path / "gram", {**spec, "kind": "gram"}, one, pairs)
    assert gram["model.layers.1.mlp.down_proj.weight"].shape == (24, 24)
    counts = run(tmp_path / "counts", {"kind": "token_counts", "language": "es", "pivot": "en"}, one, pairs)["counts"]
    text = [json.loads(line)["es"] for line in (pairs["es"] / "train.jsonl").read_text().splitlines()]
    assert counts.shape == (260,) and int(counts.sum()) == sum(len(sentence.encode()) for sentence in text)
    cka = run(tmp_path / "cka", {**spec, "kind": "similarity"}, folders, pairs)["cka"]
    assert cka.shape == (3, 2, 2)
    assert json.loads((tmp_path / "cka/models.json").read_text()) == {"models": ["en-es", "en-de"]}
    manifest = provenance.read_manifest(tmp_path / "fisher")
    assert set(manifest["inputs"]) == {"models/en-es", "pairs/es", "pairs/de"}
    assert json.loads((tmp_path / "fisher/cost.json").read_text())["tokens"] > 0
    run(tmp_path / "again", spec, one, pairs)
    assert (tmp_path / "again/manifest.json").read_bytes() == (tmp_path / "fisher/manifest.json").read_bytes()


def test_sentences_are_a_sample_of_the_split(spec, pairs):
    (chosen,) = read_sentences(spec, pairs).values()
    rows = [json.loads(line) for line in (pairs["es"] / "train.jsonl").read_text().splitlines()]
    everything = [(row["en"], row["es"]) for row in rows]
    assert len(chosen) == 5
    assert [pair for pair in everything if pair in chosen] == [pair for pair in chosen if pair in everything]
    assert read_sentences(spec, pairs)[Direction("en", "es")] == chosen
    assert read_sentences({**spec, "seed": 2}, pairs)[Direction("en", "es")] != chosen
    assert read_sentences({**spec, "sentences": 99}, pairs)[Direction("en", "es")] == everything


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "fischer"}, "kind: expected one of fisher, gram"),
        ({"split": "test"}, "merges never see test"),
        ({"kind": "similarity", "sentences": 3}, "similarity needs 4"),
        ({"directions": [{"source": "en", "target": "fr"}]}, "expected pairs/fr"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, spec, folders, pairs, changes, message):
    with pytest.raises(InputError, match=message):
        run(tmp_path / "out", {**spec, **changes}, {"en-es": folders["en-es"]}, pairs)
    assert not (tmp_path / "out").exists()


def test_two_models_are_refused_where_one_is_measured(tmp_path, spec, folders, pairs):
    with pytest.raises(InputError, match="found 2"):
        run(tmp_path / "out", spec, folders, pairs)


def test_changed_weights_are_refused(tmp_path, spec, folders, pairs):
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(folders["en-es"], folder)
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(InputError, match="expected SHA-256"):
        run(tmp_path / "out", spec, {"en-es": folder}, pairs)


def test_what_is_measured_is_finite(tmp_path, spec, folders, pairs):
    for kind in ("fisher", "gram"):
        tensors = run(tmp_path / kind, {**spec, "kind": kind}, {"en-es": folders["en-es"]}, pairs)
        assert all(torch.isfinite(tensor).all() and tensor.any() for tensor in tensors.values())
