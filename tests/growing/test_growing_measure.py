"""The job that says how far the copies in cloned models differ."""

import csv

import pytest
from safetensors.torch import load_file, save_file

from langmerge.growing.__main__ import main as grow
from langmerge.growing.measure import main
from langmerge.provenance import InputError, canonical, sha256_file, verify, write_json


@pytest.fixture
def small(save_model, lab):
    return save_model("small", lab.decoder(num_key_value_heads=2, tie_word_embeddings=True))


def clone(small, out, **changes):
    spec = {"method": "hyperclone", **changes}
    grow(["--spec", canonical(spec), "--inputs", canonical({"model": str(small)}), "--out", str(out)])
    return out


def measure(small, clones, out, **changes):
    rows = [{"model": name, "noise": name == "noisy", "step": 0} for name in clones]
    spec = {"width": 2, "heads": "all", "models": rows, **changes}
    inputs = {"model": str(small), **{f"models/{name}": str(folder) for name, folder in clones.items()}}
    main(["--spec", canonical(spec), "--inputs", canonical(inputs), "--out", str(out)])
    verify(out)
    with (out / "copies.csv").open() as file:
        return {row["model"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("heads", ["all", "queries"])
def test_copies_without_noise_do_not_differ(small, tmp_path, heads):
    clones = {
        "noisy": clone(small, tmp_path / "noisy", heads=heads, snr_db=10.0),
        "plain": clone(small, tmp_path / "plain", heads=heads, noise=False),
    }
    found = measure(small, clones, tmp_path / "out", heads=heads)
    assert list(found["noisy"]) == ["model", "noise", "step", "difference"]
    assert (found["noisy"]["noise"], found["plain"]["noise"]) == ("True", "False")
    assert float(found["plain"]["difference"]) == 0
    assert 0.2 < float(found["noisy"]["difference"]) < 0.6, "sqrt(2 / 11) = 0.43 of large matrices"


def test_one_changed_row_is_seen(small, tmp_path):
    """||B - B'||^2 counts a change e of one element twice: of its block, and of the one that takes its place."""
    folder = clone(small, tmp_path / "plain", noise=False)
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.gate_proj.weight"
    weights[name][0, 0] += 0.5
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    files = {p.name: sha256_file(p) for p in sorted(folder.iterdir()) if p.name != "manifest.json"}
    write_json(folder / "manifest.json", {"outputs": files})
    linear = [w for key, w in weights.items() if w.ndim == 2 and "embed" not in key]
    expected = (2 * 0.5**2 / sum(float(w.double().square().sum()) for w in linear)) ** 0.5
    found = measure(small, {"plain": folder}, tmp_path / "out")
    assert float(found["plain"]["difference"]) == pytest.approx(expected, rel=1e-4)


def test_a_model_without_its_folder_is_named(small, tmp_path):
    rows = [{"model": "lost", "noise": True, "step": 0}]
    with pytest.raises(InputError, match="models/lost"):
        measure(small, {}, tmp_path / "out", models=rows)
