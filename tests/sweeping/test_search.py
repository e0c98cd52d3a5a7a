"""Searches: greedy soups and AdaMerging, on tables of scores and on tiny random models."""

import itertools
import json
import random

import pytest
import torch
from test_sweep import EN, OTHER, PROMPT, direction, merge, plant, run, spec, sweep_main

from langmerge import provenance
from langmerge.merging import Recipe, state_dicts
from langmerge.prompts import Prompt, encode_pairs
from langmerge.sweeping.search import greedy_choice, group_of, layer_wise_recipe, learn_coefficients, mean_entropy

# The module is not a conftest: its fixtures are taken over by name.
from test_sweep import sources, study  # noqa: F401  isort: skip

NAMES = ["en-es", "en-de"]
SETTINGS = {"init": 0.3, "learning_rate": 0.02, "steps": 25, "batch_size": 4, "clamp": True, "seed": 0}


# ---- greedy soup -----------------------------------------------------------------------------------------------


def greedy_by_hand(n, table):
    """Recipe 1 of the paper, over a table of the scores of sets."""
    order = sorted(range(n), key=lambda i: table[frozenset([i])], reverse=True)
    soup = [order[0]]
    for i in order[1:]:
        if table[frozenset([*soup, i])] >= table[frozenset(soup)]:
            soup.append(i)
    return tuple(soup)


@pytest.mark.parametrize("seed", range(20))
def test_a_greedy_soup_is_that_of_the_paper_and_never_below_the_best_model(seed):
    draw = random.Random(seed)
    n = 1 + seed % 5
    table = {frozenset(s): draw.random() for k in range(1, n + 1) for s in itertools.combinations(range(n), k)}
    calls = []

    def score(soups):
        calls.extend(soups)
        return [table[frozenset(soup)] for soup in soups]

    chosen = greedy_choice(n, score)
    assert chosen == greedy_by_hand(n, table)
    assert table[frozenset(chosen)] >= max(table[frozenset([i])] for i in range(n))
    assert len(calls) == 2 * n - 1


def test_a_model_that_does_not_hurt_is_kept_and_equal_ones_come_in_order():
    assert greedy_choice(3, lambda soups: [1.0] * len(soups)) == (0, 1, 2)


@pytest.mark.parametrize("best", range(2))
def test_a_soup_that_one_model_makes_perfect_is_that_model(study, best):  # noqa: F811
    """Planted: the references of dev are what one of the models says."""
    alone = merge("alone", "linear", [NAMES[best]])
    plant(study, alone, 0)
    (tuned,) = study.sweep(merge("soup", "greedy_soup", NAMES, tune=NAMES))
    assert tuned.recipe.method == "linear"
    assert tuned.recipe.parameters["weights"] == [float(i == best) for i in range(2)]
    assert tuned.notes == {"added": [NAMES[best]]}
    assert [trial["parameters"]["weights"] for trial in tuned.trials[:2]] == [[1.0, 0.0], [0.0, 1.0]]
    assert tuned.trials[best]["mean"] == pytest.approx(100) and len(tuned.trials) == 3
    assert tuned.scored.summaries() == study.score(study.candidate(alone, 0), tuned_report())


def tuned_report():
    return [direction(name) for name in NAMES]


def test_a_soup_is_at_least_as_good_on_dev_as_each_of_its_models(study):  # noqa: F811
    """The references of dev are what the average says, so adding the second model pays."""
    plant(study, merge("mean", "linear", NAMES), 0)
    sweep = study.sweep(merge("soup", "greedy_soup", NAMES, tune=NAMES))
    (tuned,) = sweep
    assert tuned.recipe.parameters["weights"] == [1.0, 1.0]
    chosen = [trial["mean"] for trial in tuned.trials if trial["parameters"] == dict(tuned.recipe.parameters)]
    assert chosen == [pytest.approx(100)] and max(trial["mean"] for trial in tuned.trials) == chosen[0]
    assert sweep.tokens > tuned.scored.prompt_tokens + tuned.scored.new_tokens


# ---- AdaMerging ------------------------------------------------------------------------------------------------


@pytest.fixture
def parts(study):  # noqa: F811
    """Model, base and experts as state dicts, and the rows of two directions."""
    prompt = Prompt(**PROMPT)
    contexts = [
        encode_pairs(prompt, study.tokenizer, list(zip(EN, OTHER[code], strict=True)), "en", code)
        for code in ("es", "de")
    ]
    states = {}
    for name in ("base", *NAMES):
        (alone,) = state_dicts([Recipe("alone", "linear", (name,))], study.sources)
        states[name] = alone.state_dict
    return study.model(), states["base"], [states[name] for name in NAMES], contexts


