"""Exact ranks of magnitudes, found by sampling and counting, against a full sort."""

import pytest
import torch
from merge_models import save

from langmerge.merging import Recipe, selection, state_dicts
from langmerge.merging.histograms import Histogram
from langmerge.merging.methods.task_vectors import trim
from langmerge.merging.selection import RankSearch
from langmerge.merging.shares import BandEdge, Trim

GENERATOR = torch.Generator().manual_seed(31)
NOISE = torch.randn(50_001, generator=GENERATOR)
VECTORS = {
    "normal": NOISE,
    "heavy tails": NOISE**5,
    "grid": (NOISE * 4).round() / 4,
    "nearly all zero": NOISE * (NOISE.abs() > 3),
    "constant": torch.full((50_001,), -0.5),
    "zero": torch.zeros(50_001),
    "two values": torch.where(NOISE > 0, 1.0, -2.0),
    "sorted": NOISE.sort().values,
    "rows of unequal size": (NOISE[:50_000].view(50, 1000) * torch.logspace(-4, 4, 50)[:, None]).flatten(),
    "columns of unequal size": (NOISE[:50_000].view(50, 1000) * torch.logspace(-4, 4, 1000)).flatten(),
    "tiny numbers": NOISE * 1e-40,
    "short": NOISE[:100],
    "one entry": NOISE[:1],
}


def search(values, ranks, block=4096):
    found = RankSearch(len(values), ranks)
    blocks = list(zip(range(0, len(values), block), values.split(block), strict=True))
    if found.sampled:
        for _, part in blocks:
            found.sample(part[found.positions(len(part))])
        found.place()
    for start, part in blocks:
        found.count(part, start)
    return found


@pytest.mark.parametrize("block", [1 << 20, 4096, 1000])
@pytest.mark.parametrize("name", VECTORS)
def test_a_found_rank_is_that_of_a_full_sort(name, block):
    values = VECTORS[name]
    largest = values.abs().sort(descending=True).values
    ranks = sorted({max(1, int(share * len(values))) for share in (0.0, 1e-4, 0.1, 0.1003, 0.2, 0.5, 0.99, 1.0)})
    found = search(values, ranks, block).found()
    for rank, result in found.items():
        assert result.magnitude == float(largest[rank - 1])
        assert result.larger == int((largest > result.magnitude).sum())
        assert result.equal == int((largest == result.magnitude).sum())
    # Missing is allowed, since the histogram then takes over, but a sample of a stream as it comes should not.
    assert len(found) == len(ranks)


def test_brackets_hold_few_entries_of_a_vector_without_ties():
    held = sum(bracket.size for bracket in search(NOISE, [10_000])._brackets)
    assert 0 < held < 0.1 * len(NOISE)


@pytest.mark.parametrize("name", ["normal", "grid", "two values"])
def test_other_devices_count_the_same(name):
    values = VECTORS[name]
    here, there = (RankSearch(len(values), [5000, 30_000]) for _ in range(2))
    for found in (here, there):
        found.sample(values[found.positions(len(values))])
        found.place()
    here.count(values, 0)
    there._count_on_device(values.abs(), 0)
    assert here.found() == there.found() != {}


