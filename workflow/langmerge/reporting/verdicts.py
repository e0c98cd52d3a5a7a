"""Findings and their verdicts: a claim, what was measured, and whether the two agree.

A claim is *reproduced* if the number points its way and its interval, where it has one, excludes the opposite; *not
reproduced* if it points the other way as clearly; *inconclusive* in between; *not testable here* if the study did not
measure it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from langmerge.reporting.samples import Sample

REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
INCONCLUSIVE, NOT_TESTABLE = "inconclusive", "not testable here"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE, NOT_TESTABLE)


@dataclass(frozen=True)
class Finding:
    """A claim, the measurement in words with number and interval, and the verdict."""

    name: str
    claim: str
    measured: str
    verdict: str


def verdict(*differences: Sample) -> str:
    """Of a claim that all of some differences are positive."""
    defined = [d for d in differences if np.isfinite(d.point)]
    if not defined:
        return NOT_TESTABLE
    if all(d.above for d in defined):
        return REPRODUCED
    return NOT_REPRODUCED if any(d.below for d in defined) else INCONCLUSIVE


def untestable(name: str, claim: str, missing: str) -> Finding:
    """Finding on a claim for which the study lacks ``missing``."""
    return Finding(name, claim, f"Needs {missing}, which the study does not have", NOT_TESTABLE)
