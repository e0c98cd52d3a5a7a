"""The graph that a study expands to: complete, without circles, of plain and movable specs."""

import json
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path, PurePosixPath

import pytest

from langmerge import catalogue
from langmerge.plan import result_folder
from langmerge.plan.graph import group_name, merge_recipe
from langmerge.provenance import InputError, canonical, modules_of

RUN = {"steps": 2, "learning_rate": 1e-3, "batch_tokens": 512}
EXTRAS = {
    "late": {"train": {"parent": "early", "directions": [["en", "es"], ["it", "en"]], "train": RUN}},
    "early": {"merge": {"method": "ties", "models": ["en-es@2", "es-en", "outside"], "base": "base"}},
    "outside": {"import": {"source": "somebody/llama"}},
    "tuned": {"train": {"parent": "linear-from-en", "directions": [["en", "es"]], "train": RUN}},
}
VARIANTS = {
    "shipped": {},
    "seeds": {"seeds": [3, 5]},
    "from_pivot": {"directions": ["from_pivot"]},
    "to_pivot": {"directions": ["to_pivot"]},
    "no joint": {"joint": None},
    "no analysis": {"analysis": None},
    "no merging": {"merging": {}, "analysis": None},
    "extras": {"models": EXTRAS, "seeds": [1, 2]},
    "imported base": {"base": {"languages": ["es"], "import": {"source": "somebody/llama"}, "train": RUN}},
    "one language": {"languages": ["es"], "merging": {}, "analysis": None, "joint": None},
}


@pytest.fixture(params=VARIANTS, ids=str)
def plan(build, request):
    return build(VARIANTS[request.param])


def edges(plan):
    return {f: {result_folder(i, plan.jobs) for i in job.inputs.values()} for f, job in plan.jobs.items()}


def test_every_input_comes_from_another_job_and_there_is_no_circle(plan):
    graph = edges(plan)
    assert all(folder not in parents for folder, parents in graph.items())
    order = list(TopologicalSorter(graph).static_order())
    assert set(order) == set(plan.jobs), "every input folder belongs to a job"


def test_everything_leads_to_the_report(plan):
    """Nothing is computed in vain."""
    graph, reached, todo = edges(plan), set(), [plan.report.folder]
    while todo:
        folder = todo.pop()
        reached.add(folder)
        todo += graph[folder] - reached
    assert set(plan.jobs) == reached


def test_specs_are_plain_json_without_places_of_this_machine(plan):
    def strings(value):
        if isinstance(value, dict):
            return [s for item in value.items() for part in item for s in strings(part)]
        if isinstance(value, list):
            return [s for part in value for s in strings(part)]
        return [value] if isinstance(value, str) else []

    for job in plan.jobs.values():
        assert json.loads(canonical(job.spec)) == job.spec, "no tuples, no other types, keys are texts"
        places = [*strings(job.spec), job.folder, *job.inputs.values(), *job.files]
        assert not [place for place in places if PurePosixPath(place).is_absolute() or str(Path.cwd()) in place]
        assert PurePosixPath(job.folder).is_relative_to("results/translation")


def test_the_code_of_every_job_is_there(plan):
    assert all(modules_of(*modules) for modules in {job.modules for job in plan.jobs.values()})
    assert all(Path(file).is_file() for job in plan.jobs.values() for file in job.files)


def test_no_job_lies_inside_another(plan):
    """Their folders are replaced whole."""
    for folder in plan.jobs:
        assert not [p for p in PurePosixPath(folder).parents if str(p) in plan.jobs]


def test_every_system_is_scored_by_a_job(plan):
    assert len({system.key for system in plan.systems}) == len(plan.systems)
    for system in plan.systems:
        owner = plan.jobs[result_folder(system.folder, plan.jobs)]
        if owner.rule == "evaluate_model":
            assert owner.folder == system.folder
        else:
            assert owner.rule == "sweep_merges"
            assert system.folder == f"{owner.folder}/systems/{system.name}"
            assert [m["role"] for m in owner.spec["merges"] if m["name"] == system.name] == [system.role]


def test_snapshots_that_are_read_are_kept(plan):
    for job in plan.jobs.values():
        for folder in job.inputs.values():
            owner = plan.jobs[result_folder(folder, plan.jobs)]
            if owner.rule == "train_model" and owner.folder != folder:
                assert int(folder.removeprefix(f"{owner.folder}/step")) in owner.spec["snapshots"]


