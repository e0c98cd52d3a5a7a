"""The engine's own behaviour, on a toy language that is declared here."""

from pathlib import Path

import pytest

from langmerge.corpora.grammar.language import Entry, Features, Language, VerbGroup, available, language_class
from langmerge.corpora.grammar.meaning import Clause, Meaning, NounPhrase
from langmerge.corpora.grammar.words import Word, assemble
from langmerge.corpora.grammar.world import World

WORLD = World.load()
ORDER = ["time", "subject", "verb", "recipient", "object", "place", "manner"]
CAT, MAN = NounPhrase("cat", "sg", "the"), NounPhrase("man", "pl", "a", "kind")
BOOK, GARDEN = NounPhrase("book", "sg", "two"), NounPhrase("garden", "sg", "this")


class Toy(Language):
    """Concepts for words; every feature that a rule may set is visible in the form."""

    def noun(self, entry: Entry, f: Features) -> str:
        return f"{entry['lemma']}-{f.number}{f.case and '-' + f.case}"

    def adjective(self, entry: Entry, f: Features) -> str:
        return f"{entry['lemma']}-{f.number}"

    def verb(self, entry: Entry, f: Features) -> VerbGroup:
        return VerbGroup(f"aux-{f.number}", (entry["lemma"],))

    def determiner(self, kind: str, f: Features) -> str:
        return kind


def toy(lexicon=None, **syntax):
    words = {
        "nouns": WORLD.noun_list, "adjectives": WORLD.adjectives, "verbs": [*WORLD.verbs, "be"],
        "adverbs": WORLD.adverbs, "relations": WORLD.relations, "connectives": WORLD.connectives,
    }  # fmt: skip
    entries = {section: {c: c.replace("_", "") for c in concepts} for section, concepts in words.items()}
    for section, extra in (lexicon or {}).items():
        entries[section].update(extra)
    data = {"language": {"code": "toy"}, "syntax": {"order": ORDER, **syntax}, "lexicon": entries}
    return Toy(data, WORLD, Path("toy.yaml"))


def say(language, *clauses, connective=None, **kwargs):
    return language.render(Meaning(clauses, connective), **kwargs).text


def test_order_and_default_places_of_the_rest():
    clause = Clause("read", CAT, object=MAN, time="now", place=("in", GARDEN))
    assert say(toy(), clause) == "Now the cat-sg aux-sg read a kind-pl man-pl in this garden-sg."
    sov = toy(order=["subject", "object", "place", "time", "manner", "recipient", "rest", "verb"])
    assert say(sov, clause) == "The cat-sg a kind-pl man-pl in this garden-sg now read aux-sg."


def test_adjective_determiner_and_adposition_may_follow():
    clause = Clause("wait", MAN, place=("in", GARDEN))
    after = toy(adjective="after", determiner="after", adposition="after")
    assert say(after, clause) == "Man-pl kind-pl a aux-pl wait garden-sg this in."
    entry = {"relations": {"in": {"lemma": "in", "position": "after"}}, "adjectives": {"kind": {"lemma": "kind"}}}
    assert say(toy(entry), clause) == "A kind-pl man-pl aux-pl wait this garden-sg in."


def test_verb_second_puts_the_verb_after_the_first_constituent_in_main_clauses_only():
    language = toy(
        verb_second=True, order=[*ORDER, "rest"],
        order_subordinate=["subject", "object", "recipient", "place", "manner", "time", "rest", "verb"],
    )  # fmt: skip
    main, sub = Clause("wait", CAT, time="now"), Clause("read", MAN, object=BOOK)
    text = say(language, main, sub, connective="because")
    assert text == "Now aux-sg the cat-sg wait because a kind-pl man-pl two book-sg read aux-pl."
    assert say(language, Clause("wait", CAT)) == "The cat-sg aux-sg wait."
    both = say(language, Clause("wait", CAT), sub, connective="and")
    assert both == "The cat-sg aux-sg wait and a kind-pl man-pl aux-pl two book-sg read."


