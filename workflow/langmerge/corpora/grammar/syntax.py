"""The `syntax` block of a language file: orders, and rules of which the first that holds counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Facts = Callable[[str], Any]

SLOTS = (
    *("subject", "verb", "rest", "negation", "object", "recipient"),
    *("predicate", "place", "manner", "frequency", "time"),
)
# Where a slot stands that `order` leaves out: (before or after, which).
DEFAULT_PLACES = {
    "rest": ("after", "verb"),
    "negation": ("before", "verb"),
    "predicate": ("after", "rest"),
    "frequency": ("before", "manner"),
}


class Syntax:
    """Orders, cases and agreement of a language. Further keys are kept for subclasses (`get`)."""

    def __init__(self, data: Mapping[str, Any], path: Path) -> None:
        """Raise ValueError naming file and key if `data` is not as the docstring of language.py says."""
        self.path = path
        self._data = data
        self.order = self._order("order", data.get("order"))
        self.order_subordinate = (
            self._order("order_subordinate", data["order_subordinate"]) if "order_subordinate" in data else self.order
        )
        self.order_be = self._order("order_be", data["order_be"]) if "order_be" in data else None
        self.verb_second = bool(data.get("verb_second", False))
        self.final = str(data.get("final", "."))
        drop = data.get("pro_drop", False)
        self.pro_drop: tuple[str, ...] = tuple(drop) if isinstance(drop, list) else ()
        if drop is True:
            self.pro_drop = ("i", "you", "we", "they")
        self._cases = {role: self._rules(f"cases.{role}", r, "case") for role, r in (data.get("cases") or {}).items()}
        self._agreement = self._rules("agreement", data.get("agreement", "subject"), "with")
        named = {str(rule["case"]) for rules in self._cases.values() for rule in rules if rule.get("case")}
        self.case_names = frozenset(named | set(data.get("case_names") or ()))

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key of the block."""
        value = self._data.get(key)
        return default if value is None else value

    def marking(self, role: str, facts: Facts) -> tuple[str, str]:
        """Case and adposition of a role by the first rule that holds; ("", "") without rules."""
        for rule in self._cases.get(role, ()):
            if _holds(rule, facts):
                return str(rule.get("case", "")), str(rule.get("adposition", ""))
        return "", ""

    def agreement(self, facts: Facts) -> str:
        """The role that the verb agrees with, or "none"."""
        return next((rule["with"] for rule in self._agreement if _holds(rule, facts)), "none")

    def _order(self, key: str, value: Any) -> list[str]:
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise ValueError(f"{self.path}: syntax.{key}: expected a list of slots, for example {list(SLOTS)}")
        order = list(value)
        for slot, (side, anchor) in DEFAULT_PLACES.items():
            if slot not in order and anchor in order:
                order.insert(order.index(anchor) + (side == "after"), slot)
        missing = [s for s in SLOTS if s not in order]
        if missing or len(set(order)) != len(order):
            raise ValueError(f"{self.path}: syntax.{key}: expected each slot once; missing: {missing}, found: {value}")
        return order

    def _rules(self, key: str, value: Any, result: str) -> list[Mapping[str, Any]]:
        rules = value if isinstance(value, list) else [value]
        rules = [{result: r} if isinstance(r, str) else r for r in rules]
        for rule in rules:
            if not isinstance(rule, Mapping) or not set(rule) <= {"if", "case", "adposition", "with"}:
                raise ValueError(f"{self.path}: syntax.{key}: expected rules {{if:, {result}:}}, found {rule!r}")
        return rules


def _holds(rule: Mapping[str, Any], facts: Facts) -> bool:
    for name, wanted in (rule.get("if") or {}).items():
        value = facts(name)
        if value not in wanted if isinstance(wanted, list) else value != wanted:
            return False
    return True