def test_sweeps_are_complete_and_in_order(plan):
    """Every model that a candidate names is an input or a merge before it; every grid point is a full recipe."""
    for job in plan.jobs.values():
        if job.rule != "sweep_merges":
            continue
        before = set()
        for merge in job.spec["merges"]:
            assert len(merge["candidates"]) == 1 or merge["tune"], "a choice needs dev scores"
            assert merge["report"]
            for candidate in merge["candidates"]:
                named = [*candidate["models"], *filter(None, [candidate["base"]])]
                assert {f"models/{name}" for name in named if not name.startswith("merge:")} <= set(job.inputs)
                assert {name for name in named if name.startswith("merge:")} <= before
                parameters = catalogue.check(candidate["method"], candidate["parameters"], len(candidate["models"]))
                assert parameters == candidate["parameters"]
            before.add(f"merge:{merge['name']}")


def test_comparisons_are_between_scored_systems_with_the_right_specialist(plan):
    job = next(job for job in plan.jobs.values() if job.rule == "compare_systems")
    roles = {system.key: system for system in plan.systems}
    for row in job.spec["comparisons"]:
        names = [d["source"] + "-" + d["target"] for d in row["directions"]]
        own = isinstance(row["baseline"], dict)  # each direction has its own
        baselines = [row["baseline"][name] for name in names] if own else [row["baseline"]]
        assert {f"evaluations/{key}" for key in [row["system"], *baselines]} <= set(job.inputs)
        if own:
            assert [roles[key].name for key in baselines] == names
        assert {roles[key].seed for key in [row["system"], *baselines]} == {roles[row["system"]].seed}
    for row in job.spec["retention"]:
        (d,) = row["directions"]
        assert roles[row["expert"]].name == f"{d['source']}-{d['target']}"
        assert roles[row["base"]].role == "base"


def count(plan):
    return Counter(job.rule for job in plan.jobs.values())


@pytest.mark.parametrize("groups", [["from_pivot"], ["to_pivot"], ["from_pivot", "to_pivot"]])
@pytest.mark.parametrize("seeds", [[1], [4, 7, 9]])
@pytest.mark.parametrize("joint", [True, False])
def test_numbers_of_jobs(build, groups, seeds, joint):
    """L languages, G direction groups and S seeds: a base, L specialists and a joint model in every group."""
    changes = {"directions": groups, "seeds": seeds} | ({} if joint else {"joint": None})
    s, g, languages = len(seeds), len(groups), 4
    assert count(build(changes)) == {
        "prepare_corpus": languages,
        "check_corpora": 1,
        "init_model": s,
        "train_model": s * (1 + g * (languages + joint)),
        "evaluate_model": s * (1 + g * (languages + joint)),
        "sweep_merges": s * g * 3,
        "sweep_patches": s * g,
        "observe_model": s * g * (1 + languages + joint + 3),
        "measure_models": s * g,
        "survey_landscape": s * g,
        "weigh_models": s * g,
        "ablate_units": s * g,
        **({"replicate_measurements": 1} if s > 1 else {}),
        "compare_systems": 1,
        "predict_damage": 1,
        "write_report": 1,
    }


def test_every_model_is_scored_in_every_direction(build):
    """Also in those that it was not trained for: forgetting and transfer are read off there."""
    every = {("en", code) for code in ("es", "it", "de", "tr")} | {(code, "en") for code in ("es", "it", "de", "tr")}
    jobs = build().jobs.values()
    merges = [m for job in jobs if job.rule == "sweep_merges" for m in job.spec["merges"] if m["role"] == "merge"]
    evaluated = [job.spec["directions"] for job in jobs if job.rule == "evaluate_model"]
    for directions in [*evaluated, *(merge["report"] for merge in merges)]:
        assert {(d["source"], d["target"]) for d in directions} == every
        assert len(directions) == len(every)
    for merge in merges:
        assert {d["source"] == "en" for d in merge["tune"]} in ({True}, {False}), "tuned on its own group"
        assert len(merge["tune"]) == 4


def test_sections_that_are_left_out_leave_no_jobs(build):
    assert not {"observe_model", "measure_models"} & set(count(build({"analysis": None})))
    assert "sweep_merges" not in count(build({"merging": {}, "analysis": None}))
    without = build({"joint": None})
    assert not [s for s in without.systems if s.role == "joint"]
    assert not [row for j in without.jobs.values() if j.rule == "compare_systems" for row in j.spec["comparisons"]
                if row.get("label") == "joint"]  # fmt: skip
    drift = build({"merging.drift": None})
    assert {s.role for s in drift.systems} == {"base", "specialist", "joint", "merge", "pair", "patch"}


def test_seeds_are_replicates(build):
    """The jobs of a seed are those of a study with that seed alone; corpora are shared."""
    both, one, two = build({"seeds": [1, 2]}), build({"seeds": [1]}), build({"seeds": [2]})
    shared = {"compare_systems", "predict_damage", "replicate_measurements", "write_report"}
    jobs = {folder: job for folder, job in both.jobs.items() if job.rule not in shared}
    assert jobs == {f: j for plan in (one, two) for f, j in plan.jobs.items() if j.rule not in shared}

    def renamed(value):
        return json.loads(canonical(value).replace("seed1/", "seed2/").replace('"seed":1', '"seed":2'))

    for folder, job in one.jobs.items():
        if job.rule in ("init_model", "train_model", "evaluate_model"):
            other = two.jobs[renamed(folder)]
            assert other.spec == renamed(job.spec)
            assert other.inputs == renamed(job.inputs)


