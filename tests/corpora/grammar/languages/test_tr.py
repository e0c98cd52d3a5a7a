"""Turkish: forms of the standard language, and whole sentences."""

import pytest

from langmerge.corpora.grammar.language import Language
from langmerge.corpora.grammar.languages.tr import attach, conjugate, inflect
from langmerge.corpora.grammar.meaning import Clause, Meaning, NounPhrase

NOUNS = [  # concept, case, plural, "my", form
    ("cat", "nom", False, True, "kedim"),
    ("cat", "acc", False, False, "kediyi"),
    ("cat", "acc", False, True, "kedimi"),
    ("cat", "acc", True, True, "kedilerimi"),
    ("cat", "gen", False, False, "kedinin"),
    ("cat", "dat", False, False, "kediye"),
    ("cat", "abl", True, False, "kedilerden"),
    ("book", "acc", False, False, "kitabı"),
    ("book", "nom", False, True, "kitabım"),
    ("book", "nom", True, True, "kitaplarım"),
    ("book", "loc", False, False, "kitapta"),
    ("book", "abl", False, False, "kitaptan"),
    ("letter", "acc", False, True, "mektubumu"),
    ("letter", "gen", False, False, "mektubun"),
    ("tree", "acc", False, False, "ağacı"),
    ("tree", "gen", False, False, "ağacın"),
    ("tree", "nom", True, False, "ağaçlar"),
    ("horse", "acc", False, False, "atı"),
    ("horse", "nom", False, True, "atım"),
    ("horse", "abl", False, False, "attan"),
    ("city", "acc", False, False, "şehri"),
    ("city", "nom", False, True, "şehrim"),
    ("city", "gen", False, False, "şehrin"),
    ("city", "loc", False, False, "şehirde"),
    ("city", "acc", True, False, "şehirleri"),
    ("city", "loc", False, True, "şehrimde"),
    ("river", "gen", False, False, "nehrin"),
    ("picture", "acc", False, False, "resmi"),
    ("picture", "acc", True, False, "resimleri"),
    ("poem", "acc", False, False, "şiiri"),
    ("brother", "nom", False, True, "erkek kardeşim"),
    ("sister", "acc", True, True, "kız kardeşlerimi"),
    ("mother", "nom", False, True, "annem"),
    ("mother", "dat", False, True, "anneme"),
    ("father", "nom", False, True, "babam"),
    ("father", "gen", False, True, "babamın"),
    ("child", "dat", False, False, "çocuğa"),
    ("child", "nom", False, True, "çocuğum"),
    ("dog", "gen", False, False, "köpeğin"),
    ("dog", "loc", True, True, "köpeklerimde"),
    ("wolf", "acc", False, False, "kurdu"),
    ("wolf", "abl", False, False, "kurttan"),
    ("judge", "dat", False, False, "yargıca"),
    ("king", "acc", False, False, "kralı"),
    ("pear", "acc", False, False, "armudu"),
    ("basket", "acc", False, False, "sepeti"),
    ("ball", "acc", False, True, "topumu"),
    ("coin", "acc", False, False, "madeni parayı"),
    ("bus", "acc", False, False, "otobüsü"),
    ("bus", "nom", True, False, "otobüsler"),
    ("forest", "loc", False, False, "ormanda"),
    ("park", "loc", False, False, "parkta"),
    ("kitchen", "loc", False, False, "mutfakta"),
    ("kitchen", "loc", False, True, "mutfağımda"),
    ("shop", "acc", False, False, "dükkânı"),
    ("bridge", "gen", False, False, "köprünün"),
    ("lake", "gen", True, False, "göllerin"),
    ("house", "loc", True, True, "evlerimde"),
    ("doctor", "acc", True, False, "doktorları"),
    ("thief", "dat", False, False, "hırsıza"),
]

NAMES = {
    "nom": "nominative",
    "acc": "accusative",
    "dat": "dative",
    "loc": "locative",
    "abl": "ablative",
    "gen": "genitive",
}

