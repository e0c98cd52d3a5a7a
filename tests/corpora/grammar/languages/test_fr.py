"""French forms and sentences that a native reader knows to be right."""

from itertools import pairwise
from random import Random

import pytest

from langmerge.corpora.grammar.language import Language
from langmerge.corpora.grammar.languages import fr
from langmerge.corpora.grammar.meaning import Clause, Meaning, sample
from langmerge.corpora.grammar.meaning import NounPhrase as NP
from langmerge.corpora.grammar.world import World


@pytest.fixture(scope="module")
def french():
    return Language.load("fr")


def say(language, *clauses, connective=None):
    return language.render(Meaning(clauses, connective)).text


@pytest.mark.parametrize(
    ("concept", "form"),
    [
        ("cat", "chats"), ("horse", "chevaux"), ("newspaper", "journaux"), ("hospital", "hôpitaux"),
        ("bird", "oiseaux"), ("cake", "gâteaux"), ("office", "bureaux"), ("mouse", "souris"),
        ("bear", "ours"), ("walnut", "noix"), ("bus", "bus"), ("egg", "œufs"), ("judge", "juges"),
    ],
)  # fmt: skip
def test_plural(french, concept, form):
    assert fr.plural(french.lexicon.nouns[concept]["lemma"]) == form


@pytest.mark.parametrize(
    ("concept", "forms"),
    [
        ("big", "grand grande grands grandes"),
        ("old", "vieux vieille vieux vieilles"),
        ("new", "nouveau nouvelle nouveaux nouvelles"),
        ("beautiful", "beau belle beaux belles"),
        ("white", "blanc blanche blancs blanches"),
        ("long", "long longue longs longues"),
        ("happy", "heureux heureuse heureux heureuses"),
        ("expensive", "cher chère chers chères"),
        ("fresh", "frais fraîche frais fraîches"),
        ("kind", "gentil gentille gentils gentilles"),
        ("good", "bon bonne bons bonnes"),
        ("bad", "mauvais mauvaise mauvais mauvaises"),
        ("blue", "bleu bleue bleus bleues"),
        ("red", "rouge rouge rouges rouges"),
        ("tired", "fatigué fatiguée fatigués fatiguées"),
    ],
)
def test_adjective(french, concept, forms):
    features = [fr.Features(gender=g, number=n) for n in ("sg", "pl") for g in ("m", "f")]
    assert [french.adjective(french.lexicon.adjectives[concept], f) for f in features] == forms.split()


@pytest.mark.parametrize(
    ("concept", "forms"),
    [
        ("be", "suis es est sommes êtes sont"),
        ("sing", "chante chantes chante chantons chantez chantent"),
        ("eat", "mange manges mange mangeons mangez mangent"),
        ("buy", "achète achètes achète achetons achetez achètent"),
        ("call", "appelle appelles appelle appelons appelez appellent"),
        ("clean", "nettoie nettoies nettoie nettoyons nettoyez nettoient"),
        ("choose", "choisis choisis choisit choisissons choisissez choisissent"),
        ("sell", "vends vends vend vendons vendez vendent"),
        ("understand", "comprends comprends comprend comprenons comprenez comprennent"),
        ("open", "ouvre ouvres ouvre ouvrons ouvrez ouvrent"),
    ],
)
def test_present(french, concept, forms):
    assert fr.present(french.lexicon.verbs[concept]) == tuple(forms.split())


