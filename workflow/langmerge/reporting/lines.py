"""Where a line may not break: inside an interval, and between a number and its sign of relation, unit or SI prefix."""

from __future__ import annotations

import re

NO_BREAK = "\u00a0"
INTERVAL = re.compile(r"\[[^\[\]]{1,40}\]")  # [−0.1, 0.2]; longer brackets are prose
TIED = re.compile(r"(?<=\S) (?=[=<>] )|(?<=\S [=<>]) (?=\S)|(?<=\d) (?=(?:%|[kMGTPEZ]B?)(?!\w))")


def unbroken(text: str) -> str:
    """The text with no-break spaces where a line's end would part what is read as one number."""
    text = INTERVAL.sub(lambda found: found[0].replace(" ", NO_BREAK), text)
    return TIED.sub(NO_BREAK, text)
