"""What holds for every language that has a file, transforms included."""

import re
import unicodedata
from random import Random

import pytest

from langmerge.corpora.grammar.language import Language, available
from langmerge.corpora.grammar.lexicon import read_yaml
from langmerge.corpora.grammar.meaning import sample
from langmerge.corpora.grammar.world import GRAMMAR, World

WORLD = World.load()
NATURAL = available()
ALL = available(transforms=True)
SCRIPTS = {"Latin": "LATIN", "Cyrillic": "CYRILLIC", "Devanagari": "DEVANAGARI", "Georgian": "GEORGIAN"}


def draw(n, seed=11):
    rng = Random(seed)
    return [sample(WORLD, rng) for _ in range(n)]


@pytest.fixture(scope="module", params=ALL)
def language(request):
    return Language.load(request.param)


def test_sentences_are_well_formed(language):
    for meaning in draw(300):
        text = language.render(meaning).text
        assert unicodedata.is_normalized("NFC", text)
        assert text == text.strip() and "  " not in text
        assert text.endswith(language.syntax.final) and not re.search(r"\s[.,।]", text)
        assert not text[0].islower() or text[0].upper() == text[0]


def test_letters_are_of_the_declared_script(language):
    name = SCRIPTS[language.about["script"]]
    letters = {c for m in draw(300) for c in language.render(m).text if c.isalpha()}
    assert {c for c in letters if not unicodedata.name(c).startswith(name)} == set()


def test_spans_cover_every_word(language):
    for meaning in draw(300):
        sentence = language.render(meaning)
        covered = set()
        for span in sentence.spans:
            word = sentence.text[span.start : span.end]
            assert word and " " not in word
            covered.update(range(span.start, span.end))
        left = {c for i, c in enumerate(sentence.text) if i not in covered}
        assert left <= set(" ,.।"), (sentence.text, left)
        assert [s.start for s in sentence.spans] == sorted(s.start for s in sentence.spans)


def test_spans_name_every_concept_of_the_meaning(language):
    for meaning in draw(300):
        found = {(s.clause, s.role, s.concept) for s in language.render(meaning).spans}
        concepts = {(clause, concept) for clause, _, concept in found}
        for index, clause in enumerate(meaning.clauses):
            for role, np in clause.noun_phrases():
                assert np.pronoun or (index, role, np.concept) in found
                assert np.adjective is None or (index, role, np.adjective) in found
            for concept in (clause.predicate, clause.manner, clause.time):
                assert concept is None or (index, concept) in concepts
            assert clause.verb == "be" or (index, clause.verb) in concepts


def test_rendering_is_deterministic(language):
    again = Language.load(language.code)
    assert all(language.render(m) == again.render(m) for m in draw(100))


def test_distinct_meanings_are_distinct_sentences(language):
    meanings = {m.key(): m for m in draw(3000)}.values()
    texts = {language.render(m).text for m in meanings}
    # Without agreement number is said by the noun alone, so that sentences coincide a little more often.
    bound = 0.99 if language.code in NATURAL else 0.98
    assert len(texts) / len(meanings) > bound


def tenses(concept):
    return {tense for tense, adverbs in WORLD.times.items() if concept in adverbs}


@pytest.mark.parametrize("code", NATURAL)
def test_no_word_stands_for_two_concepts(code):
    lexicon = Language.load(code).lexicon
    concepts = {
        "nouns": WORLD.noun_list, "adjectives": WORLD.adjectives, "verbs": WORLD.verbs, "adverbs": WORLD.adverbs
    }  # fmt: skip
    for section, needed in concepts.items():
        by_lemma = {}
        for concept in needed:
            other = by_lemma.setdefault(getattr(lexicon, section)[concept]["lemma"], concept)
            # Hindi कल is yesterday and tomorrow: the tense says which.
            told_apart = section == "adverbs" and tenses(concept) and not tenses(concept) & tenses(other)
            assert other == concept or told_apart, f"{code}: {section}: {other} and {concept} share a word"


@pytest.mark.parametrize("code", NATURAL)
@pytest.mark.parametrize("section", ["nouns", "verbs"])
def test_a_missing_entry_is_named(code, section, tmp_path):
    data = read_yaml(GRAMMAR / "languages" / f"{code}.yaml")
    concept = "cat" if section == "nouns" else "sleep"
    lexicon = {**data["lexicon"], section: {k: v for k, v in data["lexicon"][section].items() if k != concept}}
    path = tmp_path / f"{code}.yaml"
    with pytest.raises(ValueError, match=rf"{code}\.yaml: lexicon\.{section} lacks {concept}"):
        type(Language.load(code))({**data, "lexicon": lexicon}, WORLD, path)
