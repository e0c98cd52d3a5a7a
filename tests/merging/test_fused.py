"""The C loops against torch's functions: the same bits, whatever the element types, shapes and blocks."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from merge_models import CONFIG, save

from langmerge.merging import Merge, Recipe
from langmerge.merging.elements import BFLOAT16, FLOAT16, FLOAT32, Elements, element_type
from langmerge.merging.fused import library as compiled
from langmerge.merging.fused import loops
from langmerge.merging.randomness import random_bits, run_keys, stream_key
from langmerge.merging.ranks import row_ranks

ALL = ("a", "b", "c")
SHAPES = {"wide": (5, 4100), "odd": (131, 777), "column": (70, 1), "vector": (2049,), "whole": (64, 1024)}

needs_loops = pytest.mark.skipif(compiled.library() is None, reason="no C compiler")


def models(root, dtype):
    generator = torch.Generator().manual_seed(3)
    base = {name: torch.randn(shape, generator=generator) * 0.02 for name, shape in SHAPES.items()}
    folders = {"base": save(root / "base", {n: t.to(dtype) for n, t in base.items()}, CONFIG)}
    for model in ALL:
        state = {n: t + torch.randn(t.shape, generator=generator) * 0.002 for n, t in base.items()}
        state["odd"][7] = base["odd"][7]  # a row without any change
        state["wide"][2, ::3] = base["wide"][2, ::3] + 0.001  # many equal magnitudes, of either sign
        state["wide"][2, 1::3] = base["wide"][2, 1::3] - 0.001
        folders[model] = save(root / model, {n: t.to(dtype) for n, t in state.items()}, CONFIG)
    return folders


@pytest.fixture(scope="module", params=[torch.bfloat16, torch.float16, torch.float32], ids=str)
def sources(request, tmp_path_factory):
    return models(tmp_path_factory.mktemp("fused"), request.param)


def merged(sources, recipe, **options):
    merge = Merge([recipe], sources, **options)
    parts = {}
    for piece in merge:
        parts.setdefault(piece.tensor, []).append(piece.values)
    return {name: torch.cat(values) for name, values in parts.items()}, merge.statistics("out")


def both(monkeypatch, sources, recipe, dtype=None, **options):
    """The merge by the loops and by torch."""
    fused = merged(sources, recipe, dtype=dtype, **options)
    with monkeypatch.context() as patch:
        patch.setattr(loops, "usable", lambda device: False)
        return fused, merged(sources, recipe, dtype=dtype, block=50_000)


DELTA = [
    ("task_arithmetic", {"scale": 0.3}),
    ("task_arithmetic", {"weights": [0.2, -0.7, 1.5], "normalize": True}),
    ("magnitude_prune", {"density": 0.3, "convention": "mergekit"}),
    *(
        ("ties", {"density": density, "convention": convention, "weights": weights})
        for density in (0.2, 0.9)
        for convention in ("paper", "mergekit", "peft")
        for weights in ([1.0, 1.0, 1.0], [0.5, 1.5, 0.3])
    ),
    ("ties", {"density": 0.5, "weights": [0.5, -1.5, 0.0], "convention": "mergekit"}),
    ("ties", {"density": 0.5, "weights": [0.5, 1.5, 0.3], "normalize": False}),
    ("dare_linear", {"density": 0.4}),
    ("dare_ties", {"density": 0.4, "trim": 0.6, "convention": "mergekit"}),
    ("dare_ties", {"density": 0.4, "rescale": "none", "convention": "paper"}),
    ("della", {"density": 0.5, "epsilon": 0.2}),
    ("della", {"density": 0.5, "epsilon": 0.1, "convention": "mergekit", "rescale": "none"}),
    ("della_linear", {"density": 0.7, "epsilon": 0.1, "convention": "mergekit"}),
    *(
        (method, {"density": 0.7, "gamma": 0.05, "convention": convention})
        for method in ("breadcrumbs", "breadcrumbs_ties")
        for convention in ("paper", "mergekit")
    ),
    ("sce", {"select_topk": 1.0}),
]


@needs_loops
@pytest.mark.parametrize("output", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize(("method", "parameters"), DELTA)
def test_the_loops_give_the_bits_of_torch(monkeypatch, sources, method, parameters, output):
    recipe = Recipe("out", method, ALL, base="base", parameters=parameters)
    (ours, our_statistics), (reference, statistics) = both(monkeypatch, sources, recipe, output, block=3000)
    assert set(ours) == set(SHAPES)
    if method == "sce":  # its weights rest on float32 sums of squares
        for name in SHAPES:
            torch.testing.assert_close(ours[name].float(), reference[name].float(), atol=1e-6, rtol=2e-2)
    else:
        assert all(torch.equal(ours[name], reference[name]) for name in SHAPES)
    assert close(our_statistics, statistics)


def close(one, other):
    """Equal numbers up to what sums in float32 leave open, anything else equal."""
    if isinstance(one, dict):
        return set(one) == set(other) and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    return one == pytest.approx(other, rel=1e-4, abs=1e-6) if isinstance(one, float) else one == other


@needs_loops
@pytest.mark.parametrize("method", ["linear", "slerp", "nuslerp", "multislerp", "karcher", "model_stock"])
def test_averages_by_the_loops_are_those_of_torch(monkeypatch, sources, method):
    names = ALL[:2] if method in ("slerp", "nuslerp") else ALL
    base = "base" if method == "model_stock" else None
    recipe = Recipe("out", method, names, base=base, parameters={"t": 0.3} if method == "slerp" else {})
    (ours, _), (reference, _) = both(monkeypatch, sources, recipe, torch.float32)
    for name in SHAPES:
        # float64 sums in another order move the factors by their last place at most
        torch.testing.assert_close(ours[name], reference[name], atol=0, rtol=0 if method == "linear" else 3e-7)


@needs_loops
@pytest.mark.parametrize("method", ["dare_linear", "della_linear", "magnitude_prune", "breadcrumbs"])
def test_vectors_matched_in_their_sums_by_the_loops_are_those_of_torch(monkeypatch, sources, method):
    parameters = {"density": 0.6, "rescale": "l1", "convention": "mergekit"}
    recipe = Recipe("out", method, ALL, base="base", parameters=parameters)
    (ours, _), (reference, _) = both(monkeypatch, sources, recipe, torch.float32, block=3000)
    for name in SHAPES:
        torch.testing.assert_close(ours[name], reference[name], atol=0, rtol=3e-7)


@needs_loops
@pytest.mark.parametrize("top", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("convention", ["paper", "mergekit"])
def test_sce_selects_the_same_entries(monkeypatch, sources, top, convention):
    parameters = {"select_topk": top, "convention": convention}
    recipe = Recipe("out", "sce", ALL, base="base", parameters=parameters)
    (ours, _), (reference, _) = both(monkeypatch, sources, recipe, torch.float32, block=3000)
    for name in SHAPES:
        torch.testing.assert_close(ours[name], reference[name], atol=2e-9, rtol=1e-6)


class One:
    """A block of a tensor of its own."""

    def __new__(cls, values, start=0):
        from langmerge.merging.block import Block

        return Block("tensor", tuple(values.shape), start, values.numel(), lambda block, name: values.flatten())


@needs_loops
@pytest.mark.parametrize("columns", [1, 2, 63, 64, 777, 1025, 5000])
@pytest.mark.parametrize("kind", ["normal", "equal", "outlier", "zero", "few"])
def test_ranks_and_the_masks_they_decide(columns, kind):
    generator = torch.Generator().manual_seed(columns)
    values = torch.randn(6, columns, generator=generator)
    if kind == "equal":
        values = torch.where(values > 0, 0.5, -0.5)
    elif kind == "outlier":
        values[:, 0] = 1e30
    elif kind == "zero":
        values.zero_()
    elif kind == "few":
        values = (values * 3).round() / 1024
    block = One(values)
    ranks = row_ranks(values).view(-1)
    assert np.array_equal(loops.row_ranks(block, loops.plain(block, "m")), ranks)
    for slope, offset in ((0.2 / max(1, columns - 1), 0.4), (0.0, 0.5), (1.0 / max(1, columns - 1), 0.0)):
        mask = torch.from_numpy(
            loops.mask_of(block, loops.ranked(loops.plain(block, "m"), block, 5, "m", (slope, offset), None))
        )
        bits = random_bits(stream_key(5, "m", "tensor"), 0, values.numel())
        keep = (ranks * slope).add_(offset).double()
        expected = bits < (keep * 2**31).to(torch.int64)
        found = (mask[:, None] >> torch.arange(64)) & 1
        assert torch.equal(found.flatten()[: values.numel()].bool(), expected)


@needs_loops
def test_the_loops_find_what_is_not_finite_and_what_does_not_fit():
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        values = torch.full((1100,), torch.finfo(dtype).max, dtype=dtype)
        assert loops.all_finite(Elements.of(values))
        assert loops.all_finite(Elements.of(-values[:0]))
        for bad in (torch.nan, torch.inf, -torch.inf):
            for place in (0, 517, 1099):
                spoilt = values.clone()
                spoilt[place] = bad
                assert not loops.all_finite(Elements.of(spoilt))
    large = np.array([0.0, 3.4e38, 1.0], np.float32)
    zero = Elements.of(np.zeros(3, np.float32))
    for reference in (None, zero):  # what is not finite is found in the sums, or looked for
        assert fitting(large, FLOAT32, reference)
        assert not fitting(large, BFLOAT16, reference)
        assert not fitting(np.array([65520.0, 0, 0], np.float32), FLOAT16, reference)
        assert fitting(np.array([65519.0, 0, 0], np.float32), FLOAT16, reference)
        for bits in (0x7F800000, 0x7FC00000, 0x7FFFFFFF, 0xFFFF8000):  # infinity and NaN of several payloads
            bad = np.array([0, bits, 0], np.uint32).view(np.float32)
            assert not any(fitting(bad, dtype, reference) for dtype in (FLOAT32, BFLOAT16, FLOAT16))


def fitting(exact, dtype, reference):
    return len(loops.finish(exact, dtype, reference)[0]) == 1


@needs_loops
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_rounding_is_to_the_nearest_even(dtype):
    bits = torch.randint(-(2**31), 2**31, (100_000,), generator=torch.Generator().manual_seed(0), dtype=torch.int64)
    exact = bits.to(torch.int32).view(torch.float32)
    exact = exact[exact.isfinite()]
    place = Elements.of(torch.empty(len(exact), dtype=dtype))
    loops.finish(exact.numpy(), element_type(dtype), None, places=[place])
    assert torch.equal(place.tensor, exact.to(dtype))


@needs_loops
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("own", [True, False])
def test_outputs_that_differ_in_scale_are_finished_together_as_each_alone(dtype, own):
    generator = torch.Generator().manual_seed(5)
    base, other, merged = (torch.randn(2500, generator=generator) * 0.02 for _ in range(3))
    base, other = base.to(torch.bfloat16), other.to(torch.bfloat16)
    merged[::3] = 0
    scales = [0.0, 0.3, -1.7]
    reference = Elements.of(base if own else other)
    rounded, sums = loops.finish(
        merged.numpy(), element_type(dtype), reference, Elements.of(base), scales, places=[None] * len(scales)
    )
    for scale, elements, row in zip(scales, rounded, sums, strict=True):
        exact = torch.add(base.float(), merged, alpha=scale)
        assert torch.equal(elements.tensor, exact.to(dtype))
        old, after = (values.double() for values in (reference.tensor, elements.tensor))
        change, changed = (exact.double() - old).abs(), exact.double() != old
        expected = [change.sum(), (after - exact.double()).abs().sum(), (change**2).sum()]
        expected += [(changed & (after != old)).sum(), changed.sum()]
        assert row.tolist() == pytest.approx([float(each) for each in expected], rel=1e-6)


@needs_loops
def test_sums_that_overflow_in_float32_are_taken_in_float64():
    values = torch.full((3000,), 2e19)
    block = One(values)
    grams, counts = loops.describe(block, [loops.plain(block, "m")])
    assert float(grams[0, 0]) == pytest.approx(3000 * 4e38)
    assert counts.tolist() == [0, 3000]
    large, zero = np.full(3000, 3e38, np.float32), np.zeros(3000, np.float32)
    sums = loops.finish(large, FLOAT32, Elements.of(zero))[1].tolist()[0]
    assert sums == pytest.approx([3000 * 3e38, 0, 3000 * 9e76, 3000, 3000])


def test_runs_of_random_numbers_have_their_own_keys():
    key = stream_key(0, "m", "t")
    assert len({run_keys(key, run) for run in range(100)}) == 100


@pytest.mark.parametrize("setting", [{"LANGMERGE_FUSED": "0"}, {"PATH": "", "XDG_CACHE_HOME": "{}"}])
def test_without_the_loops_torch_does_the_work(tmp_path, setting):
    code = "from langmerge.merging.fused.library import library; print(library())"
    environment = {**os.environ, **{key: value.format(tmp_path) for key, value in setting.items()}}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "None"
