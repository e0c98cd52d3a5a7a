"""Score a model in memory on items of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from langmerge.evaluation import choices, metrics
from langmerge.evaluation.task_sets import GENERATED, GROUP_METRICS, TASK_METRICS, TaskSet
from langmerge.tasks import Item

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SIGNATURES = {
    "minimal_pairs": {"accuracy": "accuracy|norm:none|ties:wrong", "accuracy_norm": "accuracy|norm:tokens|ties:wrong"},
    "sentiment": {"macro_f1": "macro_f1|classes:all|ties:first", "accuracy": "accuracy|norm:none|ties:first"},
    "causal_choice": {"accuracy": "accuracy|norm:none|ties:first"},
    "commonsense": {"accuracy": "accuracy|norm:none|ties:first"},
    "arithmetic": {"exact_match": "exact_match|number:last|separators:by language"},
    "question_answering": {
        name: f"{name}|squad|tok:unicode|articles:by language" for name in ("token_f1", "exact_match")
    },
}


@dataclass(frozen=True)
class TaskOutput:
    """What a model did on one test, and how well.

    ``rows`` are one JSON object an item. ``summary`` holds ``task``, ``language``, ``n``, ``metrics`` (name to
    ``score`` and ``signature``) and ``groups`` (group to ``n`` and ``score`` in :data:`GROUP_METRICS` or the main
    metric; empty where items have none), of minimal pairs also ``ties``, of text ``tokens`` and ``bytes``.
    ``statistics`` are the sufficient statistics (n, k) of each metric. ``read`` and ``written`` count tokens.
    """

    task_set: TaskSet
    rows: tuple[dict[str, Any], ...]
    summary: dict[str, Any]
    statistics: dict[str, np.ndarray]
    read: int
    written: int


@dataclass(frozen=True)
class _Answers:
    rows: list[dict[str, Any]]
    statistics: dict[str, np.ndarray]
    signatures: Mapping[str, str]
    read: int
    written: int = 0
    extra: Mapping[str, int] | None = None


def score_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task_sets: Sequence[TaskSet],
    decode: Mapping[str, Any],
) -> list[TaskOutput]:
    """Score ``model`` on all sets, on the device where it is.

    ``decode`` has ``batch_size`` (sequences at once), ``max_new_tokens`` and optionally ``cut``.
    """
    outputs = []
    for task_set in task_sets:
        if task_set.test.task == "text":
            found = _text(model, tokenizer, task_set.items, decode)
        elif task_set.test.task in GENERATED:
            found = _generated(model, tokenizer, task_set, decode)
        else:
            found = _chosen(model, tokenizer, task_set, decode)
        outputs.append(_output(task_set, found))
    return outputs


def _output(task_set: TaskSet, found: _Answers) -> TaskOutput:
    task, items = task_set.test.task, task_set.items
    assert list(found.statistics) == list(TASK_METRICS[task])
    scores = {
        name: {"score": float(metrics.score(name, table.sum(0))), "signature": found.signatures[name]}
        for name, table in found.statistics.items()
    }
    by = GROUP_METRICS.get(task, TASK_METRICS[task][0])
    groups = {}
    for group in dict.fromkeys(item.group for item in items if item.group):
        chosen = np.array([item.group == group for item in items])
        value = float(metrics.score(by, found.statistics[by][chosen].sum(0)))
        groups[group] = {"n": int(chosen.sum()), "score": value}
    summary = {
        "task": task,
        "language": task_set.test.language,
        "n": len(items),
        "metrics": scores,
        "groups": groups,
        **(found.extra or {}),
    }
    return TaskOutput(task_set, tuple(found.rows), summary, found.statistics, found.read, found.written)


def _text(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: Sequence[Item], decode: Mapping[str, Any]
) -> _Answers:
    from langmerge.evaluation import perplexity

    found = perplexity.text_likelihoods(model, tokenizer, [item.answer for item in items], decode["batch_size"])
    columns = (found.log_probabilities.tolist(), found.tokens.tolist(), found.bytes.tolist())
    rows = [
        {"id": item.id, "log_probability": value, "tokens": tokens, "bytes": size}
        for item, value, tokens, size in zip(items, *columns, strict=True)
    ]
    statistics = {"bits_per_byte": perplexity.text_statistics(found)}
    totals = {"tokens": int(found.tokens.sum()), "bytes": int(found.bytes.sum())}
    return _Answers(rows, statistics, {"bits_per_byte": perplexity.signature(model)}, found.read, extra=totals)


def _generated(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task_set: TaskSet, decode: Mapping[str, Any]
) -> _Answers:
    from langmerge.evaluation import generation, rouge, spans

    task, language = task_set.test
    found = generation.generate(
        model,
        tokenizer,
        [item.prompt for item in task_set.items],
        decode["batch_size"],
        decode["max_new_tokens"],
        decode.get("cut"),
    )
    answers = [item.answer for item in task_set.items]
    rows = [
        {"id": item.id, "answer": item.answer, "output": text}
        for item, text in zip(task_set.items, found.texts, strict=True)
    ]
    if task == "arithmetic":
        statistics = {"exact_match": generation.number_statistics(found.texts, answers, language)}
        signatures = SIGNATURES[task]
    elif task == "question_answering":
        statistics = spans.span_statistics(found.texts, answers, language)
        signatures = SIGNATURES[task]
    else:
        made = rouge.rouge_statistics(found.texts, answers, language)
        statistics = {name: made[name] for name in TASK_METRICS[task]}
        signatures = {name: rouge.signature(name) for name in statistics}
    return _Answers(rows, statistics, signatures, found.prompt_tokens, found.new_tokens)


def _chosen(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task_set: TaskSet, decode: Mapping[str, Any]
) -> _Answers:
    from langmerge.evaluation.likelihood import answer_likelihoods

    items, task = task_set.items, task_set.test.task
    gold = [item.gold for item in items]
    place = f"{task_set.test}, split {task_set.split}"
    classes = len(choices.classes_of(items, place)) if task == "sentiment" else 0
    pairs = [(item.prompt, choice) for item in items for choice in item.choices]
    found = answer_likelihoods(model, tokenizer, pairs, decode["batch_size"])
    scores = choices.split_by_item(items, found.log_probabilities)
    means = choices.split_by_item(items, found.log_probabilities / found.tokens)
    predicted = [choices.best(row) for row in scores]
    extra = None
    if task == "minimal_pairs":
        statistics = {
            "accuracy": choices.pair_statistics(gold, scores),
            "accuracy_norm": choices.pair_statistics(gold, means),
        }
        extra = {"ties": choices.ties(gold, scores)}
    else:
        statistics = {"accuracy": choices.choice_statistics(gold, predicted)}
        if task == "sentiment":
            statistics = {"macro_f1": choices.confusion_statistics(gold, predicted, classes), **statistics}
    rows = [
        {"id": item.id, "gold": item.gold, "chosen": choice, "log_probabilities": values.tolist()}
        for item, choice, values in zip(items, predicted, scores, strict=True)
    ]
    return _Answers(rows, statistics, SIGNATURES[task], found.read, extra=extra)
