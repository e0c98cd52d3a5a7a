"""Which of several answers a model finds most likely: minimal pairs, causal choice, classification.

Statistics (n, k) of n items whose sums give the score through :func:`langmerge.evaluation.metrics.score`: (hit, 1) for
accuracies, the one-hot confusion matrix for macro-F1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from langmerge.provenance import InputError
from langmerge.tasks import Item


def best(scores: Sequence[float] | np.ndarray) -> int:
    """Index of the highest score; of equal ones the first."""
    return int(np.argmax(scores))


def pair_statistics(gold: Sequence[int], scores: Sequence[np.ndarray]) -> np.ndarray:
    """(hit, 1) of items scored as minimal pairs (n, 2): right if the good one scores strictly higher than all others.

    A tie is wrong, as BLiMP (arXiv 1912.00582) and MultiBLiMP (arXiv 2504.02768) count it. lm-evaluation-harness takes
    the first of equal choices, there the good one, so its accuracy is ours plus :func:`ties` / n. Sentences are scored
    as they stand, as by its task `multiblimp`; its task `blimp` leaves `target_delimiter` at the default and so puts a
    space before each, with which some tokenizers split the first word otherwise.
    """
    hits = [float((np.delete(row, g) < row[g]).all()) for g, row in zip(gold, scores, strict=True)]
    return np.column_stack([hits, np.ones(len(hits))])


def ties(gold: Sequence[int], scores: Sequence[np.ndarray]) -> int:
    """Items in which another choice scores exactly as high as the right one and none higher."""
    rows = zip(gold, scores, strict=True)
    return sum(bool((np.delete(row, g) == row[g]).any() and row.max() == row[g]) for g, row in rows)


def choice_statistics(gold: Sequence[int], predicted: Sequence[int]) -> np.ndarray:
    """(hit, 1) of items (n, 2)."""
    hits = np.asarray(gold) == np.asarray(predicted)
    return np.column_stack([hits, np.ones(len(hits))]).astype(np.float64)


def confusion_statistics(gold: Sequence[int], predicted: Sequence[int], classes: int) -> np.ndarray:
    """One-hot confusion matrices (n, classes^2), row-major: row the right class, column the chosen one."""
    table = np.zeros((len(gold), classes * classes))
    table[np.arange(len(gold)), np.asarray(gold) * classes + np.asarray(predicted)] = 1
    return table


def classes_of(items: Sequence[Item], place: str) -> tuple[str, ...]:
    """The choices that all items share; :class:`InputError` if they differ, for then there are no classes to count."""
    for item in items:
        if item.choices != items[0].choices:
            raise InputError(
                f"{place}, item {item.id!r}: choices {list(item.choices)} differ from those of the first item, "
                f"{list(items[0].choices)}; expected the same list, in the same order, in every row"
            )
    return items[0].choices


def split_by_item(items: Sequence[Item], values: np.ndarray) -> list[np.ndarray]:
    """Values of all choices, one after another, as one array an item."""
    bounds = np.cumsum([len(item.choices) for item in items])[:-1]
    return list(np.split(values, bounds))
