"""Sweeps over tiny random models: what is chosen, what is reported, what is kept."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tiny_llamas import random_llama, save_result

from langmerge import catalogue, models, provenance
from langmerge.evaluation.scoring import score_model
from langmerge.evaluation.test_sets import read_test_sets
from langmerge.evaluation.translation import translate
from langmerge.merging import Recipe, state_dicts
from langmerge.prompts import Prompt
from langmerge.provenance import InputError
from langmerge.sweeping.__main__ import main as sweep_main
from langmerge.sweeping.sweep import Sweep

EN = ["The red cat sleeps.", "We see a doctor.", "Old books are long.", "She reads in the garden.", "No."]
OTHER = {
    "es": ["El gato rojo duerme.", "Vemos a un médico.", "Los libros viejos son largos.", "Lee en el jardín.", "No."],
    "de": [
        "Die rote Katze schläft.",
        "Wir sehen einen Arzt.",
        "Alte Bücher sind lang.",
        "Sie liest im Garten.",
        "Nein.",
    ],
}
PROMPT = {"template": "<{source_code}> {source} <{target_code}>", "format": "plain"}
SCALES = [0.2, 0.6, 1.0]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A base, two specialists and a snapshot of one, all of them the base with large random changes."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("models")
    base = random_llama(1, vocab_size=259, num_hidden_layers=2, tie_word_embeddings=True)
    origin = {name: weight.clone() for name, weight in base.state_dict().items()}
    folders = {"base": save_result(base, root / "base")}
    for name in ("en-es", "en-de", "en-es@15"):
        with torch.no_grad():
            for key, weight in base.named_parameters():
                weight.copy_(origin[key] + 0.25 * torch.randn(weight.shape))
        folders[name] = save_result(base, root / name)
    return folders


def direction(name):
    source, target = name.split("-")
    return {"source": source, "target": target}


def merge(name, method, names, grid=({},), tune=(), report=("en-es", "en-de"), keep=False):
    base = "base" if catalogue.METHODS[method].needs_base else None
    made = [{"name": name, "method": method, "models": list(names), "base": base, "parameters": p} for p in grid]
    return {
        "name": name,
        "candidates": made,
        "tune": [direction(pair) for pair in tune],
        "report": [direction(pair) for pair in report],
        "keep": keep,
    }


TUNED = merge(
    "ta", "task_arithmetic", ["en-es", "en-de"], [{"scale": s} for s in SCALES], ["en-es", "en-de"], keep=True
)
PATCH = merge("ta.last.es", "layer_patch", ["merge:ta", "en-es"], [{"last": 1}], report=["en-es"], keep=True)
SNAPSHOT = merge("en-es@15", "linear", ["en-es@15"], report=["en-es"])


def spec(*merges, **changes):
    return {
        "pivot": "en",
        "prompt": PROMPT,
        "decode": {"batch_size": 8, "max_new_tokens": 10, "cut": None},
        "metrics": ["bleu", "chrf"],
        "languages": ["en", "es", "de"],
        "splits": {"test": None},
        "dev": None,
        "select_by": "chrf",
        "merges": list(merges),
        **changes,
    }


@dataclass
class Study:
    """Model folders and corpora; sweeps over them."""

    sources: dict[str, Path]
    pairs: dict[str, Path]

    def model(self, name="base"):
        return models.load_model(self.sources[name])

    @property
    def tokenizer(self):
        return models.load_tokenizer(self.sources["base"])

    def sweep(self, *merges, **changes):
        used = {name: self.sources[name] for name in self.sources}
        return Sweep(spec(*merges, **changes), used, self.pairs, self.model(), self.tokenizer)

    def candidate(self, entry, index):
        """The model of one candidate, made apart from the sweep."""
        recipe = Recipe.from_json({**entry["candidates"][index], "name": "made apart"})
        (merged,) = state_dicts([recipe], self.sources)
        model = self.model()
        model.load_state_dict(merged.state_dict, strict=False)
        return model

    def score(self, model, report, split="test"):
        sets = read_test_sets({**spec(), "directions": report, "splits": {split: None}}, self.pairs)
        return score_model(model, self.tokenizer, sets, spec()).summaries()

    def write_pairs(self, language, split, references):
        rows = [{"id": f"s{i}", "en": en, language: xx} for i, (en, xx) in enumerate(zip(EN, references, strict=True))]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (self.pairs[language] / f"{split}.jsonl").write_text(text, encoding="utf-8")


@pytest.fixture
def study(sources, tmp_path):
    made = Study(sources, {language: tmp_path / "pairs" / language for language in OTHER})
    for language, sentences in OTHER.items():
        with provenance.result(made.pairs[language], {}, "", ""):
            pass
        for split in ("dev", "test"):
            made.write_pairs(language, split, sentences)
    return made


def plant(study, entry, index, split="dev"):
    """Make the references of ``split`` the candidate's own translations."""
    model = study.candidate(entry, index)
    for language in OTHER:
        outputs = translate(
            model, study.tokenizer, Prompt(**PROMPT), EN, "en", language, batch_size=8, max_new_tokens=10
        )
        assert all(output.strip() for output in outputs)
        study.write_pairs(language, split, outputs)


