"""Data sets and models of the Hub that `paper.maintenance` names, as folders in their own layouts and columns, tiny.

The texts are invented words of each language. A folder with the name of a repository is read in its place.
"""

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tiny_llamas import byte_tokenizer, random_llama

Row = dict[str, Any]
Make = Callable[[random.Random, int], Row]

XLSUM = {"en": "english", "fr": "french", "ja": "japanese", "ru": "russian", "zh": "chinese_simplified"}
FLORES = ("eng_Latn", "fra_Latn", "jpn_Jpan", "rus_Cyrl", "zho_Hans")
LABELS = ("negative", "neutral", "positive")


def text(draw: random.Random, language: str, words: int) -> str:
    """So many invented words."""
    return " ".join(f"{language[:3]}{draw.randrange(60)}" for _ in range(words))


def write_rows(path: Path, make: Make, count: int) -> None:
    """A Parquet file of ``make(draw, number)``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = random.Random("/".join(path.parts[-3:]))
    pq.write_table(pa.Table.from_pylist([make(draw, number) for number in range(count)]), path)


def write_set(folder: Path, made: Mapping[str, tuple[Make, Mapping[str, int]]], listed: bool = True) -> None:
    """A data set: configuration to its rows and sizes by split; ``listed`` in its card, as all but conversions are."""
    card = ["---", "configs:"]
    for name, (make, sizes) in made.items():
        card += [f"- config_name: {name}", "  data_files:"]
        for split, count in sizes.items():
            place = f"{name}/{split}/0000.parquet"
            write_rows(folder / place, make, count)
            card += [f"  - split: {split}", f"    path: {place}"]
    if listed:
        (folder / "README.md").write_text("\n".join([*card, "---", ""]))


def summary(code: str) -> Make:
    return lambda draw, n: {
        "id": f"{n}",
        "url": "",
        "title": "",
        "summary": text(draw, code, 6),
        "text": text(draw, code, 15),
    }


def question(code: str) -> Make:
    def make(draw: random.Random, n: int) -> Row:
        choices = {"label": list("ABCDE"), "text": [f"{code}{i}" for i in draw.sample(range(60), 5)]}
        head = {"id": f"{n}", "question": f"{text(draw, code, 6)}?", "question_concept": f"{code}1"}
        return head | {"choices": choices, "answerKey": draw.choice("ABCDE"), "hard": n % 2 == 0}

    return make


def review(draw: random.Random, n: int) -> Row:
    code = (*XLSUM, "vi")[n % 6]
    return {"text": text(draw, code, 8), "label": draw.choice(LABELS), "source": "", "domain": "", "language": code}


def write_model(folder: Path) -> None:
    """A random Llama with a byte-level tokenizer."""
    tokenizer = byte_tokenizer()
    tokenizer.model_max_length = 8192
    random_llama(seed=3, max_position_embeddings=8192).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_hub(root: Path) -> None:
    """All of them under ``root``, and FLORES-200 as it is released."""
    split = {"train": 300, "validation": 60, "test": 60}
    write_set(root / "csebuetnlp/xlsum", {name: (summary(code), split) for code, name in XLSUM.items()}, listed=False)
    write_set(root / "yusuke1997/mCSQA", {code: (question(code), split) for code in XLSUM})
    reviews = {"train": 20_000, "validation": 400, "test": 400}
    write_set(root / "clapAI/MultiLingualSentiment", {"default": (review, reviews)})
    for half in ("dev", "devtest"):
        for code in FLORES:
            path = root / f"flores200_dataset/{half}/{code}.{half}"
            path.parent.mkdir(parents=True, exist_ok=True)
            draw = random.Random(path.name)
            path.write_text("".join(f"{text(draw, code, 8)}\n" for _ in range(200)))
    for name in ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.2-3B-Instruct"):
        write_model(root / name)
