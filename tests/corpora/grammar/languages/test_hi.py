"""Hindi: forms of the standard language, and whole sentences."""

import pytest

from langmerge.corpora.grammar.language import Language
from langmerge.corpora.grammar.languages.hi import Agreement, agree, conjugate, inflect, verb_stem
from langmerge.corpora.grammar.meaning import Clause, Meaning, NounPhrase

NOUNS = [  # concept, direct plural, oblique singular, oblique plural
    ("boy", "लड़के", "लड़के", "लड़कों"),
    ("girl", "लड़कियाँ", "लड़की", "लड़कियों"),
    ("child", "बच्चे", "बच्चे", "बच्चों"),
    ("man", "आदमी", "आदमी", "आदमियों"),
    ("woman", "औरतें", "औरत", "औरतों"),
    ("king", "राजा", "राजा", "राजाओं"),
    ("father", "पिता", "पिता", "पिताओं"),
    ("mother", "माँएँ", "माँ", "माँओं"),
    ("brother", "भाई", "भाई", "भाइयों"),
    ("sister", "बहनें", "बहन", "बहनों"),
    ("friend", "दोस्त", "दोस्त", "दोस्तों"),
    ("neighbour", "पड़ोसी", "पड़ोसी", "पड़ोसियों"),
    ("queen", "रानियाँ", "रानी", "रानियों"),
    ("dog", "कुत्ते", "कुत्ते", "कुत्तों"),
    ("horse", "घोड़े", "घोड़े", "घोड़ों"),
    ("cow", "गायें", "गाय", "गायों"),
    ("wolf", "भेड़िये", "भेड़िये", "भेड़ियों"),
    ("bear", "भालू", "भालू", "भालुओं"),
    ("knife", "चाकू", "चाकू", "चाकुओं"),
    ("book", "किताबें", "किताब", "किताबों"),
    ("letter", "चिट्ठियाँ", "चिट्ठी", "चिट्ठियों"),
    ("poem", "कविताएँ", "कविता", "कविताओं"),
    ("cave", "गुफ़ाएँ", "गुफ़ा", "गुफ़ाओं"),
    ("kitchen", "रसोइयाँ", "रसोई", "रसोइयों"),
    ("mirror", "आईने", "आईने", "आईनों"),
    ("house", "घर", "घर", "घरों"),
    ("village", "गाँव", "गाँव", "गाँवों"),
    ("castle", "क़िले", "क़िले", "क़िलों"),
    ("table", "मेज़ें", "मेज़", "मेज़ों"),
    ("room", "कमरे", "कमरे", "कमरों"),
    ("river", "नदियाँ", "नदी", "नदियों"),
    ("egg", "अंडे", "अंडे", "अंडों"),
]

ADJECTIVES = [  # concept, masculine singular, masculine plural (and oblique), feminine
    ("big", "बड़ा", "बड़े", "बड़ी"),
    ("new", "नया", "नए", "नई"),
    ("good", "अच्छा", "अच्छे", "अच्छी"),
    ("broken", "टूटा हुआ", "टूटे हुए", "टूटी हुई"),
    ("tired", "थका हुआ", "थके हुए", "थकी हुई"),
    ("fresh", "ताज़ा", "ताज़े", "ताज़ी"),
    ("red", "लाल", "लाल", "लाल"),
    ("heavy", "भारी", "भारी", "भारी"),
    ("clean", "साफ़", "साफ़", "साफ़"),
    ("kind", "दयालु", "दयालु", "दयालु"),
]

