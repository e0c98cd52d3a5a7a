"""Grids: a list of values where a parameter takes one makes one merge for each combination."""

import itertools
from collections.abc import Mapping
from typing import Any

from langmerge.catalogue import METHODS


def combinations(method: str, parameters: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(label, parameters) of each combination; one with an empty label where nothing is a grid.

    A grid is a list where the parameter takes one value, or a list of lists (or mappings) where it takes a list. Labels
    read like `density0.2-scale1.5`, lists like `weights0.3_0.7`. Parameters that the catalogue does not know are left
    for it to refuse. ValueError for an empty grid or two equal values.
    """
    known = METHODS[method].parameters if method in METHODS else {}
    axes: list[list[tuple[str, str, Any]]] = []
    for key, value in parameters.items():
        is_grid = key in known and isinstance(value, list) and _is_grid(known[key].type, value)
        if not is_grid:
            axes.append([("", key, value)])
            continue
        labels = [f"{key}{_text(item)}" for item in value]
        if not value or len(set(labels)) < len(labels):
            raise ValueError(f"parameters.{key}: a grid needs different values, found {value!r}")
        axes.append([(label, key, item) for label, item in zip(labels, value, strict=True)])
    return [
        ("-".join(label for label, _, _ in chosen if label), {key: value for _, key, value in chosen})
        for chosen in itertools.product(*axes)
    ]


def _is_grid(kind: str, value: list[Any]) -> bool:
    if kind in ("numbers", "integers"):
        return bool(value) and all(isinstance(item, list | tuple | Mapping) for item in value)
    return True


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, Mapping):
        value = list(value.values())
    return "_".join(_text(item) for item in value) if isinstance(value, list | tuple) else str(value)
