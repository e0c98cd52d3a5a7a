"""Spanish forms, checked against tables written by hand (forms as in the RAE's conjugation models)."""

import pytest

from langmerge.corpora.grammar.language import Language
from langmerge.corpora.grammar.languages.es import future, imperfect, plural, present, preterite
from langmerge.corpora.grammar.meaning import Clause, Meaning, NounPhrase
from langmerge.corpora.grammar.words import Features

SPANISH = Language.load("es")
CAT = NounPhrase("cat", "sg", "the")
MAN = NounPhrase("man", "sg", "the")


def say(*clauses, connective=None, **kwargs):
    return SPANISH.render(Meaning(clauses, connective), **kwargs).text


@pytest.mark.parametrize(
    ("concept", "expected"),
    [
        ("sleep", "duermo duermes duerme dormimos duermen"),
        ("play", "juego juegas juega jugamos juegan"),
        ("die", "muero mueres muere morimos mueren"),
        ("find", "encuentro encuentras encuentra encontramos encuentran"),
        ("show", "muestro muestras muestra mostramos muestran"),
        ("bite", "muerdo muerdes muerde mordemos muerden"),
        ("lose", "pierdo pierdes pierde perdemos pierden"),
        ("understand", "entiendo entiendes entiende entendemos entienden"),
        ("sit", "siento sientas sienta sentamos sientan"),
        ("choose", "elijo eliges elige elegimos eligen"),
        ("follow", "sigo sigues sigue seguimos siguen"),
        ("laugh", "río ríes ríe reímos ríen"),
        ("fall", "caigo caes cae caemos caen"),
        ("see", "veo ves ve vemos ven"),
        ("know", "conozco conoces conoce conocemos conocen"),
        ("offer", "ofrezco ofreces ofrece ofrecemos ofrecen"),
        ("drive", "conduzco conduces conduce conducimos conducen"),
        ("build", "construyo construyes construye construimos construyen"),
        ("give", "doy das da damos dan"),
        ("thank", "doy das da damos dan"),
        ("send", "envío envías envía enviamos envían"),
        ("bring", "traigo traes trae traemos traen"),
        ("sell", "vendo vendes vende vendemos venden"),
        ("write", "escribo escribes escribe escribimos escriben"),
        ("break", "rompo rompes rompe rompemos rompen"),
        ("read", "leo lees lee leemos leen"),
        ("arrive", "llego llegas llega llegamos llegan"),
        ("be", "soy eres es somos son"),
        ("estar", "estoy estás está estamos están"),
        ("hate", "odio odias odia odiamos odian"),
        ("clean", "limpio limpias limpia limpiamos limpian"),
    ],
)
def test_present(concept, expected):
    assert " ".join(present(SPANISH.lexicon.verbs[concept])) == expected


@pytest.mark.parametrize(
    ("concept", "expected"),
    [
        ("sleep", "dormí dormiste durmió dormimos durmieron"),
        ("die", "morí moriste murió morimos murieron"),
        ("play", "jugué jugaste jugó jugamos jugaron"),
        ("arrive", "llegué llegaste llegó llegamos llegaron"),
        ("choose", "elegí elegiste eligió elegimos eligieron"),
        ("follow", "seguí seguiste siguió seguimos siguieron"),
        ("laugh", "reí reíste rio reímos rieron"),
        ("smile", "sonreí sonreíste sonrió sonreímos sonrieron"),
        ("fall", "caí caíste cayó caímos cayeron"),
        ("read", "leí leíste leyó leímos leyeron"),
        ("build", "construí construiste construyó construimos construyeron"),
        ("see", "vi viste vio vimos vieron"),
        ("give", "di diste dio dimos dieron"),
        ("drive", "conduje condujiste condujo condujimos condujeron"),
        ("bring", "traje trajiste trajo trajimos trajeron"),
        ("estar", "estuve estuviste estuvo estuvimos estuvieron"),
        ("lose", "perdí perdiste perdió perdimos perdieron"),
        ("find", "encontré encontraste encontró encontramos encontraron"),
        ("bite", "mordí mordiste mordió mordimos mordieron"),
        ("send", "envié enviaste envió enviamos enviaron"),
        ("open", "abrí abriste abrió abrimos abrieron"),
        ("offer", "ofrecí ofreciste ofreció ofrecimos ofrecieron"),
        ("understand", "entendí entendiste entendió entendimos entendieron"),
        ("be", "fui fuiste fue fuimos fueron"),
    ],
)
def test_preterite(concept, expected):
    assert " ".join(preterite(SPANISH.lexicon.verbs[concept])) == expected