VERBS = [  # concept, tense, negative, person, gender, plural, form
    ("sleep", "present", False, 3, "m", False, "सोता है"),
    ("sleep", "present", False, 3, "f", True, "सोती हैं"),
    ("sleep", "present", True, 1, "m", False, "नहीं सोता हूँ"),
    ("sleep", "past", False, 3, "m", False, "सोया"),
    ("sleep", "past", False, 3, "m", True, "सोए"),
    ("sleep", "past", False, 3, "f", False, "सोई"),
    ("sleep", "past", False, 3, "f", True, "सोईं"),
    ("sleep", "future", False, 3, "f", False, "सोएगी"),
    ("sleep", "future", False, 2, "m", True, "सोओगे"),
    ("run", "past", False, 3, "f", True, "दौड़ीं"),
    ("run", "future", False, 1, "m", False, "दौड़ूँगा"),
    ("run", "future", False, 1, "m", True, "दौड़ेंगे"),
    ("run", "present", False, 2, "m", True, "दौड़ते हो"),
    ("wait", "past", False, 3, "m", False, "इंतज़ार किया"),
    ("wait", "past", True, 3, "m", False, "इंतज़ार नहीं किया"),
    ("travel", "past", False, 3, "f", False, "यात्रा की"),
    ("travel", "present", True, 3, "m", True, "यात्रा नहीं करते हैं"),
    ("work", "future", False, 3, "f", True, "काम करेंगी"),
    ("die", "past", False, 3, "f", False, "मर गई"),
    ("die", "past", True, 3, "f", False, "नहीं मरी"),
    ("die", "future", False, 3, "m", False, "मर जाएगा"),
    ("die", "future", True, 3, "m", False, "नहीं मरेगा"),
    ("forget", "present", False, 3, "m", False, "भूल जाता है"),
    ("forget", "present", True, 3, "m", False, "नहीं भूलता है"),
    ("fall", "past", False, 3, "f", True, "गिर गईं"),
    ("see", "past", False, 3, "f", True, "देखीं"),
    ("eat", "past", False, 3, "m", False, "खाया"),
    ("eat", "past", False, 3, "m", True, "खाए"),
    ("eat", "past", False, 3, "f", False, "खाई"),
    ("eat", "future", False, 3, "m", True, "खाएँगे"),
    ("lose", "past", False, 3, "f", False, "खो दी"),
    ("lose", "past", True, 3, "f", False, "नहीं खोई"),
    ("lose", "past", False, 3, "m", True, "खो दिए"),
    ("wash", "past", False, 3, "f", True, "धोईं"),
    ("clean", "past", False, 3, "f", True, "साफ़ कीं"),
    ("clean", "past", False, 3, "m", True, "साफ़ किए"),
    ("give", "past", False, 3, "m", False, "दिया"),
    ("give", "past", False, 3, "f", True, "दीं"),
    ("give", "future", False, 1, "m", False, "दूँगा"),
    ("give", "future", False, 3, "m", False, "देगा"),
    ("give", "future", False, 2, "m", True, "दोगे"),
    ("give", "future", False, 3, "f", True, "देंगी"),
    ("bring", "past", False, 3, "f", False, "लाई"),
    ("bring", "past", False, 3, "m", True, "लाए"),
    ("bring", "future", False, 3, "m", False, "लाएगा"),
    ("carry", "past", True, 3, "m", False, "नहीं ले गया"),
    ("carry", "past", False, 3, "f", False, "ले गई"),
    ("carry", "future", False, 3, "m", False, "ले जाएगा"),
    ("visit", "past", True, 3, "m", True, "देखने नहीं गए"),
    ("know", "past", False, 3, "f", True, "जानती थीं"),
    ("know", "past", True, 3, "m", False, "नहीं जानता था"),
    ("follow", "present", True, 3, "m", False, "पीछा नहीं करता है"),
    ("offer", "past", False, 3, "f", False, "पेश की"),
    ("be", "present", False, 1, "m", False, "हूँ"),
    ("be", "present", False, 2, "m", True, "हो"),
    ("be", "present", True, 3, "f", True, "नहीं हैं"),
    ("be", "past", False, 3, "f", True, "थीं"),
    ("be", "past", True, 3, "m", True, "नहीं थे"),
    ("be", "future", False, 3, "f", False, "होगी"),
    ("be", "future", False, 1, "m", True, "होंगे"),
]