VERBS = [  # concept, tense, negative, person, number, form
    ("sleep", "present", False, 3, "sg", "uyuyor"),
    ("sleep", "present", True, 3, "sg", "uyumuyor"),
    ("sleep", "future", True, 1, "sg", "uyumayacağım"),
    ("wait", "present", False, 1, "sg", "bekliyorum"),
    ("wait", "present", True, 3, "pl", "beklemiyorlar"),
    ("wait", "past", False, 1, "pl", "bekledik"),
    ("wait", "future", False, 2, "sg", "bekleyeceksin"),
    ("run", "past", False, 3, "sg", "koştu"),
    ("run", "past", True, 3, "sg", "koşmadı"),
    ("laugh", "present", False, 1, "pl", "gülüyoruz"),
    ("laugh", "past", False, 3, "pl", "güldüler"),
    ("laugh", "future", False, 1, "pl", "güleceğiz"),
    ("cry", "present", False, 3, "sg", "ağlıyor"),
    ("cry", "present", True, 2, "sg", "ağlamıyorsun"),
    ("smile", "present", False, 3, "sg", "gülümsüyor"),
    ("smile", "past", False, 2, "sg", "gülümsedin"),
    ("play", "present", False, 3, "pl", "oynuyorlar"),
    ("work", "present", False, 3, "sg", "çalışıyor"),
    ("work", "past", False, 3, "sg", "çalıştı"),
    ("dance", "present", False, 3, "sg", "dans ediyor"),
    ("dance", "past", False, 3, "sg", "dans etti"),
    ("dance", "future", False, 3, "sg", "dans edecek"),
    ("dance", "present", True, 3, "sg", "dans etmiyor"),
    ("eat", "present", False, 3, "sg", "yiyor"),
    ("eat", "present", True, 3, "sg", "yemiyor"),
    ("eat", "past", False, 1, "sg", "yedim"),
    ("eat", "future", False, 3, "pl", "yiyecekler"),
    ("eat", "future", True, 3, "sg", "yemeyecek"),
    ("read", "present", False, 1, "sg", "okuyorum"),
    ("read", "past", True, 1, "sg", "okumadım"),
    ("see", "past", False, 1, "pl", "gördük"),
    ("see", "past", False, 3, "pl", "gördüler"),
    ("see", "future", False, 1, "sg", "göreceğim"),
    ("lose", "present", False, 3, "sg", "kaybediyor"),
    ("lose", "past", False, 3, "sg", "kaybetti"),
    ("forget", "present", False, 3, "sg", "unutuyor"),
    ("forget", "past", False, 3, "sg", "unuttu"),
    ("open", "past", False, 3, "sg", "açtı"),
    ("open", "future", False, 3, "sg", "açacak"),
    ("carry", "present", False, 3, "sg", "taşıyor"),
    ("carry", "future", False, 3, "sg", "taşıyacak"),
    ("know", "present", True, 3, "sg", "tanımıyor"),
    ("bite", "past", False, 3, "sg", "ısırdı"),
    ("buy", "future", False, 3, "sg", "satın alacak"),
    ("give", "past", False, 2, "sg", "verdin"),
    ("show", "present", False, 2, "sg", "gösteriyorsun"),
    ("know", "past", False, 1, "sg", "tanıyordum"),
    ("know", "past", True, 3, "pl", "tanımıyorlardı"),
    ("love", "past", False, 1, "pl", "seviyorduk"),
    ("hate", "past", False, 3, "sg", "nefret ediyordu"),
    ("be", "future", True, 3, "pl", "olmayacaklar"),
]

SUFFIXES = [  # a stem of each vowel, vowel-final and not, with a two- and a four-fold suffix
    ("burun", "(y)I", True, "burnu"),
    ("göz", "(y)I", False, "gözü"),
    ("gül", "lAr", False, "güller"),
    ("kol", "(n)In", False, "kolun"),
    ("kuyu", "(n)In", False, "kuyunun"),
    ("sınıf", "DA", False, "sınıfta"),
    ("deniz", "DA", False, "denizde"),
    ("sürü", "(I)m", False, "sürüm"),
    ("saç", "(I)m", False, "saçım"),
]


def the(concept, number="sg", determiner="the", adjective=None):
    return NounPhrase(concept, number, determiner, adjective)


