"""ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004) for any script: the rouge-score library with a tokenizer of our own.

The library's own tokenizer keeps a-z and 0-9 only, so that two equal Hindi sentences score 0. Ours keeps letters, marks
and digits of every script. Scores are therefore not those of ROUGE-1.5.5; no stemmer is used.
"""

from __future__ import annotations

import functools
import importlib.metadata
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import regex

NAMES = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
# Written without spaces: every character, with its marks, is a token.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
TOKEN = regex.compile(rf"(?V1)[{UNSPACED}]\p{{M}}*|[[\p{{L}}\p{{M}}\p{{N}}]--[{UNSPACED}]]+")
DOTTED = str.maketrans({"I": "ı", "İ": "i"})  # how Turkish and Azerbaijani lower them


class UnicodeTokenizer:
    """Words of a text: NFKC, lower case, maximal runs of letters, marks and numbers.

    Characters of scripts without spaces stand alone; format characters (joiners) are dropped.
    """

    def __init__(self, language: str = "") -> None:
        self.language = language

    def tokenize(self, text: str) -> list[str]:
        """The tokens of ``text``."""
        plain = regex.sub(r"\p{Cf}", "", unicodedata.normalize("NFKC", text))
        lowered = (plain.translate(DOTTED) if self.language in ("tr", "az") else plain).lower()
        return list(TOKEN.findall(lowered))


@functools.cache
def _scorer(language: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(NAMES.values()), tokenizer=UnicodeTokenizer(language))


def rouge_statistics(outputs: Sequence[str], answers: Sequence[str], language: str) -> dict[str, np.ndarray]:
    """(F1, 1) of n outputs (n, 2) by name of :data:`NAMES`; 0 where output or answer has no token."""
    scores = [_scorer(language).score(answer, output) for output, answer in zip(outputs, answers, strict=True)]
    return {
        name: np.array([[score[library].fmeasure, 1.0] for score in scores], dtype=np.float64).reshape(-1, 2)
        for name, library in NAMES.items()
    }


def signature(name: str) -> str:
    """What to print next to a score."""
    return f"{name}|rouge_score:{importlib.metadata.version('rouge-score')}|tok:unicode|stem:no|mean of F1"
