"""Loss along the straight line between two models, and the barrier on it.

B = max_a [L((1 - a) theta_i + a theta_j) - ((1 - a) L(theta_i) + a L(theta_j))], a in {0, ..., 1}: Frankle et al. 2020
(arXiv 1912.05671) with the chord in place of the mean of the ends, as Entezari et al. 2022 (arXiv 2110.06296),
definition 1. a = 0 and a = 1 count, so B >= 0, and 0 where the loss never rises above the chord.

The maximum of noisy points is above 0 where the line is flat, and so are its bootstrap percentiles. Its interval is
therefore that of a simultaneous band, which holds the whole line in 95 % of samples (:meth:`Line.band`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95


def bits_per_byte(nats: np.ndarray, sizes: np.ndarray, draws: np.ndarray | None = None) -> np.ndarray:
    """sum_s nats / (ln 2 sum_s bytes), a ratio of sums: ``nats`` [..., n] and ``sizes`` [n] give [...].

    With ``draws`` [R, n] (how often each sentence is counted) of each resample: [R, ...].
    """
    if draws is None:
        return np.asarray(nats.sum(-1) / (math.log(2) * sizes.sum()))
    sums = np.moveaxis(nats @ draws.T, -1, 0)
    return np.asarray(sums / (math.log(2) * (draws @ sizes)).reshape(-1, *[1] * (nats.ndim - 1)))


def resamples(ids: Sequence[str], seed: int, count: int = RESAMPLES) -> np.ndarray:
    """How often each sentence is drawn in each bootstrap resample, fp64 [count, n]; equal ids give equal draws.

    So the languages of a multi-parallel corpus are resampled together, and every point of a line and every model too.
    """
    digest = hashlib.sha256("\n".join([str(seed), *ids]).encode()).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))
    return generator.multinomial(len(ids), np.full(len(ids), 1 / len(ids)), size=count).astype(np.float64)


def excess(losses: np.ndarray, at: np.ndarray) -> np.ndarray:
    """L(a) - ((1 - a) L(0) + a L(1)) along the last axis, [..., A]; ``at`` [A] starts with 0 and ends with 1."""
    return np.asarray(losses - (losses[..., :1] * (1 - at) + losses[..., -1:] * at))


def barrier(losses: np.ndarray, at: np.ndarray) -> np.ndarray:
    """B of the losses [..., A] at ``at`` [A], [...]; see the module."""
    return np.asarray(excess(losses, at).max(-1))


@dataclass(frozen=True)
class Line:
    """Losses (bits per byte) along one line: the estimate [A] and its bootstrap resamples [R, A], at ``at`` [A].

    ``best`` [] and ``best_resampled`` [R] are the losses of the better end, each language's own where this is a mean.
    """

    at: np.ndarray
    losses: np.ndarray
    resampled: np.ndarray
    best: np.ndarray
    best_resampled: np.ndarray

    def excess(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rise above the chord with the percentile interval of the paired bootstrap, three times [A]."""
        return excess(self.losses, self.at), *percentiles(excess(self.resampled, self.at))

    def band(self) -> tuple[np.ndarray, np.ndarray]:
        """The simultaneous 95 % band of the rise above the chord, twice [A]: rise -+ c times its standard error.

        c is the 95 % quantile over resamples of the greatest deviation in standard errors along the line (the
        sup-t band; Montiel Olea and Plagborg-Moller 2019), so about 1.96 where all points move together. Points that
        never move have no width.
        """
        rise, resampled = excess(self.losses, self.at), excess(self.resampled, self.at)
        error = resampled.std(0)
        error = np.where(error > 1e-9 * max(np.abs(self.losses).max(), 1e-300), error, 0)
        deviations = np.divide(np.abs(resampled - rise), error, out=np.zeros_like(resampled), where=error > 0)
        half = np.quantile(deviations.max(-1), LEVEL) * error
        return rise - half, rise + half

    def barrier(self) -> tuple[float, float, float, float]:
        """B, its interval, and the a of the maximum.

        From the greatest value of the lower edge of :meth:`band` to that of the upper one: wherever the band holds the
        line, that holds its maximum. B itself is biased upwards, by little where the points share their sentences.
        """
        rise = excess(self.losses, self.at)
        low, high = (float(edge.max()) for edge in self.band())
        return float(rise.max()), low, high, float(self.at[rise.argmax()])

    def midpoint(self) -> tuple[float, float, float, float]:
        """The rise above the chord at a = 1/2 (signed: negative where the merge is better), its interval, and 1/2.

        Interpolated where no point lies there.
        """
        low, high = percentiles(_middle(excess(self.resampled, self.at), self.at))
        return float(_middle(excess(self.losses, self.at), self.at)), float(low), float(high), 0.5

    def loss_of_merging(self) -> tuple[float, float, float, float]:
        """L(1/2) - min(L(0), L(1)): what the average loses against the better end, with its interval, and 1/2.

        Of several languages the mean, each against its own better end.
        """
        low, high = percentiles(_middle(self.resampled, self.at) - self.best_resampled)
        return float(_middle(self.losses, self.at) - self.best), float(low), float(high), 0.5


def _middle(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    right = int(np.searchsorted(at, 0.5))
    share = (0.5 - at[right - 1]) / (at[right] - at[right - 1])
    return np.asarray((1 - share) * values[..., right - 1] + share * values[..., right])


def percentiles(resampled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The percentile interval [...] of resampled values [R, ...]."""
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def lines(
    nats: Mapping[str, np.ndarray], sizes: Mapping[str, np.ndarray], draws: Mapping[str, np.ndarray], at: np.ndarray
) -> dict[str, Line]:
    """The line of each language, and of their ``mean`` where there are several (each language counts the same).

    By language: ``nats`` [A, n], ``sizes`` [n] bytes, ``draws`` [R, n].
    """
    found = {}
    for language, each in nats.items():
        losses = bits_per_byte(each, sizes[language])
        resampled = bits_per_byte(each, sizes[language], draws[language])
        best = np.minimum(losses[0], losses[-1]), np.minimum(resampled[:, 0], resampled[:, -1])
        found[language] = Line(at, losses, resampled, *best)
    if len(found) > 1:
        parts = zip(*((f.losses, f.resampled, f.best, f.best_resampled) for f in found.values()), strict=True)
        found["mean"] = Line(at, *(np.mean(part, axis=0) for part in parts))
    return found
