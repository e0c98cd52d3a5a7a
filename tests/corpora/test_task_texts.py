"""Summaries, causal choices and word problems: decided from the text by rules written here."""

import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import yaml

from langmerge.corpora.grammar.arithmetic import Arithmetic, Problem
from langmerge.corpora.grammar.causality import CausalChoice, Choice
from langmerge.corpora.grammar.corpus import held_out_combinations
from langmerge.corpora.grammar.drawing import Guard, draw_contents, rows
from langmerge.corpora.grammar.language import Language
from langmerge.corpora.grammar.meaning import Clause, NounPhrase
from langmerge.corpora.grammar.phrases import Phrases
from langmerge.corpora.grammar.summaries import Summaries
from langmerge.corpora.grammar.world import World

GRAMMAR = Path(__file__).resolve().parents[2] / "data" / "grammar"
LANGUAGES = ["de", "en", "es", "fi", "fr", "hi", "it", "ru", "tr"]
WORLD = World.load()
RULES = yaml.safe_load((GRAMMAR / "tasks" / "world.yaml").read_text(encoding="utf-8"))
ENGLISH = Language.load("en")


def make(task, size, language="en"):
    guard = Guard(held_out_combinations(WORLD, 0.1), 1, 1)
    contents = draw_contents(task, {"test": size}, guard, ENGLISH)["test"]
    return list(rows(task, contents, "test", Language.load(language), Phrases.load(language)))


def say(task, content, language):
    return task.row(content, Language.load(language), Phrases.load(language))


# ---- summaries -----------------------------------------------------------------------------------------------------


def sentences(row):
    return row["prompt"].removeprefix("Text: ").removesuffix(" Summary:").rstrip(".").split(". ")


def central(row):
    """The past sentence of the subject that two sentences have: every subject is an article and a noun."""
    subjects = Counter(" ".join(s.split()[:2]) for s in sentences(row))
    (hero, times), *_ = subjects.most_common()
    assert times == 2 and list(subjects.values()).count(2) == 1
    (event,) = (s for s in sentences(row) if s.startswith(hero) and not re.match(r"\w+ \w+ \w+s\b", s))
    return event


def test_the_summary_is_the_central_event_in_fewer_words():
    for row in make(Summaries(WORLD, RULES), 240):
        left = [re.sub("^an$", "a", word) for word in central(row).split()]
        assert sentences(row).index(central(row)) == int(row["group"].split()[1]) - 1
        assert 3 <= len(sentences(row)) <= 5
        said = [re.sub("^an$", "a", word) for word in row["answer"].rstrip(".").split()]
        assert len(said) < len(left)
        for word in said:  # a subsequence
            left = left[left.index(word) + 1 :]


def test_neither_the_first_sentence_nor_tense_alone_gives_the_summary():
    first = past = 0
    made = make(Summaries(WORLD, RULES), 240)
    for row in made:
        first += sentences(row)[0] == central(row)
        past += sum(not re.match(r"\w+ \w+ \w+(s|re)\b", s) for s in sentences(row)) > 1
    assert first == len(made) / 4
    assert past == len(made)


# ---- causal choices ------------------------------------------------------------------------------------------------

PLAUSIBLE = {
    "tired": {"slept", "rested", "fell"},
    "happy": {"danced", "sang", "smiled", "laughed"},
    "sad": {"cried"},
    "rich": {"bought"},
    "poor": {"sold"},
    "broken": {"repaired"},
    "sick": {"did not work"},
    "boring": {"did not read"},
    "interesting": {"read"},
    "dangerous": {"did not visit", "did not follow"},
    "expensive": {"did not buy", "did not choose"},
    "cheap": {"bought"},
}


def test_the_right_effect_is_the_plausible_one():
    asked = 0
    for row in make(CausalChoice(WORLD, RULES), 800):
        premise = re.sub(r" (yesterday|today|last \w+)(?=,| because)", "", row["prompt"])
        state = re.search(r"(?:was|were) (\w+), so$", premise)
        if state and state[1] in PLAUSIBLE:
            fits = [
                any(re.search(rf"(?<!not ){effect}\b", choice) for effect in PLAUSIBLE[state[1]])
                for choice in row["choices"]
            ]
            assert fits.index(True) == row["gold"] and sum(fits) == 1, row
            asked += 1
    assert asked > 100


