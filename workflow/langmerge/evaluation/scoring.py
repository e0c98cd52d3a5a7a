"""Score one system on its test sets: from texts (no torch) or from a model in memory; write the results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from langmerge.evaluation import language_id, metrics
from langmerge.evaluation.task_scoring import TaskOutput, score_tasks
from langmerge.evaluation.task_sets import TaskSet
from langmerge.evaluation.test_sets import TestSet
from langmerge.prompts import Prompt
from langmerge.provenance import InputError, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Output:
    """What a system wrote for one test set, and how good it is.

    ``summary`` holds ``n``, ``metrics`` (name to ``score`` in percent and ``signature``), the rates of
    :func:`~langmerge.evaluation.language_id.language_rates` and ``length_ratio``; ``statistics`` the
    sufficient statistics (n, k) of each metric.
    """

    test_set: TestSet
    hypotheses: tuple[str, ...]
    summary: dict[str, Any]
    statistics: dict[str, np.ndarray]


@dataclass(frozen=True)
class Scored:
    """The outputs of one system on all its test sets and tasks; tokens read and written if it was decoded here."""

    outputs: list[Output]
    prompt_tokens: int = 0
    new_tokens: int = 0
    tasks: list[TaskOutput] = field(default_factory=list)

    def summaries(self) -> dict[str, dict[str, Any]]:
        """Summary by split and direction or test: the content of ``scores.json``."""
        table: dict[str, dict[str, Any]] = {}
        for output in self.outputs:
            table.setdefault(output.test_set.split, {})[str(output.test_set.direction)] = output.summary
        for answered in self.tasks:
            table.setdefault(answered.task_set.split, {})[str(answered.task_set.test)] = answered.summary
        return table


def score_outputs(
    hypotheses: Sequence[str], test_set: TestSet, metric_names: Sequence[str], languages: Sequence[str]
) -> Output:
    """Score the hypotheses of one test set, in its order; :class:`InputError` if their number differs.

    ``languages`` are the codes that language identification chooses from (source and target are added).
    """
    if len(hypotheses) != len(test_set.ids):
        raise InputError(
            f"{test_set.split}, {test_set.direction}: {len(hypotheses)} hypotheses for "
            f"{len(test_set.ids)} references; expected one each"
        )
    source, target = test_set.direction
    statistics, scores = {}, {}
    for name in metric_names:
        metric = metrics.build(name, target)
        statistics[name] = metrics.statistics(metric, hypotheses, test_set.references)
        value = float(metrics.score(name, statistics[name].sum(0)))
        scores[name] = {"score": value, "signature": metrics.signature(metric)}
    # In characters, so that it does not depend on a tokenizer
    ratios = [len(h) / len(r) for h, r in zip(hypotheses, test_set.references, strict=True)]
    summary = {
        "source": source,
        "target": target,
        "n": len(hypotheses),
        "metrics": scores,
        "length_ratio": float(np.mean(ratios)),
        **language_id.language_rates(hypotheses, test_set.references, test_set.sources, source, target, languages),
    }
    return Output(test_set, tuple(hypotheses), summary, statistics)


def score_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    test_sets: Sequence[TestSet],
    spec: Mapping[str, Any],
    task_sets: Sequence[TaskSet] = (),
) -> Scored:
    """Translate all test sets with ``model``, on the device where it is, and score them; score it on all tasks.

    ``spec`` has ``decode`` (``batch_size``, ``max_new_tokens``, optionally ``max_length_ratio`` and ``cut``) and, for
    translation, ``prompt`` (fields of :class:`~langmerge.prompts.Prompt`), ``metrics`` and ``languages``.
    """
    tasks = score_tasks(model, tokenizer, task_sets, spec["decode"])
    outputs, prompt_tokens, new_tokens = _translated(model, tokenizer, test_sets, spec) if test_sets else ([], 0, 0)
    return Scored(
        outputs,
        prompt_tokens + sum(output.read for output in tasks),
        new_tokens + sum(output.written for output in tasks),
        tasks,
    )


def _translated(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    test_sets: Sequence[TestSet],
    spec: Mapping[str, Any],
) -> tuple[list[Output], int, int]:
    """The outputs, and the tokens read and written."""
    from langmerge.evaluation.translation import Request, translate_requests

    decode = spec["decode"]
    requests = [Request(sentence, *test.direction) for test in test_sets for sentence in test.sources]
    translations = translate_requests(
        model,
        tokenizer,
        Prompt(**spec["prompt"]),
        requests,
        batch_size=decode["batch_size"],
        max_new_tokens=decode["max_new_tokens"],
        max_length_ratio=decode.get("max_length_ratio"),
        cut=decode.get("cut"),
    )
    texts = iter(translations)
    outputs = [
        score_outputs([next(texts).text for _ in test.ids], test, spec["metrics"], spec["languages"])
        for test in test_sets
    ]
    return outputs, sum(t.prompt_tokens for t in translations), sum(t.new_tokens for t in translations)


def write(scored: Scored, folder: Path) -> None:
    """Write ``scores.json`` and, a split and test each, ``predictions/*.jsonl`` and ``statistics/*.npz``.

    The arrays of statistics are ``ids`` (n), the sufficient statistics (n, k) of each metric and, where items of a task
    have groups, ``groups`` (n).
    """
    write_json(folder / "scores.json", scored.summaries())
    for kind in ("predictions", "statistics"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for output in scored.outputs:
        test = output.test_set
        columns = zip(test.ids, test.sources, test.references, output.hypotheses, strict=True)
        rows = [{"id": i, "source": s, "reference": r, "hypothesis": h} for i, s, r, h in columns]
        _write_test(folder, f"{test.split}.{test.direction}", rows, output.statistics)
    for answered in scored.tasks:
        name = f"{answered.task_set.split}.{answered.task_set.test}"
        groups = [item.group for item in answered.task_set.items]
        own = {"groups": np.array(groups, dtype=np.str_)} if any(groups) else {}
        _write_test(folder, name, answered.rows, {**own, **answered.statistics})


def _write_test(
    folder: Path, name: str, rows: Sequence[Mapping[str, Any]], statistics: Mapping[str, np.ndarray]
) -> None:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (folder / "predictions" / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    arrays: dict[str, Any] = {"ids": np.array([row["id"] for row in rows], dtype=np.str_), **statistics}
    np.savez(folder / "statistics" / f"{name}.npz", **arrays)
