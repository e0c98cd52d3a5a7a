"""The graph of a study of growth: who descends from whom, which merges there are, what reruns when data change."""

import itertools
from pathlib import Path

import pytest
from pydantic import ValidationError

from langmerge import config, plan
from langmerge.merging import Recipe
from langmerge.plan import result_folder
from langmerge.plan.growth import flops_ratio, in_pieces
from langmerge.provenance import canonical

ROOT = Path(__file__).parents[2]
R = "results/growth"
METHODS = ("linear", "multislerp", "ties", "dare_ties", "fisher")
FILES = {
    "kind": "files",
    "splits": {
        name: {"path": f"text/{{language}}.{name}.jsonl", "one_sided": True} for name in ("train", "dev", "test")
    },
}


@pytest.fixture
def study(monkeypatch):
    monkeypatch.chdir(ROOT)
    scale, values = (
        config.read_yaml(Path(f"config/{name}.yaml")) for name in ("scales/smoke.growth", "studies/growth")
    )

    def make(changes=None):
        plain = {**config.merge_defaults(scale, values), "control": None}
        return config.Growth.model_validate(plain | (changes or {}))

    return make


@pytest.fixture
def growth(study):
    return lambda changes=None: plan.build(study(changes), "growth")


def parents(built, seed=1):
    return {model.name: model.parents for model in built.models.values() if model.seed == seed}


def descendants(built, folders):
    """Jobs that read any of ``folders``, at any distance."""
    reached = set(folders)
    for folder, job in built.jobs.items():  # in the order in which they were added: parents first
        if reached & {result_folder(place, built.jobs) for place in job.inputs.values()}:
            reached.add(folder)
    return reached - set(folders)


def test_each_setup_grows_at_its_own_time(growth):
    found = parents(growth())
    assert found["base"] == ("origin",)
    assert found["1x-source"] == ("base",)
    assert found["1x-cloned-source"] == ("1x-source",), "finished small, then grown"
    assert found["base-grown"] == ("base",) and found["2x-source"] == ("base-grown",), "grown, then finished large"
    for setup, name in itertools.product(("1x", "1x-cloned", "2x"), ("de", "tr", "fr", "joint")):
        assert found[f"{setup}-{name}"] == (f"{setup}-source",)
    assert len(found) == 6 + 3 * 4


def test_setups_that_are_not_asked_for_leave_nothing_behind(growth):
    small = set(parents(growth({"setups": ["1x"]})))
    assert small == {"origin", "base", "1x-source", "1x-de", "1x-tr", "1x-fr", "1x-joint"}
    late = set(parents(growth({"setups": ["1x-cloned"]})))
    assert {"1x-source", "1x-cloned-source"} <= late and not {"1x-de", "base-grown"} & late


def test_the_pivot_is_trained_first_and_replayed(growth):
    built = growth({"replay": 0.1, "base": {"steps": 6, "learning_rate": 1e-3, "portion": [0, 0.8]}})
    trained = f"{R}/models/trained/seed1"
    (base,) = built.jobs[f"{trained}/base"].spec["data"]
    assert (base["language"], base["portion"]) == ("en", [0, 0.8])
    own, replay = built.jobs[f"{trained}/2x-tr"].spec["data"]
    assert (own["language"], own["weight"]) == ("tr", 0.9)
    assert (replay["language"], replay["weight"], replay["portion"]) == ("en", 0.1, [0, 0.8])
    assert len(growth({"replay": 0}).jobs[f"{trained}/1x-de"].spec["data"]) == 1


def test_joint_training_has_the_steps_of_all_and_their_shares(growth, study):
    steps = {code: study().steps_of(code) for code in ("de", "tr", "fr")}
    assert steps == {"de": 4, "tr": 4, "fr": 2}
    spec = growth({"replay": 0}).jobs[f"{R}/models/trained/seed1/1x-joint"].spec
    assert spec["steps"] == 10
    assert {part["language"]: part["weight"] for part in spec["data"]} == {"de": 0.4, "tr": 0.4, "fr": 0.2}
    assert growth({"joint_steps": 0.5}).jobs[f"{R}/models/trained/seed1/1x-joint"].spec["steps"] == 5


