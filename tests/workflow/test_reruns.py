"""A table of edits: for each, exactly the jobs that run again."""

import json

import pytest

STUDY, SCALE = "config/studies/small.yaml", "config/scales/smoke.yaml"

GROUPS = ("from-en",)
SPECIALISTS = {"from-en": ("en-es", "en-it")}

CORPORA = {"prepare_corpus corpora/es", "prepare_corpus corpora/it", "check_corpora corpora_check"}
INIT = {"init_model models/initialised/seed1/origin"}
TRAIN_BASE = {"train_model models/trained/seed1/base"}
TRAIN_SPECIALISTS = {f"train_model models/trained/seed1/{m}" for names in SPECIALISTS.values() for m in names}
TRAIN_JOINT = {f"train_model models/trained/seed1/joint-{g}" for g in GROUPS}
EVALUATE_BASE = {"evaluate_model evaluations/seed1/base"}
EVALUATE_SPECIALISTS = {f"evaluate_model evaluations/seed1/{m}" for names in SPECIALISTS.values() for m in names}
EVALUATE_JOINT = {f"evaluate_model evaluations/seed1/joint-{g}" for g in GROUPS}
SWEEP_ALL = {f"sweep_merges sweeps/seed1/{g}.all" for g in GROUPS}
SWEEP_REST = {f"sweep_merges sweeps/seed1/{g}.{s}" for g in GROUPS for s in ("pairs", "drift")}
MEASURE = {f"measure_models measurements/seed1/{g}" for g in GROUPS}
OBSERVE_BASE = {f"observe_model observations/seed1/{g}/base" for g in GROUPS}
OBSERVE_JOINT = {f"observe_model observations/seed1/{g}/joint" for g in GROUPS}
OBSERVE_SPECIALISTS = {f"observe_model observations/seed1/{g}/{m}" for g, names in SPECIALISTS.items() for m in names}
OBSERVE_MERGES = {f"observe_model observations/seed1/{g}/ties" for g in GROUPS}
OBSERVE = OBSERVE_BASE | OBSERVE_JOINT | OBSERVE_SPECIALISTS | OBSERVE_MERGES
SURVEY = {f"survey_landscape landscape/seed1/{g}" for g in GROUPS}
WEIGH = {f"weigh_models weighing/seed1/{g}" for g in GROUPS}
ABLATE = {f"ablate_units ablation/seed1/{g}" for g in GROUPS}
COMPARE = {"compare_systems comparisons"}
REPORT = {"write_report report"}

# Scores of merges, and what reads the merges' weights: a sweep writes both, so what changes one makes it run again.
AFTER_SWEEPS = SWEEP_ALL | OBSERVE_MERGES | MEASURE | WEIGH | COMPARE | REPORT
AFTER_SPECIALISTS = EVALUATE_SPECIALISTS | SWEEP_REST | OBSERVE_SPECIALISTS | SURVEY | AFTER_SWEEPS
AFTER_BASE = TRAIN_SPECIALISTS | TRAIN_JOINT | EVALUATE_BASE | EVALUATE_JOINT | OBSERVE | ABLATE | AFTER_SPECIALISTS
AFTER_CORPORA = INIT | TRAIN_BASE | AFTER_BASE

FRENCH = {
    "prepare_corpus corpora/fr",
    "train_model models/trained/seed1/en-fr",
    "evaluate_model evaluations/seed1/en-fr",
    "observe_model observations/seed1/from-en/en-fr",
}
# From three languages on there are enough pair merges to ask what foretells damage.
DAMAGE = {"predict_damage damage"}
# Every model is scored on every direction, so a new language is scored by the old models too; none of them is trained.
NEW_LANGUAGE = (
    FRENCH
    | DAMAGE
    | ABLATE
    | {"check_corpora corpora_check"}
    | TRAIN_JOINT
    | EVALUATE_BASE
    | EVALUATE_JOINT
    | OBSERVE
    | AFTER_SPECIALISTS
)


def learning_rate(workflow):
    workflow.edit_yaml(SCALE, lambda scale: scale["specialist"].update(learning_rate=0.002))


def density(workflow):
    workflow.edit_yaml(STUDY, lambda study: study["merging"]["all"]["ties"].update(density=[0.3, 1.0]))


def languages(workflow):
    workflow.edit_yaml(STUDY, lambda study: study["languages"].append("fr"))


def base_steps(workflow):
    workflow.edit_yaml(SCALE, lambda scale: scale["base"]["train"].update(steps=7))


def size_of_test(workflow):
    workflow.edit_yaml(SCALE, lambda scale: scale["evaluation"].update(test=9))


def prompt(workflow):
    workflow.edit_yaml(SCALE, lambda scale: scale["analysis"].update(sentences=17))


def permutations(workflow):
    workflow.edit_yaml(SCALE, lambda scale: scale["analysis"].update(permutations=3))


def further_merge(workflow):
    workflow.edit_yaml(STUDY, lambda study: study["analysis"]["merges"].append("linear"))


def measure_code(workflow):
    path = workflow.folder / "workflow/langmerge/analysis/selection.py"
    path.write_text(path.read_text() + "\nEDITED = True\n")


def hook_code(workflow):
    path = workflow.folder / "workflow/langmerge/observation/meters.py"
    path.write_text(path.read_text() + "\nEDITED = True\n")


def template(workflow):
    workflow.edit("workflow/langmerge/reporting/templates/report.html.j2", "</body>", "<!-- edited --></body>")


def docstring(workflow):
    workflow.edit("workflow/langmerge/training/loop.py", '"""The training loop.', '"""The loop that trains.')


def comment(workflow):
    path = workflow.folder / "workflow/langmerge/evaluation/metrics.py"
    path.write_text("# A remark.\n" + path.read_text())


