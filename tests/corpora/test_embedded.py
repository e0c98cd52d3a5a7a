"""Sentence pairs of the embedded corpus: what the two languages' grammars say of the same meanings."""

import pytest

from langmerge.config import EmbeddedCorpus
from langmerge.corpora.embedded import Embedded
from langmerge.corpora.grammar.language import Language
from langmerge.corpora.grammar.world import GRAMMAR, World

CORPUS = EmbeddedCorpus(
    kind="embedded", train=60, dev=10, test=10, nouns=4, verbs=4, adjectives=6, two_clauses=False, grammar=str(GRAMMAR)
)
SPLITS = ("train", "dev", "test")


@pytest.mark.parametrize("pivot", ["en", "de"])
def test_either_side_is_the_grammars_sentence_of_the_same_meaning(pivot):
    """English sentences are made while meanings are drawn; another pivot's are not, and both are the grammar's."""
    embedded = Embedded(CORPUS, pivot, "es-relex50")
    world = World.load().restricted(4, 4, 6, False)
    sides = [Language.load(code, GRAMMAR / "languages", world) for code in (pivot, "es-relex50")]
    for split in SPLITS:
        pairs = list(embedded.pairs(split))
        expected = [tuple(side.render(meaning).text for side in sides) for meaning in embedded.splits[split]]
        assert [(pair.pivot, pair.target) for pair in pairs] == expected


def test_the_pivot_does_not_decide_what_is_said():
    english, german = (Embedded(CORPUS, pivot, "es") for pivot in ("en", "de"))
    assert english.splits == german.splits
