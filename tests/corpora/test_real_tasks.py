"""Published task sets: rows in their own columns, what is said of broken ones, and the sets' own counts."""

import gzip
import json
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
from real_data import DATA

from langmerge import tasks
from langmerge.corpora.readers.tasks import FORMATS, identical, read_task, repeated


@pytest.fixture
def data() -> Path:
    if not (DATA / "acceptability").is_dir():
        pytest.skip(f"no the published sets in {DATA}")
    return DATA


def write(path, rows, lang=None):
    extra = {"lang": lang} if lang else {}
    path.write_bytes(gzip.compress("".join(json.dumps(extra | row) + "\n" for row in rows).encode()))
    return str(path)


def read(path, name, language="en", split="test", **source):
    return read_task({"path": str(path), "format": name, **source}, language, split)


BLIMP = {
    "field": "syntax",
    "phenomenon": "island_effects",
    "paradigm": "adjunct_island",
    "pair_id": 7,
    "sentence_good": "Who should Derek hug after shocking Richard?",
    "sentence_bad": "Who should Derek hug Richard after shocking?",
}
MULTIBLIMP = {
    "phenomenon": "SV-P",
    "sen": "She is here.",
    "wrong_sen": "She am here.",
    "prefix": "She",
    "verb": "is",
    "swap_head": "am",
}
MGSM = {"uid": "mgsm.0", "question": "2 und 3 macht was?", "answer": "5"}
XCOPA = {
    "premise": "Mees keeras kraani lahti.",
    "choice1": "Tualett täitus veega.",
    "choice2": "Tilast voolas vett.",
    "question": "effect",
    "label": 1,
    "idx": 3,
    "changed": False,
}
XQUAD = {"uid": "q1", "title": "T", "context": "Rom liegt am Tiber.", "question": "Wo liegt Rom?", "answer": "am Tiber"}
CHOICES = {"label": ["A", "B", "C"], "text": ["ein Hut", "ein Hund ", "eine Uhr"]}
COMMONSENSE = {"question": "Was bellt?", "question_concept": "bellen", "choices": CHOICES, "answerKey": "B"}
AFRISENTI = {"uid": "sw_1", "text": "Nzuri sana", "label": "positive"}
XED = {"uid": "xed.1", "text": "All dead, you mean!", "emotions": ["anger"], "polarity": "negative"}
SUMMARY = {"uid": "s1", "title": "T", "text": "A b c. D e f. G h i.", "summary": "A to i."}
ROWS = {
    **dict.fromkeys(("blimp", "clams", "sling", "turblimp"), BLIMP),
    "multiblimp": MULTIBLIMP,
    "mgsm": MGSM,
    "xcopa": XCOPA,
    "xquad": XQUAD,
    "commonsense_qa": COMMONSENSE,
    "afrisenti": AFRISENTI,
    "xed": XED,
    **dict.fromkeys(("klexikon", "scitldr", "ntrex_headline", "summaries"), SUMMARY),
    "labelled": AFRISENTI,
    "items": {"id": "i1", "kind": "choice", "prompt": "2 + 3 =", "choices": ["5", "6"], "gold": 0, "group": "sums"},
}
TWO = {"en": {"negative": "bad", "positive": "good"}}


# ---- small files ---------------------------------------------------------------------------------------------------


def test_minimal_pairs_keep_whole_sentences(tmp_path):
    assert read(write(tmp_path / "b.jsonl.gz", [BLIMP], "en"), "blimp") == [
        {
            "id": "adjunct_island.7",
            "kind": "choice",
            "prompt": "",
            "choices": [BLIMP["sentence_good"], BLIMP["sentence_bad"]],
            "gold": 0,
            "group": "island_effects",
        }
    ]
    (pair,) = read(write(tmp_path / "m.jsonl.gz", [MULTIBLIMP], "en"), "multiblimp")
    assert (pair["id"], pair["choices"]) == ("multiblimp.0", ["She is here.", "She am here."])
    clams = {key: value for key, value in BLIMP.items() if key != "phenomenon"}
    assert read(write(tmp_path / "c.jsonl.gz", [clams]), "clams")[0]["group"] == "adjunct_island"


def test_group_is_stripped_and_may_be_another_column(tmp_path):
    path = write(tmp_path / "t.jsonl.gz", [{**BLIMP, "phenomenon": "quantifiers  "}])
    assert read(path, "turblimp")[0]["group"] == "quantifiers"
    assert read(path, "turblimp", columns={"group": "paradigm"})[0]["group"] == "adjunct_island"