@pytest.mark.parametrize(
    ("concept", "future", "participle", "imperfect"),
    [
        ("be", "seront", None, "étaient"), ("eat", "mangeront", "mangé", "mangeaient"),
        ("buy", "achèteront", "acheté", "achetaient"), ("call", "appelleront", "appelé", "appelaient"),
        ("clean", "nettoieront", "nettoyé", "nettoyaient"), ("send", "enverront", "envoyé", "envoyaient"),
        ("see", "verront", "vu", "voyaient"), ("run", "courront", "couru", "couraient"),
        ("die", "mourront", "mort", "mouraient"), ("sit", "assiéront", "assis", "asseyaient"),
        ("write", "écriront", "écrit", "écrivaient"), ("read", "liront", "lu", "lisaient"),
        ("lose", "perdront", "perdu", "perdaient"), ("choose", "choisiront", "choisi", "choisissaient"),
        ("offer", "offriront", "offert", "offraient"), ("know", "connaîtront", "connu", "connaissaient"),
        ("drive", "conduiront", "conduit", "conduisaient"), ("follow", "suivront", "suivi", "suivaient"),
    ],
)  # fmt: skip
def test_other_tenses(french, concept, future, participle, imperfect):
    entry = french.lexicon.verbs[concept]
    assert fr.future(entry)[5] == future
    assert fr.imperfect(entry)[5] == imperfect
    if participle:
        assert fr.participle(entry) == participle


@pytest.mark.parametrize(
    ("relation", "phrase", "text"),
    [
        ("near", NP("garden", "sg", "the"), "près du jardin"),
        ("near", NP("house", "sg", "the"), "près de la maison"),
        ("near", NP("hotel", "sg", "the"), "près de l'hôtel"),
        ("near", NP("garden", "pl", "the"), "près des jardins"),
        ("near", NP("garden", "pl", "a"), "près de jardins"),
        ("near", NP("school", "pl", "a"), "près d'écoles"),
        ("near", NP("school", "sg", "a"), "près d'une école"),
        ("near", NP("house", "pl", "a", "old"), "près de vieilles maisons"),
        ("in", NP("house", "pl", "a", "old"), "dans de vieilles maisons"),
        ("in", NP("house", "pl", "a", "cold"), "dans des maisons froides"),
        ("in", NP("hotel", "sg", "this"), "dans cet hôtel"),
        ("in", NP("school", "sg", "this"), "dans cette école"),
        ("in", NP("park", "sg", "this"), "dans ce parc"),
        ("in", NP("school", "sg", "my"), "dans mon école"),
        ("in", NP("school", "sg", "my", "new"), "dans ma nouvelle école"),
        ("in", NP("hotel", "sg", "a", "new"), "dans un nouvel hôtel"),
        ("in", NP("hotel", "sg", "this", "old"), "dans ce vieil hôtel"),
        ("in", NP("hospital", "pl", "the", "old"), "dans les vieux hôpitaux"),
        ("behind", NP("tree", "sg", "the", "beautiful"), "derrière le bel arbre"),
        ("behind", NP("tree", "pl", "the", "beautiful"), "derrière les beaux arbres"),
        ("behind", NP("castle", "sg", "the", "beautiful"), "derrière le beau château"),
        ("in_front_of", NP("church", "sg", "my", "ugly"), "devant mon église laide"),
    ],
)
def test_noun_phrases(french, relation, phrase, text):
    assert say(french, Clause("be", NP("we", "pl"), place=(relation, phrase))) == f"Nous sommes {text}."


MAN, WOMAN, GIRLS = NP("man", "sg", "the"), NP("woman", "sg", "the"), NP("girl", "pl", "two")
APPLE = NP("apple", "sg", "a")


