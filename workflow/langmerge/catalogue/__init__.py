"""The catalogue of merge methods: their names, parameters, bounds and sources.

Plain data without torch, so that a study file is validated before anything heavy is imported. The
arithmetic stands in `langmerge.merging.methods`.

The papers' scaling factor lambda is named `scale` here, since `lambda` is a keyword of Python. `density` is
always the share of a task vector that is *kept* (DARE's paper states the dropped share p = 1 - density).
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

from langmerge.catalogue import averages, choices, data_driven, languages, layers, routed, spectral, task_vectors
from langmerge.catalogue.parameters import CONVENTIONS, Method, Parameter, ParameterType

__all__ = ["CONVENTIONS", "METHODS", "Method", "Parameter", "ParameterType", "check"]

FAMILIES = {
    "Averages": averages,
    "Task vectors": task_vectors,
    "Choices": choices,
    "Spectral": spectral,
    "Data-driven": data_driven,
    "Layers": layers,
    "Routed": routed,
    "Languages": languages,
}
"""Title -> module of each family; the same names stand in `langmerge.merging.kernels` and `.methods`."""

METHODS: dict[str, Method] = {method.name: method for family in FAMILIES.values() for method in family.METHODS}


def check(
    method: str, parameters: Mapping[str, Any], n_models: int, methods: Mapping[str, Method] = METHODS
) -> dict[str, Any]:
    """Complete parameters of `method` (of `methods`) for `n_models` inputs, every default filled in.

    Raises ValueError for an unknown method or parameter (with the nearest known name), a wrong type, a
    violated bound (with the allowed range), a list of the wrong length, or a wrong number of models.
    """
    if method not in methods:
        raise ValueError(f"unknown merge method {method!r}{_suggest(method, methods)}")
    entry = methods[method]
    fewest, most = entry.models
    if n_models < fewest or (most is not None and n_models > most):
        wanted = f"exactly {fewest}" if fewest == most else f"at least {fewest}"
        raise ValueError(f"{method}: needs {wanted} model(s), got {n_models}")
    for key in parameters:
        if key not in entry.parameters:
            raise ValueError(f"{method}: unknown parameter {key!r}{_suggest(key, entry.parameters)}")
    convention = parameters.get("convention")
    if convention is None and "convention" in entry.parameters:
        convention = entry.parameters["convention"].default
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
