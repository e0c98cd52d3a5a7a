"""Finnish: paradigms, object cases, numerals, the negative verb, and whole sentences with their meanings."""

from functools import cache
from random import Random

import pytest

from langmerge.corpora.grammar.language import Features, Language
from langmerge.corpora.grammar.languages.fi import Conjugation, Nominal, analogy, harmony
from langmerge.corpora.grammar.meaning import Clause, Meaning, NounPhrase, sample

CASES = ("nominative", "genitive", "partitive", "inessive", "elative", "illative", "allative")


@cache
def finnish() -> Language:
    return Language.load("fi")


def say(*clauses: Clause, connective: str | None = None) -> str:
    return finnish().render(Meaning(clauses, connective)).text


NP = NounPhrase
CAT, CATS, TWO_CATS = NP("cat", determiner="the"), NP("cat", "pl", "the"), NP("cat", "pl", "two")
MAN = NP("man", determiner="the")
ME, YOU, WE, THEY = NP("i"), NP("you"), NP("we", "pl"), NP("they", "pl")

# Singular and plural in the order of CASES.
NOUNS = {
    "cat": ("kissa kissan kissaa kissassa kissasta kissaan kissalle",
            "kissat kissojen kissoja kissoissa kissoista kissoihin kissoille"),
    "table": ("pöytä pöydän pöytää pöydässä pöydästä pöytään pöydälle",
              "pöydät pöytien pöytiä pöydissä pöydistä pöytiin pöydille"),
    "boy": ("poika pojan poikaa pojassa pojasta poikaan pojalle",
            "pojat poikien poikia pojissa pojista poikiin pojille"),
    "city": ("kaupunki kaupungin kaupunkia kaupungissa kaupungista kaupunkiin kaupungille",
             "kaupungit kaupunkien kaupunkeja kaupungeissa kaupungeista kaupunkeihin kaupungeille"),
    "river": ("joki joen jokea joessa joesta jokeen joelle", "joet jokien jokia joissa joista jokiin joille"),
    "child": ("lapsi lapsen lasta lapsessa lapsesta lapseen lapselle",
              "lapset lasten lapsia lapsissa lapsista lapsiin lapsille"),
    "wolf": ("susi suden sutta sudessa sudesta suteen sudelle",
             "sudet susien susia susissa susista susiin susille"),
    "horse": ("hevonen hevosen hevosta hevosessa hevosesta hevoseen hevoselle",
              "hevoset hevosten hevosia hevosissa hevosista hevosiin hevosille"),
    "room": ("huone huoneen huonetta huoneessa huoneesta huoneeseen huoneelle",
             "huoneet huoneiden huoneita huoneissa huoneista huoneisiin huoneille"),
    "king": ("kuningas kuninkaan kuningasta kuninkaassa kuninkaasta kuninkaaseen kuninkaalle",
             "kuninkaat kuninkaiden kuninkaita kuninkaissa kuninkaista kuninkaisiin kuninkaille"),
    "key": ("avain avaimen avainta avaimessa avaimesta avaimeen avaimelle",
            "avaimet avainten avaimia avaimissa avaimista avaimiin avaimille"),
    "tree": ("puu puun puuta puussa puusta puuhun puulle", "puut puiden puita puissa puista puihin puille"),
    "museum": ("museo museon museota museossa museosta museoon museolle",
               "museot museoiden museoita museoissa museoista museoihin museoille"),
    "box": ("laatikko laatikon laatikkoa laatikossa laatikosta laatikkoon laatikolle",
            "laatikot laatikoiden laatikoita laatikoissa laatikoista laatikoihin laatikoille"),
    "man": ("mies miehen miestä miehessä miehestä mieheen miehelle",
            "miehet miesten miehiä miehissä miehistä miehiin miehille"),
    "bridge": ("silta sillan siltaa sillassa sillasta siltaan sillalle",
               "sillat siltojen siltoja silloissa silloista siltoihin silloille"),
}  # fmt: skip

ADJECTIVES = {
    "new": ("uusi uuden uutta uudessa uudesta uuteen uudelle",
            "uudet uusien uusia uusissa uusista uusiin uusille"),
    "red": ("punainen punaisen punaista punaisessa punaisesta punaiseen punaiselle",
            "punaiset punaisten punaisia punaisissa punaisista punaisiin punaisille"),
    "beautiful": ("kaunis kauniin kaunista kauniissa kauniista kauniiseen kauniille",
                  "kauniit kauniiden kauniita kauniissa kauniista kauniisiin kauniille"),
    "tired": ("väsynyt väsyneen väsynyttä väsyneessä väsyneestä väsyneeseen väsyneelle",
              "väsyneet väsyneiden väsyneitä väsyneissä väsyneistä väsyneisiin väsyneille"),
    "sour": ("hapan happaman hapanta happamassa happamasta happamaan happamalle",
             "happamat happamien happamia happamissa happamista happamiin happamille"),
    "cheap": ("halpa halvan halpaa halvassa halvasta halpaan halvalle",
              "halvat halpojen halpoja halvoissa halvoista halpoihin halvoille"),
}  # fmt: skip


