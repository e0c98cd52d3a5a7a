"""The command and its library functions: what is written, and the errors of bad input."""

import json
import subprocess
import sys

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF

from langmerge import provenance
from langmerge.evaluation import metrics
from langmerge.evaluation.__main__ import main
from langmerge.evaluation.scoring import score_model, score_outputs, write
from langmerge.evaluation.test_sets import Direction, parse_direction, read_test_set, read_test_sets
from langmerge.models import save_model
from langmerge.provenance import InputError, read_json

SPEC = {
    "directions": [{"source": "en", "target": "es"}, {"source": "de", "target": "en"}, "es-de"],
    "pivot": "en",
    "splits": {"dev": 2, "test": None},
    "prompt": {"template": "{source} <2{target_code}>"},
    "decode": {"batch_size": 4, "max_new_tokens": 20},
    "languages": ["en", "es", "de"],
    "metrics": ["bleu", "chrf", "ter"],
}


def test_directions_from_mapping_and_string():
    assert parse_direction("en-es") == parse_direction({"source": "en", "target": "es"}) == Direction("en", "es")
    for wrong in ("en", "en-es-x", "en-en", {"source": "en"}):
        with pytest.raises(InputError, match="direction"):
            parse_direction(wrong)


def test_reads_every_direction_and_split(pairs):
    test_sets = read_test_sets(SPEC, pairs)
    assert [(t.split, str(t.direction), len(t.ids)) for t in test_sets] == [
        (split, direction, n) for split, n in (("dev", 2), ("test", 3)) for direction in ("en-es", "de-en", "es-de")
    ]
    assert test_sets[1].sources[0] == "Die rote Katze schläft im Garten."
    assert test_sets[1].references[0] == "The red cat is sleeping in the garden."


def test_pairs_without_the_pivot_are_joined_by_id(pairs):
    lines = (pairs["de"] / "test.jsonl").read_text().splitlines()
    (pairs["de"] / "test.jsonl").write_text("\n".join([lines[2], lines[0]]))
    test_set = read_test_set(pairs, Direction("es", "de"), "test", None, "en")
    assert test_set.ids == ("s0", "s2")
    assert test_set.references == ("Die rote Katze schläft im Garten.", "Wir sahen den Arzt nicht.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": "1", "en": "a"}', 'line 1: expected a JSON object with "id" and "es"'),
        ('{"id": "1", "en": "a", "es": " "}', '"es" is empty'),
        ('{"id": "1", "en": "a", "es": "b"}\n' * 2, "line 2: id '1' stands twice"),
        ("{", "line 1: not valid JSON"),
        ("", "no sentences"),
        (None, "file not found"),
    ],
)
def test_bad_pairs_are_named(pairs, content, message):
    path = pairs["es"] / "test.jsonl"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_test_set(pairs, Direction("en", "es"), "test", None, "en")


def test_missing_language_and_wrong_number_of_hypotheses(pairs):
    with pytest.raises(InputError, match="pairs/tr"):
        read_test_set(pairs, Direction("tr", "en"), "test", None, "en")
    test_set = read_test_set(pairs, Direction("en", "es"), "test", None, "en")
    with pytest.raises(InputError, match="2 hypotheses for 3 references"):
        score_outputs(["a", "b"], test_set, ["bleu"], ["es"])


def test_perfect_and_copied_outputs(pairs):
    test_set = read_test_set(pairs, Direction("en", "es"), "test", None, "en")
    perfect = score_outputs(test_set.references, test_set, ["bleu", "chrf", "ter"], ["en", "es", "de"]).summary
    assert {name: metric["score"] for name, metric in perfect["metrics"].items()} == pytest.approx(
        {"bleu": 100, "chrf": 100, "ter": 0}
    )
    assert (perfect["n"], perfect["length_ratio"], perfect["copy"], perfect["off_target"]) == (3, 1, 0, 0)
    copied = score_outputs(test_set.sources, test_set, ["bleu"], ["en", "es", "de"]).summary
    assert (copied["copy"], copied["off_target"], copied["source_language"]) == (1, 1, 1)


def test_command_agrees_with_library_and_sacrebleu(pairs, model, tokenizer, tmp_path):
    folder = tmp_path / "model"
    save_model(model, folder)
    tokenizer.save_pretrained(folder)
    weights = provenance.sha256_file(folder / "model.safetensors")
    (folder / "manifest.json").write_text(json.dumps({"outputs": {"model.safetensors": weights}}))
    inputs = {"model": str(folder), **{f"pairs/{code}": str(path) for code, path in pairs.items()}}
    out = tmp_path / "out"
    main(["--spec", json.dumps(SPEC), "--inputs", json.dumps(inputs), "--out", str(out)])

    test_sets = read_test_sets(SPEC, pairs)
    scored = score_model(model, tokenizer, test_sets, SPEC)
    assert read_json(out / "scores.json") == json.loads(json.dumps(scored.summaries()))
    for output in scored.outputs:
        name = f"{output.test_set.split}.{output.test_set.direction}"
        rows = [json.loads(line) for line in (out / "predictions" / f"{name}.jsonl").read_text().splitlines()]
        hypotheses, references = ([row[key] for row in rows] for key in ("hypothesis", "reference"))
        assert tuple(references) == output.test_set.references
        for metric, reference in (("bleu", BLEU()), ("chrf", CHRF(word_order=2))):
            expected = reference.corpus_score(hypotheses, [references]).score
            assert output.summary["metrics"][metric]["score"] == pytest.approx(expected, rel=1e-12)
            with np.load(out / "statistics" / f"{name}.npz", allow_pickle=False) as arrays:
                assert tuple(arrays["ids"]) == output.test_set.ids
                assert float(metrics.score(metric, arrays[metric].sum(0))) == pytest.approx(expected, rel=1e-12)
    cost = read_json(out / "cost.json")
    assert cost["tokens"] == scored.prompt_tokens + scored.new_tokens > 0 and cost["flops"] > 0
    assert set(provenance.read_manifest(out)["inputs"]) == set(inputs)

    # The same results again are the same bytes
    write(scored, tmp_path / "again")
    for path in (tmp_path / "again").rglob("*.*"):
        assert path.read_bytes() == (out / path.relative_to(tmp_path / "again")).read_bytes()


def test_changed_weights_are_refused(pairs, model, tokenizer, tmp_path):
    folder = tmp_path / "model"
    save_model(model, folder)
    (folder / "manifest.json").write_text(json.dumps({"outputs": {"model.safetensors": "0" * 64}}))
    inputs = {"model": str(folder), **{f"pairs/{code}": str(path) for code, path in pairs.items()}}
    with pytest.raises(InputError, match="expected SHA-256"):
        main(["--spec", json.dumps(SPEC), "--inputs", json.dumps(inputs), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out" / "scores.json").exists()


def test_scoring_texts_imports_no_torch():
    code = "import sys, langmerge.evaluation.scoring, langmerge.evaluation.comparison; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
