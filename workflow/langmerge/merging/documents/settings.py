"""mergekit's parameter settings: scalars, gradients over depth, and lists with filters; how they are resolved.

Facts after mergekit 0.1.5. A gradient is piecewise linear through its values, spread evenly over the depth t of a
slice: t = 0 for its first layer, 1 for its last (and for the only one), 0 for embeddings, final norm and head. A filter
is a substring of the tensor's name; the first entry that fits holds; an entry without filter, or with `*`, always fits.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from langmerge.merging.documents.yaml_text import known_keys
from langmerge.merging.methods.layers import layer_index

Kind = Literal["number", "integer", "boolean"]

_YES, _NO = ("true", "yes", "on", "1", "y", "t"), ("false", "no", "off", "0", "n", "f")


def convert(where: str, kind: Kind, value: Any) -> Any:
    """One value as its kind; ValueError for what is none."""
    try:
        if kind == "boolean":
            if isinstance(value, bool) or value in (0, 1):
                return bool(value)
            if isinstance(value, str) and value.lower() in _YES + _NO:
                return value.lower() in _YES
        elif isinstance(value, int | float | str):
            number = float(value)
            if kind == "number" or number.is_integer():
                return number if kind == "number" else int(number)
    except ValueError:
        pass
    words = {"number": "a number", "integer": "a whole number", "boolean": "true or false"}[kind]
    raise ValueError(f"{where}: {value!r} is not allowed; expected {words}")


def check(where: str, setting: Any, kind: Kind) -> None:
    """ValueError unless `setting` is a scalar, a gradient, or a list of {filter, value}."""
    if isinstance(setting, Mapping):
        setting = [setting]
    if not isinstance(setting, list):
        convert(where, kind, setting)
    elif all(isinstance(item, Mapping) for item in setting) and setting:
        for number, item in enumerate(setting):
            keys = known_keys(f"{where}[{number}]", item, ("filter", "value"))
            if "value" not in keys or isinstance(keys["value"], Mapping):
                raise ValueError(f"{where}[{number}].value: expected a value or a list of values")
            if not isinstance(keys.get("filter", ""), str | None):
                raise ValueError(f"{where}[{number}].filter: expected a text, found {keys['filter']!r}")
            check(f"{where}[{number}].value", keys["value"], kind)
    elif any(isinstance(item, Mapping | list) for item in setting) or not setting:
        raise ValueError(f"{where}: expected one value, a list of values (a gradient) or a list of {{filter, value}}")
    else:
        for item in setting:
            convert(where, kind, item)


def evaluate(where: str, setting: Any, kind: Kind, tensor: str, depth: float) -> Any:
    """The value of a checked setting for a tensor at relative depth 0 .. 1; None if no filter fits."""
    if isinstance(setting, Mapping):
        setting = [setting]
    if not isinstance(setting, list):
        return convert(where, kind, setting)
    if isinstance(setting[0], Mapping):
        for item in setting:
            if item.get("filter") in (None, "*") or item["filter"] in tensor:
                return evaluate(where, item["value"], kind, tensor, depth)
        return None
    values = [convert(where, kind, item) for item in setting]
    position = depth * (len(values) - 1)
    below = int(position)
    if kind == "boolean":
        return values[below]
    share = position - below
    return convert(where, kind, (1 - share) * values[below] + share * values[min(below + 1, len(values) - 1)])


def filters(setting: Any) -> list[str]:
    """All filters of a setting."""
    rows = [setting] if isinstance(setting, Mapping) else setting if isinstance(setting, list) else []
    return [row["filter"] for row in rows if isinstance(row, Mapping) and row.get("filter") not in (None, "*")]


def describe(values: Mapping[str, Any]) -> Any:
    """A setting that gives each tensor its value: a scalar, or filters with the commonest value as the default."""
    counts = Counter(values.values())
    default = max(counts, key=lambda value: counts[value])
    if len(counts) == 1:
        return default
    by_module: dict[str, set[Any]] = {}
    for name, value in values.items():
        by_module.setdefault(_module(name), set()).add(value)
    if all(len(found) == 1 for found in by_module.values()):
        short = {name: found.pop() for name, found in by_module.items()}
        setting = [*_prefixes(short, default), {"value": default}]
        if _tells(setting, values):
            return setting
    setting = [*_prefixes(values, default), {"value": default}]
    if not _tells(setting, values):
        # A whole name can only be part of a longer one, which therefore stands before it.
        setting = [{"filter": name, "value": values[name]} for name in sorted(values, key=len, reverse=True)]
    return setting


def _tells(setting: list[dict[str, Any]], values: Mapping[str, Any]) -> bool:
    found = {name: next(r["value"] for r in setting if r.get("filter", name) in name) for name in values}
    return found == dict(values)


def _module(name: str) -> str:
    """What follows the layer's number in a name; the name itself outside of layers."""
    index = layer_index(name)
    return name if index is None else name.partition(f".{index}.")[2]


def _prefixes(values: Mapping[str, Any], default: Any) -> list[dict[str, Any]]:
    """Filters for all names whose value is not the default: shortest dotted prefixes that hold one value only."""
    rows: dict[str, Any] = {}
    for name, value in values.items():
        if value == default:
            continue
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            prefix = ".".join(parts[:end]) + ("." if end < len(parts) else "")
            if all(other == value for key, other in values.items() if prefix in key):
                break
        rows[prefix] = value
    return [{"filter": prefix, "value": value} for prefix, value in rows.items()]