def the(concept, number="sg", determiner="the", adjective=None):
    return NounPhrase(concept, number, determiner, adjective)


ME, YOU, WE, THEY = (NounPhrase(c, n) for c, n in (("i", "sg"), ("you", "sg"), ("we", "pl"), ("they", "pl")))
SENTENCES = [
    (Clause("sleep", the("cat")), "बिल्ली सोती है।"),
    (Clause("sleep", the("cat", "pl"), "past"), "बिल्लियाँ सोईं।"),
    (Clause("read", the("boy"), "past", object=the("book")), "लड़के ने किताब पढ़ी।"),
    (Clause("read", the("girl"), "past", object=the("book", "pl", "two")), "लड़की ने दो किताबें पढ़ीं।"),
    (Clause("read", the("girl"), "past", object=the("newspaper")), "लड़की ने अख़बार पढ़ा।"),
    (Clause("see", ME, "past", object=the("girl")), "मैंने लड़की को देखा।"),
    (Clause("see", THEY, "past", object=the("dog", "pl", "this")), "उन्होंने इन कुत्तों को देखा।"),
    (Clause("see", the("queen"), "past", object=the("river", adjective="big")), "रानी ने बड़ी नदी देखी।"),
    (Clause("buy", WE, "past", object=the("house", "sg", "a", "new")), "हमने एक नया घर ख़रीदा।"),
    (Clause("buy", YOU, "past", object=the("cow")), "तुमने गाय ख़रीदी।"),
    (Clause("see", the("man"), object=the("house")), "आदमी घर देखता है।"),
    (Clause("see", the("man"), object=the("house", "pl")), "आदमी घरों को देखता है।"),
    (Clause("see", the("man"), object=the("house", "pl", "the", "big")), "आदमी बड़े घर देखता है।"),
    (Clause("help", the("girl"), "past", object=the("boy")), "लड़की ने लड़के की मदद की।"),
    (Clause("help", the("boy"), "past", True, object=the("girl", "pl")), "लड़के ने लड़कियों की मदद नहीं की।"),
    (Clause("love", the("king"), object=the("queen", "sg", "my")), "राजा मेरी रानी से प्यार करता है।"),
    (Clause("draw", the("child"), "past", object=the("cat")), "बच्चे ने बिल्ली का चित्र बनाया।"),
    (Clause("follow", the("dog"), "past", object=the("fox", "sg", "a")), "कुत्ते ने एक लोमड़ी का पीछा किया।"),
    (Clause("clean", the("man"), "past", object=the("chair", "pl")), "आदमी ने कुर्सियाँ साफ़ कीं।"),
    (Clause("know", the("girl"), "past", object=the("city")), "लड़की शहर को जानती थी।"),
    (Clause("forget", the("girl"), "past", object=the("book")), "लड़की किताब भूल गई।"),
    (
        Clause("bring", the("girl"), "past", object=the("apple"), recipient=the("king")),
        "लड़की राजा के लिए सेब लाई।",
    ),
    (
        Clause("give", the("man"), "past", object=the("key"), recipient=the("child", "sg", "this")),
        "आदमी ने इस बच्चे को चाबी दी।",
    ),
    (
        Clause("give", ME, "past", object=the("book", "sg", "my"), recipient=the("friend", "pl", "my")),
        "मैंने अपने दोस्तों को अपनी किताब दी।",
    ),
    (Clause("give", WE, object=the("apple", "pl"), recipient=the("horse")), "हम घोड़े को सेब देते हैं।"),
    (Clause("wait", the("woman", "pl"), "past", True), "औरतों ने इंतज़ार नहीं किया।"),
    (Clause("travel", the("man", "pl"), "past"), "आदमियों ने यात्रा की।"),
    (Clause("visit", the("queen"), "past", object=the("museum")), "रानी संग्रहालय देखने गई।"),
    (
        Clause("work", ME, "future", place=("in", the("garden", "sg", "my")), time="tomorrow"),
        "कल मैं अपने बगीचे में काम करूँगा।",
    ),
    (
        Clause(
            "sing", the("girl", "pl", "five"), "past", place=("behind", the("house", "sg", "this")), manner="quietly"
        ),
        "पाँच लड़कियों ने इस घर के पीछे चुपचाप गाया।",
    ),
    (Clause("be", the("cup"), "past", predicate="broken"), "प्याला टूटा हुआ था।"),
    (Clause("be", the("girl", "pl"), predicate="tired"), "लड़कियाँ थकी हुई हैं।"),
    (Clause("be", YOU, predicate="good"), "तुम अच्छे हो।"),
    (Clause("be", ME, "present", True, predicate="happy"), "मैं ख़ुश नहीं हूँ।"),
    (Clause("be", the("cat", "pl", "my"), "past", place=("near", the("wall"))), "मेरी बिल्लियाँ दीवार के पास थीं।"),
    (
        Clause("be", the("boy", "pl"), "past", place=("near", the("wall")), manner="often"),
        "लड़के अक्सर दीवार के पास थे।",
    ),
    (Clause("be", the("queen"), "future", predicate="sad", time="next_year"), "अगले साल रानी दुखी होगी।"),
    (Clause("eat", the("mouse", "pl"), object=the("pear", "pl", "a")), "चूहे कुछ नाशपातियाँ खाते हैं।"),
]


