"""Broken configurations: each gives one clear message that names file, key and mending, before any job."""

from pathlib import Path

import pytest
import yaml

from langmerge import config, plan
from langmerge.provenance import InputError

ROOT = Path(__file__).parents[1]


def edited(value, path, new):
    """A copy of a nested mapping with ``path`` (dotted) set to ``new``; ``...`` removes the key."""
    head, _, rest = path.partition(".")
    copy = dict(value or {})
    if rest:
        copy[head] = edited(copy.get(head), rest, new)
    elif new is ...:
        copy.pop(head, None)
    else:
        copy[head] = new
    return copy


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A configuration folder with the shipped study and the smallest scale; the working folder is the repository."""
    monkeypatch.chdir(ROOT)
    for kind, name in (("studies", "translation"), ("scales", "smoke")):
        target = tmp_path / kind / f"{name}.yaml"
        target.parent.mkdir()
        target.write_text((ROOT / "config" / kind / f"{name}.yaml").read_text())
    return tmp_path


def edit(folder, file, path, new):
    path_of_file = folder / f"{file}.yaml"
    values = edited(yaml.safe_load(path_of_file.read_text()), path, new)
    path_of_file.write_text(yaml.safe_dump(values))


def build(folder, **settings):
    workflow = config.load_workflow({"studies": ["translation"], "scale": "smoke", **settings})
    return plan.build(config.load(workflow, "translation", folder), "translation")


STUDY, SCALE = "studies/translation", "scales/smoke"
MORE = {"merge": {"method": "linear", "models": ["en-es", "en-it"]}}
RUN = {"steps": 2, "learning_rate": 0.001}

# (file, key, value, what the message must hold besides the file)
BROKEN = [
    (STUDY, "langages", ["es"], ["langages: unknown key", "did you mean languages?"]),
    (STUDY, "merging.al", {}, ["merging.al", "did you mean all?"]),
    (STUDY, "title", ..., ["title: missing"]),
    (STUDY, "title", "", ["title", "at least 1 character"]),
    (STUDY, "languages", [], ["languages", "at least 1 item"]),
    (STUDY, "languages", "es", ["languages", "list", "'es'"]),
    (STUDY, "languages", ["es", "es"], ["languages", "es stands there twice"]),
    (STUDY, "languages", ["es", "en"], ["languages", "en is the pivot"]),
    (STUDY, "languages", ["es", "../it"], ["languages.1", "language code", "'../it'"]),
    (STUDY, "languages", ["es", "xx"], ["xx.yaml", "no grammar for the language xx", "expected one of"]),
    (STUDY, "languages", ["es"], ["languages", "at least two"]),
    (STUDY, "pivot", "English", ["pivot", "language code"]),
    (STUDY, "directions", ["both"], ["directions.0", "'from_pivot' or 'to_pivot'"]),
    (STUDY, "directions", [], ["directions", "at least 1 item"]),
    (STUDY, "seeds", [-1], ["seeds.0", "greater than or equal to 0", "-1"]),
    (STUDY, "seeds", [1, 1], ["seeds", "1 stands there twice"]),
    (STUDY, "merging.all", {"tise": {}}, ["all.tise", "did you mean", "ties"]),
    (STUDY, "merging.all", {"ties": {"density": -0.5}}, ["all.ties", "density", "-0.5"]),
    (STUDY, "merging.all", {"ties": {"density": [0.5, 1.5]}}, ["all.ties", "density", "1.5", "<= 1"]),
    (STUDY, "merging.all", {"ties": {"densty": 0.5}}, ["all.ties", "densty", "did you mean", "density"]),
    (STUDY, "merging.all", {"ties": {"scale": "big"}}, ["all.ties", "scale", "'big'"]),
    (STUDY, "merging.all", {"slerp": {}}, ["all.slerp", "needs exactly 2"]),
    (STUDY, "merging.all", {"linear": {"weights": [1.0, 1.0]}}, ["all.linear", "weights"]),
    (STUDY, "merging.pairs", {"slerp": {"t": 1.5}}, ["pairs.slerp", "t", "1.5"]),
    (STUDY, "merging.layer_patch.onto", ["sce"], ["merging", "layer_patch.onto", "sce", "not among merging.all"]),
    (STUDY, "merging.layer_patch.layers", 0, ["merging.layer_patch.layers", "greater than or equal to 1"]),
    (STUDY, "analysis.merges", ["karcher"], ["analysis.merges", "karcher"]),
    (STUDY, "analysis.neurons", "magic", ["analysis.neurons", "mutual_information", "'magic'"]),
    (SCALE, "merging.drift.steps", [2, 400], ["merging.drift.steps", "400", "last step"]),
    (SCALE, "evaluation.test", 0, ["evaluation.test", "greater than or equal to 1"]),
    (STUDY, "evaluation.splits", ["news"], ["evaluation.splits", "no split news", "dev, test"]),
    (SCALE, "corpus.kind", "magic", ["corpus", "embedded", "files"]),
    (SCALE, "corpus.train", "many", ["corpus.train", "integer", "'many'"]),
    (
        SCALE,
        "corpus",
        {"kind": "files", "splits": {"train": {"path": "a.tsv"}}},
        ["corpus.splits", "split dev is missing"],
    ),
    (SCALE, "corpus", {"kind": "files", "splits": {s: {} for s in ("train", "dev", "test")}}, ["`path` or `hub`"]),
    (SCALE, "prompt.template", "{source} {tongue}", ["prompt.template", "unknown field {tongue}"]),
    (SCALE, "prompt.template", "Translate!", ["prompt.template", "{source} exactly once"]),
    (SCALE, "base.import", {"source": "x/y"}, ["base", "either `init` or `import`"]),
    (SCALE, "base.init", ..., ["base", "either `init` or `import`"]),
    (SCALE, "base.languages", [], ["base", "`languages` is needed"]),
    (SCALE, "base.init.vocabulary_size", 100, ["base.init.vocabulary_size", "greater than or equal to 300"]),
    (SCALE, "specialist.learning_rate", 0, ["specialist.learning_rate", "greater than 0"]),
    (SCALE, "specialist.learning_rate", "1e-4e", ["specialist.learning_rate", "number", "'1e-4e'"]),
    (SCALE, "specialist.stesp", 3, ["specialist.stesp", "did you mean steps?"]),
    (SCALE, "specialist.portion", [0.5, 1.5], ["specialist.portion", "less than or equal to 1"]),
    (SCALE, "specialist.portion", [0.8, 0.2], ["specialist", "portion", "start before"]),
    (SCALE, "specialist.precision", "int8", ["specialist.precision", "fp32", "bf16"]),
    (STUDY, "models", {"../evil": MORE}, ["models", "plain name", "../evil"]),
    (STUDY, "models", {"m": {}}, ["models.m", "exactly one of"]),
    (
        STUDY,
        "models",
        {"m": {"merge": {"method": "linear", "models": ["en-es", "en-fr"]}}},
        ["models.m.merge", "no model en-fr"],
    ),
    (
        STUDY,
        "models",
        {"m": {"merge": {"method": "ties", "models": ["en-es", "en-it"]}}},
        ["models.m.merge.base", "common ancestor"],
    ),
    (STUDY, "models", {"base": MORE}, ["models.base", "another name"]),
    (
        STUDY,
        "models",
        {"m": {"train": {"parent": "en-es@3", "directions": [["en", "es"]], "train": RUN}}},
        ["no snapshot at step 3"],
    ),
    (
        STUDY,
        "models",
        {"m": {"train": {"parent": "en-es", "directions": [["es", "it"]], "train": RUN}}},
        ["models.m.train.directions"],
    ),
    (
        STUDY,
        "models",
        {
            "a": {"train": {"parent": "b", "directions": [["en", "es"]], "train": RUN}},
            "b": {"merge": {"method": "linear", "models": ["a", "en-es"]}},
        },
        ["models:", "cycle", "own ancestor"],
    ),
]


@pytest.mark.parametrize(
    ("file", "key", "value", "expected"), BROKEN, ids=[f"{b[1]}-{i}" for i, b in enumerate(BROKEN)]
)
def test_a_broken_configuration_is_explained(folder, file, key, value, expected):
    edit(folder, file, key, value)
    with pytest.raises(InputError) as error:
        build(folder)
    message = str(error.value)
    for part in expected:
        assert part in message, message
    if "no grammar" not in message and not message.startswith("models"):
        assert str(folder) in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("title: [", "not valid YAML"),
        ("", "an empty file"),
        ("- a\n- b\n", "list"),
        ("title: a\ntitle: b\n", "stands there twice"),
        ("title: \xe9".encode("latin-1"), "not UTF-8"),
    ],
)
def test_a_broken_file_is_explained(folder, text, expected):
    path = folder / "studies/translation.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=expected) as error:
        build(folder)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"scale": "smok"}, "did you mean smoke"),
        ({"scale": "../smoke"}, "plain name"),
        ({"studies": []}, "studies"),
        ({"studies": ["translation"], "cores": 3}, "unknown key"),
    ],
)
def test_a_broken_workflow_configuration_is_explained(folder, settings, expected):
    with pytest.raises(InputError, match=expected):
        build(folder, **settings)


def test_several_mistakes_are_reported_together(folder):
    edit(folder, STUDY, "languages", ["es", "es2"])
    edit(folder, SCALE, "specialist.steps", 0)
    with pytest.raises(InputError) as error:
        build(folder)
    assert "languages.1" in str(error.value)
    assert "specialist.steps" in str(error.value)


def test_the_file_that_holds_the_key_is_named(folder):
    """A key may come from the scale or from the study: the message names the one to edit."""
    edit(folder, SCALE, "evaluation.dev", -1)
    with pytest.raises(InputError, match=r"scales/smoke\.yaml: evaluation\.dev"):
        build(folder)
    edit(folder, STUDY, "evaluation.dev", -1)
    with pytest.raises(InputError, match=r"studies/translation\.yaml: evaluation\.dev"):
        build(folder)


def test_a_study_overrides_its_scale(folder):
    edit(folder, STUDY, "specialist", {"learning_rate": 0.5})
    workflow = config.load_workflow({"studies": ["translation"], "scale": "smoke"})
    study = config.load(workflow, "translation", folder)
    assert study.specialist.learning_rate == 0.5
    assert (
        study.specialist.steps == yaml.safe_load((ROOT / "config/scales/smoke.yaml").read_text())["specialist"]["steps"]
    )


def test_data_root_must_be_named_where_it_is_used(folder):
    source = {"path": "{data_root}/x.en-{language}.tsv"}
    edit(folder, SCALE, "corpus", {"kind": "files", "splits": dict.fromkeys(("train", "dev", "test"), source)})
    with pytest.raises(InputError, match="data_root=FOLDER"):
        build(folder)
    made = build(folder, data_root="/data")
    assert made.jobs["results/translation/corpora/es"].files == ("/data/x.en-es.tsv",)


@pytest.mark.parametrize(
    ("method", "grid", "expected"),
    [
        ("ties", {"density": [0.2, 0.5], "scale": 1.0}, 2),
        ("ties", {"density": [0.2, 0.5], "scale": [1.0, 2.0, 3.0]}, 6),
        ("linear", {}, 1),
        ("linear", {"weights": [0.1, 0.9]}, 1),
        ("linear", {"weights": [[0.1, 0.9], [0.5, 0.5]]}, 2),
    ],
)
def test_a_list_is_a_grid_unless_the_parameter_is_one(method, grid, expected):
    assert len(list(config.candidates(method, grid))) == expected


def test_a_missing_data_file_is_reported_before_any_job(folder, tmp_path):
    """With the nearest name in its folder."""
    for split in ("train", "dev", "tests"):
        for language in ("es", "it", "de", "tr"):
            (tmp_path / f"{split}.en-{language}.tsv").write_text("en\tes\n")
    source = {s: {"path": "{data_root}/" + s + ".en-{language}.tsv"} for s in ("train", "dev", "test")}
    edit(folder, SCALE, "corpus", {"kind": "files", "splits": source})
    made = build(folder, data_root=str(tmp_path))
    with pytest.raises(InputError, match=r"test\.en-es\.tsv: file not found.*did you mean tests\.en-es\.tsv"):
        plan.check_files(made.jobs.values())