def test_no_continuation_is_right_by_itself_or_both_right_and_wrong():
    made = make(CausalChoice(WORLD, RULES), 2000)
    answers, alone = defaultdict(set), Counter()
    hits = 0
    for number, row in enumerate(made):
        # Which continuation was right more often so far, whatever the premise
        votes = [alone[choice] for choice in row["choices"]]
        hits += (votes[row["gold"]] > votes[1 - row["gold"]]) if number >= 1000 else 0
        premise = re.sub(r" (yesterday|today|last \w+)(?=,| because)", "", row["prompt"])
        for i, choice in enumerate(row["choices"]):
            answers[premise, choice].add(i == row["gold"])
            alone[choice] += 1 if i == row["gold"] else -1
    assert all(len(found) == 1 for found in answers.values())
    assert hits < 560


def test_every_rule_can_be_said_in_the_whole_world():
    task = CausalChoice(WORLD, RULES)
    assert len(task.contrasts) == len(RULES["causality"])
    for rule in RULES["causality"]:
        for pattern in (*rule["causes"], *rule["effects"]):
            assert {v for k, v in pattern.items() if k in ("subject", "object", "recipient")} <= set(rule["roles"])
            assert pattern.get("predicate", "tired") in WORLD.adjectives and pattern.get("verb", "see") in WORLD.verbs
    with pytest.raises(ValueError, match="rule 1: expected two causes and two effects"):
        CausalChoice(WORLD, {"causality": [{**RULES["causality"][0], "causes": []}]})


GIRL, LAMP, WE = NounPhrase("girl", "sg", "the"), NounPhrase("lamp", "sg", "the"), NounPhrase("we", "pl")
REPAIR = Choice(
    "effect",
    Clause("be", LAMP, "past", predicate="broken"),
    Clause("repair", GIRL, "past", object=LAMP),
    Clause("clean", GIRL, "past", object=LAMP),
    1,
    "",
)
LETTER = NounPhrase("letter", "sg", "the")
READ = Choice(
    "cause",
    Clause("read", WE, "past", negative=True, object=LETTER),
    Clause("be", LETTER, "past", predicate="boring"),
    Clause("be", LETTER, "past", predicate="interesting"),
    0,
    "",
)


@pytest.mark.parametrize(
    ("content", "language", "prompt", "right"),
    [
        (REPAIR, "en", "The lamp was broken, so", "the girl repaired the lamp."),
        (REPAIR, "de", "Die Lampe war kaputt, sodass", "das Mädchen die Lampe reparierte."),
        (REPAIR, "es", "La lámpara estaba rota, así que", "la chica reparó la lámpara."),
        (REPAIR, "fr", "La lampe était cassée, donc", "la fille a réparé la lampe."),
        (REPAIR, "it", "La lampada era rotta, quindi", "la ragazza ha riparato la lampada."),
        (REPAIR, "ru", "Лампа была сломана, поэтому", "девочка починила лампу."),
        (REPAIR, "fi", "Lamppu oli rikkinäinen, joten", "tyttö korjasi lampun."),
        (REPAIR, "tr", "Lamba kırıktı, bu yüzden", "kız lambayı tamir etti."),
        (REPAIR, "hi", "लैंप टूटा हुआ था, इसलिए", "लड़की ने लैंप की मरम्मत की।"),
        (READ, "de", "Wir lasen den Brief nicht, weil", "der Brief langweilig war."),
        (READ, "fr", "Nous n'avons pas lu la lettre, car", "la lettre était ennuyeuse."),
        (READ, "ru", "Мы не прочитали письмо, потому что", "письмо было скучным."),
        (READ, "tr", "Mektubu okumadık, çünkü", "mektup sıkıcıydı."),
        (READ, "fi", "Emme lukeneet kirjettä, koska", "kirje oli tylsä."),
    ],
)
def test_causal_choices_as_a_native_says_them(content, language, prompt, right):
    row = say(CausalChoice(WORLD, RULES), content, language)
    assert (row["prompt"], row["choices"][row["gold"]]) == (prompt, right)


# ---- word problems -------------------------------------------------------------------------------------------------