def merges(built, setup="2x"):
    return [entry for entry in built.jobs[f"{R}/sweeps/seed1/{setup}"].spec["merges"] if entry["role"] == "merge"]


def test_all_subsets_are_merged_by_all_methods(growth):
    four = {"languages": ["de", "tr", "fr", "es"]}
    subsets = [c for size in (2, 3, 4) for c in itertools.combinations(four["languages"], size)]
    found = [(entry["details"]["method"], tuple(entry["details"]["languages"])) for entry in merges(growth(four))]
    assert sorted(found) == sorted(itertools.product(METHODS, subsets))
    assert len(found) == 5 * 11 and len(set(found)) == len(found)
    assert {e["details"]["size"] for e in merges(growth({**four, "subsets": [4]}))} == {4}


def test_specs_of_sweeps_stay_below_what_a_command_line_takes(growth):
    many = {"languages": ["de", "tr", "fr", "es", "it"], "snapshots": [1, 2, 3]}
    sweeps = [job for job in growth(many).jobs.values() if job.rule == "sweep_merges"]
    names = [job.folder.rpartition("/")[2] for job in sweeps]
    assert names[:2] == ["1x", "1x.2"] and len(names) == len(set(names))
    assert all(len(canonical([job.spec, job.inputs])) < 100_000 for job in sweeps)
    merged = [entry["name"] for job in sweeps if job.folder.endswith(("/2x", "/2x.2")) for entry in job.spec["merges"]]
    assert len(merged) == len(set(merged)) and len([name for name in merged if "+" in name]) == 5 * 26
    pieces = in_pieces([{"n": n} for n in range(30)], 40)
    assert [entry["n"] for piece in pieces for entry in piece] == list(range(30)) and len(pieces) > 3
    assert in_pieces([{"n": 1}, {"n": 2}], 1) == [[{"n": 1}], [{"n": 2}]]


def test_merges_are_measured_against_their_own_source(growth):
    """Not against another setup's, as two of the three setups in the paper's released configurations."""
    for setup in ("1x", "1x-cloned", "2x"):
        for entry in merges(growth(), setup):
            (candidate,) = entry["candidates"]
            needed = entry["details"]["method"] in ("ties", "dare_ties")
            assert candidate["base"] == (f"{setup}-source" if needed else None)
            assert candidate["models"] == [f"{setup}-{code}" for code in entry["details"]["languages"]]
            assert {test["language"] for test in entry["report"]} == {*entry["details"]["languages"], "en"}


def test_models_are_measured_on_text_of_their_own_language_in_one_job_a_seed(growth):
    built = growth({"seeds": [1, 2]})
    jobs = [job for job in built.jobs.values() if job.rule == "calibrate_models"]
    assert [job.folder for job in jobs] == [f"{R}/calibrations/seed{seed}/specialists" for seed in (1, 2)]
    assert len(jobs[0].spec["measurements"]) == 9
    assert jobs[0].spec["measurements"]["1x-tr.fisher"] == {
        "kind": "fisher", "model": "1x-tr", "tests": [{"task": "text", "language": "tr"}],
    }  # fmt: skip
    assert (jobs[0].spec["split"], jobs[0].spec["sentences"], jobs[0].spec["labels"]) == ("train", 4, "target")
    sweep = built.jobs[f"{R}/sweeps/seed1/1x"]
    given = {name.removeprefix("data/") for name in sweep.inputs if name.startswith("data/")}
    assert given == {f"1x-{code}.fisher" for code in ("de", "tr", "fr")}
    recipes = [Recipe.from_json(candidate) for entry in merges(built, "1x") for candidate in entry["candidates"]]
    assert {name for recipe in recipes for name in recipe.measured} == given
    plain = growth({"merging": {"all": {"linear": {}}}})
    assert not [job for job in plain.jobs.values() if job.rule == "calibrate_models"]
    both = growth({"merging": {"all": {"fisher": {}, "regmean": {}}}}).jobs[f"{R}/calibrations/seed1/specialists"]
    assert len(both.spec["measurements"]) == 18