@pytest.mark.parametrize("best", range(3))
def test_the_best_candidate_on_dev_is_chosen(study, best):
    """The references of dev are what one candidate says: it has 100 chrF there, the others have less."""
    plant(study, TUNED, best)
    (tuned,) = study.sweep(TUNED)
    assert tuned.recipe.parameters["scale"] == SCALES[best]
    assert [trial["parameters"]["scale"] for trial in tuned.trials] == SCALES
    for i, trial in enumerate(tuned.trials):
        assert set(trial["dev"]) == {"en-es", "en-de"}
        assert trial["mean"] == pytest.approx(sum(trial["dev"].values()) / 2)
        assert (trial["mean"] == pytest.approx(100)) == (i == best)
    assert "test" in tuned.scored.summaries() and "dev" not in tuned.scored.summaries()


def test_the_mean_over_directions_decides(study):
    """One candidate is perfect in one direction and another in the other: the mean is what is compared."""
    plant(study, TUNED, 0)
    german = (study.pairs["de"] / "dev.jsonl").read_text()
    plant(study, TUNED, 2)
    (study.pairs["de"] / "dev.jsonl").write_text(german)
    (tuned,) = study.sweep(TUNED)
    means = [trial["mean"] for trial in tuned.trials]
    assert tuned.trials[0]["dev"]["en-de"] == tuned.trials[2]["dev"]["en-es"] == pytest.approx(100)
    assert tuned.recipe.parameters["scale"] == SCALES[means.index(max(means))]


def test_test_data_have_no_say_in_the_choice(study):
    plant(study, TUNED, 0)
    plant(study, TUNED, 2, split="test")
    (tuned,) = study.sweep(TUNED)
    assert tuned.recipe.parameters["scale"] == SCALES[0]
    best = study.score(study.candidate(TUNED, 2), TUNED["report"])["test"]
    assert best["en-es"]["metrics"]["chrf"]["score"] == pytest.approx(100)
    assert tuned.scored.summaries()["test"]["en-es"]["metrics"]["chrf"]["score"] < 100


@pytest.mark.parametrize("grid", [[[1.0, 1.0], [2.0, 2.0]], [[2.0, 2.0], [1.0, 1.0]]])
def test_the_first_of_equally_good_candidates_is_chosen(study, grid):
    """Weights are normalised, so both candidates are the same model."""
    entry = merge("mean", "linear", ["en-es", "en-de"], [{"weights": w} for w in grid], ["en-es"])
    (tuned,) = study.sweep(entry)
    assert tuned.trials[0]["mean"] == tuned.trials[1]["mean"]
    assert tuned.recipe.parameters["weights"] == grid[0]


def test_what_is_reported_is_not_what_tunes(study):
    """A merge may be tuned in some directions and reported in others."""
    plant(study, TUNED, 1)
    (tuned,) = study.sweep({**TUNED, "tune": [direction("en-es")], "report": [direction("en-de")]})
    assert all(set(trial["dev"]) == {"en-es"} for trial in tuned.trials)
    assert tuned.scored.summaries() == study.score(study.candidate(TUNED, 1), [direction("en-de")])


