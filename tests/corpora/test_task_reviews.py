"""Reviews: the verdict follows from the text by a rule written here, and not from its words alone."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from langmerge.corpora.grammar.corpus import held_out_combinations
from langmerge.corpora.grammar.drawing import Guard, draw_contents, rows
from langmerge.corpora.grammar.language import Language
from langmerge.corpora.grammar.phrases import Phrases
from langmerge.corpora.grammar.reviews import Reviews
from langmerge.corpora.grammar.world import World

GRAMMAR = Path(__file__).resolve().parents[2] / "data" / "grammar"
POLARITY = {
    concept: entry["polarity"]
    for concept, entry in yaml.safe_load((GRAMMAR / "world.yaml").read_text(encoding="utf-8"))["adjectives"].items()
}
OPINION = {"love": 1, "loves": 1, "admire": 1, "admires": 1, "hate": -1, "hates": -1}


def verdict(text):
    """-1, 0 or 1 for an English review."""
    total = 0
    for sentence in text.removeprefix("Review: ").removesuffix(" Verdict:").rstrip(".").split(". "):
        clause = sentence.split(", but ")[-1]
        described = re.fullmatch(r".* (?:is|are|am) (not )?(\w+)", clause)
        opinion = re.fullmatch(r".*?(?: (do|does) not)? (love|loves|admire|admires|hate|hates) .*", clause)
        if described:
            total += POLARITY[described[2]] * (-1 if described[1] else 1)
        elif opinion:
            total += OPINION[opinion[2]] * (-1 if opinion[1] else 1)
    return (total > 0) - (total < 0)


@pytest.fixture(scope="module", params=[2, 3])
def reviews(request):
    world = World.load()
    data = yaml.safe_load((GRAMMAR / "tasks" / "world.yaml").read_text(encoding="utf-8"))
    task = Reviews(world, data, request.param)
    guard = Guard(held_out_combinations(world, 0.1), 1, 1)
    english, phrases = Language.load("en"), Phrases.load("en")
    contents = draw_contents(task, {"train": 2100, "test": 600}, guard, english)
    made = {split: list(rows(task, contents[split], split, english, phrases)) for split in contents}
    return request.param, made


def test_the_verdict_follows_from_the_text(reviews):
    classes, made = reviews
    signs = [-1, 1] if classes == 2 else [-1, 0, 1]
    for row in made["train"]:
        assert signs[row["gold"]] == verdict(row["prompt"]), row["prompt"]
        assert 2 <= row["prompt"].count(".") <= 3


def test_the_rule_reads_negation_but_and_bystanders():
    assert verdict("Review: The hotel is not clean, but the rooms are not ugly. Verdict:") == 1
    assert verdict("Review: The honest man saw this book yesterday. The book is boring. Verdict:") == -1
    assert verdict("Review: I do not hate the king. The king is lazy. Verdict:") == 0


def test_no_bag_of_words_reaches_the_rule(reviews):
    """Logistic regression on word counts, trained to convergence, stays far from the rule's 100 percent."""
    classes, made = reviews
    words = {word: i for i, word in enumerate(sorted({w for r in made["train"] for w in split_words(r)}))}

    def counts(part):
        x = np.zeros((len(part), len(words) + 1))
        x[:, -1] = 1
        for i, row in enumerate(part):
            for word in split_words(row):
                if word in words:
                    x[i, words[word]] += 1
        return x

    x, gold = counts(made["train"]), np.array([row["gold"] for row in made["train"]])
    weights = np.zeros((x.shape[1], classes))
    for _ in range(400):
        scores = np.exp(x @ weights - (x @ weights).max(1, keepdims=True))
        p = scores / scores.sum(1, keepdims=True)
        weights -= 0.5 * (x.T @ (p - np.eye(classes)[gold]) / len(x) + 1e-4 * weights)
    accuracy = np.mean((counts(made["test"]) @ weights).argmax(1) == [row["gold"] for row in made["test"]])
    assert 0.9 / classes < accuracy < 0.8


def split_words(row):
    return re.findall(r"\w+", row["prompt"].lower())


def test_every_kind_of_evidence_occurs(reviews):
    _, made = reviews
    shares = {kind: np.mean([row["group"] == kind for row in made["test"]]) for kind in ("plain", "negated", "but")}
    assert min(shares.values()) > 0.1 and sum(shares.values()) == pytest.approx(1)


def test_reviews_without_negation_and_but_are_plain():
    world = World.load()
    data = yaml.safe_load((GRAMMAR / "tasks" / "world.yaml").read_text(encoding="utf-8"))
    guard = Guard(frozenset(), 1, 1)
    for shares, kinds in (({"negated": 0, "but": 0}, {"plain"}), ({"negated": 0.0, "but": 1.0}, {"but"})):
        task = Reviews(world, data, 2, shares)
        contents = draw_contents(task, {"test": 60}, guard, Language.load("en"))["test"]
        made = list(rows(task, contents, "test", Language.load("en"), Phrases.load("en")))
        assert {row["group"] for row in made} == kinds
        assert not any(" not " in row["prompt"] for row in made)
        assert all([-1, 1][row["gold"]] == verdict(row["prompt"]) for row in made)
