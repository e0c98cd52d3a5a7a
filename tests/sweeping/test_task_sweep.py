"""Sweeps that are tuned and reported on tasks: what is chosen, how metrics of either direction are averaged."""

import json

import pytest
from test_sweep import SCALES, TUNED, merge, spec, sweep_main

from langmerge import models, provenance
from langmerge.evaluation.scoring import score_model
from langmerge.evaluation.task_sets import read_task_sets
from langmerge.provenance import InputError
from langmerge.sweeping.sweep import Sweep

# The module is not a conftest: its fixtures are taken over by name.
from test_sweep import sources, study  # noqa: F401  isort: skip

TEXT = [{"task": "text", "language": language} for language in ("es", "de")]
PAIRS = {"task": "minimal_pairs", "language": "es"}
MEAN = {"select_by": "mean", "metrics": []}


@pytest.fixture
def tasks(tmp_path):
    with provenance.result(tmp_path / "tasks" / "es", {}, "", "") as job:
        rows = [
            {"id": f"m{i}", "kind": "choice", "prompt": "", "choices": [f"El gato {i}a", f"La gato {i}b"], "gold": 0,
             "group": "article"}
            for i in range(9)
        ]  # fmt: skip
        for split in ("dev", "test"):
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (job.folder / f"minimal_pairs.{split}.jsonl").write_text(text)
    return {"es": tmp_path / "tasks" / "es"}


def sweep_of(study, tasks, *merges, **changes):  # noqa: F811
    made = spec(*merges, **{**MEAN, **changes})
    return Sweep(made, study.sources, study.pairs, study.model(), study.tokenizer, tasks=tasks)


def scores_of(study, tasks, index, tests):  # noqa: F811
    """The scores of one candidate, made and evaluated apart from the sweep."""
    asked = {**spec(**MEAN), "directions": [], "tests": tests, "splits": {"dev": None}}
    sets = read_task_sets(asked, study.pairs, tasks)
    return score_model(study.candidate(TUNED, index), study.tokenizer, [], asked, sets).summaries()["dev"]


def test_lower_bits_per_byte_are_better(study, tasks):  # noqa: F811
    (tuned,) = sweep_of(study, tasks, {**TUNED, "tune": TEXT, "report": TEXT[:1]})
    by_hand = []
    for i, trial in enumerate(tuned.trials):
        expected = {
            name: entry["metrics"]["bits_per_byte"]["score"] for name, entry in scores_of(study, tasks, i, TEXT).items()
        }
        assert trial["dev"] == pytest.approx(expected) and set(expected) == {"text.es", "text.de"}
        by_hand.append(sum(expected.values()) / 2)
        assert trial["mean"] == pytest.approx(-by_hand[-1])
    assert len(set(by_hand)) == 3
    assert tuned.recipe.parameters["scale"] == SCALES[by_hand.index(min(by_hand))]
    assert set(tuned.scored.summaries()["test"]) == {"text.es"}


def test_the_mean_is_over_the_main_metric_of_each_test(study, tasks):  # noqa: F811
    """A direction's is chrF; a task's its own."""
    tests = [*TUNED["tune"], PAIRS, TEXT[0]]
    (tuned,) = sweep_of(study, tasks, {**TUNED, "tune": tests, "report": [PAIRS, TUNED["report"][0]]}, metrics=["bleu"])
    for i, trial in enumerate(tuned.trials):
        assert set(trial["dev"]) == {"en-es", "en-de", "minimal_pairs.es", "text.es"}
        found = scores_of(study, tasks, i, [PAIRS, TEXT[0]])
        assert trial["dev"]["minimal_pairs.es"] == found["minimal_pairs.es"]["metrics"]["accuracy"]["score"]
        translation = study.score(study.candidate(TUNED, i), TUNED["tune"], "dev")["dev"]
        assert trial["dev"]["en-de"] == translation["en-de"]["metrics"]["chrf"]["score"]
        values = {**trial["dev"], "text.es": -trial["dev"]["text.es"]}
        assert trial["mean"] == pytest.approx(sum(values.values()) / 4)
    assert set(tuned.scored.summaries()["test"]) == {"minimal_pairs.es", "en-es"}


def test_a_greedy_soup_is_chosen_by_tasks(study, tasks):  # noqa: F811
    (tuned,) = sweep_of(
        study, tasks, {**merge("soup", "greedy_soup", ["en-es", "en-de"]), "tune": TEXT, "report": TEXT}
    )
    assert max(trial["mean"] for trial in tuned.trials) < 0
    chosen = [trial["mean"] for trial in tuned.trials if trial["parameters"] == dict(tuned.recipe.parameters)]
    assert chosen[0] >= max(trial["mean"] for trial in tuned.trials[:2])


def test_what_tasks_cannot_be_selected_by_is_named(study, tasks):  # noqa: F811
    entry = {**TUNED, "tune": [PAIRS], "report": [PAIRS]}
    with pytest.raises(InputError, match=r"select_by: minimal_pairs.es has no chrf, only accuracy, .* 'mean'"):
        list(sweep_of(study, tasks, entry, select_by="chrf"))
    ada = {**merge("ada", "adamerging", ["en-es", "en-de"], [{"steps": 1}]), "tune": [PAIRS], "report": [PAIRS]}
    with pytest.raises(InputError, match="is a task; this search learns"):
        list(sweep_of(study, tasks, ada))
    with pytest.raises(InputError, match="expected the input tasks/es"):
        list(sweep_of(study, {}, entry))


def test_the_command_reads_tasks(study, tasks, tmp_path):  # noqa: F811
    inputs = {f"models/{name}": str(folder) for name, folder in study.sources.items()}
    inputs |= {f"pairs/{language}": str(folder) for language, folder in study.pairs.items()}
    inputs |= {f"tasks/{language}": str(folder) for language, folder in tasks.items()}
    made = spec({**TUNED, "tune": [PAIRS, TEXT[0]], "report": [PAIRS, *TEXT]}, **MEAN)
    for unused in ("prompt", "metrics", "languages"):
        del made[unused]
    out = tmp_path / "out"
    sweep_main(["--spec", json.dumps(made), "--inputs", json.dumps(inputs), "--out", str(out)])
    (chosen,) = json.loads((out / "selection.json").read_text()).values()
    best = max(chosen["trials"], key=lambda trial: trial["mean"])
    assert chosen["recipe"]["parameters"]["scale"] == best["parameters"]["scale"]
    scores = json.loads((out / "systems" / "ta" / "scores.json").read_text())["test"]
    assert set(scores) == {"minimal_pairs.es", "text.es", "text.de"}
    assert (out / "systems" / "ta" / "statistics" / "test.text.de.npz").is_file()
    assert set(provenance.read_manifest(out)["inputs"]) == set(inputs)

    # The written merge has the reported scores.
    kept = models.load_model(out / "merged" / "ta")
    asked = {**made, "directions": [], "tests": [PAIRS, *TEXT], "splits": {"test": None}}
    found = score_model(kept, study.tokenizer, [], asked, read_task_sets(asked, study.pairs, tasks)).summaries()
    assert json.loads(json.dumps(found))["test"] == scores