@pytest.mark.parametrize("concept", [*NOUNS, *ADJECTIVES])
def test_declension(concept: str) -> None:
    lexicon = finnish().lexicon
    nominal = Nominal.of(lexicon.nouns[concept] if concept in NOUNS else lexicon.adjectives[concept])
    for plural, forms in enumerate({**NOUNS, **ADJECTIVES}[concept]):
        assert [nominal.form(case, bool(plural)) for case in CASES] == forms.split()


def test_the_total_object_is_like_genitive_or_nominative_plural() -> None:
    for entry in finnish().lexicon.nouns.values():
        nominal = Nominal.of(entry)
        assert nominal.form("accusative", False) == nominal.form("genitive", False)
        assert nominal.form("accusative", True) == nominal.form("nominative", True)


def test_an_unknown_case_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown case 'dative'"):
        Nominal.of(finnish().lexicon.nouns["cat"]).form("dative", False)


def test_principal_parts_are_asked_for() -> None:
    with pytest.raises(ValueError, match="'talo' lacks `parts`"):
        Nominal.of({"lemma": "talo"})
    assert Nominal.of({"lemma": "sininen"}).form("partitive", True) == "sinisiä"


@pytest.mark.parametrize(
    ("concept", "case", "plural", "form"),
    [
        ("cat", "nominative", False, "kissani"),
        ("table", "genitive", False, "pöytäni"),
        ("table", "accusative", True, "pöytäni"),
        ("boy", "nominative", False, "poikani"),
        ("king", "nominative", False, "kuninkaani"),
        ("horse", "accusative", False, "hevoseni"),
        ("wolf", "nominative", True, "suteni"),
        ("cat", "partitive", False, "kissaani"),
        ("cat", "genitive", True, "kissojeni"),
        ("room", "inessive", False, "huoneessani"),
        ("room", "illative", False, "huoneeseeni"),
        ("friend", "allative", True, "ystävilleni"),
    ],
)
def test_possessive_suffix(concept: str, case: str, plural: bool, form: str) -> None:
    assert Nominal.of(finnish().lexicon.nouns[concept]).with_my(case, plural) == form


# Present 1sg 3sg 1pl 3pl, past 1sg 3sg 3pl, connegative present, past singular, past plural; by verb type.
VERBS = {
    "be": "olen on olemme ovat olin oli olivat ole ollut olleet",
    "sleep": "nukun nukkuu nukumme nukkuvat nukuin nukkui nukkuivat nuku nukkunut nukkuneet",  # 1
    "give": "annan antaa annamme antavat annoin antoi antoivat anna antanut antaneet",
    "read": "luen lukee luemme lukevat luin luki lukivat lue lukenut lukeneet",
    "know": "tunnen tuntee tunnemme tuntevat tunsin tunsi tunsivat tunne tuntenut tunteneet",
    "shout": "huudan huutaa huudamme huutavat huusin huusi huusivat huuda huutanut huutaneet",
    "help": "autan auttaa autamme auttavat autoin auttoi auttoivat auta auttanut auttaneet",
    "understand": "ymmärrän ymmärtää ymmärrämme ymmärtävät ymmärsin ymmärsi ymmärsivät "
                  "ymmärrä ymmärtänyt ymmärtäneet",
    "play": "leikin leikkii leikimme leikkivät leikin leikki leikkivät leiki leikkinyt leikkineet",
    "eat": "syön syö syömme syövät söin söi söivät syö syönyt syöneet",  # 2
    "swim": "uin ui uimme uivat uin ui uivat ui uinut uineet",
    "bring": "tuon tuo tuomme tuovat toin toi toivat tuo tuonut tuoneet",
    "see": "näen näkee näemme näkevät näin näki näkivät näe nähnyt nähneet",
    "die": "kuolen kuolee kuolemme kuolevat kuolin kuoli kuolivat kuole kuollut kuolleet",  # 3
    "run": "juoksen juoksee juoksemme juoksevat juoksin juoksi juoksivat juokse juossut juosseet",
    "bite": "puren puree puremme purevat purin puri purivat pure purrut purreet",
    "work": "työskentelen työskentelee työskentelemme työskentelevät työskentelin työskenteli työskentelivät "
            "työskentele työskennellyt työskennelleet",
    "open": "avaan avaa avaamme avaavat avasin avasi avasivat avaa avannut avanneet",  # 4
    "rest": "lepään lepää lepäämme lepäävät lepäsin lepäsi lepäsivät lepää levännyt levänneet",
    "fall": "putoan putoaa putoamme putoavat putosin putosi putosivat putoa pudonnut pudonneet",
    "choose": "valitsen valitsee valitsemme valitsevat valitsin valitsi valitsivat "
              "valitse valinnut valinneet",  # 5
}  # fmt: skip


