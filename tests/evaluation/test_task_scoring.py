"""Tasks through the command: planted models, what is written, and the errors of bad input."""

import json
from collections import Counter

import numpy as np
import pytest
import torch

from langmerge import provenance
from langmerge.evaluation.__main__ import main
from langmerge.evaluation.generation import generate
from langmerge.evaluation.metrics import score
from langmerge.evaluation.scoring import score_model, write
from langmerge.evaluation.task_sets import TaskTest, is_task_test, parse_task_test, read_task_sets
from langmerge.evaluation.test_sets import read_test_sets
from langmerge.models import save_model
from langmerge.provenance import InputError, read_json

TESTS = ["text", "minimal_pairs", "sentiment", "summarization", "causal_choice", "arithmetic", "question_answering"]
SPEC = {
    "directions": [],
    "tests": [{"task": task, "language": "es"} for task in TESTS] + [{"task": "text", "language": "en"}],
    "pivot": "en",
    "splits": {"test": None},
    "decode": {"batch_size": 4, "max_new_tokens": 12},
}
LABELS = ["bien", "mal", "regular"]


def choice(key, prompt, choices, gold, group=""):
    return {"id": key, "kind": "choice", "prompt": prompt, "choices": choices, "gold": gold, "group": group}


def generation(key, prompt, answer):
    return {"id": key, "kind": "generation", "prompt": prompt, "answer": answer, "group": ""}


ROWS = {
    "minimal_pairs": [
        choice("m0", "", ["Los gatos duermen.", "Los gatos duerme."], 0, "agreement"),
        choice("m1", "", ["La casa roja.", "La casa rojo."], 0, "gender"),
        choice("m2", "", ["El gato.", "El gato."], 0, "gender"),
    ],
    "sentiment": [choice(f"s{i}", f"Texto {i}. Juicio: ", LABELS, i % 3, LABELS[i % 3]) for i in range(7)],
    "causal_choice": [choice(f"c{i}", "Llueve, así que", [" me mojo.", " canto mucho hoy."], i % 2) for i in range(4)],
    "summarization": [generation("z0", "Hay un gato. Resumen: ", "Un gato."), generation("z1", "Sol. ", "Sol")],
    "arithmetic": [generation("a0", "2 + 2 = ", "4"), generation("a1", "1 + 2 = ", "3")],
    "question_answering": [generation("q0", "Hay un gato. ¿Qué hay? ", "un gato")],
}


@pytest.fixture
def tasks(tmp_path):
    folder = tmp_path / "tasks" / "es"
    folder.mkdir(parents=True)
    for task, rows in ROWS.items():
        write_rows(folder, task, rows)
    (folder / "manifest.json").write_text('{"outputs": {}}')
    return {"es": folder}


def write_rows(folder, task, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"{task}.test.jsonl").write_text(text, encoding="utf-8")


def planted(model, good, bad, tokenizer):
    """A model without attention or layers whose next token is likely or not, whatever came before."""
    favoured = set(tokenizer("".join(good))["input_ids"]) - set(tokenizer("".join(bad))["input_ids"])
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.fill_(1.0)
        model.lm_head.weight.zero_()
        model.lm_head.weight[list(favoured)] = 1.0
    return model


def test_a_model_that_prefers_good_sentences_gets_100_and_one_that_does_not_0(make_model, tokenizer, tasks):
    pairs = [(f"gato x{'z' * (i % 3)}", f"gato y{'w' * (i % 4)}") for i in range(6)]
    rows = [choice(f"p{i}", "", list(pair), 0, "even" if i % 2 == 0 else "odd") for i, pair in enumerate(pairs)]
    write_rows(tasks["es"], "minimal_pairs", rows)
    spec = {**SPEC, "tests": ["minimal_pairs.es"]}
    model = planted(make_model(vocab_size=260, tie_word_embeddings=False), ["xz"], ["yw"], tokenizer)
    sets = read_task_sets(spec, {}, tasks)
    (output,) = score_model(model, tokenizer, [], spec, sets).tasks
    # by length alone p2 and p5 could be lost: the sum of log-probabilities falls with each token
    assert output.summary["metrics"]["accuracy_norm"]["score"] == 100
    same_length = [row for row in rows if len(row["choices"][0]) == len(row["choices"][1])]
    assert len(same_length) > 1
    write_rows(tasks["es"], "minimal_pairs", same_length)
    (output,) = score_model(model, tokenizer, [], spec, read_task_sets(spec, {}, tasks)).tasks
    assert {name: m["score"] for name, m in output.summary["metrics"].items()} == {
        "accuracy": 100,
        "accuracy_norm": 100,
    }
    write_rows(tasks["es"], "minimal_pairs", [{**row, "choices": row["choices"][::-1]} for row in same_length])
    (output,) = score_model(model, tokenizer, [], spec, read_task_sets(spec, {}, tasks)).tasks
    assert output.summary["metrics"]["accuracy"]["score"] == 0 and output.summary["ties"] == 0


