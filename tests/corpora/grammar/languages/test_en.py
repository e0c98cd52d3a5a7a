"""English forms, checked against a table written by hand."""

import pytest

from langmerge.corpora.grammar.language import Language
from langmerge.corpora.grammar.meaning import Clause, Meaning, NounPhrase
from langmerge.corpora.grammar.words import Features

ENGLISH = Language.load("en")
CAT = NounPhrase("cat", "sg", "the")


def say(*clauses, connective=None, **kwargs):
    return ENGLISH.render(Meaning(clauses, connective), **kwargs).text


@pytest.mark.parametrize(
    ("concept", "plural"),
    [
        ("cat", "cats"), ("man", "men"), ("woman", "women"), ("child", "children"), ("mouse", "mice"),
        ("wolf", "wolves"), ("thief", "thieves"), ("knife", "knives"), ("fox", "foxes"), ("bus", "buses"),
        ("box", "boxes"), ("city", "cities"), ("library", "libraries"), ("church", "churches"), ("boy", "boys"),
        ("key", "keys"), ("monkey", "monkeys"), ("donkey", "donkeys"), ("valley", "valleys"), ("tomato", "tomatoes"),
        ("bicycle", "bicycles"), ("cave", "caves"), ("judge", "judges"), ("orange", "oranges"), ("guest", "guests"),
    ],
)  # fmt: skip
def test_plurals(concept, plural):
    assert ENGLISH.noun(ENGLISH.lexicon.nouns[concept], Features(number="pl")) == plural


@pytest.mark.parametrize(
    ("concept", "third", "past"),
    [
        ("sleep", "sleeps", "slept"), ("run", "runs", "ran"), ("cry", "cries", "cried"), ("swim", "swims", "swam"),
        ("dance", "dances", "danced"), ("sing", "sings", "sang"), ("sit", "sits", "sat"), ("play", "plays", "played"),
        ("die", "dies", "died"), ("fall", "falls", "fell"), ("travel", "travels", "travelled"), ("see", "sees", "saw"),
        ("find", "finds", "found"), ("lose", "loses", "lost"), ("buy", "buys", "bought"), ("sell", "sells", "sold"),
        ("eat", "eats", "ate"), ("read", "reads", "read"), ("write", "writes", "wrote"),
        ("understand", "understands", "understood"), ("forget", "forgets", "forgot"), ("choose", "chooses", "chose"),
        ("wash", "washes", "washed"), ("break", "breaks", "broke"), ("steal", "steals", "stole"),
        ("hide", "hides", "hid"), ("carry", "carries", "carried"), ("draw", "draws", "drew"), ("know", "knows", "knew"),
        ("bite", "bites", "bit"), ("drive", "drives", "drove"), ("build", "builds", "built"),
        ("give", "gives", "gave"), ("send", "sends", "sent"), ("bring", "brings", "brought"),
        ("offer", "offers", "offered"), ("visit", "visits", "visited"), ("open", "opens", "opened"),
        ("admire", "admires", "admired"), ("show", "shows", "showed"), ("be", "is", "was"),
    ],
)  # fmt: skip
def test_third_person_and_past(concept, third, past):
    entry = ENGLISH.lexicon.verbs[concept]
    assert ENGLISH.verb(entry, Features()).finite == third
    assert ENGLISH.verb(entry, Features(tense="past")).finite == past


def test_be_and_do():
    forms = {p: say(Clause("be", NounPhrase(p, n), predicate="sad")) for p, n in
             (("i", "sg"), ("you", "sg"), ("we", "pl"), ("they", "pl"))}  # fmt: skip
    assert forms == {"i": "I am sad.", "you": "You are sad.", "we": "We are sad.", "they": "They are sad."}
    assert say(Clause("be", NounPhrase("i"), "past", predicate="sad")) == "I was sad."
    assert say(Clause("be", NounPhrase("you"), "past", True, predicate="sad")) == "You were not sad."
    assert say(Clause("sleep", CAT, negative=True)) == "The cat does not sleep."
    assert say(Clause("sleep", NounPhrase("i"), negative=True)) == "I do not sleep."
    assert say(Clause("sleep", CAT, "past", True)) == "The cat did not sleep."
    assert say(Clause("sleep", CAT, "future", True, time="soon")) == "The cat will not sleep soon."
    assert say(Clause("be", CAT, "future", predicate="big", time="soon")) == "The cat will be big soon."


def test_articles():
    apple, cake = NounPhrase("apple", "sg", "a"), NounPhrase("cake", "sg", "a")
    assert say(Clause("eat", CAT, object=apple)) == "The cat eats an apple."
    assert say(Clause("eat", CAT, object=cake)) == "The cat eats a cake."
    sweet, old = NounPhrase("apple", "sg", "a", "sweet"), NounPhrase("letter", "sg", "a", "old")
    assert say(Clause("eat", CAT, object=sweet)) == "The cat eats a sweet apple."
    assert say(Clause("read", CAT, object=old)) == "The cat reads an old letter."
    useful = NounPhrase("book", "sg", "a", "useful")
    assert say(Clause("read", CAT, object=useful)) == "The cat reads a useful book."
    honest = NounPhrase("man", "sg", "a", "honest")
    assert say(Clause("see", CAT, object=honest)) == "The cat sees an honest man."
    assert say(Clause("see", CAT, object=NounPhrase("apple", "pl", "a"))) == "The cat sees some apples."
    assert say(Clause("see", CAT, object=NounPhrase("apple", "pl", "this"))) == "The cat sees these apples."


def test_order_of_adverbs():
    assert say(Clause("sleep", CAT, manner="often")) == "The cat often sleeps."
    assert say(Clause("be", CAT, "past", predicate="big", manner="always")) == "The cat was always big."
    assert say(Clause("sleep", CAT, "future", manner="often", time="soon")) == "The cat will often sleep soon."
    place = ("in_front_of", NounPhrase("house", "sg", "my"))
    assert (
        say(Clause("sleep", CAT, "past", place=place, manner="quietly", time="last_week"))
        == "The cat slept quietly in front of my house last week."
    )


def test_two_clauses_and_recipients():
    man = NounPhrase("man", "pl", "two", "kind")
    give = Clause("give", CAT, "past", object=NounPhrase("key", "sg", "my"), recipient=man)
    text = say(give, Clause("sleep", NounPhrase("i"), "past"), connective="but")
    assert text == "The cat gave my key to two kind men, but I slept."


def test_minimal_pair():
    assert say(Clause("sleep", CAT), override={"verb": {"number": "pl"}}) == "The cat sleep."