@pytest.mark.parametrize("concept", VERBS)
def test_conjugation(concept: str) -> None:
    verb = Conjugation.of(finnish().lexicon.verbs[concept])
    present = [verb.form(p, n, False) for p, n in ((1, False), (3, False), (1, True), (3, True))]
    past = [verb.form(p, n, True) for p, n in ((1, False), (3, False), (3, True))]
    negated = [verb.connegative(False, False), verb.connegative(False, True), verb.connegative(True, True)]
    assert present + past + negated == VERBS[concept].split()


def test_second_person_and_negative_verb() -> None:
    language, sleep = finnish(), finnish().lexicon.verbs["sleep"]
    f = Features(person=2, tense="past")
    assert language.verb(sleep, f).finite == "nukuit"
    forms = [(n, p) for n in ("sg", "pl") for p in (1, 2, 3)]
    groups = [language.verb(sleep, Features(number=n, person=p, negative=True)) for n, p in forms]
    assert [g.finite for g in groups] == ["en", "et", "ei", "emme", "ette", "eivät"]
    assert {g.rest for g in groups} == {("nuku",)}


def test_harmony_and_gradation_by_analogy() -> None:
    assert harmony("sininen", "ssa") == "ssä"
    assert harmony("likainen", "ssa") == "ssa"
    assert harmony("lyijykynä", "lla") == "llä"
    assert analogy("pöytä", "pöyti", "pöydä") == "pöydi"
    assert analogy("huuta", "huusi", "huuda") == "huusi"


