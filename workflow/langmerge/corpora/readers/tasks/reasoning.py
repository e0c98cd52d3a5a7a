"""Questions: MGSM (a number), XCOPA (the more plausible of two), XQuAD (a span), CommonsenseQA (one of five)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from langmerge.corpora.readers.tasks.cells import Cells, fill

Item = dict[str, Any]
Build = Callable[[Cells, str], tuple[str, Item]]

NUMBER = re.compile(r"-?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?")
QUESTIONS = ("cause", "effect")
# What lm-evaluation-harness puts between premise and choice (lm_eval/tasks/xcopa/utils.py, copa/utils.py).
CONNECTORS = {
    "en": {"cause": "because", "effect": "therefore"},
    "et": {"cause": "sest", "effect": "seetõttu"},
    "ht": {"cause": "poukisa", "effect": "donk sa"},
    "id": {"cause": "karena", "effect": "maka"},
    "it": {"cause": "perché", "effect": "quindi"},
    "qu": {"cause": "imataq", "effect": "chaymi"},
    "sw": {"cause": "kwa sababu", "effect": "kwa hiyo"},
    "ta": {"cause": "காரணமாக", "effect": "எனவே"},
    "th": {"cause": "เพราะ", "effect": "ดังนั้น"},
    "tr": {"cause": "çünkü", "effect": "bu yüzden"},
    "vi": {"cause": "bởi vì", "effect": "vì vậy"},
    "zh": {"cause": "因为", "effect": "所以"},
}
DOTTED = str.maketrans("Iİ", "ıi")  # Turkish tells them apart, which str.lower does not


def mgsm(template: str) -> Build:
    """MGSM (arXiv 2210.03057): columns ``question`` and ``answer``, a number, from which thousands commas are removed.

    Raises ValueError for an answer that is not a number in digits.
    """

    def build(cells: Cells, number: str) -> tuple[str, Item]:
        answer = str(cells.value("answer")).strip()
        if not NUMBER.fullmatch(answer):
            raise cells.wrong("answer", "a number in digits, such as 18, 2,125 or 0.5", answer)
        return _generation(cells.identity() or number, fill(template, cells), answer.replace(",", ""))

    return build


def xquad(template: str) -> Build:
    """XQuAD (arXiv 1910.11856): columns ``context``, ``question`` and ``answer``, which is a span of the context.

    Questions about one paragraph fall into the same split, since they share its text: it is chosen by the id of the
    paragraph's first question, which is the same in all languages. Raises ValueError for an answer that is not in the
    context.
    """
    paragraphs: dict[str, str] = {}

    def build(cells: Cells, number: str) -> tuple[str, Item]:
        identity = cells.identity() or number
        context, answer = cells.text("context"), cells.text("answer")
        if answer not in context:
            raise cells.wrong("answer", "a part of the context", answer)
        return paragraphs.setdefault(context, identity), _generation(identity, fill(template, cells), answer)[1]

    return build


def xcopa(template: str, language: str, words: Mapping[str, str]) -> Build:
    """XCOPA (arXiv 2005.00333): premise and connector as the prompt, the two choices as its continuations.

    As lm-evaluation-harness builds it (its space between them included, also in Chinese): the premise loses its final
    mark, a choice begins in lower case. It differs in two things. The harness takes away the last character whatever it
    is, so it cuts a letter off 499 of the 500 Tamil test premises, which have no full stop; here only punctuation goes.
    And Turkish I becomes dotless. The group is "cause" or "effect". ``words`` replaces the connectors of
    :data:`CONNECTORS`. Raises ValueError for a language without connectors, for a label other than 0 and 1, and for a
    question other than cause and effect.
    """
    connectors = {**CONNECTORS.get(language, {}), **words}
    if missing := [question for question in QUESTIONS if question not in connectors]:
        raise ValueError(
            f"no connector for {missing[0]!r} in {language}; give it as `words`: {{{language}: {{cause: .., "
            f"effect: ..}}}}; known are {', '.join(CONNECTORS)}"
        )

    def build(cells: Cells, number: str) -> tuple[str, Item]:
        question = cells.one_of("question", QUESTIONS)
        premise = cells.text("premise")
        if unicodedata.category(premise[-1]).startswith("P"):
            premise = premise[:-1].rstrip()
        if not premise:
            raise cells.wrong("premise", "a sentence", cells.value("premise"))
        identity = cells.identity("idx") or number
        item = {
            "prompt": fill(template, cells, premise=premise, connector=connectors[question]),
            "choices": [_decapitalised(cells.text(name), language) for name in ("choice1", "choice2")],
            "gold": int(cells.one_of("label", ("0", "1"))),
            "group": question,
        }
        return identity, {"id": identity, "kind": "choice", **item}

    return build


def commonsense_qa(template: str) -> Build:
    """CommonsenseQA (arXiv 1811.00937), and mCSQA in eight languages (arXiv 2406.04215): one answer of several.

    Columns ``question``, ``choices`` (``label`` and ``text``, lists of one length) and ``answerKey``, a label. As
    lm-evaluation-harness builds it (lm_eval/tasks/commonsense_qa/default.yaml): the prompt lists the choices, which
    ``template`` has as ``{options}``, and what is chosen are their labels. Raises ValueError for other choices, and for
    a key that is none of the labels.
    """

    def build(cells: Cells, number: str) -> tuple[str, Item]:
        labels, texts = _options(cells)
        key = cells.one_of("answerKey", tuple(labels))
        options = "\n".join(f"{label}. {text}" for label, text in zip(labels, texts, strict=True))
        identity = cells.identity() or number
        item = {"prompt": fill(template, cells, options=options), "choices": labels, "gold": labels.index(key)}
        return identity, {"id": identity, "kind": "choice", **item, "group": ""}

    return build


def _options(cells: Cells) -> tuple[list[str], list[str]]:
    """Labels and texts of ``choices``."""
    value = cells.value("choices")
    labels, texts = (_texts(value.get(name)) if isinstance(value, Mapping) else [] for name in ("label", "text"))
    if not labels or not texts:
        raise cells.wrong("choices", "`label` and `text`, lists of texts", value)
    if len(labels) != len(texts) or len(set(labels)) < max(len(labels), 2):
        raise cells.wrong("choices", "as many labels as texts, two or more, all different", labels)
    return labels, texts


def _texts(value: object) -> list[str]:
    """A list's texts without white space around them; none if it is no list of texts, or if one is empty."""
    found = [cell.strip() for cell in value if isinstance(cell, str)] if isinstance(value, list) else []
    return found if isinstance(value, list) and all(found) and len(found) == len(value) else []


def _decapitalised(text: str, language: str) -> str:
    first = text[0].translate(DOTTED) if language == "tr" else text[0]
    return first.lower() + text[1:]


def _generation(identity: str, prompt: str, answer: str) -> tuple[str, Item]:
    return identity, {"id": identity, "kind": "generation", "prompt": prompt, "answer": answer, "group": ""}
