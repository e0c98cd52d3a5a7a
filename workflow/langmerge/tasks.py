"""Task items (``<task>.<split>.jsonl`` of a tasks folder): one reader and one tokenisation for training and scoring.

A row is one JSON object. Choice: ``id``, ``kind`` "choice", ``prompt``, ``choices``, ``gold`` (index of the right one),
``group``. Generation: ``id``, ``kind`` "generation", ``prompt``, ``answer``, ``group``.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langmerge.provenance import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Kind = Literal["choice", "generation"]

REMEMBERED = 2**14  # encoded items


@dataclass(frozen=True)
class Item:
    """One item of a task.

    ``answer`` is what the model ought to say: of a choice, ``choices[gold]``. A generation item has no ``choices`` and
    ``gold`` -1. ``group`` is the phenomenon or label that scores are also broken down by ("" for none). ``prompt`` is
    "" in minimal pairs, whose choices are whole sentences.
    """

    id: str
    kind: Kind
    prompt: str
    choices: tuple[str, ...]
    gold: int
    answer: str
    group: str


def file_of(folder: Path, task: str, split: str) -> Path:
    """Where the items of ``task`` and ``split`` stand in a tasks folder: ``<folder>/<task>.<split>.jsonl``."""
    return folder / f"{task}.{split}.jsonl"


def drawn(items: Sequence[Item], limit: int, seed: int = 0) -> list[Item]:
    """``limit`` of the items (all, if there are no more), in their order, evenly over groups and right answers.

    Each pair of ``group`` and ``gold`` (phenomenon, label, kind of question) gets the same number, give or take one;
    those that have fewer give all, and the others share what is left. Within a pair items are drawn without
    replacement, by a hash of ``seed`` and id: sets that are parallel by id get the same items in every language, and a
    smaller ``limit`` gives a part of what a larger one gives.
    """

    def chance(item: Item) -> bytes:
        return hashlib.sha256(f"{seed} {item.id}".encode()).digest()

    taken: Counter[tuple[str, int]] = Counter()
    turns: list[tuple[int, bytes, int]] = []
    for index in sorted(range(len(items)), key=lambda index: chance(items[index])):
        stratum = (items[index].group, items[index].gold)
        turns.append((taken[stratum], chance(items[index]), index))
        taken[stratum] += 1
    return [items[index] for index in sorted(index for _, _, index in sorted(turns)[:limit])]


def read_items(path: Path, limit: int | None = None) -> list[Item]:
    """The items of a file in its order, blank lines skipped; ``limit`` of them as :func:`drawn` (None: all).

    Raises :class:`InputError` naming file and line for a missing file, broken JSON, a missing or wrong field, fewer
    than two choices, a ``gold`` outside of them, an empty choice or answer, or an id that stands twice.
    """
    if not path.is_file():
        raise InputError(f"{path}: file not found; expected the items of a task, one JSON object a line")
    items: dict[str, Item] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    item = _item(line, f"{path}, line {number}")
                    if item.id in items:
                        raise InputError(f"{path}, line {number}: id {item.id!r} stands twice; ids must be unique")
                    items[item.id] = item
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason}); convert it with `iconv -t UTF-8`") from None
    found = list(items.values())
    return found if limit is None else drawn(found, limit)


def _item(line: str, place: str) -> Item:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{place}: not valid JSON ({error.msg}); expected one object a line") from None
    if not isinstance(row, dict):
        raise InputError(f"{place}: expected a JSON object, found {line.strip()[:60]!r}")

    def text(name: str, default: str | None = None) -> str:
        value = row.get(name, default)
        if not isinstance(value, str):
            raise InputError(f'{place}: "{name}" is missing or not text; expected a string')
        return value

    key, kind, prompt, group = text("id"), text("kind"), text("prompt"), text("group", "")
    if kind == "choice":
        choices, gold = _choices(row, place)
        return Item(key, "choice", prompt, choices, gold, choices[gold], group)
    if kind == "generation":
        answer = text("answer")
        if not answer.strip() or not prompt.strip():
            raise InputError(f'{place}: "prompt" or "answer" is empty; expected text in both (or remove the line)')
        return Item(key, "generation", prompt, (), -1, answer, group)
    raise InputError(f'{place}: "kind" is {kind!r}; expected "choice" or "generation"')


def _choices(row: dict[str, Any], place: str) -> tuple[tuple[str, ...], int]:
    choices, gold = row.get("choices"), row.get("gold")
    if not isinstance(choices, list) or len(choices) < 2:
        raise InputError(f'{place}: "choices" is missing or too short; expected a list of at least two texts')
    if any(not isinstance(choice, str) or not choice.strip() for choice in choices):
        raise InputError(f'{place}: one of "choices" is empty or not text; expected texts')
    if not isinstance(gold, int) or isinstance(gold, bool) or not 0 <= gold < len(choices):
        raise InputError(f'{place}: "gold" is {gold!r}; expected the index of the right one of {len(choices)} choices')
    return tuple(choices), gold


def encode(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str) -> tuple[list[int], int]:
    """``bos + prompt + answer + eos`` as token ids, and how many of them (bos included) come before the answer.

    Prompt and answer are tokenised apart, each as its text stands, so that a model is asked with exactly the prompt
    that it was trained on and the answer's span is exact. A space stands between them, as lm-evaluation-harness puts
    one there (``target_delimiter``), where neither has white space. Without a bos token in the tokenizer there is none
    here.
    """
    head: list[int] = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
    if prompt:
        head += tokenizer(prompt, add_special_tokens=False)["input_ids"]
        if answer and not prompt[-1].isspace() and not answer[0].isspace() and not _begins_words(tokenizer):
            answer = f" {answer}"
    body: list[int] = list(tokenizer(answer, add_special_tokens=False)["input_ids"])
    return [*head, *body, int(tokenizer.eos_token_id)], len(head)


@lru_cache(maxsize=REMEMBERED)
def encode_again(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str) -> tuple[tuple[int, ...], int]:
    """:func:`encode`, remembered: a sweep asks each merge the same items, and up to a quarter of its time was this."""
    ids, start = encode(tokenizer, prompt, answer)
    return tuple(ids), start


@lru_cache(maxsize=8)
def _begins_words(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer reads each text as if a space stood before it, as ours and Llama 2's do."""
    return tokenizer.tokenize("a")[0].startswith(("\u0120", "\u2581"))  # a space of byte-level BPE, of SentencePiece