def test_identical_and_repeated_pairs_stay_and_are_counted(tmp_path):
    same = {**BLIMP, "sentence_bad": BLIMP["sentence_good"]}
    rows = [{**row, "pair_id": i} for i, row in enumerate([BLIMP, same, BLIMP, same, same])]
    items = read(write(tmp_path / "b.jsonl.gz", rows), "blimp")
    assert (len(items), identical(items), repeated(items)) == (5, 3, 3)


def test_number_answers(tmp_path):
    answers = ["18", "2,125", "-3", "0.5", "1,234,567.25"]
    rows = [{**MGSM, "uid": str(i), "answer": answer} for i, answer in enumerate(answers)]
    items = read(write(tmp_path / "m.jsonl.gz", rows, "de"), "mgsm", "de", prompts={"de": "Frage: {question} Antwort:"})
    assert [item["answer"] for item in items] == ["18", "2125", "-3", "0.5", "1234567.25"]
    assert items[0]["prompt"] == "Frage: 2 und 3 macht was? Antwort:"
    assert {item["kind"] for item in items} == {"generation"}
    for wrong in ("five", "1,2", "12.", "12 %"):
        path = write(tmp_path / "w.jsonl.gz", [{**MGSM, "answer": wrong}], "de")
        with pytest.raises(ValueError, match=r"row 1, column 'answer': expected a number in digits"):
            read(path, "mgsm", "de")


def test_causal_choice_as_the_harness_builds_it(tmp_path):
    """The harness's own formula: premise[:-1] + " " + connector, choice[0].lower() + choice[1:]."""
    rows = [XCOPA, {**XCOPA, "idx": 4, "question": "cause", "label": 0}]
    effect, cause = read(write(tmp_path / "x.jsonl.gz", rows, "et"), "xcopa", "et")
    assert effect["prompt"] == XCOPA["premise"][:-1] + " seetõttu"
    assert effect["choices"] == ["tualett täitus veega.", "tilast voolas vett."]
    assert (effect["gold"], effect["group"], effect["id"]) == (1, "effect", "3")
    assert (cause["prompt"], cause["gold"]) == (XCOPA["premise"][:-1] + " sest", 0)


def test_a_premise_without_a_full_stop_loses_no_letter(tmp_path):
    tamil = {**XCOPA, "premise": "அந்த மனிதன் குழாயைத் திறந்தான்"}
    (item,) = read(write(tmp_path / "ta.jsonl.gz", [tamil], "ta"), "xcopa", "ta")
    assert item["prompt"] == tamil["premise"] + " எனவே"
    chinese = {**XCOPA, "premise": "那人打开水龙头。"}
    assert read(write(tmp_path / "zh.jsonl.gz", [chinese]), "xcopa", "zh")[0]["prompt"] == "那人打开水龙头 所以"


def test_turkish_choices_keep_their_vowel(tmp_path):
    row = {**XCOPA, "choice1": "Işık yandı.", "choice2": "İp koptu."}
    assert read(write(tmp_path / "x.jsonl.gz", [row]), "xcopa", "tr")[0]["choices"] == ["ışık yandı.", "ip koptu."]


def test_connectors_are_the_sources_where_it_gives_them(tmp_path):
    path = write(tmp_path / "x.jsonl.gz", [XCOPA])
    with pytest.raises(ValueError, match="no connector for 'cause' in de; give it as `words`"):
        read(path, "xcopa", "de")
    given = {"de": {"cause": "weil", "effect": "deshalb"}}
    assert read(path, "xcopa", "de", words=given)[0]["prompt"].endswith(" lahti deshalb")


def test_questions_about_a_text(tmp_path):
    path = write(tmp_path / "q.jsonl.gz", [XQUAD], "de")
    (item,) = read(path, "xquad", "de")
    assert (item["prompt"], item["answer"]) == ("Rom liegt am Tiber. Wo liegt Rom?", "am Tiber")
    path = write(tmp_path / "w.jsonl.gz", [{**XQUAD, "answer": "am Rhein"}], "de")
    with pytest.raises(ValueError, match="column 'answer': expected a part of the context"):
        read(path, "xquad", "de")