def test_a_uniform_model_ties_and_prefers_short_answers(make_model, tokenizer, tasks):
    model = planted(make_model(tie_word_embeddings=False), [], [], tokenizer)
    by_task = {o.task_set.test.task: o for o in score_model(model, tokenizer, [], SPEC, sets_of(tasks)).tasks}
    pairs = by_task["minimal_pairs"].summary
    # in m0 the bad sentence is shorter, in m1 as long, and m2 is twice the same
    assert pairs["metrics"]["accuracy"]["score"] == 0 and pairs["ties"] == 2
    assert pairs["groups"] == {"agreement": {"n": 1, "score": 0}, "gender": {"n": 2, "score": 0}}
    assert [row["chosen"] for row in by_task["sentiment"].rows] == [1] * 7  # "mal" is the shortest
    groups = by_task["sentiment"].summary["groups"]
    assert {label: group["score"] for label, group in groups.items()} == {"bien": 0, "mal": 100, "regular": 0}
    assert by_task["sentiment"].summary["metrics"]["accuracy"]["score"] == pytest.approx(200 / 7)
    assert by_task["causal_choice"].summary["metrics"]["accuracy"]["score"] == 50


def sets_of(tasks, pairs=None):
    spec = SPEC if pairs else {**SPEC, "tests": [test for test in SPEC["tests"] if test["task"] != "text"]}
    return read_task_sets(spec, pairs or {}, tasks)


@pytest.mark.parametrize(("task", "metric"), [("summarization", "rouge_l"), ("question_answering", "exact_match")])
def test_outputs_are_scored_against_the_answers(model, tokenizer, tasks, task, metric):
    """Planted: the answers are what the model says."""
    prompts = [row["prompt"] for row in ROWS["summarization"]]
    said = generate(model, tokenizer, prompts, 2, 12)
    assert said.prompt_tokens == sum(1 + len(prompt.encode()) for prompt in prompts) and 2 <= said.new_tokens <= 24
    words = [text if any(c.isalnum() for c in text) else "x" for text in said.texts]
    write_rows(tasks["es"], task, [generation(str(i), prompts[i], words[i]) for i in range(2)])
    spec = {**SPEC, "tests": [f"{task}.es"]}
    (output,) = score_model(model, tokenizer, [], spec, read_task_sets(spec, {}, tasks)).tasks
    assert [row["output"] for row in output.rows] == list(said.texts)
    expected = 50 * sum(a == b for a, b in zip(words, said.texts, strict=True))
    assert expected > 0 and output.summary["metrics"][metric]["score"] == pytest.approx(expected)


def run(spec, folder, pairs, tasks, out):
    inputs = {"model": str(folder)}
    inputs |= {f"pairs/{code}": str(path) for code, path in pairs.items()}
    inputs |= {f"tasks/{code}": str(path) for code, path in tasks.items()}
    main(["--spec", json.dumps(spec), "--inputs", json.dumps(inputs), "--out", str(out)])
    return inputs


@pytest.fixture
def folder(model, tokenizer, tmp_path):
    place = tmp_path / "model"
    save_model(model, place)
    tokenizer.save_pretrained(place)
    weights = provenance.sha256_file(place / "model.safetensors")
    (place / "manifest.json").write_text(json.dumps({"outputs": {"model.safetensors": weights}}))
    return place