def test_a_single_candidate_is_not_tried(study):
    (tuned,) = study.sweep(merge("mean", "linear", ["en-es", "en-de"]))
    assert tuned.trials == []
    assert set(tuned.scored.summaries()["test"]) == {"en-es", "en-de"}


@pytest.mark.parametrize("best", [0, 1, 2])
def test_a_merge_may_take_the_parameters_that_were_chosen_for_another(study, best):
    """Whatever its own dev score is: the candidate at the place of the chosen one, and nothing is tried."""
    kept = merge("kept", "task_arithmetic", ["en-es"], [{"scale": s} for s in SCALES])
    kept |= {"parameters_of": "ta"}
    plant(study, TUNED, best)
    first, second = study.sweep(TUNED, kept)
    assert first.recipe.parameters["scale"] == second.recipe.parameters["scale"] == SCALES[best]
    assert second.trials == [] and list(second.recipe.models) == ["en-es"]
    assert second.scored.summaries() == study.score(study.candidate(kept, best), kept["report"])


def test_a_reference_is_the_chosen_candidate(study):
    """The patch has the specialist's last layer and everything else of the tuned merge."""
    plant(study, TUNED, 2)
    sweep = study.sweep(TUNED, PATCH)
    _, patch = sweep
    (ta,) = state_dicts([Recipe.from_json({**TUNED["candidates"][2], "name": "x"})], study.sources)
    specialist = study.model("en-es").state_dict()
    expected = {name: specialist[name] if ".layers.1." in name else weight for name, weight in ta.state_dict.items()}
    (merged,) = sweep_weights(sweep, patch)
    assert merged.keys() == expected.keys()
    assert all(torch.equal(merged[name], weight) for name, weight in expected.items())
    model = study.model()
    model.load_state_dict(expected, strict=False)
    assert patch.scored.summaries() == study.score(model, PATCH["report"])


def sweep_weights(sweep, *tuned):
    """The weights of tuned merges as a sweep gives them to the model."""
    others = [recipe for recipe in sweep.chosen if recipe not in [t.recipe for t in tuned]]
    made = state_dicts([*others, *(t.recipe for t in tuned)], sweep.sources, outputs=[t.recipe.name for t in tuned])
    return [merged.state_dict for merged in made]


def test_a_reference_to_a_reference_is_followed(study):
    again = merge("twice", "layer_patch", ["merge:ta.last.es", "en-de"], [{"layers": [0]}], report=["en-es"])
    *_, twice = study.sweep(TUNED, PATCH, again)
    assert twice.recipe.models == ("merge:ta.last.es", "en-de")


def test_a_reference_that_comes_too_early_is_explained(study):
    with pytest.raises(InputError, match=r"ta\.last\.es builds on merge:ta, which does not come before it"):
        list(study.sweep(PATCH, TUNED))


def test_a_snapshot_alone_has_its_sources_name(study):
    """A merge of one model is that model, and may be called like it."""
    both = merge("linear@15", "linear", ["en-es@15", "en-de"])
    drift, snapshot = study.sweep(both, SNAPSHOT)
    assert snapshot.name == "en-es@15"
    assert snapshot.scored.summaries() == study.score(study.model("en-es@15"), SNAPSHOT["report"])
    assert drift.scored.summaries() == study.score(study.candidate(both, 0), both["report"])


def test_a_merge_called_like_a_source_does_not_hide_it(study):
    """Later merges that name the source get the source, not the merge of that name."""
    other = merge("en-es", "linear", ["en-de"])
    after = merge("after", "linear", ["en-es"])
    _, tuned = study.sweep(other, after)
    assert tuned.scored.summaries() == study.score(study.model("en-es"), after["report"])