def test_questions_about_one_paragraph_share_a_split(tmp_path):
    rows = [{**XQUAD, "uid": f"{i}.{j}", "context": f"am Tiber {i}"} for i in range(60) for j in range(3)]
    path = write(tmp_path / "q.jsonl.gz", rows, "de")
    portions = {"train": [0, 0.5], "test": [0.5, 1]}
    parts = [{item["id"] for item in read(path, "xquad", "de", split, portions=portions)} for split in portions]
    assert all(parts) and not parts[0] & parts[1] and len(parts[0] | parts[1]) == 180
    assert all(
        len([name for name in part if name.split(".")[0] == str(i)]) in (0, 3) for part in parts for i in range(60)
    )


def test_labels_become_the_languages_words(tmp_path):
    rows = [
        {**XED, "uid": str(i), "polarity": polarity}
        for i, polarity in enumerate(["positive", "mixed", "negative", "other"])
    ]
    path = write(tmp_path / "x.jsonl.gz", rows, "en")
    items = read(path, "xed")
    assert [(item["choices"], item["gold"], item["group"]) for item in items] == [
        (["negative", "positive"], 1, "positive"),
        (["negative", "positive"], 0, "negative"),
    ]
    words = {"en": {"positive": "good", "negative": "bad", "mixed": "both"}}
    items = read(path, "xed", words=words, prompts={"en": "Line: {text} Mood:"})
    assert [(item["choices"][item["gold"]], item["group"]) for item in items] == [
        ("good", "positive"),
        ("both", "mixed"),
        ("bad", "negative"),
    ]
    assert {tuple(item["choices"]) for item in items} == {("good", "bad", "both")}
    assert items[0]["prompt"] == "Line: All dead, you mean! Mood:"


def test_items_are_taken_as_they_stand(tmp_path):
    choice = ROWS["items"]
    answer = {"id": "i2", "kind": "generation", "prompt": "2 + 3 =", "answer": "5"}
    items = read(write(tmp_path / "i.jsonl.gz", [choice, {**answer, "note": "left out"}], "en"), "items")
    assert items == [choice, {**answer, "group": ""}]
    for wrong, message in [
        ({"gold": 2}, "column 'gold': expected an index from 0 to 1, found '2'"),
        ({"choices": ["5"]}, "column 'choices': expected a list of two texts"),
        ({"kind": "essay"}, "column 'kind': expected one of choice, generation"),
    ]:
        with pytest.raises(ValueError, match=message):
            read(write(tmp_path / "w.jsonl.gz", [choice | wrong]), "items")


def test_braces_in_a_text_are_text(tmp_path):
    path = write(tmp_path / "a.jsonl.gz", [{**AFRISENTI, "text": "{label} {nothing}"}])
    assert read(path, "afrisenti", prompts={"en": "{text} ({label})"})[0]["prompt"] == "{label} {nothing} (positive)"


def test_wrong_words():
    source = {"format": "xed", "path": "nowhere.jsonl"}
    for words, message in [
        ({"positive": "gut"}, "words for 1 labels"),
        ({"positive": "gut", "negative": "gut"}, "two labels have the same word"),
        ({"positive": "gut", "neutral": "so"}, "no label 'neutral'; its labels are negative, positive, mixed, other"),
    ]:
        with pytest.raises(ValueError, match=message):
            read_task({**source, "words": {"en": words}}, "en", "test")
    with pytest.raises(ValueError, match="words for 0 labels"):
        read_task({**source, "format": "labelled"}, "en", "test")
    with pytest.raises(ValueError, match="unknown format 'glue'; expected one of items, blimp"):
        read_task({**source, "format": "glue"}, "en", "test")


def test_commonsense_as_the_harness_builds_it(tmp_path):
    """lm_eval/tasks/commonsense_qa/default.yaml: a line for each choice, and its letter is what is scored."""
    path = write(tmp_path / "c.jsonl.gz", [COMMONSENSE])
    (item,) = read(path, "commonsense_qa", "de")
    assert item["prompt"] == "Question: Was bellt?\nA. ein Hut\nB. ein Hund\nC. eine Uhr\nAnswer:"
    assert (item["choices"], item["gold"], item["id"]) == (["A", "B", "C"], 1, "commonsense_qa.0")
    (german,) = read(path, "commonsense_qa", "de", prompts={"de": "{options}\n{question} Antwort:"})
    assert german["prompt"].endswith("C. eine Uhr\nWas bellt? Antwort:")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"answerKey": "D"}, "column 'answerKey': expected one of A, B, C, found 'D'"),
        ({"choices": ["ein Hut", "ein Hund"]}, "column 'choices': expected `label` and `text`, lists of texts"),
        ({"choices": {"text": ["ein Hut"]}}, "column 'choices': expected `label` and `text`, lists of texts"),
        ({"choices": {"label": ["A", "B"], "text": ["x", " "]}}, "column 'choices': expected `label` and `text`"),
        ({"choices": {"label": ["A", "B"], "text": ["x"]}}, "column 'choices': expected as many labels as texts"),
        ({"choices": {"label": ["A", "A"], "text": ["x", "y"]}}, "two or more, all different"),
        ({"choices": {"label": ["A"], "text": ["x"]}, "answerKey": "A"}, "two or more, all different"),
    ],
)
def test_wrong_choices(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=f"c.jsonl.gz, row 1, {message}" if message[0] == "c" else message):
        read(write(tmp_path / "c.jsonl.gz", [COMMONSENSE | wrong]), "commonsense_qa")


