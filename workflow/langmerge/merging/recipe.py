"""What is to be merged: recipes, and the order in which recipes that use one another are computed."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

from langmerge.catalogue import METHODS, check
from langmerge.merging.methods import layers

PARTS = ("embeddings", "head", "norms", "attention", "mlp", "other")
"""Parts of a model that a rule can name; see `langmerge.merging.methods.layers.part_of`."""


@dataclass(frozen=True)
class Rule:
    """Tensors that a recipe treats differently; of several rules the first that fits a tensor holds.

    A tensor fits if all that is given holds: it stands in one of `layers` (indices, negative ones count from
    the last), its whole name matches the regular expression `tensors`, it belongs to `part`. What is not
    given of method, models, base and data is the recipe's; `parameters` are added to the recipe's, or replace
    them with another method.
    """

    layers: tuple[int, ...] | None = None
    tensors: str | None = None
    part: str | None = None
    method: str | None = None
    models: tuple[str, ...] | None = None
    base: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if self.layers is None and self.tensors is None and self.part is None:
            raise ValueError("a rule needs at least one of layers, tensors, part")
        for key in ("layers", "models"):
            value = getattr(self, key)
            if isinstance(value, str):
                raise ValueError(f"{key}: expected a list, found {value!r}")
            if value is not None:
                object.__setattr__(self, key, tuple(value))
        if not isinstance(self.parameters, Mapping):
            raise ValueError(f"parameters: expected names with values, found {self.parameters!r}")
        if not isinstance(self.data, Mapping | None):
            raise ValueError(f"data: expected names of models with sources, found {self.data!r}")
        if self.part is not None and self.part not in PARTS:
            raise ValueError(f"part: {self.part!r} is not one of {', '.join(PARTS)}")
        if self.layers is not None and any(isinstance(i, bool) or not isinstance(i, int) for i in self.layers):
            raise ValueError(f"layers: {list(self.layers)} are not whole numbers")
        try:
            re.compile(self.tensors or "")
        except re.error as error:
            raise ValueError(f"tensors: {self.tensors!r} is not a regular expression ({error})") from None

    def fits(self, tensor: str, n_layers: int) -> bool:
        """Whether the rule is for a tensor of a model of `n_layers` layers."""
        if self.layers is not None:
            index = layers.layer_index(tensor)
            if index is None or not {index, index - n_layers} & set(self.layers):
                return False
        if self.tensors is not None and not re.fullmatch(self.tensors, tensor):
            return False
        return self.part is None or layers.part_of(tensor) == self.part


@dataclass(frozen=True)
class Recipe:
    """One merged model.

    `models` and `base` name sources or other recipes of the same call. An inner recipe enters in float32,
    before it is rounded to its own output type. `base` is what task vectors are counted from; methods that
    need none may name one, which then serves the statistics and gives the output type, configuration and
    tokenizer (else the first model does). `parameters` are completed from the catalogue. `data` names, for each
    model, the source with what was measured of it, where the method needs that. `rules` change the recipe for
    some of the tensors.

    Raises ValueError for whatever `langmerge.catalogue.check` refuses, a missing base, or a model named
    twice.
    """

    name: str
    method: str
    models: tuple[str, ...]
    base: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "models", tuple(self.models))
        try:
            complete = check(self.method, self.parameters, len(self.models))
        except ValueError as error:
            raise ValueError(f"recipe {self.name!r}: {error}") from None
        object.__setattr__(self, "parameters", complete)
        doubles = sorted({model for model in self.models if self.models.count(model) > 1})
        if doubles:
            raise ValueError(f"recipe {self.name!r}: {doubles} named twice in models; use weights instead")
        if METHODS[self.method].needs_base:
            if self.base is None:
                raise ValueError(f"recipe {self.name!r}: {self.method} needs a base")
            if self.base in self.models:
                raise ValueError(
                    f"recipe {self.name!r}: the base {self.base!r} is also among the models, where its "
                    "task vector is zero; take it out of models"
                )
        if METHODS[self.method].data and (lacking := [model for model in self.models if model not in self.data]):
            raise ValueError(
                f"recipe {self.name!r}: {self.method} needs {METHODS[self.method].data} measured of every model; "
                f"data lacks {lacking}"
            )
        object.__setattr__(
            self, "rules", tuple(rule if isinstance(rule, Rule) else _rule(self.name, rule) for rule in self.rules)
        )
        for number in range(len(self.rules)):
            self.under(number)

    def under(self, number: int) -> "Recipe":
        """The recipe for tensors of its rule `number`, itself without rules."""
        rule = self.rules[number]
        method = rule.method or self.method
        kept = dict(self.parameters) if method == self.method else {}
        # Complete parameters of the recipe would hide the defaults of another convention.
        if "convention" in rule.parameters:
            kept = {}
        if rule.models is not None and len(rule.models) != len(self.models):
            kept = {key: value for key, value in kept.items() if not METHODS[method].parameters[key].per_model}
        try:
            return replace(
                self,
                method=method,
                models=self.models if rule.models is None else rule.models,
                base=self.base if rule.base is None else rule.base,
                parameters={**kept, **rule.parameters},
                data=self.data if rule.data is None else rule.data,
                rules=(),
            )
        except ValueError as error:
            raise ValueError(f"rule {number + 1} of {error}") from None

    def regions(self, tensors: Sequence[str]) -> list[tuple["Recipe", list[str]]]:
        """The recipe and those of its rules, each with the tensors that it is for; rules are then gone.

        Raises ValueError for a rule that fits no tensor: a misspelt name would else change nothing silently.
        """
        if not self.rules:
            return [(self, list(tensors))] if tensors else []
        n_layers = 1 + max((index for name in tensors if (index := layers.layer_index(name)) is not None), default=-1)
        chosen: list[list[str]] = [[] for _ in range(len(self.rules) + 1)]
        fitted: set[int] = set()
        for name in tensors:
            fits = [number for number, rule in enumerate(self.rules) if rule.fits(name, n_layers)]
            fitted.update(fits)
            chosen[fits[0] if fits else -1].append(name)
        for number in range(len(self.rules)):
            if number not in fitted:
                raise ValueError(f"recipe {self.name!r}: rule {number + 1} fits no tensor of these models")
        made = [self.under(number) for number in range(len(self.rules))] + [replace(self, rules=())]
        return [(recipe, names) for recipe, names in zip(made, chosen, strict=True) if names]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of all models that the recipe reads; see `data` for the rest."""
        own = self.models if self.base is None else (self.base, *self.models)
        under = [name for number in range(len(self.rules)) for name in self.under(number).inputs]
        return tuple(dict.fromkeys([*own, *under]))

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of all sources of measured data that the recipe reads."""
        under = [name for number in range(len(self.rules)) for name in self.under(number).measured]
        return tuple(dict.fromkeys([*self.data.values(), *under]))

    @property
    def weights(self) -> list[float]:
        """The weights of the models; 1 each where none were given."""
        given = self.parameters.get("weights")
        return [1.0] * len(self.models) if given is None else list(given)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        rules = [{key: value for key, value in asdict(rule).items() if value not in (None, {})} for rule in self.rules]
        data = {**asdict(self), "models": list(self.models), "parameters": dict(self.parameters), "rules": rules}
        return {key: value for key, value in data.items() if value != [] and not (key == "data" and not value)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Recipe":
        """A recipe from a JSON object; ValueError names what is missing or unknown."""
        known = {"name", "method", "models", "base", "parameters", "data", "rules"}
        missing, unknown = {"name", "method", "models"} - set(data), set(data) - known
        if missing or unknown:
            raise ValueError(
                f"recipe {data.get('name')!r}: missing keys {sorted(missing)}, unknown keys "
                f"{sorted(unknown)}; known: {sorted(known)}"
            )
        if isinstance(data["models"], str):
            raise ValueError(f"recipe {data['name']!r}: models must be a list of names")
        parameters = data.get("parameters") or {}
        return cls(
            data["name"],
            data["method"],
            tuple(data["models"]),
            data.get("base"),
            parameters,
            data.get("data") or {},
            tuple(data.get("rules") or ()),
        )


def _rule(recipe: str, data: Mapping[str, Any]) -> Rule:
    """A rule from a JSON object."""
    if not isinstance(data, Mapping) or (unknown := set(data) - set(Rule.__dataclass_fields__)):
        found = sorted(unknown) if isinstance(data, Mapping) else data
        raise ValueError(f"recipe {recipe!r}: rules: {found} not known; known: {sorted(Rule.__dataclass_fields__)}")
    try:
        return Rule(**data)
    except (ValueError, TypeError) as error:
        raise ValueError(f"recipe {recipe!r}: rules: {error}") from None


def in_order(recipes: Sequence[Recipe], sources: Iterable[str]) -> list[Recipe]:
    """The recipes such that each comes after those it uses.

    Raises ValueError for a name used twice, an input that is neither source nor recipe, or a circle.
    """
    sources = set(sources)
    by_name = {recipe.name: recipe for recipe in recipes}
    if len(by_name) < len(recipes) or sources & set(by_name):
        names = [recipe.name for recipe in recipes]
        doubles = {name for name in names if names.count(name) > 1} | (sources & set(by_name))
        raise ValueError(f"names used twice among recipes and sources: {sorted(doubles)}")
    for recipe in recipes:
        for name in recipe.inputs:
            if name not in sources and name not in by_name:
                known = ", ".join(sorted(sources | set(by_name)))
                raise ValueError(f"recipe {recipe.name!r}: no source or recipe {name!r}; known: {known}")
    graph = {recipe.name: [name for name in recipe.inputs if name in by_name] for recipe in recipes}
    try:
        return [by_name[name] for name in TopologicalSorter(graph).static_order()]
    except CycleError as error:
        raise ValueError(f"recipes that use one another in a circle: {' <- '.join(error.args[1])}") from None
