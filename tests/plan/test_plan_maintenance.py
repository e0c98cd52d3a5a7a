"""The graph of a study of maintenance: what is trained on what, and which jobs new data of a language reach."""

from pathlib import Path

import pytest
from graph_facts import changed
from pydantic import ValidationError

from langmerge import config, plan
from langmerge.provenance import canonical

ROOT = Path(__file__).parents[2]
TASKS = "tasks/es"


@pytest.fixture
def values(monkeypatch):
    """The shipped study at the smallest scale, as YAML says it."""
    monkeypatch.chdir(ROOT)
    scale, study = (
        config.read_yaml(Path(f"config/{name}.yaml")) for name in ("scales/smoke.maintenance", "studies/maintenance")
    )
    return config.merge_defaults(scale, study)


def build(values, changes=None):
    for path, new in (changes or {}).items():
        values = changed(values, path, new)
    return plan.build(config.Maintenance.model_validate(values), "maintenance")


def training(built, name):
    return built.jobs[f"results/maintenance/models/trained/seed1/{name}"]


def portions(job):
    return {part["language"]: tuple(part["portion"]) for part in job.spec["data"] if part["task"] == "examples"}


def shares(job):
    weights = {part["language"]: part["weight"] for part in job.spec["data"]}
    return {code: weight / sum(weights.values()) for code, weight in weights.items()}


def differing(before, after):
    """Folders, below the study's, of jobs that one plan has and the other has not, or with another spec or inputs."""
    kept = {folder: canonical([job.spec, job.inputs]) for folder, job in before.jobs.items()}
    new = {folder: canonical([job.spec, job.inputs]) for folder, job in after.jobs.items()}
    folders = {folder for folder in kept.keys() | new.keys() if kept.get(folder) != new.get(folder)}
    return {folder.removeprefix("results/maintenance/") for folder in folders}


def reached(built, folder):
    """Jobs that read a folder, or read what a job wrote that does, and so on."""
    found = {f"results/maintenance/{folder}"}
    for _ in built.jobs:
        found |= {
            name
            for name, job in built.jobs.items()
            if any(plan.result_folder(source, built.jobs) in found for source in job.inputs.values())
        }
    return {name.removeprefix("results/maintenance/") for name in found} - {folder}


def test_every_task_has_a_specialist_per_language_and_a_combined_model(values):
    built = build(values)
    names = {model.name for model in built.models.values() if model.kind == "train"}
    for group in ("summarization-lora", "causal_choice-lora", "sentiment-lora", "sentiment-full"):
        assert {f"{group}-{code}" for code in ("en", "es", "it", "de", "tr")} | {f"{group}-combined"} <= names
    # Update and addition are run in one task and tuning only.
    assert {name for name in names if "updated" in name or "continued" in name or "before" in name} == {
        f"sentiment-lora-{name}"
        for name in ("es-updated", "combined-updated", "continued-update", "combined-before", "continued-addition")
    }


def test_a_variant_is_an_initial_build_with_other_adapters(values):
    built = build(values)  # of the rank 2 in causal choice
    name = "causal_choice-lora-rank2"
    names = {model.name for model in built.models.values() if model.name.startswith(name)}
    assert names == {f"{name}-{code}" for code in ("en", "es", "it", "de", "tr", "combined")}
    for code in ("es", "combined"):
        variant, own = training(built, f"{name}-{code}"), training(built, f"causal_choice-lora-{code}")
        assert variant.spec | {"lora": None} == own.spec | {"lora": None}
        assert variant.spec["lora"] == own.spec["lora"] | {"rank": 2, "alpha": 2}
        assert variant.inputs == own.inputs
    (sweep,) = (job for folder, job in built.jobs.items() if folder.endswith(f"/{name}") and "sweeps" in folder)
    assert {m["role"] for m in sweep.spec["merges"]} == {"base", "specialist", "combined", "merge"}
    without = build(values, {"variants": {}})
    assert all("rank2" in folder or folder == "report" for folder in differing(built, without))