@pytest.mark.parametrize(
    ("concept", "expected"),
    [
        ("be", "era eras era éramos eran"),
        ("estar", "estaba estabas estaba estábamos estaban"),
        ("know", "conocía conocías conocía conocíamos conocían"),
        ("see", "veía veías veía veíamos veían"),
        ("laugh", "reía reías reía reíamos reían"),
        ("sleep", "dormía dormías dormía dormíamos dormían"),
    ],
)
def test_imperfect(concept, expected):
    assert " ".join(imperfect(SPANISH.lexicon.verbs[concept])) == expected


@pytest.mark.parametrize(
    ("concept", "expected"),
    [
        ("laugh", "reiré reirás reirá reiremos reirán"),
        ("sleep", "dormiré dormirás dormirá dormiremos dormirán"),
        ("see", "veré verás verá veremos verán"),
        ("thank", "daré darás dará daremos darán"),
        ("be", "seré serás será seremos serán"),
    ],
)
def test_future(concept, expected):
    assert " ".join(future(SPANISH.lexicon.verbs[concept])) == expected


@pytest.mark.parametrize(
    ("singular", "expected"),
    [
        ("gato", "gatos"), ("rey", "reyes"), ("juez", "jueces"), ("lápiz", "lápices"), ("ladrón", "ladrones"),
        ("autobús", "autobuses"), ("jardín", "jardines"), ("árbol", "árboles"), ("huésped", "huéspedes"),
        ("habitación", "habitaciones"), ("ciudad", "ciudades"), ("hotel", "hoteles"), ("azul", "azules"),
        ("débil", "débiles"), ("feliz", "felices"), ("tren", "trenes"), ("nuez", "nueces"), ("mujer", "mujeres"),
        ("león", "leones"), ("pastel", "pasteles"), ("coche", "coches"),
    ],
)  # fmt: skip
def test_plurals(singular, expected):
    assert plural(singular) == expected


def test_irregular_plurals():
    pl = Features(number="pl", gender="m")
    assert SPANISH.noun(SPANISH.lexicon.nouns["umbrella"], pl) == "paraguas"
    assert SPANISH.adjective(SPANISH.lexicon.adjectives["young"], pl) == "jóvenes"


def test_adjectives_agree_and_stand_after_the_noun_but_for_good_and_bad():
    def see(concept, number, adjective):
        return say(Clause("see", CAT, object=NounPhrase(concept, number, "the", adjective))).removeprefix("El gato ve ")

    assert see("table", "sg", "red") == "la mesa roja."
    assert see("table", "pl", "red") == "las mesas rojas."
    assert see("map", "pl", "old") == "los mapas viejos."
    assert see("table", "pl", "big") == "las mesas grandes."
    assert see("book", "sg", "good") == "el buen libro."
    assert see("book", "pl", "good") == "los buenos libros."
    assert see("letter", "sg", "bad") == "la mala carta."
    assert say(Clause("be", NounPhrase("book", "sg", "the"), predicate="good")) == "El libro es bueno."
    assert say(Clause("be", NounPhrase("they", "pl"), predicate="happy")) == "Están felices."


def test_personal_a_and_contractions():
    assert say(Clause("see", CAT, object=MAN)) == "El gato ve al hombre."
    assert say(Clause("see", CAT, object=NounPhrase("dog", "sg", "the"))) == "El gato ve el perro."
    assert say(Clause("bite", CAT, object=NounPhrase("dog", "sg", "the"))) == "El gato muerde al perro."
    assert say(Clause("see", CAT, object=NounPhrase("woman", "pl", "two"))) == "El gato ve a dos mujeres."
    assert say(Clause("hate", MAN, object=NounPhrase("city", "sg", "the"))) == "El hombre odia la ciudad."
    place = ("near", NounPhrase("garden", "sg", "the"))
    assert say(Clause("sleep", CAT, place=place)) == "El gato duerme cerca del jardín."
    place = ("in", NounPhrase("garden", "sg", "this"))
    assert say(Clause("be", CAT, "past", place=place)) == "El gato estaba en este jardín."


def test_copulas_negation_reflexives_and_phrases():
    assert say(Clause("be", CAT, predicate="big", negative=True)) == "El gato no es grande."
    assert say(Clause("be", CAT, "past", predicate="tired")) == "El gato estaba cansado."
    assert say(Clause("sit", NounPhrase("we", "pl"), negative=True)) == "No nos sentamos."
    assert say(Clause("sit", MAN, "past")) == "El hombre se sentó."
    assert (
        say(Clause("thank", MAN, "past", object=NounPhrase("king", "sg", "the"))) == "El hombre dio las gracias al rey."
    )
    assert say(Clause("sleep", CAT, "past", manner="always")) == "El gato dormía siempre."


def test_y_before_an_i_sound():
    invite = Clause("invite", NounPhrase("we", "pl"), object=MAN)
    assert say(Clause("sleep", CAT), invite, connective="and") == "El gato duerme e invitamos al hombre."
    assert say(Clause("sleep", CAT), Clause("run", MAN), connective="and") == "El gato duerme y el hombre corre."
