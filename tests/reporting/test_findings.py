"""Verdicts: planted effects are found, their opposites are not called reproduced."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import Finished

from langmerge.reporting import findings
from langmerge.reporting.findings import INCONCLUSIVE, NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED, verdict
from langmerge.reporting.load import Results, load
from langmerge.reporting.samples import Sample, Scores


def sample(low: float, high: float) -> Sample:
    return Sample((low + high) / 2, np.linspace(low, high, 101))


@pytest.fixture(scope="module")
def results(finished: Finished) -> Results:
    return load(finished.spec, finished.inputs)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([sample(1, 3), sample(2, 4)], REPRODUCED),
        ([sample(1, 3), sample(-1, 4)], INCONCLUSIVE),
        ([sample(1, 3), sample(-4, -2)], NOT_REPRODUCED),
        ([Sample(float("nan"), np.full(2, np.nan))], NOT_TESTABLE),
        ([], NOT_TESTABLE),
    ],
)
def test_a_verdict_needs_all_intervals(parts: list[Sample], expected: str) -> None:
    assert verdict(*parts) == expected


def test_planted_effects_are_found(results: Results) -> None:
    found = {finding.name: finding.verdict for finding in findings.find(Scores(results))}
    assert found == {
        "P0-1": REPRODUCED,  # merges below specialists
        "P0-2": REPRODUCED,  # more is kept into the pivot
        "P0-3": REPRODUCED,  # joint above merges
        "P0-4": REPRODUCED,  # CKA falls on the target side out of the pivot only
        "P0-5": REPRODUCED,
        "P0-6": REPRODUCED,  # 80 of 88 neurons in two of four layers
        "P0-7": INCONCLUSIVE,  # falls in the four specialists out of the pivot only
        "P0-8": NOT_TESTABLE,
        "P0-9": REPRODUCED,
        "P0-10": REPRODUCED,  # planted optimum at 0.6
        "ours-1": REPRODUCED,
    }


def test_numbers_and_intervals_stand_in_the_text(results: Results) -> None:
    scores = Scores(results)
    finding = findings.joint_is_better(scores, "bleu")
    best, joint = scores.best_merge("to-en", "bleu"), scores.row("to-en", "joint")
    assert best is not None
    assert joint is not None
    lead = scores.average(joint, "to-en", "bleu") - scores.average(best, "to-en", "bleu")
    assert f"{lead.point:.1f} [{lead.interval[0]:.1f}, {lead.interval[1]:.1f}]" in finding.measured


def test_the_opposite_is_not_reproduced(results: Results) -> None:
    """With the direction groups' names swapped, merging costs more into the pivot."""
    swapped = results.cka.assign(group=results.cka.group.map({"from-en": "to-en", "to-en": "from-en"}))
    turned = swapped.assign(
        model_a=swapped.model_a.map(lambda name: "-".join(reversed(name.split("-")))),
        model_b=swapped.model_b.map(lambda name: "-".join(reversed(name.split("-")))),
    )
    assert findings.representations_part(replace(results, cka=turned)).verdict == NOT_REPRODUCED


def test_neurons_in_the_middle(results: Results) -> None:
    moved = results.neurons.assign(layer=(results.neurons.layer + 1) % 4)
    assert findings.neurons_at_the_ends(replace(results, neurons=moved)).verdict == NOT_REPRODUCED


def test_an_optimum_at_the_end_of_the_grid(results: Results) -> None:
    rising = results.trials.assign(mean=[p.get("scale", 1.0) for p in results.trials.parameters])
    assert findings.scale_has_optimum(replace(results, trials=rising)).verdict == NOT_REPRODUCED


def test_a_small_study_can_say_little(small: Finished) -> None:
    found = findings.find(Scores(load(small.spec, small.inputs)))
    assert {f.name for f in found if f.verdict != NOT_TESTABLE} == {"P0-1"}
    assert "no other direction group" in found[0].measured


def test_summary_is_short_and_gives_each_verdict(results: Results) -> None:
    sentences = findings.summary(findings.find(Scores(results)))
    assert 5 <= len(sentences) <= 8
    assert all(sentence.split(":")[0].lower() in findings.VERDICTS for sentence in sentences)
    assert sum("[" in sentence for sentence in sentences) >= 5
