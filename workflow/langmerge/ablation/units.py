"""Which units are switched off: those of each language, and random ones that resemble them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from langmerge.analysis import neurons
from langmerge.analysis.matching import nearest
from langmerge.analysis.neurons import Ranking
from langmerge.analysis.observations import read_counts, read_summary
from langmerge.pairs import Direction
from langmerge.provenance import InputError
from langmerge.spans import SPANS

SITE = "mlp_gate"


def language_span(directions: Sequence[Direction], pivot: str) -> str:
    """The span that is in another language in every direction: ``source`` into the pivot, else ``target``."""
    return "source" if all(direction.target == pivot for direction in directions) else "target"


def language_sets(observed: Path, baseline: Path, ranking: Ranking, span: str) -> tuple[np.ndarray, np.ndarray]:
    """Units of each language, bool [K, layer, unit], and the mean firing probability of all units [layer, unit].

    From a model's observation ``observed``, by the thresholds of the ``baseline``'s. :class:`InputError` if the two are
    not of equal shape.
    """

    def firing(folder: Path) -> tuple[np.ndarray, np.ndarray]:
        counts, s = read_counts(folder, SITE), SPANS.index(span)
        tokens = counts.tokens[:, s].sum(1)
        if not tokens.all():
            raise InputError(f"{folder}: no {span} tokens of a language were observed")
        return neurons.probabilities(counts.events[:, s].sum(1), tokens), tokens

    p, tokens = firing(observed)
    reference = firing(baseline)
    if p.shape != reference[0].shape:
        raise InputError(
            f"{observed}: (languages, layers, units) = {p.shape}, the baseline in {baseline} has {reference[0].shape}; "
            "units are compared one by one, so leave the model out"
        )
    thresholds = neurons.fit_thresholds(*reference, ranking)
    return neurons.language_units(p, tokens, ranking, thresholds), p.mean(0)


def languages_of(observed: Path, directions: Sequence[Direction]) -> None:
    """:class:`InputError` if an observation is not of exactly these directions."""
    found = [str(direction) for direction in read_summary(observed).directions]
    expected = [str(direction) for direction in directions]
    if found != expected:
        raise InputError(f"{observed}: directions {found}, expected {expected}; observe the same sentences")


def matched(chosen: np.ndarray, free: np.ndarray, frequency: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """As many random units of the same layers that fire about as often, bool [layer, unit].

    ``chosen`` [layer, unit] are the units to match, ``free`` those that may be drawn, ``frequency`` the mean firing
    probabilities. Each unit, in random order, gets one of the ten free units nearest to it in frequency, none twice.
    :class:`InputError` if a layer has too few.
    """
    found = np.zeros_like(chosen)
    for layer in range(len(chosen)):
        units, pool = np.flatnonzero(chosen[layer]), np.flatnonzero(free[layer])
        if len(pool) < len(units):
            raise InputError(
                f"layer {layer}: {len(units)} units of a language, and only {len(pool)} that belong to none to compare "
                "them with; lower `top`"
            )
        for unit in generator.permutation(units):
            place = generator.choice(nearest(frequency[layer, pool], frequency[layer, [unit]])[0])
            found[layer, pool[place]] = True
            pool = np.delete(pool, place)
    return found


def random_sets(sets: np.ndarray, frequency: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """``draws`` matched sets for each language, bool [K, D, layer, unit], of units that belong to no language."""
    free = np.asarray(~sets.any(0))
    generators = [np.random.Generator(np.random.Philox(key=[seed, k])) for k in range(len(sets))]
    return np.array(
        [
            [matched(chosen, free, frequency, generator) for _ in range(draws)]
            for chosen, generator in zip(sets, generators, strict=True)
        ]
    )