def test_the_order_of_a_sweep_does_not_change_its_scores(study):
    """No weight of one merge is left in the model when the next one is scored."""
    mean = merge("mean", "linear", ["en-es", "en-de"])
    one = {t.name: t.scored.summaries() for t in study.sweep(TUNED, mean, SNAPSHOT)}
    two = {t.name: t.scored.summaries() for t in study.sweep(SNAPSHOT, mean, TUNED)}
    assert one == two


def test_weights_that_are_not_finite_are_explained(study, tmp_path):
    model = study.model("en-es")
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    broken = Study({**study.sources, "en-es": save_result(model, tmp_path / "broken")}, study.pairs)
    with pytest.raises(InputError, match=r"en-es.*NaN"):
        list(broken.sweep(merge("mean", "linear", ["en-es", "en-de"])))


# ---- the command ---------------------------------------------------------------------------------------------------


def run(study, out, *merges, **changes):
    inputs = {f"models/{name}": str(folder) for name, folder in study.sources.items()}
    inputs |= {f"pairs/{language}": str(folder) for language, folder in study.pairs.items()}
    sweep_main(["--spec", json.dumps(spec(*merges, **changes)), "--inputs", json.dumps(inputs), "--out", str(out)])
    return out


def test_the_command_writes_scores_selection_and_what_is_kept(study, tmp_path):
    plant(study, TUNED, 1)
    out = run(study, tmp_path / "out", TUNED, PATCH, SNAPSHOT)
    selection = json.loads((out / "selection.json").read_text())
    assert list(selection) == sorted(["ta", "ta.last.es", "en-es@15"])
    assert selection["ta"]["recipe"]["parameters"]["scale"] == SCALES[1]
    assert (
        max(selection["ta"]["trials"], key=lambda t: t["mean"])["parameters"] == selection["ta"]["recipe"]["parameters"]
    )
    assert {path.name for path in (out / "systems").iterdir()} == set(selection)
    assert {path.name for path in (out / "merged").iterdir()} == {"ta", "ta.last.es"}

    # Evaluating the written model gives the reported scores.
    for entry in (TUNED, PATCH):
        folder = out / "merged" / entry["name"]
        provenance.verify(folder)
        model = models.load_model(folder)
        sets = read_test_sets({**spec(), "directions": entry["report"], "splits": {"test": None}}, study.pairs)
        scored = score_model(model, models.load_tokenizer(folder), sets, spec())
        reported = json.loads((out / "systems" / entry["name"] / "scores.json").read_text())
        assert json.loads(json.dumps(scored.summaries())) == reported

    manifest = provenance.read_manifest(out)
    assert set(manifest["inputs"]) == {*(f"models/{s}" for s in study.sources), "pairs/es", "pairs/de"}
    cost = json.loads((out / "cost.json").read_text())
    assert cost["tokens"] > 0
    # What tuning, merging and scoring took, for each merge: parts of the job's own time.
    assert set(cost["merges"]) == set(selection)
    parts = [f"{part}_seconds" for part in ("tuning", "merging", "scoring")]
    assert 0 < sum(merge[part] for merge in cost["merges"].values() for part in parts) <= cost["seconds"]
    assert cost["merges"]["ta"]["tuning_seconds"] > 10 * cost["merges"]["en-es@15"]["tuning_seconds"]  # nothing to tune


def test_a_sweep_that_keeps_nothing_still_has_the_folder_that_snakemake_expects(study, tmp_path):
    out = run(study, tmp_path / "out", merge("mean", "linear", ["en-es", "en-de"], report=["en-es"]))
    assert list((out / "merged").iterdir()) == []


def test_equal_sweeps_have_equal_manifests(study, tmp_path):
    entry = merge("mean", "linear", ["en-es", "en-de"], report=["en-es"], keep=True)
    one, two = (run(study, tmp_path / name, entry) / "manifest.json" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_changed_weights_are_refused(study, tmp_path):
    folder = save_result(study.model("en-es"), tmp_path / "model")
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    changed = Study({**study.sources, "en-es": folder}, study.pairs)
    with pytest.raises(InputError, match=r"model\.safetensors: expected SHA-256"):
        run(changed, tmp_path / "out", merge("mean", "linear", ["en-es", "en-de"]))
    assert not (tmp_path / "out").exists()
