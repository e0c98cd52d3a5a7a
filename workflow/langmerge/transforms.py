"""Languages that are another's transform: what their names say, how far two of them are apart, and tables of letters.

A name is the base's code and what differs, in this order: ``es-relex50-sov-script-noagree``.

- ``relexN``: N % of the words (1 to 100) are invented ones
- ``reversed`` or ``sov``: another order
- ``script``: another alphabet
- ``noagree``: no agreement
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NAME = re.compile(
    r"(-relex(?P<relexify>[1-9]\d?|100))?(-(?P<order>reversed|sov))?(?P<script>-script)?(?P<no>-noagree)?"
)


@dataclass(frozen=True)
class Transform:
    """What differs from the base; as it stands, nothing. ``script`` names or holds the letters."""

    relexify: float = 0.0
    order: str | None = None
    script: str | None = None
    agreement: bool = True
    seed: int = 0

    def distance(self, other: Transform) -> dict[str, float]:
        """How far two transforms of one base are apart in each dimension.

        ``lexicon``: the share of words that differ. With one seed the sets of invented words are nested and the words
        the same, so that it is |p - q| for shares p and q; with two seeds they are independent and it is
        1 - (1 - p)(1 - q) in expectation. ``order``, ``script`` and ``agreement``: 0 if the same, 1 if not.
        """
        p, q = self.relexify, other.relexify
        return {
            "lexicon": abs(p - q) if self.seed == other.seed else 1 - (1 - p) * (1 - q),
            "order": float(self.order != other.order),
            "script": float(self.script != other.script),
            "agreement": float(self.agreement != other.agreement),
        }


def named(code: str, base: str) -> Transform | None:
    """What the language ``code`` changes of ``base``; None if its name does not begin with the base's.

    Raises ValueError if what follows the base's name is not a transform's.
    """
    if code != base and not code.startswith(f"{base}-"):
        return None
    parts = NAME.fullmatch(code.removeprefix(base))
    if parts is None:
        raise ValueError(
            f"{code}: no transform of {base} is called so; expected {base} and some of -relexN (N % of the words, 1 to "
            "100), -reversed or -sov, -script, -noagree, in this order"
        )
    return Transform(
        relexify=int(parts["relexify"] or 0) / 100,
        order=parts["order"],
        script="script" if parts["script"] else None,
        agreement=not parts["no"],
    )


def letter_table(script: Any, place: str) -> dict[int, str]:
    """A translation table from ``{from: letters, to: letters}``, for capitals too.

    Raises ValueError naming ``place`` unless it is one to one on all letters.
    """
    if not isinstance(script, Mapping) or set(script) != {"from", "to"}:
        raise ValueError(f"{place}: expected {{from: letters, to: letters}}, found {script!r}")
    source, target = str(script["from"]), str(script["to"])
    if len(source) != len(target) or len(set(source)) != len(source) or len(set(target)) != len(target):
        raise ValueError(
            f"{place}: expected as many different letters in `to` as in `from`; "
            f"found {len(source)} ({len(set(source))} different) and {len(target)} ({len(set(target))} different)"
        )
    pairs = list(zip(source, target, strict=True))
    pairs += [(a.upper(), b.upper()) for a, b in pairs if a.upper() != a]
    table = {ord(a): b for a, b in pairs}
    if len(set(table.values())) != len(table) or any(len(b) != 1 for b in table.values()):
        raise ValueError(f"{place}: the capitals of `to` are not one to one; use a script with capitals")
    if set(table.values()) & {a for a, _ in pairs}:
        raise ValueError(f"{place}: `to` repeats letters of `from`; use letters of another script")
    return table
