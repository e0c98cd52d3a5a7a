"""Tests of tasks in a language ("sentiment.es"), and the items that they are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from langmerge.pairs import read_column
from langmerge.provenance import InputError
from langmerge.tasks import Item, file_of, read_items

# Task to metrics, the main one first; groups of items are scored by what stands in GROUP_METRICS, else by the main one.
TASK_METRICS: dict[str, tuple[str, ...]] = {
    "text": ("bits_per_byte",),
    "minimal_pairs": ("accuracy", "accuracy_norm"),
    "sentiment": ("macro_f1", "accuracy"),
    "causal_choice": ("accuracy",),
    "commonsense": ("accuracy",),
    "arithmetic": ("exact_match",),
    "summarization": ("rouge_l", "rouge_1", "rouge_2"),
    "question_answering": ("token_f1", "exact_match"),
}
GROUP_METRICS = {"sentiment": "accuracy"}  # a group is a label there: its accuracy is the label's recall
GENERATED = ("arithmetic", "summarization", "question_answering")


class TaskTest(NamedTuple):
    """A task in a language; as a string ``sentiment.es``."""

    task: str
    language: str

    def __str__(self) -> str:
        return f"{self.task}.{self.language}"


@dataclass(frozen=True)
class TaskSet:
    """The n items of one split and test, in the order of the file; of ``text`` the documents, as answers to nothing."""

    split: str
    test: TaskTest
    items: tuple[Item, ...]


def is_task_test(value: Any) -> bool:
    """Whether a test of a spec is one of a task, by its form: a mapping with "task", or a name with a point."""
    return "task" in value if isinstance(value, Mapping) else isinstance(value, str) and "." in value


def parse_task_test(value: Mapping[str, str] | str) -> TaskTest:
    """A test from ``{"task": "sentiment", "language": "es"}`` or ``"sentiment.es"``; else :class:`InputError`."""
    if isinstance(value, Mapping) and set(value) == {"task", "language"}:
        test = TaskTest(value["task"], value["language"])
    elif isinstance(value, str) and value.count(".") == 1:
        test = TaskTest(*value.split("."))
    else:
        raise InputError(f'test {value!r}: expected {{"task": "sentiment", "language": "es"}} or "sentiment.es"')
    if test.task not in TASK_METRICS or not test.language:
        raise InputError(f"test {str(test)!r}: expected one of {', '.join(TASK_METRICS)} and a language code")
    return test


def _documents(test: TaskTest, split: str, limit: int | None, pairs: Mapping[str, Path], pivot: str) -> list[Item]:
    folder = pairs.get(test.language)
    if folder is None and test.language == pivot:
        folder = next(iter(pairs.values()), None)  # every corpus has the pivot's sentences
    if folder is None:
        raise InputError(f"test {test}: no text of {test.language!r}; expected the input pairs/{test.language}")
    rows = list(read_column(folder / f"{split}.jsonl", test.language).items())[:limit]
    return [Item(key, "generation", "", (), -1, text, "") for key, text in rows]


def _task_items(test: TaskTest, split: str, limit: int | None, tasks: Mapping[str, Path]) -> list[Item]:
    if test.language not in tasks:
        raise InputError(f"test {test}: no tasks of {test.language!r}; expected the input tasks/{test.language}")
    path = file_of(tasks[test.language], test.task, split)
    items = read_items(path, limit)
    kind = "generation" if test.task in GENERATED else "choice"
    for item in items:
        if item.kind != kind:
            raise InputError(f'{path}, item {item.id!r}: "kind" is {item.kind!r}; {test.task} needs {kind!r}')
    return items


def read_task_sets(spec: Mapping[str, Any], pairs: Mapping[str, Path], tasks: Mapping[str, Path]) -> list[TaskSet]:
    """All items of an evaluation: each of ``spec["splits"]`` (name to limit or null: all), each of ``spec["tests"]``.

    ``pairs`` maps languages to their corpora (of the task "text"), ``tasks`` to their folders of items. Raises
    :class:`InputError` if a file is missing or wrong, or nothing is left.
    """
    found = []
    for split, limit in spec["splits"].items():
        for test in map(parse_task_test, spec.get("tests", [])):
            if test.task == "text":
                items = _documents(test, split, limit, pairs, spec["pivot"])
            else:
                items = _task_items(test, split, limit, tasks)
            if not items:
                raise InputError(f"test {test}, split {split}: no items to evaluate on; check the file and the limit")
            found.append(TaskSet(split, test, tuple(items)))
    return found
