"""Fisher information and Gram matrices of models on texts and tasks, several models in one job."""

import json

import pytest
import torch
from safetensors.torch import load_file

from langmerge import models, provenance
from langmerge.calibration.__main__ import main
from langmerge.calibration.sentences import encode_tests, read_tests
from langmerge.provenance import InputError

TEXT = {"task": "text", "language": "es"}
REVIEWS = {"task": "sentiment", "language": "es"}
ROW = {"kind": "choice", "prompt": "red cat", "choices": ["good", "no"], "gold": 1, "group": ""}


@pytest.fixture
def spec():
    return {"pivot": "en", "split": "train", "sentences": 4, "seed": 1, "labels": "target", "context": 40}


@pytest.fixture
def items(tmp_path):
    with provenance.result(tmp_path / "tasks", {}, "", "") as job:
        rows = [{"id": f"r{i}", **ROW} for i in range(3)]
        (job.folder / "sentiment.train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"es": tmp_path / "tasks"}


def run(out, spec, folders, pairs, items=None):
    inputs = {f"models/{name}": str(folder) for name, folder in folders.items()}
    inputs |= {f"pairs/{language}": str(folder) for language, folder in pairs.items()}
    inputs |= {f"tasks/{language}": str(folder) for language, folder in (items or {}).items()}
    main(["--spec", json.dumps(spec), "--inputs", json.dumps(inputs), "--out", str(out)])
    return {path.parent.name: load_file(path) for path in out.glob("measured/*/model.safetensors")}


def expected_fisher(model, rows, context):
    """Written from the definition: of each sequence the gradient of its log-likelihood, squared; the mean of these."""
    total = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    for ids, start in [(ids[:context], max(1, start)) for ids, start in rows]:
        model.zero_grad()
        scores = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        sum(scores[t - 1, ids[t]] for t in range(start, len(ids))).backward()
        for name, weight in model.named_parameters():
            total[name] += weight.grad**2 / len(rows)
    return total


@pytest.mark.parametrize("test", [TEXT, REVIEWS], ids=["text", "task"])
def test_fisher_information_is_that_of_text_or_answers(tmp_path, spec, folders, pairs, items, test):
    folder = folders["en-es"]
    measurements = {"mine": {"kind": "fisher", "model": "en-es", "tests": [test]}}
    found = run(tmp_path / "out", {**spec, "measurements": measurements}, {"en-es": folder}, pairs, items)["mine"]
    tokenizer = models.load_tokenizer(folder)
    chosen = read_tests({**spec, "tests": [test]}, pairs, items)
    rows = []
    for prompt, answer in chosen:
        head = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        head += tokenizer(prompt, add_special_tokens=False)["input_ids"] if prompt else []
        body = tokenizer(f" {answer}" if prompt else answer, add_special_tokens=False)["input_ids"]
        rows.append(([*head, *body, tokenizer.eos_token_id], len(head)))
    wanted = expected_fisher(models.load_model(folder), rows, spec["context"])
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-7)


def test_each_model_is_measured_alone_on_its_own(tmp_path, spec, folders, pairs):
    measurements = {
        "es.fisher": {"kind": "fisher", "model": "en-es", "tests": [TEXT]},
        "es.gram": {"kind": "gram", "model": "en-es", "tests": [TEXT]},
        "de.fisher": {"kind": "fisher", "model": "en-de", "tests": [{"task": "text", "language": "de"}]},
    }
    together = run(tmp_path / "together", {**spec, "measurements": measurements}, folders, pairs)
    assert set(together) == set(measurements)
    one = {**spec, "measurements": {"de.fisher": measurements["de.fisher"]}}
    alone = run(tmp_path / "alone", one, {"en-de": folders["en-de"]}, pairs)["de.fisher"]
    assert all(torch.equal(together["de.fisher"][name], tensor) for name, tensor in alone.items())
    weight = "model.layers.0.self_attn.q_proj.weight"
    assert together["es.gram"][weight].shape[0] == together["es.gram"][weight].shape[1]
    provenance.verify(tmp_path / "together/measured/es.fisher")  # merges check what they read


def test_the_pivots_text_is_in_every_corpus(spec, pairs):
    rows = read_tests({**spec, "tests": [{"task": "text", "language": "en"}], "sentences": 99}, pairs, {})
    first = next(iter(pairs.values()))
    lines = [json.loads(line)["en"] for line in (first / "train.jsonl").read_text().splitlines()]
    assert [answer for _, answer in rows] == lines


def test_sequences_are_cut_and_ask_for_something(folders):
    tokenizer = models.load_tokenizer(folders["en-es"])
    (row,) = encode_tests([("", "red cat sleeps")], tokenizer, 5)
    assert len(row.ids) == 5 and row.prompt_length == 1, "nothing foretells the first token"
    assert not encode_tests([("red cat sleeps", "no")], tokenizer, 5), "the context ends before the answer"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "test"}, "merges never see test"),
        ({"kind": "similarity"}, "expected a kind among fisher"),
        ({"model": "en-tr"}, "expected the input models/en-tr"),
        ({"tests": [{"task": "text", "language": "fr"}]}, "no text of 'fr'"),
        ({"tests": [REVIEWS]}, "expected the input tasks/es"),
    ],
)
def test_what_is_wrong_with_tests_is_said(tmp_path, spec, folders, pairs, changes, message):
    measurement = {"kind": "fisher", "model": "en-es", "tests": [TEXT], **changes}
    split = measurement.pop("split", "train")
    with pytest.raises(InputError, match=message):
        changed = {**spec, "split": split, "measurements": {"x": measurement}}
        run(tmp_path / "out", changed, {"en-es": folders["en-es"]}, pairs)
    assert not (tmp_path / "out").exists()
