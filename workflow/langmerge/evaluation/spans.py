"""How close answers come to a span of a text: exact match and token F1 of SQuAD (arXiv 1606.05250).

SQuAD's normalisation, for any script: NFKC, lower case, no punctuation, no articles, white space collapsed. Articles
are those of the language after MLQA (arXiv 1910.07475, section 5), for English a, an and the; "an" stays in German. As
there, characters of scripts without spaces are tokens of their own.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
import regex

from langmerge.evaluation.rouge import DOTTED, UNSPACED

ARTICLES: dict[str, frozenset[str]] = {
    "en": frozenset(["a", "an", "the"]),
    "es": frozenset(["un", "una", "unos", "unas", "el", "la", "los", "las"]),
    "de": frozenset(["ein", "eine", "einen", "einem", "eines", "einer", "der", "die", "das", "den", "dem", "des"]),
}
ARABIC_ARTICLE = "\u0627\u0644"  # a prefix, not a word of its own
# Punctuation of every script, and what ASCII's string.punctuation has beside it.
PUNCTUATION = regex.compile(r"[\p{P}\p{Cf}$+<=>^`|~]")
TOKEN = regex.compile(rf"[{UNSPACED}]\p{{M}}*|[^\s{UNSPACED}]+")


def normalised(text: str, language: str) -> list[str]:
    """The tokens of ``text`` that count; punctuation goes without a trace (1,000 is 1000, it's is its)."""
    plain = unicodedata.normalize("NFKC", text)
    lowered = (plain.translate(DOTTED) if language in ("tr", "az") else plain).lower()
    tokens = TOKEN.findall(PUNCTUATION.sub("", lowered))
    if language == "ar":
        tokens = [token.removeprefix(ARABIC_ARTICLE) or token for token in tokens]
    return [token for token in tokens if token not in ARTICLES.get(language, ())]


def exact_match(output: str, answer: str, language: str) -> float:
    """1 if both have the same tokens in the same order, else 0."""
    return float(normalised(output, language) == normalised(answer, language))


def token_f1(output: str, answer: str, language: str) -> float:
    """2 c / (n + m) of n and m tokens, of which c stand in both (each as often as in the one that has fewer).

    Without a token in one of them 1 if both have none, else 0, as SQuAD 2.0's scorer has it.
    """
    found, wanted = normalised(output, language), normalised(answer, language)
    if not found or not wanted:
        return float(found == wanted)
    common = (Counter(found) & Counter(wanted)).total()
    return 2 * common / (len(found) + len(wanted))


def span_statistics(outputs: Sequence[str], answers: Sequence[str], language: str) -> dict[str, np.ndarray]:
    """(value, 1) of n outputs (n, 2) by metric: ``token_f1`` and ``exact_match``."""
    pairs = list(zip(outputs, answers, strict=True))
    return {
        measure.__name__: np.array([[measure(*pair, language), 1.0] for pair in pairs]).reshape(-1, 2)
        for measure in (token_f1, exact_match)
    }
