"""From parameters tensor by tensor to a recipe with rules: the commonest become the recipe's, the others rules."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langmerge.catalogue import METHODS
from langmerge.merging.methods.layers import layer_index
from langmerge.merging.recipe import Recipe


@dataclass(frozen=True)
class Choice:
    """What one tensor is made of: models, base and the parameters of the method (in a form that can be compared)."""

    models: tuple[str, ...]
    base: str | None
    parameters: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, models: Sequence[str], base: str | None, parameters: Mapping[str, Any]) -> "Choice":
        """A choice of plain data."""
        rows = {key: tuple(value) if isinstance(value, list) else value for key, value in parameters.items()}
        return cls(tuple(models), base, tuple(sorted(rows.items())))

    def plain(self) -> dict[str, Any]:
        """The parameters."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in self.parameters}


def recipe_of(name: str, method: str, choices: Mapping[str, Choice], base: str | None = None) -> Recipe:
    """The recipe that gives each tensor its choice; `choices` are in the order of the tensors.

    `base` is the recipe's where the choice of most tensors names none.
    """
    groups: dict[Choice, list[str]] = {}
    for tensor, choice in choices.items():
        groups.setdefault(choice, []).append(tensor)
    main = max(groups, key=lambda choice: len(groups[choice]))
    rules = []
    for choice, tensors in groups.items():
        if choice != main:
            change = _change(method, choice, main)
            rules += [{**where, **change} for where in selectors(tensors, list(choices))]
    return Recipe.from_json(
        {
            "name": name,
            "method": method,
            "models": list(main.models),
            "base": main.base or base,
            "parameters": main.plain(),
            "rules": rules,
        }
    )


def _change(method: str, choice: Choice, main: Choice) -> dict[str, Any]:
    """What a rule must say for its choice to hold instead of the main one."""
    usual, own = main.plain(), choice.plain()
    known = METHODS[method].parameters
    # A rule with other models does not inherit what is given for each model.
    again = {key for key in own if choice.models != main.models and known[key].per_model}
    parameters = {key: value for key, value in own.items() if key in again or usual.get(key) != value}
    result: dict[str, Any] = {"parameters": parameters} if parameters else {}
    if choice.models != main.models:
        result["models"] = list(choice.models)
    if choice.base is not None and choice.base != main.base:
        result["base"] = choice.base
    return result


def selectors(tensors: Sequence[str], everything: Sequence[str]) -> list[dict[str, Any]]:
    """`layers` and `tensors` of rules that fit exactly these of all tensors, as short as can be."""
    result: list[dict[str, Any]] = []
    modules: dict[str, list[int]] = {}
    alone = []
    for tensor in tensors:
        index = layer_index(tensor)
        if index is None:
            alone.append(tensor)
        else:
            modules.setdefault(_template(tensor), []).append(index)
    if alone:
        result.append({"tensors": _alternatives([re.escape(name) for name in alone])})
    by_layers: dict[tuple[int, ...], list[str]] = {}
    for template, indices in modules.items():
        by_layers.setdefault(tuple(sorted(indices)), []).append(template)
    existing: dict[str, list[int]] = {}
    for tensor in everything:
        index = layer_index(tensor)
        if index is not None:
            existing.setdefault(_template(tensor), []).append(index)
    for layers, templates in by_layers.items():
        there = [template for template, found in existing.items() if set(found) & set(layers)]
        rule: dict[str, Any] = {}
        if any(set(existing[template]) != set(layers) for template in templates) or set(there) == set(templates):
            rule["layers"] = list(layers)
        if set(there) != set(templates):
            rule["tensors"] = _alternatives(templates)
        result.append(rule)
    return result


def _template(tensor: str) -> str:
    """A regular expression for a tensor in any layer."""
    parts = tensor.split(".")
    number = next(i for i, part in enumerate(parts) if part.isdigit())
    return r"\.".join(r"\d+" if i == number else re.escape(part) for i, part in enumerate(parts))


def _alternatives(patterns: Sequence[str]) -> str:
    """One regular expression for several, what they begin with being written once."""
    if len(patterns) == 1:
        return patterns[0]
    rows = [pattern.split(r"\.") for pattern in patterns]
    same = 0
    while all(len(row) > same + 1 and row[same] == rows[0][same] for row in rows):
        same += 1
    start = "".join(part + r"\." for part in rows[0][:same])
    ends = [r"\.".join(row[same:]) for row in rows]
    return f"{start}({'|'.join(ends)})"