def training_code(workflow):
    workflow.edit("workflow/langmerge/training/loop.py", "LOG_ROWS = 1000", "LOG_ROWS = 1001")


def metric_code(workflow):
    path = workflow.folder / "workflow/langmerge/evaluation/metrics.py"
    path.write_text(path.read_text() + "\nEDITED = True\n")


def report_code(workflow):
    path = workflow.folder / "workflow/langmerge/reporting/__main__.py"
    path.write_text(path.read_text() + "\nEDITED = True\n")


def language_code(workflow):
    path = workflow.folder / "workflow/langmerge/corpora/grammar/languages/it.py"
    path.write_text(path.read_text() + "\nEDITED = True\n")


def other_language(workflow):
    path = workflow.folder / "data/grammar/languages/fi.yaml"
    path.write_text(path.read_text() + "\n# edited\n")


def data_file(workflow):
    path = workflow.folder / "data/grammar/languages/it.yaml"
    path.write_text(path.read_text() + "\n# edited\n")


def same_bytes_new_times(workflow):
    for path in (workflow.folder / "data/grammar").rglob("*.yaml"):
        path.touch()


def order_of_keys(workflow):
    workflow.edit_yaml(STUDY, lambda study: None)
    workflow.edit_yaml(SCALE, lambda scale: None)


def threads(workflow):
    workflow.edit_yaml(SCALE, lambda scale: scale["base"]["train"].update(threads=2))


def harmless(workflow):
    """All edits after which nothing is to be done: together, since each dry run takes seconds."""
    for edit in (docstring, comment, order_of_keys, same_bytes_new_times, threads, other_language):
        edit(workflow)


def nothing(workflow):
    pass


EDITS = [
    (nothing, set()),
    (harmless, set()),
    (learning_rate, TRAIN_SPECIALISTS | AFTER_SPECIALISTS),
    (density, AFTER_SWEEPS),
    (languages, NEW_LANGUAGE),
    (base_steps, TRAIN_BASE | AFTER_BASE),
    (size_of_test, EVALUATE_BASE | EVALUATE_JOINT | EVALUATE_SPECIALISTS | SWEEP_REST | AFTER_SWEEPS),
    (prompt, OBSERVE | ABLATE | MEASURE | REPORT),
    (permutations, MEASURE | REPORT),
    (further_merge, {f"observe_model observations/seed1/{g}/linear" for g in GROUPS} | MEASURE | WEIGH | REPORT),
    (measure_code, MEASURE | REPORT),
    (hook_code, OBSERVE | ABLATE | MEASURE | REPORT),
    (template, REPORT),
    (report_code, REPORT),
    (training_code, TRAIN_BASE | AFTER_BASE),
    (
        metric_code,
        EVALUATE_BASE | EVALUATE_JOINT | EVALUATE_SPECIALISTS | SWEEP_REST | AFTER_SWEEPS,
    ),
    (language_code, {"prepare_corpus corpora/it", "check_corpora corpora_check"} | AFTER_CORPORA),
    (data_file, {"prepare_corpus corpora/it", "check_corpora corpora_check"} | AFTER_CORPORA),
]


@pytest.mark.parametrize(("edit", "expected"), EDITS, ids=[edit.__name__ for edit, _ in EDITS])
def test_exactly_these_jobs_run_again(workflow, edit, expected):
    edit(workflow)
    found = workflow.pending()
    assert found == expected, f"needless: {sorted(found - expected)}\nmissed: {sorted(expected - found)}"


def test_the_whole_graph_ran(finished):
    """The report and everything below it exist, and a second run has nothing to do."""
    results = finished.folder / "results/small"
    for name in ("report.html", "report.pdf"):
        assert (results / "report" / name).stat().st_size > 10_000
    manifests = {str(path.parent.relative_to(results)) for path in results.rglob("manifest.json")}
    expected = CORPORA | INIT | TRAIN_BASE | AFTER_BASE
    assert manifests == {job.split()[1] for job in expected}
    assert not list(results.rglob("*.part"))


def test_an_edit_is_made_good_by_running_it(workflow):
    """After a real rerun the new parameters are in the results, and nothing is left to do."""
    density(workflow)
    workflow.snakemake("--cores", "2")
    selection = json.loads((workflow.folder / "results/small/sweeps/seed1/from-en.all/selection.json").read_text())
    assert [trial["parameters"]["density"] for trial in selection["ties"]["trials"]] == [0.3, 1.0]
    assert workflow.pending() == set()


def test_damaged_weights_stop_the_jobs_that_read_them(workflow):
    """Weights that do not fit their manifest are refused with one clear message, and nothing half-written stays."""
    weights = workflow.folder / "results/small/models/trained/seed1/en-es/model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-4] + b"\0\0\0\1")
    evaluation = workflow.folder / "results/small/evaluations/seed1/en-es"
    try:
        workflow.edit_yaml(SCALE, lambda scale: scale["evaluation"].update(max_new_tokens=9))
        output = workflow.snakemake(
            "--cores", "2", str((evaluation / "scores.json").relative_to(workflow.folder)), check=False
        )
        assert "error: " in output
        assert "model.safetensors: expected SHA-256" in output
        assert not (evaluation / "scores.json").exists()
    finally:
        weights.write_bytes(kept)


def test_a_broken_configuration_starts_nothing(workflow):
    """One clear message, a non-zero exit, no job, no traceback."""
    workflow.edit_yaml(SCALE, lambda scale: scale["specialist"].update(learning_rat=1.0))
    output = workflow.snakemake("--cores", "2", check=False)
    assert "specialist.learning_rat: unknown key; did you mean learning_rate?" in output
    assert "Traceback" not in output
    assert "rule " not in output
