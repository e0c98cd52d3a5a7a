"""Units to compare language units with: of the same layer, in no language's set, and firing as often.

What a whole layer does is no property of its language units. A model that fires more in a language, or whose rates move
towards the middle in the language that it was trained on, changes the shares of all units. So the question of language
units is what they do beyond the units that resemble them.
"""

from __future__ import annotations

import numpy as np

NEAREST = 10  # units that fire about as often


def nearest(values: np.ndarray, wanted: np.ndarray, width: int = NEAREST) -> np.ndarray:
    """Places in ``values`` [M] of the ``width`` nearest to each of ``wanted`` [n], int [n, min(width, M)]."""
    order = np.argsort(values, kind="stable")
    width = min(width, len(values))
    # Enough on both sides, and all on the one side where the other has none
    begins = np.clip(np.searchsorted(values[order], wanted) - width, 0, max(0, len(values) - 2 * width))
    near = order[begins[:, None] + np.arange(min(2 * width, len(values)))]
    closest = np.argsort(np.abs(values[near] - wanted[:, None]), axis=1, kind="stable")[:, :width]
    return np.asarray(np.take_along_axis(near, closest, 1))


def peers(p: np.ndarray, units: np.ndarray, free: np.ndarray, layers: int) -> np.ndarray:
    """The ten ``free`` units nearest to each of ``units`` [n] in each language's rate, int32 [K, n, 10].

    ``p`` [K, N] are firing probabilities of ``layers`` equally wide layers, ``free`` bool [N]; peers are of the unit's
    own layer. Where that has fewer than ten, they stand repeatedly; where it has none, a unit is its own peer.
    """
    found = np.repeat(np.tile(units.astype(np.int32), (len(p), 1))[:, :, None], NEAREST, 2)
    width = p.shape[1] // layers
    for layer in range(layers):
        inside = np.flatnonzero(units // width == layer)
        pool = layer * width + np.flatnonzero(free[layer * width : (layer + 1) * width])
        if len(inside) and len(pool):
            for k, rates in enumerate(p):
                places = nearest(rates[pool], rates[units[inside]])
                found[k, inside] = pool[places[:, np.arange(NEAREST) % places.shape[1]]]
    return found


def expected(before: np.ndarray, after: np.ndarray, units: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Rates [K, n] that ``units`` would have if they changed as their peers did; never above 1.

    Of a unit's peers ``found`` [K, n, 10] in language k, c_kj = sum after_j / sum before_j is the change in language j
    (1 where they never fired). C_k = median_j c_kj is common to the languages, c_kk / C_k peculiar to k, and the unit
    is expected to fire with before_k (c_kk / C_k) mean_i C_i. So units that rise or fall in all languages at once, each
    in its own way, are not taken for units that change their preference. Exact where rates in a language change by a
    factor, or by any function of the rate in the layer, in fewer than half of the languages; with two languages, for a
    factor.
    """
    own, common = np.empty((2, len(before), len(units)))
    for k, peers_k in enumerate(found):
        events = before[:, peers_k].sum(-1)
        ratios = np.divide(after[:, peers_k].sum(-1), events, out=np.ones(events.shape), where=events > 0)
        common[k] = np.median(ratios, axis=0)
        own[k] = np.divide(ratios[k], common[k], out=np.ones(len(units)), where=common[k] > 0)
    return np.minimum(before[:, units] * own * common.mean(0), 1)
