"""Embedded tasks: what holds of all of them, and the command that writes them."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from langmerge.config import EmbeddedCorpus
from langmerge.config.tasks import EmbeddedTasks, FileTasks, TaskSource
from langmerge.corpora import tasks
from langmerge.corpora.grammar import corpus as grammar
from langmerge.corpora.grammar.arithmetic import Arithmetic
from langmerge.corpora.grammar.causality import CausalChoice
from langmerge.corpora.grammar.drawing import Guard, draw_contents
from langmerge.corpora.grammar.language import Language
from langmerge.corpora.grammar.phrases import BLOCKS, Phrases
from langmerge.corpora.grammar.reviews import Reviews
from langmerge.corpora.grammar.summaries import Summaries
from langmerge.corpora.grammar.world import World
from langmerge.corpora.readers.tasks import FORMATS
from langmerge.provenance import InputError, read_manifest
from langmerge.tasks import read_items

ROOT = Path(__file__).resolve().parents[2]
GRAMMAR = ROOT / "data" / "grammar"
LANGUAGES = ["de", "en", "es", "fi", "fr", "hi", "it", "ru", "tr"]
GENERATED = ["sentiment", "summarization", "causal_choice", "arithmetic"]
SIZES = {"train": 120, "dev": 24, "test": 24}
CORPUS = EmbeddedCorpus(kind="embedded", train=300, dev=300, test=300, grammar=str(GRAMMAR))
TASKS = EmbeddedTasks(kind="embedded", **dict.fromkeys(GENERATED, SIZES), classes=3)


def make(out, language, section=TASKS, corpus=CORPUS):
    spec = {"language": language, "pivot": "en", "tasks": section.model_dump(mode="json")}
    spec["corpus"] = corpus.model_dump(mode="json") if corpus else None
    tasks.main(["--spec", json.dumps(spec), "--out", str(out), "--code", "c", "--environment", "e"])
    return out


def rows(folder, task, split):
    return [json.loads(line) for line in (folder / f"{task}.{split}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("tasks")
    return {language: make(root / language, language) for language in LANGUAGES}


def whole(row):
    return row["prompt"], tuple(row.get("choices", [])), row.get("answer")


@pytest.mark.parametrize("task", GENERATED)
def test_ids_mean_the_same_in_every_language(folders, task):
    for split, size in SIZES.items():
        english = rows(folders["en"], task, split)
        assert len({row["id"] for row in english}) == size
        for language in LANGUAGES:
            other = rows(folders[language], task, split)
            assert [(r["id"], r["kind"], r["group"], r.get("gold"), len(r.get("choices", []))) for r in other] == [
                (r["id"], r["kind"], r["group"], r.get("gold"), len(r.get("choices", []))) for r in english
            ]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("task", GENERATED)
def test_no_item_stands_twice_or_in_two_splits(folders, task, language):
    splits = {split: [whole(row) for row in rows(folders[language], task, split)] for split in SIZES}
    train, dev, test = (set(splits[split]) for split in ("train", "dev", "test"))
    assert not train & dev and not train & test and not dev & test
    # As many as in English, but for a few that a language without articles or numerals on verbs cannot tell apart
    assert len(train) > 0.97 * SIZES["train"]
    prompts = {row["prompt"] for row in rows(folders[language], task, "test")}
    if task != "causal_choice":
        assert not prompts & {row["prompt"] for row in rows(folders[language], task, "train")}


def test_train_holds_no_sentence_of_the_corpus_dev_or_test():
    """By the hash that splits the corpus itself; dev and test items may hold any sentence."""
    world = World.load()
    data = yaml.safe_load((GRAMMAR / "tasks" / "world.yaml").read_text(encoding="utf-8"))
    barred, english = grammar.held_out_combinations(world, 0.1), Language.load("en")
    for task in (Reviews(world, data), Summaries(world, data), CausalChoice(world, data), Arithmetic(world, data)):
        found = draw_contents(task, {"train": 60, "test": 60}, Guard(barred, 5, 1), english)
        splits = {
            split: Counter(grammar._split_of(m, 5) for content in contents for m in content.meanings())
            for split, contents in found.items()
        }
        assert set(splits["train"]) == {"train"}
        assert set(splits["test"]) == {"train", "dev", "test"}


def test_every_reader_accepts_the_rows(folders):
    for task in GENERATED:
        for split, size in SIZES.items():
            items = read_items(folders["hi"] / f"{task}.{split}.jsonl")
            assert len(items) == size


def test_classes_positions_and_kinds_are_balanced_in_every_beginning(folders):
    for split, size in SIZES.items():
        for n in (12, size):
            labels = Counter(row["gold"] for row in rows(folders["en"], "sentiment", split)[:n])
            assert labels == {0: n // 3, 1: n // 3, 2: n // 3}
            causal = rows(folders["en"], "causal_choice", split)[:n]
            assert Counter((row["group"], row["gold"]) for row in causal) == {
                (question, gold): n // 4 for question in ("cause", "effect") for gold in (0, 1)
            }
        kinds = Counter(row["group"] for row in rows(folders["en"], "arithmetic", split))
        assert len(kinds) == 7 and max(kinds.values()) - min(kinds.values()) <= 1
        places = Counter(row["group"] for row in rows(folders["en"], "summarization", split))
        assert places == {
            "sentence 1": size // 4, "sentence 2": size // 4, "sentence 3": size // 4,
            "sentence 4": size // 6, "sentence 5": size // 12,
        }  # fmt: skip


def test_labels_are_those_of_the_language_in_one_order(folders):
    for language in LANGUAGES:
        words = {tuple(row["choices"]) for row in rows(folders[language], "sentiment", "test")}
        own = yaml.safe_load((GRAMMAR / "tasks" / f"{language}.yaml").read_text(encoding="utf-8"))["reviews"]["labels"]
        assert words == {(own["negative"], own["mixed"], own["positive"])}


def test_the_same_seed_gives_the_same_bytes_and_a_longer_split_begins_alike(folders, tmp_path):
    again = make(tmp_path / "again", "es")
    assert read_manifest(again)["outputs"] == read_manifest(folders["es"])["outputs"]
    longer = {task: {**SIZES, "train": 150, "test": 30} for task in GENERATED}
    more = make(tmp_path / "more", "es", TASKS.model_copy(update=EmbeddedTasks(kind="embedded", **longer).__dict__))
    two = dict.fromkeys(GENERATED, SIZES)
    few = make(tmp_path / "few", "es", EmbeddedTasks(kind="embedded", **two))
    for task in GENERATED:
        for split, size in SIZES.items():
            assert rows(more, task, split)[:size] == rows(few, task, split)
    other = make(tmp_path / "other", "es", TASKS.model_copy(update={"seed": 2}))
    assert rows(other, "sentiment", "test") != rows(folders["es"], "sentiment", "test")


def test_held_out_combinations_of_the_corpus_are_in_no_task(folders):
    world = World.load()
    barred = grammar.held_out_combinations(world, CORPUS.held_out)
    text = " ".join(row["prompt"] for split in SIZES for row in rows(folders["en"], "sentiment", split))
    said = {pair for pair in re.findall(r"[Tt]h(?:e|is) (\w+) is (?:not )?(\w+)", text) if pair[1] in world.adjectives}
    assert len(said) > 20 and not {(adjective, noun) for noun, adjective in said} & barred


def test_a_small_world_is_enough_for_small_splits_and_too_small_is_said(tmp_path, monkeypatch):
    small = CORPUS.model_copy(update={"nouns": 3, "verbs": 3, "adjectives": 5, "two_clauses": False})
    folder = make(tmp_path / "small", "tr", corpus=small)
    assert json.loads((folder / "statistics.json").read_text())["causal_choice"] == SIZES
    monkeypatch.setattr("langmerge.corpora.grammar.drawing.PATIENCE", 5)
    many = EmbeddedTasks(kind="embedded", causal_choice={"train": 9000, "dev": 8, "test": 8})
    with pytest.raises(InputError, match="causal_choice: the world has too few distinct items of kind"):
        make(tmp_path / "many", "tr", many, small)
    assert not (tmp_path / "many" / "manifest.json").exists()


def test_minimal_pairs_come_from_dev_and_test(tmp_path):
    section = EmbeddedTasks(kind="embedded", minimal_pairs={"dev": 3, "test": 4})
    folder = make(tmp_path / "pairs", "de", section)  # pairs come in twos
    found = {split: rows(folder, "minimal_pairs", split) for split in ("dev", "test")}
    assert set(Counter(row["group"] for row in found["dev"]).values()) == {2}
    assert set(Counter(row["group"] for row in found["test"]).values()) == {4}
    good = {split: {row["choices"][0] for row in found[split]} for split in found}
    assert not good["dev"] & good["test"]
    assert not (folder / "minimal_pairs.train.jsonl").exists()


# ---- wording, configuration, files -------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_few_pairs_of_a_small_lexicon_have_the_phenomena_of_many(language):
    def phenomena(seed, size):
        corpus = EmbeddedCorpus(
            kind="embedded", train=200, dev=24, test=24, nouns=4, verbs=3, adjectives=5, seed=seed, grammar=str(GRAMMAR)
        )
        section = EmbeddedTasks(kind="embedded", minimal_pairs={"dev": 0, "test": size})
        ((name, split, found),) = tasks.embedded_items(section, corpus, language)
        assert (name, split) == ("minimal_pairs", "test")
        return {row["group"] for row in found}

    many = phenomena(1, 24)
    assert many and all(phenomena(seed, 2) == many for seed in (1, 2))


def test_a_language_without_wording_is_named(tmp_path):
    with pytest.raises(InputError, match=r"tasks/es-relex50\.yaml: no such file"):
        make(tmp_path / "out", "es-relex50")


def test_wording_is_checked(tmp_path):
    data = yaml.safe_load((GRAMMAR / "tasks" / "de.yaml").read_text(encoding="utf-8"))
    path = tmp_path / "de.yaml"
    with pytest.raises(ValueError, match=r"de\.yaml: no `arithmetic`: the language does not take part"):
        Phrases({key: value for key, value in data.items() if key != "arithmetic"}, path).block("arithmetic")
    with pytest.raises(ValueError, match=r"reviews\.labels is missing"):
        Phrases({"reviews": {"prompt": "{text}"}}, path)
    with pytest.raises(ValueError, match=r"summaries\.prompt: \{text\} is missing"):
        Phrases({"summaries": {"prompt": "Text:"}}, path)
    with pytest.raises(ValueError, match="unknown block `review`"):
        Phrases({"review": {}}, path)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_takes_part_in_every_task(language):
    phrases = Phrases.load(language)
    assert [phrases.block(block) for block in BLOCKS]


def test_embedded_tasks_ask_for_something():
    with pytest.raises(ValueError, match="asks for no item"):
        EmbeddedTasks(kind="embedded")
    only = EmbeddedTasks(kind="embedded", arithmetic={"dev": 0, "test": 5})
    assert only.splits() == {"arithmetic": {"test": 5}}


def test_reviews_have_the_negations_and_contrasts_asked_for(tmp_path):
    for negation, contrast, kinds in ((0, 0, {"plain"}), (0, 1, {"but"}), (1, 0, {"negated"})):
        asked = {"sentiment": {"dev": 0, "test": 20}, "negation": negation, "contrast": contrast}
        section = EmbeddedTasks.model_validate({"kind": "embedded", **asked})
        made = rows(make(tmp_path / f"{negation}{contrast}", "en", section), "sentiment", "test")
        assert {row["group"] for row in made} == kinds


def test_embedded_tasks_need_an_embedded_corpus(tmp_path):
    with pytest.raises(InputError, match="embedded tasks need an embedded corpus"):
        make(tmp_path / "out", "es", corpus=None)


def test_tasks_from_files(tmp_path):
    row = {"id": "a", "kind": "generation", "prompt": "2 + 2", "answer": "4", "group": ""}
    (tmp_path / "es.probe.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    source = {"path": str(tmp_path / "{language}.{split}.jsonl"), "splits": {"test": "probe"}}
    section = FileTasks.model_validate({"kind": "files", "tasks": {"arithmetic": source}})
    folder = make(tmp_path / "out", "es", section, corpus=None)
    assert [item.answer for item in read_items(folder / "arithmetic.test.jsonl")] == ["4"]
    with pytest.raises(InputError, match=r"de\.probe\.jsonl"):
        make(tmp_path / "none", "de", section, corpus=None)


def test_file_sources_know_the_formats_of_the_readers():
    known = TaskSource.model_json_schema()["properties"]["format"]["enum"]
    assert set(known) == set(FORMATS)


def test_tasks_of_a_language_are_among_those_named():
    section = {"kind": "files", "tasks": {"arithmetic": {"path": "x"}}, "languages": {"de": ["sentiment"]}}
    with pytest.raises(ValueError, match=r"languages\.de: sentiment is not among tasks"):
        FileTasks.model_validate(section)