@pytest.mark.parametrize("noise", [True, False])
def test_a_control_is_grown_with_the_opposite_noise_and_trained_alike(growth, noise):
    grow = {"method": "hyperclone", "parameters": {"width": 2, "noise": noise}}
    built = growth({"control": "de", "seeds": [1, 2], "grow": grow, "snapshots": [1, 3]})
    cloned, control = (built.jobs[f"{R}/models/grown/seed1/1x-cloned-{name}"] for name in ("source", "control"))
    assert (cloned.spec["noise"], control.spec["noise"]) == (noise, not noise) and cloned.inputs == control.inputs
    trained = f"{R}/models/trained/seed1/1x-cloned"
    usual, other = (built.jobs[f"{trained}-{name}"] for name in ("de", "control-de"))
    assert other.inputs["model"] == control.folder
    assert {**other.spec, "parent": ""} == {**usual.spec, "parent": ""}
    measured = built.jobs[f"{R}/copies/seed1/1x-cloned"]
    assert (measured.spec["width"], measured.spec["heads"]) == (2, "all")
    rows = {(row["noise"], row["step"]): row["model"] for row in measured.spec["models"]}
    assert rows[noise, 0] == "1x-cloned-source" and rows[not noise, 0] == "1x-cloned-control"
    assert rows[noise, 3] == "1x-cloned-de@3" and rows[not noise, 4] == "1x-cloned-control-de"
    assert {step for _, step in rows} == {0, 1, 3, 4} and len(rows) == 8
    assert measured.inputs["model"] == f"{trained.removesuffix('-cloned')}-source", "before it was grown"
    assert built.report.inputs["copies/seed1/1x-cloned"] == measured.folder
    assert not [folder for folder in built.jobs if "seed2" in folder and ("control" in folder or "copies" in folder)]


def test_snapshots_end_before_the_last_step_of_each_language(growth):
    built = growth({"snapshots": [1, 3]})
    snapshots = {code: built.jobs[f"{R}/models/trained/seed1/1x-{code}"].spec["snapshots"] for code in ("de", "fr")}
    assert snapshots == {"de": [1, 3], "fr": [1]}
    scored = {
        (system.group, system.details["language"], system.details["step"])
        for system in built.systems
        if system.role in ("snapshot", "specialist")
    }
    assert {step for group, code, step in scored if (group, code) == ("2x", "de")} == {1, 3, 4}
    assert {step for group, code, step in scored if (group, code) == ("2x", "fr")} == {1, 2}


def test_matched_models_take_the_flops_of_grown_ones(growth, study):
    """Twice the width: four times the matrices, twice the head and the attention over positions."""
    ratio = flops_ratio(study())
    init = study().origin.init
    d, layers, ff, vocabulary = 16, 2, 32, init.vocabulary_size
    small = 6 * (layers * (4 * d * d + 3 * d * ff) + d * vocabulary) + 12 * layers * d * 48
    grown = 6 * (layers * 4 * (4 * d * d + 3 * d * ff) + 2 * d * vocabulary) + 12 * layers * 2 * d * 48
    assert ratio == pytest.approx(grown / small)
    built = growth({"matched": True})
    assert built.jobs[f"{R}/models/trained/seed1/1x-de-matched"].spec["steps"] == round(4 * ratio)
    assert "1/2x-de-matched" not in built.models


def test_another_text_of_one_language_retrains_nothing_of_the_others(growth):
    built = growth()
    reached = descendants(built, {f"{R}/corpora/tr"})
    trained = {folder.rpartition("/")[2] for folder in reached if "/trained/" in folder}
    # The tokenizer reads all languages here, so everything does; with a tokenizer of the others, tr's models alone.
    assert "base" in trained
    apart = growth({"origin": {**built.study.origin.model_dump(by_alias=True), "languages": ["en", "de", "fr"]}})
    reached = descendants(apart, {f"{R}/corpora/tr"})
    trained = {folder.rpartition("/")[2] for folder in reached if "/trained/" in folder}
    assert trained == {f"{setup}-{name}" for setup in ("1x", "1x-cloned", "2x") for name in ("tr", "joint")}


