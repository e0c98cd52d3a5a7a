"""The command line that the stages of this folder share."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from langmerge.provenance import InputError


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"--{name}: not valid JSON ({error})") from None


def parse(description: str | None, work: bool = False) -> argparse.Namespace:
    """Parse ``--spec --inputs --out [--code] [--environment] [--work]``; JSON is decoded, folders are paths."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--spec", required=True, help="the recipe, a JSON object")
    parser.add_argument("--inputs", default="{}", help="a JSON object from input names to folders")
    parser.add_argument("--out", required=True, type=Path, help="the result folder")
    parser.add_argument("--code", default="", help="fingerprint of the code, for the manifest")
    parser.add_argument("--environment", default="", help="fingerprint of the environment, for the manifest")
    if work:
        parser.add_argument("--work", type=Path, help="folder of the resume state (default: hidden, beside --out)")
    arguments = parser.parse_args()
    arguments.spec = _json(arguments.spec, "spec")
    arguments.inputs = {name: Path(folder) for name, folder in _json(arguments.inputs, "inputs").items()}
    return arguments