def test_be_may_have_an_order_of_its_own():
    language = toy(order_be=["place", "subject", "object", "recipient", "manner", "time", "verb"])
    clause = {"subject": CAT, "time": "now", "place": ("in", GARDEN)}
    assert say(language, Clause("be", **clause)).startswith("In this garden-sg the cat-sg now ")
    assert say(language, Clause("wait", **clause)) == say(toy(), Clause("wait", **clause))


def test_a_verb_may_have_another_entry_for_persons():
    verbs = {"see": {"lemma": "see", "object": "acc", "of_person": "see_person"}, "see_person": {"lemma": "meet"}}
    language = toy({"verbs": verbs}, case_names=["acc"])
    assert say(language, Clause("see", CAT, object=BOOK)) == "The cat-sg aux-sg see two book-sg-acc."
    assert say(language, Clause("see", CAT, object=MAN)) == "The cat-sg aux-sg meet a kind-pl man-pl."


def test_the_first_case_rule_that_holds_counts():
    language = toy(
        cases={
            "subject": [{"if": {"tense": "past", "transitive": True}, "case": "erg"}, {"case": "nom"}],
            "object": [
                {"if": {"negative": True}, "case": "par"},
                {"if": {"animate": True, "subject_number": ["sg"]}, "case": "acc", "adposition": "to"},
                {"case": "nom"},
            ],
        }
    )
    man = NounPhrase("man", "sg", "the")
    assert say(language, Clause("see", CAT, "past", object=man)) == "The cat-sg-erg aux-sg see to the man-sg-acc."
    assert say(language, Clause("see", CAT, object=man)) == "The cat-sg-nom aux-sg see to the man-sg-acc."
    many = NounPhrase("dog", "pl", "the")
    assert say(language, Clause("see", many, object=man)) == "The dog-pl-nom aux-pl see the man-sg-nom."
    assert say(language, Clause("see", CAT, negative=True, object=man)).endswith("the man-sg-par.")


def test_a_verb_governs_a_case_or_an_adposition_and_outranks_the_rules():
    clause = Clause("help", CAT, object=BOOK)
    rules = {"cases": {"object": "acc"}, "case_names": ["odd"]}
    assert say(toy(**rules), clause).endswith("two book-sg-acc.")
    for governed, ending in (
        ("dative", "two book-sg-dative."), ("odd", "two book-sg-odd."), ("a", "a two book-sg."),
        ({"case": "gen", "adposition": "of"}, "of two book-sg-gen."),
    ):  # fmt: skip
        assert say(toy({"verbs": {"help": {"lemma": "help", "object": governed}}}, **rules), clause).endswith(ending)


def test_the_verb_agrees_with_what_the_rules_say():
    rules = [{"if": {"tense": "past", "object_number": "pl"}, "with": "object"}, {"with": "subject"}]
    clause = Clause("see", CAT, "past", object=MAN)
    assert "aux-pl" in say(toy(agreement=rules), clause)
    assert "aux-sg" in say(toy(agreement=rules), Clause("see", CAT, "present", object=MAN))
    assert "aux-sg" in say(toy(agreement="none"), Clause("see", MAN, object=CAT))


def test_numerals_force_features_on_the_noun_alone():
    two = NounPhrase("cat", "pl", "two", "lazy")
    assert say(toy(numerals={"number": "sg"}), Clause("wait", two)) == "Two lazy-sg cat-sg aux-pl wait."


def test_negation_pronouns_and_commas():
    language = toy({"connectives": {"but": {"lemma": "but", "comma": True}}}, negation="not", pro_drop=["i"])
    language.lexicon.pronouns = {c: {"lemma": c} for c in WORLD.pronouns}
    first = Clause("wait", NounPhrase("i"), negative=True)
    second = Clause("wait", NounPhrase("they", "pl"))
    assert say(language, first, second, connective="but") == "Not aux-sg wait, but they aux-pl wait."


