"""Minimal pairs against lm-evaluation-harness itself, item by item, on rows of BLiMP.

The harness lives in a Python of its own, which the environment variable LANGMERGE_HARNESS names.
"""

import gzip
import itertools
import json
import os

import numpy as np
import pytest
from real_data import DATA
from tiny_llamas import byte_tokenizer, random_llama

from langmerge.evaluation import harness
from langmerge.evaluation.scoring import score_model
from langmerge.evaluation.task_sets import read_task_sets
from langmerge.provenance import read_json, sha256_file

pytestmark = [pytest.mark.conformance, pytest.mark.real]

EVERY = 500  # every so many rows of BLiMP: two a paradigm
TASK = """task: local_pairs
dataset_path: json
dataset_kwargs:
  data_files:
    train: {file}
output_type: multiple_choice
validation_split: train
doc_to_text: ""
target_delimiter: ""
doc_to_target: 0
doc_to_choice: "{{{{[sentence_good, sentence_bad]}}}}"
num_fewshot: 0
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


@pytest.fixture(scope="module")
def rows():
    file = DATA / "acceptability" / "blimp.en.jsonl.gz"
    if not file.is_file():
        pytest.skip(f"no real text in {DATA}")
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        chosen = [json.loads(line) for line in itertools.islice(lines, 0, None, EVERY)]
    same = {"sentence_good": "They know that.", "sentence_bad": "They know that.", "paradigm": "tie", "pair_id": 0}
    return [*chosen, same]


@pytest.fixture(scope="module")
def both(rows, tmp_path_factory):
    """The harness's samples and results, and our output, of one random model."""
    if not os.environ.get(harness.VARIABLE):
        pytest.skip(f"{harness.VARIABLE} does not name a Python that has lm_eval; `make harness` makes one")
    root = tmp_path_factory.mktemp("lm_eval")
    model, tokenizer = random_llama(seed=3, max_position_embeddings=512), byte_tokenizer()
    folder, definitions, tasks = (root / name for name in ("model", "definitions", "tasks"))
    for place in (folder, definitions, tasks):
        place.mkdir()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    weights = sha256_file(folder / "model.safetensors")
    (folder / "manifest.json").write_text(json.dumps({"outputs": {"model.safetensors": weights}}))
    data = root / "pairs.jsonl"
    keys = ("sentence_good", "sentence_bad")
    data.write_text("".join(json.dumps({key: row[key] for key in keys}) + "\n" for row in rows))
    (definitions / "local_pairs.yaml").write_text(TASK.format(file=data))
    spec = {"tasks": ["local_pairs"], "batch_size": 8, "include_path": str(definitions)}
    inputs = {"model": str(folder)}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
            patch.setenv(name, "1")
        patch.setenv("HF_HOME", str(root / "cache"))
        harness.main(["--spec", json.dumps(spec), "--inputs", json.dumps(inputs), "--out", str(root / "out")])

    items = [
        {"id": str(i), "kind": "choice", "prompt": "", "choices": [row[key] for key in keys], "gold": 0,
         "group": row["paradigm"]}
        for i, row in enumerate(rows)
    ]  # fmt: skip
    (tasks / "minimal_pairs.test.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    asked = {"tests": ["minimal_pairs.en"], "splits": {"test": None}, "decode": {"batch_size": 32}, "pivot": "en"}
    (output,) = score_model(model, tokenizer, [], asked, read_task_sets(asked, {}, {"en": tasks})).tasks
    return root / "out", output


def test_log_probabilities_are_those_of_the_harness_item_by_item(both, rows):
    out, output = both
    samples = [json.loads(line) for line in (out / "samples_local_pairs.jsonl").read_text().splitlines()]
    theirs = {sample["doc_id"]: [float(response[0][0]) for response in sample["resps"]] for sample in samples}
    assert len(theirs) == len(rows) > 100
    expected = np.array([theirs[i] for i in range(len(rows))])
    ours = np.array([row["log_probabilities"] for row in output.rows])
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    hits = output.statistics["accuracy"][:, 0]
    for i, sample in enumerate(sorted(samples, key=lambda sample: sample["doc_id"])):
        tie = ours[i, 0] == ours[i, 1]
        assert sample["acc"] == (1.0 if tie else hits[i])


def test_accuracies_agree_but_for_ties(both, rows):
    out, output = both
    theirs = read_json(out / "scores.json")["test"]["local_pairs"]
    assert theirs["n"] == len(rows) == output.summary["n"]
    assert output.summary["ties"] == 1
    expected = output.summary["metrics"]["accuracy"]["score"] + 100 / len(rows)
    assert theirs["metrics"]["acc"]["score"] == pytest.approx(expected)
    assert theirs["metrics"]["acc"]["signature"].startswith("lm_eval:0.")