@pytest.mark.parametrize(
    ("clause", "text"),
    [
        # subjects, tense, negation
        (Clause("sleep", CAT), "Kissa nukkuu."),
        (Clause("sleep", CAT, "future", time="tomorrow"), "Kissa nukkuu huomenna."),
        (Clause("sleep", CAT, "past", negative=True), "Kissa ei nukkunut."),
        (Clause("sleep", CATS, "past", negative=True), "Kissat eivät nukkuneet."),
        (Clause("sleep", WE, "past", negative=True, time="yesterday"), "Emme nukkuneet eilen."),
        (Clause("sleep", YOU), "Nukut."),
        (Clause("sleep", THEY), "He nukkuvat."),
        (Clause("sleep", TWO_CATS), "Kaksi kissaa nukkuu."),
        (Clause("sleep", NP("cat", "pl", "five", "black"), negative=True), "Viisi mustaa kissaa ei nuku."),
        (Clause("sleep", NP("child", "pl", "a")), "Eräät lapset nukkuvat."),
        (Clause("sleep", NP("cat", "pl", "my", "old")), "Minun vanhat kissani nukkuvat."),
        # predicates
        (Clause("be", CAT, predicate="small"), "Kissa on pieni."),
        (Clause("be", CATS, predicate="small"), "Kissat ovat pieniä."),
        (Clause("be", TWO_CATS, "past", predicate="tired"), "Kaksi kissaa oli väsyneitä."),
        (Clause("be", ME, negative=True, predicate="rich"), "En ole rikas."),
        (Clause("be", WE, "past", predicate="happy"), "Olimme iloisia."),
        (Clause("be", CATS, negative=True, place=("in", NP("room", "pl", "this"))),
         "Kissat eivät ole näissä huoneissa."),
        # total and partitive objects
        (Clause("see", MAN, "past", object=CAT), "Mies näki kissan."),
        (Clause("see", MAN, "past", object=CATS), "Mies näki kissat."),
        (Clause("see", MAN, "past", negative=True, object=CAT), "Mies ei nähnyt kissaa."),
        (Clause("see", MAN, "past", negative=True, object=CATS), "Mies ei nähnyt kissoja."),
        (Clause("see", MAN, object=NP("cat", "sg", "this", "big")), "Mies näkee tämän ison kissan."),
        (Clause("see", MAN, object=NP("cat", "pl", "this")), "Mies näkee nämä kissat."),
        (Clause("see", MAN, object=NP("cat", "sg", "a")), "Mies näkee erään kissan."),
        (Clause("see", MAN, negative=True, object=NP("cat", "sg", "a")), "Mies ei näe erästä kissaa."),
        (Clause("see", MAN, object=NP("cat", "pl", "two", "big")), "Mies näkee kaksi isoa kissaa."),
        (Clause("see", MAN, negative=True, object=TWO_CATS), "Mies ei näe kahta kissaa."),
        (Clause("love", MAN, object=CAT), "Mies rakastaa kissaa."),
        (Clause("love", MAN, object=NP("cat", "pl", "five")), "Mies rakastaa viittä kissaa."),
        (Clause("thank", ME, object=NP("mother", determiner="my")), "Kiitän äitiäni."),
        (Clause("thank", WE, object=NP("mother", determiner="my")), "Kiitämme minun äitiäni."),
        (Clause("understand", ME, object=MAN), "Ymmärrän miestä."),
        (Clause("understand", ME, object=NP("poem", determiner="the")), "Ymmärrän runon."),
        (Clause("call", MAN, "past", negative=True, object=NP("sister", "pl", "the")),
         "Mies ei soittanut siskoille."),
        (Clause("visit", MAN, object=NP("friend", "sg", "a")), "Mies vierailee erään ystävän luona."),
        (Clause("visit", MAN, object=NP("museum", "pl", "two")), "Mies vierailee kahdessa museossa."),
        # recipients, places, adverbs
        (Clause("give", MAN, "past", object=NP("book", "sg", "a"),
                recipient=NP("girl", "pl", "two", "happy")),
         "Mies antoi kahdelle iloiselle tytölle erään kirjan."),
        (Clause("sit", MAN, place=("near", NP("house", "pl", "my"))), "Mies istuu minun talojeni lähellä."),
        (Clause("sit", ME, place=("in", NP("house", "sg", "my", "old"))), "Istun vanhassa talossani."),
        (Clause("eat", MAN, "past", object=NP("apple", determiner="the"), manner="quickly", time="today",
                place=("behind", NP("church", determiner="this"))),
         "Mies söi tänään omenan nopeasti tämän kirkon takana."),
        (Clause("read", MAN, object=NP("book", "pl", "the"), manner="often"), "Mies lukee usein kirjat."),
        (Clause("find", MAN, "past", object=NP("key", determiner="the"), place=("in", NP("city", "pl", "a"))),
         "Mies löysi avaimen eräistä kaupungeista."),
        (Clause("forget", MAN, "past", object=NP("key", determiner="the"),
                place=("in", NP("room", "sg", "this", "new"))),
         "Mies unohti avaimen tähän uuteen huoneeseen."),
        (Clause("hide", MAN, "past", object=NP("key", determiner="the"),
                place=("behind", NP("tree", determiner="the"))),
         "Mies piilotti avaimen puun taakse."),
    ],
)  # fmt: skip
def test_sentence(clause: Clause, text: str) -> None:
    assert say(clause) == text


def test_two_clauses() -> None:
    laugh, sing = Clause("laugh", MAN), Clause("sing", WE, negative=True)
    assert say(laugh, sing, connective="and") == "Mies nauraa, emmekä laula."
    assert say(laugh, sing, connective="but") == "Mies nauraa, mutta emme laula."
    assert say(laugh, sing, connective="because") == "Mies nauraa, koska emme laula."
    assert say(Clause("laugh", WE), sing, connective="and") == "Nauramme emmekä laula."
    assert say(Clause("laugh", THEY), Clause("sing", THEY), connective="and") == "He nauravat, ja he laulavat."


def test_override_changes_agreement_alone() -> None:
    meaning = Meaning((Clause("sleep", TWO_CATS, negative=True),))
    assert finnish().render(meaning).text == "Kaksi kissaa ei nuku."
    assert finnish().render(meaning, {"verb": {"number": "pl"}}).text == "Kaksi kissaa eivät nuku."


def test_concepts_have_distinct_words() -> None:
    lexicon = finnish().lexicon
    for section in (lexicon.nouns, lexicon.adjectives, lexicon.verbs, lexicon.adverbs):
        assert len({entry["lemma"] for entry in section.values()}) == len(section)


def test_vowel_harmony_holds_in_every_sampled_word() -> None:
    language, rng = finnish(), Random(0)
    compounds = ("polkupyör", "maanviljelij", "saksanpähkin", "sanomaleh")  # whose parts differ
    for _ in range(400):
        text = language.render(sample(language.world, rng)).text.lower()
        mixed = [w for w in text.split() if set(w) & set("aou") and set(w) & set("äöy")]
        assert all(w.startswith(compounds) for w in mixed), text