def test_rows_of_one_language_out_of_a_table_of_all(tmp_path):
    """As if the other languages' rows were not there, whatever their other columns hold."""
    rows = [AFRISENTI | {"uid": f"{code}{i}", "language": code} for i in range(5) for code in ("sw", "yo")]
    rows += [{"uid": "broken", "language": "ha"}]
    source = {"words": {"sw": TWO["en"]}, "limit": 3}
    path, alone = write(tmp_path / "all.jsonl.gz", rows), write(tmp_path / "sw.jsonl.gz", rows[::2])
    assert read(path, "labelled", "sw", where={"language": "sw"}, **source) == read(alone, "labelled", "sw", **source)
    with pytest.raises(ValueError, match="row 1: no column 'lingua', which `where` names; the columns are uid, text"):
        read(path, "labelled", "sw", where={"lingua": "sw"}, **source)
    with pytest.raises(ValueError, match="nothing left of 0 rows for split test; check `where`"):
        read(path, "labelled", "sw", where={"language": "am"}, **source)


@pytest.mark.parametrize("name", FORMATS)
def test_each_row_is_an_item_of_the_workflow(tmp_path, name):
    """Written as a tasks file, it is read by the reader that training and scoring share."""
    language = "et"
    words = {language: TWO["en"]} if name == "labelled" else {}
    items = read(write(tmp_path / "s.jsonl.gz", [ROWS[name]], language), name, language, words=words)
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    (item,) = tasks.read_items(path)
    assert item.id == items[0]["id"]
    assert item.kind == items[0]["kind"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_column_is_needed(tmp_path, name):
    """Without one of the columns that an item is made of: file, row and column are named. Likewise if it is empty."""
    needed = {
        "clams": ("sentence_good", "sentence_bad", "paradigm"),
        "multiblimp": ("sen", "wrong_sen", "phenomenon"),
        "mgsm": ("question", "answer"),
        "xcopa": ("premise", "choice1", "choice2", "question", "label"),
        "xquad": ("context", "question", "answer"),
        "commonsense_qa": ("question", "choices", "answerKey"),
        "xed": ("text", "polarity"),
        **dict.fromkeys(("blimp", "sling", "turblimp"), ("sentence_good", "sentence_bad", "phenomenon")),
        **dict.fromkeys(("afrisenti", "labelled"), ("text", "label")),
        "items": ("kind", "choices", "gold"),
    }.get(name, ("text", "summary"))
    words = {"et": TWO["en"]} if name == "labelled" else {}
    for column in needed:
        row = {key: value for key, value in ROWS[name].items() if key != column}
        path = write(tmp_path / "s.jsonl.gz", [ROWS[name] | {"uid": "a", "pair_id": 0, "idx": 0}, row])
        with pytest.raises(ValueError, match=f"s.jsonl.gz, row 2: no column '{column}'; the columns are"):
            read(path, name, "et", words=words)
        path = write(tmp_path / "s.jsonl.gz", [row | {column: "  "}])
        with pytest.raises(ValueError, match=f"s.jsonl.gz, row 1, column '{column}': "):
            read(path, name, "et", words=words)


def test_broken_files_and_rows(tmp_path):
    with pytest.raises(ValueError, match="not a gzip file"):
        (tmp_path / "p.jsonl.gz").write_text("{}")
        read(tmp_path / "p.jsonl.gz", "blimp")
    with pytest.raises(ValueError, match=r"did you mean p\.jsonl\.gz\?"):
        read(tmp_path / "q.jsonl.gz", "blimp")
    with pytest.raises(ValueError, match=r"row 1, column 'lang': expected the language de, found 'en'"):
        read(write(tmp_path / "l.jsonl.gz", [MGSM], "en"), "mgsm", "de")
    with pytest.raises(ValueError, match=r"row 2: the id 'mgsm.0' stands twice"):
        read(write(tmp_path / "t.jsonl.gz", [MGSM, MGSM], "de"), "mgsm", "de")
    with pytest.raises(ValueError, match=r"column 'label': expected one of negative, neutral, positive, found 'happy'"):
        read(write(tmp_path / "a.jsonl.gz", [{**AFRISENTI, "label": "happy"}]), "afrisenti")
    for label in (2, True, "1.0"):
        with pytest.raises(ValueError, match=r"column 'label': expected one of 0, 1"):
            read(write(tmp_path / "x.jsonl.gz", [{**XCOPA, "label": label}]), "xcopa", "et")
    with pytest.raises(ValueError, match=r"column 'sen': expected a sentence that begins with the prefix 'He'"):
        read(write(tmp_path / "m.jsonl.gz", [{**MULTIBLIMP, "prefix": "He"}]), "multiblimp")
    with pytest.raises(ValueError, match=r"column 'text': expected text, found '3'"):
        read(write(tmp_path / "s.jsonl.gz", [{**SUMMARY, "text": 3}]), "klexikon")
    with pytest.raises(ValueError, match="nothing left of 1 rows for split test"):
        read(write(tmp_path / "n.jsonl.gz", [{**XED, "polarity": "other"}]), "xed")
    with pytest.raises(ValueError, match="no column 'mood'"):
        read(write(tmp_path / "o.jsonl.gz", [XED]), "xed", prompts={"en": "{text} {mood}"})


def test_tables_with_a_header_and_other_names(tmp_path):
    path = tmp_path / "m.de.prüf.tsv"
    path.write_text('n\tfrage\tanswer\n1\tWie "viele"?\t3\n\n2\tUnd?\t4\n', encoding="utf-8")
    source = {"path": str(tmp_path / "m.{language}.{split}.tsv"), "format": "mgsm", "splits": {"test": "prüf"}}
    items = read_task({**source, "columns": {"id": "n", "question": "frage"}}, "de", "test")
    assert [(item["id"], item["prompt"], item["answer"]) for item in items] == [
        ("1", 'Wie "viele"?', "3"),
        ("2", "Und?", "4"),
    ]
    path.write_text("question\tanswer\nWas\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 2: expected 2 columns between tabs as in the header, found 1"):
        read_task(source, "de", "test")


def test_limit_and_length(tmp_path):
    rows = [{**SUMMARY, "uid": str(i), "text": "x" * (10 + i)} for i in range(10)]
    path = write(tmp_path / "s.jsonl.gz", rows)
    assert [item["id"] for item in read(path, "klexikon", limit=3)] == ["0", "1", "2"]
    # The summary has 7 characters, so texts of up to 13.
    assert [item["id"] for item in read(path, "klexikon", max_characters=20)] == ["0", "1", "2", "3"]


def test_portions_cut_one_file_the_same_way_in_every_language(tmp_path):
    rows = [{**MGSM, "uid": f"mgsm.{i}"} for i in range(2000)]
    files = {language: write(tmp_path / f"{language}.jsonl.gz", rows, language) for language in ("de", "sw")}
    portions = {"train": [0, 0.6], "dev": [0.6, 0.7], "test": [0.7, 1]}
    parts = {
        language: {s: [i["id"] for i in read(path, "mgsm", language, s, portions=portions)] for s in portions}
        for language, path in files.items()
    }
    assert parts["de"] == parts["sw"]
    assert sorted(chain.from_iterable(parts["de"].values())) == sorted(row["uid"] for row in rows)
    # Binomial: three standard deviations are 66, 40 and 62.
    for split, expected, deviation in (("train", 1200, 66), ("dev", 200, 41), ("test", 600, 62)):
        assert abs(len(parts["de"][split]) - expected) < deviation


# ---- the published sets --------------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "language", "count", "ties", "repeats", "groups"),
    [
        ("blimp", "en", 67_000, 7, None, 13),
        ("multiblimp", "en", 770, 0, None, 2),
        ("clams", "en", 9_566, 0, None, 22),
        ("clams", "de", 3_140, 0, None, 7),
        ("clams", "fr", 3_280, 0, None, 7),
        ("clams", "ru", 3_280, 0, None, 7),
        ("sling", "zh", 40_560, 24, None, 8),
        ("turblimp", "tr", 16_000, 20, 831, 15),
    ],
)
def test_real_minimal_pairs(data, name, language, count, ties, repeats, groups):
    items = read(data / f"acceptability/{name}.{language}.jsonl.gz", name, language)
    assert (len(items), identical(items)) == (count, ties)
    assert len({item["group"] for item in items}) == groups
    if repeats is not None:
        assert repeated(items) == repeats


