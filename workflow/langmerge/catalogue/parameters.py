"""What a catalogue entry consists of: parameters with their types and bounds, and methods."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ParameterType = Literal["number", "integer", "boolean", "string", "numbers", "integers"]

CONVENTIONS = ("paper", "mergekit", "peft")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a merge method.

    `numbers` and `integers` are lists. A default of None means that the method decides (as described).
    `minimum` and `maximum` bound each value (inclusive unless marked exclusive). `per_model` lists have one
    entry for each model. `default_by_convention` overrides `default` where a method has a `convention`.
    """

    type: ParameterType
    description: str
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False
    choices: tuple[str, ...] = ()
    per_model: bool = False
    default_by_convention: Mapping[str, Any] = field(default_factory=dict)

    @property
    def allowed(self) -> str:
        """The allowed values in words, for error messages and documentation."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        words = {
            "number": "a number",
            "integer": "a whole number",
            "boolean": "true or false",
            "string": "a text",
            "numbers": "a list of numbers",
            "integers": "a list of whole numbers",
        }[self.type]
        bounds = []
        if self.minimum is not None:
            bounds.append(f"{'>' if self.exclusive_minimum else '>='} {self.minimum:g}")
        if self.maximum is not None:
            bounds.append(f"{'<' if self.exclusive_maximum else '<='} {self.maximum:g}")
        return words + (" " + " and ".join(bounds) if bounds else "")


@dataclass(frozen=True)
class Method:
    """One merge method: `models` is (fewest, most) inputs besides the base, most = None for any number.

    `data` names what must have been measured of each model (a kind of `langmerge.calibration`), None for
    methods that look at weights alone. `rule` says what is wrong with complete parameters, or None. A `search`
    finds an ordinary recipe on held-out data (`langmerge.sweeping.search`), so only a sweep can run it.
    """

    name: str
    title: str
    parameters: Mapping[str, Parameter]
    paper: str
    needs_base: bool
    description: str
    models: tuple[int, int | None] = (1, None)
    rule: Callable[[Mapping[str, Any]], str | None] | None = None
    data: str | None = None
    search: bool = False


def weights(text: str) -> Parameter:
    """One factor for each model."""
    return Parameter("numbers", text + " One for each model; default: 1 each.", per_model=True)


def scale(default: float = 1.0) -> Parameter:
    """The factor of the merged task vector."""
    return Parameter("number", "The papers' lambda: factor of the merged task vector.", default)


def seed() -> Parameter:
    """The seed of random masks."""
    return Parameter("integer", "Seed of the random masks.", 0, minimum=0)


def density(default: float, text: str) -> Parameter:
    """A share that is kept."""
    return Parameter("number", text, default, 0.0, 1.0, exclusive_minimum=True)


def normalize(default: bool) -> Parameter:
    """Whether weights are divided by their sum."""
    return Parameter("boolean", "Divide the weighted sum by the sum of the weights.", default)


def convention(text: str, *choices: str) -> Parameter:
    """The `convention` of a method on which tools disagree; the first choice is the default."""
    return Parameter("string", text, choices[0], choices=choices)


def zero_sum(parameters: Mapping[str, Any]) -> str | None:
    """A rule: weights that are to be normalised must not cancel."""
    given = parameters["weights"]
    if parameters["normalize"] and given is not None and abs(math.fsum(given)) < 1e-8:
        return f"the weights {given} sum to zero; change them or set normalize: false"
    return None
