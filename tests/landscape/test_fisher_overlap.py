"""Fisher information one sentence at a time, and its overlap."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from toy_models import slow_gradient, tiny_llama

from langmerge.landscape.fisher import diagonal_fisher, overlaps, rows, write_halves
from langmerge.landscape.layers import layer_of

CPU = torch.device("cpu")


@pytest.mark.parametrize("tied", [True, False])
def test_fisher_is_the_mean_of_squared_gradients_of_single_sentences(encoded, tied):
    model, double = (tiny_llama(5, tie_word_embeddings=tied) for _ in range(2))
    double.double()
    each = [slow_gradient(double, [row]) for row in encoded]
    found = diagonal_fisher(model, encoded)
    assert found.keys() == each[0].keys()
    for name, value in found.items():
        expected = sum(gradient[name] ** 2 for gradient in each) / len(each)
        torch.testing.assert_close(value.double(), expected, rtol=2e-4, atol=1e-5 * float(expected.max()), msg=name)
    with pytest.raises(ValueError, match="no sentences"):
        diagonal_fisher(model, [])


def test_overlaps_follow_from_the_diagonals(encoded, tmp_path, monkeypatch):
    from langmerge.landscape import fisher

    monkeypatch.setattr(fisher, "ELEMENTS", 100)  # several pieces a tensor
    models = [tiny_llama(seed) for seed in (6, 7)]
    five = encoded[:5]
    for i, model in enumerate(models):
        write_halves(model, five, tmp_path / str(i))
    found = overlaps([tmp_path / "0", tmp_path / "1"], [5, 5], CPU)
    kinds = {
        "whole": [diagonal_fisher(model, five) for model in models],
        "even": [diagonal_fisher(model, five[::2]) for model in models],
        "odd": [diagonal_fisher(model, five[1::2]) for model in models],
    }
    names = list(kinds["whole"][0])
    assert found.keys() == {*map(layer_of, names), "all"}

    def root(kind, i, layer):
        chosen = [kinds[kind][i][name].flatten() for name in names if layer in ("all", layer_of(name))]
        return torch.cat(chosen).double().sqrt()

    def cosine(x, y):
        return float(x @ y / (x.norm() * y.norm()))

    for layer, result in found.items():
        for i in range(2):
            for j in range(2):
                expected = cosine(root("whole", i, layer), root("whole", j, layer))
                assert float(result.whole[i, j]) == pytest.approx(expected, rel=1e-5)
                halves = [cosine(root("even", a, layer), root("odd", b, layer)) for a, b in ((i, j), (j, i))]
                assert float(result.half[i, j]) == pytest.approx(sum(halves) / 2, rel=1e-5)


def written(folder, tensors):
    """A folder of Fisher information that is the same in both halves."""
    folder.mkdir()
    for half in (0, 1):
        for name, value in tensors.items():
            save_file({"fisher": value}, folder / f"{half}.{name}.safetensors")
    return folder


def test_the_null_is_the_mean_overlap_of_permuted_elements(tmp_path):
    generator = torch.Generator().manual_seed(0)
    sizes = {"model.layers.0.a.weight": (40, 1.0), "model.layers.0.b.weight": (30, 9.0), "model.norm.weight": (20, 0.1)}
    one, other = ({n: s * torch.rand(d, generator=generator) ** 4 for n, (d, s) in sizes.items()} for _ in range(2))
    found = overlaps([written(tmp_path / "a", one), written(tmp_path / "b", other)], [8, 8], CPU)
    for layer, names in (("0", list(sizes)[:2]), ("head", list(sizes)[2:]), ("all", list(sizes))):
        x = torch.cat([one[name].sqrt() for name in names]).double()
        means = []
        for _ in range(3000):
            y = torch.cat([other[n].sqrt()[torch.randperm(sizes[n][0], generator=generator)] for n in names]).double()
            means.append(float(x @ y / (x.norm() * y.norm())))
        assert float(found[layer].null[0, 1]) == pytest.approx(np.mean(means), abs=4 * np.std(means) / np.sqrt(3000))


def test_equal_diagonals_overlap_wholly_whatever_their_scale_and_disjoint_ones_not_at_all(tmp_path):
    generator = torch.Generator().manual_seed(1)
    value = torch.rand(50, generator=generator)
    left = torch.where(torch.arange(50) < 25, value, 0.0)
    diagonals = [value, 7 * value, left, value - left]
    folders = [written(tmp_path / str(i), {"model.norm.weight": each}) for i, each in enumerate(diagonals)]
    found = overlaps(folders, [4, 6, 5, 9], CPU)["all"].whole
    assert float(found[0, 1]) == pytest.approx(1, abs=1e-6)
    assert float(found[2, 3]) == 0
    torch.testing.assert_close(found, found.T)
    assert torch.all(found <= 1 + 1e-6) and torch.all(found >= 0)


def test_a_layer_without_gradient_has_no_overlap(tmp_path):
    tensors = {"model.norm.weight": torch.zeros(4), "model.layers.0.w": torch.ones(4)}
    folders = [written(tmp_path / name, tensors) for name in "ab"]
    found = overlaps(folders, [4, 4], CPU)
    assert found["head"].whole.isnan().all() and float(found["all"].whole[0, 1]) == pytest.approx(1)


def test_each_pair_stands_there_once(tmp_path):
    generator = torch.Generator().manual_seed(2)
    folders = [written(tmp_path / str(i), {"model.norm.weight": torch.rand(9, generator=generator)}) for i in range(3)]
    found = overlaps(folders, [4, 4, 4], CPU)["all"]
    table = [(row.i, row.j, row.measure) for row in rows(found)]
    assert len(table) == len(set(table)) == 3 + 6
    for row in rows(found):
        if row.measure == "overlap_half":
            assert row.ceiling == pytest.approx(1) and row.value <= 1 + 1e-9