@pytest.mark.real
def test_real_paradigms_of_blimp(data):
    items = read(data / "acceptability/blimp.en.jsonl.gz", "blimp", columns={"group": "paradigm"})
    assert set(Counter(item["group"] for item in items).values()) == {1000}
    assert len({item["group"] for item in items}) == 67


@pytest.mark.real
def test_real_reasoning(data):
    for language in ("en", "de", "es", "fr", "ja", "ru", "sw", "zh", "th"):
        assert len(read(data / "reasoning/mgsm/{language}.jsonl.gz", "mgsm", language)) == 250
    for language in ("et", "ht", "id", "it", "sw", "ta", "vi", "zh"):
        path = data / "reasoning/xcopa/{language}.{split}.jsonl.gz"
        assert len(read(path, "xcopa", language, "dev", splits={"dev": "val"})) == 100
        test = read(path, "xcopa", language)
        assert len(test) == 500
        # As `zgrep -c '"question": "cause"'` counts them.
        assert Counter(item["group"] for item in test)["cause"] == {"sw": 213, "id": 246, "it": 246}.get(language, 250)
    ids = []
    for language in ("en", "de", "es", "ar", "hi", "ru", "tr", "zh"):
        portions = {"train": [0, 0.7], "test": [0.7, 1]}
        parts = [
            read(data / "reasoning/xquad/{language}.jsonl.gz", "xquad", language, split, portions=portions)
            for split in portions
        ]
        assert sum(map(len, parts)) == 1190
        ids.append([item["id"] for item in parts[1]])
    assert all(other == ids[0] for other in ids)  # aligned, so no language trains on another's test


