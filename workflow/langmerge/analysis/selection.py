"""Which units belong to which language, with all sentences and without each block of them.

Every table of units is read off a :class:`Selection`, so that one pass over the counts gives them all with intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from langmerge.analysis import neurons
from langmerge.analysis.neurons import Ranking, Thresholds

LeftOut = Sequence[tuple[np.ndarray, np.ndarray]]  # of neurons.leave_one_out: (p [K, layer, unit], tokens [K])


@dataclass(frozen=True)
class Selection:
    """Language units; axis R is all sentences first, then without each of the blocks.

    ``sets`` bool [R, K, layer, unit]. ``states`` int8 [R, layer, unit]: the one language in whose set the unit fires
    most, K for none. ``leaning`` int8 [R, layer, unit]: the language in which it fires most, selected or not.
    """

    sets: np.ndarray
    states: np.ndarray
    leaning: np.ndarray


def select(left_out: LeftOut, ranking: Ranking, thresholds: Thresholds | None) -> Selection:
    """Select units with frozen ``thresholds``, or (None) with those that each subset of the sentences gives."""
    sets = np.array(
        [
            neurons.language_units(p, n, ranking, thresholds or neurons.fit_thresholds(p, n, ranking))
            for p, n in left_out
        ]
    )
    most = np.array([np.where(own, p, -1).argmax(0) for own, (p, _) in zip(sets, left_out, strict=True)])
    states = np.where(sets.any(1), most, sets.shape[1]).astype(np.int8)
    leaning = np.array([p.argmax(0) for p, _ in left_out], dtype=np.int8)
    return Selection(sets, states, leaning)


def sizes(selection: Selection) -> np.ndarray:
    """Units per language and layer, [R, K, layer]."""
    return selection.sets.sum(-1)


def centres(selection: Selection) -> np.ndarray:
    """Centre of mass of each language's units over depth, [R, K]: 0 the first layer, 1 the last; NaN for no units.

    sum_l l n_l / ((L - 1) sum_l n_l), and NaN for L = 1.
    """
    n = sizes(selection)
    layers = np.arange(n.shape[2])
    total = n.sum(2) * max(1, n.shape[2] - 1)
    missing = np.full(total.shape, np.nan)
    return np.divide(n @ layers, total, out=missing, where=(total > 0) & (n.shape[2] > 1))


def end_layers(layers: int, upper: float = 0.15) -> list[int]:
    """The first layer and the top 15 % (at least one)."""
    top = max(1, int(np.ceil(upper * layers - 1e-9)))
    return sorted({0, *range(layers - top, layers)})


def ends(selection: Selection) -> np.ndarray:
    """Share of each language's units in the :func:`end_layers`, [R, K]; NaN for no units."""
    n = sizes(selection)
    total = n.sum(2)
    inside = n[:, :, end_layers(n.shape[2])].sum(2)
    return np.divide(inside, total, out=np.full(total.shape, np.nan), where=total > 0)


def overlaps(selection: Selection) -> tuple[np.ndarray, np.ndarray]:
    """Common units of every two languages and their Jaccard index, both [R, K, K]; NaN where both sets are empty."""
    flat = selection.sets.reshape(*selection.sets.shape[:2], -1).astype(np.float32)
    both = flat @ flat.swapaxes(1, 2)
    own = both.diagonal(axis1=1, axis2=2)
    union = own[:, :, None] + own[:, None, :] - both
    return both, np.divide(both, union, out=np.full(both.shape, np.nan), where=union > 0)


def flows(before: Selection, after: Selection) -> np.ndarray:
    """Units by state before and after, [R, K + 1, K + 1]; the last place is "none".

    Rows are the states that ``before`` gives a unit, columns those that ``after`` gives the same unit.
    """
    return _cross(before.states, after.states, before.sets.shape[1] + 1)


def leanings(before: Selection, after: Selection) -> np.ndarray:
    """Selected units of ``before`` by language and by the language in which they fire most in ``after``, [R, K, K]."""
    k = before.sets.shape[1]
    return _cross(before.states, after.leaning, k + 1)[:, :k, :k]


def _cross(rows: np.ndarray, columns: np.ndarray, size: int) -> np.ndarray:
    cells = rows.astype(np.int64) * size + columns
    return np.array([np.bincount(cell.ravel(), minlength=size**2).reshape(size, size) for cell in cells])