@pytest.mark.parametrize(
    ("clause", "text"),
    [
        (Clause("arrive", WOMAN, "past"), "La femme est arrivée."),
        (Clause("arrive", GIRLS, "past", negative=True), "Deux filles ne sont pas arrivées."),
        (Clause("die", NP("friend", "pl", "my"), "past"), "Mes amis sont morts."),
        (Clause("sleep", WOMAN, "past"), "La femme a dormi."),
        (Clause("rest", GIRLS, "past"), "Deux filles se sont reposées."),
        (Clause("rest", NP("i"), "past", negative=True), "Je ne me suis pas reposé."),
        (Clause("sit", NP("we", "pl")), "Nous nous asseyons."),
        (Clause("sit", NP("they", "pl"), "future", time="soon"), "Ils s'assiéront bientôt."),
        (Clause("love", NP("i"), object=NP("cat", "pl", "my")), "J'aime mes chats."),
        (Clause("open", NP("i"), "past", object=NP("letter", "sg", "the")), "J'ai ouvert la lettre."),
        (Clause("eat", MAN, "past", True, object=APPLE), "L'homme n'a pas mangé de pomme."),
        (Clause("eat", MAN, "past", True, object=NP("orange", "pl", "a")),
         "L'homme n'a pas mangé d'oranges."),
        (Clause("eat", NP("man", "pl", "a"), negative=True, object=NP("apple", "pl", "the")),
         "Des hommes ne mangent pas les pommes."),
        (Clause("buy", NP("you"), "past", object=NP("bird", "pl", "a", "small")),
         "Tu as acheté de petits oiseaux."),
        (Clause("give", MAN, "past", True, object=NP("book", "sg", "a"), recipient=NP("child", "sg", "a")),
         "L'homme n'a pas donné de livre à un enfant."),
        (Clause("send", WOMAN, object=NP("letter", "sg", "this"), recipient=NP("king", "sg", "the")),
         "La femme envoie cette lettre au roi."),
        (Clause("show", WOMAN, object=NP("map", "sg", "the"), recipient=NP("king", "pl", "the")),
         "La femme montre la carte aux rois."),
        (Clause("visit", MAN, "past", object=NP("museum", "sg", "the")), "L'homme a visité le musée."),
        (Clause("visit", MAN, "past", object=NP("king", "sg", "the")), "L'homme a rendu visite au roi."),
        (Clause("visit", MAN, negative=True, object=NP("friend", "sg", "a")),
         "L'homme ne rend pas visite à un ami."),
        (Clause("be", NP("cow", "pl", "this"), predicate="white"), "Ces vaches sont blanches."),
        (Clause("be", NP("orange", "sg", "this"), negative=True, predicate="expensive"),
         "Cette orange n'est pas chère."),
        (Clause("be", GIRLS, "past", predicate="beautiful"), "Deux filles étaient belles."),
        (Clause("be", NP("lake", "sg", "the"), predicate="beautiful"), "Le lac est beau."),
        (Clause("be", NP("they", "pl"), "future", predicate="healthy", time="tomorrow"),
         "Ils seront en bonne santé demain."),
        (Clause("know", MAN, "past", object=NP("city", "sg", "this")), "L'homme connaissait cette ville."),
        (Clause("read", MAN, "past", object=NP("poem", "sg", "a"), manner="often"),
         "L'homme a souvent lu un poème."),
        (Clause("wash", WOMAN, "past", object=NP("cup", "sg", "the"), manner="quickly", time="yesterday"),
         "La femme a lavé rapidement la tasse hier."),
        (Clause("wash", WOMAN, "past", True, object=NP("cup", "sg", "a"), manner="quickly"),
         "La femme n'a pas lavé de tasse rapidement."),
    ],
)  # fmt: skip
def test_sentences(french, clause, text):
    assert say(french, clause) == text


def test_two_clauses(french):
    first, second = Clause("laugh", NP("i")), Clause("cry", NP("man", "sg", "a"))
    assert say(french, first, second, connective="because") == "Je ris parce qu'un homme pleure."
    assert say(french, first, second, connective="but") == "Je ris, mais un homme pleure."


def test_a_number_forced_on_the_verb_changes_the_verb_alone(french):
    sentence = french.render(Meaning((Clause("sleep", MAN),)), {"verb": {"number": "pl"}})
    assert sentence.text == "L'homme dorment."


def test_no_word_that_should_have_been_elided_or_fused():
    world, rng = World.load(), Random(0)
    french = Language.load("fr", world=world)
    for _ in range(300):
        words = french.render(sample(world, rng)).text.lower().rstrip(".").replace(",", "").split()
        for word, following in pairwise(words):
            assert not (word in ("de", "à") and following in ("le", "les", "du"))
            assert (word, following) != ("de", "des")
            if word in ("le", "la", "je", "ne", "de", "que", "ce", "ma", "se"):
                assert not fr.vocalic(following)