def test_a_variant_may_start_from_another_origin(values):
    small = {"init": {"vocabulary_size": 600, "architecture": {"hidden_size": 16, "num_hidden_layers": 1}}}
    both = {"tasks": {"sentiment": ["lora", "full"]}, "origin": small}
    built = build(values, {"variants": {"tiny": both, "rank1": {"tasks": {"sentiment": ["lora"]}, "rank": 1}}})
    assert training(built, "base-tiny").inputs["model"].endswith("/origin-tiny")
    assert training(built, "sentiment-full-tiny-en").inputs["model"].endswith("/base-tiny")
    assert training(built, "sentiment-lora-rank1-en").inputs["model"].endswith("/base")
    own, tiny = (training(built, f"sentiment-lora{name}-en") for name in ("", "-tiny"))
    assert tiny.flops < own.flops == training(built, "sentiment-lora-rank1-en").flops
    shared = differing(built, build(values, {"variants": {}}))
    assert not {folder for folder in shared if "tiny" not in folder and "rank" not in folder} - {"report"}


def test_adapters_are_trained_where_asked_for(values):
    built = build(values)
    assert training(built, "sentiment-lora-en").spec["lora"]["rank"] == 4
    assert "lora" not in training(built, "sentiment-full-en").spec


def test_the_language_to_be_updated_starts_with_a_part_of_its_items(values):
    # 8 of 40 items are the base's; of the other 32 (from share 0.2 on), 60 % are there before the update.
    built = build(values)
    assert portions(training(built, "sentiment-lora-es")) == {"es": (0.2, pytest.approx(0.68))}
    assert portions(training(built, "sentiment-lora-es-updated")) == {"es": (0.2, 1.0)}
    assert portions(training(built, "sentiment-lora-it")) == {"it": (0.2, 1.0)}
    combined = portions(training(built, "sentiment-lora-combined"))
    assert combined["es"] == (0.2, pytest.approx(0.68)) and combined["it"] == (0.2, 1.0)
    assert set(portions(training(built, "sentiment-lora-combined-updated")).values()) == {(0.2, 1.0)}
    # Tasks without an update have all items from the start.
    assert portions(training(built, "causal_choice-lora-es")) == {"es": (0.2, 1.0)}


def test_every_training_sees_an_item_equally_often(values):
    """Steps over items (in languages' worth) is the same everywhere: the cost of a way is that of its data."""
    built = build(values, {"specialist.steps": 100})
    items = {"es": 0.6, "es-updated": 1, "it": 1, "combined": 4.6, "combined-updated": 5, "combined-before": 3.6}
    for name, amount in items.items():
        assert training(built, f"sentiment-lora-{name}").spec["steps"] == pytest.approx(100 * amount), name
    assert shares(training(built, "sentiment-lora-combined"))["es"] == pytest.approx(0.6 / 4.6)
    assert shares(training(built, "sentiment-lora-combined"))["it"] == pytest.approx(1 / 4.6)


def test_continued_training_replays_old_items(values):
    built = build(values, {"specialist.steps": 100, "update.replay": 0.25})
    job = training(built, "sentiment-lora-continued-update")
    new, *old = job.spec["data"]
    assert new["language"] == "es" and new["portion"] == [pytest.approx(0.68), 1.0]
    weights = [part["weight"] for part in job.spec["data"]]
    assert new["weight"] / sum(weights) == pytest.approx(0.75)
    assert {part["language"]: tuple(part["portion"]) for part in old}["es"] == (0.2, pytest.approx(0.68))
    assert job.spec["steps"] == round(100 * 0.4 / 0.75)  # the 40 % of new items as often as in other trainings
    assert job.inputs["model"].endswith("sentiment-lora-combined")


def test_joint_trainings_get_the_workers(values):
    built = build(values, {"workers": 3})
    assert training(built, "sentiment-lora-combined").threads == training(built, "sentiment-lora-combined").gpus == 3
    assert training(built, "sentiment-lora-es").threads == training(built, "sentiment-lora-es").gpus == 1


def test_merges_after_an_update_replace_one_specialist(values):
    built = build(values)
    merges = {m["name"]: m for m in built.jobs["results/maintenance/sweeps/seed1/sentiment-lora"].spec["merges"]}
    before, after = (
        merges[f"sentiment-lora-ties-{state}"]["candidates"][0]["models"] for state in ("initial", "update")
    )
    assert [b for a, b in zip(before, after, strict=True) if a != b] == ["sentiment-lora-es-updated"]
    without = merges["sentiment-lora-ties-before"]["candidates"][0]["models"]
    assert without == [model for model in before if model != "sentiment-lora-tr"]


