"""Sums over the entries of task vectors, from which norms, cosines and sign measures follow.

N task vectors, the S specialists first. Every field adds up over blocks and over tensors, so that a layer, a module
type or the whole model is weighed as one long vector: a cosine of sums, never a mean of cosines. All in float64.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

PATTERNS = 32  # sign patterns behind the null of TIES' joint measures, if there are more


class Sums(NamedTuple):
    """Float64 arrays with any leading shape [...] (blocks, tensors, leave-one-out draws).

    Trimmed vectors, t, keep the entries at or above the threshold and are 0 elsewhere. ``pairs`` fields are filled for
    every specialist i and every j > i, and 0 elsewhere.
    """

    entries: np.ndarray  # [...] N
    base: np.ndarray  # [...] sum theta_0^2
    zeros: np.ndarray  # [..., N] entries with tau = 0
    inner: np.ndarray  # [..., N, N] sum a b
    products: np.ndarray  # [..., N, N] sum |a b|
    squares: np.ndarray  # [..., N, N] sum a^2 b^2
    both: np.ndarray  # [..., N, N] entries that both trims keep
    conflicts: np.ndarray  # [..., N, N] of these, those with opposite signs
    magnitude: np.ndarray  # [..., 2, N] sum |a|: untrimmed, trimmed
    plus: np.ndarray  # [..., 2, N, N] sum |a + b| of pairs
    minus: np.ndarray  # [..., 2, N, N] sum |a - b| of pairs
    kept: np.ndarray  # [..., N] sum t^2
    joint: np.ndarray  # [..., 2] sum |sum_k tau_k| over the specialists
    chance: np.ndarray  # [..., 2] the same in the mean over independent signs


def total(sums: Iterable[Sums]) -> Sums:
    """The sum of all; ValueError if there are none."""
    first, *rest = sums
    for other in rest:
        first = Sums(*map(np.add, first, other))
    return first


def stack(sums: Iterable[Sums]) -> Sums:
    """Several sums along a new first axis."""
    return Sums(*map(np.stack, zip(*sums, strict=True)))


def leave_one_out(sums: Sums) -> Sums:
    """From sums [T, ...] the total of all, then of all but each one: [1 + T, ...].

    Heads and tails are added, nothing is subtracted: what is left may be tiny beside what was left out.
    """

    def field(values: np.ndarray) -> np.ndarray:
        head = np.concatenate([np.zeros_like(values[:1]), values.cumsum(0)])
        tail = np.concatenate([values[::-1].cumsum(0)[::-1], np.zeros_like(values[:1])])
        return np.concatenate([head[-1:], head[:-1] + tail[1:]])

    return Sums(*map(field, sums))


def of_block(base: Tensor, deltas: Tensor, thresholds: Tensor, specialists: int) -> Sums:
    """The sums of one block: ``base`` [n], ``deltas`` fp32 [N, n], ``thresholds`` fp32 [N] of the trim."""
    kept = (deltas.abs() >= thresholds[:, None]) & (deltas != 0)
    a = deltas.double()
    trimmed = a * kept
    size = a.abs()
    square = a * a
    # -1, 0, 1: products count agreements minus conflicts
    sign = a.sign() * kept
    both = sign.abs() @ sign.abs().T
    magnitude, plus, minus, joint, chance = [], [], [], [], []
    for version in (a, trimmed):
        p, m = _pairs(version, specialists)
        magnitude.append(version.abs().sum(1))
        plus.append(p)
        minus.append(m)
        group = version[:specialists]
        joint.append(_size(group.sum(0)))
        chance.append(_independent_signs(group))
    fields = (
        torch.tensor(float(base.numel())),
        base.double().square().sum(),
        (a == 0).sum(1).double(),
        a @ a.T,
        size @ size.T,
        square @ square.T,
        both,
        (both - sign @ sign.T) / 2,
        torch.stack(magnitude),
        torch.stack(plus),
        torch.stack(minus),
        trimmed.square().sum(1),
        torch.stack(joint),
        torch.stack(chance),
    )
    return Sums(*(field.double().cpu().numpy() for field in fields))


def _size(a: Tensor) -> Tensor:
    return torch.linalg.vector_norm(a, 1)


def _pairs(a: Tensor, specialists: int) -> tuple[Tensor, Tensor]:
    """sum |a_i + a_j| and sum |a_i - a_j| [N, N] for specialists i and all j > i."""
    plus, minus = a.new_zeros(len(a), len(a)), a.new_zeros(len(a), len(a))
    for i in range(specialists):
        for j in range(i + 1, len(a)):
            plus[i, j] = _size(a[i] + a[j])
            minus[i, j] = _size(a[i] - a[j])
    return plus, minus


def _independent_signs(a: Tensor) -> Tensor:
    """The mean of sum |sum_k s_k a_k| over independent fair signs s; exact up to six vectors, else over 32 patterns."""
    if len(a) <= 6:
        signs = torch.tensor([(1.0, *rest) for rest in itertools.product((1.0, -1.0), repeat=len(a) - 1)])
    else:
        signs = torch.randint(0, 2, (PATTERNS, len(a)), generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    mean = a.new_zeros(())
    for pattern in signs.to(a):
        mean += _size(pattern @ a) / len(signs)
    return mean


# ---- measures ------------------------------------------------------------------------------------------------------


class Measure(NamedTuple):
    """A measure's values, what is expected by chance, and the standard deviation under chance (None: not defined)."""

    value: np.ndarray
    null: np.ndarray | float | None = None
    deviation: np.ndarray | None = None


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, NaN where b is 0."""
    a, b = np.broadcast_arrays(a, b)
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b != 0)


def _diagonal(matrix: np.ndarray) -> np.ndarray:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


def vector_measures(s: Sums) -> dict[str, Measure]:
    """Of each task vector, [..., N].

    ``norm`` ||tau||; ``rms`` ||tau|| / sqrt(N); ``drift`` ||tau|| / ||theta_0|| (NaN where the base is 0);
    ``zero_share`` of entries that did not change; ``redundant_share`` 1 - ||trim(tau)||^2 / ||tau||^2, what TIES' trim
    takes of the squared norm (TIES-Merging, arXiv 2306.01708; NaN for tau = 0).
    """
    square = _diagonal(s.inner)
    return {
        "norm": Measure(np.sqrt(square)),
        "rms": Measure(np.sqrt(_ratio(square, s.entries[..., None]))),
        "drift": Measure(np.sqrt(_ratio(square, s.base[..., None]))),
        "zero_share": Measure(_ratio(s.zeros, s.entries[..., None])),
        "redundant_share": Measure(1 - _ratio(s.kept, square)),
    }


def pair_measures(s: Sums) -> dict[str, Measure]:
    """Of every two task vectors a, b, [..., N, N], read at i < j with i a specialist.

    ``cosine`` <a, b> / (||a|| ||b||). ``sign_conflict``: share of opposite signs among entries that both trims keep.
    ``weighted_conflict``: sum |a b| [opposite signs] / sum |a b|, all entries. ``interference``
    ||a + b||_1 / (||a||_1 + ||b||_1), from 0 to 1, where 1 means that nothing cancels. ``elect_loss``: the share of the
    trimmed vectors' magnitude that TIES' election of a sign throws away; per entry it keeps the larger of the positive
    and the negative sum, (A + |S|) / 2 of a total A, so it is (1 - trimmed interference) / 2.

    The null keeps all magnitudes and makes the signs independent and fair: it knows that a few large entries weigh
    most, which chance levels such as 1 / sqrt(N) for the cosine do not. NaN where a denominator is 0.
    """
    square = _diagonal(s.inner)
    norms = np.sqrt(square[..., :, None] * square[..., None, :])
    spread = np.sqrt(s.squares)
    sizes = s.magnitude[..., :, None] + s.magnitude[..., None, :]  # [..., 2, N, N]
    # |a + b| and |a - b| are |a| + |b| and ||a| - |b|| in one order or the other: their mean is that over fair signs
    found, chance = _ratio(s.plus, sizes), _ratio((s.plus + s.minus) / 2, sizes)
    whole, trimmed = (..., 0, slice(None), slice(None)), (..., 1, slice(None), slice(None))
    return {
        "cosine": Measure(_ratio(s.inner, norms), 0.0, _ratio(spread, norms)),
        "sign_conflict": Measure(_ratio(s.conflicts, s.both), 0.5, 0.5 * np.sqrt(_ratio(np.ones_like(s.both), s.both))),
        "weighted_conflict": Measure((1 - _ratio(s.inner, s.products)) / 2, 0.5, _ratio(spread, s.products) / 2),
        "interference": Measure(found[whole], chance[whole]),
        "elect_loss": Measure((1 - found[trimmed]) / 2, (1 - chance[trimmed]) / 2),
    }


def joint_measures(s: Sums, specialists: int) -> dict[str, Measure]:
    """``interference`` and ``elect_loss`` of all specialists together, [...]; see :func:`pair_measures`."""
    sizes = s.magnitude[..., :specialists].sum(-1)
    found, chance = _ratio(s.joint, sizes), _ratio(s.chance, sizes)
    return {
        "interference": Measure(found[..., 0], chance[..., 0]),
        "elect_loss": Measure((1 - found[..., 1]) / 2, (1 - chance[..., 1]) / 2),
    }