def test_the_portions_of_base_and_specialists_are_what_the_scale_says(build):
    jobs = build().jobs
    base = jobs["results/translation/models/trained/seed1/base"].spec
    specialist = jobs["results/translation/models/trained/seed1/it-en"].spec
    assert {tuple(part["portion"]) for part in base["data"]} == {(0.0, 0.5)}
    assert specialist["data"] == [
        {"task": "translate", "source": "it", "target": "en", "loss": "target", "portion": [0.5, 1.0], "weight": 1.0}
    ]
    for spec in (base, specialist):
        assert sum(part["weight"] for part in spec["data"]) == pytest.approx(1)
    spoken = {part["language"]: part["weight"] for part in base["data"] if part["task"] == "text"}
    assert set(spoken) == {"en", "es", "it", "de", "tr"}
    assert sum(spoken.values()) == pytest.approx(0.2)


def test_extra_models_come_after_their_parents(build):
    plan = build({"models": EXTRAS})
    jobs, root = plan.jobs, "results/translation/models"
    late, early = jobs[f"{root}/trained/seed1/late"], jobs[f"{root}/merged/seed1/early"]
    assert late.inputs["model"] == early.folder
    assert {k: v for k, v in late.inputs.items() if k != "model"} == {
        f"pairs/{code}": f"results/translation/corpora/{code}" for code in ("es", "it")
    }
    assert early.inputs == {
        "models/en-es@2": f"{root}/trained/seed1/en-es/step2",
        "models/es-en": f"{root}/trained/seed1/es-en",
        "models/outside": f"{root}/imported/seed1/outside",
        "models/base": f"{root}/trained/seed1/base",
    }
    assert early.spec["recipe"]["parameters"]["density"] == 0.2
    tuned = jobs[f"{root}/trained/seed1/tuned"]
    assert tuned.inputs["model"] == "results/translation/sweeps/seed1/from-en.all/merged/linear"
    assert {s.name for s in plan.systems if s.role == "extra"} == set(EXTRAS)
    assert plan.models["1/late"].parents == ("early",)
    assert plan.models["1/early"].parents == ("en-es@2", "es-en", "outside", "base")


@pytest.mark.parametrize("step", ["3", "last", "4", "02"])
def test_a_snapshot_that_is_not_kept_is_explained(build, step):
    """The smoke scale keeps step 2 of 4; the last step is the model itself."""
    merge = {"merge": {"method": "linear", "models": [f"en-es@{step}", "en-it"]}}
    with pytest.raises(InputError, match=rf"models\.m\.merge: en-es has no snapshot at step {step} \(it has: 2\)"):
        build({"models": {"m": merge}})
    with pytest.raises(InputError, match="base has no snapshot at step 2"):
        build({"models": {"m": {"merge": {"method": "linear", "models": ["base@2", "en-it"]}}}})


@pytest.mark.parametrize(
    ("drift", "expected"),
    [
        ({"steps": [2], "method": "tise"}, "did you mean 'ties'"),
        ({"steps": [2], "method": "ties", "parameters": {"density": 1.5}}, "density"),
        ({"steps": [2], "method": "ties", "parameters": {"density": [0.2, 0.5]}}, "density"),
        ({"steps": [2], "method": "slerp"}, "exactly 2"),
    ],
)
def test_a_drift_curve_without_a_merge_is_explained(build, drift, expected):
    """Drift is not tuned: a grid has no place there."""
    with pytest.raises(InputError, match=rf"merging\.drift: .*{expected}"):
        build({"merging.drift": drift})


def test_a_step_of_the_drift_curve_that_stands_twice_counts_once(build):
    twice, once = build({"merging.drift.steps": [4, 2, 2]}), build()
    assert twice.systems == once.systems
    specs = [{f: job.spec for f, job in plan.jobs.items() if job.rule != "write_report"} for plan in (twice, once)]
    assert specs[0] == specs[1]


def test_group_names_follow_the_pivot(build):
    study = build().study
    assert [group_name(study, group) for group in study.directions] == ["from-en", "to-en"]


def test_only_merges_with_a_choice_are_called_tuned():
    one = {"details": {"method": "linear"}, "candidates": [{}]}
    assert merge_recipe(one) == "linear"
    assert merge_recipe(one | {"candidates": [{}, {}]}) == "linear, tuned on dev"