AFRISENTI_COUNTS = {
    "am": (5984, 1497, 1999),
    "ha": (14172, 2677, 5303),
    "ig": (10192, 1841, 3682),
    "pcm": (5121, 1281, 4154),
    "pt": (3063, 767, 3662),
    "sw": (1810, 453, 748),
    "yo": (8522, 2090, 4515),
}


@pytest.mark.real
@pytest.mark.parametrize("language", AFRISENTI_COUNTS)
def test_real_afrisenti(data, language):
    path = data / "sentiment/afrisenti/{language}.{split}.jsonl.gz"
    sizes = tuple(len(read(path, "afrisenti", language, split)) for split in ("train", "dev", "test"))
    assert sizes == AFRISENTI_COUNTS[language]


@pytest.mark.real
def test_real_xed(data):
    path, splits = data / "sentiment/xed/{language}.{split}.jsonl.gz", {"dev": "valid"}
    all_words = {"de": {name: name for name in ("negative", "positive", "mixed", "other")}}
    assert len(read(path, "xed", "de", "train", words=all_words)) == 4405
    assert len(read(path, "xed", "de", "dev", splits=splits, words=all_words)) == 544
    brazilian = Counter(item["group"] for item in read(path, "xed", "pt-BR"))
    assert brazilian == {"negative": 595, "positive": 305}


@pytest.mark.real
def test_real_summaries(data):
    folder, splits = data / "summarization", {"dev": "validation", "test": "validation"}
    path = folder / "klexikon_{language}/{split}.jsonl.gz"
    portions = {"dev": [0, 0.5], "test": [0.5, 1]}
    parts = [
        read(path, "klexikon", "de", split, splits=splits, portions=portions) for split in ("train", "dev", "test")
    ]
    assert len(parts[0]) == 2345
    assert len(parts[1]) + len(parts[2]) == 272
    path = folder / "scitldr_{language}/{split}.jsonl.gz"
    assert [len(read(path, "scitldr", "en", split)) for split in ("train", "dev")] == [1992, 619]
    for language in ("en", "de", "fr", "es", "ru", "tr", "fi", "hi", "ar", "zh", "ja", "sw"):
        assert len(read(folder / "ntrex_headline/{language}.jsonl.gz", "ntrex_headline", language)) == 123
