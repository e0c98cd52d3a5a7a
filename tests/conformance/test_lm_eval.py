"""Minimal pairs against lm-evaluation-harness itself, item by item, by its own task templates.

MultiBLiMP's template asks for the sentences as they stand, as we do. BLiMP's does not name a `target_delimiter`, so the
harness puts its default, a space, before each sentence: its numbers are those of our items with a space before them.
The harness lives in a Python of its own, which the environment variable LANGMERGE_HARNESS names.
"""

import gzip
import itertools
import json
import os
import subprocess

import numpy as np
import pytest
from real_data import DATA
from tiny_llamas import byte_tokenizer, random_llama

from langmerge.evaluation import harness
from langmerge.evaluation.scoring import score_model
from langmerge.evaluation.task_sets import read_task_sets
from langmerge.provenance import read_json, sha256_file

pytestmark = [pytest.mark.conformance, pytest.mark.real]

# Task of the harness: the file of real rows, every how many are taken, their columns, what precedes a sentence.
TASKS = {
    "multiblimp": ("multiblimp.en", 8, ("sen", "wrong_sen"), ""),
    "blimp": ("blimp.en", 500, ("sentence_good", "sentence_bad"), " "),
}
DEFINITION = """include: {template}
task: local_{task}
dataset_path: json
dataset_name: null
dataset_kwargs:
  data_files:
    train: {file}
"""
WHERE = "import importlib.util as u; print(u.find_spec('lm_eval').submodule_search_locations[0])"


@pytest.fixture(scope="module")
def rows():
    """Task -> pairs of sentences, the last a tie."""
    found = {}
    for task, (name, every, (good, bad), _) in TASKS.items():
        file = DATA / "acceptability" / f"{name}.jsonl.gz"
        if not file.is_file():
            pytest.skip(f"no real text in {DATA}")
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            chosen = [json.loads(line) for line in itertools.islice(lines, 0, None, every)]
        found[task] = [*((row[good], row[bad]) for row in chosen), ("They know that.", "They know that.")]
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A random model, its tokenizer and their folder."""
    folder = tmp_path_factory.mktemp("lm_eval_model")
    made, tokenizer = random_llama(seed=3, max_position_embeddings=512), byte_tokenizer()
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    weights = sha256_file(folder / "model.safetensors")
    (folder / "manifest.json").write_text(json.dumps({"outputs": {"model.safetensors": weights}}))
    return made, tokenizer, folder


@pytest.fixture(scope="module")
def theirs(rows, model, tmp_path_factory):
    """The folder of the harness's samples and scores on all tasks."""
    python = os.environ.get(harness.VARIABLE)
    if not python:
        pytest.skip(f"{harness.VARIABLE} does not name a Python that has lm_eval; `make harness` makes one")
    root = tmp_path_factory.mktemp("lm_eval")
    place = subprocess.run([python, "-c", WHERE], capture_output=True, text=True, check=True).stdout.strip()
    (root / "definitions").mkdir()
    for task, (_, _, columns, _) in TASKS.items():
        data = root / f"{task}.jsonl"
        data.write_text("".join(json.dumps(dict(zip(columns, pair, strict=True))) + "\n" for pair in rows[task]))
        template = f"{place}/tasks/{task}/_template_yaml"
        (root / "definitions" / f"{task}.yaml").write_text(DEFINITION.format(template=template, task=task, file=data))
    names = [f"local_{task}" for task in TASKS]
    spec = {"tasks": names, "batch_size": 8, "include_path": str(root / "definitions")}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
            patch.setenv(name, "1")
        patch.setenv("HF_HOME", str(root / "cache"))
        inputs = {"model": str(model[2])}
        harness.main(["--spec", json.dumps(spec), "--inputs", json.dumps(inputs), "--out", str(root / "out")])
    return root / "out"


@pytest.fixture(scope="module")
def ours(rows, model, tmp_path_factory):
    """``ours(task, prefix)``: our output on its rows, with this before each sentence."""

    def score(task, prefix):
        folder = tmp_path_factory.mktemp("items")
        items = [
            {"id": str(i), "kind": "choice", "prompt": "", "choices": [prefix + text for text in pair], "gold": 0,
             "group": "all"}
            for i, pair in enumerate(rows[task])
        ]  # fmt: skip
        (folder / "minimal_pairs.test.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
        asked = {"tests": ["minimal_pairs.en"], "splits": {"test": None}, "decode": {"batch_size": 32}, "pivot": "en"}
        (output,) = score_model(*model[:2], [], asked, read_task_sets(asked, {}, {"en": folder})).tasks
        return output

    return score


def samples_of(theirs, task):
    """Log-probabilities (n, 2) of the harness, and whether it counts each item as right."""
    lines = (theirs / f"samples_local_{task}.jsonl").read_text().splitlines()
    samples = sorted(map(json.loads, lines), key=lambda sample: sample["doc_id"])
    values = [[float(response[0][0]) for response in sample["resps"]] for sample in samples]
    return np.array(values), np.array([sample["acc"] for sample in samples])


@pytest.mark.parametrize("task", TASKS)
def test_log_probabilities_are_those_of_the_harness_item_by_item(theirs, ours, rows, task):
    expected, hits = samples_of(theirs, task)
    assert len(expected) == len(rows[task]) > 90
    output = ours(task, TASKS[task][-1])
    found = np.array([row["log_probabilities"] for row in output.rows])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    tie = found[:, 0] == found[:, 1]
    np.testing.assert_array_equal(hits, np.where(tie, 1.0, output.statistics["accuracy"][:, 0]))


@pytest.mark.parametrize("task", TASKS)
def test_accuracies_agree_but_for_ties(theirs, ours, rows, task):
    output = ours(task, TASKS[task][-1])
    found = read_json(theirs / "scores.json")["test"][f"local_{task}"]
    assert found["n"] == len(rows[task]) == output.summary["n"]
    assert output.summary["ties"] == 1
    expected = output.summary["metrics"]["accuracy"]["score"] + 100 / len(rows[task])
    assert found["metrics"]["acc"]["score"] == pytest.approx(expected)
    assert found["metrics"]["acc"]["signature"].startswith("lm_eval:0.")


def test_the_harness_puts_a_space_before_sentences_of_blimp(theirs, ours):
    expected, _ = samples_of(theirs, "blimp")
    found = np.array([row["log_probabilities"] for row in ours("blimp", "").rows])
    assert np.abs(found - expected).max() > 1
