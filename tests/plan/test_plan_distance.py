"""The graph of a study of distance: what is trained on what, which pairs are merged, and what a change reruns."""

import itertools
from collections import Counter
from pathlib import Path

import pytest
from graph_facts import changed

from langmerge import config, plan
from langmerge.provenance import canonical

ROOT = Path(__file__).parents[2]
REAL_TEXT = ("gpu", "tatoeba")  # scales whose transforms are of real text
SHELL = 128 * 1024  # bytes that a shell takes as one command


def values(scale):
    files = [ROOT / f"config/scales/{scale}.distance.yaml", ROOT / "config/studies/distance.yaml"]
    return config.merge_defaults(*map(config.read_yaml, files))


@pytest.fixture
def build(monkeypatch):
    monkeypatch.chdir(ROOT)

    def make(changes=None, scale="smoke"):
        found = values(scale)
        for path, new in (changes or {}).items():
            found = changed(found, path, new)
        return plan.build(config.Distance.model_validate(found), "distance")

    return make


def job(built, name):
    return built.jobs[f"results/distance/{name}"]


def trainings(built):
    return {folder: canonical(job.spec) for folder, job in built.jobs.items() if job.rule == "train_model"}


def test_every_pair_of_specialists_and_the_twin_is_merged_by_every_method_and_diagnosed(build):
    built = build()
    languages = values("smoke")["languages"]
    pairs = {frozenset(pair) for pair in itertools.combinations([*languages, "twin"], 2)}
    for method in ("linear", "ties"):
        merges = [e["candidates"][0] for e in job(built, "sweeps/seed1/merges").spec["merges"]]
        merged = [frozenset(m["models"]) for m in merges if len(m["models"]) == 2 and m["method"] == method]
        assert set(merged) == pairs and len(merged) == len(pairs)
    diagnosis = job(built, "diagnoses/seed1/all").spec
    assert {frozenset(pair) for pair in diagnosis["pairs"]} == pairs
    assert diagnosis["base"] == "base" and diagnosis["languages"]["twin"] == "es"


def test_a_pair_is_scored_in_its_own_languages_and_the_base_in_all(build):
    merges = {e["name"]: e["report"] for e in job(build(), "sweeps/seed1/merges").spec["merges"]}
    assert merges["linear.es-sov+es-script"] == [{"task": "text", "language": c} for c in ("es-sov", "es-script")]
    assert merges["linear.es+twin"] == [{"task": "text", "language": "es"}]
    assert [test["language"] for test in merges["base"]] == values("smoke")["languages"]


def test_the_base_reads_all_combinations_and_specialists_only_their_language(build):
    built = build(scale="cpu")
    base = job(built, "models/trained/seed2/base").spec["data"]
    cpu = values("cpu")
    assert Counter(part["language"] for part in base) == Counter({*cpu["languages"], *cpu["origin"]["languages"]})
    assert {part["language"]: part["weight"] for part in base if part["weight"] != 1} == cpu["weights"]
    sov = job(built, "models/trained/seed2/es-sov")
    assert [part["language"] for part in sov.spec["data"]] == ["es-sov"]
    assert sov.inputs["model"] == "results/distance/models/trained/seed2/base"


def weighed(scale):
    """By language its share of words invented, its other kinds, and its weight in the base."""
    found = values(scale)
    for code in dict.fromkeys([*found["languages"], *found["origin"].get("languages", [])]):
        parts = code.split("-")[1:]
        words = [int(part.removeprefix("relex")) / 100 for part in parts if part.startswith("relex")]
        others = frozenset(part for part in parts if not part.startswith("relex"))
        yield sum(words), others, found["weights"].get(code, 1)


