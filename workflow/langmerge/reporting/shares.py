"""Kept shares where the baseline is not the plain specialist: pairs, snapshots of the drift curve, layer patches."""

from __future__ import annotations

import numpy as np
import pandas as pd

from langmerge.reporting import samples
from langmerge.reporting.samples import Sample, Scores

MEAN = "mean"


def patched(scores: Scores, group: str, onto: str, place: str, language: str, metric: str) -> Sample:
    """Score of a patched merge, averaged over seeds and, for ``random``, over the draws of layers."""
    systems = scores.results.systems
    found = systems[
        (systems.role == "patch")
        & (systems.group == group)
        & (systems.onto == onto)
        & (systems.language == language)
        & systems.place.fillna("").str.startswith(place)
    ]
    direction = scores.results.direction(group, language)
    return samples.mean(scores.of(key, direction, metric) for key in found.key)


def pair_shares(scores: Scores, metric: str = "bleu") -> pd.DataFrame:
    """Merges of two specialists: the share of each one's score that is kept, in long form.

    Columns: group, method, pair, language (whose score), other, value (merge / specialist, mean over seeds), low, high.
    """
    r = scores.results
    pairs = r.systems[r.systems.role == "pair"]
    rows = []
    for (group, _), found in pairs.groupby(["group", "name"], sort=False):
        specialist = scores.row(str(group), "specialist")
        if specialist is None:
            continue
        method, (a, b) = found.method.iloc[0], found.languages.iloc[0]
        both = {}
        for code in (a, b):
            direction = r.direction(str(group), code)
            merged = samples.mean(scores.of(key, direction, metric) for key in found.key)
            both[code] = samples.ratio(merged, scores.cell(specialist, str(group), code, metric))
        for code, other, sample in ((a, b, both[a]), (b, a, both[b]), (MEAN, "", samples.mean(both.values()))):
            low, high = sample.interval
            head = {"group": group, "method": method, "pair": f"{a}+{b}", "language": code, "other": other}
            rows.append({**head, "value": sample.point, "low": low, "high": high})
    return pd.DataFrame(rows)


def drift_steps(scores: Scores, group: str) -> list[int]:
    """Steps of a direction group's drift curve, ascending."""
    systems = scores.results.systems
    return sorted({int(step) for step in systems[(systems.role == "drift") & (systems.group == group)].step})


def drift_shares(scores: Scores, group: str, step: int, metric: str = "bleu") -> dict[str, Sample]:
    """Merge of the snapshots at a step over the snapshot alone, by language and as :data:`MEAN`."""
    r = scores.results
    here = r.systems[r.systems.group == group]
    merged = here[(here.role == "drift") & (here.step == step)]
    own = here[here.role.isin(["snapshot", "specialist"])]
    shares = {}
    for code in r.languages:
        direction = r.direction(group, code)
        # At the last step of its training the snapshot is the specialist itself.
        snapshot = own[own.name == f"{direction}@{step}"]
        alone = snapshot if len(snapshot) else own[own.name == direction]
        pair = [samples.mean(scores.of(key, direction, metric) for key in keys) for keys in (merged.key, alone.key)]
        shares[code] = samples.ratio(*pair)
    return {**shares, MEAN: samples.mean(shares.values())}


def drift_curve(scores: Scores, metric: str = "bleu") -> pd.DataFrame:
    """Kept share against fine-tuning strength, in long form.

    Columns: group, step, language (or ``mean``), value (merge of the snapshots / snapshot), low, high, norm (mean norm
    of the merged task vectors, NaN where the sweep has no statistics of them).
    """
    r = scores.results
    rows = []
    for group in r.groups:
        for step in drift_steps(scores, group):
            names = r.systems[(r.systems.role == "drift") & (r.systems.group == group) & (r.systems.step == step)].name
            norm = _delta_norm(r.merges, group, set(names))
            for code, sample in drift_shares(scores, group, step, metric).items():
                low, high = sample.interval
                head = {"group": group, "step": step, "language": code, "norm": norm}
                rows.append({**head, "value": sample.point, "low": low, "high": high})
    return pd.DataFrame(rows)


def _delta_norm(merges: pd.DataFrame, group: str, names: set[str]) -> float:
    if merges.empty:
        return float("nan")
    found = merges[(merges.group == group) & merges.name.isin(names)].statistics
    norms = [norm for statistics in found for norm in (statistics.get("delta_norms") or {}).values()]
    return float(np.mean(norms)) if norms else float("nan")
