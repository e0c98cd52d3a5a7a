"""Nulls of large matrices: a similar small problem gives what the large one would."""

import math

import numpy as np
import pytest
import torch
from planted import plus, random_state

from langmerge.weighing import alignment, nulls, tables
from langmerge.weighing import weigh as weighing
from langmerge.weighing.alignment import Found, Key
from langmerge.weighing.subspaces import Exact, Sketch

SPECIALISTS = 3
SPECTRA = {
    "power law": lambda n: torch.arange(1, n + 1.0) ** -0.5,
    "flat": lambda n: torch.ones(n),
    "steep": lambda n: torch.exp(-0.05 * torch.arange(n)),
    "low rank": lambda n: torch.linspace(1, 0.5, 24),
}


def matrices_of(kind, shape, seed=0):
    """Independent specialists of unequal norms and their mean [S + 1, rows, columns], written in full."""
    generator = torch.Generator().manual_seed(seed)
    matrices = []
    for s in range(SPECIALISTS):
        values = (1 + 0.3 * s) * SPECTRA[kind](min(shape))
        frames = [torch.linalg.qr(torch.randn(d, len(values), generator=generator).double())[0] for d in shape]
        matrices.append(frames[0] * values @ frames[1].T)
    return torch.stack([*matrices, torch.stack(matrices).mean(0)])


def frames_of(stack, sketch=0):
    shape = tuple(stack.shape[1:])
    return Sketch(lambda: [stack], shape, SPECIALISTS, sketch, 1) if sketch else Exact(lambda: [stack], shape, 3)


def observed(frames):
    """What independent specialists gave: mean excess over the plain null by side, and interference by group."""
    found = {}
    for side in ("left", "right"):
        ratios = [alignment.alignment_ratio(frames, side, i, SPECIALISTS) for i in range(SPECIALISTS)]
        found[side] = np.mean([ratio.value - ratio.null for ratio in ratios])
    return found | {key: value.value for key, value in alignment.interference_measures(frames, SPECIALISTS).items()}


def predicted(frames, monkeypatch, entries, draws=4):
    monkeypatch.setattr(weighing, "NULL_ENTRIES", entries)
    found = weighing._expected(frames, SPECIALISTS, draws, 5)
    means = {
        side: np.mean([found[Key("sar_minus_null", i, SPECIALISTS, side)] for i in range(SPECIALISTS)])
        for side in ("left", "right")
    }
    return means | {key: value for key, value in found.items() if key.measure == "tsv_interference"}