def test_the_pivot_may_have_a_corpus_of_its_own(growth):
    built = growth({"corpus": FILES, "pivot_corpus": FILES, "tasks": None})
    assert f"{R}/corpora/en" in built.jobs
    assert built.jobs[f"{R}/models/trained/seed1/base"].inputs["pairs/en"] == f"{R}/corpora/en"
    assert set(built.jobs[f"{R}/models/trained/seed1/1x-de"].inputs) == {"model", "pairs/de", "pairs/en"}
    assert "pairs/en" not in growth().jobs[f"{R}/models/trained/seed1/base"].inputs


def test_every_input_has_its_job_and_everything_leads_to_the_report(growth):
    built = growth({"seeds": [1, 2], "matched": True, "control": "de"})
    for job in built.jobs.values():
        assert all(result_folder(folder, built.jobs) for folder in job.inputs.values())
    for folder in built.jobs:
        assert folder == built.report.folder or built.report.folder in descendants(built, {folder}), folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"languages": ["en", "de"]}, "en is what the base is trained on"),
        ({"snapshots": [4]}, "snapshots: 4 is not before the last step of 4"),
        ({"subsets": [1]}, "expected sizes from 2 to 3, found 1"),
        ({"control": "it"}, "control: expected one of `languages`"),
        ({"control": "de", "setups": ["1x", "2x"]}, "control: expected one of"),
        ({"control": "de", "grow": {"method": "stack"}}, "and `grow` by hyperclone"),
        ({"steps": {"it": 3}}, "steps: it is not among languages"),
        ({"setups": ["2x"], "matched": True}, "matched: compares `1x` with a grown setup"),
        ({"merging": {"all": {"slerp": {}}}}, "slerp"),
        ({"merging": {"all": {"greedy_soup": {}}}}, "merging.all.greedy_soup: needs data that this kind"),
        ({"merging": {"pairs": {"slerp": {}}}}, "pairs are among the subsets"),
        ({"grow": {"parameters": {"widht": 2}}}, "did you mean 'width'"),
    ],
)
def test_what_cannot_be_is_said(study, changes, message):
    with pytest.raises(ValidationError, match=message):
        study(changes)


def test_kinds_that_measure_nothing_refuse_methods_that_need_data(monkeypatch):
    monkeypatch.chdir(ROOT)
    names = ("scales/smoke.pretraining", "studies/pretraining")
    values = config.merge_defaults(*(config.read_yaml(Path(f"config/{name}.yaml")) for name in names))
    with pytest.raises(ValidationError, match=r"merging\.all\.fisher: needs data that this kind of study does not"):
        config.Pretraining.model_validate({**values, "merging": {"all": {"fisher": {}}}})


# ---- growth in a study of translation ------------------------------------------------------------------------------


def test_a_study_of_translation_may_grow_a_model_and_train_it(build):
    run = {"steps": 2, "learning_rate": 1e-3, "batch_tokens": 512}
    models = {
        "large-en-es": {"train": {"parent": "large", "directions": [["en", "es"]], "train": run}},
        "large": {"grow": {"parent": "en-es@2", "parameters": {"width": 3}}},
    }
    built = build({"models": models})
    job = built.jobs["results/translation/models/grown/seed1/large"]
    assert job.rule == "grow_model"
    assert (job.spec["method"], job.spec["width"], job.spec["seed"]) == ("hyperclone", 3, 1)
    assert job.inputs == {"model": "results/translation/models/trained/seed1/en-es/step2"}
    assert built.models["1/large"].kind == "grow" and built.models["1/large"].parents == ("en-es",)
    trained = built.jobs["results/translation/models/trained/seed1/large-en-es"]
    assert trained.inputs["model"] == job.folder


def test_a_recipe_is_one_of_four(build):
    with pytest.raises(ValidationError, match="exactly one of `import`, `merge`, `train`, `grow`"):
        build({"models": {"both": {"grow": {"parent": "base"}, "import": {"source": "somebody/llama"}}}})