def test_merges_of_other_states_keep_the_parameters_of_the_initial_build(values):
    """What changes with a language's data, or with a further language, is not what dev chose anew."""
    merges = {
        m["name"]: m for m in build(values).jobs["results/maintenance/sweeps/seed1/sentiment-lora"].spec["merges"]
    }
    names = list(merges)
    for method in ("ties", "dare_ties", "knots"):
        initial = merges[f"sentiment-lora-{method}-initial"]
        assert initial["tune"] and "parameters_of" not in initial
        for state in ("update", "before"):
            kept = merges[f"sentiment-lora-{method}-{state}"]
            assert kept["parameters_of"] == initial["name"] and not kept["tune"]
            assert names.index(initial["name"]) < names.index(kept["name"])
            grids = [[c["parameters"] for c in merge["candidates"]] for merge in (initial, kept)]
            assert grids[0] == grids[1]
        again = merges[f"sentiment-lora-{method}-retuned"]
        assert again["tune"] and "parameters_of" not in again
        update = merges[f"sentiment-lora-{method}-update"]
        assert [c["models"] for c in again["candidates"]] == [c["models"] for c in update["candidates"]]
    # A plain average has nothing to tune.
    assert (
        "parameters_of" not in merges["sentiment-lora-linear-update"] and "sentiment-lora-linear-retuned" not in names
    )


def test_fixed_densities_are_the_papers_recipes(values):
    merges = build(values).jobs["results/maintenance/sweeps/seed1/sentiment-lora"].spec["merges"]
    fixed = [m["candidates"][0] for m in merges if m["role"] == "density"]
    assert {(c["method"], c["parameters"]["density"]) for c in fixed} == {
        (method, density) for method in ("ties", "dare_ties", "knots") for density in (0.2, 0.4, 0.6, 0.8, 1.0)
    }
    assert all(c["parameters"]["trim"] == 1.0 for c in fixed if c["method"] == "dare_ties")
    assert all(c["parameters"]["inner"] == "dare_ties" for c in fixed if c["method"] == "knots")


def test_new_data_of_a_language_reach_that_language_and_what_depends_on_it(values):
    """Other specialists and the base stay as they are."""
    again = {folder for folder in reached(build(values), TASKS) if "/trained/" in folder}
    names = {folder.rpartition("/")[2] for folder in again}
    groups = (
        "summarization-lora",
        "causal_choice-lora",
        "sentiment-lora",
        "sentiment-full",
        "causal_choice-lora-rank2",
    )
    scenarios = ("combined-updated", "continued-update", "combined-before", "continued-addition")
    joint = {*(f"{group}-combined" for group in groups), *(f"sentiment-lora-{name}" for name in scenarios)}
    own = {f"{group}-es" for group in groups}
    assert names == joint | own | {"sentiment-lora-es-updated"}


MORE = {"es": {"sentiment": {"train": 72}}}  # 40 of them, and 8 the base's, in every other language


def test_embedded_data_of_one_language_grow(values):
    built = build(values)
    grown = build(values, {"tasks.by_language": MORE})
    again = differing(built, grown)
    # Its items, and of sentiment its specialists and the joint trainings that it is part of; base and others stay.
    trained = {folder.rpartition("/")[2] for folder in again if "/trained/" in folder}
    scenarios = ("combined-updated", "continued-update", "combined-before", "continued-addition")
    names = {f"sentiment-lora-{name}" for name in ("es", "es-updated", "combined", *scenarios)}
    assert trained == names | {"sentiment-full-es", "sentiment-full-combined"}
    assert {folder for folder in again if "tasks/" in folder} == {TASKS}
    # With what reads them, those are all the jobs that run again: merges, scores, diagnoses, report.
    reach = {TASKS, *reached(grown, TASKS)}
    assert again <= reach
    assert {f"sweeps/seed1/{group}" for group in ("sentiment-lora", "sentiment-full")} | {"report"} <= reach
    others = ("base", "sentiment-lora-it", "sentiment-full-de", "causal_choice-lora-en")
    assert not reach & {f"models/trained/seed1/{name}" for name in others}
    assert not {folder for folder in reach if folder.startswith("tasks/") and folder != TASKS}


