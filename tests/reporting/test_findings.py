"""Verdicts: planted effects are found, their opposites are not called reproduced."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from finished_results import Finished

from langmerge.reporting import findings, findings_models
from langmerge.reporting.load import Results, load
from langmerge.reporting.samples import Sample, Scores
from langmerge.reporting.verdicts import (
    INCONCLUSIVE,
    NOT_REPRODUCED,
    NOT_TESTABLE,
    REPRODUCED,
    VERDICTS,
    verdict,
)


def sample(low: float, high: float) -> Sample:
    return Sample((low + high) / 2, np.linspace(low, high, 101))


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
        "P0-8": REPRODUCED,
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
    swapped = results.table("measurements/cka").assign(
        group=results.table("measurements/cka").group.map({"from-en": "to-en", "to-en": "from-en"})
    )
    turned = swapped.assign(
        model_a=swapped.model_a.map(lambda name: "-".join(reversed(name.split("-")))),
        model_b=swapped.model_b.map(lambda name: "-".join(reversed(name.split("-")))),
    )
    assert (
        findings_models.representations_part(results.with_table("measurements/cka", turned)).verdict == NOT_REPRODUCED
    )


def test_angles_by_depth(results: Results) -> None:
    """The slope is that of the raw layers above their floor; of several direction groups, none may fall."""
    table = results.table("measurements/angles")
    measured = findings_models.angles_grow(results).measured
    slopes = [float(text.split()[0]) for text in measured.split("slope of the excess ")[1:]]
    assert slopes == pytest.approx([6, 6], abs=0.2)

    def outcome(degrees: pd.Series) -> str:
        return findings_models.angles_grow(
            results.with_table("measurements/angles", table.assign(median_degrees=degrees))
        ).verdict

    falling = 40 - table.median_degrees
    assert outcome(falling) == NOT_REPRODUCED
    assert outcome(falling.where(table.group == "to-en", table.median_degrees)) == NOT_REPRODUCED
    flat = 0 * table.layer + 20.0
    assert outcome(flat) == INCONCLUSIVE
    only_noise = results.with_table("measurements/angles", table.assign(floor_degrees=table.median_degrees - 3.0))
    assert findings_models.angles_grow(only_noise).verdict == INCONCLUSIVE, "the angle grows, but its floor as much"
    no_floor = results.with_table("measurements/angles", table.assign(floor_degrees=np.nan))
    assert findings_models.angles_grow(no_floor).verdict == NOT_TESTABLE
    noisy = results.with_table("measurements/angles", table.assign(standard_error=50.0))
    assert findings_models.angles_grow(noisy).verdict == INCONCLUSIVE
    one_layer = results.with_table("measurements/angles", table[table.layer == 0])
    assert findings_models.angles_grow(one_layer).verdict == NOT_TESTABLE
    assert (
        findings_models.angles_grow(results.with_table("measurements/angles", pd.DataFrame())).verdict == NOT_TESTABLE
    )


def test_neurons_in_the_middle(results: Results) -> None:
    units = results.table("measurements/units")
    moved = units.assign(layer=(units.layer + 1) % 4)
    assert (
        findings_models.neurons_at_the_ends(results.with_table("measurements/units", moved)).verdict == NOT_REPRODUCED
    )


def test_claims_on_neurons_are_tested_by_the_papers_procedure(results: Results) -> None:
    """Ranking and thresholds that fix the number in every model can neither support nor refute them."""
    units = results.table("measurements/units")
    paper = (units.ranking == "mount_doom") & ~units.frozen
    assert "Mount Doom" in findings_models.own_language_falls(results).measured
    assert "falls in 4 of 8" in findings_models.own_language_falls(results).measured
    assert "n = 88 neurons, ranking Mount Doom" in findings_models.neurons_at_the_ends(results).measured
    raised = units.assign(units=units.units.where(~paper, 30 - units.units.where(units.model != "base", 25)))
    fewer = results.with_table("measurements/units", raised)
    assert findings_models.own_language_falls(fewer).verdict == NOT_REPRODUCED
    others = results.with_table("measurements/units", units[~paper])
    for finding in (findings_models.own_language_falls(others), findings_models.neurons_at_the_ends(others)):
        assert finding.verdict == NOT_TESTABLE and "mount_doom" in finding.measured
    silent = results.with_table("measurements/units", units.assign(units=0))
    assert findings_models.neurons_at_the_ends(silent).verdict == NOT_TESTABLE


def test_ends_that_are_most_of_the_model_say_nothing(results: Results) -> None:
    table = results.table("measurements/units")
    few = results.with_table("measurements/units", table[table.layer < 3])
    assert findings_models.neurons_at_the_ends(few).verdict == NOT_TESTABLE


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
    assert all(sentence.split(":")[0].lower() in VERDICTS for sentence in sentences)
    assert sum("[" in sentence for sentence in sentences) >= 5