@pytest.mark.parametrize("scale", ["cpu", "embedded", "paper", "gpu", "tatoeba"])
def test_kinds_of_distance_are_balanced_where_the_base_learns(scale):
    """Among languages alike in all else, a word weighs as much as its replacement, and an order or script too."""
    languages = list(weighed(scale))
    cells = {others: sum(w for _, these, w in languages if these == others) for _, others, _ in languages}
    kinds = ("reversed", "script") if scale in REAL_TEXT else ("sov", "script", "noagree")
    combinations = [frozenset(c) for n in range(4) for c in itertools.combinations(kinds, n)]
    assert set(cells) == set(combinations)
    for others, weight in cells.items():
        invented = sum(share * w for share, these, w in languages if these == others)
        assert invented == pytest.approx(weight / 2)
        assert weight == cells[frozenset({"noagree"} & others)]


def test_weights_of_languages_without_text_are_refused(build):
    with pytest.raises(ValueError, match="weights: fi"):
        build({"weights": {"fi": 0.5}})


def test_twins_read_different_halves_of_the_sentences(build):
    built = build()
    first, twin = (job(built, f"models/trained/seed1/{name}").spec["data"][0] for name in ("es", "twin"))
    assert first["language"] == twin["language"] == "es"
    assert first["portion"] == [0.0, 0.5] and twin["portion"] == [0.5, 1.0]
    without = build({"twin": False})
    assert job(without, "models/trained/seed1/es").spec["data"][0]["portion"] == [0.0, 1.0]
    assert not any("twin" in folder for folder in without.jobs)


def test_a_language_without_a_specialist_leaves_the_other_models_as_they_are(build):
    named = {"origin.languages": values("smoke")["languages"]}
    whole, fewer = build(named), build({**named, "languages": ["es", "es-sov"]})
    known = trainings(whole)
    assert set(trainings(fewer)) < set(known)
    assert all(known[folder] == spec for folder, spec in trainings(fewer).items())


def test_commands_fit_a_shell_however_many_pairs_there_are(build):
    grammar = ROOT / "data/grammar/languages"
    many = sorted(path.stem for path in grammar.glob("es*.yaml"))[:20]
    built = build({"languages": many, "merging.pairs.ties": {"density": [0.2, 0.5], "scale": [0.5, 1.0]}})
    for one in built.jobs.values():
        assert len(canonical(one.spec)) + len(canonical(one.inputs)) < SHELL - 4096, one.folder
    merges = [len(one.spec["merges"]) for one in built.jobs.values() if one.rule == "sweep_merges"]
    assert len(merges) > 2
    assert sum(merges) == 2 * 21 * 20 // 2 + 22  # pairs of 21 specialists by two methods; base and specialists alone
    assert len({system.folder for system in built.systems}) == sum(merges)


def test_real_text_that_names_no_base_and_imported_models_are_refused(build):
    with pytest.raises(ValueError, match=r"corpus\.transforms: missing"):
        build({"corpus": {"kind": "files", "splits": {name: {"path": "x.tsv"} for name in ("train", "dev", "test")}}})
    with pytest.raises(ValueError, match="equally new"):
        build({"origin": {"import": {"source": "gpt2"}}})


@pytest.mark.parametrize("scale", REAL_TEXT)
def test_transforms_of_real_text_read_the_files_of_their_base(monkeypatch, scale):
    monkeypatch.chdir(ROOT)
    found = config.base.fill(values(scale), "{data_root}", "/data")
    built = plan.build(config.Distance.model_validate(found), "distance")
    place = "/data/translation/tatoeba/en-es"
    for code in found["languages"]:
        prepared = job(built, f"corpora/{code}")
        assert prepared.spec["language"] == code
        assert prepared.files == tuple(f"{place}.{part}.jsonl.gz" for part in ("train", "valid", "test"))


@pytest.mark.parametrize(
    ("path", "new", "message"),
    [
        ("corpus.transforms", None, "corpus.transforms: missing"),
        ("languages", ["es", "fr"], "fr is no transform of es"),
        ("languages", ["es", "es-sov"], "es-sov: -sov"),
        ("corpus.transforms.script", None, "es-script: which letters"),
        ("origin.languages", ["es", "es-relex0"], "es-relex0: no transform of es is called so"),
    ],
)
def test_languages_that_real_text_cannot_make_are_refused(path, new, message):
    with pytest.raises(ValueError, match=message):
        config.Distance.model_validate(changed(values("tatoeba"), path, new))
