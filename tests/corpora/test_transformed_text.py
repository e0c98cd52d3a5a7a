"""Transforms of real text: one to one, as many words, the same map in every split."""

import gzip
import json
import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest
import real_data
import yaml

from langmerge.config import FilesCorpus
from langmerge.corpora import prepare
from langmerge.corpora.grammar.relexify import is_consonant
from langmerge.corpora.transformed import Transformer, words
from langmerge.corpora.transformed.order import reversed_clauses
from langmerge.provenance import InputError
from langmerge.transforms import named

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = {"from": "abcdefghijklmnñopqrstuvwxyzáéíóúü", "to": "абвгдеёжзийклмнопрстуфхцчшщъыьэюя"}
TEXTS = [
    "¿Quieres que le diga a Tom que no lo vamos a hacer?",
    "Tom dijo que estaría aquí, pero no lo encuentro.",
    "La casa es roja; las casas, no: son ROJAS. ¡La TV y la O!",
    "A las 2:30 el niño comió 3.000 higos, y yo 1...",
    "El niño y la niña comían con mi tío, el de Québec.",
    "La bestia vio a McDonald, la vecina, y al ex-novio - ¡sí, sí! -.",
]
CODES = [
    "es-relex25",
    "es-relex100",
    "es-reversed",
    "es-script",
    "es-relex50-script",
    "es-relex50-reversed",
    "es-relex100-reversed-script",
]


def make(code, texts=TEXTS, seed=0):
    return Transformer(named(code, "es"), words.types(texts), SCRIPT, seed)


def undone(transformer, text):
    """The inverse, step by step in the other order: letters, order, words."""
    text = text.translate({ord(new): chr(old) for old, new in transformer.letters.items()})
    text = reversed_clauses(text) if transformer.reverses else text
    back = {new: old for old, new in transformer.relexifier.words.items()}

    def word(found):
        new = found[0]
        old = back[new.lower()]
        return "".join(o.upper() if n.isupper() else o for o, n in zip(old, new, strict=False))

    return re.sub(r"[^\W\d_]+", word, text)


@pytest.mark.parametrize("code", CODES)
def test_the_inverse_gives_the_text_back_and_no_word_is_lost(code):
    transformer = make(code)
    for text in TEXTS:
        made = transformer(text)
        assert undone(transformer, made) == text
        assert len(made.split(" ")) == len(text.split(" "))
        assert sorted(c for c in made if not c.isalpha()) == sorted(c for c in text if not c.isalpha())
    assert [transformer(text) for text in TEXTS] != TEXTS


def test_clauses_are_reversed_between_marks():
    assert reversed_clauses("¿Vienes, o te quedas?") == "¿Vienes, quedas te o?"
    assert reversed_clauses("¡Ven! Son las 2:30, ex-novio.") == "¡Ven! 2:30 las Son, ex-novio."
    assert reversed_clauses('Dijo "no sé" y salió.') == 'Dijo "sé no" salió y.'
    assert reversed_clauses("a b - c d") == "b a - d c"
    assert reversed_clauses("...") == "..." and reversed_clauses("") == ""


def test_reversal_is_its_own_inverse_on_any_text():
    rng = Random(1)
    for _ in range(500):
        text = "".join(rng.choice("aé9 ,.-¿") for _ in range(rng.randrange(30)))
        made = reversed_clauses(text)
        assert reversed_clauses(made) == text
        assert sorted(made) == sorted(text)
        assert [c for c in made if c in ",¿"].count(",") == text.count(",")


def test_words_order_and_letters_commute():
    for text in TEXTS:
        both = make("es-relex100-reversed-script")(text)
        alone = [make(f"es-{part}") for part in ("relex100", "reversed", "script")]
        relexified, reverse, script = alone
        assert both == script(reverse(relexified(text))) == script(relexified(reverse(text)))
        assert both == reversed_clauses(script(relexified(text)))


