"""What is to be merged: recipes, and the order in which recipes that use one another are computed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from langmerge.catalogue import METHODS, check


@dataclass(frozen=True)
class Recipe:
    """One merged model.

    `models` and `base` name sources or other recipes of the same call. An inner recipe enters in float32,
    before it is rounded to its own output type. `base` is what task vectors are counted from; methods that
    need none may name one, which then serves the statistics and gives the output type, configuration and
    tokenizer (else the first model does). `parameters` are completed from the catalogue.

    Raises ValueError for whatever `langmerge.catalogue.check` refuses, a missing base, or a model named
    twice.
    """

    name: str
    method: str
    models: tuple[str, ...]
    base: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

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

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of all that the recipe reads."""
        return self.models if self.base is None else (self.base, *self.models)

    @property
    def weights(self) -> list[float]:
        """The weights of the models; 1 each where none were given."""
        given = self.parameters.get("weights")
        return [1.0] * len(self.models) if given is None else list(given)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        return {**asdict(self), "models": list(self.models), "parameters": dict(self.parameters)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Recipe":
        """A recipe from a JSON object; ValueError names what is missing or unknown."""
        known = {"name", "method", "models", "base", "parameters"}
        missing, unknown = {"name", "method", "models"} - set(data), set(data) - known
        if missing or unknown:
            raise ValueError(
                f"recipe {data.get('name')!r}: missing keys {sorted(missing)}, unknown keys "
                f"{sorted(unknown)}; known: {sorted(known)}"
            )
        if isinstance(data["models"], str):
            raise ValueError(f"recipe {data['name']!r}: models must be a list of names")
        parameters = data.get("parameters") or {}
        return cls(data["name"], data["method"], tuple(data["models"]), data.get("base"), parameters)


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