def test_the_command_writes_scores_and_statistics_of_every_task(model, tokenizer, folder, pairs, tasks, tmp_path):
    out = tmp_path / "out"
    inputs = run(SPEC, folder, {"es": pairs["es"]}, tasks, out)
    scores = read_json(out / "scores.json")
    assert list(scores) == ["test"]
    assert set(scores["test"]) == {*(f"{task}.es" for task in TESTS), "text.en"}
    for name, entry in scores["test"].items():
        assert [entry["task"], entry["language"]] == name.split(".")
        assert entry["n"] == len(ROWS.get(entry["task"], range(3)))
        with np.load(out / "statistics" / f"test.{name}.npz", allow_pickle=False) as arrays:
            assert len(arrays["ids"]) == entry["n"]
            assert set(arrays) == {"ids", *entry["metrics"], *(["groups"] if entry["groups"] else [])}
            if entry["groups"]:
                sizes = {name: group["n"] for name, group in entry["groups"].items()}
                assert Counter(arrays["groups"].tolist()) == sizes
            for metric, found in entry["metrics"].items():
                assert float(score(metric, arrays[metric].sum(0))) == found["score"]
                assert np.isfinite(found["score"]) and found["signature"]
        rows = [json.loads(line) for line in (out / "predictions" / f"test.{name}.jsonl").read_text().splitlines()]
        assert len(rows) == entry["n"]
    assert scores["test"]["text.es"]["bytes"] == scores["test"]["text.es"]["tokens"] > 0
    assert set(scores["test"]["sentiment.es"]["groups"]) == set(LABELS)
    assert set(provenance.read_manifest(out)["inputs"]) == set(inputs)
    cost = read_json(out / "cost.json")
    assert cost["sentences"] == sum(entry["n"] for entry in scores["test"].values())
    assert cost["tokens"] > cost["new_tokens"] > 0 and cost["flops"] > 0

    again = score_model(model, tokenizer, [], SPEC, sets_of(tasks, {"es": pairs["es"]}))
    write(again, tmp_path / "again")
    for path in (tmp_path / "again").rglob("*.*"):
        assert path.read_bytes() == (out / path.relative_to(tmp_path / "again")).read_bytes()


def test_tasks_stand_beside_directions(model, tokenizer, pairs, tasks):
    spec = {
        **SPEC,
        "directions": ["en-es"],
        "tests": ["arithmetic.es"],
        "prompt": {"template": "{source} <2{target_code}>"},
        "languages": ["en", "es"],
        "metrics": ["chrf"],
    }
    sets, task_sets = read_test_sets(spec, pairs), read_task_sets(spec, pairs, tasks)
    both = score_model(model, tokenizer, sets, spec, task_sets)
    alone, other = score_model(model, tokenizer, sets, spec), score_model(model, tokenizer, [], spec, task_sets)
    assert both.summaries() == {"test": {**alone.summaries()["test"], **other.summaries()["test"]}}
    assert both.new_tokens == alone.new_tokens + other.new_tokens
    assert both.prompt_tokens == alone.prompt_tokens + other.prompt_tokens


def test_limits_and_names(tasks, pairs):
    sets = read_task_sets({**SPEC, "splits": {"test": 2}}, pairs, tasks)
    assert [(str(s.test), len(s.items)) for s in sets][:3] == [
        ("text.es", 2),
        ("minimal_pairs.es", 2),
        ("sentiment.es", 2),
    ]
    assert sets[0].items[0].answer == "El gato rojo duerme en el jardín." and sets[0].items[0].prompt == ""
    assert sets[-1].items[1].answer == "The old teacher reads a long book."
    assert parse_task_test("sentiment.pt-BR") == TaskTest("sentiment", "pt-BR")
    assert is_task_test({"task": "text", "language": "es"}) and is_task_test("text.es")
    assert not is_task_test("en-es") and not is_task_test({"source": "en", "target": "es"})


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("poetry.es", "'poetry.es': expected one of text"),
        ("sentiment", "expected {"),
        ({"task": "text"}, "expected {"),
        ("text.de", "no text of 'de'; expected the input pairs/de"),
        ("sentiment.de", "no tasks of 'de'; expected the input tasks/de"),
        ("sentiment.es", "no items to evaluate on"),
        ("arithmetic.es", "item 'c0': \"kind\" is 'choice'; arithmetic needs 'generation'"),
        ("causal_choice.es", "causal_choice.test.jsonl: file not found"),
    ],
)
def test_bad_tests_are_named(tasks, test, message):
    folder = tasks["es"]
    write_rows(folder, "sentiment", [])
    (folder / "causal_choice.test.jsonl").rename(folder / "arithmetic.test.jsonl")
    with pytest.raises(InputError, match=message):
        read_task_sets({**SPEC, "tests": [test]}, {}, tasks)


def test_different_labels_and_nothing_to_do_are_refused(model, tokenizer, folder, tasks, tmp_path):
    rows = [choice("s0", "p", ["a", "b"], 0), choice("s1", "p", ["b", "a"], 0)]
    write_rows(tasks["es"], "sentiment", rows)
    spec = {**SPEC, "tests": ["sentiment.es"]}
    with pytest.raises(InputError, match=r"sentiment.es, split test, item 's1': choices"):
        run(spec, folder, {}, tasks, tmp_path / "out")
    with pytest.raises(InputError, match="both are empty"):
        run({**SPEC, "tests": []}, folder, {}, tasks, tmp_path / "out")
    assert not (tmp_path / "out").exists()