@pytest.mark.parametrize("sketch", [0, 40])
@pytest.mark.parametrize("kind", SPECTRA)
@pytest.mark.parametrize("shape", [(200, 200), (160, 240), (300, 120)])
def test_a_reduced_problem_gives_what_the_whole_one_gives(kind, shape, sketch, monkeypatch):
    frames = frames_of(matrices_of(kind, shape), sketch)
    truth = observed(frames)
    small = predicted(frames, monkeypatch, shape[0] * shape[1] // 6)
    assert set(small) == set(truth)
    for key, value in truth.items():
        if isinstance(key, str):
            assert small[key] == pytest.approx(value, abs=0.025), key
        else:
            assert small[key] == pytest.approx(value, rel=0.2 if sketch else 0.1), key  # 16 directions for 40


@pytest.mark.parametrize("kind", SPECTRA)
def test_the_null_of_a_whole_problem_and_of_a_reduced_one_agree(kind, monkeypatch):
    frames = frames_of(matrices_of(kind, (240, 180), seed=3))
    whole, small = predicted(frames, monkeypatch, 10**9), predicted(frames, monkeypatch, 5000, draws=6)
    for key, value in whole.items():
        assert small[key] == pytest.approx(value, **({"abs": 0.02} if isinstance(key, str) else {"rel": 0.08})), key


def test_a_shrunk_spectrum_keeps_its_shape():
    values = torch.arange(1, 401.0).double() ** -0.8
    small = nulls.shrunk(values, 0.1)
    assert len(small) == 40 and bool((small.diff() < 0).all())
    assert float(small.square().sum()) == pytest.approx(0.1 * float(values.square().sum()))
    for share in (0.25, 0.5, 0.9):
        held = [float(v[: int(share * len(v))].square().sum() / v.square().sum()) for v in (small, values)]
        assert held[0] == pytest.approx(held[1])
    assert nulls.shrunk(values, 1.0) is not None and len(nulls.shrunk(values[:0], 0.5)) == 0


def test_the_unknown_end_of_a_spectrum_has_the_missing_norm():
    values = torch.exp(-0.02 * torch.arange(300)).double()
    found = nulls.whole_spectrum(values[:50], float(values.square().sum()), 300)
    assert torch.equal(found[:50], values[:50]) and len(found) == 300
    assert found.numpy() == pytest.approx(values.numpy(), rel=0.02)  # it does fall geometrically
    flat = nulls.whole_spectrum(torch.ones(10), 40.0, 40)
    assert flat.numpy() == pytest.approx(np.ones(40))
    assert len(nulls.whole_spectrum(values[:50], float(values[:50].square().sum()), 300)) == 50
    assert len(nulls.whole_spectrum(values[:0], 0.0, 300)) == 0


def test_matrices_of_low_rank_are_drawn_as_they_are():
    spectra = [torch.ones(8)] * 3
    problem = nulls.reduced(spectra, 50_000, 4_000, 1 << 19)
    assert (problem.rows, problem.columns, problem.scale) == (50_000, 4_000, 1.0)
    drawn = nulls.independent(problem.spectra, 700, 900, torch.Generator().manual_seed(0))
    assert drawn.shape == (4, 24, 24)
    for matrix in drawn[:3]:
        values = torch.linalg.svdvals(matrix)
        assert values[:8].numpy() == pytest.approx(np.ones(8)) and float(values[8:].max()) < 1e-9
    large = nulls.reduced([torch.ones(4_000)] * 3, 50_000, 4_000, 1 << 19)
    assert large.rows * large.columns == pytest.approx(1 << 19, rel=0.02)
    assert len(large.spectra[0]) / large.columns == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("svd", ["exact", "lowrank"])
def test_every_matrix_has_a_null_whatever_its_size(weigh, monkeypatch, svd):
    """A run in which all matrices are too large to be drawn whole."""
    base, a, b = random_state(0), random_state(1, 0.01), random_state(2, 0.02)
    mean = {name: (a[name] + b[name]) / 2 for name in a}
    states = {"base": base, "a": plus(base, a), "b": plus(base, b), "m": plus(base, mean)}
    where = {"scope": "global", "measure": "sar_minus_null", "model_a": "a", "model_b": "m", "side": "left"}
    whole = [row for row in weigh(states, merges=["m"], svd=svd)["subspaces"] if where.items() <= row.items()]
    monkeypatch.setattr(weighing, "NULL_ENTRIES", 40)
    small = [row for row in weigh(states, merges=["m"], svd=svd)["subspaces"] if where.items() <= row.items()]
    assert whole[0]["null_n"] == small[0]["null_n"] == whole[0]["n"] == 5
    assert small[0]["null"] == pytest.approx(whole[0]["null"], abs=0.1) and small[0]["null"] != whole[0]["null"]


def test_a_null_that_some_matrices_lack_is_that_of_the_others():
    row = tables._averaged("sar_minus_null", [Found(0.3, 0.2), Found(0.5, math.nan), Found(math.nan, 0.9)])
    assert (row["value"], row["n"]) == (0.4, 2)
    assert (row["null"], row["null_n"]) == (0.2, 1)
    none = tables._averaged("sar_minus_null", [Found(0.3), Found(0.5)])
    assert math.isnan(none["null"]) and none["null_n"] == 0


def test_a_specialist_of_zeros_leaves_a_null_for_the_others(monkeypatch):
    stack = matrices_of("power law", (60, 40))
    stack[1] = 0
    stack[3] = stack[:3].mean(0)
    found = weighing._expected(frames_of(stack), SPECIALISTS, 1, 0)
    assert math.isnan(found[Key("sar_minus_null", 1, 3, "left")])
    assert found[Key("sar_minus_null", 0, 3, "left")] > 0
    assert weighing._expected(frames_of(torch.zeros(4, 60, 40).double()), SPECIALISTS, 1, 0) == {}