def test_equal_entries_are_located_in_the_piece_where_they_stand():
    values = VECTORS["grid"]
    found = search(values, [9000], block=1000)
    result = found.found()[9000]
    where = (values.abs() == result.magnitude).nonzero().flatten().tolist()
    for number in (1, 2, result.equal // 2, result.equal):
        start, rest = found.locate(9000, result.magnitude, number)
        assert [i for i in where if i >= start][rest - 1] == where[number - 1]
        assert start <= where[number - 1] < start + 1000


@pytest.mark.parametrize("name", VECTORS)
def test_the_histogram_finds_the_same(name):
    values = VECTORS[name]
    largest = values.abs().sort(descending=True).values
    histogram = Histogram()
    for part in values.split(777):
        histogram.add_high(part)
    for rank in {1, (len(values) + 1) // 2, len(values)}:
        for part in values.split(777):
            histogram.add_low(part, {histogram.locate(rank)[0]})
        result = histogram.found(rank)
        histogram.low = {}
        magnitude = float(largest[rank - 1])
        assert result == selection.Found(magnitude, int((largest > magnitude).sum()), int((largest == magnitude).sum()))


def test_memory_is_bounded_by_counting_equal_entries_and_then_by_giving_up(monkeypatch):
    monkeypatch.setattr(selection, "KEPT", 600)
    grid = search(VECTORS["grid"], [9000], block=1000)
    assert grid._brackets[0].size <= 600
    largest = VECTORS["grid"].abs().sort(descending=True).values
    assert grid.found()[9000].magnitude == float(largest[8999])
    monkeypatch.setattr(selection, "KEPT", 60)
    gone = search(NOISE, [9000], block=1000)
    assert gone._brackets[0].parts == []
    assert gone.found() == {}


# ---- through the engine ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models: one whose task vector takes few values, one without ties."""
    base = {"u": torch.zeros(40, 9), "v": torch.zeros(64), "w": torch.zeros(1), "x": torch.zeros(30, 1)}
    states = {
        "base": base,
        "coarse": {n: torch.randint(-3, 4, t.shape, generator=GENERATOR).float() for n, t in base.items()},
        "fine": {n: torch.randn(t.shape, generator=GENERATOR) for n, t in base.items()},
    }
    root = tmp_path_factory.mktemp("selection")
    return states, {name: save(root / name, state) for name, state in states.items()}


def kept_of(values, density, convention):
    """What a trim keeps, by a sort."""
    count = int(density * len(values)) + (convention == "paper")
    count = max(1, count) if convention == "mergekit" else count
    order = sorted(range(len(values)), key=lambda i: (-abs(values[i]), i))
    kept = set(order[:count])
    if convention == "paper":
        kept = {i for i in order if abs(values[i]) >= abs(values[order[min(count, len(order)) - 1]])}
    return [value if i in kept else 0.0 for i, value in enumerate(values)]


WAYS = {
    "whole": {},
    "sampled": {"WHOLE": 0, "STRIDES": (3,)},
    "missed": {"WHOLE": 0, "_of_ranks": lambda sample, ranks: dict.fromkeys(ranks, 99.0)},
    "missed by some": {"WHOLE": 0, "_of_ranks": lambda sample, ranks: dict.fromkeys(ranks, 1.0)},
    "counted": {"WHOLE": 0, "STRIDES": (3,), "KEPT": 20},
    "given up": {"WHOLE": 0, "STRIDES": (3,), "KEPT": 1},
}


@pytest.mark.parametrize("block", [7, 100, 10_000])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("convention", ["paper", "mergekit", "peft"])
def test_a_trim_does_not_depend_on_how_its_threshold_is_found(models, monkeypatch, way, convention, block):
    states, sources = models
    for name, value in WAYS[way].items():
        monkeypatch.setattr(selection, name, value)
    densities = (0.003, 0.2, 0.21, 0.6)
    recipes = [
        Recipe(f"{model}{density}", "ties", (model,), "base", {"density": density, "convention": convention})
        for model in ("coarse", "fine")
        for density in densities
    ]
    merged = {result.recipe.name: result.state_dict for result in state_dicts(recipes, sources, block=block)}
    for model in ("coarse", "fine"):
        for density in densities:
            names = sorted(states["base"])
            parts = [states[model][name].flatten().tolist() for name in names]
            if convention == "paper":
                whole = kept_of([value for part in parts for value in part], density, convention)
                expected = dict(zip(names, torch.tensor(whole).split([len(part) for part in parts]), strict=True))
            else:
                kept = [torch.tensor(kept_of(part, density, convention)) for part in parts]
                expected = dict(zip(names, kept, strict=True))
            for name in names:
                assert torch.equal(merged[f"{model}{density}"][name].flatten(), expected[name]), name


def test_equal_shares_are_one_and_count_what_their_convention_says():
    assert len({Trim(0.2, "peft"), Trim(0.2, "peft"), Trim(0.2, "paper")}) == 2
    assert [Trim(0.001, c).rank(100) for c in ("paper", "mergekit", "peft")] == [1, 1, 0]
    # density 0.9, gamma 0.01 of 1 .. 100 keeps 10 .. 99; density 0.995 keeps 1 .. 99
    assert [BandEdge(0.9, 0.01, "mergekit", upper).rank(100) for upper in (False, True)] == [91, 1]
    assert [BandEdge(0.995, 0.01, "mergekit", upper).rank(100) for upper in (False, True)] == [100, 1]


def test_trim_keeps_entries_of_the_threshold_at_the_positions_named():
    values = torch.tensor([2.0, -1.0, 1.0, -2.0, 1.0, 0.5, -0.0])
    assert trim(values, 1.0).tolist() == [2, -1, 1, -2, 1, 0, 0]
    assert trim(values, 1.0, last=1).tolist() == [2, -1, 0, -2, 0, 0, 0]
    assert trim(values, 1.0, last=-5, first=2).tolist() == [2, 0, 1, -2, 1, 0, 0]
    assert trim(values, 1.0, last=-1).tolist() == [2, 0, 0, -2, 0, 0, 0]
    assert trim(values, 1.0, last=99).tolist() == trim(values, 1.0).tolist()
    assert trim(values, 0.0).tolist() == values.tolist()
    assert trim(values, float("inf")).tolist() == [0.0] * 7
