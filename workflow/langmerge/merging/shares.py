"""Which of a vector's largest entries a method keeps: how many, and what becomes of those of equal magnitude."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class Cut:
    """The largest entries: magnitudes > threshold, and of those == threshold the ones at certain flat indices.

    These are the indices up to `last_index` (None: no bound) and from `first_index` on (None: no bound).
    """

    threshold: float
    last_index: int | None = None
    first_index: int | None = None


Equal = Literal["all", "none", "first", "last"]
"""Which entries of just the magnitude at which a cut is made lie above it: as many as are missing, by flat index."""


class Share(Protocol):
    """So many of a vector's largest entries; what selects them. Equal shares have equal hashes."""

    @property
    def equal(self) -> Equal:
        """What becomes of entries of the smallest of these magnitudes, of which there may be more."""
        ...

    def rank(self, numel: int) -> int:
        """How many of `numel` entries; 0: none."""
        ...


@dataclass(frozen=True)
class Trim:
    """The entries that a trim keeps: `density` of them, in the convention of `kept_entries`."""

    density: float
    convention: str

    @property
    def equal(self) -> Equal:
        """All in the paper's code; else exactly the number asked for, those of lowest index."""
        return "all" if self.convention == "paper" else "first"

    def rank(self, numel: int) -> int:
        """See `kept_entries`."""
        return kept_entries(numel, self.density, self.convention)


def kept_entries(numel: int, density: float, convention: str) -> int:
    """How many of `numel` entries a trim keeps; the paper's code one more, and all of equal magnitude."""
    count = int(density * numel)
    if convention == "paper":
        return min(numel, count + 1)
    return max(1, count) if convention == "mergekit" else count


@dataclass(frozen=True)
class BandEdge:
    """The entries above one edge of Model Breadcrumbs' band of magnitudes; between the edges they are kept.

    `density` is kept, the largest `gamma` are not. mergekit: int(density N) are kept and int(gamma N) of the
    largest dropped, fewer where not enough small ones are left to drop; of equal magnitudes those of lower
    index count as smaller. paper: the same numbers give two thresholds, and entries that equal one stay
    (at least one entry does).
    """

    density: float
    gamma: float
    convention: str
    upper: bool

    @property
    def equal(self) -> Equal:
        """See above."""
        if self.convention == "mergekit":
            return "last"
        return "none" if self.upper else "all"

    def rank(self, numel: int) -> int:
        """How many entries lie above the edge (paper, upper edge: including the threshold's)."""
        kept = int(self.density * numel)
        if self.convention == "mergekit":
            small = max(0, numel - kept - int(self.gamma * numel))
            return numel - small - (kept if self.upper else 0)
        dropped = min(int(self.gamma * numel), numel - 1)
        return dropped + 1 if self.upper else min(numel, dropped + max(1, kept))
