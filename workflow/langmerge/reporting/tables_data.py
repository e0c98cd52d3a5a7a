"""Tables of the data: sizes, contamination, example translations."""

from __future__ import annotations

import unicodedata
from typing import Any

import pandas as pd

from langmerge.reporting.load import Results
from langmerge.reporting.samples import Scores, arrow
from langmerge.reporting.table import Cell, Table, cells, number

EXAMPLES = 2  # sentences per direction
PRINTED = ("LATIN", "CYRILLIC", "GREEK")  # writing systems that the PDF's fonts have


def data_table(results: Results) -> Table | None:
    """Sentence pairs and words per language and split, and how many held-out sentences training text repeats."""
    sizes = pd.DataFrame(results.contamination.get("sizes", []))
    if sizes.empty:
        return None
    splits = sorted(
        dict.fromkeys(sizes["split"]), key=lambda split: ("train", "dev", results.split, split).index(split)
    )
    within = results.contamination.get("within", {})
    across = pd.DataFrame(results.contamination.get("across", []))
    table = sizes.set_index(["language", "split"])
    body: list[list[Cell]] = []
    rows: list[dict[str, Any]] = []
    for language in dict.fromkeys(sizes.language):
        pairs = {split: table.pairs.get((language, split), 0) for split in splits}
        words = table.words.get((language, "train"), float("nan"))
        own = within.get(language, {}).get(results.split, {})
        worst = float("nan")
        if not across.empty:
            other = across[
                (across.held_out == language) & (across["split"] == results.split) & (across.train != language)
            ]
            worst = 100 * other.sentence_share.max()
        repeated = {"pivot": own.get(results.pivot, 0), "own": own.get(language, 0), "either": own.get("either", 0)}
        rows.append(
            {
                "language": language,
                **pairs,
                "train_words": words,
                **{f"repeated_{k}": v for k, v in repeated.items()},
                "worst_across_percent": worst,
            }
        )
        sizes_text = [f"{n:,}" for n in [*pairs.values(), words]]
        body.append(cells([language, *sizes_text, *map(str, repeated.values()), number(worst)]))
    return Table(
        "data",
        "Data and contamination",
        "Sentence pairs per split; words of training text on the language's side. Repeated: training pairs of "
        "the language with "
        f"a sentence of its {results.split} set, on the {results.pivot} side, the other, or either (before "
        "they are dropped, "
        f"where the study drops them). Across: the largest share (%) of {results.split} sentences on the "
        f"{results.pivot} side "
        "that stand in another language's training text.",
        ["Language", *splits, "words", results.pivot, "own", "either", "across"],
        body,
        pd.DataFrame(rows),
        [("pairs", len(splits)), ("", 1), ("repeated", 3), ("", 1)],
    )


def example_table(scores: Scores, group: str) -> Table | None:
    """A few sentences per language with reference and outputs of all rows; None without predictions."""
    r = scores.results
    body: list[list[Cell]] = []
    data: list[dict[str, Any]] = []
    rules: list[int] = []
    for code in r.languages:
        direction = r.direction(group, code)
        outputs = {}
        for row in scores.rows(group):
            key = row.keys.get((r.seeds[0], code))
            found = r.predictions(key, direction) if key else []
            if found:
                outputs[row.label] = found
        if not outputs:
            continue
        first = next(iter(outputs.values()))
        # Spread over the test set rather than its head, where sentences may be alike.
        for position in [len(first) * (2 * i + 1) // (2 * EXAMPLES) for i in range(min(EXAMPLES, len(first)))]:
            texts = [("Source", first[position]["source"]), ("Reference", first[position]["reference"])]
            texts += [(name, found[position]["hypothesis"] or "(empty)") for name, found in outputs.items()]
            head = {"direction": direction, "id": first[position]["id"]}
            data += [{**head, "system": kind, "text": text} for kind, text in texts]
            alike: dict[str, list[str]] = {}
            for kind, text in texts:
                alike.setdefault(text, []).append(kind)
            if body:
                rules.append(len(body))
            starts = [direction, *[""] * (len(alike) - 1)]
            body += [
                cells([start, ", ".join(kinds), text])
                for start, (text, kinds) in zip(starts, alike.items(), strict=True)
            ]
    if not body:
        return None
    return Table(
        f"examples_{group.replace('-', '_')}",
        f"Example translations, {arrow(group, r.pivot)}",
        f"{EXAMPLES} sentences per direction, evenly spread over the test set; outputs as the systems wrote them, "
        "equal ones in one row" + (f" (seed {r.seeds[0]})." if len(r.seeds) > 1 else "."),
        ["Direction", "System", "Text"],
        body,
        pd.DataFrame(data),
        rules=rules,
        text_columns=3,
        stretch=[1, 2],
    )


def printable(text: str) -> bool:
    """All letters belong to writing systems that the PDF's fonts have."""
    return all(unicodedata.name(letter, "?").split()[0] in PRINTED for letter in text if letter.isalpha())