def entropy_by_hand(model, rows):
    """Mean entropy over all answer tokens, one row at a time, in float64."""
    found = []
    for row in rows:
        logits = model(torch.tensor([row.ids])).logits[0].double()
        for t in range(row.prompt_length, len(row.ids)):
            p = torch.softmax(logits[t - 1], -1)
            found.append(float(-(p * p.log()).sum()))
    return sum(found) / len(found)


def test_the_entropy_is_that_of_each_answer_token(parts):
    model, base, _, contexts = parts
    model.load_state_dict(base, strict=False)
    with torch.no_grad():
        for rows in contexts:
            assert float(mean_entropy(model, base, rows)) == pytest.approx(entropy_by_hand(model, rows), rel=1e-5)


def test_adamerging_lowers_the_entropy_and_keeps_the_coefficients_in_bounds(parts):
    learnt = learn_coefficients(*parts, **SETTINGS)
    before, after = learnt.entropies
    assert after < before - 0.01
    assert learnt.groups == ("embeddings", 0, 1, "norms")
    assert learnt.coefficients.shape == (4, 2)
    assert float(learnt.coefficients.min()) >= 0 and float(learnt.coefficients.max()) <= 1
    assert len(set(learnt.coefficients.flatten().tolist())) > 2
    again = learn_coefficients(*parts, **SETTINGS)
    assert torch.equal(again.coefficients, learnt.coefficients)


def test_the_gradient_of_a_coefficient_is_that_of_the_entropy(parts):
    """The first step of Adam has the length of the learning rate, against the sign of a finite difference."""
    model, base, experts, contexts = parts
    settings = {**SETTINGS, "steps": 1, "batch_size": 99, "learning_rate": 1e-3}
    learnt = learn_coefficients(*parts, **settings)

    def loss(changes):
        weights = {
            name: start
            + sum(
                (0.3 + changes.get((group_of(name), k), 0)) * (expert[name] - start) for k, expert in enumerate(experts)
            )
            for name, start in base.items()
        }
        with torch.no_grad():
            return sum(float(mean_entropy(model, weights, rows)) for rows in contexts) / len(contexts)

    checked = 0
    for g, group in enumerate(learnt.groups):
        for k in range(2):
            slope = (loss({(group, k): 1e-2}) - loss({(group, k): -1e-2})) / 2e-2
            if abs(slope) > 1e-2:
                step = float(learnt.coefficients[g, k]) - 0.3
                assert step == pytest.approx(-1e-3 if slope > 0 else 1e-3, rel=1e-3)
                checked += 1
    assert checked >= 4


def test_no_step_is_task_arithmetic(parts):
    learnt = learn_coefficients(*parts, **{**SETTINGS, "steps": 0})
    assert torch.equal(learnt.coefficients, torch.full((4, 2), 0.3))
    assert learnt.entropies[0] == learnt.entropies[1] and learnt.tokens == 0


def test_without_clamp_coefficients_may_leave_the_unit_interval(parts):
    settings = {**SETTINGS, "init": 0.0, "steps": 3}
    free = learn_coefficients(*parts, **{**settings, "clamp": False})
    assert float(free.coefficients.min()) < 0
    assert float(learn_coefficients(*parts, **settings).coefficients.min()) >= 0


def test_the_engine_reproduces_the_learnt_model(study, parts):  # noqa: F811
    model, base, experts, contexts = parts
    learnt = learn_coefficients(*parts, **SETTINGS)
    found = layer_wise_recipe(Recipe("found", "adamerging", tuple(NAMES), "base"), learnt)
    again = Recipe.from_json(json.loads(json.dumps(found.to_json())))
    (merged,) = state_dicts([again], study.sources)
    for name, weight in merged.state_dict.items():
        row = learnt.coefficients[learnt.groups.index(group_of(name))].double()
        expected = base[name].double() + sum(
            c * (expert[name].double() - base[name].double()) for c, expert in zip(row, experts, strict=True)
        )
        torch.testing.assert_close(weight.double(), expected, rtol=0, atol=1e-6, msg=name)
    model.load_state_dict(merged.state_dict, strict=False)
    with torch.no_grad():
        rows = [row for part in contexts for row in part]
        assert entropy_by_hand(model, rows) == pytest.approx(learnt.entropies[1], rel=1e-4)


