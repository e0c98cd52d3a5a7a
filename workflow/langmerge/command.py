"""The command line that all stages share: ``--spec JSON --inputs JSON --out FOLDER``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langmerge.provenance import InputError


@dataclass(frozen=True)
class Command:
    """A parsed command line: the recipe, the folders of its inputs by name, and where the result goes."""

    spec: dict[str, Any]
    inputs: dict[str, Path]
    out: Path
    code: str = ""
    environment: str = ""
    work: Path | None = None

    def input(self, name: str) -> Path:
        """The folder of an input; :class:`InputError` if it was not given."""
        if name not in self.inputs:
            raise InputError(f'--inputs: no "{name}"; expected it with its folder, found {sorted(self.inputs)}')
        return self.inputs[name]

    def named(self, prefix: str) -> dict[str, Path]:
        """The inputs of one kind, by what follows the prefix: ``pairs/es`` is ``es`` of ``named("pairs")``."""
        start = f"{prefix}/"
        return {name.removeprefix(start): folder for name, folder in self.inputs.items() if name.startswith(start)}


def parse(module: str, description: str | None, arguments: Sequence[str] | None = None, work: bool = False) -> Command:
    """Parse the arguments (default: those of the process) of ``python -m <module>``; with ``--work`` if asked.

    Raises :class:`InputError` if ``--spec`` or ``--inputs`` is not a JSON object.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--spec", required=True, help="what to make, as a JSON object")
    parser.add_argument("--inputs", default="{}", help="input names to folders, as a JSON object")
    parser.add_argument("--out", type=Path, required=True, help="folder of the result")
    parser.add_argument("--code", default="", help="fingerprint of the stage's code, for the manifest")
    parser.add_argument("--environment", default="", help="versions of the libraries, for the manifest")
    if work:
        parser.add_argument("--work", type=Path, help="folder of the resume state (default: hidden, beside --out)")
    options = vars(parser.parse_args(arguments))
    inputs = _object("inputs", options.pop("inputs"))
    if wrong := [name for name, folder in inputs.items() if not isinstance(folder, str)]:
        raise InputError(f"--inputs: expected the path of a folder for {wrong[0]!r}, found {inputs[wrong[0]]!r}")
    return Command(
        spec=_object("spec", options.pop("spec")),
        inputs={name: Path(folder) for name, folder in inputs.items()},
        **options,
    )


def _object(option: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"--{option}: not valid JSON ({error}); expected an object, in single quotes") from None
    if not isinstance(value, dict):
        raise InputError(f"--{option}: expected a JSON object, found {text[:60]!r}")
    return value
