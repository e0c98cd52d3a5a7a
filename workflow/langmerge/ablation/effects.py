"""What switching units off costs, in bits per byte of the target, with intervals. Pure functions of sentence losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from langmerge import jackknife

LEVEL = 0.95


def bits_per_byte(nats: np.ndarray, sizes: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """sum nats / (ln 2 sum bytes), [1 + G, ...]: of all sentences, then without each block.

    ``nats`` [..., n], ``sizes`` [n] UTF-8 bytes, ``blocks`` [n].
    """
    member = np.equal.outer(blocks, np.unique(blocks)).astype(np.float64)  # [n, G]
    stays = np.concatenate([np.ones((len(blocks), 1)), 1 - member], 1)
    return np.moveaxis(nats @ stays / (np.log(2) * (sizes @ stays)), -1, 0)


@dataclass(frozen=True)
class Effect:
    """The cost of a set of units in one language, each a number of bits per byte.

    ``value`` with its interval (sentences), the mean of the random sets ``null`` with the band in which a further one
    would lie (draws), and ``excess`` = value - null with its interval (sentences, paired).
    """

    value: float
    low: float
    high: float
    null: float
    null_low: float
    null_high: float
    excess: float
    excess_low: float
    excess_high: float


def effect(intact: np.ndarray, off: np.ndarray, random: np.ndarray, sizes: np.ndarray, blocks: np.ndarray) -> Effect:
    """From the losses in nats of n sentences: ``intact`` [n], ``off`` [n] without the set, ``random`` [D, n].

    Intervals are delete-one-block jackknifes of the paired differences. The band is Student's prediction interval of D
    draws, mean +- t s sqrt(1 + 1 / D), NaN for one draw; it holds no noise of sentences, which all sets share.
    """
    cost = bits_per_byte(off - intact, sizes, blocks)
    others = bits_per_byte(random - intact, sizes, blocks)  # [1 + G, D]
    excess = cost - others.mean(1)
    draws = others.shape[1]
    null = float(others[0].mean())
    spread = others[0].std(ddof=1) * np.sqrt(1 + 1 / draws) if draws > 1 else np.nan
    half = float(jackknife.half_width(spread, draws, LEVEL))
    low, high = jackknife.interval(cost[0], cost[1:], LEVEL)
    excess_low, excess_high = jackknife.interval(excess[0], excess[1:], LEVEL)
    return Effect(
        float(cost[0]), float(low), float(high),
        null, null - half, null + half,
        float(excess[0]), float(excess_low), float(excess_high),
    )  # fmt: skip
