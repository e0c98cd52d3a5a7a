"""Sums and counts over spans, against loops over positions."""

from dataclasses import replace

import pytest
import torch

from langmerge.observation.windows import EXACT, window
from langmerge.spans import Batch

SPANS = [[(2, 5), (7, 8)], [(1, 2), (3, 9)], [(3, 4), (4, 7)]]  # [B, S], half-open, in 11 positions


def batch_of(spans):
    """A batch with these spans and nothing else that counts."""
    length = 2 + max(end for row in spans for _, end in row)
    mask = torch.zeros(len(spans), 2, length)
    for b, row in enumerate(spans):
        for s, (start, end) in enumerate(row):
            mask[b, s, start:end] = 1
    nothing = torch.zeros(len(spans), length, dtype=torch.long)
    return Batch(torch.arange(len(spans)), nothing, nothing, mask, mask.sum(-1).long())


def window_of(spans, bags=True):
    """The window of :func:`batch_of`, all in direction 0 and block 0, with or without what only a CPU uses."""
    zeros = torch.zeros(len(spans), dtype=torch.long)
    found = window(batch_of(spans), zeros, zeros, 1, 1)
    return found if bags else replace(found, bags=None)


def slow_sums(values, spans):
    """Sums [B, S, I] position by position."""
    found = torch.zeros(len(spans), 2, values.shape[2], dtype=torch.float64)
    for b, row in enumerate(spans):
        for s, (start, end) in enumerate(row):
            for t in range(start, end):
                found[b, s] += values[b, t].double()
    return found


@pytest.mark.parametrize("bags", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_sums_and_counts_are_those_of_a_loop_over_positions(bags, dtype):
    values = torch.randn(3, 11, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = window_of(SPANS, bags)
    sums = found.sums(values)
    assert sums.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(sums.double(), slow_sums(values, SPANS), rtol=1e-6, atol=1e-6)
    events = (values > 0).to(dtype)
    assert torch.equal(found.counts(found.view(events)).double(), slow_sums(events, SPANS))


@pytest.mark.parametrize("bags", [True, False])
def test_what_lies_between_the_spans_does_not_count(bags):
    """What stands in no span may be anything; without the mask's product not even its infinities are seen."""
    values = torch.ones(3, 11, 4)
    kept = window_of(SPANS, bags).sums(values)
    inside = batch_of(SPANS).mask.any(1)
    values[~inside] = 1e30 if not bags else torch.inf
    assert torch.equal(window_of(SPANS, bags).sums(values), kept)


def test_the_window_has_no_template_before_and_no_padding_behind():
    found = window_of(SPANS)
    assert (found.low, found.high) == (1, 9)
    assert found.tokens.tolist() == [[3, 1], [1, 6], [1, 3]]
    values = torch.arange(33.0).view(3, 11, 1)
    assert found.inside(values).flatten().tolist() == [2, 3, 4, 7, 12, 14, 15, 16, 17, 18, 19, 25, 26, 27, 28]


@pytest.mark.parametrize("dtype", list(EXACT))
def test_long_spans_are_counted_exactly_in_half_precision(dtype):
    """One more than a type can hold: a product with all positions at once would lose it."""
    length = EXACT[dtype] + 2
    spans = [[(0, length - 1), (length - 1, length)]]
    found = window_of(spans, bags=False)
    events = torch.ones(1, length, 2, dtype=dtype)
    assert found.counts(found.view(events)).tolist() == [[[length - 1] * 2, [1] * 2]]