def test_copulas_of_adjectives_and_places():
    lexicon = {"verbs": {"stand": "stand", "seem": "seem"}, "adjectives": {"sad": {"lemma": "sad", "copula": "seem"}}}
    language = toy(lexicon, copula_place="stand")
    assert say(language, Clause("be", CAT, predicate="sad")) == "The cat-sg aux-sg seem sad-sg."
    assert say(language, Clause("be", CAT, predicate="happy")) == "The cat-sg aux-sg be happy-sg."
    assert say(language, Clause("be", CAT, place=("near", GARDEN))) == "The cat-sg aux-sg stand near this garden-sg."


def test_override_changes_one_realisation_only():
    clause = Clause("see", CAT, object=MAN)
    text = say(toy(), clause, override={"verb": {"number": "pl"}})
    assert text == "The cat-sg aux-pl see a kind-pl man-pl."
    text = say(toy(), clause, override={"object.ADJ": {"number": "sg"}})
    assert text == "The cat-sg aux-sg see a kind-sg man-pl."


def test_fused_words_share_their_characters():
    words = [Word(t, r, "c", "X") for t, r in (("de", "p"), ("el", "d"), ("l'", "d"), ("ami", "n"))]
    sentence = assemble(words, lambda ws: ["del", "", *ws[2:]], str.upper, ".")
    assert sentence.text == "Del l'ami."
    assert [sentence.text[s.start : s.end] for s in sentence.spans] == ["Del", "Del", "l'", "ami"]


def test_words_of_several_tokens_have_a_span_each():
    sentence = assemble([Word("last week", "time", "last_week", "ADV")], lambda ws: ws, str.upper, ".")
    assert [(s.start, s.end, s.concept) for s in sentence.spans] == [(0, 4, "last_week"), (5, 9, "last_week")]


def test_contract_must_keep_the_number_of_words():
    with pytest.raises(ValueError, match="returned 1 texts for 2 words"):
        assemble([Word("a b", "r", "c", "X")], lambda ws: ["ab"], str.upper, ".")


@pytest.mark.parametrize(
    ("lexicon", "syntax", "message"),
    [
        ({}, {"order": ["subject", "verb"]}, r"toy\.yaml: syntax\.order: expected each slot once; missing"),
        ({}, {"order": [*ORDER, "verb"]}, r"toy\.yaml: syntax\.order"),
        ({}, {"cases": {"object": [{"when": 1}]}}, r"toy\.yaml: syntax\.cases\.object"),
        ({"nouns": {"cat": {"gender": "m"}}}, {}, r"toy\.yaml: lexicon\.nouns\.cat: expected a `lemma`"),
        ({"verbs": {"see": 3}}, {}, r"toy\.yaml: lexicon\.verbs\.see"),
    ],
)
def test_mistakes_in_a_file_are_named(lexicon, syntax, message):
    with pytest.raises(ValueError, match=message):
        toy(lexicon, **syntax)


def test_an_unknown_condition_is_named():
    language = toy(cases={"object": [{"if": {"animat": True}, "case": "acc"}]})
    with pytest.raises(ValueError, match=r"toy\.yaml: syntax: unknown condition `animat`"):
        say(language, Clause("see", CAT, object=MAN))


def test_loading_finds_file_and_class(tmp_path):
    assert language_class("en").__name__ == "English"
    assert {"en", "es"} <= set(available())
    with pytest.raises(ValueError, match=r"xx\.yaml: no such file; files there"):
        Language.load("xx")
    (tmp_path / "yy.yaml").write_text("language: {code: yy}\nsyntax: {}\nlexicon: {}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"no module langmerge\.corpora\.grammar\.languages\.yy"):
        Language.load("yy", tmp_path)
    (tmp_path / "zz.yaml").write_text("language: {code: zy}\nsyntax: {}\nlexicon: {}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="expected 'zz'"):
        Language.load("zz", tmp_path)
