"""What merging costs models that were pre-trained apart, and what tells beforehand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from langmerge import jackknife
from langmerge.reporting.samples import Sample, mean
from langmerge.reporting.studies.results import LanguageResults, Samples

TEXT_TASK, METRIC = "text", "bits_per_byte"
INITIALISATIONS = {"shared": "shared initialisation", "different": "different initialisations"}
LEAST_PAIRS = 4  # of which a rank correlation says anything
LEAST_GROUPS = 4  # of which a jackknife says anything
CLUSTER = ["seed", "group"]  # pairs of one initialisation or branch point of a seed, which share models
SAME = "cka.same"  # both models reading one language, mean of the two languages


def keys(results: LanguageResults, **values: object) -> list[str]:
    """Keys of the systems with these values, one a seed where they name one system."""
    return list(results.select(**values).key)


def own_score(samples: Samples, group: str, language: str) -> Sample:
    """Bits per byte of the model of a language in its language."""
    role = "branch" if group.startswith("branch") else "monolingual"
    return samples.average(keys(samples.results, role=role, group=group, language=language), TEXT_TASK, [language])


def damage(samples: Samples, systems: Sequence[str], group: str, languages: Sequence[str]) -> Sample:
    """What merges lose against the models of their languages, mean over these languages, bits per byte; > 0: loss."""
    return mean(samples.average(systems, TEXT_TASK, [code]) - own_score(samples, group, code) for code in languages)


def branch_points(samples: Samples) -> dict[float, dict[str, Sample]]:
    """By share of mixed steps and method: damage of the merge of all branches."""
    results = samples.results
    merged = results.select(role="branch_merge")
    found: dict[float, dict[str, Sample]] = {}
    for share in sorted(set(merged["share"])) if len(merged) else []:
        group = f"branch-{share:g}" if share else "shared"
        for method in dict.fromkeys(merged.method):
            systems = keys(results, role="branch_merge", share=share, method=method)
            found.setdefault(share, {})[method] = damage(samples, systems, group, results.languages)
    return found


def pair_damage(samples: Samples) -> pd.DataFrame:
    """One row a pair, group and seed: damage of its linear merge, and every measure of the pair before merging."""
    results = samples.results
    pairs = results.diagnoses.get("pairs", pd.DataFrame())
    found = []
    for merge in results.select(role="pair", method="linear").to_dict("records"):
        a, b = merge["models"]
        loss = mean(
            samples.of(merge["key"], TEXT_TASK, code)
            - samples.average(keys(results, name=model, seed=merge["seed"]), TEXT_TASK, [code])
            for model, code in zip((a, b), merge["languages"], strict=True)
        )
        here = pairs[(pairs.seed == merge["seed"]) & (pairs.a == a) & (pairs.b == b)] if len(pairs) else pairs
        head = {"seed": merge["seed"], "group": merge["group"], "pair": "–".join(merge["languages"])}
        measured: dict[str, float] = dict(zip(here.measure, here.value, strict=True)) if len(here) else {}
        measured[SAME] = float(np.mean([measured.get(f"cka.{side}", np.nan) for side in "ab"]))
        found.append(head | {"damage": loss.point} | measured)
    return pd.DataFrame(found)


def association(table: pd.DataFrame, measure: str) -> tuple[float, float, float]:
    """Spearman's rank correlation of a measure with the damage over :func:`pair_damage`'s pairs, and its 95 % interval.

    Pairs of a group share models and are no independent draws, groups are: one :data:`CLUSTER` at a time is left out
    (:func:`langmerge.jackknife.interval`), and the interval cut off at -1 and 1. NaN where either is constant; an
    interval also with fewer than four groups.
    """
    known = table[table[measure].notna() & table.damage.notna()]
    rho = _spearman(known[measure], known.damage)
    groups = known.groupby(CLUSTER, sort=False).ngroup()
    without = [known[groups != one] for one in sorted(set(groups))]
    left_out = np.array([_spearman(rest[measure], rest.damage) for rest in without])
    if len(left_out) < LEAST_GROUPS:
        return rho, float("nan"), float("nan")
    low, high = np.clip(jackknife.interval(np.array(rho), left_out), -1, 1)
    return rho, float(low), float(high)


def _spearman(x: pd.Series, y: pd.Series) -> float:
    if len(x) < LEAST_PAIRS or x.nunique() < 2 or y.nunique() < 2:
        return float("nan")
    return float(stats.spearmanr(x, y).statistic)