def test_adamerging_in_a_sweep_reads_no_references(study):  # noqa: F811
    """Other references on dev (and on test) leave what is learnt as it is."""
    entry = merge("ada", "adamerging", NAMES, [{"steps": 3, "learning_rate": 0.05, "batch_size": 2}], NAMES, keep=True)
    (one,) = study.sweep(entry)
    assert one.recipe.method == "task_arithmetic" and len(one.recipe.rules) == 4
    assert one.notes["models"] == NAMES and set(one.notes["coefficients"]) == {"0", "1", "embeddings", "norms"}
    for language in OTHER:
        study.write_pairs(language, "dev", [f"quite another {i}" for i in range(len(EN))])
    (two,) = study.sweep(entry)
    assert one.recipe == two.recipe and one.notes == two.notes


def test_a_grid_of_searches_is_tuned_on_dev(study):  # noqa: F811
    grid = [{"steps": 0}, {"steps": 4, "learning_rate": 0.2}]
    entry = merge("ada", "adamerging", NAMES, grid, tune=NAMES)
    start = merge("ta", "task_arithmetic", NAMES, [{"scale": 0.3}])
    plant(study, start, 0)
    (tuned,) = study.sweep(entry)
    assert [trial["mean"] == pytest.approx(100) for trial in tuned.trials] == [True, False]
    assert tuned.scored.summaries() == study.score(study.candidate(start, 0), tuned_report())


def test_the_command_writes_what_a_search_found(study, tmp_path):  # noqa: F811
    entries = [
        merge("ada", "adamerging", NAMES, [{"steps": 2}], NAMES, keep=True),
        merge("soup", "greedy_soup", NAMES, tune=NAMES),
        merge("ada.last.es", "layer_patch", ["merge:ada", "en-es"], [{"last": 1}], report=["en-es"]),
    ]
    selection = json.loads((run(study, tmp_path / "out", *entries) / "selection.json").read_text())
    assert len(selection["ada"]["search"]["entropies"]) == 2
    assert selection["soup"]["search"]["added"][0] in NAMES
    assert "search" not in selection["ada.last.es"]
    assert (tmp_path / "out/merged/ada/model.safetensors").is_file()
    assert json.loads((tmp_path / "out/cost.json").read_text())["tokens"] > 0


# ---- methods on data, through both commands ------------------------------------------------------------------


def test_what_was_measured_reaches_the_merge(study, tmp_path):  # noqa: F811
    from safetensors.torch import load_file

    from langmerge.calibration.__main__ import main as calibrate

    for language in OTHER:
        study.write_pairs(language, "train", OTHER[language])
        with provenance.result(study.pairs[language].with_name(f"{language}.new"), {}, "", "") as job:
            for path in study.pairs[language].glob("*.jsonl"):
                (job.folder / path.name).write_bytes(path.read_bytes())
        study.pairs[language] = study.pairs[language].with_name(f"{language}.new")
    inputs = {f"models/{name}": str(folder) for name, folder in study.sources.items()}
    inputs |= {f"pairs/{language}": str(folder) for language, folder in study.pairs.items()}
    measured = {}
    for name, kind in itertools.product(NAMES, ("fisher", "gram")):
        measured[f"data/{name}.{kind}"] = tmp_path / f"{name}.{kind}"
        asked = {"kind": kind, "directions": [direction(name)], "pivot": "en", "split": "train", "sentences": 3,
                 "seed": 1, "prompt": PROMPT}  # fmt: skip
        own = {
            f"models/{name}": inputs[f"models/{name}"],
            "pairs/es": inputs["pairs/es"],
            "pairs/de": inputs["pairs/de"],
        }
        calibrate(["--spec", json.dumps(asked), "--inputs", json.dumps(own), "--out", str(tmp_path / f"{name}.{kind}")])
    entries = []
    for method, kind in (("fisher", "fisher"), ("regmean", "gram")):
        entry = merge(method, method, NAMES, keep=True)
        entry["candidates"][0]["data"] = {name: f"{name}.{kind}" for name in NAMES}
        entries.append(entry)
    inputs |= {name: str(folder) for name, folder in measured.items()}
    out = tmp_path / "out"
    sweep_main(["--spec", json.dumps(spec(*entries)), "--inputs", json.dumps(inputs), "--out", str(out)])
    manifest = provenance.read_manifest(out)
    assert set(measured) <= set(manifest["inputs"])
    for method, kind in (("fisher", "fisher"), ("regmean", "gram")):
        recipe = Recipe(method, method, tuple(NAMES), data={name: f"{name}.{kind}" for name in NAMES})
        data = {name.removeprefix("data/"): folder for name, folder in measured.items()}
        (expected,) = state_dicts([recipe], study.sources, data=data)
        written = load_file(out / "merged" / method / "model.safetensors")
        assert all(torch.equal(written[name], weight) for name, weight in expected.state_dict.items())
