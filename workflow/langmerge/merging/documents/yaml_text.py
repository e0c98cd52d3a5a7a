"""Reading and writing YAML: duplicate keys are errors, 1e-5 is a number."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        doubles = [key for number, key in enumerate(keys) if key in keys[:number]]
        if doubles:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {doubles[0]!r} stands here twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 1e-5 (without a point) as text.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _list(dumper: _Dumper, data: list[Any] | tuple[Any, ...]) -> yaml.Node:
    flat = all(isinstance(item, int | float | str) for item in data)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=flat)


_Dumper.add_representer(list, _list)
_Dumper.add_representer(tuple, _list)


def load(text: str) -> Any:
    """The plain data of a YAML text; ValueError with the place for text that is not YAML, and for doubled keys."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from None


def dump(data: Any) -> str:
    """YAML of plain data, keys in the given order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def known_keys(where: str, data: Any, known: Iterable[str]) -> Mapping[str, Any]:
    """`data`, if it is a mapping with none but `known` keys; else ValueError with the nearest known key."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{where}: expected a mapping of keys to values, found {data!r}")
    known = list(known)
    for key in data:
        if key not in known:
            raise ValueError(f"{where}: unknown key {key!r}{suggest(str(key), known)}")
    return data


def suggest(word: str, known: Iterable[str]) -> str:
    """The end of a message: what a misspelt word may have meant, else all that is known."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
