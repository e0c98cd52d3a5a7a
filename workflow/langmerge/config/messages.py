"""What is said about a mistake: one line each, with file, key, what was expected, what was found, how to mend it."""

from __future__ import annotations

import difflib
import re
import typing
from typing import Any

from pydantic import ValidationError

from langmerge.config.base import Section

NAMED = re.compile(r"([\w-]+(?:\.[\w-]+)*)\b[^:]*: ")  # "steps: ..."


def sections(annotation: Any) -> list[type[Section]]:
    """The section classes inside an annotation such as ``Training | None`` or ``dict[Name, Source]``."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for inner in typing.get_args(annotation) for section in sections(inner)]


def _keys_at(root: type[Section], location: tuple[Any, ...]) -> list[str]:
    """The keys that may stand at ``location`` of the file."""
    classes: list[type[Section]] = [root]
    for part in location:
        found = [
            section
            for cls in classes
            for name, field in cls.model_fields.items()
            if part in (name, field.alias)
            for section in sections(field.annotation)
        ]
        classes = found or classes  # a dictionary's key or a union's tag: stay
    return sorted({field.alias or name for cls in classes for name, field in cls.model_fields.items()})


def explain(error: ValidationError, root: type[Section], origin: Any) -> str:
    """One line per mistake: file, key, what was expected, what was found, how to mend it."""
    lines = []
    for item in error.errors():
        location = tuple(part for part in item["loc"] if part not in ("embedded", "files"))
        key = ".".join(str(part) for part in location)
        # What is wrong between keys is said of the whole file; the message then begins with one of them.
        named = NAMED.match(str(item.get("ctx", {}).get("error", "")))
        file = origin(location + (tuple(named[1].split(".")) if named else ()))
        found = item.get("input")
        if item["type"] == "extra_forbidden":
            known = _keys_at(root, location[:-1])
            near = difflib.get_close_matches(str(location[-1]), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
            lines.append(f"{file}: {key}: unknown key; {hint}")
        elif item["type"] == "missing":
            lines.append(f"{file}: {key}: missing; add it (see config/README.md)")
        elif item["type"] == "value_error":
            message = str(item["ctx"]["error"])
            lines.append(f"{file}: {key + ': ' if key else ''}{message}")
        elif item["type"] == "string_pattern_mismatch":
            what = (
                "a language code such as es or pt-BR"
                if "a-z]{2,3}" in item["ctx"]["pattern"]
                else "a plain name (letters, digits, . _ + -), not a path"
            )
            lines.append(f"{file}: {key}: expected {what}, found {found!r}")
        else:
            shown = repr(found) if isinstance(found, str | int | float | None) else f"a {type(found).__name__}"
            lines.append(f"{file}: {key}: {item['msg'][0].lower()}{item['msg'][1:]}, found {shown}")
    return "\n       ".join(dict.fromkeys(lines))
