"""Numbers in running text: which one an answer ends with, whatever the digits' grouping and script.

Digits of any script count. Groups of digits may be parted by spaces, apostrophes, commas or points; which of comma and
point is the decimal sign is the language's custom (CLDR), where the number itself leaves it open.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal

# Languages that write a decimal point, after CLDR's number symbols; the others here write a comma.
DECIMAL_POINT = "am bn en fil gu ha he hi ig ja kn ko ml mr ms my ne pa pcm si sw ta te th ur yo zh".split()  # noqa: SIM905
SPACES = "\u0020\u00a0\u2009\u202f"
# Not inside a number, nor of a name such as m2; a sign counts only where it joins nothing (10-5).
NUMBER = re.compile(
    r"(?<![\dA-Za-z])(?<!\d[.,])(?P<sign>[-+\u2212]?)"
    rf"(?P<body>\d{{1,3}}(?:[{SPACES}'\u2019]\d{{3}})+(?:[.,]\d+)?(?!\d)|\d+(?:[.,]\d+)*)"
)


def numbers(text: str, language: str) -> list[Decimal]:
    """All numbers in a text, in order, as exact decimals.

    A point or comma is the decimal sign if it stands once and is the language's, or cannot part thousands; of both
    kinds the last one is. Everything else parts groups: 1,234.5 is 1234.5 in any language; 1.234 is 1234 in Spanish
    and 1.234 in English.
    """
    # Arabic numerals have signs of their own, each with one meaning.
    found = NUMBER.finditer(text.replace("\u066c", "").replace("\u066b", "."))
    return [_value(match["body"], match["sign"], language) for match in found]


def _value(body: str, sign: str, language: str) -> Decimal:
    digits = re.sub(rf"[{SPACES}'\u2019]", "", body)
    marks = [character for character in digits if character in ".,"]
    decimal = ""
    if len(set(marks)) == 2:
        decimal = marks[-1]
    elif len(marks) == 1:
        whole, _, rest = digits.partition(marks[0])
        custom = "." if language in DECIMAL_POINT else ","
        thousands = len(rest) == 3 and len(whole) <= 3 and int(whole) > 0
        if marks[0] == custom or not thousands:
            decimal = marks[0]
    head, _, tail = digits.rpartition(decimal) if decimal else (digits, "", "")
    head = head.replace(".", "").replace(",", "")
    value = Decimal(f"{head}.{tail}" if tail else head)
    return -value if sign in ("-", "\u2212") else value


def same_number(output: str, answer: str, language: str) -> bool:
    """Whether the last number of ``output`` equals the last of ``answer`` (12, 12.0 and १२ are equal).

    The last one, because models that reason in steps say the result at the end (MGSM, arXiv 2210.03057). Without a
    number in ``answer`` the texts must be equal but for case, white space and form (NFKC).
    """
    wanted, found = numbers(answer, language), numbers(output, language)
    if wanted:
        return bool(found) and found[-1] == wanted[-1]
    return _plain(output) == _plain(answer)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
