"""Italian forms and sentences that a native reader knows to be right."""

from itertools import pairwise
from random import Random

import pytest

from langmerge.corpora.grammar.language import Language
from langmerge.corpora.grammar.languages import it
from langmerge.corpora.grammar.meaning import Clause, Meaning, sample
from langmerge.corpora.grammar.meaning import NounPhrase as NP
from langmerge.corpora.grammar.world import World


@pytest.fixture(scope="module")
def italian():
    return Language.load("it")


def say(language, *clauses, connective=None):
    return language.render(Meaning(clauses, connective)).text


@pytest.mark.parametrize(
    ("concept", "form"),
    [
        ("cat", "gatti"), ("woman", "donne"), ("dog", "cani"), ("man", "uomini"), ("friend", "amici"),
        ("doctor", "medici"), ("cow", "mucche"), ("park", "parchi"), ("hotel", "alberghi"), ("lake", "laghi"),
        ("mirror", "specchi"), ("shop", "negozi"), ("orange", "arance"), ("shirt", "camicie"),
        ("sausage", "salsicce"), ("monkey", "scimmie"), ("driver", "autisti"), ("city", "città"),
        ("bus", "autobus"), ("king", "re"), ("egg", "uova"),
        ("library", "biblioteche"), ("boat", "barche"), ("baker", "fornai"),
    ],
)  # fmt: skip
def test_plural(italian, concept, form):
    assert italian.noun(italian.lexicon.nouns[concept], it.Features(number="pl")) == form


@pytest.mark.parametrize(
    ("concept", "forms"),
    [
        ("red", "rosso rossa rossi rosse"),
        ("green", "verde verde verdi verdi"),
        ("blue", "blu blu blu blu"),
        ("white", "bianco bianca bianchi bianche"),
        ("long", "lungo lunga lunghi lunghe"),
        ("old", "vecchio vecchia vecchi vecchie"),
        ("cheap", "economico economica economici economiche"),
        ("dark", "buio buia bui buie"),
        ("fresh", "fresco fresca freschi fresche"),
        ("tired", "stanco stanca stanchi stanche"),
    ],
)
def test_adjective(italian, concept, forms):
    features = [it.Features(gender=g, number=n) for n in ("sg", "pl") for g in ("m", "f")]
    assert [italian.adjective(italian.lexicon.adjectives[concept], f) for f in features] == forms.split()


@pytest.mark.parametrize(
    ("concept", "forms"),
    [
        ("be", "sono sei è siamo siete sono"),
        ("sing", "canto canti canta cantiamo cantate cantano"),
        ("eat", "mangio mangi mangia mangiamo mangiate mangiano"),
        ("forget", "dimentico dimentichi dimentica dimentichiamo dimenticate dimenticano"),
        ("read", "leggo leggi legge leggiamo leggete leggono"),
        ("sleep", "dormo dormi dorme dormiamo dormite dormono"),
        ("understand", "capisco capisci capisce capiamo capite capiscono"),
        ("choose", "scelgo scegli sceglie scegliamo scegliete scelgono"),
        ("give", "do dai dà diamo date danno"),
        ("hate", "odio odi odia odiamo odiate odiano"),
    ],
)
def test_present(italian, concept, forms):
    assert it.present(italian.lexicon.verbs[concept]) == tuple(forms.split())


@pytest.mark.parametrize(
    ("concept", "future", "participle", "imperfect"),
    [
        ("be", "saranno", None, "erano"), ("sing", "canteranno", "cantato", "cantavano"),
        ("eat", "mangeranno", "mangiato", "mangiavano"), ("hate", "odieranno", "odiato", "odiavano"),
        ("forget", "dimenticheranno", "dimenticato", "dimenticavano"),
        ("play", "giocheranno", "giocato", "giocavano"),
        ("see", "vedranno", "visto", "vedevano"), ("fall", "cadranno", "caduto", "cadevano"),
        ("give", "daranno", "dato", "davano"), ("sell", "venderanno", "venduto", "vendevano"),
        ("write", "scriveranno", "scritto", "scrivevano"), ("open", "apriranno", "aperto", "aprivano"),
        ("die", "moriranno", "morto", "morivano"), ("sit", "siederanno", "seduto", "sedevano"),
        ("know", "conosceranno", "conosciuto", "conoscevano"), ("break", "romperanno", "rotto", "rompevano"),
    ],
)  # fmt: skip
def test_other_tenses(italian, concept, future, participle, imperfect):
    entry = italian.lexicon.verbs[concept]
    assert it.future(entry)[5] == future
    assert it.imperfect(entry)[5] == imperfect
    if participle:
        assert it.participle(entry) == participle


