"""Meanings respect the world; the world is checked when it is read."""

from collections import Counter
from random import Random

import pytest
import yaml

from langmerge.corpora.grammar.meaning import Clause, Meaning, NounPhrase, sample
from langmerge.corpora.grammar.world import GRAMMAR, World

WORLD = World.load()


@pytest.fixture(scope="module")
def drawn():
    rng = Random(7)
    return [sample(WORLD, rng) for _ in range(4000)]


def declared():
    return yaml.safe_load((GRAMMAR / "world.yaml").read_text(encoding="utf-8"))


def expand(members, nouns=declared()["nouns"]):  # noqa: B008
    return {n for m in members for n in nouns.get(m, [m])}


def test_roles_are_filled_by_what_the_file_allows(drawn):
    data = declared()
    verbs = {v: d for frame in data["verbs"].values() for v, d in frame.items()}
    allowed = {v: {r: expand(d[r]) for r in ("subject", "object", "recipient") if r in d} for v, d in verbs.items()}
    for clause in (c for m in drawn for c in m.clauses if c.verb != "be"):
        roles = {"subject": clause.subject, "object": clause.object, "recipient": clause.recipient}
        assert {r for r, np in roles.items() if np} == set(allowed[clause.verb])
        for role, np in roles.items():
            if np and not np.pronoun:
                assert np.concept in allowed[clause.verb][role]
        if clause.subject.pronoun:
            assert "person" in verbs[clause.verb]["subject"]
        assert not clause.place or verbs[clause.verb].get("place")
        without = verbs[clause.verb].get("without", [])
        assert clause.time not in without and clause.manner not in without


def test_adjectives_describe_what_the_file_allows(drawn):
    describes = {a: expand(d["describes"]) for a, d in declared()["adjectives"].items()}
    for clause in (c for m in drawn for c in m.clauses):
        for _, np in clause.noun_phrases():
            assert np.adjective is None or np.concept in describes[np.adjective]
        if clause.predicate:
            subject = "man" if clause.subject.pronoun else clause.subject.concept
            assert subject in describes[clause.predicate]
            assert clause.subject.adjective is None


def test_times_suit_tenses_and_the_future_has_one(drawn):
    times = declared()["adverbs"]["time"]
    for clause in (c for m in drawn for c in m.clauses):
        assert clause.time is None or clause.tense in times[clause.time]
        assert clause.tense != "future" or clause.time


def test_no_noun_occurs_twice_and_places_suit_relations(drawn):
    places = set(declared()["nouns"]["place"])
    for meaning in drawn:
        nouns = [np.concept for c in meaning.clauses for _, np in c.noun_phrases() if not np.pronoun]
        assert len(nouns) == len(set(nouns))
        for clause in meaning.clauses:
            if clause.place and clause.place[0] == "in":
                assert clause.place[1].concept in places


def test_numbers_and_determiners_agree(drawn):
    for _, np in (pair for m in drawn for c in m.clauses for pair in c.noun_phrases()):
        assert (np.determiner == "") == np.pronoun
        assert np.determiner not in ("two", "five") or np.number == "pl"


def test_shares_are_as_intended(drawn):
    clauses = [c for m in drawn for c in m.clauses]
    phrases = [np for c in clauses if not c.predicate for _, np in c.noun_phrases() if not np.pronoun]
    assert 0.15 < sum(len(m.clauses) == 2 for m in drawn) / len(drawn) < 0.21
    assert 0.12 < sum(c.negative for c in clauses) / len(clauses) < 0.18
    assert 0.32 < sum(np.adjective is not None for np in phrases) / len(phrases) < 0.38
    assert {c.tense for c in clauses} == {"past", "present", "future"}
    assert {m.connective for m in drawn} == {None, "and", "but", "because"}


def test_every_concept_is_used():
    rng = Random(3)
    used = Counter(m.to_dict().__repr__() for m in (sample(WORLD, rng) for _ in range(6000)))
    text = " ".join(used)
    concepts = [*WORLD.noun_list, *WORLD.adjectives, *WORLD.verbs, *WORLD.adverbs, *WORLD.relations]
    assert [c for c in concepts if f"'{c}'" not in text] == []


def test_key_is_canonical_and_dict_is_inverse(drawn):
    assert all(Meaning.from_dict(m.to_dict()) == m for m in drawn)
    by_key = {}
    for meaning in drawn:
        assert by_key.setdefault(meaning.key(), meaning) == meaning
    assert len(by_key) == len(set(drawn))


def test_content_ignores_features_but_not_concepts():
    cat = NounPhrase("cat", "sg", "the")
    base = Meaning((Clause("sleep", cat, "past"),))
    other = Meaning((Clause("sleep", NounPhrase("cat", "pl", "two"), "present", negative=True),))
    assert base.content() == other.content() and base.key() != other.key()
    assert base.content() != Meaning((Clause("run", cat, "past"),)).content()
    assert base.content() != Meaning((Clause("sleep", cat, "past", manner="quietly"),)).content()


def test_sampling_depends_on_the_seed_alone():
    one, two = Random(5), Random(5)
    assert [sample(WORLD, one) for _ in range(50)] == [sample(WORLD, two) for _ in range(50)]


def test_a_restricted_world_holds_the_first_of_each_kind_and_still_speaks():
    small = WORLD.restricted(nouns=3, verbs=4, adjectives=8)
    assert small.noun_list[:3] == WORLD.noun_list[:3]
    assert all(len(members) <= 3 for members in small.nouns.values())
    assert len(small.adjectives) == 8 and len(small.verbs) <= 12
    rng = Random(0)
    for meaning in (sample(small, rng) for _ in range(500)):
        for clause in meaning.clauses:
            assert clause.verb == "be" or clause.verb in small.verbs
            for _, np in clause.noun_phrases():
                assert np.pronoun or np.concept in small.noun_list
                assert np.adjective is None or np.adjective in small.adjectives


def test_a_world_of_one_noun_a_class_never_repeats_it():
    small = WORLD.restricted(nouns=1)
    rng = Random(0)
    for meaning in (sample(small, rng) for _ in range(300)):
        nouns = [np.concept for c in meaning.clauses for _, np in c.noun_phrases() if not np.pronoun]
        assert len(nouns) == len(set(nouns))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("verbs", "intransitive", "sleep", "subject"), ["persn"], "verbs.sleep.subject: persn"),
        (("adjectives", "big", "describes"), ["cat", "cta"], "adjectives.big: cta"),
        (("verbs", "transitive", "see", "object"), None, "verbs.see"),
        (("adverbs", "time", "soon"), ["futur"], "adverbs.time.soon"),
        (("relations",), [], "`relations` is missing or empty"),
    ],
)
def test_errors_name_file_and_key(tmp_path, path, value, message):
    data = declared()
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    file = tmp_path / "world.yaml"
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    with pytest.raises(ValueError, match=r"world\.yaml") as error:
        World.load(file)
    assert message in str(error.value)