def lexicon(size=3000):
    """Words with Zipf's frequencies; short ones are dense enough that ciphers hit real words."""
    rng, found = Random(2), {}
    while len(found) < size:
        length = 1 + min(int(rng.expovariate(0.25)), 9)
        word = "".join(rng.choice("bcdlmnprst" if i % 2 else "aeioué") for i in range(length))
        found.setdefault(word, 1 + 20000 // (1 + len(found)))
    return Counter(found)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_invented_words_are_others_unique_and_of_the_same_shape(seed):
    real = lexicon()
    new = words.invented(real, seed)
    assert set(new) == set(real) and len(set(new.values())) == len(real)
    assert not set(new.values()) & set(real)
    table = words.cipher(real, seed)
    assert sorted(table) == sorted(table.values())
    longer = 0
    for word, other in new.items():
        assert other.startswith("".join(table[letter] for letter in word))
        assert [is_consonant(c) for c in other[: len(word)]] == [is_consonant(c) for c in word]
        longer += len(other) > len(word)
    assert 0 < longer < 0.2 * len(real)


def test_a_letter_stands_for_another_of_its_kind_and_marks_follow():
    table = words.cipher(words.types(["el murciélago rápido comió ñandú y así huyó con ímpetu kiwi"] * 2), 0)
    plain = {letter: new for letter, new in table.items() if letter.isascii()}
    assert all(letter != new for letter, new in plain.items())
    assert all(is_consonant(letter) == is_consonant(new) for letter, new in table.items())
    acute = dict(zip("aeiou", "áéíóú", strict=True))
    followed = [letter for letter in acute if plain[letter] in acute]
    assert len(followed) >= 4 and all(table[acute[letter]] == acute[plain[letter]] for letter in followed)
    assert table["ñ"] == "ñ"


@pytest.mark.parametrize("seed", [0, 5])
def test_k_percent_of_the_words_and_about_as_much_of_the_text_are_replaced(seed):
    real = lexicon()
    largest_stem = max(map(len, words.ranked(real, seed)))
    before: set[str] = set()
    whole = words.Relexifier(real, 1.0, seed).words
    for share in (0.25, 0.5, 0.75, 1.0):
        relexifier = words.Relexifier(real, share, seed)
        replaced = {word for word, new in relexifier.words.items() if new != word}
        assert 0 <= len(replaced) - share * len(real) < largest_stem
        assert sum(real[word] for word in replaced) / real.total() == pytest.approx(share, abs=0.08)
        assert before <= replaced and all(relexifier.words[word] == whole[word] for word in replaced)
        assert len(set(relexifier.words.values())) == len(real)  # none replaced is one kept
        before = replaced


def test_forms_of_one_stem_are_replaced_together():
    real = lexicon()
    replaced = {word for word, new in words.Relexifier(real, 0.5).words.items() if new != word}
    for stem in words.ranked(real, 0):
        assert {word in replaced for word in stem} in ({True}, {False})


def test_nothing_but_words_and_seed_decides():
    again = Counter(dict(reversed(list(lexicon().items()))))
    assert words.Relexifier(again, 0.5, 3).words == words.Relexifier(lexicon(), 0.5, 3).words
    assert words.Relexifier(again, 0.5, 4).words != words.Relexifier(lexicon(), 0.5, 3).words


def test_capitals_stay():
    assert words.recased("nopa", "CASA") == "NOPA" and words.recased("nopa", "Casa") == "Nopa"
    assert words.recased("eb", "A") == "Eb" and words.recased("ruq", "TV") == "RUQ"
    assert words.recased("lekunesf", "McDonald") == "LeKunesf"


def test_a_word_that_was_not_there_is_an_error():
    with pytest.raises(ValueError, match="'perro' is not among those"):
        make("es-relex50")("El perro.")


def test_a_stray_letter_of_the_other_script_changes_places():
    """Tatoeba has "сierto" with a Cyrillic letter."""
    transformer = make("es-script", ["Es сierto."])
    assert undone(transformer, transformer("Es сierto.")) == "Es сierto."
    assert transformer("Es сierto.").startswith("Дт rз")


# ---- through the job -----------------------------------------------------------------------------------------------


def corpus(folder, **transforms):
    """Spanish as a file for each split."""
    splits = {"train": TEXTS[:4] * 2, "dev": TEXTS[4:5], "test": TEXTS[5:]}
    for split, texts in splits.items():
        rows = [{"uid": f"{split}.{i}", "es": text} for i, text in enumerate(texts)]
        path = folder / f"es.{split}.jsonl.gz"
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    sources = {s: {"path": str(folder / f"{{language}}.{s}.jsonl.gz"), "one_sided": True} for s in splits}
    section = {"base": "es", "script": SCRIPT, **transforms}
    return FilesCorpus.model_validate({"kind": "files", "splits": sources, "transforms": section})


def prepared(files, folder, code):
    folder.mkdir()
    statistics = prepare.prepare(files, "en", code, folder)
    rows = {s: [json.loads(line) for line in (folder / f"{s}.jsonl").open()] for s in ("train", "dev", "test")}
    return rows, statistics


def test_all_transforms_have_the_same_sentences_and_one_map_for_all_splits(tmp_path):
    files = corpus(tmp_path)
    original, plain = prepared(files, tmp_path / "es", "es")
    assert "transform" not in plain and len(original["train"]) == 4  # repeated ones dropped
    for code in CODES:
        rows, statistics = prepared(files, tmp_path / code, code)
        transformer = make(code, TEXTS[:4] * 2 + TEXTS[4:])
        for split, found in rows.items():
            assert [row["id"] for row in found] == [row["id"] for row in original[split]]
            assert [undone(transformer, row[code]) for row in found] == [row["es"] for row in original[split]]
            counts, other = statistics["splits"][split], plain["splits"][split]
            assert counts["words"][code] == other["words"]["es"]
            assert counts["characters"][code] == sum(len(row[code]) for row in found)
        assert statistics["transform"]["of"] == "es"
        assert statistics["transform"]["types"] == len(words.types(TEXTS))


def test_the_seed_is_that_of_the_study_file(tmp_path):
    (one, _), (two, _) = (prepared(corpus(tmp_path, seed=seed), tmp_path / str(seed), "es-relex100") for seed in (1, 2))
    assert one["dev"] != two["dev"]
    assert one["dev"][0]["es-relex100"] == make("es-relex100", TEXTS[:4] * 2 + TEXTS[4:], seed=1)(TEXTS[4])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("es-noagree", "-noagree .* real text has -relexN, -reversed and -script"),
        ("es-sov", "-sov .* needs to know"),
        ("es-relex500", "no transform of es is called so"),
    ],
)
def test_what_real_text_does_not_have_is_refused(tmp_path, code, message):
    with pytest.raises(ValueError, match=message):
        corpus(tmp_path).source_of(code)


