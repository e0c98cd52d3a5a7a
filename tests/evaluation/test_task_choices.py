"""Choosing between answers: ties, accuracies, macro-F1."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from langmerge.evaluation import choices
from langmerge.evaluation.metrics import LOWER_IS_BETTER, SCORES, oriented, score
from langmerge.evaluation.significance import interval
from langmerge.provenance import InputError
from langmerge.tasks import Item


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_macro_f1_and_accuracy_are_those_of_scikit_learn(seed, classes):
    """Also where a class is missing, and for any resample of the items."""
    draw = np.random.default_rng([seed, classes])
    gold, predicted = draw.integers(classes, size=(2, draw.integers(1, 25)))
    confusion = choices.confusion_statistics(gold, predicted, classes)
    hits = choices.choice_statistics(gold, predicted)
    for chosen in (np.arange(len(gold)), draw.integers(len(gold), size=len(gold))):
        options = {"labels": list(range(classes)), "average": "macro", "zero_division": 0}
        expected = f1_score(gold[chosen], predicted[chosen], **options)
        assert float(score("macro_f1", confusion[chosen].sum(0))) == pytest.approx(100 * expected)
        accuracy = accuracy_score(gold[chosen], predicted[chosen])
        assert float(score("accuracy", hits[chosen].sum(0))) == pytest.approx(100 * accuracy)
    many = np.stack([confusion.sum(0), 3 * confusion.sum(0)])
    assert score("macro_f1", many) == pytest.approx([float(score("macro_f1", confusion.sum(0)))] * 2)


def test_a_tie_of_a_minimal_pair_is_wrong_and_counted():
    scores = [np.array(row) for row in ([-1.0, -2.0], [-1.0, -1.0], [-3.0, -1.0], [-1.0, -1.0, 0.0])]
    gold = [0, 0, 0, 0]
    assert choices.pair_statistics(gold, scores).tolist() == [[1, 1], [0, 1], [0, 1], [0, 1]]
    assert choices.ties(gold, scores) == 1
    assert choices.best(scores[1]) == 0


def test_classes_must_be_those_of_every_item():
    def item(key, *labels):
        return Item(key, "choice", "p", labels, 0, labels[0], "")

    assert choices.classes_of([item("a", "x", "y"), item("b", "x", "y")], "here") == ("x", "y")
    with pytest.raises(InputError, match=r"here, item 'b': choices \['y', 'x'\] differ"):
        choices.classes_of([item("a", "x", "y"), item("b", "y", "x")], "here")


def test_scores_stand_by_item_whatever_the_number_of_choices():
    items = [Item(str(n), "choice", "", ("c",) * n, 0, "c", "") for n in (2, 4, 3)]
    rows = choices.split_by_item(items, np.arange(9.0))
    assert [row.tolist() for row in rows] == [[0, 1], [2, 3, 4, 5], [6, 7, 8]]


def test_empty_sums_score_zero_and_orientation_turns_the_sign():
    assert float(score("accuracy", np.zeros(2))) == float(score("macro_f1", np.zeros(9))) == 0
    assert set(LOWER_IS_BETTER) <= set(SCORES)
    assert oriented("bits_per_byte", 2.0) == -2 and oriented("accuracy", 2.0) == 2


# ---- intervals -----------------------------------------------------------------------------------------------------


def test_the_interval_of_a_share_is_that_of_the_binomial():
    """A bootstrap of n hits draws from the binomial distribution of their share."""
    hits = np.column_stack([np.arange(400) < 300, np.ones(400)]).astype(float)
    low, high = interval("accuracy", hits, 4000, 1)
    error = 100 * np.sqrt(0.75 * 0.25 / 400)
    assert low == pytest.approx(75 - 1.96 * error, abs=0.6) and high == pytest.approx(75 + 1.96 * error, abs=0.6)
    assert (low, high) == interval("accuracy", hits, 4000, 1)
    assert interval("accuracy", hits, 20, 1) != interval("accuracy", hits, 20, 2)
    narrow = interval("accuracy", hits, 4000, 1, level=0.5)
    assert low < narrow[0] < 75 < narrow[1] < high


def test_the_interval_of_equal_items_is_a_point():
    statistics = np.tile([3.0, 2.0], (10, 1))
    low, high = interval("bits_per_byte", statistics, 50, 0)
    assert low == pytest.approx(high) == pytest.approx(1.5 / np.log(2))
