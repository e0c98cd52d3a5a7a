"""The catalogue of merge methods: their names, parameters, bounds and sources.

Plain data without torch, so that a study file is validated before anything heavy is imported. The
arithmetic stands in `langmerge.merging.methods`.

The papers' scaling factor lambda is named `scale` here, since `lambda` is a keyword of Python. `density` is
always the share of a task vector that is *kept* (DARE's paper states the dropped share p = 1 - density).
"""

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
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
    """One merge method: `models` is (fewest, most) inputs besides the base, most = None for any number."""

    name: str
    title: str
    parameters: Mapping[str, Parameter]
    paper: str
    needs_base: bool
    description: str
    models: tuple[int, int | None] = (1, None)
    rule: Callable[[Mapping[str, Any]], str | None] | None = None


def _weights(text: str) -> Parameter:
    return Parameter("numbers", text + " One for each model; default: 1 each.", per_model=True)


def _scale() -> Parameter:
    return Parameter("number", "The papers' lambda: factor of the merged task vector.", 1.0)


def _seed() -> Parameter:
    return Parameter("integer", "Seed of the random masks.", 0, minimum=0)


def _density(default: float, text: str) -> Parameter:
    return Parameter("number", text, default, 0.0, 1.0, exclusive_minimum=True)


def _normalize(default: bool) -> Parameter:
    return Parameter("boolean", "Divide the weighted sum by the sum of the weights.", default)


def _convention(text: str) -> Parameter:
    return Parameter("string", text, "paper", choices=CONVENTIONS)


def _zero_sum(parameters: Mapping[str, Any]) -> str | None:
    weights = parameters["weights"]
    if parameters["normalize"] and weights is not None and abs(math.fsum(weights)) < 1e-8:
        return f"the weights {weights} sum to zero; change them or set normalize: false"
    return None


def _one_choice_of_layers(parameters: Mapping[str, Any]) -> str | None:
    given = [key for key in ("layers", "last", "random") if parameters[key] is not None]
    if len(given) != 1:
        return f"give exactly one of layers, last, random (given: {', '.join(given) or 'none'})"
    if parameters["layers"] is not None and not parameters["layers"]:
        return "layers is empty; name at least one layer index"
    if parameters["exclude_last"] and parameters["random"] is None:
        return "exclude_last only means something together with random"
    return None


_TIES_CONVENTION = (
    "paper: trim over the whole model, unweighted election, a zero sum takes the model's majority sign, "
    "weighted mean of the agreeing entries. mergekit: trim per tensor, weights before the election, a zero "
    "sum counts as +, division by the agreeing weights. peft: trim per tensor, unweighted election, a zero "
    "sum counts as +, weighted sum divided by the number of agreeing entries."
)

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "linear",
            "Weighted average",
            {"weights": _weights("Weight of each model."), "normalize": _normalize(True)},
            "arXiv 2203.05482 (model soups)",
            needs_base=False,
            description="sum_i w_i m_i / sum_i w_i",
            rule=_zero_sum,
        ),
        Method(
            "slerp",
            "Spherical interpolation",
            {"t": Parameter("number", "0 is the first model, 1 the second.", 0.5, 0.0, 1.0)},
            "Shoemake 1985",
            needs_base=False,
            description="Interpolation along the great circle between two flattened tensors.",
            models=(2, 2),
        ),
        Method(
            "task_arithmetic",
            "Task arithmetic",
            {
                "scale": _scale(),
                "weights": _weights("Weight of each task vector."),
                "normalize": _normalize(False),
            },
            "arXiv 2212.04089",
            needs_base=True,
            description="base + scale sum_i w_i (m_i - base)",
            rule=_zero_sum,
        ),
        Method(
            "ties",
            "TIES",
            {
                "density": _density(0.2, "Share of each task vector that the trim keeps."),
                "scale": _scale(),
                "weights": _weights("Weight of each task vector."),
                "convention": _convention(_TIES_CONVENTION),
                "normalize": Parameter("boolean", "Mean of the agreeing entries; false: their sum.", True),
            },
            "arXiv 2306.01708",
            needs_base=True,
            description="Trim, elect a sign for each entry, mean of the entries that agree with it.",
        ),
        Method(
            "dare_linear",
            "DARE, linear",
            {
                "density": _density(0.5, "Probability of keeping an entry (the paper's 1 - p)."),
                "scale": _scale(),
                "weights": _weights("Weight of each task vector."),
                "seed": _seed(),
                "normalize": _normalize(False),
            },
            "arXiv 2311.03099",
            needs_base=True,
            description="Drop entries of each task vector at random, divide the rest by density, add up.",
            rule=_zero_sum,
        ),
        Method(
            "dare_ties",
            "DARE, TIES",
            {
                "density": _density(0.5, "Probability of keeping an entry (the paper's 1 - p)."),
                "scale": _scale(),
                "weights": _weights("Weight of each task vector."),
                "seed": _seed(),
                "convention": _convention(_TIES_CONVENTION),
                "trim": Parameter(
                    "number",
                    "Share kept by the trim after the drop; default 0.2 (paper), 1 (mergekit, peft).",
                    0.2,
                    0.0,
                    1.0,
                    exclusive_minimum=True,
                    default_by_convention={"mergekit": 1.0, "peft": 1.0},
                ),
                "normalize": Parameter(
                    "boolean",
                    "Mean of the agreeing entries; false: their sum. Default: true, but false for mergekit.",
                    True,
                    default_by_convention={"mergekit": False},
                ),
            },
            "arXiv 2311.03099 with arXiv 2306.01708",
            needs_base=True,
            description="DARE's drop and rescale, then TIES.",
        ),
        Method(
            "layer_patch",
            "Layer patch",
            {
                "layers": Parameter("integers", "Indices of the layers; negative ones count from the end."),
                "last": Parameter("integer", "Patch the last so many layers.", minimum=1),
                "random": Parameter("integer", "Patch so many randomly drawn layers.", minimum=1),
                "exclude_last": Parameter("integer", "Not to be drawn by random: the last so many.", 0, 0),
                "seed": _seed(),
            },
            "arXiv 2604.02881",
            needs_base=False,
            description="The first model with whole transformer layers of the second; no embedding, no head.",
            models=(2, 2),
            rule=_one_choice_of_layers,
        ),
    )
}


