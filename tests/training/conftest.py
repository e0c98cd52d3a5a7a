import json
import os
import random

import pytest

from langmerge.provenance import result

os.environ.setdefault("OMP_NUM_THREADS", "1")

ARCHITECTURE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 128, "tie_word_embeddings": True,
}  # fmt: skip


def sentences(language, count, seed=0):
    """Sentence i says the same in every language: word k of a language is its k-th made-up word."""
    words = random.Random(language)
    lexicon = ["".join(words.choice("bdfgklmnprst") + words.choice("aeiou") for _ in range(2)) for _ in range(40)]
    meanings = random.Random(seed)
    return [" ".join(lexicon[meanings.randrange(40)] for _ in range(meanings.randint(2, 9))) for _ in range(count)]


def write_corpus(folder, languages, count=300):
    columns = {code: sentences(code, count) for code in languages}
    with result(folder, {}, "", "") as job:
        for split in ("train", "dev", "test"):
            rows = [{"id": str(i), **{code: columns[code][i] for code in languages}} for i in range(count)]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (job.folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """The corpora en-es and en-de, and a tiny initialised model."""
    from langmerge.training.init import build

    root = tmp_path_factory.mktemp("training")
    corpora = {f"pairs/{code}": write_corpus(root / code, ("en", code)) for code in ("de", "es")}
    spec = {"architecture": ARCHITECTURE, "vocabulary_size": 400, "languages": ["es", "de"], "pivot": "en",
            "special_tokens": ["<en>", "<es>", "<de>"], "portion": [0.0, 1.0], "seed": 3}  # fmt: skip
    with result(root / "init", spec, "", "") as job:
        build(spec, corpora, job)
    return {"model": root / "init", **corpora}


@pytest.fixture(scope="session")
def task_inputs(inputs, tmp_path_factory):
    """The same, and two tasks in es: 40 choices among the same two labels, 30 questions of unequal length."""
    folder = tmp_path_factory.mktemp("tasks") / "es"
    words = sentences("es", 70, seed=5)
    choices = [{"id": f"c{i}", "kind": "choice", "prompt": f"{words[i]}:", "choices": ["bada", "nolo"], "gold": i % 2,
                "group": ""} for i in range(40)]  # fmt: skip
    questions = [{"id": f"q{i}", "kind": "generation", "prompt": f"{words[40 + i]}?", "answer": str(i), "group": ""}
                 for i in range(30)]  # fmt: skip
    with result(folder, {}, "", "") as job:
        for task, rows in (("sentiment", choices), ("arithmetic", questions)):
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (job.folder / f"{task}.train.jsonl").write_text(text, encoding="utf-8")
    return {**inputs, "tasks/es": folder}


@pytest.fixture
def recipe():
    return {
        "parent": "init",
        "data": [
            {"task": "translate", "source": "en", "target": "es", "weight": 0.6},
            {"task": "text", "language": "es", "weight": 0.4, "loss": "all"},
        ],
        "prompt": {"template": "<en>{source}<{target_code}>", "format": "plain"},
        "steps": 12, "batch_tokens": 200, "context_length": 64, "learning_rate": 0.01, "snapshots": [5], "seed": 1,
    }  # fmt: skip


@pytest.fixture(scope="session")
def train():
    """Run the stage in this process: train(recipe, inputs, out) -> the result folder."""
    from langmerge.training.job import train as stage

    def run(recipe, inputs, out, work=None, code=""):
        with result(out, recipe, code, "") as job:
            stage(recipe, inputs, job, work or out.with_name(f".{out.name}.work"))
        return out

    return run


@pytest.fixture(scope="session")
def tokenizer(inputs):
    from langmerge.models import load_tokenizer

    return load_tokenizer(inputs["model"])