@pytest.mark.parametrize(
    ("relation", "phrase", "text"),
    [
        ("in", NP("garden", "sg", "the"), "nel giardino"),
        ("in", NP("house", "sg", "the"), "nella casa"),
        ("in", NP("hospital", "sg", "the"), "nell'ospedale"),
        ("in", NP("garden", "pl", "the"), "nei giardini"),
        ("in", NP("hospital", "pl", "the"), "negli ospedali"),
        ("in", NP("house", "pl", "the"), "nelle case"),
        ("in", NP("house", "sg", "my"), "nella mia casa"),
        ("in", NP("garden", "pl", "my"), "nei miei giardini"),
        ("in", NP("garden", "sg", "a"), "in un giardino"),
        ("in", NP("house", "pl", "a"), "in alcune case"),
        ("in", NP("office", "sg", "this"), "in quest'ufficio"),
        ("near", NP("tree", "sg", "the"), "vicino all'albero"),
        ("near", NP("tree", "pl", "a"), "vicino ad alcuni alberi"),
        ("near", NP("bridge", "pl", "the"), "vicino ai ponti"),
        ("in_front_of", NP("castle", "sg", "the", "beautiful"), "davanti al bel castello"),
        ("in_front_of", NP("tree", "sg", "the", "beautiful"), "davanti al bell'albero"),
        ("in_front_of", NP("tree", "pl", "the", "beautiful"), "davanti ai begli alberi"),
        ("in_front_of", NP("castle", "pl", "this", "beautiful"), "davanti a questi bei castelli"),
        ("behind", NP("hotel", "sg", "the", "good"), "dietro il buon albergo"),
        ("behind", NP("mirror", "sg", "the"), "dietro lo specchio"),
        ("behind", NP("mirror", "sg", "a", "beautiful"), "dietro un bello specchio"),
        ("behind", NP("mirror", "pl", "the", "big"), "dietro i grandi specchi"),
        ("behind", NP("house", "sg", "the", "dark"), "dietro la casa buia"),
    ],
)
def test_noun_phrases(italian, relation, phrase, text):
    assert say(italian, Clause("be", NP("we", "pl"), place=(relation, phrase))) == f"Siamo {text}."


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        (NP("student", "sg", "the"), "Lo studente"), (NP("student", "pl", "the"), "Gli studenti"),
        (NP("student", "sg", "a"), "Uno studente"), (NP("writer", "sg", "the", "good"), "Il buono scrittore"),
        (NP("singer", "sg", "the"), "Il cantante"), (NP("friend", "sg", "a"), "Un amico"),
        (NP("duck", "sg", "a"), "Un'anatra"), (NP("duck", "sg", "the"), "L'anatra"),
        (NP("duck", "pl", "the"), "Le anatre"), (NP("duck", "sg", "this"), "Quest'anatra"),
        (NP("father", "sg", "my"), "Mio padre"), (NP("sister", "sg", "my"), "Mia sorella"),
        (NP("sister", "sg", "my", "young"), "La mia giovane sorella"),
        (NP("brother", "pl", "my"), "I miei fratelli"),
        (NP("friend", "sg", "my"), "Il mio amico"), (NP("neighbour", "pl", "two"), "Due vicini di casa"),
    ],
)  # fmt: skip
def test_subjects(italian, phrase, text):
    verb = "dorme" if phrase.number == "sg" else "dormono"
    assert say(italian, Clause("sleep", phrase)) == f"{text} {verb}."


MAN, WOMAN, GIRLS = NP("man", "sg", "the"), NP("woman", "sg", "the"), NP("girl", "pl", "two")