def solve(problem):
    """The answer to an English problem, from its verbs and numbers."""
    *told, question = re.split(r"(?<=[.?]) ", problem)
    total = None
    for sentence in told:
        (number,) = map(int, re.findall(r"\d+", sentence))
        if total is None:
            total = number
        elif "in each" in sentence:
            total *= number
        elif re.search(r"\b(bought|found)\b", sentence):
            total += number
        else:
            assert re.search(r"\b(sold|lost|ate|gave)\b", sentence)
            total -= number
    assert question.startswith("How many") and question.endswith(("left?", "in total?"))
    return total


def test_answers_follow_from_the_numbers_in_the_text():
    made = make(Arithmetic(WORLD, RULES), 420)
    for row in made:
        assert row["answer"] == str(solve(row["prompt"])) and int(row["answer"]) >= 1
        assert all(2 <= int(number) <= 20 for number in re.findall(r"\d+", row["prompt"]))
    assert len({row["answer"] for row in made}) > 30


@pytest.mark.parametrize("language", [code for code in LANGUAGES if code != "en"])
def test_the_numbers_are_the_same_in_every_language(language):
    task = Arithmetic(WORLD, RULES)
    for english, other in zip(make(task, 84), make(task, 84, language), strict=True):
        assert re.findall(r"\d+", other["prompt"]) == re.findall(r"\d+", english["prompt"])
        assert other["answer"] == english["answer"]


FARMER = NounPhrase("farmer", "sg", "the")


def problem(noun, bought, ate):
    counted = [NounPhrase(noun, "pl", "two" if n < 5 else "five") for n in (bought, ate)]
    events = [Clause(v, FARMER, "past", object=np) for v, np in zip(("buy", "sell"), counted, strict=True)]
    return Problem("subtraction", noun, tuple(events), (bought, ate))


@pytest.mark.parametrize(
    ("noun", "language", "text"),
    [
        ("apple", "en", "The farmer bought 7 apples. The farmer sold 3 apples. How many apples are left?"),
        ("apple", "de", "Der Bauer kaufte 7 Äpfel. Der Bauer verkaufte 3 Äpfel. Wie viele Äpfel sind übrig?"),
        ("apple", "ru", "Фермер купил 7 яблок. Фермер продал 3 яблока. Сколько яблок осталось?"),
        ("key", "fi", "Maanviljelijä osti 7 avainta. Maanviljelijä myi 3 avainta. Montako avainta on jäljellä?"),
        ("book", "tr", "Çiftçi 7 kitap satın aldı. Çiftçi 3 kitap sattı. Kaç kitap kaldı?"),
        ("book", "hi", "किसान ने 7 किताबें ख़रीदीं। किसान ने 3 किताबें बेचीं। कितनी किताबें बचीं?"),
        ("apple", "hi", "किसान ने 7 सेब ख़रीदे। किसान ने 3 सेब बेचे। कितने सेब बचे?"),
        ("egg", "fr", "Le fermier a acheté 7 œufs. Le fermier a vendu 3 œufs. Combien d'œufs reste-t-il ?"),
        ("egg", "it", "Il contadino ha comprato 7 uova. Il contadino ha venduto 3 uova. Quante uova restano?"),
        ("apple", "es", "El agricultor compró 7 manzanas. El agricultor vendió 3 manzanas. ¿Cuántas manzanas quedan?"),
    ],
)
def test_problems_as_a_native_says_them(noun, language, text):
    row = say(Arithmetic(WORLD, RULES), problem(noun, 7, 3), language)
    assert (row["prompt"], row["answer"]) == (text, "4")


@pytest.mark.parametrize(
    ("language", "each"),
    [
        ("de", "In jedem Korb sind 3 Eier."),
        ("ru", "В каждой корзине 3 яйца."),
        ("fi", "Jokaisessa korissa on 3 kananmunaa."),
        ("it", "Ci sono 3 uova in ogni cesto."),
        ("fr", "Il y a 3 œufs dans chaque panier."),
        ("hi", "हर टोकरी में 3 अंडे हैं।"),
    ],
)
def test_what_each_basket_holds(language, each):
    baskets = Clause("buy", FARMER, "past", object=NounPhrase("basket", "pl", "five"))
    row = say(Arithmetic(WORLD, RULES), Problem("multiplication", "egg", (baskets,), (6, 3), "basket"), language)
    assert each in row["prompt"] and row["answer"] == "18"