def test_a_language_with_more_items_gets_as_many_more_steps(values):
    built = build(values, {"tasks.by_language": MORE, "specialist.steps": 100})
    # 72 items without the base's 8 are twice the 32 of others; before the update 60 % of them are there.
    assert training(built, "sentiment-full-es").spec["steps"] == 200
    assert training(built, "sentiment-full-it").spec["steps"] == 100
    assert training(built, "sentiment-full-combined").spec["steps"] == 600
    assert shares(training(built, "sentiment-full-combined"))["es"] == pytest.approx(2 / 6)
    assert training(built, "sentiment-lora-es").spec["steps"] == 120
    assert portions(training(built, "sentiment-full-es")) == {"es": (pytest.approx(8 / 72), 1.0)}
    assert portions(training(built, "sentiment-full-combined"))["it"] == (0.2, 1.0)


def test_the_update_of_the_shipped_study_leaves_base_and_others(monkeypatch):
    """As the README shows it: more Spanish reviews in config/scales/cpu.maintenance.yaml."""
    monkeypatch.chdir(ROOT)
    scale, study = (
        config.read_yaml(Path(f"config/{name}.yaml")) for name in ("scales/cpu.maintenance", "studies/maintenance")
    )
    values = config.merge_defaults(scale, study)
    grown = changed(values, "tasks.by_language", {"es": {"sentiment": {"train": 2000}}})
    before, after = (plan.build(config.Maintenance.model_validate(v), "maintenance") for v in (values, grown))
    again = differing(before, after) | {TASKS, *reached(after, TASKS)}
    trained = {folder.rpartition("/")[2] for folder in again if "/trained/" in folder}
    assert {"sentiment-lora-es", "sentiment-full-es", "sentiment-lora-combined"} <= trained
    assert all(
        name.endswith("-es") or any(word in name for word in ("-es-", "combined", "continued")) for name in trained
    )


def test_another_share_before_the_update_changes_that_language_only(values):
    built = build(values)
    found = differing(built, build(values, {"update.before": 0.5}))
    joint = ("combined", "continued-update", "combined-before", "continued-addition")  # those that read its old items
    trained = {f"models/trained/seed1/sentiment-lora-{name}" for name in ("es", *joint)}
    assert found == {*trained, "report"}


def test_a_further_language_leaves_other_specialists(values):
    built = build(values)
    found = differing(built, build(values, {"languages": ["en", "es", "it", "de", "tr", "fr"]}))
    trained = {folder.rpartition("/")[2] for folder in found if "/trained/" in folder}
    old = {f"{group}-{code}" for group in ("sentiment-lora", "sentiment-full") for code in ("en", "it", "de", "tr")}
    assert "sentiment-lora-fr" in trained and not trained & old


def test_items_of_tasks_are_disjoint_from_the_bases(values):
    built = build(values)
    base = training(built, "base")
    assert base.inputs["tasks/es"] == "results/maintenance/tasks/base/es"
    items = {folder: job.spec["tasks"] for folder, job in built.jobs.items() if job.rule == "prepare_tasks"}
    own, of_base = items["results/maintenance/tasks/es"], items["results/maintenance/tasks/base/es"]
    first = of_base["sentiment"]["train"] / own["sentiment"]["train"]
    assert portions(training(built, "sentiment-lora-it"))["it"][0] == first
    assert own["seed"] == of_base["seed"] and of_base["sentiment"]["test"] == 0


def test_tasks_and_adapters_may_have_trainings_of_their_own(values):
    run = {"steps": 7, "learning_rate": 0.5}
    built = build(values, {"specialists": {"sentiment": run}, "lora.learning_rate": 0.25})
    assert training(built, "sentiment-full-en").spec["steps"] == 7
    assert training(built, "sentiment-full-en").spec["learning_rate"] == 0.5
    assert training(built, "sentiment-lora-en").spec["learning_rate"] == 0.25
    assert training(built, "summarization-lora-en").spec["steps"] == 4
    other = build(values, {"lora.learning_rate": 0.25, "lora.learning_rates": {"sentiment": 0.125}})
    rates = {task: training(other, f"{task}-lora-en").spec["learning_rate"] for task in ("sentiment", "summarization")}
    assert rates == {"sentiment": 0.125, "summarization": 0.25}
    assert training(other, "sentiment-lora-en").spec["lora"] == training(built, "sentiment-lora-en").spec["lora"]
    assert "learning_rate" not in training(built, "sentiment-lora-en").spec["lora"]