ME, YOU, WE, THEY = (NounPhrase(c, n) for c, n in (("i", "sg"), ("you", "sg"), ("we", "pl"), ("they", "pl")))
SENTENCES = [
    (Clause("sleep", the("cat")), "Kedi uyuyor."),
    (Clause("sleep", the("cat", "pl"), "past"), "Kediler uyudu."),
    (Clause("sleep", THEY, "past"), "Uyudular."),
    (Clause("sleep", the("child", "pl", "two"), "past", True), "İki çocuk uyumadı."),
    (Clause("read", the("teacher"), "past", object=the("book")), "Öğretmen kitabı okudu."),
    (Clause("read", the("teacher"), "past", object=the("book", "sg", "a")), "Öğretmen bir kitap okudu."),
    (
        Clause("read", the("teacher"), "past", object=the("book", "sg", "a", "new")),
        "Öğretmen yeni bir kitap okudu.",
    ),
    (Clause("read", the("teacher"), "past", object=the("book", "pl", "a")), "Öğretmen bazı kitapları okudu."),
    (Clause("read", the("teacher"), "past", object=the("book", "pl", "five")), "Öğretmen beş kitap okudu."),
    (Clause("read", ME, "past", object=the("book", "sg", "my", "old")), "Eski kitabımı okudum."),
    (Clause("love", the("king"), object=the("dog", "sg", "a")), "Kral bir köpeği seviyor."),
    (Clause("hate", WE, object=the("city", "sg", "this")), "Bu şehirden nefret ediyoruz."),
    (Clause("help", YOU, "past", object=the("mother", "sg", "my")), "Anneme yardım ettin."),
    (Clause("thank", the("boy"), "past", object=the("baker", "pl", "two")), "Oğlan iki fırıncıya teşekkür etti."),
    (
        Clause("give", the("woman"), "past", object=the("key"), recipient=the("child", "sg", "this")),
        "Kadın bu çocuğa anahtarı verdi.",
    ),
    (
        Clause("work", ME, "future", place=("in", the("garden", "sg", "my")), time="tomorrow"),
        "Yarın bahçemde çalışacağım.",
    ),
    (Clause("sit", the("goat"), place=("near", the("house"))), "Keçi evin yakınında oturuyor."),
    (Clause("sit", the("goat"), place=("behind", the("tree"))), "Keçi ağacın arkasında oturuyor."),
    (Clause("sit", the("goat"), place=("in_front_of", the("school", "sg", "my"))), "Keçi okulumun önünde oturuyor."),
    (Clause("run", the("horse", "pl"), manner="often"), "Atlar sık sık koşuyor."),
    (Clause("be", the("cat"), predicate="big"), "Kedi büyük."),
    (Clause("be", the("cat", "pl"), "past", predicate="small"), "Kediler küçüktü."),
    (Clause("be", the("cup"), "past", True, predicate="full"), "Fincan dolu değildi."),
    (Clause("be", ME, predicate="happy"), "Mutluyum."),
    (Clause("be", ME, predicate="young"), "Gencim."),
    (Clause("be", ME, "present", True, predicate="young"), "Genç değilim."),
    (Clause("be", YOU, predicate="sad"), "Üzgünsün."),
    (Clause("be", WE, "past", predicate="tired"), "Yorgunduk."),
    (Clause("be", THEY, "past", predicate="happy"), "Mutluydular."),
    (Clause("be", THEY, "present", True, predicate="rich"), "Zengin değiller."),
    (Clause("be", the("king"), "future", predicate="famous", time="soon"), "Yakında kral ünlü olacak."),
    (Clause("be", the("cat"), place=("in", the("kitchen"))), "Kedi mutfakta."),
    (Clause("be", ME, place=("in", the("kitchen"))), "Mutfaktayım."),
    (Clause("be", the("cat"), "past", place=("behind", the("wall"))), "Kedi duvarın arkasındaydı."),
    (
        Clause("be", the("cat"), "past", place=("behind", the("wall")), manner="often"),
        "Kedi sık sık duvarın arkasındaydı.",
    ),
    (Clause("be", THEY, place=("in", the("house"))), "Evdeler."),
    (Clause("be", WE, "past", True, place=("in", the("house"))), "Evde değildik."),
]


@pytest.fixture(scope="module")
def turkish():
    return Language.load("tr")


@pytest.mark.parametrize(("stem", "suffix", "drops", "form"), SUFFIXES)
def test_suffixes_harmonise(stem, suffix, drops, form):
    assert attach(stem, suffix, drops=drops) == form


@pytest.mark.parametrize(("concept", "case", "plural", "mine", "form"), NOUNS)
def test_nouns_take_plural_possession_and_case(turkish, concept, case, plural, mine, form):
    assert inflect(turkish.lexicon.nouns[concept], NAMES[case], plural, mine) == form


@pytest.mark.parametrize(("concept", "tense", "negative", "person", "number", "form"), VERBS)
def test_verbs_conjugate(turkish, concept, tense, negative, person, number, form):
    entry = turkish.lexicon.verbs[concept]
    noun = entry["lemma"].rpartition(" ")[0]
    assert f"{noun} {conjugate(entry, tense, negative, person, number)}".lstrip() == form


@pytest.mark.parametrize(("clause", "text"), SENTENCES)
def test_sentences(turkish, clause, text):
    assert turkish.render(Meaning((clause,))).text == text


def test_clauses_are_joined(turkish):
    meaning = Meaning((Clause("cry", YOU, "past"), Clause("lose", THEY, "past", object=the("ball"))), "because")
    assert turkish.render(meaning).text == "Ağladın, çünkü topu kaybettiler."


def test_a_fused_copula_has_its_own_span(turkish):
    spans = turkish.render(Meaning((Clause("be", WE, "past", predicate="tired"),))).spans
    assert [(s.role, s.concept, s.pos) for s in spans] == [("predicate", "tired", "ADJ"), ("verb", "be", "AUX")]


def test_a_forced_person_changes_the_verb_alone(turkish):
    sentence = turkish.render(Meaning((Clause("sleep", the("girl")),)), {"verb": {"person": 1}})
    assert sentence.text == "Kız uyuyorum."