def test_letters_must_be_given_and_one_to_one(tmp_path):
    with pytest.raises(ValueError, match="es-script: which letters"):
        corpus(tmp_path, script=None).source_of("es-script")
    with pytest.raises(ValueError, match="as many different letters"):
        corpus(tmp_path, script={"from": "ab", "to": "α"})


def test_text_without_an_alphabet_is_refused(tmp_path):
    files = corpus(tmp_path)
    for path in tmp_path.glob("*.gz"):
        path.write_bytes(gzip.compress(json.dumps({"uid": path.name, "es": "1 2 3"}).encode()))
    with pytest.raises(InputError, match="es-relex50: the text has no alphabet"):
        prepared(files, tmp_path / "made", "es-relex50")


@pytest.mark.real
def test_tatoeba_comes_back():
    folder = real_data.DATA / "translation" / "tatoeba"
    if not folder.is_dir():
        pytest.skip(f"no real text in {folder}")
    with gzip.open(folder / "en-es.test.jsonl.gz") as file:
        texts = [json.loads(line)["es"] for line in file]
    scale = yaml.safe_load((ROOT / "config/scales/tatoeba.distance.yaml").read_text())
    assert scale["corpus"]["transforms"]["script"] == SCRIPT
    for code in CODES:
        transformer = make(code, texts)
        made = [transformer(text) for text in texts]
        assert [undone(transformer, text) for text in made] == texts
        assert len(set(made)) == len(set(texts))