FILES = {"path": "{language}.{split}.jsonl", "splits": {"train": "train", "dev": "dev", "test": "test"}}


def test_a_language_without_a_task_has_no_specialist_in_it(values):
    tasks = dict.fromkeys(("summarization", "causal_choice", "sentiment"), FILES)
    files = {"kind": "files", "tasks": tasks, "languages": {"it": ["causal_choice", "sentiment"]}}
    built = build(values, {"tasks": files, "base_tasks": None})
    names = {model.name for model in built.models.values()}
    assert "sentiment-lora-it" in names and "summarization-lora-it" not in names
    combined = {part["language"] for part in training(built, "summarization-lora-combined").spec["data"]}
    assert combined == {"en", "es", "de", "tr"}
    assert training(built, "summarization-lora-combined").spec["steps"] == 4 * 4
    merges = built.jobs["results/maintenance/sweeps/seed1/summarization-lora"].spec["merges"]
    assert {m["name"] for m in merges if m["role"] == "cluster"} == {"summarization-lora-cluster-germanic"}
    # Without items of its own, the base reads text, and specialists read all items.
    assert {part["task"] for part in training(built, "base").spec["data"]} == {"text"}
    assert portions(training(built, "sentiment-lora-it")) == {"it": (0.0, 1.0)}


@pytest.mark.parametrize("name", ["xed", "gpu", "paper"])
def test_shipped_scales_of_real_text_are_valid(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    study = "language_specific_merging" if name == "paper" else "subtitles"
    workflow = config.load_workflow({"studies": [study], "scale": name, "data_root": "somewhere"})
    built = plan.build(config.load(workflow, study), study)
    assert {job.rule for job in built.jobs.values()} >= {"prepare_tasks", "train_model", "sweep_merges"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"update.language": "fr"}, "update.language: fr is not among languages"),
        ({"update.tasks": {"causal_choice": ["full"]}}, "update.tasks.causal_choice: full is not among"),
        ({"variants": {"same": {"tasks": {"sentiment": ["lora"]}}}}, "variants\.same\s.*the study's own build"),
        ({"variants": {"r": {"tasks": {"sentiment": ["full"]}, "rank": 1}}}, "full fine-tuning has no adapters"),
        ({"variants": {"r": {"tasks": {"arithmetic": ["lora"]}, "rank": 1}}}, "variants.r.tasks.arithmetic: lora is"),
        ({"base_tasks.negation": 0.5}, "base_tasks.negation: 0.5 would put test items"),
        ({"addition.language": "fr"}, "addition.language: fr is not among languages"),
        ({"clusters": {"one": ["es"]}}, "clusters.one: a merge needs two languages"),
        ({"clusters": {"far": ["es", "fr"]}}, "clusters.far: fr is not among languages"),
        ({"base_tasks.seed": 2}, "base_tasks.seed: 2 would put test items"),
        ({"base_tasks.sentiment": {"train": 40, "dev": 0, "test": 0}}, "leaves no training item"),
        ({"tasks.by_language": {"es": {"sentiment": {"train": 8}}}}, "leaves no training item to the specialist of es"),
        ({"tasks.by_language": {"es": {"sentiment": {"trian": 8}}}}, "by_language.es.sentiment"),
        ({"tasks.by_language": {"es": {"arithmetic": {"train": 8}}}}, "arithmetic.dev"),
        ({"base": None}, "base_tasks: no `base` is trained on them"),
        ({"tasks": None, "base_tasks": None}, "tasks: missing"),
        ({"densities": [0.0]}, "greater than 0"),
        (
            {"tasks.sentiment": {"train": 0, "dev": 4, "test": 8}, "base_tasks.sentiment": None},
            "tasks.sentiment.train: missing",
        ),
        (
            {"tasks": {"kind": "files", "tasks": {"sentiment": {"path": "x"}}}, "base_tasks": None},
            "only .. of the languages",
        ),
    ],
)
def test_mistakes_are_named(values, changes, message):
    with pytest.raises(ValidationError, match=message):
        build(values, changes)