@pytest.fixture(scope="module")
def hindi():
    return Language.load("hi")


@pytest.mark.parametrize(("concept", "plural", "oblique", "oblique_plural"), NOUNS)
def test_nouns_inflect_by_gender_and_ending(hindi, concept, plural, oblique, oblique_plural):
    entry = hindi.lexicon.nouns[concept]
    forms = inflect(entry, plural=True), inflect(entry, oblique=True), inflect(entry, plural=True, oblique=True)
    assert forms == (plural, oblique, oblique_plural)


@pytest.mark.parametrize(("concept", "masculine", "plural", "feminine"), ADJECTIVES)
def test_only_adjectives_in_long_a_agree(hindi, concept, masculine, plural, feminine):
    lemma = hindi.lexicon.adjectives[concept]["lemma"]
    assert agree(lemma, "m") == masculine
    assert agree(lemma, "m", plural=True) == agree(lemma, "m", oblique=True) == plural
    assert agree(lemma, "f") == agree(lemma, "f", plural=True) == agree(lemma, "f", oblique=True) == feminine


@pytest.mark.parametrize(("concept", "tense", "negative", "person", "gender", "plural", "form"), VERBS)
def test_verbs_conjugate(hindi, concept, tense, negative, person, gender, plural, form):
    entry = hindi.lexicon.verbs[concept]
    finite = conjugate(entry, tense, negative, Agreement(person, gender, plural))
    words = [verb_stem(entry)[0], "नहीं" if negative else "", finite]
    assert " ".join(w for w in words if w) == form


@pytest.mark.parametrize(("clause", "text"), SENTENCES)
def test_sentences(hindi, clause, text):
    assert hindi.render(Meaning((clause,))).text == text


def test_clauses_are_joined(hindi):
    meaning = Meaning((Clause("cry", YOU, "past"), Clause("lose", THEY, "past", object=the("ball"))), "because")
    assert hindi.render(meaning).text == "तुम रोए, क्योंकि उन्होंने गेंद खो दी।"


def test_the_auxiliary_is_told_from_the_verb(hindi):
    spans = hindi.render(Meaning((Clause("rest", the("girl", "pl")),))).spans
    assert [s.pos for s in spans] == ["NOUN", "PART", "VERB", "AUX"]


def test_a_forced_number_breaks_the_agreement_of_the_verb_alone(hindi):
    sentence = hindi.render(Meaning((Clause("sleep", the("girl", "pl")),)), {"verb": {"number": "sg"}})
    assert sentence.text == "लड़कियाँ सोती है।"