def check(method: str, parameters: Mapping[str, Any], n_models: int) -> dict[str, Any]:
    """Complete parameters of `method` for `n_models` inputs, every default filled in.

    Raises ValueError for an unknown method or parameter (with the nearest known name), a wrong type, a
    violated bound (with the allowed range), a list of the wrong length, or a wrong number of models.
    """
    if method not in METHODS:
        raise ValueError(f"unknown merge method {method!r}{_suggest(method, METHODS)}")
    entry = METHODS[method]
    fewest, most = entry.models
    if n_models < fewest or (most is not None and n_models > most):
        wanted = f"exactly {fewest}" if fewest == most else f"at least {fewest}"
        raise ValueError(f"{method}: needs {wanted} model(s), got {n_models}")
    for key in parameters:
        if key not in entry.parameters:
            raise ValueError(f"{method}: unknown parameter {key!r}{_suggest(key, entry.parameters)}")
    convention = parameters.get("convention", "paper")
    complete = {}
    for key, parameter in entry.parameters.items():
        default = parameter.default
        if isinstance(convention, str):
            default = parameter.default_by_convention.get(convention, default)
        value = parameters.get(key)
        complete[key] = default if value is None else _value(f"{method}.{key}", parameter, value, n_models)
    problem = entry.rule(complete) if entry.rule else None
    if problem:
        raise ValueError(f"{method}: {problem}")
    return complete


def _value(where: str, parameter: Parameter, value: Any, n_models: int) -> Any:
    """`value` in its declared type, or ValueError."""
    problem = f"{where}: {value!r} is not allowed; expected {parameter.allowed}"
    if parameter.type in ("numbers", "integers"):
        if not isinstance(value, list | tuple):
            raise ValueError(problem)
        if parameter.per_model and len(value) != n_models:
            raise ValueError(f"{where}: {len(value)} values for {n_models} models; give one for each model")
        kind: ParameterType = "number" if parameter.type == "numbers" else "integer"
        values = [_scalar(kind, item, problem) for item in value]
        for item in values:
            _bounds(parameter, item, problem)
        return values
    scalar = _scalar(parameter.type, value, problem)
    if parameter.choices and scalar not in parameter.choices:
        raise ValueError(problem + (_suggest(scalar, parameter.choices) if isinstance(scalar, str) else ""))
    if isinstance(scalar, int | float):
        _bounds(parameter, scalar, problem)
    return scalar


def _scalar(kind: ParameterType, value: Any, problem: str) -> Any:
    wanted: tuple[type, ...]
    wanted = {"number": (int, float), "integer": (int,), "boolean": (bool,), "string": (str,)}[kind]
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "boolean"):
        raise ValueError(problem)
    if kind != "number":
        return value
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(problem)
    return number


def _bounds(parameter: Parameter, value: float, problem: str) -> None:
    low, high = parameter.minimum, parameter.maximum
    if low is not None and (value < low or (parameter.exclusive_minimum and value == low)):
        raise ValueError(problem)
    if high is not None and (value > high or (parameter.exclusive_maximum and value == high)):
        raise ValueError(problem)


def _suggest(word: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