@pytest.mark.parametrize(
    ("clause", "text"),
    [
        (Clause("arrive", WOMAN, "past"), "La donna è arrivata."),
        (Clause("arrive", GIRLS, "past", negative=True), "Due ragazze non sono arrivate."),
        (Clause("fall", NP("egg", "pl", "the"), "past"), "Le uova sono cadute."),
        (Clause("fall", NP("egg", "sg", "the"), "past"), "L'uovo è caduto."),
        (Clause("sleep", WOMAN, "past"), "La donna ha dormito."),
        (Clause("rest", GIRLS, "past"), "Due ragazze si sono riposate."),
        (Clause("sit", NP("i"), "past", negative=True), "Non mi sono seduto."),
        (Clause("sit", NP("we", "pl")), "Ci sediamo."),
        (Clause("love", NP("i"), object=NP("cat", "pl", "my")), "Amo i miei gatti."),
        (Clause("arrive", NP("they", "pl"), "past"), "Sono arrivati."),
        (Clause("be", NP("they", "pl"), place=("in", NP("garden", "sg", "the"))), "Loro sono nel giardino."),
        (Clause("be", NP("i"), place=("in", NP("garden", "sg", "the"))), "Sono nel giardino."),
        (Clause("be", NP("they", "pl"), predicate="tired"), "Sono stanchi."),
        (Clause("be", NP("egg", "pl", "two"), predicate="fresh"), "Due uova sono fresche."),
        (Clause("be", NP("picture", "sg", "the"), "past", predicate="beautiful"), "Il quadro era bello."),
        (Clause("give", WOMAN, "past", object=NP("apple", "sg", "the"), recipient=NP("student", "sg", "the")),
         "La donna ha dato la mela allo studente."),
        (Clause("send", NP("you"), object=NP("letter", "sg", "a"), recipient=NP("father", "sg", "my")),
         "Mandi una lettera a mio padre."),
        (Clause("show", MAN, object=NP("book", "sg", "the"), recipient=NP("friend", "pl", "the")),
         "L'uomo mostra il libro agli amici."),
        (Clause("visit", MAN, "past", object=NP("museum", "sg", "the")), "L'uomo ha visitato il museo."),
        (Clause("visit", MAN, object=NP("king", "sg", "the"), manner="always"),
         "L'uomo fa sempre visita al re."),
        (Clause("visit", GIRLS, "past", object=NP("king", "sg", "the")),
         "Due ragazze hanno fatto visita al re."),
        (Clause("carry", MAN, object=NP("box", "sg", "this", "heavy")),
         "L'uomo trasporta questa scatola pesante."),
        (Clause("read", MAN, "past", object=NP("poem", "sg", "a"), manner="often"),
         "L'uomo ha spesso letto una poesia."),
        (Clause("wash", WOMAN, "past", object=NP("cup", "sg", "the"), manner="quickly", time="yesterday"),
         "Ieri la donna ha lavato velocemente la tazza."),
        (Clause("understand", NP("we", "pl"), "future", True, NP("poem", "sg", "this"), time="next_year"),
         "L'anno prossimo non capiremo questa poesia."),
        (Clause("know", MAN, "past", object=NP("city", "sg", "this")), "L'uomo conosceva questa città."),
    ],
)  # fmt: skip
def test_sentences(italian, clause, text):
    assert say(italian, clause) == text


def test_two_clauses(italian):
    first, second = Clause("laugh", NP("i")), Clause("be", NP("egg", "sg", "this"), predicate="fresh")
    assert say(italian, first, second, connective="because") == "Rido perché quest'uovo è fresco."
    assert say(italian, second, first, connective="but") == "Quest'uovo è fresco, ma rido."
    tired = Clause("be", NP("we", "pl"), "past", predicate="tired")
    assert say(italian, first, tired, connective="and") == "Rido ed eravamo stanchi."


def test_a_number_forced_on_the_verb_changes_the_verb_alone(italian):
    sentence = italian.render(Meaning((Clause("sleep", MAN),)), {"verb": {"number": "pl"}})
    assert sentence.text == "L'uomo dormono."


def test_articles_suit_the_following_sound_and_fuse():
    world, rng = World.load(), Random(0)
    italian = Language.load("it", world=world)
    articles = {"il", "lo", "la", "i", "gli", "le"}
    for _ in range(300):
        words = italian.render(sample(world, rng)).text.lower().rstrip(".").replace(",", "").split()
        for word, following in pairwise(words):
            assert not (word in ("in", "a") and following in articles)
            if word in ("il", "i", "nel", "nei", "al", "ai", "bel", "bei"):
                assert not it.vocalic(following)
                assert not it.impure(following)
            if word in ("lo", "gli", "uno", "nello", "negli", "allo", "agli"):
                assert it.impure(following) or (it.vocalic(following) and word.endswith("gli"))
            assert not (word in ("la", "una", "questa", "questo") and it.vocalic(following))
